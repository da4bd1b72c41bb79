package edge

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// maxPending is how many readings one frame may hold; when it is reached a frame
// is cut at once. It bounds the memory of the collector and the size of a frame.
const maxPending = 20_000

// stallAfter is how long the collector may be away before it says that it did
// not look: the machine was suspended, or the clock stepped.
const stallAfter = 30 * time.Second

// timekeeper is the clock as the collector sees it; *clock.Clock is one.
type timekeeper interface {
	Now() clock.Time
	// OffsetOfBoot is what makes the times of this boot true that were given
	// before the clock was trusted.
	OffsetOfBoot() (offset int64, ok bool)
}

// heldReading waits for the watermark of its series, which lags.
type heldReading struct {
	telemetry.Reading
	ticket driver.Ticket
}

// collector is the [driver.Sink] of an agent. It stamps readings with log time,
// gives each its series, keeps one reading per series and millisecond, and hands
// over what has come in as the content of a frame. Safe for concurrent use; no
// call waits for anything but the lock.
type collector struct {
	clock       timekeeper
	maintenance *maintenance // nil: nobody works on anything
	hardware    *hardware    // nil: nothing is known of it
	logger      *slog.Logger
	full        chan struct{} // receives when a frame should be cut early
	urgent      chan struct{} // receives when what is pending must be sent and committed at once

	mu sync.Mutex
	layout
	pending   []telemetry.Reading
	held      []heldReading // device time, ahead of its series' watermark
	marks     []wire.Mark
	watermark int64 // W of the newest frame
	stamped   int64 // newest stamp given
	era       uint32
	trusted   bool
	ticket    driver.Ticket // of the newest Put
	cutTicket driver.Ticket // of the newest Put that a frame holds
	committed driver.Ticket
	waiting   []waiter
	thinned   []telemetry.Reading // scratch

	urgency urgency
	alarm   bool // something urgent is pending

	duplicates uint64 // readings dropped: same series and millisecond
	unplaced   uint64 // readings dropped: no room or no series
}

type waiter struct {
	ticket driver.Ticket
	f      func()
}

// newCollector makes a collector for the series of a layout. Call begin before
// the first Put.
func newCollector(l layout, clock timekeeper, logger *slog.Logger) *collector {
	return &collector{clock: clock, logger: logger, full: make(chan struct{}, 1), urgent: make(chan struct{}, 1), layout: l, urgency: newUrgency(&l)}
}

// begin starts observing now. lastW is the watermark of the newest frame of the
// log before, 0 when it is not known.
func (c *collector) begin(lastW int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.clock.Now()
	c.era, c.trusted = t.Era, t.Trusted
	c.watermark = t.Ms
	m := wire.Mark{Kind: wire.MarkStart, From: t.Ms, To: t.Ms}
	switch {
	case lastW > 0 && !t.Trusted:
		m.From, m.Fixed = lastW, true // true time already, whatever this boot's turns out to be
	case lastW > 0 && lastW < t.Ms:
		m.From = lastW
	}
	c.marks = append(c.marks, m)
}

// Put implements [driver.Sink].
func (c *collector) Put(d *driver.Device, at time.Time, samples []driver.Sample) driver.Ticket {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, ok := c.first[d]
	if !ok {
		c.unplaced += uint64(len(samples))
		return c.ticket
	}
	c.ticket++
	stamp := c.stamp()
	maintained := c.maintained(d, stamp)
	for _, s := range samples {
		if maintained {
			s.Quality = marked(s.Quality)
		}
		i := first + uint32(s.Point)
		t := stamp
		if lag := c.series[i].MaxLag; lag > 0 && !at.IsZero() && c.trusted {
			// A time ahead of arrival is a wrong device clock: arrival is the better word.
			t = min(at.UnixMilli(), stamp)
		}
		c.add(i, t, s)
	}
	c.signal()
	return c.ticket
}

func (c *collector) maintained(d *driver.Device, now int64) bool {
	return c.maintenance != nil && c.maintenance.of(d.ID, now) > 0
}

// stamp returns the time of a reading that arrives now: later than the
// watermark that was given away, or the reading would come late by our own doing.
func (c *collector) stamp() int64 {
	t := c.clock.Now()
	c.follow(t)
	c.stamped = max(t.Ms, c.watermark+1)
	return c.stamped
}

