package ingest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// staleMarker is the value by which the store and PromQL know that a series has
// no value from here on (Prometheus' StaleNaN).
var staleMarker = math.Float64frombits(0x7ff0000000000002)

// What is wrong with a frame that decodes; it is refused.
var (
	errUntimed   = errors.New("its times are not known yet")
	errWatermark = errors.New("its watermark goes backward")
	errSeries    = errors.New("a reading names a series that its schema does not have")
)

// check says what is wrong with a frame that follows, or nil.
func (e *edge) check(f *wire.Frame, s *schema) error {
	switch {
	case f.Untimed:
		return errUntimed
	case f.W < f.PrevW, !f.Estimated && e.sameRun(f) && f.W < e.w:
		return errWatermark
	}
	n := uint32(s.series)
	for i := range f.Readings {
		if f.Readings[i].Series >= n {
			return fmt.Errorf("%w: %d of %d", errSeries, f.Readings[i].Series, n)
		}
	}
	return nil
}

// sameRun reports whether the frame's watermark goes on from the edge's.
func (e *edge) sameRun(f *wire.Frame) bool {
	return e.hasW && f.Epoch == e.wEpoch && f.Era == e.era
}

// ahead returns the newest time in the frame.
func ahead(f *wire.Frame) int64 {
	t := f.W
	for i := range f.Readings {
		t = max(t, f.Readings[i].Time)
	}
	return t
}

// tally counts what a frame brought.
type tally struct{ readings, late, bad, text, stored, refused int }

// fold appends the frame's readings to the store and shows them to the rules. The
// frame has passed check. An error is the store's.
func (w *worker) fold(e *edge, f *wire.Frame) (n tally, err error) {
	prev := f.PrevW
	if e.sameRun(f) {
		prev = max(prev, e.w)
	}
	if n, err = w.store(e, f, prev); err != nil || f.Estimated {
		return n, err // nobody looks at guessed times but people
	}
	if e.fold != nil {
		w.evaluate(e, f, prev)
	}
	e.hasW, e.w, e.wEpoch, e.era = true, f.W, f.Epoch, f.Era
	return n, nil
}

