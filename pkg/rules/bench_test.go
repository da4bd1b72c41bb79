package rules

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func benchFold(b testing.TB, series, rules int) *Fold {
	text := ""
	for i := range rules {
		text += fmt.Sprintf("- {id: r%d, watch: {quantity: pm2_5}, above: {warning: {limit: %d, clear: 90, for: 5m}, critical: {limit: 150, for: 1m}}}\n", i, 100+i)
	}
	e := NewEngine([]Effective{{mustLoad(b, text), Always}}, func(alert.Transition) {})
	list := make([]telemetry.BoundSeries, series)
	for i := range list {
		list[i] = pm(fmt.Sprintf("d%d", i))
	}
	return openFold(b, e, nil, list...)
}

// BenchmarkObserveNormal is a reading that changes nothing: the state of nearly
// all rules nearly always. One op is one reading against one rule.
func BenchmarkObserveNormal(b *testing.B) {
	for _, c := range []struct{ series, rules int }{{1000, 1}, {1000, 4}, {100_000, 1}, {25_000, 4}} {
		b.Run(fmt.Sprintf("series=%d/rules=%d", c.series, c.rules), func(b *testing.B) {
			f := benchFold(b, c.series, c.rules)
			b.ReportAllocs()
			t := int64(0)
			for n := 0; n < b.N; {
				t += 1000
				for i := 0; i < c.series && n < b.N; i++ {
					f.Observe(uint32(i), t, float64(n&63), good)
					n += c.rules
				}
				f.Advance(t)
			}
		})
	}
}

// BenchmarkObserveActive is a reading of a series whose alert is active.
func BenchmarkObserveActive(b *testing.B) {
	f := benchFold(b, 1000, 1)
	b.ReportAllocs()
	t := int64(0)
	for n := 0; n < b.N; {
		t += 1000
		for i := 0; i < 1000 && n < b.N; i++ {
			f.Observe(uint32(i), t, 120, good)
			n++
		}
		f.Advance(t)
	}
}

// kindRules is a rule of each kind, for benchmarks.
var kindRules = map[string]string{
	"above":    "above: {warning: {limit: 100, clear: 90, for: 5m}, critical: {limit: 150, for: 1m}}",
	"outside":  "outside: {warning: {low: -10, high: 100, for: 5m}}",
	"inside":   "inside: {warning: {low: 200, high: 300}}",
	"sum":      "window: {sum: 1h}\n  above: {warning: {limit: 1e9}}",
	"mean":     "window: {mean: 1h}\n  above: {warning: {limit: 100, clear: 90, for: 5m}}",
	"max":      "window: {max: 1h}\n  above: {warning: {limit: 100}}",
	"count":    "window: {count: 10m}\n  below: {warning: {limit: 5}}",
	"increase": "window: {increase: 1h}\n  above: {warning: {limit: 1e9}}",
	"rate":     "rate: {over: 10m}\n  above: {warning: {limit: 1e9}}",
	"flatline": "flatline: {epsilon: 0, warning: {for: 1h}}",
	"no_data":  "no_data: {warning: {for: 10m}, critical: {for: 1h}}",
	"state":    "state: {warning: {is: [100, 101]}, critical: {is: 200}}",
	"index":    "index: aqi\n  above: {warning: {limit: 400}}",
	"schedule": "schedule: {hours: \"06:00-21:00\"}\n  above: {warning: {limit: 100}}",
}

const benchTables = "indexes:\n  aqi: {source: x, index: [0, 500], quantities: {pm2_5: {mean: nowcast, at: [0, 500]}}}\n"

func kindFold(b testing.TB, rule string, series int) *Fold {
	set, err := Load([]Source{{"rules.yaml", []byte("- id: a\n  watch: {quantity: pm2_5}\n  " + rule + "\n")}, {"tables.yaml", []byte(benchTables)}}, testEnv())
	if err != nil {
		b.Fatal(err)
	}
	list := make([]telemetry.BoundSeries, series)
	for i := range list {
		list[i] = pm(fmt.Sprintf("d%d", i))
	}
	f := openFold(b, NewEngine([]Effective{{set, Always}}, func(alert.Transition) {}), nil, list...)
	f.Advance(benchStart)
	return f
}

const benchStart = int64(1_767_571_200_000)

// BenchmarkKinds is a reading against a rule of each kind, one reading of each
// series a second, with the watermark following and everything that happens by
// itself in between.
func BenchmarkKinds(b *testing.B) {
	for _, series := range []int{1000, 100_000} {
		for _, name := range slices.Sorted(maps.Keys(kindRules)) {
			b.Run(fmt.Sprintf("series=%d/%s", series, name), func(b *testing.B) {
				f := kindFold(b, kindRules[name], series)
				b.ReportAllocs()
				b.ResetTimer()
				t := benchStart
				for n := 0; n < b.N; {
					t += 1000
					for i := 0; i < series && n < b.N; i++ {
						f.Observe(uint32(i), t, float64(n&63), good)
						n++
					}
					f.Advance(t)
				}
			})
		}
	}
}

