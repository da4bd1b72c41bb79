package local

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/history"
)

const (
	minute = int64(time.Minute / time.Millisecond)
	hour   = 60 * minute
)

// longRig is a store with long history whose clock the test moves.
type longRig struct {
	t    *testing.T
	dir  string
	now  atomic.Int64
	s    *Store
	gone int64 // up to here samples are gone
}

var longQuantities = telemetry.Quantities{
	"air_temperature": {Aggregate: telemetry.AggregateMean},
	"rain":            {Aggregate: telemetry.AggregateSum},
	"door_state":      {Aggregate: telemetry.AggregateLast},
	"gust":            {Aggregate: telemetry.AggregateMax},
	"wind_direction":  {Aggregate: telemetry.AggregateVectorMean},
}

func newLongRig(t *testing.T) *longRig {
	r := &longRig{t: t, dir: t.TempDir()}
	r.now.Store(t0)
	r.open()
	return r
}

func (r *longRig) open() {
	r.s = mustOpen(r.t, r.dir, func(o *Options) {
		o.Now, o.Retention, o.OutOfOrder, o.SegmentSize = r.now.Load, 60*24*time.Hour, 20*24*time.Hour, 0
		o.Long = &history.Options{Aggregate: history.Aggregations(longQuantities), Duty: 1, CorrectEvery: time.Millisecond}
	})
	r.s.stop() // the test says when
	<-r.s.done
	r.catch()
}

// catch computes what can be computed at the rig's time.
func (r *longRig) catch() {
	r.t.Helper()
	check(r.t, r.s.long.Catch(context.Background(), hiding{samples{r.s}, r.gone}))
}

// fill appends samples of all quantities to (from, to], about every minute, with holes
// and staleness markers; and first moves the clock to the end when it is before.
func (r *longRig) fill(rng *rand.Rand, from, to int64, points ...string) {
	r.t.Helper()
	r.now.Store(max(r.now.Load(), to))
	app := r.s.Appender()
	for q := range longQuantities {
		for _, p := range points {
			set := telemetry.NewLabels(map[string]string{tsdb.NameLabel: q, "point": p})
			for at := from + 1 + rng.Int64N(60_000); at <= to; at += 1 + rng.Int64N(120_000) {
				if rng.IntN(200) == 0 {
					_, err := app.Append(0, set, at, tsdb.StaleMarker())
					check(r.t, err)
					at += rng.Int64N(hour)
					continue
				}
				v := math.Round(rng.Float64()*3600) / 10
				_, err := app.Append(0, set, at, v)
				check(r.t, err)
			}
			check(r.t, app.Commit())
		}
	}
}

// forget lets the samples up to a time be gone, as retention does.
func (r *longRig) forget(upTo int64) {
	r.gone = upTo
	r.s.long.Gone(upTo)
}

// lose takes all samples away and leaves long history.
func (r *longRig) lose() {
	r.t.Helper()
	check(r.t, r.s.Close())
	entries, err := os.ReadDir(r.dir)
	check(r.t, err)
	for _, e := range entries {
		if e.Name() != historyDir {
			check(r.t, os.RemoveAll(filepath.Join(r.dir, e.Name())))
		}
	}
	r.open()
}

// hiding are samples of which the older ones are gone.
type hiding struct {
	samples
	upTo int64
}

func (h hiding) Oldest() int64 { return max(h.samples.Oldest(), h.upTo+1) }

func (h hiding) Queryable() storage.Queryable {
	return storage.QueryableFunc(func(from, to int64) (storage.Querier, error) {
		q, err := h.samples.Queryable().Querier(max(from, h.upTo+1), max(to, h.upTo+1))
		return hidingQuerier{q, h.upTo}, err
	})
}

type hidingQuerier struct {
	storage.Querier
	upTo int64
}

func (q hidingQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	if hints != nil {
		if hints.End <= q.upTo {
			return storage.EmptySeriesSet()
		}
		cut := *hints
		cut.Start = max(cut.Start, q.upTo+1)
		hints = &cut
	}
	return q.Querier.Select(ctx, sorted, hints, matchers...)
}

// store is what the hub's queries see.
func (r *longRig) store() storage.Queryable { return r.s.long.Queryable(hiding{samples{r.s}, r.gone}) }

