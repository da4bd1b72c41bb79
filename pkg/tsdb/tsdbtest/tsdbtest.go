// Package tsdbtest is the suite that every implementation of [tsdb.Store] passes.
package tsdbtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/prometheus/prometheus/model/labels"
)

// Window is how far behind the newest sample a store under test takes samples.
const Window = 30 * 24 * time.Hour

// Factory opens the store in dir, which may have been open before, with the
// clock now in milliseconds and an out-of-order window of [Window]. The suite
// closes it. What a store cannot do by its [tsdb.Capabilities] is not asked of it.
type Factory func(t *testing.T, dir string, now func() int64) tsdb.Store

// Settler is a store under test whose queries may lag behind Commit: Settle
// returns once they do not. The suite calls it before it reads.
type Settler interface{ Settle(t *testing.T) }

// start is the time of the suite's first samples, somewhere inside a block.
const start = int64(1_767_225_600_000) + 1_234_567

// Run runs the suite.
func Run(t *testing.T, open Factory) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, f *fixture)
	}{
		{"samples in order come back as they were", inOrder},
		{"samples may come in any order", outOfOrder},
		{"a sample that comes twice stands once", twice},
		{"of two values at the newest time the first wins", conflict},
		{"a sample older than the window is counted", tooOld},
		{"a sample ahead of the clock is refused alone", ahead},
		{"a staleness marker keeps its bits", stale},
		{"a series that is none is refused alone", invalid},
		{"a batch that is rolled back leaves nothing", rollback},
		{"series are found by their labels", metadata},
		{"labels and their values are listed", labelLists},
		{"a query sees the time that it asks for", bounds},
		{"several workers append at once", workers},
		{"what was synced is there after reopening", reopen},
		{"a closed store answers so", closed},
		{"statistics count", stats},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fixture{t: t, open: open, dir: t.TempDir(), now: start + time.Hour.Milliseconds()}
			f.start()
			defer func() { f.check(f.store.Close()) }()
			c.run(t, f)
		})
	}
}

type fixture struct {
	t     *testing.T
	open  Factory
	dir   string
	now   int64
	store tsdb.Store
}

func (f *fixture) start() { f.store = f.open(f.t, f.dir, func() int64 { return f.now }) }

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// Labels returns the sorted labels of a series for tests.
func Labels(quantity, point string) telemetry.Labels {
	return telemetry.NewLabels(map[string]string{
		tsdb.NameLabel: quantity, "site": "24848", "edge": "lac-duong-01", "device": "air-01", "point": point,
	})
}

// add appends samples of one series, in one batch.
func (f *fixture) add(lset telemetry.Labels, samples ...tsdb.Sample) {
	f.t.Helper()
	app := f.store.Appender()
	var ref uint64
	for _, s := range samples {
		var err error
		if ref != 0 {
			got, err := app.Append(ref, nil, s.T, s.V) // the labels are wanted only when it is forgotten
			f.check(err)
			if got != 0 {
				continue
			}
		}
		ref, err = app.Append(ref, lset, s.T, s.V)
		f.check(err)
	}
	f.check(app.Commit())
}

// settle waits until queries see what was committed.
func (f *fixture) settle() {
	if s, ok := f.store.(Settler); ok {
		f.check(f.store.Sync())
		s.Settle(f.t)
	}
}

func (f *fixture) can() tsdb.Capabilities { return f.store.Capabilities() }

func (f *fixture) read(point string) []tsdb.Sample {
	f.t.Helper()
	f.settle()
	got, err := tsdb.ReadSamples(context.Background(), f.store.Queryable(), 0, math.MaxInt64/2, tsdb.Match{Name: "point", Value: point})
	f.check(err)
	switch len(got) {
	case 0:
		return nil
	case 1:
		return got[0].Samples
	}
	f.t.Fatalf("%d series with point %s", len(got), point)
	return nil
}

func (f *fixture) expect(point string, want ...tsdb.Sample) {
	f.t.Helper()
	slices.SortFunc(want, func(a, b tsdb.Sample) int { return int(a.T - b.T) })
	if diff := cmp.Diff(want, f.read(point)); diff != "" {
		f.t.Fatalf("samples (-want +got):\n%s", diff)
	}
}

func ramp(n int, from, step int64) []tsdb.Sample {
	out := make([]tsdb.Sample, n)
	for i := range out {
		out[i] = tsdb.Sample{T: from + int64(i)*step, V: 20 + float64(i)/8}
	}
	return out
}

func inOrder(_ *testing.T, f *fixture) {
	want := ramp(500, start, 1000)
	f.add(Labels("air_temperature", "t"), want[:200]...)
	f.add(Labels("air_temperature", "t"), want[200:]...)
	f.expect("t", want...)
}

func outOfOrder(_ *testing.T, f *fixture) {
	recent := ramp(100, start, 1000)
	backlog := ramp(100, start-10*24*time.Hour.Milliseconds(), 7000)
	f.add(Labels("air_temperature", "t"), recent...)
	slices.Reverse(backlog)
	f.add(Labels("air_temperature", "t"), backlog...)
	f.expect("t", append(recent, backlog...)...)
}