func (c *collector) add(series uint32, t int64, s driver.Sample) {
	lag := c.series[series].MaxLag
	if t == c.last[series] || lag == 0 && t < c.last[series] {
		c.duplicates++
		return
	}
	if len(c.pending)+len(c.held) >= 2*maxPending {
		c.unplaced++
		return
	}
	c.last[series] = max(c.last[series], t)
	r := telemetry.Reading{Series: series, Time: t, Value: s.Value, Text: s.Text, Quality: telemetry.Check(s.Value, s.Quality)}
	if len(r.Text) > telemetry.MaxTextLen {
		r.Text = r.Text[:telemetry.MaxTextLen]
	}
	if f := c.filters[series]; f != nil && t > c.watermark-lag && t >= c.last[series] {
		c.pass(f, r, lag)
		return
	}
	c.place(r, lag)
}

// place puts a reading where the frame to be finds it. One whose series lags is
// held until its watermark passes.
func (c *collector) place(r telemetry.Reading, lag int64) {
	c.alarm = c.urgency.saw(&r, c.stamped) || c.alarm
	if lag > 0 && r.Time > c.watermark-lag {
		c.held = append(c.held, heldReading{r, c.ticket})
		return
	}
	c.pending = append(c.pending, r)
}

func (c *collector) signal() {
	if c.alarm {
		c.alarm = false
		select {
		case c.urgent <- struct{}{}:
		default:
		}
	}
	if len(c.pending) < maxPending {
		return
	}
	select {
	case c.full <- struct{}{}:
	default:
	}
}

// Status implements [driver.Sink].
func (c *collector) Status(d *driver.Device, up bool, reason telemetry.Reason, detail string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, ok := c.first[d]
	if !ok {
		return
	}
	st := c.up[d]
	stamp := c.stamp()
	changed := !st.known || st.up != up || st.reason != reason
	if changed {
		st.since = stamp
		if up {
			c.logger.Info("device answers", "device", d.ID)
		} else {
			c.logger.Warn("device does not answer", "device", d.ID, "reason", reason.String(), "detail", detail)
		}
	}
	st.known, st.up, st.reason, st.detail = true, up, reason, detail
	if !changed && stamp-st.reported < upSilence(d) {
		return
	}
	st.reported = stamp
	v := 0.0
	if up {
		v = 1
	}
	q := telemetry.NewQuality(telemetry.Good, reason)
	if c.maintained(d, stamp) {
		q = marked(q)
	}
	c.ticket++
	c.add(first+uint32(len(d.Points)), stamp, driver.Sample{Value: v, Quality: q})
	c.signal()
}

