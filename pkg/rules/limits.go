package rules

import (
	"slices"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Limits returns for each series the values at which a rule of the newest set
// changes its mind: limits and clear limits of all levels, ascending, each once;
// nil for a series that no rule watches by its value.
func (e *Engine) Limits(series []telemetry.BoundSeries) [][]float64 {
	sets := *e.sets.Load()
	if len(sets) == 0 {
		return nil
	}
	set := sets[len(sets)-1].Set
	out := make([][]float64, len(series))
	for i := range series {
		for _, k := range set.matching(&series[i]) {
			r := set.rules[k]
			if r.source != ofReading {
				continue
			}
			for _, l := range r.levels {
				out[i] = append(out[i], l.limit, l.clear)
				if r.shape > isBelow {
					out[i] = append(out[i], l.low, l.clearLow)
				}
			}
		}
		slices.Sort(out[i])
		out[i] = slices.Compact(out[i])
	}
	return out
}
