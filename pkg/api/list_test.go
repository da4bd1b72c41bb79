package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Ids in which "-" and "." sort before "/", so that the order by edge and the
// order by EDGE/DEVICE/POINT are not the same.
var awkward = []string{"a", "a-1", "a.b", "ab", "b"}

func awkwardFleet() fixedFleet {
	var f fixedFleet
	for _, e := range awkward {
		f.sites = append(f.sites, Site{ID: e})
		f.edges = append(f.edges, Edge{ID: e, Site: e})
		f.rules = append(f.rules, Rule{ID: e})
		for _, d := range awkward {
			f.devices = append(f.devices, Device{Edge: e, ID: d, Site: e})
			for _, p := range awkward {
				f.series = append(f.series, Series{Edge: e, Device: d, Point: p, Site: e})
			}
		}
	}
	return f
}

func TestPagesOfAListHoldEveryItemOnce(t *testing.T) {
	r := newRig(t, awkwardFleet(), nil)
	n := len(awkward)
	for name, want := range map[string]int{"sites": n, "edges": n, "rules": n, "devices": n * n, "series": n * n * n} {
		for _, limit := range []int{1, 2, 3, 7, 1000} {
			seen := map[string]bool{}
			pages := 0
			for cursor := ""; ; pages++ {
				var p struct {
					Items []struct{ Edge, Device, Point, ID string }
					Next  string
				}
				if status, _ := r.get(fmt.Sprintf("/api/v1/%s?limit=%d&cursor=%s", name, limit, url.QueryEscape(cursor)), &p); status != http.StatusOK {
					t.Fatalf("%s: status %d", name, status)
				}
				if len(p.Items) > limit {
					t.Fatalf("%s: %d items on a page of %d", name, len(p.Items), limit)
				}
				for _, it := range p.Items {
					key := strings.Join([]string{it.Edge, it.Device, it.Point, it.ID}, "/")
					if seen[key] {
						t.Errorf("%s by %d: %s came twice", name, limit, key)
					}
					seen[key] = true
				}
				if cursor = p.Next; cursor == "" {
					break
				}
			}
			if len(seen) != want {
				t.Errorf("%s by %d: %d items on %d pages, want %d", name, limit, len(seen), pages+1, want)
			}
		}
	}
}

func TestListsAreNarrowedByWhatTheyName(t *testing.T) {
	r := newRig(t, awkwardFleet(), nil)
	for path, want := range map[string]int{
		"edges?site=a-1": 1, "devices?edge=a": 5, "devices?edge=a&site=b": 0,
		"series?edge=a&device=b": 5, "series?point=ab": 25, "series?quantity=nothing": 0,
	} {
		var p page[map[string]any]
		if r.get("/api/v1/"+path, &p); len(p.Items) != want || p.Items == nil {
			t.Errorf("%s: %d items, want %d (an empty list is [], not null)", path, len(p.Items), want)
		}
	}
}

func TestAMistakeInAQueryIsNamed(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	for path, want := range map[string]string{
		"alerts?sate=active":            `"sate" is not known here; known are state`,
		"alerts?state=open":             `state is "open"; it is active or cleared`,
		"alerts?severity=warning,dire":  `severity is "dire"`,
		"alerts?from=yesterday":         `from is "yesterday"; write it as 20`,
		"alerts?to=2026-11-23T08:00:00": `to is "2026-11-23T08:00:00"`,
		"alerts?limit=0":                `limit is "0"; it must be a number from 1 to 1000`,
		"alerts?limit=1001":             `limit is "1001"`,
		"alerts?cursor=made-up":         "give back the next of the page before",
		"alerts?site=1&site=2":          `"site" may be given once`,
		"sites?site=1":                  `"site" is not known here`,
		"series?limit=many":             `limit is "many"`,
		"alerts/stream?after=yesterday": `"yesterday" is not GENERATION-SEQUENCE`,
		"alerts/stream?after=g1-eleven": `"g1-eleven" is not GENERATION-SEQUENCE`,
		"alerts/stream?severity=dire":   `severity is "dire"`,
	} {
		var p problemDocument
		status, header := r.get("/api/v1/"+path, &p)
		if status != http.StatusBadRequest || p.Status != status || p.Title == "" || !strings.Contains(p.Detail, want) {
			t.Errorf("%s: %d %+v, want 400 with %q", path, status, p, want)
		}
		if ct := header.Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%s: content type %q", path, ct)
		}
	}
}

func TestWhatIsNotThereIsAProblemDocumentToo(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	for _, path := range []string{"/api/v1/alerts/none", "/api/v1/nothing", "/api/v2/alerts"} {
		var p problemDocument
		if status, _ := r.get(path, &p); status != http.StatusNotFound || p.Status != status || p.Instance != path {
			t.Errorf("%s: %d %+v", path, status, p)
		}
	}
}

func TestAlertsAreChosenByEveryFilter(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	var p page[alert.Alert]
	r.get("/api/v1/alerts?state=cleared&severity=critical,info&site=24848,24850&rule=pm25-high&from=2026-11-23T08:00:00%2B07:00&to=2026-11-23T09:00:00Z", &p)
	want := Filter{
		State: alert.Cleared, Severity: []alert.Severity{alert.Critical, alert.Info}, Site: []string{"24848", "24850"}, Rule: []string{"pm25-high"},
		From: time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
	}
	got := r.log.chosen()
	got.From, got.To = got.From.UTC(), got.To.UTC()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("chosen by %+v, want %+v", got, want)
	}
	if p.Items == nil {
		t.Error("an empty list is [], not null")
	}
}

func TestWhatWentWrongInsideStaysInside(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	r.log.err = errors.New("page 7 of /var/lib/secret is damaged")
	for _, path := range []string{"/api/v1/alerts", "/api/v1/alerts/x"} {
		var p problemDocument
		status, _ := r.get(path, &p)
		if status != http.StatusInternalServerError || strings.Contains(fmt.Sprint(p), "secret") {
			t.Errorf("%s: %d %+v", path, status, p)
		}
	}
}

func TestReadinessSaysWhyNot(t *testing.T) {
	var why error
	h := New(Config{Alerts: newMemoryLog(), Fleet: fixedFleet{}, Ready: func() error { return why }})
	for _, want := range []struct {
		err    error
		status int
		body   string
	}{{nil, 200, "ready\n"}, {errors.New("the clock is not synchronised"), 503, "not ready: the clock is not synchronised\n"}} {
		why = want.err
		w := record(h, http.MethodGet, "/readyz")
		if w.Code != want.status || w.Body.String() != want.body {
			t.Errorf("%d %q, want %d %q", w.Code, w.Body, want.status, want.body)
		}
	}
	if w := record(h, http.MethodGet, "/healthz"); w.Code != http.StatusOK || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("healthz: %d %v", w.Code, w.Header())
	}
}
