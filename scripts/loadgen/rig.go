package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// rig is one run.
type rig struct {
	o       options
	lib     *library
	station *station
	hub     *hub
	counts  counters
	edges   []*loadEdge
	alerts  *alertWatch
	result  result
}

// settleTime is how long the hub gets for what was sent, once nothing more is.
const settleTime = time.Minute

// farBack is how far behind the clock event time starts in a run flat out: a hub
// that takes ten times real time does not catch up with the clock.
func (o *options) farBack() time.Duration { return 10*(o.duration+o.warmup) + time.Minute }

func (r *rig) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sending, quiet := context.WithCancel(ctx)
	defer quiet()
	var wg sync.WaitGroup
	start := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				cancel(err)
			}
		})
	}
	if r.o.alarm > 0 {
		r.alerts = newAlertWatch()
		ready := make(chan struct{})
		start(func() error { return r.alerts.listen(ctx, r.hub.page, ready) })
		select {
		case <-ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p := pace{every: r.o.every, step: r.o.step.Milliseconds(), begin: time.Now().Add(-r.o.farBack()).UnixMilli(), alarm: r.o.alarm, window: liveWindow}
	for i := range r.o.edges {
		e, err := newEdge(edgeID(i, edgeGroups(r.o.series, r.o.rules)), r.hub.mqtt, r.bufferDir(), r.station, p, &r.counts, r.alerts)
		if err != nil {
			return err
		}
		r.edges = append(r.edges, e)
		start(func() error { return e.run(ctx, sending) })
		if i%100 == 99 { // a population does not switch on within a moment
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
	err := r.measureAll(ctx, start)
	quiet()
	if err == nil {
		err = r.settle(ctx)
	}
	cancel(nil)
	wg.Wait()
	return err
}

func (r *rig) bufferDir() string {
	if !r.o.buffer {
		return ""
	}
	return filepath.Join(r.o.dir, "edges")
}

// measureAll measures the population, and once more beside a drain when asked to.
func (r *rig) measureAll(ctx context.Context, start func(func() error)) error {
	if err := r.awaitSafe(ctx); err != nil {
		return err
	}
	if err := pause(ctx, r.o.warmup); err != nil {
		return err
	}
	if err := r.measure(ctx); err != nil {
		return err
	}
	if r.alerts == nil {
		return nil
	}
	took, _ := r.alerts.times(time.Now(), 0)
	s := spreadOf(took)
	r.result.Alerts = &s
	if r.o.drain == 0 {
		return nil
	}
	return r.measureDrain(ctx, start)
}

// awaitSafe waits until every edge has a frame on the hub's disk.
func (r *rig) awaitSafe(ctx context.Context) error {
	limit := time.Now().Add(time.Minute + 2*r.o.every)
	for i := 0; i < len(r.edges); {
		if _, safe := r.edges[i].times(); len(safe) > 0 {
			i++
			continue
		}
		if time.Now().After(limit) {
			return fmt.Errorf("edge %s has nothing on the hub's disk after a minute: %+v", r.edges[i].id, r.edges[i].link.Status())
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// reading is what a counter stands at.
type reading struct {
	at                     time.Time
	got, safe, bytes, made int64
	frames                 int64
	hub, self              usage
}

func (r *rig) read() (m reading, err error) {
	m.at = time.Now()
	m.got, m.safe, m.bytes, m.made, m.frames = r.counts.got.Load(), r.counts.safe.Load(), r.counts.bytes.Load(), r.counts.made.Load(), r.counts.frames.Load()
	if m.hub, err = r.hub.usage(); err != nil {
		return m, fmt.Errorf("the hub's numbers: %w", err)
	}
	m.self, err = processUsage(os.Getpid())
	return m, err
}

func (r *rig) measure(ctx context.Context) error {
	for _, e := range r.edges {
		e.forget()
	}
	if r.alerts != nil {
		r.alerts.forget()
	}
	from, err := r.read()
	if err != nil {
		return err
	}
	profiled := make(chan error, 1)
	go func() {
		if r.o.cpuProfile == "" {
			profiled <- nil
			return
		}
		profiled <- r.hub.profile(fmt.Sprintf("profile?seconds=%d", int(r.o.duration.Seconds())), r.o.cpuProfile)
	}()
	peaks, err := r.watch(ctx, r.o.duration)
	if err != nil {
		return err
	}
	err = r.longer(ctx, func() bool {
		for _, e := range r.edges {
			if g, s := e.times(); len(g) > 0 && len(s) > 0 {
				return r.counts.got.Load() > from.got && r.counts.safe.Load() > from.safe && (r.alerts == nil || r.alerts.some())
			}
		}
		return false
	})
	if err != nil {
		return err
	}
	to, err := r.read()
	if err != nil {
		return err
	}
	if err := <-profiled; err != nil {
		return err
	}
	if r.o.heapProfile != "" {
		if err := r.hub.profile("heap", r.o.heapProfile); err != nil {
			return err
		}
	}
	seconds := to.at.Sub(from.at).Seconds()
	safe := float64(to.safe - from.safe)
	res := &r.result
	res.Seconds = seconds
	res.GotPerSecond, res.SafePerSecond = float64(to.got-from.got)/seconds, safe/seconds
	res.FramesPerSec = safe / float64(r.o.series) / seconds
	res.BytesPerSample = float64(to.bytes-from.bytes) / float64(max(1, to.made-from.made))
	res.Dropped = to.hub.dropped - from.hub.dropped
	used := func(a, b usage) side {
		cpu := b.cpu - a.cpu
		return side{Cores: cpu.Seconds() / seconds, PerSample: float64(cpu.Nanoseconds()) / max(1, safe), Peak: max(b.peak, b.rss)}
	}
	res.Hub, res.Generator = used(from.hub, to.hub), used(from.self, to.self)
	res.Hub.Peak, res.Hub.Anonymous = max(res.Hub.Peak, peaks.rss), peaks.anonymous
	var got, durable []float32
	for _, e := range r.edges {
		g, s := e.times()
		got, durable = append(got, g...), append(durable, s...)
	}
	res.Got, res.Safe = spreadOf(got), spreadOf(durable)
	return nil
}

// watch waits, and returns the most memory that the hub had meanwhile.
func (r *rig) watch(ctx context.Context, d time.Duration) (peaks usage, err error) {
	end := time.Now().Add(d)
	for {
		left := time.Until(end)
		if left <= 0 {
			return peaks, nil
		}
		if err := pause(ctx, min(left, 500*time.Millisecond)); err != nil {
			return peaks, err
		}
		var u usage
		if r.hub.pid != 0 {
			u, err = processUsage(r.hub.pid)
		} else {
			u, err = r.hub.usage()
		}
		if err != nil {
			return peaks, fmt.Errorf("the hub's numbers: %w", err)
		}
		peaks.rss, peaks.anonymous = max(peaks.rss, u.rss), max(peaks.anonymous, u.anonymous)
	}
}

// longer makes a measurement that is too short for a busy machine longer, until it
// holds something; a minute at most.
func (r *rig) longer(ctx context.Context, enough func() bool) error {
	for end := time.Now().Add(time.Minute); !enough() && time.Now().Before(end); {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// measureDrain measures the alerts of the population again, while one more edge
// sends a backlog.
func (r *rig) measureDrain(ctx context.Context, start func(func() error)) error {
	var counts counters
	p := pace{step: 1000, begin: time.Now().Add(-r.o.drain).UnixMilli(), window: drainWindow}
	e, err := newEdge("load-drain", r.hub.mqtt, r.bufferDir(), newStation(r.lib, r.o.drainSeries, false), p, &counts, nil)
	if err != nil {
		return err
	}
	sending, quiet := context.WithCancel(ctx)
	defer quiet()
	start(func() error { return e.run(ctx, sending) })
	if err := pause(ctx, r.o.warmup); err != nil {
		return err
	}
	r.alerts.forget()
	at, safe, live := time.Now(), counts.safe.Load(), r.counts.safe.Load()
	if err := pause(ctx, r.o.duration); err != nil {
		return err
	}
	if err := r.longer(ctx, func() bool { return counts.safe.Load() > safe && r.alerts.some() }); err != nil {
		return err
	}
	seconds := time.Since(at).Seconds()
	r.result.Drained = float64(counts.safe.Load()-safe) / seconds
	r.result.DrainLive = float64(r.counts.safe.Load()-live) / seconds
	took, _ := r.alerts.times(time.Now(), 0)
	s := spreadOf(took)
	r.result.DrainAlerts = &s
	return nil
}

// settle waits until everything that was made is safe, and told.
func (r *rig) settle(ctx context.Context) error {
	end := time.Now().Add(settleTime)
	missing := func() (n int) {
		if r.alerts != nil {
			_, n = r.alerts.times(time.Now(), 0)
		}
		return n
	}
	for (r.counts.safe.Load() < r.counts.made.Load() || missing() > 0) && time.Now().Before(end) {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	r.result.Unsafe = r.counts.made.Load() - r.counts.safe.Load()
	for _, e := range r.edges {
		if e.link.Status().Refusal != wire.StatusOK {
			r.result.Refused++
		}
	}
	r.result.Missing = missing()
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
			return err
		}
		return ctx.Err()
	}
}
