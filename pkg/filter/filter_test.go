package filter_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/filter"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const second, minute = int64(1000), int64(60_000)

var noAnswer = telemetry.BadQuality(telemetry.ReasonNoAnswer)

func at(t int64, v float64) telemetry.Reading { return telemetry.Reading{Time: t, Value: v} }

// line runs a filter as the agent does: a frame every second, whose watermark no
// later reading may lie behind.
type line struct {
	t *testing.T
	f *filter.Filter
	w int64
	rs,
	out []telemetry.Reading
}

func (l *line) put(r telemetry.Reading) {
	l.t.Helper()
	for l.w+second < r.Time {
		l.cut(l.w + second)
	}
	l.take(l.f.Put(r, l.w+1, l.rs[:0]))
}

func (l *line) cut(w int64) {
	l.t.Helper()
	l.take(l.f.Tick(w, l.w+1, l.rs[:0]))
	l.w = w
}

func (l *line) take(rs []telemetry.Reading) {
	l.t.Helper()
	for _, r := range rs {
		if r.Time <= l.w {
			l.t.Fatalf("%+v is late: the watermark stands at %d", r, l.w)
		}
		for i := len(l.out) - 1; i >= 0; i-- {
			if o := l.out[i]; o.Series == r.Series {
				if o.Time >= r.Time {
					l.t.Fatalf("%+v after %+v", r, o)
				}
				break
			}
		}
		l.out = append(l.out, r)
	}
	l.rs = rs
}

func run(t *testing.T, spec filter.Spec, rs ...telemetry.Reading) ([]telemetry.Reading, filter.Dropped) {
	t.Helper()
	l := &line{t: t, f: filter.New(spec)}
	for _, r := range rs {
		l.put(r)
	}
	return l.out, l.f.Dropped()
}