// Committed implements [driver.Sink].
func (c *collector) Committed(t driver.Ticket, f func()) {
	c.mu.Lock()
	if t > c.committed {
		c.waiting = append(c.waiting, waiter{t, f})
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	f()
}

// Flush implements [driver.Sink].
func (c *collector) Flush() bool {
	select {
	case c.urgent <- struct{}{}:
	default: // it is asked for already
	}
	return true
}

// cut fills f with what has come in since the last cut and gives it a watermark.
// It reports false, and leaves f alone, when there is nothing to say: no
// reading, no mark, and less than quiet since the last frame. The slices of f
// are its own; they are reused when it is passed again.
func (c *collector) cut(f *wire.Frame, quiet time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.take(f, quiet)
}

// take is cut for those who hold the lock.
func (c *collector) take(f *wire.Frame, quiet time.Duration) bool {
	t := c.clock.Now()
	c.follow(t)
	if away := t.Ms - c.watermark; away > stallAfter.Milliseconds() {
		c.marks = append(c.marks, wire.Mark{Kind: wire.MarkStall, From: c.watermark, To: t.Ms})
		c.forget() // values held at the hub end here
	}
	w := max(t.Ms, c.watermark, c.stamped) // a stamp may be a millisecond ahead of the clock
	c.tick(w)
	if len(c.pending)+len(c.held)+len(c.marks) == 0 && w-c.watermark < quiet.Milliseconds() {
		c.cutTicket = c.ticket // filters left nothing of it to commit
		return false
	}
	f.Readings = append(f.Readings[:0], c.pending...)
	c.pending = c.pending[:0]
	c.cutTicket = c.ticket
	keep := c.held[:0]
	for _, r := range c.held {
		if r.Time <= w-c.series[r.Series].MaxLag {
			f.Readings = append(f.Readings, r.Reading)
		} else {
			keep = append(keep, r)
			c.cutTicket = min(c.cutTicket, r.ticket-1)
		}
	}
	clear(c.held[len(keep):])
	c.held = keep
	f.Marks = append(f.Marks[:0], c.marks...)
	c.marks = c.marks[:0]
	f.PrevW, f.W = c.watermark, w
	f.Era, f.Untimed = c.era, !c.trusted
	c.watermark = w
	sortReadings(f.Readings)
	return true
}

// sortReadings puts readings into the order of a frame.
func sortReadings(rs []telemetry.Reading) {
	slices.SortFunc(rs, func(a, b telemetry.Reading) int {
		return cmp.Or(cmp.Compare(a.Series, b.Series), cmp.Compare(a.Time, b.Time))
	})
}

// follow follows the clock into a new era, or from the time of this boot to true
// time. It comes before every use of t: what is pending has the old time, and what
// comes now the new one.
func (c *collector) follow(t clock.Time) {
	if t.Trusted && !c.trusted {
		if offset, ok := c.clock.OffsetOfBoot(); ok {
			// The same instant under its true name: time goes on, although the
			// clock counts a new era.
			c.shift(offset)
			c.era = t.Era
		}
		c.trusted = true
	}
	if t.Era != c.era {
		c.enter(t)
	}
}

// shift moves everything that was stamped with the time of this boot to true time.
func (c *collector) shift(offset int64) {
	for i := range c.pending {
		c.pending[i].Time += offset
	}
	for i := range c.marks {
		if !c.marks[i].Fixed {
			c.marks[i].From += offset
		}
		c.marks[i].Fixed = false
		c.marks[i].To += offset
	}
	for i := range c.last {
		if c.last[i] != 0 {
			c.last[i] += offset
		}
	}
	for _, f := range c.filters {
		f.Shift(offset)
	}
	if c.maintenance != nil {
		c.maintenance.shift(offset)
	}
	if c.hardware != nil && c.hardware.shift(offset) {
		c.revise()
		c.equip(c.hardware)
	}
	for _, st := range c.up {
		st.since += offset
		st.reported += offset
	}
	c.watermark += offset
	c.stamped += offset
}

// enter begins a new era at t. What is pending was stamped in the era before and
// has no place in the new one, so the newest of each series takes its first
// instant.
func (c *collector) enter(t clock.Time) {
	c.marks = append(c.marks, wire.Mark{Kind: wire.MarkEra, From: c.watermark, To: t.Ms - 1})
	for _, r := range c.held {
		c.pending = append(c.pending, r.Reading)
	}
	c.held = c.held[:0]
	for i := range c.pending {
		c.pending[i].Time = t.Ms
	}
	c.oneEach()
	c.forget()
	for i := range c.last {
		c.last[i] = min(c.last[i], t.Ms)
	}
	for _, st := range c.up {
		st.reported = 0
	}
	c.watermark, c.stamped = t.Ms-1, t.Ms
	c.era = t.Era
}

// oneEach keeps the newest pending reading of each series.
func (c *collector) oneEach() {
	seen := make(map[uint32]bool, len(c.pending))
	kept := c.pending[:0]
	for i := len(c.pending) - 1; i >= 0; i-- {
		if r := c.pending[i]; !seen[r.Series] {
			seen[r.Series] = true
			kept = append(kept, r)
		} else {
			c.duplicates++
		}
	}
	c.pending = kept
}

// watch takes the limits that the hub watches.
func (c *collector) watch(b *wire.Bands) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urgency.watch(b)
}

// owed reports whether something urgent is in the frame that was cut last, or had to
// wait and is due now.
func (c *collector) owed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm { // a window ended with the cut
		c.alarm = false
		return true
	}
	return c.urgency.due(c.clock.Now().Ms)
}

// newest returns the ticket up to which the last cut took readings.
func (c *collector) newest() driver.Ticket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cutTicket
}

// commit tells those who wait that everything up to the ticket is on disk.
func (c *collector) commit(t driver.Ticket) {
	c.mu.Lock()
	c.committed = max(c.committed, t)
	var ready []func()
	c.waiting = slices.DeleteFunc(c.waiting, func(w waiter) bool {
		if w.ticket <= c.committed {
			ready = append(ready, w.f)
			return true
		}
		return false
	})
	c.mu.Unlock()
	for _, f := range ready {
		f()
	}
}

// dropped returns how many readings were dropped: for their millisecond, for room.
func (c *collector) dropped() (duplicates, unplaced uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.duplicates, c.unplaced
}

// state returns what is known of a device.
func (c *collector) state(d *driver.Device) deviceState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.up[d]; st != nil {
		return *st
	}
	return deviceState{}
}

// size returns how many devices and series there are.
func (c *collector) size() (devices, series int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.first), len(c.series)
}

// answering counts the devices that are up.
func (c *collector) answering() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, st := range c.up {
		if st.up {
			n++
		}
	}
	return n
}