// BenchmarkCheckpoint is what 100,000 rule-series write at a checkpoint, on edges of
// 1,000 with a reading of each series a second or every ten: the changes since the
// one before, with the wholes that come in between. One op is a checkpoint of ten
// edges, which stand for a hundred.
func BenchmarkCheckpoint(b *testing.B) {
	const edges, series = 10, 1000
	for _, every := range []int{1, 10} {
		for _, name := range []string{"mean24h"} {
			b.Run(fmt.Sprintf("every=%ds/%s", every, name), func(b *testing.B) {
				rule := kindRules[name]
				if name == "mean24h" {
					rule = "window: {mean: 24h}\n  above: {warning: {limit: 100, clear: 90, for: 5m}}"
				}
				folds := make([]*Fold, edges)
				at := benchStart
				for i := range folds {
					folds[i] = kindFold(b, rule, series)
					for h := range int64(25) { // a full window
						for k := range uint32(series) {
							folds[i].Observe(k, at+1000+h*3_600_000, 20+float64(k)/10, good)
						}
						folds[i].Advance(at + 1000 + h*3_600_000)
					}
				}
				at += 25 * 3_600_000
				var dst []byte
				var whole int
				for _, f := range folds {
					dst = f.Save(dst[:0])
					whole += len(dst)
				}
				var written, parts int
				b.ResetTimer()
				for n := 0; n < b.N; n++ {
					b.StopTimer()
					at += 1000
					for _, f := range folds {
						for k := n % every; k < series; k += every {
							f.Observe(uint32(k), at, 20+float64((n+k)%64)/10, good)
						}
						f.Advance(at)
					}
					b.StartTimer()
					for _, f := range folds {
						var all bool
						if dst, all = f.SaveChanges(dst[:0]); all {
							parts++
						}
						written += len(dst)
					}
				}
				b.ReportMetric(10*float64(written)/float64(b.N)/1e6, "MB/checkpoint")
				b.ReportMetric(10*float64(whole)/1e6, "MB-whole")
				b.ReportMetric(10*b.Elapsed().Seconds()*1000/float64(b.N), "ms/checkpoint")
				b.ReportMetric(float64(parts)/float64(b.N)/edges, "wholes/part")
			})
		}
	}
}

// TestSeriesOfEachKindAreSmall says what 100,000 rule-series take.
func TestSeriesOfEachKindAreSmall(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(kindRules)) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		f := kindFold(t, kindRules[name], 5000)
		for k := range int64(3) {
			for i := range uint32(5000) {
				f.Observe(i, benchStart+1000+k*600_000, float64(k), good)
			}
			f.Advance(benchStart + 1000 + k*600_000)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		mb := 20 * float64(after.HeapAlloc-before.HeapAlloc) / 1e6 // 5,000 stand for 100,000
		t.Logf("100,000 rule-series of kind %s: %.0f MB, %d bytes of saved state each", name, mb, len(f.Save(nil))/5000)
		if mb > 200 {
			t.Errorf("100,000 rule-series of kind %s take %.0f MB", name, mb)
		}
		runtime.KeepAlive(f)
	}
}

func TestKindsAllocateNothing(t *testing.T) {
	for name, rule := range kindRules {
		f := kindFold(t, rule, 100)
		at := benchStart
		if n := testing.AllocsPerRun(100, func() {
			at += 1000
			for i := range uint32(100) {
				f.Observe(i, at, float64(i), good)
			}
			f.Advance(at)
		}); n > 0.5 { // the heap of timers grows once
			t.Errorf("%s: %v allocations for 100 readings", name, n)
		}
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	f := benchFold(t, 100, 2)
	at := int64(0)
	if n := testing.AllocsPerRun(100, func() {
		at += 1000
		for i := range uint32(100) {
			f.Observe(i, at, 50, good)
		}
		f.Advance(at)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRuleSeriesAreSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f := benchFold(t, 10_000, 2)
	for i := range uint32(10_000) {
		f.Observe(i, 1000, 120, good) // none is idle
	}
	f.Advance(400_000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	mb := 5 * float64(after.HeapAlloc-before.HeapAlloc) / 1e6 // 20,000 stand for 100,000
	t.Logf("100,000 rule-series, all of them active: %.1f MB, %d bytes of saved state each", mb, len(f.Save(nil))/20_000)
	if mb > 200 {
		t.Errorf("100,000 rule-series take %.1f MB", mb)
	}
	runtime.KeepAlive(f)
}