func (r *longRig) query(q storage.Queryable, expr string, start, end, step int64) (promql.Matrix, []string) {
	r.t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e8, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	defer func() { check(r.t, engine.Close()) }()
	x, err := engine.NewRangeQuery(context.Background(), q, nil, expr, time.UnixMilli(start), time.UnixMilli(end), time.Duration(step)*time.Millisecond)
	check(r.t, err)
	defer x.Close()
	res := x.Exec(context.Background())
	check(r.t, res.Err)
	m, err := res.Matrix()
	check(r.t, err)
	var out promql.Matrix
	for _, s := range m {
		s.Floats = append([]promql.FPoint(nil), s.Floats...)
		out = append(out, s)
	}
	warnings, _ := res.Warnings.AsStrings(expr, 10, 10)
	return out, warnings
}

func (r *longRig) raw(expr string, start, end, step int64) promql.Matrix {
	r.t.Helper()
	m, _ := r.query(guarded{r.s}, expr, start, end, step)
	return m
}

func (r *longRig) both(expr string, start, end, step int64) promql.Matrix {
	r.t.Helper()
	m, w := r.query(r.store(), expr, start, end, step)
	if len(w) > 0 {
		r.t.Errorf("%s: warnings %q", expr, w)
	}
	return m
}

// near compares results; values may differ by the share tolerance.
func near(t *testing.T, what string, want, got promql.Matrix, tolerance float64) {
	t.Helper()
	if len(want) == 0 || len(want) != len(got) {
		t.Errorf("%s: %d series, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if want[i].Metric.String() != got[i].Metric.String() || len(want[i].Floats) != len(got[i].Floats) {
			t.Errorf("%s: %s with %d points, want %s with %d", what, got[i].Metric, len(got[i].Floats), want[i].Metric, len(want[i].Floats))
			return
		}
		for j, w := range want[i].Floats {
			g := got[i].Floats[j]
			if w.T != g.T || math.Abs(w.F-g.F) > tolerance*max(1, math.Abs(w.F)) {
				t.Errorf("%s: %s has %v at %d, want %v at %d", what, want[i].Metric, g.F, g.T, w.F, w.T)
				return
			}
		}
	}
}

// exact are queries that buckets answer as samples do, whatever lies in them.
var exact = []string{
	"min_over_time(air_temperature[%s])", "max_over_time(air_temperature[%s])", "max_over_time(gust[%s])",
	"sum_over_time(rain[%s])", "last_over_time(door_state[%s])", "min_over_time(wind_direction[%s])",
	`max_over_time({__name__=~"gust|no_such.*"}[%s])`, "present_over_time(rain[%s])", "sum by (point) (max_over_time(gust[%s]))",
}

func TestBucketsAnswerWhatSamplesWould(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(6, 6))
	r := newLongRig(t)
	from, to := t0, t0+3*day
	r.fill(rng, from, to+2*hour, "a", "b")
	r.now.Store(to + 2*hour)
	r.catch()
	if n := r.s.long.Stats().Sets; n != 3 {
		t.Fatalf("%d sets of three days", n)
	}
	type asked struct {
		expr       string
		start, end int64
		step       int64
	}
	var ask []asked
	for _, e := range exact {
		for _, step := range []int64{5 * minute, 15 * minute, hour, 6 * hour} {
			ask = append(ask, asked{fmt.Sprintf(e, time.Duration(step)*time.Millisecond), from + step, to + hour, step})
		}
	}
	want := make([]promql.Matrix, len(ask))
	for i, a := range ask {
		want[i] = r.raw(a.expr, a.start, a.end, a.step)
		near(t, "beside the samples: "+a.expr, want[i], r.both(a.expr, a.start, a.end, a.step), 1e-12)
	}
	mean := r.raw("avg_over_time(air_temperature[5m])", from+5*minute, to, 5*minute)
	near(t, "mean", mean, r.both("avg_over_time(air_temperature[5m])", from+5*minute, to, 5*minute), 1e-6)
	near(t, "plain selector", mean, renamed(r.both("air_temperature", from+5*minute, to, 5*minute)), 1e-6)

	// Windows that do not end where buckets do look at samples.
	skew := r.raw("max_over_time(gust[1h])", from+hour+1234, to, hour)
	near(t, "skewed windows", skew, r.both("max_over_time(gust[1h])", from+hour+1234, to, hour), 0)
	fine := r.raw("air_temperature", from, from+hour, 30_000)
	near(t, "fine steps", fine, r.both("air_temperature", from, from+hour, 30_000), 0)
	odd := r.raw("quantile_over_time(0.9, air_temperature[1h])", from+hour, to, hour)
	near(t, "quantiles", odd, r.both("quantile_over_time(0.9, air_temperature[1h])", from+hour, to, hour), 0)

	r.forget(to - 12*hour)
	for i, a := range ask {
		near(t, "after the samples: "+a.expr, want[i], r.both(a.expr, a.start, a.end, a.step), 1e-12)
	}
	if m := r.both("air_temperature", from+5*minute, from+day, minute); len(m) != 2 || len(m[0].Floats) < 1200 {
		t.Errorf("a fine query of a time without samples: %d series", len(m))
	}
	got, warnings := r.query(r.store(), "quantile_over_time(0.9, air_temperature[1h])", from+hour, to, hour)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "quantile_over_time cannot be made of long history") {
		t.Errorf("warnings %q", warnings)
	}
	if len(got) != 2 || got[0].Floats[0].T <= to-12*hour {
		t.Errorf("quantiles of a time without samples: %v", got)
	}
	gone, err := tsdb.ReadSamples(context.Background(), r.store(), from, from+day, tsdb.Match{Name: "point", Value: "a"})
	check(t, err)
	if len(gone) > 0 {
		t.Errorf("buckets pass for samples: %d series", len(gone))
	}
	names, err := tsdb.ReadSeries(context.Background(), r.store(), from, from+hour, tsdb.Match{Name: "point", Value: "a"})
	check(t, err)
	if len(names) != len(longQuantities) {
		t.Errorf("%d series of a time without samples, want %d", len(names), len(longQuantities))
	}
	q, err := r.store().Querier(from, from+hour)
	check(t, err)
	values, _, err := q.LabelValues(context.Background(), tsdb.NameLabel, nil)
	check(t, err)
	if len(values) != len(longQuantities) {
		t.Errorf("metrics %q of a time without samples", values)
	}
	check(t, q.Close())
}