func twice(_ *testing.T, f *fixture) {
	want := ramp(100, start, 1000)
	f.add(Labels("air_temperature", "t"), want...)
	f.add(Labels("air_temperature", "t"), want...)
	f.add(Labels("air_temperature", "t"), append(slices.Clone(want[50:]), want[50:]...)...)
	f.expect("t", want...)
}

func conflict(t *testing.T, f *fixture) {
	f.add(Labels("air_temperature", "t"), tsdb.Sample{T: start, V: 20})
	f.add(Labels("air_temperature", "t"), tsdb.Sample{T: start, V: 21}, tsdb.Sample{T: start + 1, V: 22})
	if !f.can().FirstWins {
		got := f.read("t")
		if len(got) != 2 || got[0].T != start || got[0].V != 20 && got[0].V != 21 || got[1] != (tsdb.Sample{T: start + 1, V: 22}) {
			t.Errorf("got %v, want one of the two values and what follows", got)
		}
		return
	}
	f.expect("t", tsdb.Sample{T: start, V: 20}, tsdb.Sample{T: start + 1, V: 22})
	if got := f.store.Stats().Conflicts; got != 1 {
		t.Errorf("%d conflicts counted, want 1", got)
	}
}

func tooOld(t *testing.T, f *fixture) {
	if !f.can().Window {
		t.Log("this store takes samples of any age")
		return
	}
	f.add(Labels("air_temperature", "t"), tsdb.Sample{T: start, V: 20})
	f.add(Labels("air_temperature", "t"), tsdb.Sample{T: start - Window.Milliseconds() - 1, V: 21})
	f.expect("t", tsdb.Sample{T: start, V: 20})
	if got := f.store.Stats().TooOld; got != 1 {
		t.Errorf("%d counted as too old, want 1", got)
	}
}

func ahead(t *testing.T, f *fixture) {
	limit := f.now + tsdb.MaxAhead.Milliseconds()
	app := f.store.Appender()
	ref, err := app.Append(0, Labels("air_temperature", "t"), limit, 1)
	f.check(err)
	if _, err := app.Append(ref, Labels("air_temperature", "t"), limit+1, 2); !errors.Is(err, tsdb.ErrAhead) {
		t.Errorf("error %v, want ErrAhead", err)
	}
	f.check(app.Commit())
	f.expect("t", tsdb.Sample{T: limit, V: 1})
	if got := f.store.Stats().Ahead; got != 1 {
		t.Errorf("%d counted as ahead, want 1", got)
	}
}

func stale(t *testing.T, f *fixture) {
	f.add(Labels("air_temperature", "t"), tsdb.Sample{T: start, V: 20}, tsdb.Sample{T: start + 1000, V: tsdb.StaleMarker()})
	if !f.can().StaleMarkers {
		f.expect("t", tsdb.Sample{T: start, V: 20})
		return
	}
	got := f.read("t")
	if len(got) != 2 || !tsdb.IsStaleMarker(got[1].V) {
		t.Errorf("got %v, want a staleness marker at the end", got)
	}
}

func invalid(t *testing.T, f *fixture) {
	app := f.store.Appender()
	for name, lset := range map[string]telemetry.Labels{
		"none":      nil,
		"no name":   {{Name: "site", Value: "a"}},
		"unsorted":  {{Name: "site", Value: "a"}, {Name: tsdb.NameLabel, Value: "x"}},
		"twice":     {{Name: tsdb.NameLabel, Value: "x"}, {Name: tsdb.NameLabel, Value: "y"}},
		"not UTF-8": {{Name: tsdb.NameLabel, Value: "x\xff"}},
		"no label":  {{Name: "", Value: "x"}, {Name: tsdb.NameLabel, Value: "x"}},
	} {
		if _, err := app.Append(0, lset, start, 1); !errors.Is(err, tsdb.ErrInvalidSeries) {
			t.Errorf("%s: error %v, want ErrInvalidSeries", name, err)
		}
	}
	_, err := app.Append(0, Labels("air_temperature", "t"), start, 1)
	f.check(err)
	f.check(app.Commit())
	f.expect("t", tsdb.Sample{T: start, V: 1})
}

func rollback(_ *testing.T, f *fixture) {
	app := f.store.Appender()
	ref, err := app.Append(0, Labels("air_temperature", "t"), start, 1)
	f.check(err)
	f.check(app.Rollback())
	f.expect("t")
	_, err = app.Append(ref, Labels("air_temperature", "t"), start+1, 2)
	f.check(err)
	f.check(app.Commit())
	f.check(app.Commit())
	f.check(app.Rollback())
	f.expect("t", tsdb.Sample{T: start + 1, V: 2})
}

