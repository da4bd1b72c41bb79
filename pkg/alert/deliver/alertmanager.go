package deliver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// alertmanager tells an Alertmanager what fires, by its API v2. It is told of
// states, not of steps: what has ended by the time that it can be told never
// fires there. What fires is sent again and again, as Alertmanager expects, and
// once more with its end when it is over. Alerts that are held do not fire.
type alertmanager struct {
	cfg    *AlertmanagerConfig
	url    string // of the hub, may be empty
	parts  *Parts
	client *http.Client
	header http.Header
	firing map[string]bool // ids of the alerts that it takes for firing
}

// amState is what is kept, version 1.
type amState struct {
	Version int      `json:"version"`
	Firing  []string `json:"firing"`
}

// amAlert is a postable alert of the API.
type amAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

const (
	amBatch     = 200 // alerts in one request
	amHistory   = 500 // entries of an alert that are looked at for its severities
	amKeepFor   = 4   // what fires is taken for over after so many missed repetitions
	defaultSend = time.Minute
)

func newAlertmanager(c *AlertmanagerConfig, url string, parts *Parts) (*alertmanager, error) {
	a := &alertmanager{cfg: c, url: strings.TrimRight(url, "/"), parts: parts, client: newHTTP(c.Timeout, true), header: http.Header{}, firing: map[string]bool{}}
	a.header.Set("User-Agent", userAgent)
	a.header.Set("Content-Type", "application/json")
	if c.User != "" {
		var password []byte
		if c.Password.Set() {
			var err error
			if password, err = c.Password.Read(); err != nil {
				return nil, err
			}
		}
		a.header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.User+":"+string(password))))
	}
	return a, nil
}

func (a *alertmanager) remember(state json.RawMessage) error {
	if len(state) == 0 {
		// New: what is active is told at once.
		active, err := a.parts.Log.ActiveAlerts()
		if err != nil {
			return err
		}
		for i := range active {
			ok, err := a.cfg.Choose.Wants(&alert.Entry{Sequence: active[i].Sequence, Transition: alert.Transition{Kind: alert.Raised, Alert: active[i]}}, a.parts.Groups, a.parts.Log)
			if err != nil {
				return err
			}
			if ok && active[i].Held() == "" {
				a.firing[active[i].ID] = true
			}
		}
		return nil
	}
	var s amState
	if err := json.Unmarshal(state, &s); err != nil {
		return err
	}
	if s.Version != 1 {
		return fmt.Errorf("its version is %d; this program knows 1", s.Version)
	}
	for _, id := range s.Firing {
		a.firing[id] = true
	}
	return nil
}

func (a *alertmanager) memory() (json.RawMessage, error) {
	return json.Marshal(amState{1, slices.Sorted(maps.Keys(a.firing))})
}

func (a *alertmanager) receipts() []feed.Receipt { return nil }

func (a *alertmanager) deliver(ctx context.Context, entries []alert.Entry) (int, error) {
	err := a.tell(ctx, idsOf(entries), true)
	var no *refusal
	if err == nil {
		return len(entries), nil
	}
	if !errors.As(err, &no) || len(entries) == 1 {
		return 0, err
	}
	for i := range entries { // which one is it?
		if err := a.tell(ctx, []string{entries[i].Alert.ID}, true); err != nil {
			return i, err
		}
	}
	return len(entries), nil
}

