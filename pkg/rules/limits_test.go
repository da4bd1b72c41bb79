package rules

import (
	"slices"
	"testing"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestLimitsAreThoseOfTheNewestSet(t *testing.T) {
	e := NewEngine(nil, func(alert.Transition) {})
	if got := e.Limits([]telemetry.BoundSeries{pm("a")}); got != nil {
		t.Errorf("without a set: %v", got)
	}
	for i, text := range []string{
		"- {id: old, watch: {quantity: pm2_5}, above: {info: {limit: 10}}}\n",
		"- {id: one, watch: {quantity: pm2_5}, above: {info: {limit: 50, clear: 40}, warning: {limit: 90, clear: 80}}}\n" +
			"- {id: two, watch: {quantity: pm2_5}, below: {info: {limit: 5, clear: 40}}}\n",
	} {
		if err := e.Add(Effective{mustLoad(t, text), int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	other := pm("a")
	other.Quantity = "pm10"
	got := e.Limits([]telemetry.BoundSeries{pm("a"), other})
	if len(got) != 2 || !slices.Equal(got[0], []float64{5, 40, 50, 80, 90}) || got[1] != nil {
		t.Errorf("got %v", got)
	}
}
