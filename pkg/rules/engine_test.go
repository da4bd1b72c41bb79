package rules

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestFoldsRunAtOnceWhileSetsComeAndStatsAreRead(t *testing.T) {
	var emitted atomic.Int64
	e := NewEngine([]Effective{{mustLoad(t, ladder), Always}}, func(alert.Transition) { emitted.Add(1) })
	second := mustLoad(t, ladder+"- {id: more, watch: {quantity: pm2_5}, above: {info: {limit: 10}}}\n")
	var wg sync.WaitGroup
	for edge := range 4 {
		wg.Go(func() {
			f, err := e.Open(fmt.Sprintf("e%d", edge), nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			f.Bind([]telemetry.BoundSeries{pm("a"), pm("b")})
			for at := int64(0); at < 5000; at += 10 {
				f.Observe(0, at, float64(at%400), good)
				f.Observe(1, at, 200, good)
				f.Advance(at)
			}
		})
	}
	if err := e.Add(Effective{second, 2500}); err != nil {
		t.Error(err)
	}
	for range 100 {
		_ = e.Rules()
		_ = e.Newest()
	}
	wg.Wait()
	if got := e.Rules(); got[0].Matched != 0 || got[0].Active != 0 || got[0].ID != "more" || got[0].Fired == 0 || emitted.Load() == 0 {
		t.Errorf("rules %+v", got)
	}
	if got := e.Newest(); got != 4990 {
		t.Errorf("newest %d", got)
	}
	if len(e.Sets()) != 2 {
		t.Errorf("sets %v", e.Sets())
	}
}