func TestReadingsAreThinnedOut(t *testing.T) {
	changes := filter.Spec{Changes: true, Deadband: filter.Deadband{Absolute: 0.1}, Silence: minute, Interval: 5 * second}
	for name, c := range map[string]struct {
		spec     filter.Spec
		in, want []telemetry.Reading
		dropped  filter.Dropped
	}{
		"only what leaves the deadband, and the reading before it": {
			changes,
			[]telemetry.Reading{at(5000, 20), at(10_000, 20.05), at(15_000, 19.95), at(20_000, 20.2), at(25_000, 20.2)},
			[]telemetry.Reading{at(5000, 20), at(19_001, 19.95), at(20_000, 20.2)},
			filter.Dropped{Deadband: 2},
		},
		"a step of just the deadband, whatever binary makes of it": {
			changes,
			[]telemetry.Reading{at(5000, 0.2), at(10_000, 0.3), at(15_000, 0.4)},
			[]telemetry.Reading{at(5000, 0.2), at(10_000, 0.3), at(15_000, 0.4)},
			filter.Dropped{},
		},
		"in percent of the reported value": {
			filter.Spec{Changes: true, Deadband: filter.Deadband{Percent: 10}, Silence: minute, Interval: 5 * second},
			[]telemetry.Reading{at(5000, 100), at(10_000, 109), at(15_000, 110), at(20_000, 100), at(25_000, 0), at(30_000, 0.001)},
			[]telemetry.Reading{at(5000, 100), at(14_001, 109), at(15_000, 110), at(24_001, 100), at(25_000, 0), at(30_000, 0.001)},
			filter.Dropped{},
		},
		"the silence is kept against the interval": {
			filter.Spec{Changes: true, Silence: 12 * second, Interval: 5 * second},
			[]telemetry.Reading{at(5000, 1), at(10_000, 1), at(15_000, 1), at(20_000, 1), at(25_000, 1)},
			[]telemetry.Reading{at(5000, 1), at(15_000, 1), at(25_000, 1)},
			filter.Dropped{Deadband: 2},
		},
		"quality and text are changes": {
			changes,
			[]telemetry.Reading{at(5000, 1), {Time: 10_000, Quality: noAnswer}, {Time: 15_000, Quality: noAnswer, Value: 7}, at(20_000, 1), {Time: 25_000, Value: 1, Text: "x"}},
			[]telemetry.Reading{at(5000, 1), {Time: 10_000, Quality: noAnswer}, {Time: 19_001, Quality: noAnswer, Value: 7}, at(20_000, 1), {Time: 25_000, Value: 1, Text: "x"}},
			filter.Dropped{},
		},
		"a rate limit ends on the newest value": {
			filter.Spec{AtMost: 10 * second},
			[]telemetry.Reading{at(1000, 1), at(1500, 2), at(2000, 0), at(60_000, 5)},
			[]telemetry.Reading{at(1000, 1), at(11_000, 0), at(60_000, 5)},
			filter.Dropped{Rate: 1},
		},
		"what came back meanwhile is no change": {
			filter.Spec{Changes: true, Deadband: filter.Deadband{Absolute: 1}, Silence: minute, AtMost: 10 * second},
			[]telemetry.Reading{at(1000, 1), at(1500, 5), at(2000, 1), at(30_000, 5)},
			[]telemetry.Reading{at(1000, 1), at(30_000, 5)},
			filter.Dropped{Rate: 1, Deadband: 1},
		},
		"a window ends by the clock, though nothing comes": {
			filter.Spec{Window: minute, Outputs: []filter.Output{{Aggregate: "mean"}, {Aggregate: "max", Series: 1}, {Aggregate: "min", Series: 2}, {Aggregate: "last", Series: 3}, {Aggregate: "sum", Series: 4}}},
			[]telemetry.Reading{at(61_000, 1), at(90_000, 4), at(119_999, 1), at(200_000, 9)},
			[]telemetry.Reading{{Time: 120_000, Value: 2}, {Time: 120_000, Value: 4, Series: 1}, {Time: 120_000, Value: 1, Series: 2}, {Time: 120_000, Value: 1, Series: 3}, {Time: 120_000, Value: 6, Series: 4}},
			filter.Dropped{Window: 4},
		},
		"directions are averaged around the north": {
			filter.Spec{Window: 10 * second, Outputs: []filter.Output{{Aggregate: "vector_mean"}}},
			[]telemetry.Reading{at(1000, 350), at(2000, 20), at(11_000, 0), at(12_000, 180), at(25_000, 0)},
			[]telemetry.Reading{at(10_000, 5), at(20_000, 180)},
			filter.Dropped{Window: 5},
		},
		"bad readings take no part, and show": {
			filter.Spec{Window: 10 * second, Outputs: []filter.Output{{Aggregate: "mean"}}},
			[]telemetry.Reading{
				at(1000, 4),
				{Time: 2000, Quality: noAnswer},
				at(11_000, 4),
				{Time: 12_000, Quality: noAnswer},
				{Time: 13_000, Quality: noAnswer},
				{Time: 21_000, Quality: noAnswer},
				at(31_000, 1),
			},
			[]telemetry.Reading{
				at(10_000, 4),
				{Time: 20_000, Value: 4, Quality: telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonNoAnswer)},
				{Time: 30_000, Quality: noAnswer},
			},
			filter.Dropped{Window: 7},
		},
		"aggregates by exception": {
			filter.Spec{Window: 10 * second, Changes: true, Deadband: filter.Deadband{Absolute: 1}, Silence: minute, Outputs: []filter.Output{{Aggregate: "max"}}},
			[]telemetry.Reading{at(1000, 4), at(11_000, 4), at(21_000, 9), at(31_000, 9)},
			[]telemetry.Reading{at(10_000, 4), at(29_001, 4), at(30_000, 9)},
			filter.Dropped{Window: 4},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, dropped := run(t, c.spec, c.in...)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.dropped, dropped); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAWindowIsEndedByHandAndForgotten(t *testing.T) {
	spec := filter.Spec{Window: minute, Outputs: []filter.Output{{Aggregate: "last"}}}
	f := filter.New(spec)
	f.Put(at(1000, 5), 1, nil)
	if got := f.Flush(2000, 1500, nil); len(got) != 1 || got[0] != at(2000, 5) {
		t.Errorf("flushed %v", got)
	}
	f.Put(at(3000, 6), 1, nil)
	f.Shift(10 * minute)
	if got := f.Tick(11*minute, 1, nil); len(got) != 1 || got[0] != at(11*minute, 6) {
		t.Errorf("after the time got its true name: %v", got)
	}
	f.Put(at(700_000, 7), 1, nil)
	f.Forget()
	if got := f.Flush(800_000, 1, nil); len(got) != 0 {
		t.Errorf("forgotten, yet %v", got)
	}
	g := filter.New(filter.Spec{Changes: true, Silence: minute})
	g.Put(at(1000, 5), 1, nil)
	g.Forget()
	if got := g.Put(at(2000, 5), 1, nil); len(got) != 1 {
		t.Error("a reading after a time in which nobody looked must be reported")
	}
}

// held returns the value that stands at a time.
func held(rs []telemetry.Reading, t int64) (telemetry.Reading, bool) {
	for i := len(rs) - 1; i >= 0; i-- {
		if rs[i].Time <= t {
			return rs[i], true
		}
	}
	return telemetry.Reading{}, false
}

func TestByExceptionWhatStandsIsNeverFurtherOffThanTheDeadband(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 7))
	for range 300 {
		spec := filter.Spec{Changes: true, Silence: minute, Interval: second + rng.Int64N(9*second)}
		if rng.IntN(2) == 0 {
			spec.Deadband.Absolute = rng.Float64()
		} else {
			spec.Deadband.Percent = 10 * rng.Float64()
		}
		var in []telemetry.Reading
		v, now := 50.0, int64(0)
		for range 200 {
			now += spec.Interval
			v += rng.NormFloat64() * float64(rng.IntN(3))
			r := at(now, math.Round(v*10)/10)
			if rng.IntN(20) == 0 {
				r.Quality = noAnswer
			}
			in = append(in, r)
		}
		out, dropped := run(t, spec, in...)
		if n := len(out) + int(dropped.Deadband); n != len(in) {
			t.Fatalf("%d reported and %d dropped of %d", len(out), dropped.Deadband, len(in))
		}
		for _, r := range in {
			h, _ := held(out, r.Time)
			band := max(spec.Deadband.Absolute, spec.Deadband.Percent/100*math.Abs(h.Value))
			if h.Quality != r.Quality || !r.Quality.IsBad() && math.Abs(h.Value-r.Value) > band+1e-9 {
				t.Fatalf("%+v stands where %+v was read", h, r)
			}
			if r.Time-h.Time > spec.Silence {
				t.Fatalf("%d ms of silence before %d", r.Time-h.Time, r.Time)
			}
		}
	}
}

