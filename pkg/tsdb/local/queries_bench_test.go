package local

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
)

// BenchmarkAppendBesideQueries appends with two workers and a Sync each second: two
// seconds alone, and two beside as many of the heaviest queries as the API lets run
// at once, in turns. Flat out, queries have their share of the processors; a rate that
// leaves them some must come through all the same. Beside/alone is what counts; b.N is
// ignored.
func BenchmarkAppendBesideQueries(b *testing.B) {
	for _, c := range []struct {
		name string
		rate int // samples/s; 0: flat out
	}{{"flat out", 0}, {"at 500,000 a second", 500_000}} {
		b.Run(c.name, func(b *testing.B) { benchmarkBeside(b, c.rate) })
	}
}

func benchmarkBeside(b *testing.B, rate int) {
	const series, turns = 10_000, 3
	// 900 series of three hours are nearly the 10 million samples that one query may
	// hold, and their seconds the 11,000 points that one answer may have.
	const old, points = 900, 11_000
	s := mustOpen(b, b.TempDir(), func(o *Options) { o.SegmentSize = 0; o.MapEvery = 2 * time.Second })
	app, values := s.Appender(), readings()
	for i := range old {
		lset := tsdbtest.Labels("humidity", strconv.Itoa(i))
		var ref uint64
		for k := range points {
			var err error
			ref, err = app.Append(ref, lset, t0-int64(points-k)*1000, values[(i+k)%len(values)])
			check(b, err)
		}
		check(b, app.Commit())
	}
	feeders := newFeeders(b, s, 2, series, t0+1000)
	handler, err := promapi.New(promapi.Options{Queryable: s.Queryable()})
	check(b, err)
	server := httptest.NewServer(handler)
	defer server.Close()
	var alone, beside fed
	var begun atomic.Int64
	stop := syncing(b, s)
	b.ResetTimer()
	for range turns {
		alone.add(feed(b, feeders, rate))
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		for i := range max(2, runtime.GOMAXPROCS(0)) { // what promapi allows
			q := []string{"humidity", "quantile by (site) (0.9, max_over_time(humidity[5m]))"}[i%2]
			ask := server.URL + "/api/v1/query_range?" + url.Values{
				"query": {q}, "step": {"1"}, "start": {seconds(t0 - points*1000)}, "end": {seconds(t0 - 1000)},
			}.Encode()
			wg.Go(func() {
				for ctx.Err() == nil {
					begun.Add(1)
					answer(b, ctx, ask)
				}
			})
		}
		beside.add(feed(b, feeders, rate))
		cancel()
		wg.Wait()
	}
	b.StopTimer()
	stop()
	check(b, s.Sync())
	b.ReportMetric(alone.rate(), "samples/s-alone")
	b.ReportMetric(beside.rate(), "samples/s-beside")
	b.ReportMetric(beside.rate()/alone.rate(), "beside/alone")
	if rate == 0 {
		b.ReportMetric(beside.byCPU()/alone.byCPU(), "CPU-share")
	}
	b.ReportMetric(alone.p99(), "p99-ms-alone")
	b.ReportMetric(beside.p99(), "p99-ms-beside")
	b.ReportMetric(float64(begun.Load()), "queries")
	b.ReportMetric(0, "ns/op")
	check(b, s.Close())
}

// answer reads the answer of a query until ctx ends; one that comes is whole.
func answer(b *testing.B, ctx context.Context, address string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		b.Error(err)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			b.Error(err)
		}
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // it has failed anyway
		b.Errorf("%s: %s", resp.Status, text)
		return
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil && ctx.Err() == nil {
		b.Error(err)
	}
}

// fed is what came of some seconds of feeding.
type fed struct {
	samples int
	took    time.Duration
	cpu     time.Duration   // of the whole process meanwhile
	batches []time.Duration // how long each took after it was due
}

func (f *fed) add(x fed) {
	f.samples, f.took, f.cpu, f.batches = f.samples+x.samples, f.took+x.took, f.cpu+x.cpu, append(f.batches, x.batches...)
}

func (f *fed) rate() float64 { return float64(f.samples) / f.took.Seconds() }

// byCPU is what came of a second of the processors' time: what it says does not depend
// on how much of them other programs had.
func (f *fed) byCPU() float64 { return float64(f.samples) / f.cpu.Seconds() }

func (f *fed) p99() float64 {
	slices.Sort(f.batches)
	return float64(f.batches[len(f.batches)*99/100].Microseconds()) / 1000
}

func processTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// feed feeds for some seconds, at a rate of all together or flat out.
func feed(b *testing.B, feeders []*feeder, rate int) (all fed) {
	const batch = 5_000
	var mu sync.Mutex
	var wg sync.WaitGroup
	start, cpu := time.Now(), processTime(b)
	for _, f := range feeders {
		wg.Go(func() {
			var own fed
			due := start
			for {
				if rate > 0 {
					<-time.After(time.Until(due))
				} else {
					due = time.Now()
				}
				if time.Since(start) > 2*time.Second {
					break
				}
				if err := f.batch(batch); err != nil {
					b.Error(err)
					return
				}
				own.samples += batch
				own.batches = append(own.batches, time.Since(due))
				if rate > 0 {
					due = due.Add(time.Duration(batch*len(feeders)) * time.Second / time.Duration(rate))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.add(own)
		})
	}
	wg.Wait()
	all.took, all.cpu = time.Since(start), processTime(b)-cpu
	return all
}
