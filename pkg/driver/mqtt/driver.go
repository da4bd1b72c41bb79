package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// mqttDriver reads the devices of one broker.
type mqttDriver struct {
	cfg     Config
	url     *url.URL
	sink    driver.Sink
	logger  *slog.Logger
	metrics *metrics

	devices  []*device // the worker's
	routes   *routes
	queue    *queue
	receipts *receipts
	lasting  driver.Receipts // nil: a restart forgets them
	id       string
	link     *link
	started  time.Time
	keeps    bool                                   // the broker keeps our session
	starved  atomic.Bool                            // QoS 1 messages were left with the broker
	watch    atomic.Pointer[func(*driver.Exchange)] // who looks on; nil: nobody
	closing  atomic.Bool                            // what arrives now is left with the broker

	tap func(paho.Message) // takes all messages, when somebody only listens

	samples []driver.Sample // the worker's scratch
}

func newDriver(cfg Config, id string, devices []*driver.Device, env driver.Env) (*mqttDriver, error) {
	u, err := brokerURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("mqtt %s: url: %w", id, err)
	}
	logger := env.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(env.Metrics, id)
	if err != nil {
		return nil, fmt.Errorf("mqtt %s: %w", id, err)
	}
	d := &mqttDriver{
		cfg: cfg, url: u, sink: env.Sink, logger: logger,
		started: time.Now(), metrics: m, queue: newQueue(cfg.Queue), receipts: newReceipts(cfg.Queue), keeps: cfg.ClientID != "",
		id: id, lasting: env.Receipts,
	}
	if d.lasting != nil {
		d.receipts.know(d.lasting.Known(id))
	}
	for _, spec := range devices {
		dev := &device{spec: spec, life: newLiveness(spec), partial: spec.MQTT.Partial, counts: driver.NewCounts(spec, env.Totals)}
		if spec.Identify != nil {
			if dev.ident, err = newIdent(spec); err != nil {
				return nil, fmt.Errorf("mqtt %s: device %s: match: path: %w", id, spec.ID, err)
			}
		}
		if t := spec.MQTT.Time; t != nil {
			path, err := profile.ParsePath(t.Path)
			if err != nil {
				return nil, fmt.Errorf("mqtt %s: device %s: time: path: %w", id, spec.ID, err)
			}
			dev.time = &deviceTime{path: path, format: t.Format}
		}
		d.devices = append(d.devices, dev)
	}
	if d.routes, err = newRoutes(d.devices); err != nil {
		return nil, fmt.Errorf("mqtt %s: %w", id, err)
	}
	d.link = newLink(d)
	return d, nil
}

// settleTime bounds how long a driver that ends waits for the commit of what it
// has read. What is acknowledged only after that comes again, and is read twice.
const settleTime = 2 * time.Second

// Run implements [driver.Driver]. After ctx has ended it keeps the connection
// until what was read is committed and acknowledged.
func (d *mqttDriver) Run(ctx context.Context) error {
	after := context.WithoutCancel(ctx)
	linked, unlink := context.WithCancel(after)
	defer unlink()
	acknowledging, stop := context.WithCancel(after)
	defer stop()
	var link, receipts sync.WaitGroup
	link.Go(func() { d.link.run(linked) })
	receipts.Go(func() { d.receipts.run(acknowledging) })
	d.work(ctx)
	if d.sink.Flush() {
		d.receipts.wait(settleTime)
	}
	stop()
	receipts.Wait()
	unlink()
	link.Wait()
	d.metrics.connected.Set(0)
	return nil
}

// receive takes a message from paho. It does not block: paho would stop reading
// acknowledgements and pings from the connection.
func (d *mqttDriver) receive(m paho.Message) {
	if show := d.watch.Load(); show != nil {
		(*show)(exchangeOf(m))
	}
	if d.tap != nil {
		d.tap(m)
		return
	}
	var r *receipt
	if m.Qos() > 0 {
		var v verdict
		switch r, v = d.receipts.receive(m); v {
		case verdictRepeated:
			d.metrics.repeated.Inc()
			return
		case verdictFull:
			d.overflow(m)
			return
		}
	}
	targets := d.routes.match(m.Topic())
	if len(targets) == 0 {
		// The rest of a session from before the configuration changed.
		d.metrics.stray.Inc()
		d.settle(r)
		return
	}
	if !d.queue.push(message{m.Topic(), m.Payload(), m.Retained(), targets, r}) {
		if r != nil && d.keeps {
			d.receipts.forget(r)
		}
		d.overflow(m)
		if r != nil && !d.keeps {
			d.settle(r)
		}
	}
}