// renamed drops the metric's name, as functions do.
func renamed(m promql.Matrix) promql.Matrix {
	for i := range m {
		m[i].Metric = m[i].Metric.DropReserved(func(n string) bool { return n == tsdb.NameLabel })
	}
	return m
}

func TestLateSamplesCorrectTheDayTheyBelongTo(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	r := newLongRig(t)
	to := t0 + 3*day
	r.fill(rng, t0, to+2*hour, "a")
	r.catch()
	before, err := filepath.Glob(filepath.Join(r.dir, "history/5m/*"))
	check(t, err)
	r.fill(rng, t0+day+3*hour, t0+day+5*hour, "a", "late")
	check(t, r.s.Sync())
	if st := r.s.Stats(); st.LongLate != 2 {
		t.Errorf("%d slices wait, want the two that were touched", st.LongLate)
	}
	all := func(what string) {
		t.Helper()
		for _, e := range exact {
			e = fmt.Sprintf(e, "15m")
			near(t, what+e, r.raw(e, t0+15*minute, to, 15*minute), r.both(e, t0+15*minute, to, 15*minute), 1e-12)
		}
	}
	all("before the correction: ")
	check(t, r.s.Close()) // what was noted outlives the process
	r.open()
	if st := r.s.Stats(); st.LongLate != 0 {
		t.Errorf("%d slices wait after the correction", st.LongLate)
	}
	all("after the correction: ")
	after, err := filepath.Glob(filepath.Join(r.dir, "history/5m/*"))
	check(t, err)
	if len(before) != 3 || len(after) != 3 || before[0] != after[0] || before[1] == after[1] || before[2] != after[2] {
		t.Errorf("sets before %q and after %q: the second alone should differ", before, after)
	}
	r.forget(to)
	if m := r.both("max_over_time(gust[1h])", t0+hour, to, hour); len(m) != 2 {
		t.Errorf("%d series are left of the samples, want both", len(m))
	}
}

func TestOfTwoBucketsTheOneOfMoreSamplesStands(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(8, 8))
	r := newLongRig(t)
	r.fill(rng, t0, t0+day+2*hour, "a")
	r.catch()
	want := r.both("max_over_time(gust[1h])", t0+hour, t0+day, hour)
	r.lose()
	r.fill(rng, t0+6*hour, t0+6*hour+120_000, "a") // a late sample of a time whose samples are gone
	r.catch()
	near(t, "after a late sample", want, r.both("max_over_time(gust[1h])", t0+hour, t0+day, hour), 0)
}

