package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

const good = telemetry.Quality(0)

func catalogue() telemetry.Quantities {
	return telemetry.Quantities{
		"pm2_5":       {ID: "pm2_5", Unit: "ug/m3", Label: telemetry.Text{VI: "Bụi PM2.5", EN: "PM2.5"}, Decimals: 1},
		"water_level": {ID: "water_level", Unit: "m", Label: telemetry.Text{VI: "Mực nước", EN: "Water level"}, Decimals: 2},
		"device_up":   {ID: "device_up", Unit: "1", Label: telemetry.Text{VI: "Thiết bị hoạt động", EN: "Device up"}},
	}
}

func testEnv() Env {
	return Env{CheckQuery: checkQuery, Quantities: catalogue(), Sites: map[string]Site{
		"24848": {Name: telemetry.Text{VI: "Lạc Dương", EN: "Lac Duong"}},
		"24850": {Name: telemetry.Text{VI: "Đam Rông 4", EN: "Dam Rong 4"}},
	}}
}

// checkQuery is what the hub gives the rules.
func checkQuery(query string) error {
	_, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	var list parser.ParseErrors
	if errors.As(err, &list) && len(list) > 0 {
		return &QueryError{Offset: int(list[0].PositionRange.Start), Msg: list[0].Err.Error()}
	}
	return err
}

func mustLoad(t testing.TB, text string) *Set {
	t.Helper()
	set, err := Load([]Source{{Name: "rules.yaml", Data: []byte(text)}}, testEnv())
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	return set
}

// recorder keeps what an engine emits.
type recorder struct{ all []alert.Transition }

func (r *recorder) emit(t alert.Transition) { r.all = append(r.all, t) }

// short writes a transition for comparison: kind severity @time value/peak/limit.
func short(t *alert.Transition) string {
	s := fmt.Sprintf("%s %s @%d v=%v p=%v l=%v", t.Kind, t.Alert.Severity, t.Time.UnixMilli(), t.Alert.Value, t.Alert.Peak, t.Alert.Limit)
	if t.Alert.Reason != "" {
		s += " (" + t.Alert.Reason + ")"
	}
	return s
}

func (r *recorder) take() []string {
	out := make([]string, len(r.all))
	for i := range r.all {
		out[i] = short(&r.all[i])
	}
	r.all = nil
	return out
}

func (r *recorder) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("transitions:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func pm(device string) telemetry.BoundSeries {
	return telemetry.BoundSeries{
		Site: "24848", Edge: "e1", Device: device, Point: "pm2_5", Quantity: "pm2_5", Unit: "ug/m3",
		Labels: telemetry.Labels{{Name: "spot", Value: "market"}},
	}
}

func openFold(t testing.TB, e *Engine, saved []byte, list ...telemetry.BoundSeries) *Fold {
	t.Helper()
	f, err := e.Open("e1", saved)
	if err != nil {
		t.Fatal(err)
	}
	f.Bind(list)
	return f
}

const ladder = `
- id: pm25-high
  watch: {quantity: pm2_5}
  above:
    warning:  {limit: 50, clear: 45, for: 100ms, clear_for: 50ms}
    critical: {limit: 150, clear: 140, for: 20ms}
  message:
    vi: "Bụi PM2.5 tại {{.Site.Name}} là {{.Value}} {{.Unit}}"
    en: "PM2.5 at {{.Site.Name}} is {{.Value}} {{.Unit}}"
`

func newTest(t testing.TB, text string) (*Engine, *recorder) {
	r := &recorder{}
	return NewEngine([]Effective{{mustLoad(t, text), Always}}, r.emit), r
}
