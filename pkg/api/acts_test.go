package api

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
)

// fakeActs records what it is asked, and refuses alerts by their ids.
type fakeActs struct {
	Acts // what is not set here must not be called
	kind alert.Kind
	act  alert.Act
	ids  []string
	hold alert.Hold
	err  error
	from time.Time
	to   time.Time
}

func (f *fakeActs) Act(kind alert.Kind, act alert.Act, ids ...string) ([]alert.ActResult, error) {
	f.kind, f.act, f.ids = kind, act, ids
	results := make([]alert.ActResult, len(ids))
	for i, id := range ids {
		switch id {
		case "gone":
			results[i].Err = &alert.Refusal{Reason: alert.NotFound, What: "there is no such alert"}
		case "busy":
			results[i].Err = &alert.Refusal{Reason: alert.NotNow, What: "not now", Do: "wait"}
		case "reused":
			results[i].Err = &alert.Refusal{Reason: alert.KeyReused, What: "used"}
		default:
			results[i] = alert.ActResult{Entry: alert.Entry{Sequence: 7, Transition: alert.Transition{Kind: kind, Act: &act}}, Repeated: id == "again"}
		}
	}
	return results, f.err
}

func (f *fakeActs) History(_ string, after uint64, limit int) (out []alert.Entry, err error) {
	for s := after + 1; s <= 5 && len(out) < limit; s++ {
		out = append(out, alert.Entry{Sequence: s})
	}
	return out, nil
}

func (f *fakeActs) Counts() alert.Counts { return alert.Counts{Active: 3} }

func (f *fakeActs) Groups() ([]alert.Group, error) {
	return []alert.Group{{Site: "a", Rule: "r1"}, {Site: "b", Rule: "r1"}}, nil
}

func (f *fakeActs) Statistics(from, to time.Time, site string) (alert.Statistics, error) {
	f.from, f.to = from, to
	return alert.Statistics{From: from, To: to, Alerts: len(site)}, nil
}

func (f *fakeActs) Holds(ended bool) ([]alert.Hold, error) {
	holds := []alert.Hold{{ID: "h1", Kind: alert.HoldShelved}, {ID: "h2", Kind: alert.HoldMaintenance}}
	if ended {
		holds = append(holds, alert.Hold{ID: "h0"})
	}
	return holds, nil
}

func (f *fakeActs) PutHold(h alert.Hold) (alert.Hold, error) { f.hold = h; return h, f.err }

func (f *fakeActs) EndHold(id, who, why string) (alert.Hold, error) {
	return alert.Hold{ID: id, Ended: &alert.HoldEnd{Who: who, Why: why}}, f.err
}

func actsRig(t *testing.T, change func(*Config)) (*rig, *fakeActs) {
	f := &fakeActs{}
	return newRig(t, fixedFleet{}, func(c *Config) {
		c.Acts = f
		if change != nil {
			change(c)
		}
	}), f
}

// post sends a body and returns status and answer.
func (r *rig) post(path, body string, header ...string) (int, map[string]any) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		r.Fatalf("%s: %v\n%s", path, err, data)
	}
	if resp.StatusCode != http.StatusOK && resp.Header.Get("Content-Type") != "application/problem+json" {
		r.Errorf("%s: an error of type %s", path, resp.Header.Get("Content-Type"))
	}
	return resp.StatusCode, v
}

