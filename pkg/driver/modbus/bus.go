package modbus

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

const (
	reconnectMin = 500 * time.Millisecond
	reconnectMax = 30 * time.Second
	// busyWait is how long a device is left alone that says it is busy.
	busyWait = 100 * time.Millisecond
	// shortWait is below what the runtime's timers can do, which wake at whole
	// milliseconds: a silence of 1.75 ms would take 2 to 3, on a line at 115200 baud
	// half as long as the frames themselves.
	shortWait = 4 * time.Millisecond
	// loadWindow is the time over which missed polls are judged.
	loadWindow = time.Minute
)

// bus owns a connection: its Run is the one goroutine that talks on it.
type bus struct {
	id      string
	cfg     *Config
	line    line
	devices []*driver.Device
	env     driver.Env
	logger  *slog.Logger
	metrics *metrics

	sched     *schedule
	timer     *time.Timer
	lastEnd   time.Time // of the last frame on the bus
	connectAt time.Time // not before
	backoff   time.Duration
	closed    failure // why the line is closed
	troubled  bool    // that was logged
	seenStale int

	samples []driver.Sample
	words   []uint16
	started time.Time

	orders chan *order   // what is to be written
	ended  chan struct{} // closed when Run returns

	polls, lost int // in the load window
	windowEnd   time.Time
	overloaded  bool
}

func newBus(id string, cfg *Config, ln line, devices []*driver.Device, env driver.Env) *bus {
	logger := env.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &bus{
		id: id, cfg: cfg, line: ln, devices: devices, env: env,
		logger: logger, metrics: newMetrics(id),
		orders: make(chan *order), ended: make(chan struct{}),
	}
}

// Run implements [driver.Driver].
func (b *bus) Run(ctx context.Context) error {
	defer close(b.ended)
	if err := b.metrics.Register(b.env.Metrics, b.metrics.all...); err != nil {
		return fmt.Errorf("connection %s: %w", b.id, err)
	}
	defer b.metrics.Unregister()
	defer b.line.close()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		b.line.interrupt()
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
	}()
	b.timer = time.NewTimer(time.Hour)
	defer b.timer.Stop()
	b.begin(time.Now())
	for ctx.Err() == nil {
		b.step(ctx)
	}
	return nil
}

func (b *bus) begin(now time.Time) {
	b.started = now
	units := make([]*unit, len(b.devices))
	for i, d := range b.devices {
		u := &unit{device: d, reader: reader{counts: driver.NewCounts(d, b.env.Totals)}}
		if d.Identify != nil {
			u.ask = newInquiry(d)
		}
		b.see(u, viewOf(d, d.Points, d.Convert))
		for _, blk := range u.ask.blocks {
			u.price = max(u.price, b.line.patience(blk.question(u)))
		}
		units[i] = u
	}
	grain := time.Duration(0)
	if b.cfg.Transport == TransportTCP {
		grain = together
	}
	b.sched = newSchedule(units, grain, now)
	b.sched.missed = func(n int) {
		b.lost += n
		b.metrics.missed.Add(float64(n))
	}
	b.sched.late = func(d time.Duration) {
		b.polls++
		b.metrics.late.Observe(d.Seconds())
	}
	b.windowEnd = now.Add(loadWindow)
}

// see makes the unit be read as the view says.
func (b *bus) see(u *unit, v *view) {
	u.view, u.blocks = v, newBlocks(v.dev)
	u.price, u.bad = max(u.price, b.cfg.Timeout), nil
	planned := make([]bool, len(v.dev.Points))
	for _, blk := range u.list {
		u.price = max(u.price, b.line.patience(blk.question(u)))
		for _, p := range blk.Points {
			planned[p] = true
		}
	}
	for p, ok := range planned {
		if !ok && !slices.Contains(v.absent, p) {
			u.bad = append(u.bad, p)
		}
	}
	if len(u.bad) > 0 {
		b.logger.Warn("points that are no Modbus points are never read", "device", u.device.ID, "points", u.names(u.bad))
	}
}

