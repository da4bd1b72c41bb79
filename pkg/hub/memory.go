package hub

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// gcPercent is how much the heap may grow between two collections. Most of it is
// the newest chunk of every series, which lives long: the default of 100 would
// hold as much again in garbage; this costs a tenth more CPU time at full load.
const gcPercent = 50

// setCollector sets how the process collects garbage, unless the environment does.
func setCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// Stacks are shrunk only by the collector, by half each time. The bus needs 32 KiB
// of stack for every acknowledgement that it writes to a connection: with ten
// thousand edges that say something every ten seconds, and little garbage, that
// would stay at 400 MB.
const (
	trimEvery = 4 * time.Second
	trimAbove = 64 << 20 // bytes of stacks that nobody minds
)

// trimmer decides when a collection is due for the sake of the stacks alone.
type trimmer struct{ cycles uint64 }

// due looks at the bytes in stacks and at the collections so far.
func (t *trimmer) due(stacks, cycles uint64) bool {
	idle := cycles == t.cycles
	t.cycles = cycles
	return idle && stacks > trimAbove
}

// trimStacks collects garbage until ctx ends, whenever there was no other reason to
// for a while and stacks are large.
func trimStacks(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	samples := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	var t trimmer
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			metrics.Read(samples)
			if t.due(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
				runtime.GC()
				t.cycles++
			}
		}
	}
}