func TestActsReachTheLogAsTheyWereAskedFor(t *testing.T) {
	r, f := actsRig(t, nil)
	until := time.Date(2026, 11, 28, 1, 0, 0, 0, time.UTC)
	for path, c := range map[string]struct {
		body string
		kind alert.Kind
		act  alert.Act
	}{
		"acknowledge":   {`{"who":"Lan","why":"on it"}`, alert.Acknowledged, alert.Act{Who: "Lan", Why: "on it", Key: "h"}},
		"unacknowledge": {`{"who":"Lan","key":"b"}`, alert.Unacknowledged, alert.Act{Who: "Lan", Key: "b"}},
		"comment":       {`{"who":"Lan","text":"x"}`, alert.Commented, alert.Act{Who: "Lan", Text: "x", Key: "h"}},
		"shelve":        {`{"who":"Lan","until":"2026-11-28T08:00:00+07:00"}`, alert.Shelved, alert.Act{Who: "Lan", Until: &until, Key: "h"}},
		"unshelve":      {`{"who":"Lan"}`, alert.Unshelved, alert.Act{Who: "Lan", Key: "h"}},
		"assign":        {`{"who":"Lan","assignee":"Mai"}`, alert.Assigned, alert.Act{Who: "Lan", Assignee: "Mai", Key: "h"}},
		"close":         {`{"who":"Lan","cause":"false_alarm"}`, alert.Closed, alert.Act{Who: "Lan", Cause: alert.CauseFalseAlarm, Key: "h"}},
		"reopen":        {`{"who":"Lan"}`, alert.Reopened, alert.Act{Who: "Lan", Key: "h"}},
	} {
		status, v := r.post("/api/v1/alerts/a1/"+path, c.body, "Idempotency-Key", "h")
		if status != http.StatusOK || v["repeated"] != false || f.kind != c.kind || f.ids[0] != "a1" {
			t.Errorf("%s: %d %v", path, status, v)
		}
		if diff := cmp.Diff(c.act, f.act, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	if _, v := r.post("/api/v1/alerts/again/acknowledge", `{"who":"Lan"}`); v["repeated"] != true {
		t.Errorf("repeated: %v", v)
	}
	before := time.Now()
	if status, v := r.post("/api/v1/alerts/a1/shelve", `{"who":"Lan","for":"2h"}`); status != http.StatusOK {
		t.Errorf("for: %v", v)
	}
	if d := f.act.Until.Sub(before); d < 2*time.Hour-time.Second || d > 2*time.Hour+patience || f.act.For != "2h" {
		t.Errorf("for 2h is until %v", f.act.Until)
	}
}

func TestActsThatCannotBeAreProblems(t *testing.T) {
	r, f := actsRig(t, nil)
	long := strings.Repeat("x", maxBody)
	for name, c := range map[string]struct {
		path, body string
		status     int
		says       string
	}{
		"unknown alert":     {"gone/acknowledge", `{"who":"Lan"}`, 404, "no such alert"},
		"not now":           {"busy/close", `{"who":"Lan","cause":"other"}`, 409, "not now; wait"},
		"key reused":        {"reused/comment", `{"who":"Lan"}`, 422, "used"},
		"unknown act":       {"a1/explode", `{"who":"Lan"}`, 404, "it is one of acknowledge, assign, close"},
		"no JSON":           {"a1/acknowledge", `who=Lan`, 400, "one JSON object"},
		"misspelt":          {"a1/acknowledge", `{"whom":"Lan"}`, 400, "whom"},
		"two objects":       {"a1/acknowledge", `{"who":"Lan"}{}`, 400, "something follows"},
		"too large":         {"a1/comment", `{"who":"Lan","text":"` + long + `"}`, 413, "at most"},
		"foreign field":     {"a1/acknowledge", `{"who":"Lan","cause":"other"}`, 422, `acknowledge has no "cause"`},
		"until and for":     {"a1/shelve", `{"who":"Lan","for":"1h","until":"2026-11-28T08:00:00+07:00"}`, 422, "give one of them"},
		"bad for":           {"a1/shelve", `{"who":"Lan","for":"soon"}`, 422, "write it as"},
		"bulk in single":    {"a1/acknowledge", `{"who":"Lan","alerts":["b"]}`, 400, "/api/v1/alerts/acts"},
		"unknown parameter": {"a1/acknowledge?x=1", `{"who":"Lan"}`, 400, "not known"},
	} {
		status, v := r.post("/api/v1/alerts/"+c.path, c.body)
		if detail, _ := v["detail"].(string); status != c.status || !strings.Contains(detail, c.says) {
			t.Errorf("%s: %d %v", name, status, v)
		}
	}
	if status, _ := r.post("/api/v1/alerts/a1/acknowledge", `{"who":"Lan"}`, "Content-Type", "text/plain"); status != http.StatusUnsupportedMediaType {
		t.Errorf("text: %d", status)
	}
	f.err = errors.New("disk on fire")
	status, v := r.post("/api/v1/alerts/a1/acknowledge", `{"who":"Lan"}`)
	if detail, _ := v["detail"].(string); status != 500 || strings.Contains(detail, "fire") {
		t.Errorf("our own failure: %d %v", status, v)
	}
}

func TestOneActOnManyAlertsSaysWhatBecameOfEach(t *testing.T) {
	r, f := actsRig(t, nil)
	status, v := r.post("/api/v1/alerts/acts", `{"act":"acknowledge","alerts":["a","gone","again"],"who":"Lan"}`)
	items, _ := v["items"].([]any)
	if status != http.StatusOK || len(items) != 3 || f.kind != alert.Acknowledged {
		t.Fatalf("%d %v", status, v)
	}
	for i, want := range []string{`"sequence":7`, `"status":404`, `"repeated":true`} {
		if b, _ := json.Marshal(items[i]); !strings.Contains(string(b), want) {
			t.Errorf("item %d: %s", i, b)
		}
	}
	for name, body := range map[string]string{
		"none":     `{"act":"acknowledge","alerts":[],"who":"Lan"}`,
		"too many": `{"act":"acknowledge","who":"Lan","alerts":["a"` + strings.Repeat(`,"a"`, maxBulk) + `]}`,
		"nobody":   `{"act":"acknowledge","alerts":["a"]}`,
	} {
		if status, v := r.post("/api/v1/alerts/acts", body); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %v", name, status, v)
		}
	}
}

func TestOtherPagesCannotActThroughABrowser(t *testing.T) {
	r, f := actsRig(t, nil)
	for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		if status, v := r.post("/api/v1/alerts/a1/acknowledge", `{"who":"Lan"}`, header...); status != http.StatusForbidden || f.kind != "" {
			t.Errorf("%v: %d %v", header, status, v)
		}
	}
	if status, _ := r.post("/api/v1/alerts/a1/acknowledge", `{"who":"Lan"}`, "Sec-Fetch-Site", "same-origin"); status != http.StatusOK {
		t.Errorf("our own page: %d", status)
	}
}

