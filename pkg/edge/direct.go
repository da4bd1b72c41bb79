package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// directReading is the sink of a reading without an agent: it keeps the newest
// sample of every point, in memory alone. Messages of QoS 1 are never
// acknowledged to the broker, so the agent gets them later.
type directReading struct {
	mu       sync.Mutex
	states   map[*driver.Device]deviceState
	readings map[*driver.Device][]telemetry.Reading // by point; Time 0: none
	said     map[*driver.Device]driver.Identity
	changed  chan struct{}
}

func newDirectReading(devices []*driver.Device) *directReading {
	r := &directReading{
		states: map[*driver.Device]deviceState{}, readings: map[*driver.Device][]telemetry.Reading{},
		said: map[*driver.Device]driver.Identity{}, changed: make(chan struct{}, 1),
	}
	for _, d := range devices {
		r.readings[d] = make([]telemetry.Reading, len(d.Points))
	}
	return r
}

func directEnv(r *directReading) driver.Env {
	return driver.Env{Sink: r, Logger: slog.New(slog.DiscardHandler)}
}

// readDirectly reads the devices until each has said all it has or does not
// answer, at most for limit.
func readDirectly(ctx context.Context, plan *Plan, devices []*driver.Device, limit time.Duration) (*directReading, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return follow(ctx, plan, devices, (*directReading).complete)
}

// follow reads the devices until enough says so or ctx ends. It is asked whenever
// something was read, on one goroutine.
func follow(ctx context.Context, plan *Plan, devices []*driver.Device, enough func(*directReading) bool) (*directReading, error) {
	r := newDirectReading(devices)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	failed := make(chan error, len(plan.Connections))
	for _, c := range plan.Connections {
		var mine []*driver.Device
		for _, d := range c.Devices {
			if _, wanted := r.readings[d]; wanted {
				mine = append(mine, d)
			}
		}
		if len(mine) == 0 {
			continue
		}
		drv, err := c.Source.New(c.ID, mine, directEnv(r))
		if err != nil {
			return nil, fmt.Errorf("connection %s: %w", c.ID, err)
		}
		running.Go(func() {
			if err := drv.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				failed <- fmt.Errorf("connection %s: %w", c.ID, err)
			}
		})
	}
	for !enough(r) {
		select {
		case <-r.changed:
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return r, nil
		}
	}
	return r, nil
}

// complete reports whether nothing more is to be waited for.
func (r *directReading) complete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, readings := range r.readings {
		st := r.states[d]
		if !st.known {
			return false
		}
		for i := range readings {
			if st.up && readings[i].Time == 0 {
				return false
			}
		}
	}
	return true
}

func (r *directReading) signal() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Put implements [driver.Sink].
func (r *directReading) Put(d *driver.Device, at time.Time, samples []driver.Sample) driver.Ticket {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.IsZero() {
		at = time.Now()
	}
	for _, s := range samples {
		r.readings[d][s.Point] = telemetry.Reading{Time: at.UnixMilli(), Value: s.Value, Text: s.Text, Quality: telemetry.Check(s.Value, s.Quality)}
	}
	r.signal()
	return 0
}

// Status implements [driver.Sink].
func (r *directReading) Status(d *driver.Device, up bool, reason telemetry.Reason, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := time.Now().UnixMilli()
	if old := r.states[d]; old.known && old.up == up && old.reason == reason {
		since = old.since
	}
	r.states[d] = deviceState{known: true, up: up, reason: reason, detail: detail, since: since}
	r.signal()
}

// Identified implements [driver.Sink].
func (r *directReading) Identified(d *driver.Device, id driver.Identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said[d] = id
}

func (r *directReading) revision(d *driver.Device) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id, ok := r.said[d]; ok {
		return id.Revision
	}
	return d.Revision
}

// Committed implements [driver.Sink]: nothing ever is.
func (r *directReading) Committed(driver.Ticket, func()) {}

// Flush implements [driver.Sink].
func (r *directReading) Flush() bool { return false }

func (r *directReading) state(d *driver.Device) (deviceState, func(int64) time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[d], time.UnixMilli
}

func (r *directReading) reading(d *driver.Device, point int) (telemetry.Reading, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.readings[d]) == 0 {
		return telemetry.Reading{}, false
	}
	v := r.readings[d][point]
	return v, v.Time != 0
}