// store appends all readings.
func (w *worker) store(e *edge, f *wire.Frame, prev int64) (n tally, err error) {
	b := e.cur
	n.readings = len(f.Readings)
	w.late = w.late[:0]
	for i := range f.Readings {
		r := &f.Readings[i]
		s := &b.series[r.Series]
		if s.refused {
			n.refused++
			continue
		}
		q := normal(telemetry.Check(r.Value, r.Quality))
		if f.Estimated && q.Status() == telemetry.Good {
			q = telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonClock)
		}
		r.Quality = q
		late := !e.pushed && (f.Estimated || r.Time <= prev-s.lag || r.Time > f.W-s.lag)
		if late || e.pushed && r.Time <= prev-s.lag {
			w.cameLate(r.Time)
		}
		last, st := &e.onTime[r.Series], streamValue
		if late {
			n.late++
			last, st = &e.late[r.Series], streamLate
		}
		bad := q >= telemetry.NewQuality(telemetry.Bad, 0)
		if bad {
			n.bad++
		}
		switch {
		case s.text:
			n.text++
			if w.g.parts.Texts != nil {
				w.labels = b.labels(w.labels, r.Series, st)
				w.g.parts.Texts.Append(w.labels, r.Time, r.Text, q)
			}
		case !bad:
			n.stored++
			if err = w.append(b, r.Series, st, r.Time, r.Value); err != nil {
				return n, err
			}
		case *last < uint8(telemetry.NewQuality(telemetry.Bad, 0)):
			if err = w.append(b, r.Series, st, r.Time, staleMarker); err != nil {
				return n, err
			}
		}
		if was := *last; was != uint8(q) {
			*last = uint8(q)
			if was == noQuality && q == telemetry.NewQuality(telemetry.Good, 0) {
				continue // good from the beginning is what nobody need be told
			}
			if err = w.append(b, r.Series, st|streamQuality, r.Time, float64(q)); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// cameLate notes the hour of a late reading; those of a series stand together.
func (w *worker) cameLate(t int64) {
	const hour = 3_600_000
	h := (t - 1) / hour
	if n := len(w.late); n == 0 || w.late[n-1] != h {
		w.late = append(w.late, h)
	}
}

// normal maps the status that no version writes to bad, so that noQuality stays
// ours.
func normal(q telemetry.Quality) telemetry.Quality {
	if q >= 0xc0 {
		return telemetry.BadQuality(q.Reason())
	}
	return q
}

// append gives a sample to the store. It knows most series by their reference; what
// it does not know, or has forgotten, it is told the labels of.
func (w *worker) append(b *binding, i uint32, st stream, t int64, v float64) error {
	w.batch++
	ref := &b.series[i].refs[st]
	if *ref != 0 {
		got, err := w.app.Append(*ref, nil, t, v)
		if err != nil {
			return w.unstored(err)
		}
		if got != 0 {
			*ref = got
			return nil
		}
	}
	w.labels = b.labels(w.labels, i, st)
	got, err := w.app.Append(0, w.labels, t, v)
	if err != nil {
		return w.unstored(err)
	}
	*ref = got
	return nil
}

// unstored counts a sample that the store refuses; other errors are the end.
func (w *worker) unstored(err error) error {
	if w.g.cfg.SampleError != nil && w.g.cfg.SampleError(err) {
		w.g.metrics.unstored.Inc()
		return nil
	}
	return fmt.Errorf("ingest: append: %w", err)
}

// cut is an unobserved interval.
type cut struct{ from, to int64 }

// cuts returns the frame's unobserved intervals in the order of the log: its
// marks, and the time between the known watermark and the one that the frame goes
// on from, when nothing else accounts for it.
func (w *worker) cutsOf(e *edge, f *wire.Frame) []cut {
	cuts := w.cuts[:0]
	covered := !e.hasW || e.w == f.PrevW || e.sameRun(f) && f.PrevW < e.w
	for _, m := range f.Marks {
		cuts = append(cuts, cut{m.From, m.To})
		covered = covered || m.Kind != wire.MarkStall && m.From <= e.w && m.To >= f.PrevW
	}
	if !covered {
		cuts = append(cuts, cut{e.w, f.PrevW})
	}
	slices.SortStableFunc(cuts, func(a, b cut) int { return cmp.Compare(a.from, b.from) })
	w.cuts = cuts
	return cuts
}

// evaluate shows the frame's on-time readings to the rules, part by part between
// the unobserved intervals.
func (w *worker) evaluate(e *edge, f *wire.Frame, prev int64) {
	at := prev
	if !e.hasW {
		e.fold.Advance(prev) // the edge looks since then
	}
	if e.pushed {
		for _, c := range w.cutsOf(e, f) {
			e.fold.Unobserved(c.from, c.to)
		}
		e.observe(f, math.MinInt64/2, math.MaxInt64/2) // the rules leave out what is not new
		e.fold.Advance(f.W)
		return
	}
	for _, c := range w.cutsOf(e, f) {
		if c.from > at && c.from <= f.W {
			e.observe(f, at, c.from)
			e.fold.Advance(c.from)
			at = c.from
		}
		e.fold.Unobserved(c.from, c.to)
		w.noteUnobserved(e, c)
	}
	e.observe(f, at, f.W)
	e.fold.Advance(f.W)
}

// unobservedFrom is the shortest unobserved interval that people are shown, in ms.
const unobservedFrom = 10_000

// noteUnobserved tells of an interval that is worth showing to people.
func (w *worker) noteUnobserved(e *edge, c cut) {
	if w.g.cfg.OnUnobserved != nil && c.to-c.from >= unobservedFrom {
		w.g.cfg.OnUnobserved(e.id, time.UnixMilli(c.from), time.UnixMilli(c.to))
	}
}

// observe shows the readings with a time in (after, upTo], each series by its lag.
func (e *edge) observe(f *wire.Frame, after, upTo int64) {
	b := e.cur
	for i := range f.Readings {
		r := &f.Readings[i]
		s := &b.series[r.Series]
		if s.refused {
			continue
		}
		if r.Time <= after-s.lag || r.Time > upTo-s.lag {
			continue
		}
		if s.text {
			e.fold.ObserveText(r.Series, r.Time, r.Text, r.Quality)
			continue
		}
		e.fold.Observe(r.Series, r.Time, r.Value, r.Quality)
	}
}
