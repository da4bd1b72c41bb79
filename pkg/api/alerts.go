package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/alert"
)

// filter reads the parameters that alerts are chosen by.
func (h *Handler) filter(w http.ResponseWriter, r *http.Request) (Filter, bool) {
	q := r.URL.Query()
	f := Filter{Site: words(q.Get("site")), Rule: words(q.Get("rule")), State: alert.State(q.Get("state"))}
	if f.State != "" && f.State != alert.Active && f.State != alert.Cleared {
		h.problem(w, r, http.StatusBadRequest, "bad state", fmt.Sprintf("state is %q; it is active or cleared", f.State))
		return f, false
	}
	for _, s := range words(q.Get("isa_state")) {
		if !slices.Contains(alert.ISAStates(), alert.ISAState(s)) {
			h.problem(w, r, http.StatusBadRequest, "bad state", fmt.Sprintf("isa_state is %q; it is one of %s", s, joined(alert.ISAStates())))
			return f, false
		}
		f.ISA = append(f.ISA, alert.ISAState(s))
	}
	switch q.Get("test") {
	case "":
	case "true", "false":
		test := q.Get("test") == "true"
		f.Test = &test
	default:
		h.problem(w, r, http.StatusBadRequest, "bad test", fmt.Sprintf("test is %q; it is true or false", q.Get("test")))
		return f, false
	}
	for _, s := range words(q.Get("severity")) {
		sev, ok := alert.ParseSeverity(s)
		if !ok {
			h.problem(w, r, http.StatusBadRequest, "bad severity", fmt.Sprintf("severity is %q; it is info, warning, critical or emergency", s))
			return f, false
		}
		f.Severity = append(f.Severity, sev)
	}
	var ok bool
	if f.From, ok = h.time(w, r, "from"); !ok {
		return f, false
	}
	if f.To, ok = h.time(w, r, "to"); !ok {
		return f, false
	}
	return f, true
}

func joined[T ~string](list []T) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

// words splits a list at its commas.
func words(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func (h *Handler) listAlerts(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "state", "isa_state", "severity", "site", "rule", "test", "from", "to", "limit", "cursor") {
		return
	}
	f, ok := h.filter(w, r)
	if !ok {
		return
	}
	n, ok := h.limit(w, r)
	if !ok {
		return
	}
	if !h.narrow(r, &f) {
		h.json(w, r, page[alert.Alert]{Items: []alert.Alert{}})
		return
	}
	items, next, err := h.cfg.Alerts.List(f, r.URL.Query().Get("cursor"), n)
	switch {
	case errors.Is(err, ErrBadCursor):
		h.problem(w, r, http.StatusBadRequest, "bad cursor", "give back the next of the page before, as it stands")
		return
	case err != nil:
		h.internal(w, r, err)
		return
	}
	if items == nil {
		items = []alert.Alert{}
	}
	h.json(w, r, page[alert.Alert]{Items: items, Next: next})
}

func (h *Handler) getAlert(w http.ResponseWriter, r *http.Request) {
	a, ok, err := h.cfg.Alerts.Alert(r.PathValue("id"))
	switch {
	case err != nil:
		h.internal(w, r, err)
	case !ok || !sees(r, a.Site):
		h.noAlert(w, r, r.PathValue("id"))
	default:
		h.json(w, r, a)
	}
}

func (h *Handler) noAlert(w http.ResponseWriter, r *http.Request, id string) {
	h.problem(w, r, http.StatusNotFound, "no such alert", fmt.Sprintf("there is no alert with the id %q", id))
}

// narrow leaves in a filter the sites that who asks may see; false: there are none.
func (h *Handler) narrow(r *http.Request, f *Filter) bool {
	if who(r).Sees == nil {
		return true
	}
	if len(f.Site) == 0 {
		for _, s := range h.cfg.Fleet.Sites() {
			f.Site = append(f.Site, s.ID)
		}
	}
	f.Site = slices.DeleteFunc(f.Site, func(s string) bool { return !sees(r, s) })
	return len(f.Site) > 0
}
