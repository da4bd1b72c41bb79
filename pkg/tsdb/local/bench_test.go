package local

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
)

// readings returns values as a sensor gives them: two decimals, never the same for
// long.
func readings() []float64 {
	out := make([]float64, 4096)
	for i := range out {
		x := float64(i)
		out[i] = math.Round((24+5*math.Sin(x/300)+math.Sin(x*x))*100) / 100
	}
	return out
}

// BenchmarkAppend appends through the interface as the hub's workers do, two of
// them, in batches of 5,000 samples, with a Sync each second; b.N counts samples.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name string
		from int64
	}{{"in order", t0 + 1000}, {"out of order", t0 - 10*day}} {
		b.Run(c.name, func(b *testing.B) { benchmarkAppend(b, c.from) })
	}
}

// feeder appends as one of the hub's workers does: to all of its series in turn, a
// second after the other, committing each batch.
type feeder struct {
	app    tsdb.Appender
	lsets  []telemetry.Labels
	refs   []uint64
	values []float64
	from   int64
	n      int // samples so far
}

// newFeeders makes one for each worker, and a sample at t0 for each of its series.
func newFeeders(b *testing.B, s *Store, workers, series int, from int64) []*feeder {
	b.Helper()
	out := make([]*feeder, workers)
	values := readings()
	for w := range out {
		f := &feeder{app: s.Appender(), refs: make([]uint64, series), values: values, from: from}
		for i := range series {
			lset := tsdbtest.Labels("air_temperature", fmt.Sprintf("w%d-%05d", w, i))
			ref, err := f.app.Append(0, lset, t0, 20)
			check(b, err)
			f.lsets, f.refs[i] = append(f.lsets, lset), ref
		}
		check(b, f.app.Commit())
		out[w] = f
	}
	return out
}

func (f *feeder) batch(size int) error {
	for range size {
		i, round := f.n%len(f.lsets), f.n/len(f.lsets)
		ref, err := f.app.Append(f.refs[i], f.lsets[i], f.from+int64(round)*1000, f.values[(round+i)%len(f.values)])
		if err != nil {
			return err
		}
		f.refs[i] = ref
		f.n++
	}
	return f.app.Commit()
}

// syncing has the store made durable each second until stop is called.
func syncing(b *testing.B, s *Store) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				if err := s.Sync(); err != nil {
					b.Error(err)
				}
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

func benchmarkAppend(b *testing.B, from int64) {
	const workers, series, batch = 2, 10_000, 5_000
	s := mustOpen(b, b.TempDir(), func(o *Options) { o.SegmentSize = 0; o.MapEvery = 2 * time.Second })
	feeders := newFeeders(b, s, workers, series, from)
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	stop := syncing(b, s)
	var wg sync.WaitGroup
	for _, f := range feeders {
		wg.Go(func() {
			for f.n < b.N/workers {
				if err := f.batch(min(batch, b.N/workers-f.n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	stop()
	check(b, s.Sync())
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "samples/s")
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapInuse)/(1<<20), "heap-MB")
	b.ReportMetric(float64(s.Stats().LogBytes)/float64(b.N), "logB/sample")
	got, err := tsdb.ReadSamples(b.Context(), s.Queryable(), 0, math.MaxInt64/2, tsdb.Match{Name: "point", Value: "w1-00007"})
	check(b, err)
	if want := b.N/workers/series + 1; len(got) != 1 || len(got[0].Samples) < want {
		b.Fatalf("a series has %d samples, want %d", len(got[0].Samples), want)
	}
	check(b, s.Close())
}

// BenchmarkOpen measures the start after a crash with 10 million samples in the
// logs; b.N is ignored.
func BenchmarkOpen(b *testing.B) {
	const samples = 10_000_000
	dir := b.TempDir()
	s := mustOpen(b, dir, func(o *Options) { o.SegmentSize = 0 })
	const series = 10_000
	app := s.Appender()
	refs := make([]uint64, series)
	values := readings()
	lsets := make([]telemetry.Labels, series)
	for i := range lsets {
		lsets[i] = tsdbtest.Labels("air_temperature", fmt.Sprintf("%05d", i))
	}
	for n := range samples {
		i := n % series
		ref, err := app.Append(refs[i], lsets[i], t0+int64(n/series)*1000, values[(n/series+i)%len(values)])
		check(b, err)
		refs[i] = ref
		if n%series == series-1 {
			check(b, app.Commit())
		}
	}
	check(b, app.Commit())
	check(b, s.Close())
	b.ResetTimer()
	start := time.Now()
	s = mustOpen(b, dir, func(o *Options) { o.SegmentSize = 0 })
	b.StopTimer()
	b.ReportMetric(time.Since(start).Seconds(), "s/open")
	b.ReportMetric(0, "ns/op")
	got, err := tsdb.ReadSamples(b.Context(), s.Queryable(), 0, math.MaxInt64/2, tsdb.Match{Name: "point", Value: "00007"})
	check(b, err)
	if want := samples / series; len(got) != 1 || len(got[0].Samples) < want {
		b.Fatalf("a series is incomplete, want %d samples", want)
	}
	check(b, s.Close())
}
