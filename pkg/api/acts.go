package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// Acts is what people do to alerts, and what is known of them together. All
// methods are safe for concurrent use. What changes something returns once it is
// on disk; its refusals are [*alert.Refusal].
type Acts interface {
	// Act does an act to the alerts, in one commit; there is a result for each.
	Act(kind alert.Kind, act alert.Act, ids ...string) ([]alert.ActResult, error)
	// History returns the kept entries of an alert with a sequence above after.
	History(id string, after uint64, limit int) ([]alert.Entry, error)
	Counts() alert.Counts
	Groups() ([]alert.Group, error)
	Statistics(from, to time.Time, site string) (alert.Statistics, error)
	// Holds returns the holds that stand, or all that are kept.
	Holds(ended bool) ([]alert.Hold, error)
	PutHold(h alert.Hold) (alert.Hold, error)
	EndHold(id, who, why string) (alert.Hold, error)
}

// acts are the paths of what people do, with what their bodies may say beside
// who, why and key.
var acts = map[string]struct {
	kind   alert.Kind
	fields []string
}{
	"acknowledge":   {alert.Acknowledged, nil},
	"unacknowledge": {alert.Unacknowledged, nil},
	"comment":       {alert.Commented, []string{"text"}},
	"shelve":        {alert.Shelved, []string{"until", "for"}},
	"unshelve":      {alert.Unshelved, nil},
	"assign":        {alert.Assigned, []string{"assignee"}},
	"close":         {alert.Closed, []string{"cause"}},
	"reopen":        {alert.Reopened, nil},
}

func actNames() []string {
	names := make([]string, 0, len(acts))
	for name := range acts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (h *Handler) mountActs() {
	if h.cfg.Acts == nil {
		return
	}
	h.handle("POST /api/v1/alerts/{id}/{act}", h.postAct)
	h.handle("POST /api/v1/alerts/acts", h.postActs)
	h.handle("GET /api/v1/alerts/{id}/entries", h.listEntries)
	h.handle("GET /api/v1/alerts/counts", func(w http.ResponseWriter, r *http.Request) {
		if h.allow(w, r) {
			h.json(w, r, h.counts(r))
		}
	})
	h.handle("GET /api/v1/alerts/groups", h.listGroups)
	h.handle("GET /api/v1/alerts/statistics", h.statistics)
	h.handle("GET /api/v1/holds", h.listHolds)
	h.handle("POST /api/v1/holds", h.postHold)
	h.handle("POST /api/v1/holds/{id}/end", h.endHold)
}

// actBody is the body of an act.
type actBody struct {
	Who      string     `json:"who"`
	Why      string     `json:"why"`
	Key      string     `json:"key"`
	Text     string     `json:"text"`
	Until    *time.Time `json:"until"`
	For      string     `json:"for"`
	Assignee string     `json:"assignee"`
	Cause    string     `json:"cause"`
	// Of the bulk form.
	Act    string   `json:"act"`
	Alerts []string `json:"alerts"`
}

// maxBody bounds the body of a request in bytes, maxBulk the alerts of one.
const (
	maxBody = 128 << 10
	maxBulk = 1000
)

// body reads a JSON body into v and refuses what v does not know.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, v any) bool {
	return h.bodyWithin(w, r, v, maxBody)
}