func TestDaysBecomeMonthsAndHours(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(9, 9))
	r := newLongRig(t) // t0 is the first of January 2026
	jan, feb := t0, t0+31*day
	for d := int64(0); d < 31; d += 6 {
		r.fill(rng, jan+d*day+10*hour, jan+d*day+14*hour, "a")
	}
	r.now.Store(feb + 2*hour)
	r.catch()
	if n := r.s.long.Stats().Sets; n != 6 {
		t.Fatalf("%d sets of the six days that have samples", n)
	}
	ask := func(step int64) (out []promql.Matrix) {
		for _, e := range exact {
			out = append(out, r.both(fmt.Sprintf(e, time.Duration(step)*time.Millisecond), jan+step, feb, step))
		}
		return out
	}
	five, hours := ask(15*minute), ask(2*hour)
	plain := r.both("sum_over_time(rain[1h])", jan+hour, feb, hour)
	r.now.Store(feb + 21*day + hour)
	r.catch()
	st := r.s.long.Stats()
	if st.Sets != 2 || st.Hours != jan || st.FiveMinutes != jan {
		t.Fatalf("%+v, want a set of a month and its hours", st)
	}
	for i, got := range ask(15 * minute) {
		near(t, "five minutes of a month: "+exact[i], five[i], got, 0)
	}
	for i, got := range ask(2 * hour) {
		near(t, "hours of a month: "+exact[i], hours[i], got, 1e-9)
	}
	r.forget(feb)
	near(t, "rain of an hour", plain, renamed(r.both("sum_over_time(rain[1h])", jan+hour, feb, hour)), 1e-9)
	day5 := r.both("avg_over_time(air_temperature[1h])", jan+hour, feb, hour)
	if len(day5) != 1 || len(day5[0].Floats) != 6*4 {
		t.Errorf("hourly means: %d series", len(day5))
	}
	if m := r.both("air_temperature", jan+11*hour+1, jan+13*hour, 7*hour); len(m) != 1 {
		t.Errorf("a plain selector at a time within an hour finds %d series", len(m))
	}

	// After the five minutes the hours are left.
	r.now.Store(jan + 3*365*day + 40*day)
	r.catch()
	if st := r.s.long.Stats(); st.Sets != 1 || st.Hours != jan || st.FiveMinutes != 0 {
		t.Fatalf("%+v, want the hours alone", st)
	}
	near(t, "max from hours alone", hours[2], r.both("max_over_time(gust[2h])", jan+2*hour, feb, 2*hour), 0)
	if m := r.both("gust", jan+10*hour+minute, jan+14*hour, minute); len(m) != 1 || len(m[0].Floats) < 235 {
		t.Errorf("a fine query finds %v", len(m))
	}
	r.now.Store(jan + 10*365*day + 40*day)
	r.catch()
	if st := r.s.long.Stats(); st.Sets != 0 {
		t.Errorf("%+v, want nothing after ten years", st)
	}
}

func TestComputingThatWasBrokenOffIsDoneAgain(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(10, 10))
	r := newLongRig(t)
	r.fill(rng, t0, t0+day+2*hour, "a")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.s.long.Catch(ctx, samples{r.s}); err == nil {
		t.Error("a canceled computation ends well")
	}
	check(t, r.s.Close())
	rest := filepath.Join(r.dir, "history/5m/20260101-01KE0000000000000000000000.tmp")
	check(t, os.MkdirAll(filepath.Join(rest, "value"), 0o755)) // as a power cut leaves it
	r.open()
	if st := r.s.long.Stats(); st.Sets != 1 {
		t.Errorf("%+v, want the day", st)
	}
	if _, err := os.Stat(rest); !os.IsNotExist(err) {
		t.Errorf("what was broken off is still there: %v", err)
	}
}

func TestADamagedSetIsSetAsideAndComputedAnew(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(11, 11))
	r := newLongRig(t)
	r.fill(rng, t0, t0+day+2*hour, "a")
	r.catch()
	check(t, r.s.Close())
	files, err := filepath.Glob(filepath.Join(r.dir, "history/5m/*/min/index"))
	check(t, err)
	check(t, os.Truncate(files[0], 100))
	r.open()
	e := "min_over_time(air_temperature[15m])"
	near(t, e, r.raw(e, t0+15*minute, t0+day, 15*minute), r.both(e, t0+15*minute, t0+day, 15*minute), 0)
	aside, err := filepath.Glob(filepath.Join(r.dir, "history/5m/.corrupt-*"))
	check(t, err)
	if len(aside) != 1 || r.s.long.Stats().Sets != 1 {
		t.Errorf("set aside %q, %+v", aside, r.s.long.Stats())
	}
}
