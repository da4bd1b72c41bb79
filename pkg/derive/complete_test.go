package derive

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/langbiang/langbiang/pkg/airindex"
)

// derived returns what a query would see of a derived quantity: by device and end of the
// hour or day since the first midnight, the newest correction.
func (r *rig) derived(quantity string) map[string]map[time.Duration]float64 {
	r.t.Helper()
	q, err := r.db.Querier(0, math.MaxInt64/2)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	out := map[string]map[time.Duration]float64{}
	set := q.Select(r.t.Context(), false, nil, equal("edge", "derived"), equal("__name__", quantity))
	for set.Next() {
		device := set.At().Labels().Get("device")
		out[device] = map[time.Duration]float64{}
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			t, v := it.At()
			out[device][time.Duration((t/1000+1)*1000-midnight.UnixMilli())*time.Millisecond] = v
		}
	}
	return out
}

func TestHowCompleteHoursAndDaysAre(t *testing.T) {
	r := newRig(t)
	r.series = []Series{{"d", "air_temperature", 90_000}, {"d", "relative_humidity", 90_000}, {"gone", "x", 90_000}}
	for m := 1; m <= 24*60; m++ {
		if h := (m - 1) / 60; h != 5 && h != 6 {
			r.reading("air_temperature", time.Duration(m)*time.Minute, 20)
		}
		if m <= 720+30 {
			r.reading("relative_humidity", time.Duration(m)*time.Minute, 20)
		}
	}
	r.step(24 * time.Hour)
	day := r.derived(Complete)
	if v := day["e1/d"][24*time.Hour]; math.Abs(v-(22.0/24+12.5/24)/2*100) > 0.2 || day["e1/gone"][24*time.Hour] != 0 {
		t.Errorf("days: %v", day)
	}
	hours := r.derived(CompleteHour)["e1/d"]
	for h, want := range map[int]float64{2: 100, 6: 51.3, 12: 100, 13: 76.3, 14: 50} {
		// A reading covers the 90 s after it, a hole too.
		if v := hours[time.Duration(h)*time.Hour]; math.Abs(v-want) > 0.5 {
			t.Errorf("the hour up to %d:00 is %v %%, want %v", h, v, want)
		}
	}
	if len(hours) != 24 {
		t.Errorf("%d hours: those before the first reading of a new edge are not counted", len(hours))
	}
	// The hole is filled late: its hours and the day are corrected.
	for m := 5*60 + 1; m <= 7*60; m++ {
		r.reading("air_temperature", time.Duration(m)*time.Minute, 20, "late", "1")
	}
	r.d.Late("e1", []int64{HourOf(midnight.Add(5*time.Hour).UnixMilli() + 1), HourOf(midnight.Add(6*time.Hour).UnixMilli() + 1)})
	r.step(24*time.Hour + time.Minute)
	if v := r.derived(CompleteHour)["e1/d"][6*time.Hour]; v != 100 {
		t.Errorf("a corrected hour: %v", v)
	}
	if v := r.derived(Complete)["e1/d"][24*time.Hour]; math.Abs(v-(1+12.5/24)/2*100) > 0.2 {
		t.Errorf("the corrected day: %v", v)
	}
	// An outage counts: nothing comes for three days.
	r.reading("air_temperature", 96*time.Hour, 20)
	r.step(96 * time.Hour)
	if v, ok := r.derived(Complete)["e1/d"][72*time.Hour]; !ok || v != 0 {
		t.Errorf("a day without readings: %v, %v", v, ok)
	}
}

// Readings at random, some of them late, some devices slow: hours and days are those of
// a count by the second.
func TestCompletenessByTheSecond(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t)
			r.series = []Series{{"d", "air_temperature", 90_000}, {"d", "rain_amount", 5_400_000}, {"slow", "water_level", 7_200_000}}
			covered := map[string][]bool{} // of each second of the day, by point
			read := func(device, point string, stands, every time.Duration) {
				covered[point] = make([]bool, 24*3600)
				for at := time.Second; at <= 24*time.Hour; at += every/2 + time.Duration(rnd.Int64N(int64(every))).Truncate(time.Second) {
					if rnd.IntN(20) == 0 {
						at += time.Duration(rnd.Int64N(int64(4 * time.Hour))).Truncate(time.Second)
						if at > 24*time.Hour {
							break
						}
					}
					more := []string{"device", device}
					if rnd.IntN(4) == 0 {
						more = append(more, "late", "1")
					}
					r.append(midnight.Add(at).UnixMilli(), 1, append([]string{"__name__", point, "edge", "e1", "point", point, "site", "24848"}, more...)...)
					for s := int(at / time.Second); s < min(int((at+stands)/time.Second), 24*3600); s++ {
						covered[point][s] = true
					}
				}
			}
			read("d", "air_temperature", 90*time.Second, time.Minute)
			read("d", "rain_amount", 90*time.Minute, time.Hour)
			read("slow", "water_level", 2*time.Hour, time.Hour)
			// In several steps, as time goes on.
			for h := 1; h <= 24; h += 1 + rnd.IntN(5) {
				r.step(time.Duration(h) * time.Hour)
			}
			r.step(24 * time.Hour)
			share := func(points []string, from, to int) float64 {
				n := 0
				for _, p := range points {
					for s := from; s < to; s++ {
						if covered[p][s] {
							n++
						}
					}
				}
				return 100 * float64(n) / float64((to-from)*len(points))
			}
			for device, points := range map[string][]string{"e1/d": {"air_temperature", "rain_amount"}, "e1/slow": {"water_level"}} {
				hours := r.derived(CompleteHour)[device]
				for h := range 24 {
					if got, want := hours[time.Duration(h+1)*time.Hour], share(points, h*3600, (h+1)*3600); math.Abs(got-want) > 0.06 {
						t.Errorf("%s: hour %d is %v, want %v", device, h, got, want)
					}
				}
				if got, want := r.derived(Complete)[device][24*time.Hour], share(points, 0, 24*3600); math.Abs(got-want) > 0.11 {
					t.Errorf("%s: the day is %v, want %v", device, got, want)
				}
			}
		})
	}
}

