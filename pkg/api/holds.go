package api

import (
	"net/http"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

func (h *Handler) listHolds(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "ended", "kind") {
		return
	}
	holds, err := h.cfg.Acts.Holds(r.URL.Query().Get("ended") == "true")
	if err != nil {
		h.internal(w, r, err)
		return
	}
	p := page[alert.Hold]{Items: []alert.Hold{}}
	for _, x := range holds {
		if sees(r, x.Site) && wants(r, "kind", string(x.Kind)) {
			p.Items = append(p.Items, x)
		}
	}
	h.json(w, r, p)
}

// holdBody is the body of a hold.
type holdBody struct {
	ID     string         `json:"id"`
	Kind   alert.HoldKind `json:"kind"`
	Site   string         `json:"site"`
	Edge   string         `json:"edge"`
	Device string         `json:"device"`
	Point  string         `json:"point"`
	Rule   string         `json:"rule"`
	UpTo   alert.Severity `json:"up_to"`
	From   time.Time      `json:"from"`
	Until  time.Time      `json:"until"`
	For    string         `json:"for"`
	Who    string         `json:"who"`
	Why    string         `json:"why"`
}

func (h *Handler) postHold(w http.ResponseWriter, r *http.Request) {
	var b holdBody
	if !h.allow(w, r) || !h.body(w, r, &b) {
		return
	}
	hold := alert.Hold{
		ID: b.ID, Kind: b.Kind, Site: b.Site, Edge: b.Edge, Device: b.Device, Point: b.Point, Rule: b.Rule, UpTo: b.UpTo, From: b.From, Until: b.Until, Why: b.Why,
	}
	err := error(nil)
	switch {
	case b.For != "" && !b.Until.IsZero():
		err = &alert.Refusal{Reason: alert.Invalid, What: "both until and for are given", Do: "give one of them"}
	case b.Kind == alert.HoldEdgeOffline:
		err = &alert.Refusal{Reason: alert.Invalid, What: "edge_offline is found by the hub itself", Do: "use maintenance or out_of_service"}
	case b.For != "":
		var until *time.Time
		begin := time.Now()
		if b.From.After(begin) {
			begin = b.From
		}
		if until, err = duration(b.For, begin); err == nil {
			hold.Until = *until
		}
	}
	hold.Who = actor(r, b.Who)
	if !h.maySetHold(w, r, &hold) {
		return
	}
	if err == nil {
		hold, err = h.cfg.Acts.PutHold(hold)
	}
	if err != nil {
		h.refused(w, r, err)
		return
	}
	h.json(w, r, hold)
}

func (h *Handler) endHold(w http.ResponseWriter, r *http.Request) {
	var b signed
	if !h.allow(w, r) || !h.body(w, r, &b) {
		return
	}
	if !h.maySetHold(w, r, &alert.Hold{ID: r.PathValue("id")}) {
		return
	}
	hold, err := h.cfg.Acts.EndHold(r.PathValue("id"), actor(r, b.Who), b.Why)
	if err != nil {
		h.refused(w, r, err)
		return
	}
	h.json(w, r, hold)
}

// maySetHold refuses somebody of some sites a hold that reaches beyond them: one that
// names none of them, or that takes the place of one elsewhere.
func (h *Handler) maySetHold(w http.ResponseWriter, r *http.Request, hold *alert.Hold) bool {
	if who(r).Sees == nil {
		return true
	}
	holds, err := h.cfg.Acts.Holds(false)
	if err != nil {
		h.internal(w, r, err)
		return false
	}
	old := slices.IndexFunc(holds, func(x alert.Hold) bool { return x.ID == hold.ID })
	if (hold.Kind != "" || old < 0) && !sees(r, hold.Site) || old >= 0 && !sees(r, holds[old].Site) {
		h.problem(w, r, http.StatusForbidden, "beyond your sites", `a hold of yours names one of your sites: "site"`)
		return false
	}
	return true
}