// episodes is a threshold rule over held values: when it begins and ends.
func episodes(rs []telemetry.Reading, limit float64) (at []int64) {
	on := false
	for _, r := range rs {
		if now := !r.Quality.IsBad() && r.Value > limit; now != on {
			on = now
			at = append(at, r.Time)
		}
	}
	return at
}

func TestARuleSeesTheSameEpisodesByException(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 9))
	for range 300 {
		// Values stay further from the limit than the deadband: noise of less
		// than half of it around levels that are whole.
		spec := filter.Spec{Changes: true, Deadband: filter.Deadband{Absolute: 0.5}, Silence: minute, Interval: 3 * second}
		var in []telemetry.Reading
		level := 10.0
		for i := range 300 {
			if rng.IntN(10) == 0 {
				level = 10 + float64(rng.IntN(5))
			}
			r := at(int64(i+1)*3*second, level+0.4*(rng.Float64()-0.5))
			if rng.IntN(30) == 0 {
				r.Quality = noAnswer
			}
			in = append(in, r)
		}
		out, _ := run(t, spec, in...)
		if diff := cmp.Diff(episodes(in, 12.5), episodes(out, 12.5)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestARateLimitHoldsAndEndsOnTheNewestValue(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		spec := filter.Spec{AtMost: 2 * second}
		if rng.IntN(2) == 0 {
			spec.Changes, spec.Silence, spec.Deadband.Absolute = true, minute, 1
		}
		l := &line{t: t, f: filter.New(spec)}
		now, last := int64(0), telemetry.Reading{}
		for range 300 {
			now += 1 + rng.Int64N(4*second)*rng.Int64N(2)
			last = at(now, float64(rng.IntN(6)))
			l.put(last)
		}
		for range 5 {
			l.cut(l.w + second)
		}
		for i := 1; i < len(l.out); i++ {
			if l.out[i].Time-l.out[i-1].Time < spec.AtMost {
				t.Fatalf("%+v so soon after %+v", l.out[i], l.out[i-1])
			}
		}
		end := l.out[len(l.out)-1]
		if d := math.Abs(end.Value - last.Value); d >= 1 {
			t.Fatalf("ends on %v, the newest was %v", end.Value, last.Value)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	f := filter.New(filter.Spec{Changes: true, Deadband: filter.Deadband{Absolute: 0.5}, Silence: minute, Interval: second})
	var out []telemetry.Reading
	b.ReportAllocs()
	for i := range b.N {
		out = f.Put(at(int64(i)*second, float64(i%7)*0.1), int64(i)*second-500, out[:0])
	}
}
