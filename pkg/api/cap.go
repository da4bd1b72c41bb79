package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/cap"
)

// CAP makes documents of the Common Alerting Protocol.
type CAP struct {
	Sender cap.Sender
	Place  func(site string) cap.Place
	URL    string // address under which the hub is reached; may be empty
}

const (
	capHistory = 5000 // entries of one alert that its documents are made of
	capFeed    = 100  // alerts in the feed
)

// capDocuments returns the documents of an alert; ok is false when it is answered.
func (h *Handler) capDocuments(id string) ([]cap.Document, error) {
	history, err := h.cfg.Acts.History(id, 0, capHistory)
	if err != nil || len(history) == 0 {
		return nil, err
	}
	return cap.Documents(history, h.cfg.CAP.Place(history[0].Alert.Site), h.cfg.CAP.Sender), nil
}

// getCAP answers the newest document of an alert, or the one that says the entry
// with the given sequence.
func (h *Handler) getCAP(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "sequence") {
		return
	}
	if !h.seesAlerts(w, r, r.PathValue("id")) {
		return
	}
	docs, err := h.capDocuments(r.PathValue("id"))
	if err != nil {
		h.internal(w, r, err)
		return
	}
	if len(docs) == 0 {
		h.problem(w, r, http.StatusNotFound, "no such alert", fmt.Sprintf("there is no alert with the id %.80q", r.PathValue("id")))
		return
	}
	d := &docs[len(docs)-1]
	if s := r.URL.Query().Get("sequence"); s != "" {
		d = nil
		for i := range docs {
			if strconv.FormatUint(docs[i].Sequence, 10) == s {
				d = &docs[i]
			}
		}
		if d == nil {
			h.problem(w, r, http.StatusNotFound, "no such document", fmt.Sprintf("the alert has no document of entry %.20q", s))
			return
		}
	}
	b, err := d.Encode()
	if err != nil {
		h.internal(w, r, err)
		return
	}
	h.xml(w, cap.ContentType, b)
}

// capFeed answers an Atom feed: the newest document of each of the newest alerts.
func (h *Handler) capFeed(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "state", "isa_state", "severity", "site", "rule", "test") {
		return
	}
	f, ok := h.filter(w, r)
	if !ok {
		return
	}
	var alerts []alert.Alert
	if h.narrow(r, &f) {
		var err error
		if alerts, _, err = h.cfg.Alerts.List(f, "", capFeed); err != nil {
			h.internal(w, r, err)
			return
		}
	}
	base := strings.TrimRight(h.cfg.CAP.URL, "/")
	if base == "" {
		base = "http://" + r.Host
		if r.TLS != nil {
			base = "https://" + r.Host
		}
	}
	entries := []cap.Entry{}
	for i := range alerts {
		docs, err := h.capDocuments(alerts[i].ID)
		if err != nil {
			h.internal(w, r, err)
			return
		}
		if len(docs) == 0 {
			continue
		}
		d := &docs[len(docs)-1]
		entries = append(entries, cap.Entry{
			ID: d.Identifier, Title: d.MsgType + ": " + d.Info[0].Headline, Updated: d.Time,
			Link: fmt.Sprintf("%s/api/v1/alerts/%s/cap?sequence=%d", base, alerts[i].ID, d.Sequence),
		})
	}
	b, err := cap.Feed(base+"/api/v1/cap", h.cfg.CAP.Sender.ID, entries, time.Now())
	if err != nil {
		h.internal(w, r, err)
		return
	}
	h.xml(w, "application/atom+xml; charset=utf-8", b)
}

func (h *Handler) xml(w http.ResponseWriter, contentType string, b []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b) // a client that has gone needs no answer
}

func (h *Handler) mountCAP() {
	if h.cfg.CAP == nil || h.cfg.Acts == nil {
		return
	}
	h.handle("GET /api/v1/alerts/{id}/cap", h.getCAP)
	h.handle("GET /api/v1/cap", h.capFeed)
}
