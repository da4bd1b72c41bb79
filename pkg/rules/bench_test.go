package rules

import (
	"fmt"
	"runtime"
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
