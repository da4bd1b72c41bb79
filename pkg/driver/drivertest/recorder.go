package drivertest

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Limit bounds every wait of the package; it is only reached by a failure.
const Limit = time.Minute

// Reading is a sample as it was put, and when.
type Reading struct {
	driver.Sample
	Put time.Time // by the recorder's clock
	At  time.Time // as the driver gave it
}

// State is what Status said last of a device.
type State struct {
	Known   bool
	Up      bool
	Reason  telemetry.Reason
	Detail  string
	Calls   int
	Changes int // of Up, the first call included
}

// Recorder is a [driver.Sink] that remembers the newest readings of each device
// and notes breaches of the contract. The zero value is ready. It is safe for
// concurrent use.
type Recorder struct {
	mu      sync.Mutex
	changed chan struct{}
	devices map[string]*record
	faults  []string
	ticket  driver.Ticket
}

type record struct {
	readings []Reading
	dropped  int
	state    State
	identity []driver.Identity
}

// keep is how many readings of a device are remembered.
const keep = 20_000

func (r *Recorder) of(d *driver.Device) *record {
	if r.devices == nil {
		r.devices = make(map[string]*record)
	}
	rec := r.devices[d.ID]
	if rec == nil {
		rec = &record{}
		r.devices[d.ID] = rec
	}
	return rec
}

// Put implements [driver.Sink].
func (r *Recorder) Put(d *driver.Device, at time.Time, samples []driver.Sample) driver.Ticket {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(d)
	if len(samples) == 0 {
		r.fault("device %s: Put without samples", d.ID)
	}
	for _, s := range samples {
		switch {
		case s.Point < 0 || s.Point >= len(d.Points):
			r.fault("device %s: no point has index %d", d.ID, s.Point)
		case s.Quality.IsBad() && s.Quality.Reason() == telemetry.ReasonNone:
			r.fault("device %s: point %s is bad without a reason", d.ID, d.Points[s.Point].ID)
		case !s.Quality.IsBad() && (math.IsNaN(s.Value) || math.IsInf(s.Value, 0)):
			r.fault("device %s: point %s is %v and not bad", d.ID, d.Points[s.Point].ID, s.Value)
		}
		rec.readings = append(rec.readings, Reading{Sample: s, Put: time.Now(), At: at})
	}
	if n := len(rec.readings) - keep; n > 0 {
		rec.readings = slices.Delete(rec.readings, 0, n)
		rec.dropped += n
	}
	r.ticket++
	r.signal()
	return r.ticket
}

// Status implements [driver.Sink].
func (r *Recorder) Status(d *driver.Device, up bool, reason telemetry.Reason, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(d)
	switch {
	case up && (reason != telemetry.ReasonNone || detail != ""):
		r.fault("device %s is up, yet has reason %v and detail %q", d.ID, reason, detail)
	case !up && (reason == telemetry.ReasonNone || detail == ""):
		r.fault("device %s is down without reason (%v) or detail (%q)", d.ID, reason, detail)
	}
	if !rec.state.Known || rec.state.Up != up {
		rec.state.Changes++
	}
	rec.state.Known, rec.state.Up, rec.state.Reason, rec.state.Detail = true, up, reason, detail
	rec.state.Calls++
	r.signal()
}

// Identified implements [driver.Sink].
func (r *Recorder) Identified(d *driver.Device, id driver.Identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(d)
	if d.Identify == nil {
		r.fault("device %s is identified, yet was not to be asked", d.ID)
	}
	rec.identity = append(rec.identity, id)
	r.signal()
}

// Identities returns what Identified was told of the device, oldest first.
func (r *Recorder) Identities(device string) []driver.Identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.devices[device]; rec != nil {
		return slices.Clone(rec.identity)
	}
	return nil
}

// Committed implements [driver.Sink]: everything is committed at once.
func (r *Recorder) Committed(_ driver.Ticket, f func()) { f() }

// Flush implements [driver.Sink].
func (r *Recorder) Flush() bool { return true }

func (r *Recorder) fault(format string, args ...any) {
	if len(r.faults) < 20 {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

func (r *Recorder) signal() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// State returns what Status said last of the device.
func (r *Recorder) State(device string) State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.devices[device]; rec != nil {
		return rec.state
	}
	return State{}
}

// Readings returns the remembered readings of a point, oldest first.
func (r *Recorder) Readings(device string, point int) []Reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Reading
	if rec := r.devices[device]; rec != nil {
		for _, x := range rec.readings {
			if x.Point == point {
				out = append(out, x)
			}
		}
	}
	return out
}

// Last returns the newest reading of a point.
func (r *Recorder) Last(device string, point int) (Reading, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.devices[device]; rec != nil {
		for i := len(rec.readings) - 1; i >= 0; i-- {
			if rec.readings[i].Point == point {
				return rec.readings[i], true
			}
		}
	}
	return Reading{}, false
}

// Count returns how many readings of the device were put in all.
func (r *Recorder) Count(device string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.devices[device]; rec != nil {
		return rec.dropped + len(rec.readings)
	}
	return 0
}

// Forget drops the readings, not the states.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.devices {
		rec.readings, rec.dropped = nil, 0
	}
}

// Wait returns when cond holds, which is tried after every Put and Status, and
// fails the test after [Limit].
func (r *Recorder) Wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	limit := time.NewTimer(Limit)
	defer limit.Stop()
	for {
		r.mu.Lock()
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			t.Fatalf("not within %v: %s", Limit, what)
		}
	}
}

// Check fails the test for every breach of the sink's contract.
func (r *Recorder) Check(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		t.Error(f)
	}
}
