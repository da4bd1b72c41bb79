package hub

import (
	"runtime/metrics"
	"testing"
)

func TestStacksAreTrimmedWhenNothingElseCollects(t *testing.T) {
	var tr trimmer
	for i, step := range []struct {
		stacks, cycles uint64
		want           bool
	}{
		{10 << 20, 0, false},  // few connections
		{400 << 20, 0, true},  // many, and nobody collects
		{300 << 20, 1, false}, // somebody did
		{300 << 20, 1, true},
		{300 << 20, 5, false},
		{10 << 20, 5, false},
	} {
		if got := tr.due(step.stacks, step.cycles); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	for _, name := range []string{"/memory/classes/heap/stacks:bytes", "/gc/cycles/total:gc-cycles"} {
		s := []metrics.Sample{{Name: name}}
		if metrics.Read(s); s[0].Value.Kind() != metrics.KindUint64 {
			t.Errorf("this Go has no %s", name)
		}
	}
}
