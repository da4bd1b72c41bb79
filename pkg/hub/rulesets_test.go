package hub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

const levelRule = "- {id: level, title: {vi: Mực nước, en: Level}, watch: {quantity: water_level}, above: {warning: {limit: 5}}, labels: {category: river}}\n"

func levelHub(t *testing.T) *Hub {
	return runHub(t, map[string]string{"hub.yaml": "data_dir: ./data\nrules: [./rules.yaml]\n", "rules.yaml": levelRule})
}

func levelFeeder(t *testing.T, h *Hub, edge string) *feeder {
	return newFeeder(t, h, edge, telemetry.Schema{
		Devices: []telemetry.Device{{ID: "gauge", Connection: "c", Address: "unit 1"}},
		Series:  []telemetry.Series{{Point: "level", Quantity: "water_level", Unit: "m", Interval: 1000}},
	})
}

// say sends one reading at w, and waits until the hub has it.
func (f *feeder) say(t *testing.T, w time.Time, v float64) {
	t.Helper()
	f.frame.Readings = append(f.frame.Readings[:0], telemetry.Reading{Time: w.UnixMilli(), Value: v})
	f.hub.ingest.Receive(f.id, wire.TopicFrame, f.cut(t, w.UnixMilli()))
	testutil.Eventually(t, time.Minute, "the hub has the frame", func() bool {
		for _, e := range f.hub.ingest.Edges() {
			if e.Edge == f.id {
				return e.Position.Seq == f.frame.Seq
			}
		}
		return false
	})
}

func (f *feeder) alerts(t *testing.T) []alert.Alert {
	t.Helper()
	if err := f.hub.ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	all, _, err := f.hub.ledger.Alerts(ledger.Filter{}, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var mine []alert.Alert
	for _, a := range all {
		if a.Edge == f.id {
			mine = append(mine, a)
		}
	}
	return mine
}

// change writes the rules with another limit and reloads them.
func change(t *testing.T, h *Hub, limit int) api.RuleSet {
	t.Helper()
	text := strings.Replace(levelRule, "limit: 5", fmt.Sprintf("limit: %d", limit), 1)
	if err := os.WriteFile(filepath.Join(filepath.Dir(h.plan.Config.DataDir), "rules.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := h.reloadRules()
	if err != nil || !st.Last.OK || !st.Last.Changed {
		t.Fatalf("reload: %+v %v", st.Last, err)
	}
	return st.Sets[len(st.Sets)-1]
}

func TestEveryEdgeIsJudgedByTheSetOfItsTime(t *testing.T) {
	h := levelHub(t)
	now := time.Now()
	live, behind := levelFeeder(t, h, "live"), levelFeeder(t, h, "behind")
	live.say(t, now.Add(time.Minute), 10) // its clock is ahead
	behind.say(t, now.Add(-time.Hour), 1)
	set := change(t, h, 50)
	if !set.From.After(now.Add(time.Minute + 4*time.Second)) {
		t.Errorf("the new set holds from %v, and an edge is at %v already", set.From, now.Add(time.Minute))
	}
	behind.say(t, now.Add(-30*time.Minute), 10) // as it was then
	old := behind.alerts(t)
	if len(old) != 1 || old[0].State != alert.Active || old[0].Limit != 5 {
		t.Fatalf("behind: %+v", old)
	}
	for _, f := range []*feeder{live, behind} {
		f.say(t, set.From.Add(time.Second), 10)
		all := f.alerts(t)
		if len(all) != 1 || all[0].Reason != rules.ReasonRuleChanged || !all[0].End.Equal(*set.From) {
			t.Errorf("%s: %+v", f.id, all)
		}
	}
}

func TestOldSetsAreDroppedOnceNoEdgeCanNeedThem(t *testing.T) {
	h := levelHub(t)
	f := levelFeeder(t, h, "e1")
	f.say(t, time.Now(), 10)
	for limit := 20; limit < 23; limit++ {
		change(t, h, limit)
	}
	count := func() (int, int) {
		kept, err := h.ledger.RuleSets()
		if err != nil {
			t.Fatal(err)
		}
		return len(kept), len(h.engine.Sets())
	}
	if err := h.dropRules(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if a, b := count(); a != 4 || b != 4 {
		t.Errorf("%d and %d sets, before their time", a, b)
	}
	if err := h.dropRules(time.Now().Add(h.plan.Config.Store.MaxAge + time.Minute)); err != nil {
		t.Fatal(err)
	}
	if a, b := count(); a != 1 || b != 1 {
		t.Errorf("%d and %d sets are kept", a, b)
	}
	f.say(t, time.Now().Add(time.Minute), 10) // 22 holds for all now
	if all := f.alerts(t); len(all) != 1 || all[0].Reason != rules.ReasonRuleChanged {
		t.Errorf("%+v", all)
	}
}

func TestFiringATestSaysWhatIsWrong(t *testing.T) {
	h := levelHub(t)
	f := levelFeeder(t, h, "e1")
	f.say(t, time.Now(), 1)
	admin := ruleAdmin{h}
	fine := api.Fire{Rule: "level", Series: "e1/gauge/level", Who: "Lan", Why: "drill"}
	e, err := admin.Fire(fine)
	if err != nil || !e.Alert.Test || e.Alert.Labels["category"] != "river" || e.Alert.Message.EN != "TEST: Level (Lan: drill)" || e.Alert.Limit != 5 {
		t.Errorf("%+v %v", e, err)
	}
	for says, bad := range map[string]api.Fire{
		"who is empty":          {Rule: "level", Series: "e1/gauge/level"},
		"there is no rule":      {Rule: "lvl", Series: "e1/gauge/level", Who: "Lan"},
		"no edge has":           {Rule: "level", Series: "e1/gauge/x", Who: "Lan"},
		"has no level":          {Rule: "level", Series: "e1/gauge/level", Severity: alert.Critical, Who: "Lan"},
		"write it as 30s or 5m": {Rule: "level", Series: "e1/gauge/level", For: "2w", Who: "Lan"},
	} {
		var refused *alert.Refusal
		if _, err := admin.Fire(bad); !errors.As(err, &refused) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