// bodyWithin is body with another bound, in bytes.
func (h *Handler) bodyWithin(w http.ResponseWriter, r *http.Request, v any, most int64) bool {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		h.problem(w, r, http.StatusUnsupportedMediaType, "no JSON", "send the body as application/json")
		return false
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return true
	case errors.As(err, &large):
		h.problem(w, r, http.StatusRequestEntityTooLarge, "body too large", fmt.Sprintf("at most %d bytes are taken", most))
	default:
		h.problem(w, r, http.StatusBadRequest, "bad body", "the body must be one JSON object with the fields of docs/api.md: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return false
}

// duration reads "for" relative to now.
func duration(text string, now time.Time) (*time.Time, error) {
	d, err := strictyaml.ParseDuration(text)
	if err != nil || d <= 0 {
		return nil, &alert.Refusal{Reason: alert.Invalid, What: fmt.Sprintf("for is %.40q", text), Do: "write it as 90s, 30m, 2h or 1d"}
	}
	until := now.Add(d).UTC().Truncate(time.Millisecond)
	return &until, nil
}

// act makes the act of the name from the body.
func (b *actBody) act(h *Handler, r *http.Request, name string) (kind alert.Kind, act alert.Act, err error) {
	a, ok := acts[name]
	if !ok {
		return "", act, &alert.Refusal{Reason: alert.NotFound, What: fmt.Sprintf("%.40q is nothing that can be done to an alert", name), Do: "it is one of " + strings.Join(actNames(), ", ")}
	}
	for _, f := range []struct {
		name  string
		given bool
	}{{"text", b.Text != ""}, {"until", b.Until != nil}, {"for", b.For != ""}, {"assignee", b.Assignee != ""}, {"cause", b.Cause != ""}} {
		if f.given && !slices.Contains(a.fields, f.name) {
			return "", act, &alert.Refusal{Reason: alert.Invalid, What: fmt.Sprintf("%s has no %q", name, f.name), Do: `a reason is given as "why"`}
		}
	}
	act = alert.Act{
		Who: b.Who, Why: b.Why, Text: b.Text, Until: b.Until, For: b.For, Assignee: b.Assignee, Cause: alert.Cause(b.Cause), Key: b.Key,
	}
	if header := r.Header.Get("Idempotency-Key"); act.Key == "" {
		act.Key = header
	}
	if b.For != "" {
		if b.Until != nil {
			return "", act, &alert.Refusal{Reason: alert.Invalid, What: "both until and for are given", Do: "give one of them"}
		}
		if act.Until, err = duration(b.For, time.Now()); err != nil {
			return "", act, err
		}
	}
	act.Who = actor(r, b.Who)
	return a.kind, act, nil
}

// actor says who makes the request: somebody who signed in cannot claim to be another.
func actor(r *http.Request, claimed string) string {
	p := who(r)
	switch {
	case p.Console:
		return claimed
	case p.Token && claimed != "":
		return p.Name + ": " + claimed // a system, and the person there
	}
	return p.Name
}

// seesAlerts refuses, as if they were not there, alerts at sites that who asks may not
// see.
func (h *Handler) seesAlerts(w http.ResponseWriter, r *http.Request, ids ...string) bool {
	if who(r).Sees == nil {
		return true
	}
	for _, id := range ids {
		a, ok, err := h.cfg.Alerts.Alert(id)
		switch {
		case err != nil:
			h.internal(w, r, err)
			return false
		case !ok || !sees(r, a.Site):
			h.noAlert(w, r, id)
			return false
		}
	}
	return true
}

// refused answers a refusal as a problem, and any other error as ours.
func (h *Handler) refused(w http.ResponseWriter, r *http.Request, err error) {
	status, title := refusal(err)
	if status == http.StatusInternalServerError {
		h.internal(w, r, err)
		return
	}
	h.problem(w, r, status, title, err.Error())
}

func refusal(err error) (status int, title string) {
	var x *alert.Refusal
	if !errors.As(err, &x) {
		return http.StatusInternalServerError, "the hub could not answer"
	}
	switch x.Reason {
	case alert.NotFound:
		return http.StatusNotFound, "not found"
	case alert.NotNow:
		return http.StatusConflict, "not possible now"
	case alert.KeyReused:
		return http.StatusUnprocessableEntity, "key used for another act"
	case alert.Invalid:
	}
	return http.StatusUnprocessableEntity, "not acceptable"
}

// acted is the answer to an act.
type acted struct {
	Entry    alert.Entry `json:"entry"`
	Repeated bool        `json:"repeated"`
}

func (h *Handler) postAct(w http.ResponseWriter, r *http.Request) {
	var b actBody
	if !h.allow(w, r) || !h.body(w, r, &b) || !h.seesAlerts(w, r, r.PathValue("id")) {
		return
	}
	if b.Act != "" || b.Alerts != nil {
		h.problem(w, r, http.StatusBadRequest, "bad body", `"act" and "alerts" belong to /api/v1/alerts/acts`)
		return
	}
	kind, act, err := b.act(h, r, r.PathValue("act"))
	if err != nil {
		h.refused(w, r, err)
		return
	}
	results, err := h.cfg.Acts.Act(kind, act, r.PathValue("id"))
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		h.refused(w, r, err)
		return
	}
	h.json(w, r, acted{results[0].Entry, results[0].Repeated})
}

// bulkItem is what became of one alert of a bulk act.
type bulkItem struct {
	ID       string       `json:"id"`
	Entry    *alert.Entry `json:"entry,omitempty"`
	Repeated bool         `json:"repeated,omitempty"`
	Problem  *bulkProblem `json:"problem,omitempty"`
}

