package api

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestThePageLearnsItsSettings(t *testing.T) {
	r := newRig(t, fixedFleet{}, func(c *Config) {
		c.PageSettings = PageSettings{Version: "1.2", Tiles: "https://tiles.example/{z}/{x}/{y}.png"}
		c.Outlines = []byte(`{"type":"FeatureCollection","features":[]}`)
	})
	var s PageSettings
	if status, _ := r.get("/api/v1/page", &s); status != http.StatusOK || s.Version != "1.2" || !s.Outlines || !strings.HasPrefix(s.Tiles, "https://tiles.example/") {
		t.Errorf("%d %+v", status, s)
	}
	resp, err := http.Get(r.url + "/api/v1/page/outlines")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), "FeatureCollection") || resp.Header.Get("Content-Type") != "application/geo+json" {
		t.Errorf("%s %s %v", b, resp.Header.Get("Content-Type"), err)
	}
}

func TestWithoutOutlinesThePageIsToldSo(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	var s PageSettings
	if status, _ := r.get("/api/v1/page", &s); status != http.StatusOK || s.Outlines || s.Tiles != "" {
		t.Errorf("%d %+v", status, s)
	}
	var p struct{ Detail string }
	if status, _ := r.get("/api/v1/page/outlines", &p); status != http.StatusNotFound || !strings.Contains(p.Detail, "page.outlines") {
		t.Errorf("%d %q", status, p.Detail)
	}
}

func TestSeriesOfARule(t *testing.T) {
	r := newRig(t, fixedFleet{series: []Series{{Edge: "e1", Device: "a", Point: "p"}, {Edge: "e1", Device: "b", Point: "p"}}}, nil)
	var got struct {
		Items  []Series
		Detail string
	}
	if status, _ := r.get("/api/v1/series?rule=r1", &got); status != http.StatusOK || len(got.Items) != 1 || got.Items[0].Device != "a" {
		t.Errorf("%d %+v", status, got)
	}
	if status, _ := r.get("/api/v1/series?rule=r2", &got); status != http.StatusNotFound || !strings.Contains(got.Detail, `no rule "r2"`) {
		t.Errorf("%d %+v", status, got)
	}
}
