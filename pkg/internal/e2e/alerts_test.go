package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api"
)

// post sends a body and decodes the answer; it returns the status.
func (l *line) post(path string, body, out any) int {
	l.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.Post(l.http+path, "application/json", bytes.NewReader(data))
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err = io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		l.t.Fatalf("%s: %s %v\n%s", path, resp.Status, err, data)
	}
	return resp.StatusCode
}

// only waits for the one active alert that is no test.
func (l *line) only() (a alert.Alert) {
	l.t.Helper()
	l.eventually(time.Minute, "one alert is active", func() bool {
		var list struct{ Items []alert.Alert }
		l.get("/api/v1/alerts?state=active&test=false", &list)
		if len(list.Items) == 1 {
			a = list.Items[0]
		}
		return len(list.Items) == 1
	})
	return a
}

func (l *line) alert(id string) (a alert.Alert) {
	l.t.Helper()
	l.get("/api/v1/alerts/"+id, &a)
	return a
}

type answer struct {
	Entry    alert.Entry
	Repeated bool
	Title    string
	Faults   []api.Fault
}

func TestKilledAndReloadedTheHubKeepsWhatPeopleDid(t *testing.T) {
	l := newLine(t, plainRule)
	l.set(pm25Register, 20)
	l.startHub()
	l.startEdge()
	l.eventually(time.Minute, "readings arrive", func() bool { return len(l.onTimeOf("air", "pm2_5")) > 3 })
	l.set(pm25Register, 120)
	a := l.only()

	// People act; the hub is killed at once after every answer, and the answer stands.
	acts := []struct {
		name string
		body map[string]any
	}{
		{"acknowledge", map[string]any{"who": "Lan", "key": "1"}},
		{"comment", map[string]any{"who": "Lan", "text": "đang xem", "key": "2"}},
		{"assign", map[string]any{"who": "Lan", "assignee": "Hùng", "key": "3"}},
		{"shelve", map[string]any{"who": "Lan", "for": "1h", "why": "khói bếp", "key": "4"}},
	}
	for _, act := range acts {
		var first, again answer
		if status := l.post("/api/v1/alerts/"+a.ID+"/"+act.name, act.body, &first); status != http.StatusOK || first.Repeated {
			t.Fatalf("%s: %d %+v", act.name, status, first)
		}
		l.hub.kill()
		l.startHub()
		if status := l.post("/api/v1/alerts/"+a.ID+"/"+act.name, act.body, &again); status != http.StatusOK || !again.Repeated {
			t.Errorf("%s again: %d %+v", act.name, status, again)
		}
		if diff := cmp.Diff(first.Entry, again.Entry); diff != "" {
			t.Errorf("%s is another entry after the kill:\n%s", act.name, diff)
		}
	}
	l.set(pm25Register, 60) // the edge sends again what was not safe, and goes on
	before := len(l.onTimeOf("air", "pm2_5"))
	l.eventually(time.Minute, "readings arrive again", func() bool { return len(l.onTimeOf("air", "pm2_5")) > before+3 })
	kept := func(when string) {
		t.Helper()
		b := l.alert(a.ID)
		if !b.Acknowledged || b.Ack.By != "Lan" || b.Comments != 1 || b.Assignee != "Hùng" || b.ShelvedUntil == nil || b.State != alert.Active || !b.Start.Equal(a.Start) {
			t.Errorf("%s: %+v", when, b)
		}
	}
	kept("after replays")

	// A faulty file changes nothing and says where.
	l.write("rules.yaml", strings.Replace(plainRule, "limit: 150", "limit: 15", 1))
	var bad answer
	if status := l.post("/api/v1/rules/reload", struct{}{}, &bad); status != http.StatusUnprocessableEntity || len(bad.Faults) != 2 ||
		bad.Faults[0].Line != 6 || bad.Faults[0].Column != 23 || filepath.Base(bad.Faults[0].File) != "rules.yaml" {
		t.Errorf("a faulty file: %d %+v", status, bad)
	}
	var st api.RulesStatus
	l.get("/api/v1/rules/status", &st)
	if st.Last.OK || len(st.Sets) != 1 || len(st.Last.Faults) != 2 {
		t.Errorf("status %+v", st)
	}
	if m := l.metrics(); !strings.Contains(m, "langbiang_hub_rules_reload_success 0") {
		t.Error("no metric tells of it")
	}
	kept("after a faulty reload")

	// Words may change without the alert noticing.
	l.write("rules.yaml", strings.Replace(plainRule, "PM2.5 is", "Fine dust is", 1))
	if err := l.hub.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	l.eventually(time.Minute, "the rules are read again", func() bool {
		l.get("/api/v1/rules/status", &st)
		return st.Last.OK && len(st.Sets) == 2
	})
	l.passes(*st.Sets[1].From)
	kept("after new words")

	// Another limit ends it, and the new version raises its own, shelved as before.
	l.write("rules.yaml", strings.Replace(plainRule, "limit: 50,  clear: 45", "limit: 40,  clear: 35", 1))
	if out, err := exec.Command(filepath.Join(bin, "langbiang-hub"), "rules", "reload", "--config", filepath.Join(l.dir, "hub.yaml")).CombinedOutput(); err != nil || !strings.Contains(string(out), "1 rule: in force from") {
		t.Fatalf("rules reload: %v %s", err, out)
	}
	l.hub.kill()
	l.startHub()
	l.get("/api/v1/rules/status", &st)
	l.passes(*st.Sets[2].From)
	l.eventually(time.Minute, "the old version has ended", func() bool { return l.alert(a.ID).State == alert.Cleared })
	old, next := l.alert(a.ID), l.only()
	if old.Reason != "rule changed" || !old.End.Equal(*st.Sets[2].From) || !old.Acknowledged || next.RuleVersion == a.RuleVersion || next.Acknowledged || next.ShelvedUntil == nil {
		t.Errorf("old %+v\nnew %+v", old, next)
	}
	var closed answer
	if status := l.post("/api/v1/alerts/"+a.ID+"/close", map[string]any{"who": "Lan", "cause": "false_alarm"}, &closed); status != http.StatusOK || closed.Entry.Alert.Closed == nil {
		t.Errorf("close: %d %+v", status, closed)
	}

	// A test alert, by the command line.
	out, err := exec.Command(filepath.Join(bin, "langbiang-hub"), "rules", "fire", "--config", filepath.Join(l.dir, "hub.yaml"),
		"--test", "pm25-high", "--series", edgeID+"/air/pm2_5", "--severity", "critical", "--for", "1s", "--who", "Lan").CombinedOutput()
	if err != nil {
		t.Fatalf("rules fire: %v %s", err, out)
	}
	var tests struct{ Items []alert.Alert }
	l.eventually(time.Minute, "the test is over", func() bool {
		l.get("/api/v1/alerts?test=true", &tests)
		return len(tests.Items) == 1 && tests.Items[0].State == alert.Cleared
	})
	var statistics alert.Statistics
	l.get("/api/v1/alerts/statistics", &statistics)
	if statistics.Alerts != 1 || statistics.Held != 1 {
		t.Errorf("statistics %+v", statistics)
	}

	seen := map[string]bool{}
	for _, e := range l.entries() {
		if k := e.Key(); seen[k] {
			t.Errorf("%s stands in the log twice", k)
		} else {
			seen[k] = true
		}
	}
	l.hub.stop()
}

// passes waits until the edge's watermark has reached the time.
func (l *line) passes(from time.Time) {
	l.t.Helper()
	l.eventually(time.Minute, fmt.Sprintf("the edge has passed %v", from), func() bool {
		var edges struct{ Items []api.Edge }
		l.get("/api/v1/edges", &edges)
		return len(edges.Items) == 1 && edges.Items[0].Watermark != nil && edges.Items[0].Watermark.After(from)
	})
}

func (l *line) metrics() string {
	l.t.Helper()
	resp, err := http.Get(l.http + "/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(data)
}