func TestWhoSignedInCannotClaimToBeAnother(t *testing.T) {
	r, f := actsRig(t, func(c *Config) {
		c.Identify = func(*http.Request) (*Who, error) { return &Who{Name: "Minh", Role: Operator}, nil }
	})
	r.post("/api/v1/alerts/a1/acknowledge", `{"who":"Lan"}`)
	if f.act.Who != "Minh" {
		t.Errorf("who: %s", f.act.Who)
	}
}

func TestHistoryPages(t *testing.T) {
	r, _ := actsRig(t, nil)
	r.log.add("a1")
	var seen []uint64
	cursor := ""
	for {
		var p page[alert.Entry]
		r.get("/api/v1/alerts/a1/entries?limit=2"+cursor, &p)
		for _, e := range p.Items {
			seen = append(seen, e.Sequence)
		}
		if p.Next == "" {
			break
		}
		cursor = "&cursor=" + p.Next
	}
	if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5}, seen); diff != "" {
		t.Error(diff)
	}
	var v problemDocument
	if status, _ := r.get("/api/v1/alerts/nobody/entries", &v); status != http.StatusNotFound {
		t.Errorf("unknown alert: %d", status)
	}
}

func TestOverviews(t *testing.T) {
	r, f := actsRig(t, nil)
	var counts alert.Counts
	r.get("/api/v1/alerts/counts", &counts)
	var groups page[alert.Group]
	r.get("/api/v1/alerts/groups?site=b", &groups)
	if counts.Active != 3 || len(groups.Items) != 1 || groups.Items[0].Site != "b" {
		t.Errorf("%+v %+v", counts, groups)
	}
	var st alert.Statistics
	r.get("/api/v1/alerts/statistics?from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z&site=abc", &st)
	if st.Alerts != 3 || f.to.Sub(f.from) != 24*time.Hour {
		t.Errorf("%+v", st)
	}
	if r.get("/api/v1/alerts/statistics", &st); time.Since(f.to) > patience || f.to.Sub(f.from) != 24*time.Hour {
		t.Errorf("the last day is %v to %v", f.from, f.to)
	}
	var v problemDocument
	if status, _ := r.get("/api/v1/alerts/statistics?from=2026-11-03T00:00:00Z&to=2026-11-02T00:00:00Z", &v); status != http.StatusBadRequest {
		t.Errorf("backward: %d", status)
	}
}

