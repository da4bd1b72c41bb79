package api

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/cap"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// carrier answers as deliveries do.
type carrier struct {
	skipped  []string
	receipts []feed.Receipt
}

func (c *carrier) Deliveries() []feed.Delivery {
	return []feed.Delivery{{Name: "ioc", Kind: "webhook", State: feed.Held, Position: feed.Position{Generation: "g1", Sequence: 4}, Summary: "refuses entry 5"}}
}

func (c *carrier) Skip(_ context.Context, name string, sequence uint64, who, why string) error {
	if sequence != 5 {
		return &alert.Refusal{Reason: alert.NotNow, What: "ioc is not held at entry 6", Do: "look again"}
	}
	c.skipped = append(c.skipped, fmt.Sprint(name, sequence, who, why))
	return nil
}

func (c *carrier) Retry(context.Context, string, string) error { return nil }

func (c *carrier) Probe(_ context.Context, name, _ string) (string, error) {
	switch name {
	case "ioc":
		return "taken", nil
	case "gone":
		return "", &alert.Refusal{Reason: alert.NotFound, What: "there is no target"}
	}
	return "", errors.New("502 Bad Gateway")
}

func (c *carrier) DeadLetters(string, uint64, int) ([]feed.DeadLetter, error) { return nil, nil }

func (c *carrier) Receipts(match func(*feed.Receipt) bool, before uint64, limit int) (out []feed.Receipt, err error) {
	for i := len(c.receipts) - 1; i >= 0 && len(out) < limit; i-- {
		if r := &c.receipts[i]; (before == 0 || r.Number < before) && match(r) {
			out = append(out, *r)
		}
	}
	return out, nil
}

func TestDeliveriesAreShownAndPeopleActOnThem(t *testing.T) {
	c := &carrier{}
	for n := range uint64(5) {
		c.receipts = append(c.receipts, feed.Receipt{Number: n + 1, Consumer: []string{"night", "day"}[n%2], Person: "Lan", Alerts: []string{fmt.Sprint("a", n)}})
	}
	r := newRig(t, fixedFleet{}, func(cfg *Config) { cfg.Deliveries = c })
	var list page[feed.Delivery]
	if status, _ := r.get("/api/v1/deliveries", &list); status != http.StatusOK || len(list.Items) != 1 || list.Items[0].Position.String() != "g1-4" {
		t.Errorf("%d %+v", status, list)
	}
	if status, d := r.post("/api/v1/deliveries/ioc/skip", `{"sequence":5,"who":"Lan","why":"old"}`); status != http.StatusOK || d["name"] != "ioc" || fmt.Sprint(c.skipped) != "[ioc5Lanold]" {
		t.Errorf("%d %+v %v", status, d, c.skipped)
	}
	if status, p := r.post("/api/v1/deliveries/ioc/skip", `{"sequence":6,"who":"Lan"}`); status != http.StatusConflict || p["detail"] != "ioc is not held at entry 6; look again" {
		t.Errorf("%d %+v", status, p)
	}
	for target, want := range map[string]string{"ioc": "200 true taken", "broken": "200 false 502 Bad Gateway", "gone": "404 <nil> <nil>"} {
		status, x := r.post("/api/v1/deliveries/"+target+"/test", `{"who":"Lan"}`)
		if got := fmt.Sprint(status, " ", x["ok"], " ", x["result"]); got != want {
			t.Errorf("%s: %s", target, got)
		}
	}
	var notices page[feed.Receipt]
	r.get("/api/v1/notices?route=night&limit=2", &notices)
	if len(notices.Items) != 2 || notices.Items[0].Number != 5 || notices.Next != "3" {
		t.Errorf("%+v", notices)
	}
	r.get("/api/v1/notices?route=night&limit=2&cursor=3", &notices)
	if len(notices.Items) != 1 || notices.Items[0].Number != 1 {
		t.Errorf("%+v", notices)
	}
	r.get("/api/v1/notices?alert=a3", &notices)
	if len(notices.Items) != 1 || notices.Items[0].Consumer != "day" {
		t.Errorf("%+v", notices)
	}
}

// past has a history beside what acts need.
type past struct {
	Acts
	history []alert.Entry
}

func (p past) History(id string, _ uint64, _ int) ([]alert.Entry, error) {
	if id != "abc" {
		return nil, nil
	}
	return p.history, nil
}

func TestAnAlertAsCAP(t *testing.T) {
	now := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	step := func(n uint64, kind alert.Kind, state alert.State) alert.Entry {
		return alert.Entry{Generation: "g1", Sequence: n, Recorded: now, Transition: alert.Transition{Kind: kind, Time: now, Alert: alert.Alert{ID: "abc", Rule: "r", Severity: alert.Warning, State: state, Start: now, Site: "s"}}}
	}
	r := newRig(t, fixedFleet{}, func(cfg *Config) {
		cfg.Acts = past{history: []alert.Entry{step(1, alert.Raised, alert.Active), step(2, alert.Ended, alert.Cleared)}}
		cfg.CAP = &CAP{Sender: cap.Sender{ID: "ioc", Scope: "Public", Category: "Env"}, Place: func(string) cap.Place { return cap.Place{} }}
	})
	get := func(path string) (int, string, string) {
		resp, err := http.Get(r.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
	}
	status, ct, newest := get("/api/v1/alerts/abc/cap")
	if status != http.StatusOK || ct != cap.ContentType || !strings.Contains(newest, "<msgType>Cancel</msgType>") || !strings.Contains(newest, "<references>ioc,langbiang.abc.g1.1,2026-11-23T08:00:00+07:00</references>") {
		t.Errorf("%d %s %s", status, ct, newest)
	}
	if _, _, first := get("/api/v1/alerts/abc/cap?sequence=1"); !strings.Contains(first, "<msgType>Alert</msgType>") {
		t.Error(first)
	}
	for _, path := range []string{"/api/v1/alerts/none/cap", "/api/v1/alerts/abc/cap?sequence=9"} {
		if status, ct, _ := get(path); status != http.StatusNotFound || ct != "application/problem+json" {
			t.Errorf("%s: %d %s", path, status, ct)
		}
	}
	status, ct, feedText := get("/api/v1/cap?state=active")
	if err := xml.NewDecoder(bytes.NewReader([]byte(feedText))).Decode(new(struct{})); status != http.StatusOK || !strings.HasPrefix(ct, "application/atom+xml") || err != nil {
		t.Errorf("%d %s %v", status, ct, err)
	}
}
