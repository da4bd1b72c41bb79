package api

import "net/http"

// PageSettings is what the page must know of hub.yaml.
type PageSettings struct {
	Version     string `json:"version"`     // of the hub
	Tiles       string `json:"tiles"`       // address of map tiles with {z}, {x} and {y}; "": the map is drawn without
	Attribution string `json:"attribution"` // what the tiles' owner wants said
	Outlines    bool   `json:"outlines"`    // there are outlines at /api/v1/page/outlines
}

func (h *Handler) mountPage() {
	if h.cfg.Backtests != nil {
		h.handle("POST /api/v1/rules/{id}/backtest", h.postBacktest)
	}
	h.handle("GET /api/v1/page", func(w http.ResponseWriter, r *http.Request) {
		if h.allow(w, r) {
			s := h.cfg.PageSettings
			s.Outlines = len(h.cfg.Outlines) > 0
			h.json(w, r, s)
		}
	})
	h.handle("GET /api/v1/page/outlines", func(w http.ResponseWriter, r *http.Request) {
		if !h.allow(w, r) {
			return
		}
		if len(h.cfg.Outlines) == 0 {
			h.problem(w, r, http.StatusNotFound, "no outlines", "name a GeoJSON file as page.outlines in hub.yaml")
			return
		}
		w.Header().Set("Content-Type", "application/geo+json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(h.cfg.Outlines) // a browser that has gone needs no answer
	})
}