func TestHolds(t *testing.T) {
	r, f := actsRig(t, nil)
	status, v := r.post("/api/v1/holds", `{"kind":"out_of_service","edge":"e1","device":"d1","for":"1d","who":"Lan","why":"calibration"}`)
	if status != http.StatusOK || f.hold.Device != "d1" || f.hold.Who != "Lan" || time.Until(f.hold.Until) < 23*time.Hour {
		t.Errorf("%d %v %+v", status, v, f.hold)
	}
	if status, v := r.post("/api/v1/holds", `{"kind":"edge_offline","edge":"e1","for":"1d","who":"Lan"}`); status != http.StatusUnprocessableEntity {
		t.Errorf("%d %v", status, v)
	}
	if status, v := r.post("/api/v1/holds/h1/end", `{"who":"Lan"}`); status != http.StatusOK || v["id"] != "h1" {
		t.Errorf("%d %v", status, v)
	}
	for path, n := range map[string]int{"": 2, "?ended=true": 3, "?kind=shelved": 1} {
		var p page[alert.Hold]
		if r.get("/api/v1/holds"+path, &p); len(p.Items) != n {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

type fakeRules struct {
	status RulesStatus
	fired  Fire
}

func (f *fakeRules) Reload() (RulesStatus, error) { return f.status, nil }
func (f *fakeRules) Status() RulesStatus          { return f.status }

func (f *fakeRules) Fire(x Fire) (alert.Entry, error) {
	f.fired = x
	return alert.Entry{Sequence: 9}, nil
}

func TestRulesAreChangedFromThisMachineOnly(t *testing.T) {
	f := &fakeRules{status: RulesStatus{Sets: []RuleSet{}, Last: &Reload{OK: true, Changed: true, Faults: []Fault{}}}}
	r, _ := actsRig(t, func(c *Config) { c.Rules = f })
	if status, v := r.post("/api/v1/rules/reload", ""); status != http.StatusOK || v["last_reload"] == nil {
		t.Errorf("%d %v", status, v)
	}
	f.status.Last = &Reload{Faults: []Fault{{File: "a.yaml", Line: 3, Column: 9, Message: "a.yaml:3:9: no"}}}
	status, v := r.post("/api/v1/rules/reload", "")
	if b, _ := json.Marshal(v["faults"]); status != http.StatusUnprocessableEntity || !strings.Contains(string(b), `"line":3`) {
		t.Errorf("%d %v", status, v)
	}
	if status, v := r.post("/api/v1/rules/r1/test", `{"series":"e/d/p","severity":"critical","who":"Lan"}`); status != http.StatusOK || v["sequence"] != 9.0 ||
		f.fired.Rule != "r1" || f.fired.Severity != alert.Critical {
		t.Errorf("%d %v %+v", status, v, f.fired)
	}
	for _, path := range []string{"/api/v1/rules/reload", "/api/v1/rules/r1/test"} {
		if status, v := r.post(path, "{}", "X-Forwarded-For", "10.0.0.1"); status != http.StatusForbidden {
			t.Errorf("%s through a proxy: %d %v", path, status, v)
		}
		req := httptest.NewRequest(http.MethodPost, path, http.NoBody)
		req.RemoteAddr = "192.0.2.1:5555"
		w := httptest.NewRecorder()
		if New(Config{Rules: f, Logger: slog.New(slog.DiscardHandler)}).ServeHTTP(w, req); w.Code != http.StatusForbidden {
			t.Errorf("%s from elsewhere: %d", path, w.Code)
		}
	}
}