// overflow deals with a message for which there is no room.
func (d *mqttDriver) overflow(m paho.Message) {
	switch {
	case m.Qos() > 0 && d.keeps:
		d.metrics.held.Inc()
		d.starved.Store(true)
		return
	case m.Qos() > 0:
		d.receipts.dismiss(m)
	}
	d.metrics.dropped.Inc()
}

func (d *mqttDriver) settle(r *receipt) {
	if r != nil {
		d.receipts.settle(r)
	}
}

// work is the worker: it owns the devices.
func (d *mqttDriver) work(ctx context.Context) {
	tick := time.NewTicker(d.pace())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.closing.Store(true)
			for _, m := range d.queue.take() {
				if m.receipt == nil {
					d.handle(m, time.Now())
				} else { // it comes again at the next start
					d.receipts.forget(m.receipt)
				}
			}
			return
		case <-d.link.changed:
			d.relink(time.Now())
		case <-d.queue.wake:
			d.drain(ctx)
		case <-tick.C:
			now := time.Now()
			for _, dev := range d.devices {
				d.report(dev, now)
			}
			d.refetch()
		}
	}
}

// pace is how often silence is looked for.
func (d *mqttDriver) pace() time.Duration {
	pace := time.Second
	for _, dev := range d.devices {
		if e := dev.life.expect; e > 0 {
			pace = min(pace, max(e/4, 20*time.Millisecond))
		}
	}
	return pace
}

func (d *mqttDriver) drain(ctx context.Context) {
	ms := d.queue.take()
	d.metrics.waiting.Set(float64(len(ms)))
	for _, m := range ms {
		if m.receipt != nil && ctx.Err() != nil {
			d.receipts.forget(m.receipt) // it comes again at the next start
			continue
		}
		d.handle(m, time.Now())
	}
	d.refetch()
}

// refetch connects anew, so that the broker gives again what there was no room
// for, once there is room.
func (d *mqttDriver) refetch() {
	if d.starved.Load() && d.queue.length() == 0 && d.receipts.half() {
		d.starved.Store(false)
		d.logger.Info("connecting anew to fetch the messages that there was no room for")
		d.link.renew()
	}
}

// relink tells the devices how the link is.
func (d *mqttDriver) relink(now time.Time) {
	st := d.link.state()
	for _, dev := range d.devices {
		if st.up {
			refused := ""
			for _, t := range dev.targets {
				if st.refused[t.filter] {
					refused = t.filter
				}
			}
			dev.life.linkUp(now, refused)
		} else {
			dev.life.linkDown(st.why)
		}
		d.report(dev, now)
	}
}

// report gives the sink the status of the device: at once when it changed, and
// otherwise as often as the device is to be read.
func (d *mqttDriver) report(dev *device, now time.Time) {
	st := dev.life.judge(now)
	if !st.known {
		return
	}
	interval := dev.spec.Interval
	if interval <= 0 {
		interval = 5 * time.Second
	}
	same := dev.status.known && st.up == dev.status.up && st.reason == dev.status.reason
	if !st.up && (dev.status.up || !dev.status.known) {
		d.blank(dev, st.reason)
	}
	if same && now.Sub(dev.reported) < interval {
		return
	}
	dev.status, dev.reported = st, now
	if st.up && !same {
		d.tally(dev)
	}
	d.sink.Status(dev.spec, st.up, st.reason, st.detail)
}