// counting counts the samples that are read of an edge.
type counting struct {
	storage.Queryable
	n *int
}

func (c counting) Querier(from, to int64) (storage.Querier, error) {
	q, err := c.Queryable.Querier(from, to)
	return countingQuerier{q, c.n}, err
}

type countingQuerier struct {
	storage.Querier
	n *int
}

func (q countingQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return countingSet{q.Querier.Select(ctx, sorted, hints, ms...), q.n}
}

type countingSet struct {
	storage.SeriesSet
	n *int
}

func (s countingSet) At() storage.Series { return countingSeries{s.SeriesSet.At(), s.n} }

type countingSeries struct {
	storage.Series
	n *int
}

func (s countingSeries) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return countingIterator{s.Series.Iterator(nil), s.n}
}

type countingIterator struct {
	chunkenc.Iterator
	n *int
}

func (i countingIterator) Next() chunkenc.ValueType { *i.n++; return i.Iterator.Next() }

// At midnight, and when an hour of a past day is corrected, the day is not read again.
func TestADayIsNotReadAtOnce(t *testing.T) {
	r := newRig(t)
	n := 0
	r.d.o.Queryable = counting{r.db, &n}
	r.series = []Series{{"d", "air_temperature", 15_000}}
	app := r.db.Appender(t.Context())
	for s := 10; s <= 25*3600; s += 10 {
		if _, err := app.Append(0, labels.FromStrings("__name__", "air_temperature", "device", "d", "edge", "e1", "point", "air_temperature", "site", "24848"), midnight.Add(time.Duration(s)*time.Second).UnixMilli(), 20); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	for h := 1; h <= 24; h++ {
		n = 0
		r.step(time.Duration(h) * time.Hour)
		// An hour has 360, and what stands of 24 hours is read, too.
		if h > 1 && n > 700 {
			t.Errorf("hour %d: %d samples are read", h, n)
		}
	}
	n = 0
	r.d.Late("e1", []int64{HourOf(midnight.Add(3 * time.Hour).UnixMilli())})
	r.step(24*time.Hour + time.Minute)
	if n > 1100 { // two hours, with the chunks around them
		t.Errorf("a late reading: %d samples are read", n)
	}
}

// BenchmarkCompleteness computes a day of 100 series at 1 Hz hour by hour, and then
// corrects an hour of it; b.N is ignored.
func BenchmarkCompleteness(b *testing.B) {
	const series = 100
	o := tsdb.DefaultOptions()
	o.OutOfOrderTimeWindow = (10 * 365 * 24 * time.Hour).Milliseconds()
	db, err := tsdb.Open(b.TempDir(), slog.New(slog.DiscardHandler), nil, o, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	app := db.Appender(b.Context())
	for s := 1; s <= 24*3600; s++ {
		for i := range series {
			if _, err := app.Append(0, labels.FromStrings("__name__", "voltage", "device", fmt.Sprint("d", i/10), "edge", "e1", "point", fmt.Sprint("v", i), "site", "24848"), midnight.Add(time.Duration(s)*time.Second).UnixMilli(), float64(s%400)); err != nil {
				b.Fatal(err)
			}
		}
		if s%600 == 0 {
			if err := app.Commit(); err != nil {
				b.Fatal(err)
			}
			app = db.Appender(b.Context())
		}
	}
	if err := app.Commit(); err != nil {
		b.Fatal(err)
	}
	e := Edge{ID: "e1", Site: "24848"}
	var list []Series
	for i := range series {
		list = append(list, Series{fmt.Sprint("d", i/10), fmt.Sprint("v", i), 1500})
	}
	d, err := Open(Options{
		Queryable: db, Location: zone, StateFile: b.TempDir() + "/derived.json", Name: "derived", Index: noIndex,
		Edges: func() []Edge { return []Edge{e} }, Series: func(string) []Series { return list },
		Write: func(_ context.Context, rows []Row) error {
			app := db.Appender(b.Context())
			for _, x := range rows {
				if _, err := app.Append(0, labels.FromStrings("__name__", x.Quantity, "device", x.Device, "edge", "derived", "site", x.Site), x.Time, x.Value); err != nil {
					return err
				}
			}
			return app.Commit()
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	step := func(at time.Duration) time.Duration {
		e.Watermark = midnight.Add(at).UnixMilli()
		began := time.Now()
		if err := d.Step(b.Context()); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	step(time.Hour)
	var hours, most time.Duration
	for h := 2; h < 24; h++ {
		took := step(time.Duration(h) * time.Hour)
		hours, most = hours+took, max(most, took)
	}
	b.ReportMetric(float64(hours.Microseconds())/22e3, "ms/hour")
	b.ReportMetric(float64(step(24*time.Hour).Microseconds())/1e3, "ms/midnight")
	d.Late("e1", []int64{HourOf(midnight.Add(3 * time.Hour).UnixMilli())})
	b.ReportMetric(float64(step(24*time.Hour+time.Minute).Microseconds())/1e3, "ms/correction")
	b.ReportMetric(0, "ns/op")
}

func noIndex() *airindex.Table { return nil }