// step does the next thing there is to do, waiting for its time.
func (b *bus) step(ctx context.Context) {
	now := time.Now()
	if !b.line.isOpen() && len(b.devices) > 0 && !now.Before(b.connectAt) {
		b.connect(ctx)
		if ctx.Err() != nil {
			return // the line is closed because we stop, which is nobody's fault
		}
		now = time.Now()
	}
	if !now.Before(b.windowEnd) {
		b.judgeLoad(now)
	}
	select {
	case o := <-b.orders:
		b.carryOut(ctx, o)
		return
	default:
	}
	u, act, wake := b.sched.next(now, b.line.isOpen())
	switch act {
	case actAsk:
		b.ask(ctx, u)
	case actLapse:
		b.lapse(u, now)
	case actAbandon:
		b.abandon(u, b.closed)
	case actNothing:
		if !b.line.isOpen() {
			wake = earlier(wake, b.connectAt)
		}
		b.idle(ctx, wake)
	}
}

// idle waits until there is something to do, an order included.
func (b *bus) idle(ctx context.Context, until time.Time) {
	d := time.Until(until)
	if d <= 0 {
		return
	}
	b.timer.Reset(d)
	select {
	case <-b.timer.C:
	case <-ctx.Done():
	case o := <-b.orders:
		b.carryOut(ctx, o)
	}
}

// wait returns at the time, or when ctx ends.
func (b *bus) wait(ctx context.Context, until time.Time) {
	d := time.Until(until)
	switch {
	case d <= 0:
		return
	case d < shortWait:
		pause(d)
		return
	}
	b.timer.Reset(d)
	select {
	case <-b.timer.C:
	case <-ctx.Done():
	}
}

func (b *bus) connect(ctx context.Context) {
	err := b.line.open(ctx)
	if err == nil {
		b.metrics.connects.Inc()
		return
	}
	if ctx.Err() != nil {
		return
	}
	b.fell(unreachable(err, b.line, b.cfg.ConnectTimeout))
}

// fell notes that the line is closed against our will, and when to try again.
func (b *bus) fell(f failure) {
	b.closed = f
	b.metrics.failed(f)
	b.backoff = min(max(2*b.backoff, reconnectMin), reconnectMax)
	// Between three quarters and all of it, so that many gateways do not come
	// back to one converter in step.
	b.connectAt = time.Now().Add(b.backoff - time.Duration(rand.Int64N(int64(b.backoff/4))))
	if !b.troubled {
		b.troubled = true
		b.logger.Warn("connection lost or not made; it is tried again and again", "reason", f.text)
	}
}

// worked notes that an answer came.
func (b *bus) worked() {
	b.backoff = 0
	if b.troubled {
		b.troubled = false
		b.logger.Info("connection works again")
	}
}

func (b *block) question(u *unit) question {
	return question{unit: byte(u.dev.Unit), area: b.Area, address: b.Address, count: b.Count}
}

// ask puts the next question of the unit's poll.
func (b *bus) ask(ctx context.Context, u *unit) {
	for len(u.queue) > 0 && b.skip(u, u.queue[0]) {
		u.queue = u.queue[1:]
	}
	if len(u.queue) == 0 {
		b.finish(u)
		return
	}
	b.wait(ctx, b.lastEnd.Add(max(b.line.quiet(), b.cfg.Pause)))
	if ctx.Err() != nil {
		return
	}
	blk := u.queue[0]
	q := blk.question(u)
	start := time.Now()
	data, err := b.line.ask(q)
	end := time.Now()
	b.lastEnd = end
	u.readyAt = end.Add(u.dev.Modbus.Pause)
	b.metrics.requests.Inc()
	b.metrics.busy.Add(end.Sub(start).Seconds())
	if n := b.line.passedOver(); n != b.seenStale {
		b.metrics.stale.Add(float64(n - b.seenStale))
		b.seenStale = n
	}
	if err == nil {
		b.take(u, blk, data)
		return
	}
	f := judge(err, q, b.line, b.cfg.Timeout)
	if f.stopped {
		return
	}
	if f.reason == telemetry.ReasonNoAnswer {
		f.text += b.cfg.otherwise(&u.dev.Modbus)
	}
	b.metrics.failed(f)
	b.sched.charge(u, start, end)
	b.refused(u, blk, f, end)
}

