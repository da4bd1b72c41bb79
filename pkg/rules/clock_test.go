package rules

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

var plan = BuiltInPlan{
	Warning: 5 * time.Minute, Critical: time.Hour,
	Sleepers: []Sleepers{{Edges: []string{"solar-*"}, Awake: []string{"06:00-18:00"}}},
}

var noon = time.Date(2026, 1, 5, 5, 0, 0, 0, time.UTC)

// hubClock is a hub that looks every ten seconds, and evaluates what is due.
type hubClock struct {
	*recorder
	t      *testing.T
	engine *Engine
	c      *ByClock
	now    time.Time
	edges  []string
	seen   map[string]time.Time
	series []Reported
	answer func(query string, at time.Time) ([]Sample, error)
	asked  int
}

func (h *hubClock) Query(_ context.Context, query string, at time.Time, _ int) ([]Sample, error) {
	h.asked++
	return h.answer(query, at)
}

func newHubClock(t *testing.T, text string, now time.Time, active ...alert.Alert) *hubClock {
	t.Helper()
	set, err := Load([]Source{{Name: "rules.yaml", Data: []byte(text)}, plan.Source()}, testEnv())
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	h := &hubClock{recorder: &recorder{}, t: t, now: now, edges: []string{"gate-1", "solar-1"}, seen: map[string]time.Time{}}
	h.engine = NewEngine([]Effective{{set, Always}}, h.emit)
	h.c = h.engine.ByClock(active, now, h)
	return h
}

// run lets time pass, while the edges of the list are heard.
func (h *hubClock) run(d time.Duration, heard ...string) {
	for end := h.now.Add(d); h.now.Before(end); {
		h.now = h.now.Add(10 * time.Second)
		for _, e := range heard {
			h.seen[e] = h.now
		}
		var list []Seen
		for _, e := range h.edges {
			list = append(list, Seen{Edge: e, Site: "24848", Last: h.seen[e]})
		}
		h.c.Look(h.now, list, func([]string) []Reported { return h.series })
		for _, e := range h.c.Due(h.now) {
			_ = e.Run(h.t.Context()) // shown by the status
		}
	}
}

