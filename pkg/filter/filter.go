package filter

import (
	"math"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Spec says how a series is thinned out. Times are in milliseconds.
type Spec struct {
	// Changes is report by exception: only what differs from the newest reported
	// reading by at least the deadband, or by anything when it is zero.
	Changes  bool
	Deadband Deadband
	Silence  int64 // longest time without a reading that a change allows; with Changes
	Interval int64 // between the readings that come in; 0 when unknown
	// Window joins the readings of so much time into one for each of Outputs.
	Window  int64
	Outputs []Output
	AtMost  int64 // at most one reading in so much time; not with Window
}

// Output is an aggregate of a window and the series that it becomes.
type Output struct {
	Aggregate telemetry.Aggregation
	Series    uint32
}

// Dropped counts readings that were taken in and not reported, by what held them
// back. A reading that went into an aggregate counts under Window.
type Dropped struct{ Deadband, Window, Rate uint64 }

// Filter thins out one series. It is not safe for concurrent use.
type Filter struct {
	spec    Spec
	dropped Dropped
	window  window
	gates   []gate // of the series itself, or of each output
}

// New makes a filter. A Spec with a Window needs an Output.
func New(spec Spec) *Filter {
	return &Filter{spec: spec, gates: make([]gate, max(1, len(spec.Outputs)))}
}

// Put takes a reading in and appends what is to be reported to out. Times of
// readings ascend. floor is the earliest time that is still on time.
func (f *Filter) Put(r telemetry.Reading, floor int64, out []telemetry.Reading) []telemetry.Reading {
	if f.spec.Window == 0 {
		return f.pass(0, r, floor, out)
	}
	out = f.Tick(r.Time, floor, out)
	f.window.add(r, f.spec.Window)
	f.dropped.Window++
	return out
}

// Tick appends what is due at now though nothing came in. Call it before every
// frame; times are then on time.
func (f *Filter) Tick(now, floor int64, out []telemetry.Reading) []telemetry.Reading {
	if f.window.open() && now >= f.window.end {
		return f.emit(max(f.window.end, floor), floor, out)
	}
	if f.spec.AtMost > 0 {
		out = f.release(now, floor, out)
	}
	return out
}

// Flush ends an open window at now. Call it before the last frame.
func (f *Filter) Flush(now, floor int64, out []telemetry.Reading) []telemetry.Reading {
	out = f.Tick(now, floor, out)
	if f.window.open() {
		out = f.emit(max(now, floor), floor, out)
	}
	return out
}

func (f *Filter) emit(at, floor int64, out []telemetry.Reading) []telemetry.Reading {
	for i, o := range f.spec.Outputs {
		r := f.window.aggregate(o.Aggregate)
		r.Series, r.Time = o.Series, at
		out = f.pass(i, r, floor, out)
	}
	f.window = window{}
	return out
}

// Shift follows times that got another name: that of this boot became true time.
func (f *Filter) Shift(offset int64) {
	f.window.shift(offset)
	for i := range f.gates {
		f.gates[i].reported.Time += offset
		f.gates[i].held.Time += offset
	}
}

// Forget begins anew, as after a time in which nobody looked: what is held back
// is dropped, and the next reading is reported.
func (f *Filter) Forget() {
	f.window = window{}
	clear(f.gates)
}

// Dropped returns the counts since New.
func (f *Filter) Dropped() Dropped { return f.dropped }

// gate is report by exception and the rate limit of one outgoing series.
type gate struct {
	known    bool
	reported telemetry.Reading
	holds    bool // a reading came after the reported one and was held back
	waits    bool // it waits for the rate limit
	held     telemetry.Reading
}

// pass takes a reading through gate i.
func (f *Filter) pass(i int, r telemetry.Reading, floor int64, out []telemetry.Reading) []telemetry.Reading {
	g, s := &f.gates[i], &f.spec
	if !g.known {
		return g.report(r, out)
	}
	changed := true
	if s.Changes {
		changed = s.Deadband.leaves(&g.reported, &r)
		if !changed && r.Time+f.every()-g.reported.Time <= s.Silence {
			g.hold(r, false)
			f.dropped.Deadband++
			return out
		}
	}
	if r.Time-g.reported.Time < s.AtMost {
		g.hold(r, true)
		f.dropped.Rate++
		return out
	}
	if changed && g.holds && s.Changes && s.AtMost == 0 {
		before := g.held
		if before.Time = max(before.Time, floor); before.Time < r.Time {
			out = append(out, before)
			f.dropped.Deadband--
		}
	}
	return g.report(r, out)
}

// every is the time between the readings that a gate sees.
func (f *Filter) every() int64 { return max(f.spec.Interval, f.spec.Window) }

// release reports what waited for the rate limit.
func (f *Filter) release(now, floor int64, out []telemetry.Reading) []telemetry.Reading {
	g := &f.gates[0]
	if !g.waits || now-g.reported.Time < f.spec.AtMost {
		return out
	}
	r := g.held
	g.waits = false
	if f.spec.Changes && !f.spec.Deadband.leaves(&g.reported, &r) {
		return out
	}
	r.Time = max(r.Time, g.reported.Time+f.spec.AtMost, floor)
	f.dropped.Rate--
	return g.report(r, out)
}

func (g *gate) report(r telemetry.Reading, out []telemetry.Reading) []telemetry.Reading {
	*g = gate{known: true, reported: r}
	return append(out, r)
}

func (g *gate) hold(r telemetry.Reading, waits bool) {
	g.held, g.holds, g.waits = r, true, g.waits || waits
}

// leaves reports whether b differs from a, the reported reading, by so much that
// it is to be reported.
func (d Deadband) leaves(a, b *telemetry.Reading) bool {
	if a.Quality != b.Quality || a.Text != b.Text {
		return true
	}
	if b.Quality.IsBad() {
		return false // the value of a bad reading means nothing
	}
	step := math.Abs(b.Value - a.Value)
	band := max(d.Absolute, d.Percent/100*math.Abs(a.Value))
	// A step of 0.1 in decimals may be a little less in binary.
	return step > 0 && step >= band*(1-1e-9)
}