// skip passes over a block that failed alone and is not to be asked yet. A unit
// that is down altogether is asked for everything.
func (b *bus) skip(u *unit, blk *block) bool {
	if blk.fails == 0 || u.down || !time.Now().Before(blk.notBefore) {
		return false
	}
	u.worst = blk.last
	b.putBad(u, blk.Points, blk.last.reason)
	return true
}

// take hands over what the device answered.
func (b *bus) take(u *unit, blk *block, data []byte) {
	b.worked()
	if blk.fails > 0 && !u.down {
		b.logger.Info("block is read again", "device", u.dev.ID, "points", u.names(blk.Points))
	}
	b.words = words(b.words, &blk.Request, data)
	u.attempts = 0
	if u.ask.asking {
		b.told(u, u.ask.read(u, blk, b.words))
		return
	}
	u.answered(blk)
	if u.down && u.last.reason == telemetry.ReasonNoAnswer && u.dev.Modbus.WarmUp > 0 && u.good == 0 {
		u.warmUntil = b.lastEnd.Add(u.dev.Modbus.WarmUp)
	}
	u.good++
	if b.lastEnd.Before(u.warmUntil) {
		b.putBad(u, blk.Points, telemetry.ReasonWarmUp)
		b.pop(u)
		return
	}
	b.samples = u.reader.read(b.samples[:0], u.view, &blk.Request, b.words, b.lastEnd.Sub(b.started).Milliseconds())
	b.put(u)
	b.pop(u)
}

// put hands the samples over.
func (b *bus) put(u *unit) {
	if len(b.samples) == 0 {
		return
	}
	driver.Doubt(u.doubts, b.samples)
	b.env.Sink.Put(u.device, time.Time{}, b.samples)
}

// pop goes on to the unit's next block, or ends its poll.
func (b *bus) pop(u *unit) {
	u.queue = u.queue[1:]
	u.attempts = 0
	if len(u.queue) == 0 {
		b.finish(u)
	}
}

// refused decides what follows from a question without usable answer.
func (b *bus) refused(u *unit, blk *block, f failure, now time.Time) {
	if f.reason == telemetry.ReasonException {
		b.worked()
	}
	switch {
	case f.lost:
		b.broke(u, f, now)
		return
	case !u.ask.asking && f.refused() && b.divide(u, blk):
		return
	case f.passing() && !blk.Once && u.attempts < *b.cfg.Retries && b.sched.mayRetry(u, now):
		wait := u.dev.Modbus.Pause
		if f.reason == telemetry.ReasonException {
			wait = max(wait, busyWait)
		}
		b.sched.retry(u, now, wait)
		return
	case u.ask.asking && !u.ask.knocking:
		u.attempts = 0
		b.told(u, profile.Raw{Quality: telemetry.BadQuality(f.reason)})
		return
	case u.ask.asking && f.answered():
		u.attempts = 0
		b.told(u, profile.Raw{})
		return
	case !f.answered() && u.good == 0:
		b.abandon(u, f)
		return
	}
	u.worst = f
	if blk.fails == 0 && !u.down {
		b.logger.Warn("block is not read", "device", u.dev.ID, "points", u.names(blk.Points), "reason", f.text)
	}
	u.failed(blk, f, now)
	b.putBad(u, blk.Points, f.reason)
	if f.answered() {
		b.pop(u)
		return
	}
	// The device answered before in this poll, so it is up. Should it have died
	// in between, the rest would cost a timeout each: they wait for the next slot.
	for _, rest := range u.queue[1:] {
		b.putBad(u, rest.Points, f.reason)
	}
	b.report(u, failure{}, now)
}

// divide cuts a refused block in two and puts both into its place.
func (b *bus) divide(u *unit, blk *block) bool {
	left, right, ok := u.cut(blk)
	if !ok {
		return false
	}
	b.logger.Info("block was refused as a whole and is read in two parts from now on", "device", u.dev.ID,
		"block", blk.question(u).String(), "first", left.question(u).String(), "second", right.question(u).String())
	u.queue = append([]*block{left, right}, u.queue[1:]...)
	u.attempts = 0
	return true
}

