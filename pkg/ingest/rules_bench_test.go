package ingest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// engineRules gives folds of the real engine to ingest.
type engineRules struct{ e *rules.Engine }

func (r engineRules) Open(edge string, saved []byte) (Fold, error) { return r.e.Open(edge, saved) }

// thousandRules watch one series each.
func thousandRules(tb testing.TB) Rules {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "- {id: r%d, watch: {quantity: air_temperature, where: {point: p%d}}, above: {warning: {limit: 60, clear: 55, for: 5m}, critical: {limit: 80, for: 1m}}}\n", i, i)
	}
	set, err := rules.Load([]rules.Source{{Name: "bench.yaml", Data: []byte(text.String())}},
		rules.Env{Quantities: telemetry.Quantities{"air_temperature": {ID: "air_temperature", Unit: "Cel"}}})
	if err != nil {
		tb.Fatal(err)
	}
	return engineRules{rules.NewEngine([]rules.Effective{{Set: set, From: rules.Always}}, func(alert.Transition) {})}
}
