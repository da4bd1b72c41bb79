package hub

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/rules"
)

// oneAlert waits until the log has one alert of the rule in the state.
func oneAlert(t *testing.T, h *Hub, rule string, state alert.State) (a alert.Alert) {
	t.Helper()
	testutil.Eventually(t, time.Minute, rule+" is "+string(state), func() bool {
		list, _, err := h.ledger.Alerts(ledger.Filter{Rule: []string{rule}, State: state}, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 {
			a = list[0]
		}
		return len(list) == 1
	})
	return a
}

func ruleStatus(t *testing.T, h *Hub, id string) rules.RuleInfo {
	t.Helper()
	for _, r := range h.engine.Rules() {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("no rule %s", id)
	return rules.RuleInfo{}
}

func TestAnExpressionIsEvaluatedOverTheStore(t *testing.T) {
	h := runHub(t, map[string]string{"hub.yaml": "data_dir: ./data\nrules: [./rules.yaml]\n", "rules.yaml": `
- id: doubled
  expression: {query: "water_level * 2", every: 1s, quantity: water_level}
  above: {warning: {limit: 5, clear: 4}}
  message: {en: "{{.Device}} at {{.Value}} {{.Unit}}", vi: "{{.Device}}: {{.Value}} {{.Unit}}"}
- id: heavy
  expression: {query: "water_level * on() water_level", every: 1s}
  above: {warning: {limit: 5}}
`})
	one, two := levelFeeder(t, h, "e1"), levelFeeder(t, h, "e2")
	one.say(t, time.Now(), 3)
	two.say(t, time.Now(), 1)
	a := oneAlert(t, h, "doubled", alert.Active)
	if a.Edge != "e1" || a.Device != "gauge" || a.Point != "level" || a.Quantity != "water_level" || a.Unit != "m" || a.Value != 6 || a.Limit != 5 ||
		a.Labels["judged_by"] != "hub clock" || a.Message.VI != "gauge: 6,00 m" || a.Message.EN != "gauge at 6.00 m" {
		t.Errorf("%+v", a)
	}
	testutil.Eventually(t, time.Minute, "the other one has failed", func() bool { return ruleStatus(t, h, "heavy").Failures > 0 })
	if r := ruleStatus(t, h, "heavy"); !strings.Contains(r.Error, "many-to-many") {
		t.Errorf("%+v", r)
	}
	if r := ruleStatus(t, h, "doubled"); r.Matched != 2 || r.Failures != 0 || r.Active != 1 {
		t.Errorf("%+v", r)
	}
	one.say(t, time.Now(), 1)
	if end := oneAlert(t, h, "doubled", alert.Cleared); end.ID != a.ID || end.Value != 2 {
		t.Errorf("%+v", end)
	}
}

func TestAnEdgeThatIsOfflineSuppressesWhatDependsOnIt(t *testing.T) {
	files := map[string]string{
		"hub.yaml":   "data_dir: ./data\nrules: [./rules.yaml]\noffline: {warning: 1s, critical: 0s}\n",
		"rules.yaml": "- {id: level, watch: {quantity: water_level}, above: {warning: {limit: 5}, critical: {limit: 50}}}\n",
	}
	h := runHub(t, files)
	f, far := levelFeeder(t, h, "e1"), levelFeeder(t, h, "e2")
	f.say(t, time.Now(), 10)
	far.say(t, time.Now(), 100)
	offline := func(want alert.ISAState, meanwhile func()) alert.Alert {
		var a alert.Alert
		testutil.Eventually(t, time.Minute, "the alert is "+string(want), func() bool {
			meanwhile()
			for _, x := range f.alerts(t) {
				if x.Rule == "level" {
					a = x
				}
			}
			return a.ISA == want
		})
		return a
	}
	a := offline(alert.SuppressedState, func() {})
	if a.Suppressed != string(alert.HoldEdgeOffline) || a.State != alert.Active || a.End != nil {
		t.Errorf("%+v", a)
	}
	for _, x := range f.alerts(t) {
		if x.Rule == rules.RuleOffline && x.Suppressed != "" {
			t.Errorf("that the edge is offline calls nobody: %+v", x)
		}
	}
	high := slices.DeleteFunc(far.alerts(t), func(x alert.Alert) bool { return x.Rule != "level" })
	if len(high) != 1 || high[0].Suppressed != "" { // critical: nobody knows that it is over
		t.Errorf("%+v", high)
	}
	counts := h.ledger.Counts()
	if counts.Held[alert.SuppressedState] != 1 || counts.ByRule["level"] != 1 {
		t.Errorf("%+v", counts)
	}
	b := offline(alert.UnacknowledgedActive, func() { f.say(t, time.Now(), 11) })
	if b.ID != a.ID || !b.Start.Equal(a.Start) || b.End != nil {
		t.Errorf("%+v", b)
	}
}