// broke handles a connection that was lost during a question. Once per poll it
// is made anew at once and the question repeated: an idle connection that the
// other side had closed is no fault of anybody.
//
// What changes the device when it is read is not asked for again.
func (b *bus) broke(u *unit, f failure, now time.Time) {
	if b.line.proven() && !u.reconnected && !u.queue[0].Once {
		u.reconnected = true
		b.connectAt = now
		b.closed = f
		u.deadline = now // first again, once step has made the connection
		return
	}
	b.fell(f)
	b.abandon(u, f)
}

// finish ends a poll in which every block was asked for.
func (b *bus) finish(u *unit) {
	f := u.worst
	switch {
	case len(u.list) == 0:
		f = failure{reason: telemetry.ReasonConfiguration, text: "the device has no points that can be read"}
	case u.good > 0:
		f = failure{}
		u.coalesce()
	case !f.failed():
		f = u.last // nothing was due
	}
	b.report(u, f, time.Now())
}

// abandon ends a poll whose unit need not be asked further.
func (b *bus) abandon(u *unit, f failure) {
	u.ask.leave(u)
	for _, blk := range u.queue {
		b.putBad(u, blk.Points, f.reason)
	}
	b.report(u, f, time.Now())
}

// lapse passes over a slot of a unit that is not asked now.
func (b *bus) lapse(u *unit, now time.Time) {
	f := u.last
	switch {
	case !b.line.isOpen():
		f = b.closed
		u.last = f
	case !f.failed():
		f = failure{reason: telemetry.ReasonNoAnswer, text: fmt.Sprintf(
			"unit %d often does not answer; it is asked less often so that the others on the bus keep their time", u.dev.Unit)}
	}
	for _, blk := range b.sched.lapse(u, now) {
		b.putBad(u, blk.Points, f.reason)
	}
	b.status(u, f)
}

// report closes the poll, and gives its outcome to the sink.
func (b *bus) report(u *unit, f failure, now time.Time) {
	b.sched.finish(u, f, now)
	b.status(u, f)
}

func (b *bus) status(u *unit, f failure) {
	b.putBad(u, u.bad, telemetry.ReasonConfiguration)
	b.putBad(u, u.view.absent, telemetry.ReasonNotFitted)
	if f.failed() != u.down {
		u.down = f.failed()
		if u.down {
			b.metrics.down.Inc()
			u.ask.again() // it may be another one that comes back
		} else {
			b.metrics.down.Dec()
		}
	}
	b.env.Sink.Status(u.device, !u.down, f.reason, f.text)
}

// putBad gives the points a bad sample each, and those that depend on the places
// among them.
func (b *bus) putBad(u *unit, points []int, reason telemetry.Reason) {
	if len(points) == 0 {
		return
	}
	bad := telemetry.BadQuality(reason)
	b.samples = b.samples[:0]
	for _, p := range points {
		if p >= u.view.own {
			u.view.note(p, profile.Raw{Quality: bad})
			continue
		}
		b.samples = append(b.samples, driver.Sample{Point: p, Quality: bad})
	}
	b.samples = u.reader.release(b.samples, u.view, b.lastEnd.Sub(b.started).Milliseconds())
	b.put(u)
}

func (u *unit) names(points []int) string {
	ids := make([]string, len(points))
	for i, p := range points {
		ids[i] = u.dev.Points[p].ID
	}
	return strings.Join(ids, " ")
}

// judgeLoad says, once per change, whether the bus can carry its polls.
func (b *bus) judgeLoad(now time.Time) {
	over := b.lost*20 > b.polls+b.lost
	switch {
	case over && !b.overloaded:
		b.logger.Warn("the bus cannot carry its polls; give its devices longer intervals", "polls", b.polls, "missed", b.lost, "within", loadWindow)
	case !over && b.overloaded:
		b.logger.Info("the bus carries its polls again")
	}
	b.overloaded = over
	b.polls, b.lost, b.windowEnd = 0, 0, now.Add(loadWindow)
}