// tally puts the totals of the events of a device that came up, as they stand:
// the next event may be long in coming.
func (d *mqttDriver) tally(dev *device) {
	d.samples = d.samples[:0]
	for _, t := range dev.targets {
		for i := range t.points {
			if p := &t.points[i]; p.spec.CountsEvents() {
				s := driver.Sample{Point: p.index}
				s.Value, s.Quality = profile.EventTotal(p.spec, p.conv, dev.counts.Of(p.spec))
				d.samples = append(d.samples, s)
			}
		}
	}
	if len(d.samples) > 0 {
		d.sink.Put(dev.spec, time.Time{}, d.samples)
	}
}

// blank puts a bad reading for every point of a device that went down: what was
// read last is no longer known to hold.
func (d *mqttDriver) blank(dev *device, reason telemetry.Reason) {
	d.samples = d.samples[:0]
	for i := range dev.spec.Points {
		d.samples = append(d.samples, driver.Sample{Point: i, Quality: telemetry.BadQuality(reason)})
	}
	if len(d.samples) > 0 {
		d.sink.Put(dev.spec, time.Time{}, d.samples)
	}
}

// handle reads one message.
func (d *mqttDriver) handle(m message, now time.Time) {
	doc := &document{raw: m.payload}
	var ticket driver.Ticket
	put, bad := false, false
	for _, t := range m.targets {
		if len(t.places) > 0 && len(m.payload) > 0 {
			d.inquire(t, doc, now, m.retained) // before any value is read
		}
	}
	for _, t := range m.targets {
		dev := t.device
		if t.avail != nil {
			if online, word, ok := t.avail.read(doc); ok {
				dev.life.availability(now, online, word)
			}
		}
		if len(t.points) > 0 && !m.retained && len(m.payload) > 0 {
			dev.life.message(now)
			samples, err := read(d.samples[:0], t.points, doc, dev.partial, dev.counts, now.Sub(d.started).Milliseconds())
			if dev.ident != nil {
				driver.Doubt(dev.ident.doubts, samples)
			}
			d.note(t, samples, m.topic, err)
			d.samples = samples
			bad = bad || err != nil
			if len(samples) > 0 {
				var at time.Time
				if dev.time != nil {
					at = d.stamp(dev, doc, samples)
				}
				ticket = d.sink.Put(dev.spec, at, samples)
				put = true
				for i := range t.points {
					dev.counts.Keep(t.points[i].spec) // with the receipt: what is counted is known
				}
			}
		}
		d.report(dev, now)
	}
	switch {
	case m.retained:
		d.metrics.retained.Inc()
	case len(m.payload) == 0:
		d.metrics.empty.Inc()
	default:
		d.metrics.read.Inc()
	}
	if bad {
		d.metrics.malformed.Inc()
	}
	if r := m.receipt; r != nil {
		if put && d.lasting != nil && d.receipts.lasting() {
			d.lasting.Note(d.id, driver.Receipt{ID: r.id, Sum: r.hash}, ticket)
		}
		if put {
			d.sink.Committed(ticket, func() { d.receipts.settle(r) })
		} else {
			d.receipts.settle(r)
		}
	}
}

// stamp returns the device's own time. When the payload has none that can be
// believed, the readings take the time of arrival and are uncertain.
func (d *mqttDriver) stamp(dev *device, doc *document, samples []driver.Sample) time.Time {
	at, ok := dev.time.of(doc)
	if !ok {
		for i := range samples {
			if samples[i].Quality.Status() == telemetry.Good {
				samples[i].Quality = telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonClock)
			}
		}
	}
	return at
}

// note logs points whose payload stopped or began to make sense.
func (d *mqttDriver) note(t *target, samples []driver.Sample, topic string, err error) {
	k := 0
	for _, s := range samples {
		for t.points[k].index != s.Point {
			k++
		}
		p := &t.points[k]
		reason := s.Quality.Reason()
		if reason != telemetry.ReasonMalformed && reason != telemetry.ReasonMissing {
			reason = telemetry.ReasonNone
		}
		if reason == p.last {
			continue
		}
		p.last = reason
		if reason == telemetry.ReasonNone {
			d.logger.Info("payload makes sense again", "device", t.device.spec.ID, "point", p.spec.ID, "topic", topic)
		} else {
			d.logger.Warn("payload gives no value", "device", t.device.spec.ID, "point", p.spec.ID, "topic", topic, "reason", reason.String(), "error", err)
		}
	}
}