func idsOf(entries []alert.Entry) []string {
	var ids []string
	for i := range entries {
		if id := entries[i].Alert.ID; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// tell says how it stands with the alerts now. When something has changed they are
// told in full: another severity is another alert to Alertmanager, so those that
// it may know from before are over.
func (a *alertmanager) tell(ctx context.Context, ids []string, changed bool) error {
	var list []amAlert
	firing := maps.Clone(a.firing)
	for i, id := range ids {
		x, known, err := a.parts.Log.Alert(id)
		if err != nil {
			return err
		}
		fires := known && x.State == alert.Active && x.Held() == ""
		if delete(firing, id); fires {
			firing[id] = true
		}
		if known {
			more, err := a.states(&x, fires, changed || !fires)
			if err != nil {
				return err
			}
			list = append(list, more...)
		}
		if len(list) >= amBatch || i == len(ids)-1 && len(list) > 0 {
			if err := a.send(ctx, list); err != nil {
				return err
			}
			list = list[:0]
		}
	}
	a.firing = firing
	return nil
}

// states are the alerts that Alertmanager is to know of ours.
func (a *alertmanager) states(x *alert.Alert, fires, others bool) ([]amAlert, error) {
	now := a.parts.Now()
	state := func(s alert.Severity, end time.Time) amAlert {
		y := *x
		y.Severity = s
		return amAlert{Labels: a.labels(&y), Annotations: a.annotations(x), StartsAt: x.Start, EndsAt: latest(end, x.Start), GeneratorURL: a.link(x.ID)}
	}
	over := now
	if x.End != nil && !x.End.After(now) {
		over = *x.End
	}
	end := over
	if fires {
		end = now.Add(amKeepFor * or(a.cfg.ResendEvery, defaultSend))
	}
	list := []amAlert{state(x.Severity, end)}
	if !others {
		return list, nil
	}
	history, err := a.parts.Log.History(x.ID, 0, amHistory)
	if err != nil {
		return nil, err
	}
	seen := []alert.Severity{x.Severity}
	for i := range history {
		if s := history[i].Alert.Severity; !slices.Contains(seen, s) {
			seen = append(seen, s)
			list = append(list, state(s, over))
		}
	}
	return list, nil
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (a *alertmanager) send(ctx context.Context, list []amAlert) error {
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	_, err = post(ctx, a.client, strings.TrimRight(a.cfg.URL, "/")+"/api/v2/alerts", a.header, body, a.parts.Now())
	return err
}

// idle sends again what fires.
func (a *alertmanager) idle(ctx context.Context, now time.Time) (time.Time, bool, error) {
	every := or(a.cfg.ResendEvery, defaultSend)
	ids := slices.Sorted(maps.Keys(a.firing))
	before := len(ids)
	err := a.tell(ctx, ids, false)
	if err == nil && a.cfg.Watchdog {
		err = a.send(ctx, []amAlert{{
			Labels:      a.withOwn(map[string]string{"alertname": "LangbiangWatchdog", "severity": "none"}),
			Annotations: map[string]string{"summary": "The hub lives. This alert always fires; be worried when it does not."},
			StartsAt:    now, EndsAt: now.Add(amKeepFor * every), GeneratorURL: a.url,
		}})
	}
	if err != nil {
		every = min(every, 15*time.Second)
	}
	return now.Add(every), len(a.firing) != before, err
}

func (a *alertmanager) probe(ctx context.Context, who string) (string, error) {
	now := a.parts.Now()
	err := a.send(ctx, []amAlert{{
		Labels:      a.withOwn(map[string]string{"alertname": "LangbiangTest", "severity": "none"}),
		Annotations: map[string]string{"summary": "A test of Langbiang by " + who}, StartsAt: now, EndsAt: now.Add(time.Minute), GeneratorURL: a.url,
	}})
	if err != nil {
		return "", err
	}
	return "Alertmanager has taken an alert LangbiangTest, which ends in a minute", nil
}

var labelName = regexp.MustCompile(`[^a-zA-Z0-9_]`)

func (a *alertmanager) labels(x *alert.Alert) map[string]string {
	l := map[string]string{}
	for n, v := range x.Labels {
		n = labelName.ReplaceAllString(n, "_")
		if n != "" && n[0] >= '0' && n[0] <= '9' {
			n = "_" + n
		}
		l[n] = v
	}
	for n, v := range map[string]string{
		"alertname": x.Rule, "severity": x.Severity.String(), "site": x.Site, "edge": x.Edge, "device": x.Device, "point": x.Point, "quantity": x.Quantity,
	} {
		l[n] = v
	}
	if x.Test {
		l["test"] = "true"
	}
	return a.withOwn(l)
}

func (a *alertmanager) withOwn(l map[string]string) map[string]string {
	maps.Copy(l, a.cfg.Labels)
	maps.DeleteFunc(l, func(n, v string) bool { return n == "" || v == "" }) // to Alertmanager the same as none
	return l
}

func (a *alertmanager) annotations(x *alert.Alert) map[string]string {
	site := a.parts.siteName(x.Site)
	return map[string]string{
		"summary": or(x.Message.EN, x.Message.VI), "summary_vi": or(x.Message.VI, x.Message.EN), "site_name": site.VI,
		"value": fmt.Sprintf("%g %s", x.Value, x.Unit), "limit": fmt.Sprintf("%g %s", x.Limit, x.Unit), "alert_id": x.ID,
	}
}

func (a *alertmanager) link(id string) string {
	if a.url == "" {
		return ""
	}
	return a.url + "/#/alerts/" + id
}

func (a *alertmanager) close() { a.client.CloseIdleConnections() }
