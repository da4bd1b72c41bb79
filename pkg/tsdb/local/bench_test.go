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

func benchmarkAppend(b *testing.B, from int64) {
	const workers, series, batch = 2, 10_000, 5_000
	s := mustOpen(b, b.TempDir(), func(o *Options) { o.SegmentSize = 0; o.MapEvery = 2 * time.Second })
	all := make([][]telemetry.Labels, workers)
	for w := range all {
		for i := range series {
			all[w] = append(all[w], tsdbtest.Labels("air_temperature", fmt.Sprintf("w%d-%05d", w, i)))
		}
	}
	refs := make([][]uint64, workers)
	for w := range refs {
		refs[w] = make([]uint64, series)
		app := s.Appender()
		for i, lset := range all[w] {
			ref, err := app.Append(0, lset, t0, 20)
			check(b, err)
			refs[w][i] = ref
		}
		check(b, app.Commit())
	}
	values := readings()
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			app := s.Appender()
			for n := 0; n < b.N/workers; n++ {
				i := n % series
				at := from + int64(n/series)*1000
				ref, err := app.Append(refs[w][i], all[w][i], at, values[(n/series+i)%len(values)])
				if err != nil {
					b.Error(err)
					return
				}
				refs[w][i] = ref
				if n%batch == batch-1 {
					if err := app.Commit(); err != nil {
						b.Error(err)
						return
					}
				}
			}
			if err := app.Commit(); err != nil {
				b.Error(err)
			}
		})
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if err := s.Sync(); err != nil {
					b.Error(err)
				}
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-stopped
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