// steps writes what happened: kind, severity, time since noon, edge or group, value, reason.
func (h *hubClock) expectSteps(want ...string) {
	h.t.Helper()
	var got []string
	for i := range h.all {
		x := &h.all[i]
		s := fmt.Sprintf("%s %s %s %s/%s/%s %g", x.Kind, x.Alert.Severity, x.Time.Sub(noon), x.Alert.Edge, x.Alert.Device, x.Alert.Point, x.Alert.Value)
		if x.Alert.Reason != "" {
			s += " (" + x.Alert.Reason + ")"
		}
		if x.Alert.Labels[LabelJudgedBy] != HubClock {
			s += " without judged_by"
		}
		got = append(got, s)
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		h.t.Errorf("happened:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	h.all = nil
}

func (h *hubClock) active() (out []alert.Alert) {
	for i := range h.all {
		a := h.all[i].Alert
		out = append(out, a)
	}
	return out[len(out)-1:]
}

func TestAnEdgeThatIsNotHeardIsOfflineByTheHubsClock(t *testing.T) {
	h := newHubClock(t, "[]", noon)
	h.run(10*time.Minute, "gate-1", "solar-1")
	h.expectSteps()
	h.run(70*time.Minute, "solar-1")
	if a := h.all[0].Alert; a.Site != "24848" || a.Quantity != alert.QuantitySilence || !strings.Contains(a.Message.EN, "Gateway gate-1 at Lac Duong has been offline for 5 min") {
		t.Errorf("got %+v", a)
	}
	h.expectSteps("raised warning 15m0s gate-1// 300", "severity_changed critical 1h10m0s gate-1// 3600")
	h.run(time.Minute, "gate-1", "solar-1")
	h.expectSteps("cleared critical 1h20m10s gate-1// 0")
}

func TestAnEdgeThatSleepsByAPlanIsMissedWhenItShouldBeAwakeOnly(t *testing.T) {
	evening := noon.Add(5*time.Hour + 50*time.Minute) // 17:50 there
	h := newHubClock(t, "[]", evening)
	h.run(9*time.Minute, "gate-1", "solar-1")
	h.run(12*time.Hour, "gate-1") // to 05:59
	h.expectSteps()
	h.run(10*time.Minute, "gate-1")
	h.expectSteps("raised warning 18h5m0s solar-1// 300")
}

func TestARestartOfTheHubKeepsTheAlertsOfEdgesAndRaisesNoOther(t *testing.T) {
	h := newHubClock(t, "[]", noon)
	h.run(time.Minute, "gate-1", "solar-1")
	h.run(40*time.Minute, "solar-1")
	old := h.all[0]
	h.run(10 * time.Minute) // another falls silent later
	if len(h.all) != 2 {
		t.Fatalf("got %+v", h.all)
	}
	later := h.all[1]
	again := newHubClock(t, "[]", h.now.Add(20*time.Minute), later.Alert, old.Alert)
	for i := range again.all { // what the log has, it knows
		if k := again.all[i].Key(); k != old.Key() && k != later.Key() && again.all[i].Kind != alert.SeverityChanged {
			t.Errorf("told anew: %s", short(&again.all[i]))
		}
	}
	again.all = nil
	again.run(4 * time.Minute) // nobody has been heard since the start
	again.expectSteps()
	again.run(20*time.Second, "gate-1", "solar-1")
	if len(again.all) != 2 || again.all[0].Kind != alert.Ended || again.all[0].Alert.ID != old.Alert.ID || again.all[1].Alert.ID != later.Alert.ID {
		t.Errorf("got %+v", again.all)
	}
}

func TestAnAlertOfAnEdgeWhoseRuleIsGoneEnds(t *testing.T) {
	h := newHubClock(t, "[]", noon)
	h.run(6*time.Minute, "solar-1")
	a := h.all[0].Alert
	again := newHubClock(t, "- {id: edge_offline, edge_offline: {info: {for: 10m}}}", h.now, a)
	again.expectSteps("cleared warning 6m0s gate-1// 300 (rule changed)")
}

func TestARuleFileReplacesABuiltInRule(t *testing.T) {
	h := newHubClock(t, "- {id: edge_offline, edge_offline: {info: {for: 10m}}, watch: {where: {edge: gate-*}}}", noon)
	h.run(time.Minute, "gate-1", "solar-1")
	h.run(20 * time.Minute)
	h.expectSteps("raised warning 6m0s solar-1// 300", "raised info 11m0s gate-1// 600")
}

const expressionRule = `
- id: dirt
  expression: {query: "pm2_5 - 10", every: 1m, quantity: pm2_5}
  above: {warning: {limit: 50, clear: 40, for: 2m, clear_for: 1m}, critical: {limit: 100}}
`

func sample(edge string, v float64) Sample {
	return Sample{telemetry.NewLabels(map[string]string{"site": "24848", "edge": edge, "device": "air-01", "point": "pm2_5", "spot": "market"}), v}
}

func TestAnExpressionIsJudgedByTheLadder(t *testing.T) {
	h := newHubClock(t, expressionRule, noon)
	v := 45.0
	h.answer = func(query string, _ time.Time) ([]Sample, error) {
		if query != "pm2_5 - 10" {
			t.Errorf("asked %q", query)
		}
		return []Sample{sample("gate-1", v), sample("solar-1", 1)}, nil
	}
	both := []string{"gate-1", "solar-1"}
	h.run(3*time.Minute, both...)
	v = 60
	h.run(4*time.Minute, both...)
	if len(h.all) != 1 {
		t.Fatalf("got %+v", h.all)
	}
	a := h.all[0].Alert
	if a.Start.Sub(a.Onset) != 2*time.Minute || a.Site != "24848" || a.Quantity != "pm2_5" || a.Unit != "ug/m3" || a.Labels["spot"] != "market" ||
		a.Labels["point"] != "" || !strings.Contains(a.Message.EN, "60") {
		t.Errorf("got %+v", a)
	}
	id := a.ID
	h.all = nil
	v = 120
	h.run(time.Minute, both...)
	v = 30
	h.run(3*time.Minute, both...)
	if len(h.all) != 3 || h.all[0].Alert.Severity != alert.Critical || h.all[1].Alert.Severity != alert.Warning || h.all[2].Kind != alert.Ended ||
		h.all[2].Alert.ID != id || h.all[2].Time.Sub(h.all[1].Time) != time.Minute || h.all[2].Alert.Device != "air-01" || h.all[2].Alert.Point != "pm2_5" {
		t.Errorf("got %+v", h.all)
	}
	info := h.rule("dirt")
	if info.Matched != 2 || info.Evaluations < 10 || info.Failures != 0 || info.Fired != 1 || !info.ByClock || info.Error != "" {
		t.Errorf("status %+v", info)
	}
}

func (h *hubClock) rule(id string) RuleInfo {
	for _, r := range h.engine.Rules() {
		if r.ID == id {
			return r
		}
	}
	h.t.Fatalf("no rule %s", id)
	return RuleInfo{}
}

func TestAnExpressionThatFailsNeitherRaisesNorClears(t *testing.T) {
	h := newHubClock(t, expressionRule, noon)
	var fail error
	v := 60.0
	h.answer = func(string, time.Time) ([]Sample, error) { return []Sample{sample("gate-1", v)}, fail }
	both := []string{"gate-1", "solar-1"}
	h.run(90*time.Second, both...) // over, but not for two minutes yet
	fail = errors.New("too many samples")
	h.run(10*time.Minute, both...)
	h.expectSteps()
	if info := h.rule("dirt"); info.Error != "too many samples" || info.Failures < 9 || info.ErrorAt.IsZero() {
		t.Errorf("status %+v", info)
	}
	fail = nil
	h.run(90*time.Second, both...) // the delay begins anew
	h.expectSteps()
	h.run(2*time.Minute, both...)
	if len(h.all) != 1 {
		t.Fatalf("got %+v", h.all)
	}
	h.all = nil
	fail = errors.New("again")
	h.run(time.Hour, both...)
	h.expectSteps()
}

func TestASeriesThatLeavesTheResultClears(t *testing.T) {
	h := newHubClock(t, expressionRule, noon)
	list := []Sample{sample("gate-1", 60)}
	h.answer = func(string, time.Time) ([]Sample, error) { return list, nil }
	both := []string{"gate-1", "solar-1"}
	h.run(10*time.Minute, both...)
	h.all = nil
	list = nil
	h.run(3*time.Minute, both...)
	if len(h.all) != 1 || h.all[0].Kind != alert.Ended || h.all[0].Alert.Reason != ReasonMissing {
		t.Fatalf("got %+v", h.all)
	}
	if n := len(h.c.asked["dirt"].results.list); n != 0 {
		t.Errorf("%d series are remembered", n)
	}
	h.all = nil
	list = []Sample{sample("gate-1", 60)}
	h.run(4*time.Minute, both...)
	if len(h.all) != 1 || h.all[0].Kind != alert.Raised {
		t.Errorf("got %+v", h.all)
	}
	// While its edge is cut off, nobody knows whether it is over.
	h.all, list = nil, nil
	h.run(4*time.Minute, "solar-1") // edge_offline comes after five
	h.expectSteps()
}

func TestARestartKeepsWhatExpressionsAndCountsHaveRaised(t *testing.T) {
	rules := expressionRule + "- {id: few, watch: {quantity: pm2_5}, fewer: {by: site, warning: {than: 3}}}\n"
	both := []string{"gate-1", "solar-1"}
	answer := func(string, time.Time) ([]Sample, error) { return []Sample{sample("gate-1", 60)}, nil }
	h := newHubClock(t, rules, noon)
	h.answer = answer
	h.series = []Reported{{pm("air-01"), noon.Add(time.Hour)}, {pm("air-02"), noon.Add(time.Hour)}}
	h.run(20*time.Minute, both...)
	if len(h.all) != 2 || h.all[0].Alert.Rule != "dirt" || h.all[1].Alert.Rule != "few" {
		t.Fatalf("got %+v", h.all)
	}
	dirt, few := h.all[0].Alert, h.all[1].Alert

	again := newHubClock(t, rules, h.now.Add(3*time.Minute), few, dirt)
	again.answer = answer
	again.run(3*time.Minute, both...) // fewer says nothing yet, nothing is missing
	again.series = h.series
	again.run(20*time.Minute, both...)
	again.expectSteps()
	again.answer = func(string, time.Time) ([]Sample, error) { return []Sample{sample("gate-1", 5)}, nil }
	again.series = append(again.series, Reported{pm("air-03"), noon.Add(time.Hour)})
	again.run(3*time.Minute, both...)
	if len(again.all) != 2 {
		t.Fatalf("got %+v", again.all)
	}
	for i := range again.all {
		a := again.all[i].Alert
		if a.State != alert.Cleared || a.ID != dirt.ID && a.ID != few.ID || a.Reason != "" {
			t.Errorf("got %+v", a)
		}
	}

	// What is no longer there after all ends once that means something.
	gone := newHubClock(t, rules, h.now, dirt)
	gone.answer = func(string, time.Time) ([]Sample, error) { return nil, nil }
	gone.run(4*time.Minute, both...)
	gone.expectSteps()
	gone.run(3*time.Minute, both...)
	if len(gone.all) != 1 || gone.all[0].Alert.ID != dirt.ID || gone.all[0].Alert.Reason != ReasonMissing {
		t.Errorf("got %+v", gone.all)
	}

	// A rule that judges otherwise ends it at once.
	other := newHubClock(t, strings.ReplaceAll(rules, "limit: 50", "limit: 51"), h.now, dirt)
	other.answer = answer
	other.run(10*time.Second, both...)
	if len(other.all) != 1 || other.all[0].Alert.Reason != ReasonRuleChanged {
		t.Errorf("got %+v", other.all)
	}
}

func TestFewerThanAreCountedByGroup(t *testing.T) {
	h := newHubClock(t, `
- id: stations
  watch: {quantity: pm2_5, where: {site: ["24848", "24850"]}}
  fewer: {by: site, within: 10m, warning: {than: 3, for: 1m}, critical: {than: 1}}
`, noon)
	both := []string{"gate-1", "solar-1"}
	at := func(device string, last time.Time) Reported {
		return Reported{telemetry.BoundSeries{Site: "24848", Edge: "gate-1", Device: device, Point: "rain", Quantity: "pm2_5"}, last}
	}
	late := noon.Add(time.Hour)
	h.series = []Reported{at("rain-1", late), at("rain-2", late), at("rain-3", noon.Add(10*time.Minute))}
	h.run(9*time.Minute, both...)
	h.expectSteps() // nothing counts in the first time
	h.run(time.Minute, both...)
	h.expectSteps("raised critical 10m0s /site=24850/stations 0") // named, and nothing of it is known
	h.run(9*time.Minute, both...)
	h.expectSteps()
	h.run(4*time.Minute, both...) // rain-3 is older than ten minutes from 20:00 on
	if a := h.all[0].Alert; a.Site != "24848" || a.Quantity != "pm2_5" || !strings.Contains(a.Message.EN, "Only 2 report PM2.5") {
		t.Errorf("got %+v", a)
	}
	h.expectSteps("raised warning 21m10s /site=24848/stations 2")
	h.series[2].Last = late
	h.run(time.Minute, both...)
	h.expectSteps("cleared warning 23m10s /site=24848/stations 3")
}

func TestARuleThatIsRemovedEndsItsAlerts(t *testing.T) {
	h := newHubClock(t, expressionRule, noon)
	h.answer = func(string, time.Time) ([]Sample, error) { return []Sample{sample("gate-1", 60)}, nil }
	h.run(5*time.Minute, "gate-1", "solar-1")
	h.all = nil
	set, err := Load([]Source{plan.Source()}, testEnv())
	if err != nil {
		t.Fatal(err)
	}
	from := h.now.Add(time.Minute)
	if err := h.engine.Add(Effective{set, from.UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	h.run(2*time.Minute, "gate-1", "solar-1")
	if len(h.all) != 1 || h.all[0].Alert.Reason != ReasonRuleChanged || !h.all[0].Time.Equal(from) {
		t.Errorf("got %+v", h.all)
	}
}

func TestASlowExpressionCostsOnlyItself(t *testing.T) {
	h := newHubClock(t, "- {id: a, expression: {query: a, every: 1s, timeout: 1s}, above: {info: {limit: 1}}}\n"+
		"- {id: b, expression: {query: b, every: 1s}, above: {info: {limit: 1}}}\n"+
		"- {id: c, expression: {query: c, every: 1s}, above: {info: {limit: 1}}}\n", noon)
	x := map[string]*expression{}
	h.answer = func(string, time.Time) ([]Sample, error) { return nil, nil }
	h.run(10 * time.Second)
	for id, e := range h.c.asked {
		x[id] = e
	}
	x["a"].took = 2 * time.Second
	first := h.c.Due(h.now.Add(time.Minute))
	if len(first) != 3 { // two quick ones and the slow one
		t.Fatalf("%d are due", len(first))
	}
	if again := h.c.Due(h.now.Add(time.Minute)); len(again) != 0 {
		t.Errorf("%d run twice", len(again))
	}
	for _, e := range first[1:] {
		_ = e.Run(t.Context())
	}
	if n := len(h.c.Due(h.now.Add(2 * time.Minute))); n != 2 {
		t.Errorf("while one is slow %d of the others are due", n)
	}
}

func TestAQueryThatGivesTooManySeriesIsAnError(t *testing.T) {
	h := newHubClock(t, expressionRule, noon)
	h.answer = func(string, time.Time) ([]Sample, error) {
		var out []Sample
		for i := range maxResult + 1 {
			out = append(out, sample(fmt.Sprintf("e%d", i), 100))
		}
		return out, nil
	}
	h.run(10*time.Minute, "gate-1", "solar-1")
	h.expectSteps()
	if info := h.rule("dirt"); !strings.Contains(info.Error, "at most 1000") {
		t.Errorf("status %+v", info)
	}
}
