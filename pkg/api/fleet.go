package api

import (
	"fmt"
	"net/http"
)

// wants reports whether the value passes the query parameter of that name.
func wants(r *http.Request, name, value string) bool {
	q := r.URL.Query().Get(name)
	return q == "" || q == value
}

func (h *Handler) listSites(w http.ResponseWriter, r *http.Request) {
	if h.allow(w, r, "limit", "cursor") {
		list(h, w, r, h.cfg.Fleet.Sites(), func(s Site) string { return s.ID }, func(s Site) bool { return sees(r, s.ID) })
	}
}

func (h *Handler) listEdges(w http.ResponseWriter, r *http.Request) {
	if h.allow(w, r, "site", "limit", "cursor") {
		list(h, w, r, h.cfg.Fleet.Edges(), func(e Edge) string { return e.ID }, func(e Edge) bool { return sees(r, e.Site) && wants(r, "site", e.Site) })
	}
}

func (h *Handler) listDevices(w http.ResponseWriter, r *http.Request) {
	if h.allow(w, r, "site", "edge", "limit", "cursor") {
		list(h, w, r, h.cfg.Fleet.Devices(), func(d Device) string { return d.Edge + "/" + d.ID },
			func(d Device) bool { return sees(r, d.Site) && wants(r, "site", d.Site) && wants(r, "edge", d.Edge) })
	}
}

func (h *Handler) listSeries(w http.ResponseWriter, r *http.Request) {
	if h.allow(w, r, "site", "edge", "device", "point", "quantity", "rule", "limit", "cursor") {
		of := h.cfg.Fleet.Series
		if rule := r.URL.Query().Get("rule"); rule != "" {
			watched, ok := h.cfg.Fleet.Watched(rule)
			if !ok {
				h.problem(w, r, http.StatusNotFound, "no such rule", fmt.Sprintf("there is no rule %.80q; they are listed at /api/v1/rules", rule))
				return
			}
			of = func() []Series { return watched }
		}
		list(h, w, r, of(), func(s Series) string { return s.Edge + "/" + s.Device + "/" + s.Point },
			func(s Series) bool {
				return sees(r, s.Site) && wants(r, "site", s.Site) && wants(r, "edge", s.Edge) && wants(r, "device", s.Device) &&
					wants(r, "point", s.Point) && wants(r, "quantity", s.Quantity)
			})
	}
}

func (h *Handler) listRules(w http.ResponseWriter, r *http.Request) {
	if h.allow(w, r, "limit", "cursor") {
		list(h, w, r, h.cfg.Fleet.Rules(), func(x Rule) string { return x.ID }, func(Rule) bool { return true })
	}
}
