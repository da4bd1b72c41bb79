package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// engineRules gives folds of the real engine to ingest.
type engineRules struct{ e *rules.Engine }

func (r engineRules) Open(edge string, saved []byte) (Fold, error) { return r.e.Open(edge, saved) }

// thousandRules watch one series of an edge each.
func thousandRules(tb testing.TB) Rules { return thousandRulesWhere(tb, "") }

func thousandRulesWhere(tb testing.TB, where string) Rules {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "- {id: r%d, watch: {quantity: air_temperature, where: {%spoint: p%d}}, above: {warning: {limit: 60, clear: 55, for: 5m}, critical: {limit: 80, for: 1m}}}\n", i, where, i)
	}
	set, err := rules.Load([]rules.Source{{Name: "bench.yaml", Data: []byte(text.String())}},
		rules.Env{Quantities: telemetry.Quantities{"air_temperature": {ID: "air_temperature", Unit: "Cel"}}})
	if err != nil {
		tb.Fatal(err)
	}
	return engineRules{rules.NewEngine([]rules.Effective{{Set: set, From: rules.Always}}, func(alert.Transition) {})}
}

// BenchmarkIngestRules is one worker with 100 edges of 1,000 series: without rules,
// with 1,000 rule-series (those of one edge) and with 100,000 (one for each series).
// One operation is one reading.
func BenchmarkIngestRules(b *testing.B) {
	const edges, frames = 100, 6
	var raw [edges]*source
	var all [edges][][]byte
	for i := range raw {
		raw[i], all[i] = benchFrames(b, frames)
	}
	for _, bench := range []struct {
		name  string
		where string
	}{{"0", ""}, {"1000", "edge: edge-0, "}, {"100000", " "}} {
		b.Run("rule-series="+bench.name, func(b *testing.B) {
			var r Rules
			if bench.where != "" {
				r = thousandRulesWhere(b, bench.where)
			}
			b.ReportAllocs()
			var w *worker
			var spent, since time.Duration
			next := frames * edges
			for n := 0; n < b.N; n += 1000 {
				if next == frames*edges {
					b.StopTimer()
					if w != nil {
						spent += cpuTime(b) - since
					}
					w = handWorker(b, Config{}, r, func(string, wire.Ack) {})
					for i := range raw {
						id := fmt.Sprint("edge-", i)
						for _, m := range []message{
							{edge: id, kind: wire.TopicFrame, payload: raw[i].raw},
							{edge: id, kind: wire.TopicHello, payload: raw[i].hello(1)},
							{edge: id, kind: wire.TopicFrame, payload: all[i][0]}, // binds
						} {
							if err := w.handle(m); err != nil {
								b.Fatal(err)
							}
						}
					}
					next = edges
					since = cpuTime(b)
					b.StartTimer()
				}
				i := next % edges
				if err := w.handle(message{edge: fmt.Sprint("edge-", i), kind: wire.TopicFrame, payload: all[i][next/edges]}); err != nil {
					b.Fatal(err)
				}
				next++
			}
			spent += cpuTime(b) - since
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/reading")
		})
	}
}
