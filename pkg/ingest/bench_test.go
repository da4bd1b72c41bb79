package ingest

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// countingRules takes part as cheaply as can be.
type countingRules struct{}

type countingFold struct{ n int }

func (countingRules) Open(string, []byte) (Fold, error) { return &countingFold{}, nil }

func (*countingFold) Bind([]telemetry.BoundSeries)                           {}
func (f *countingFold) Observe(uint32, int64, float64, telemetry.Quality)    { f.n++ }
func (f *countingFold) ObserveText(uint32, int64, string, telemetry.Quality) { f.n++ }
func (*countingFold) Unobserved(int64, int64)                                {}
func (*countingFold) Advance(int64)                                          {}
func (*countingFold) SaveChanges(dst []byte) ([]byte, bool)                  { return dst, true }
func (*countingFold) Dirty() bool                                            { return false }

// benchFrames makes n frames of a second, 1,000 series of two decimals each.
func benchFrames(b *testing.B, n int) (s *source, frames [][]byte) {
	s = newSource(b, 1, 1, time.Unix(1_700_000_000, 0).UnixMilli())
	schema := testSchema(1000)
	s.use(schema)
	rnd := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, 1000)
	for i := range values {
		values[i] = float64(2000+rnd.IntN(1000)) / 100
	}
	rs := make([]telemetry.Reading, 1000)
	for range n {
		for i := range rs {
			values[i] = float64(int(values[i]*100)+rnd.IntN(7)-3) / 100
			rs[i] = telemetry.Reading{Series: uint32(firstPlain + i), Time: s.w + 1000 - int64(rnd.IntN(20)), Value: values[i]}
		}
		frames = append(frames, s.frame(rs...))
	}
	return s, frames
}

// cpuTime is what the process has used so far, with the collector.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIngest is one worker: decode, order, append to a store that keeps
// nothing, observe, live values. One operation is one reading.
func BenchmarkIngest(b *testing.B) {
	for _, bench := range []struct {
		name  string
		rules Rules
	}{{"no rules", nil}, {"rules that only count", countingRules{}}, {"1000 rules", thousandRules(b)}} {
		b.Run(bench.name, func(b *testing.B) {
			const n = 200
			s, frames := benchFrames(b, n)
			size := 0
			for _, f := range frames {
				size += len(f)
			}
			b.ReportMetric(float64(size)/n/1000, "wire-B/reading")
			b.ReportAllocs()
			var w *worker
			var spent, since time.Duration
			left := 0
			for i := 0; i < b.N; i += 1000 {
				if left == 0 {
					b.StopTimer()
					if w != nil {
						spent += cpuTime(b) - since
					}
					w = handWorker(b, Config{}, bench.rules, func(string, wire.Ack) {})
					for kind, p := range map[string][]byte{wire.TopicFrame: s.raw, wire.TopicHello: s.hello(1)} {
						if err := w.handle(message{edge: "e1", kind: kind, payload: p}); err != nil {
							b.Fatal(err)
						}
					}
					if err := w.handle(message{edge: "e1", kind: wire.TopicFrame, payload: frames[0]}); err != nil { // binds
						b.Fatal(err)
					}
					left = n - 1
					since = cpuTime(b)
					b.StartTimer()
				}
				if err := w.handle(message{edge: "e1", kind: wire.TopicFrame, payload: frames[n-left]}); err != nil {
					b.Fatal(err)
				}
				left--
			}
			spent += cpuTime(b) - since
			// On a busy machine this says more than ns/op.
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/reading")
			if got := w.edges["e1"].pos.Seq; got != uint64(n-left) {
				b.Fatalf("at %d of %d", got, n-left)
			}
			b.ReportMetric(float64(b.N)/spent.Seconds()/1e6, "M-readings/cpu-s")
		})
	}
}

// BenchmarkManyEdges is one worker with small frames of many edges: the cost of a
// frame rather than of a reading.
func BenchmarkManyEdges(b *testing.B) {
	const edges = 1000
	w := handWorker(b, Config{}, countingRules{}, func(string, wire.Ack) {})
	sources := make([]*source, edges)
	ids := make([]string, edges)
	rs := make([]telemetry.Reading, 40)
	for i := range sources {
		sources[i] = newSource(b, byte(i), 1, time.Unix(1_700_000_000, 0).UnixMilli())
		sources[i].use(testSchema(40))
		ids[i] = fmt.Sprint("edge-", i)
		for kind, p := range map[string][]byte{wire.TopicFrame: sources[i].raw, wire.TopicHello: sources[i].hello(1)} {
			if err := w.handle(message{edge: ids[i], kind: kind, payload: p}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	for i := range b.N {
		s := sources[i%edges]
		b.StopTimer()
		for k := range rs {
			rs[k] = telemetry.Reading{Series: uint32(firstPlain + k), Time: s.w + 1000, Value: float64(i)}
		}
		f := s.frame(rs...)
		b.StartTimer()
		if err := w.handle(message{edge: ids[i%edges], kind: wire.TopicFrame, payload: f}); err != nil {
			b.Fatal(err)
		}
	}
}