func metadata(t *testing.T, f *fixture) {
	for _, p := range []string{"a", "b", "c"} {
		f.add(Labels("pm2_5", p), tsdb.Sample{T: start, V: 1})
	}
	f.add(Labels("pm10", "d"), tsdb.Sample{T: start, V: 1})
	f.settle()
	got, err := tsdb.ReadSeries(context.Background(), f.store.Queryable(), start, start, tsdb.Match{Name: tsdb.NameLabel, Value: "pm2_5"})
	f.check(err)
	want := []telemetry.Labels{Labels("pm2_5", "a"), Labels("pm2_5", "b"), Labels("pm2_5", "c")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func labelLists(t *testing.T, f *fixture) {
	f.add(Labels("pm2_5", "a"), tsdb.Sample{T: start, V: 1})
	f.add(Labels("pm10", "b"), tsdb.Sample{T: start, V: 1})
	f.settle()
	q, err := f.store.Queryable().Querier(start-1000, start+1000)
	f.check(err)
	defer func() { f.check(q.Close()) }()
	names, _, err := q.LabelNames(context.Background(), nil)
	f.check(err)
	if want := []string{tsdb.NameLabel, "device", "edge", "point", "site"}; !slices.Equal(names, want) {
		t.Errorf("label names %q, want %q", names, want)
	}
	points, _, err := q.LabelValues(context.Background(), "point", nil, labels.MustNewMatcher(labels.MatchEqual, tsdb.NameLabel, "pm10"))
	f.check(err)
	if !slices.Equal(points, []string{"b"}) {
		t.Errorf("values %q, want b alone", points)
	}
}

func bounds(t *testing.T, f *fixture) {
	f.add(Labels("pm10", "t"), ramp(10, start, 1000)...)
	f.settle()
	got, err := tsdb.ReadSamples(context.Background(), f.store.Queryable(), start+2000, start+5000, tsdb.Match{Name: "point", Value: "t"})
	f.check(err)
	if len(got) != 1 || len(got[0].Samples) != 4 || got[0].Samples[0].T != start+2000 || got[0].Samples[3].T != start+5000 {
		t.Errorf("got %v, want the four samples from 2 s to 5 s, both included", got)
	}
}

func workers(t *testing.T, f *fixture) {
	const n, batches = 4, 20
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			app := f.store.Appender()
			lset := Labels("air_temperature", fmt.Sprint("w", w))
			var ref uint64
			for b := range batches {
				for _, s := range ramp(10, start+int64(b)*10_000, 1000) {
					var err error
					if ref, err = app.Append(ref, lset, s.T, s.V); err != nil {
						t.Error(err)
						return
					}
				}
				if err := app.Commit(); err != nil {
					t.Error(err)
					return
				}
				if err := f.store.Sync(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for w := range n {
		if got := len(f.read(fmt.Sprint("w", w))); got != 10*batches {
			t.Errorf("worker %d: %d samples, want %d", w, got, 10*batches)
		}
	}
}

func reopen(_ *testing.T, f *fixture) {
	recent := ramp(300, start, 1000)
	backlog := ramp(300, start-5*24*time.Hour.Milliseconds(), 1000)
	f.add(Labels("air_temperature", "t"), recent...)
	f.add(Labels("air_temperature", "t"), backlog...)
	f.check(f.store.Sync())
	f.check(f.store.Close())
	f.start()
	f.expect("t", append(slices.Clone(recent), backlog...)...)
	f.add(Labels("air_temperature", "t"), recent[100:]...) // what a hub gets again after a crash
	f.add(Labels("air_temperature", "t"), tsdb.Sample{T: start + 300_000, V: 7})
	f.expect("t", append(append(recent, backlog...), tsdb.Sample{T: start + 300_000, V: 7})...)
}

func closed(t *testing.T, f *fixture) {
	f.add(Labels("air_temperature", "t"), tsdb.Sample{T: start, V: 20})
	open := f.store.Appender()
	_, err := open.Append(0, Labels("air_temperature", "t"), start+1, 20)
	f.check(err)
	f.check(f.store.Close())
	for name, err := range map[string]error{
		"Commit": open.Commit(),
		"Sync":   f.store.Sync(),
		"Append": second(f.store.Appender().Append(0, Labels("air_temperature", "t"), start+2, 20)),
		"Query":  second(f.store.Queryable().Querier(start, start)),
	} {
		if !errors.Is(err, tsdb.ErrClosed) {
			t.Errorf("%s: error %v, want ErrClosed", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func stats(t *testing.T, f *fixture) {
	want := ramp(100, start, 1000)
	f.add(Labels("air_temperature", "t"), want...)
	f.add(Labels("air_temperature", "u"), want...)
	f.check(f.store.Sync())
	got := f.store.Stats()
	if got.Samples != 200 || got.Syncs == 0 {
		t.Errorf("unexpected statistics: %+v", got)
	}
	if f.can().Holdings && (got.Series != 2 || got.MinTime != start || got.MaxTime != start+99_000 || got.Retention == 0) {
		t.Errorf("unexpected statistics of what is held: %+v", got)
	}
}