type bulkProblem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// postActs does one act to many alerts. They are named one by one: nobody
// acknowledges what nobody has seen.
func (h *Handler) postActs(w http.ResponseWriter, r *http.Request) {
	var b actBody
	if !h.allow(w, r) || !h.body(w, r, &b) {
		return
	}
	if n := len(b.Alerts); n == 0 || n > maxBulk {
		h.problem(w, r, http.StatusUnprocessableEntity, "not acceptable", fmt.Sprintf(`"alerts" lists %d ids; give 1 to %d`, n, maxBulk))
		return
	}
	if !h.seesAlerts(w, r, b.Alerts...) {
		return
	}
	kind, act, err := b.act(h, r, b.Act)
	if err == nil {
		err = act.Check(kind, time.Now())
	}
	if err != nil {
		h.refused(w, r, err)
		return
	}
	results, err := h.cfg.Acts.Act(kind, act, b.Alerts...)
	if err != nil {
		h.refused(w, r, err)
		return
	}
	p := page[bulkItem]{Items: make([]bulkItem, len(results))}
	for i := range results {
		item := bulkItem{ID: b.Alerts[i], Repeated: results[i].Repeated}
		if results[i].Err != nil {
			status, title := refusal(results[i].Err)
			item.Problem = &bulkProblem{title, status, results[i].Err.Error()}
		} else {
			item.Entry = &results[i].Entry
		}
		p.Items[i] = item
	}
	h.json(w, r, p)
}

// listEntries answers the history of one alert, oldest first.
func (h *Handler) listEntries(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "limit", "cursor") {
		return
	}
	n, ok := h.limit(w, r)
	if !ok {
		return
	}
	after := uint64(0)
	if c := r.URL.Query().Get("cursor"); c != "" {
		var err error
		if after, err = strconv.ParseUint(c, 10, 64); err != nil {
			h.problem(w, r, http.StatusBadRequest, "bad cursor", "give back the next of the page before, as it stands")
			return
		}
	}
	id := r.PathValue("id")
	if a, ok, err := h.cfg.Alerts.Alert(id); err != nil || !ok || !sees(r, a.Site) {
		h.getAlert(w, r) // answers why not
		return
	}
	entries, err := h.cfg.Acts.History(id, after, n+1)
	if err != nil {
		h.internal(w, r, err)
		return
	}
	p := page[alert.Entry]{Items: entries}
	if len(entries) > n {
		p.Items = entries[:n]
		p.Next = strconv.FormatUint(p.Items[n-1].Sequence, 10)
	}
	if p.Items == nil {
		p.Items = []alert.Entry{}
	}
	h.json(w, r, p)
}

func (h *Handler) listGroups(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "site", "rule") {
		return
	}
	groups, err := h.cfg.Acts.Groups()
	if err != nil {
		h.internal(w, r, err)
		return
	}
	p := page[alert.Group]{Items: []alert.Group{}}
	for _, g := range groups {
		if sees(r, g.Site) && wants(r, "site", g.Site) && wants(r, "rule", g.Rule) {
			p.Items = append(p.Items, g)
		}
	}
	h.json(w, r, p)
}

// statistics covers the last day when nothing else is asked for.
func (h *Handler) statistics(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "from", "to", "site") {
		return
	}
	from, ok := h.time(w, r, "from")
	if !ok {
		return
	}
	to, ok := h.time(w, r, "to")
	if !ok {
		return
	}
	if to.IsZero() {
		to = time.Now().UTC().Truncate(time.Millisecond)
	}
	if from.IsZero() {
		from = to.Add(-24 * time.Hour)
	}
	if span := to.Sub(from); span <= 0 || span > 400*24*time.Hour {
		h.problem(w, r, http.StatusBadRequest, "bad time", "from must lie before to, by 400 days at most")
		return
	}
	site := r.URL.Query().Get("site")
	if who(r).Sees != nil && !sees(r, site) {
		h.problem(w, r, http.StatusForbidden, "beyond your sites", "name one of your sites: ?site=")
		return
	}
	st, err := h.cfg.Acts.Statistics(from, to, site)
	if err != nil {
		h.internal(w, r, err)
		return
	}
	h.json(w, r, st)
}

// counts are those of the sites that who asks may see. What is not kept by site is
// counted from the groups.
func (h *Handler) counts(r *http.Request) alert.Counts {
	all := h.cfg.Acts.Counts()
	if who(r).Sees == nil {
		return all
	}
	c := alert.Counts{BySeverity: map[alert.Severity]int{}, BySite: map[string]map[alert.Severity]int{}, ByRule: map[string]int{}, Held: map[alert.ISAState]int{}}
	groups, err := h.cfg.Acts.Groups()
	if err != nil {
		h.cfg.Logger.Error("groups of alerts cannot be read", "err", err)
	}
	for _, g := range groups {
		if !sees(r, g.Site) {
			continue
		}
		c.Active += g.Active
		c.Unacknowledged += g.Unacknowledged
		c.Chattering += g.Chattering
		c.ByRule[g.Rule] += g.Active
		for s, n := range g.BySeverity {
			c.BySeverity[s] += n
		}
	}
	for site, by := range all.BySite {
		if sees(r, site) {
			c.BySite[site] = by
		}
	}
	return c
}
