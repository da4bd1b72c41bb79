package promapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestRulesAndAlertsHaveThePrometheusShape(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	a, err := New(Options{
		Queryable: storage.QueryableFunc(func(int64, int64) (storage.Querier, error) { return storage.NoopQuerier(), nil }),
		Rules: func() []Rule {
			return []Rule{
				{Name: "pm-high", File: "/etc/rules/air.yaml", Query: "pm2_5", For: 5 * time.Minute, Labels: map[string]string{"category": "air"}},
				{Name: "quiet", File: "/etc/rules/air.yaml", Query: "up == 0", Error: "bad", Evaluated: at, Took: time.Second},
				{Name: "foreseen", File: "built-in"},
			}
		},
		Alerts: func() ([]alert.Alert, error) {
			return []alert.Alert{
				{ID: "1", Rule: "pm-high", Severity: alert.Critical, Site: "24848", Edge: "e", Device: "d", Point: "p", Quantity: "pm2_5", Start: at, Value: 150.5, Message: telemetry.Text{EN: "high", VI: "cao"}, Labels: map[string]string{"category": "air"}, Procedure: "https://sop"},
				{ID: "2", Rule: "foreseen", Severity: alert.Info, Start: at, Provisional: true},
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (code int, data map[string]any) {
		t.Helper()
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		var body struct {
			Status string
			Data   map[string]any
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatalf("%s: %v: %s", path, err, w.Body)
		}
		return w.Code, body.Data
	}
	text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	_, data := get("/api/v1/alerts")
	want := `{"alerts":[{"activeAt":"2026-11-27T12:00:00Z","annotations":{"id":"1","runbook_url":"https://sop","summary":"high","summary_vi":"cao"},"labels":{"alertname":"pm-high","category":"air","device":"d","edge":"e","point":"p","quantity":"pm2_5","severity":"critical","site":"24848"},"state":"firing","value":"1.505e+02"},` +
		`{"activeAt":"2026-11-27T12:00:00Z","annotations":{"id":"2","summary":"","summary_vi":""},"labels":{"alertname":"foreseen","severity":"info"},"state":"pending","value":"0e+00"}]}`
	if got := text(data); got != want {
		t.Errorf("alerts:\n%s\nwant\n%s", got, want)
	}
	for query, want := range map[string][]string{
		"":                                    {"air:pm-high=firing", "air:quiet=inactive/err", "built-in:foreseen=pending"},
		"?type=record":                        nil,
		"?rule_name[]=quiet":                  {"air:quiet=inactive/err"},
		"?rule_group[]=built-in":              {"built-in:foreseen=pending"},
		"?file[]=/etc/rules/air.yaml":         {"air:pm-high=firing", "air:quiet=inactive/err"},
		"?match[]=" + `{category="air"}`:      {"air:pm-high=firing"},
		"?exclude_alerts=true&rule_name[]=pm": nil,
	} {
		u := strings.ReplaceAll(strings.ReplaceAll(query, "{", "%7B"), "}", "%7D")
		_, data := get("/api/v1/rules" + strings.ReplaceAll(u, `"`, "%22"))
		var got []string
		groups, _ := data["groups"].([]any)
		for _, g := range groups {
			group, _ := g.(map[string]any)
			rules, _ := group["rules"].([]any)
			for _, r := range rules {
				rule, _ := r.(map[string]any)
				s := group["name"].(string) + ":" + rule["name"].(string) + "=" + rule["state"].(string)
				if rule["health"] != "ok" {
					s += "/" + rule["health"].(string)
				}
				got = append(got, s)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if code, _ := get("/api/v1/rules?type=x"); code != http.StatusBadRequest {
		t.Errorf("a wrong type: %d", code)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/api/v1/format_query", strings.NewReader(url.Values{"query": {"sum( a )by(b)"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a.ServeHTTP(w, r)
	if w.Body.String() != `{"status":"success","data":"sum by (b) (a)"}` {
		t.Errorf("format_query: %s", w.Body)
	}
}
