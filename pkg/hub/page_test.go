package hub

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/api"
)

func TestMistakesOfThePageAreNamed(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"points.json": `{"type": "Topology"}`, "torn.json": `{"type": "Feat`, "fine.json": `{"type": "FeatureCollection", "features": []}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for page, want := range map[string]string{
		"{outlines: ./fine.json, tiles: 'https://tiles.example/{z}/{x}/{y}.png', frames: [https://ioc.example, 'http://10.0.0.2:8081']}": "",
		"{tiles: 'https://tiles.example/'}":        "is no address of tiles",
		"{tiles: 'https://{s}.x/{z}/{x}/{y}.png'}": "is no address of tiles",
		"{tiles: 'javascript:{z}{x}{y}'}":          "is no address of tiles",
		"{frames: ['https://ioc.example/path']}":   "is no origin",
		`{frames: ["https://a; script-src *"]}`:    "is no origin",
		"{frames: ['https://*.example']}":          "is no origin",
		"{outlines: ./torn.json}":                  "is no GeoJSON",
		"{outlines: ./points.json}":                `its type is "Topology"`,
		"{outlines: ./missing.json}":               "no such file",
	} {
		file := filepath.Join(dir, "hub.yaml")
		if err := os.WriteFile(file, []byte("data_dir: ./data\npage: "+page+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		plan, err := Load(file, nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", page, err)
		case want == "" && !bytes.Contains(plan.Outlines, []byte("features")):
			t.Errorf("%s: outlines %q", page, plan.Outlines)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "hub.yaml:2:")):
			t.Errorf("%s: %v, want %q with its place", page, err, want)
		}
	}
}

func TestOtherLimitsAreTriedOnThePast(t *testing.T) {
	h := levelHub(t)
	f := levelFeeder(t, h, "e1")
	start := time.Now().Add(-time.Minute).Truncate(time.Second)
	for i, v := range []float64{1, 6, 1, 8, 8, 1, 3, 1} {
		f.say(t, start.Add(time.Duration(i)*time.Second), v)
	}
	try := func(rule, body string) (got api.BacktestResult, status int, detail string) {
		t.Helper()
		resp, err := http.Post("http://"+h.Addr()+"/api/v1/rules/"+rule+"/backtest", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var both struct {
			api.BacktestResult
			Detail string `json:"detail"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&both); err != nil {
			t.Fatal(err)
		}
		return both.BacktestResult, resp.StatusCode, both.Detail
	}
	span := `"from": "` + start.Add(-time.Minute).Format(time.RFC3339) + `", "to": "` + start.Add(8*time.Second).Format(time.RFC3339Nano) + `"`
	got, status, detail := try("level", `{`+span+`, "severity": "warning", "limits": [7, 2]}`)
	if status != http.StatusOK || len(got.Results) != 3 || len(got.Series) != 1 {
		t.Fatalf("%d %s: %+v", status, detail, got)
	}
	for i, want := range []int{2, 1, 3} { // over 5 as it is, over 7, over 2
		if got.Results[i].Episodes != want {
			t.Errorf("try %d: %d episodes, want %d", i, got.Results[i].Episodes, want)
		}
	}
	if s := got.Series[0]; len(s.Times) != 8 || s.High[3] != 8 || s.Unit != "m" {
		t.Errorf("columns %+v", s)
	}
	if e := got.Results[1].List[0]; e.Series != "e1/gauge/level" || e.Peak != 8 || e.End == nil || e.End.Sub(e.Start) != 2*time.Second {
		t.Errorf("episode %+v", e)
	}
	for _, bad := range []struct {
		rule, body string
		status     int
		say        string
	}{
		{"none", `{` + span + `}`, http.StatusNotFound, "no rule"},
		{"level", `{` + span + `, "severity": "critical", "limits": [7]}`, http.StatusUnprocessableEntity, "has no limit of severity"},
		{"level", `{"from": "2020-01-01T00:00:00Z"}`, http.StatusUnprocessableEntity, "92 days"},
		{"level", `{"to": "2020-01-01T00:00:00Z"}`, http.StatusUnprocessableEntity, "from must lie before to"},
		{"level", `{` + span + `, "limits": [1,2,3,4,5,6,7,8,9]}`, http.StatusUnprocessableEntity, "at most 8"},
	} {
		if _, status, detail := try(bad.rule, bad.body); status != bad.status || !strings.Contains(detail, bad.say) {
			t.Errorf("%s %s: %d %q", bad.rule, bad.body, status, detail)
		}
	}
}

func TestOneBacktestAtATime(t *testing.T) {
	h := levelHub(t)
	p := &pastRules{h: h}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.Backtest(t.Context(), api.Backtest{Rule: "level"}); err != api.ErrBusy { //nolint:errorlint // it is returned as it stands
		t.Errorf("a second one: %v", err)
	}
}
