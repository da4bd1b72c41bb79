package api

import (
	"errors"
	"net/http"
	"time"
)

// Store is what the hub says of where readings are kept. Safe for concurrent use.
type Store interface {
	Status() (StoreStatus, error)
	// Texts returns states of text, newest first, and the cursor of the next page or
	// "". A cursor that it did not give out is ErrBadCursor.
	Texts(f TextFilter, cursor string, limit int) ([]Text, string, error)
}

// StoreStatus says what is kept and for how long. Sizes are in bytes; counts are
// since the hub's start.
type StoreStatus struct {
	Kind      string       `json:"kind"`
	Retention string       `json:"retention,omitempty"` // absent: the server decides
	MaxBytes  int64        `json:"max_bytes"`           // 0: no bound
	Bytes     int64        `json:"bytes"`
	FreeBytes int64        `json:"free_bytes"` // -1: not known
	Blocks    int          `json:"blocks"`
	Series    uint64       `json:"series"` // with readings of the last hours
	Oldest    *time.Time   `json:"oldest"`
	Newest    *time.Time   `json:"newest"`
	Samples   uint64       `json:"samples"`
	Dropped   StoreDropped `json:"dropped"`
	LastSync  *time.Time   `json:"last_sync"`
	SyncMS    int64        `json:"sync_ms"`
	Long      *LongStatus  `json:"long,omitempty"`
	Texts     TextsStatus  `json:"texts"`
	Alerts    AlertsKept   `json:"alerts"`
	Backup    *time.Time   `json:"last_backup"` // newest that the hub made of itself; null: none is known
	Notes     []string     `json:"notes"`       // for people
}

// StoreDropped counts samples that are not stored.
type StoreDropped struct {
	Conflicts uint64 `json:"conflicts"` // another value at the time of the newest
	TooOld    uint64 `json:"too_old"`
	Ahead     uint64 `json:"ahead"` // of the hub's clock
	Refused   uint64 `json:"refused"`
}

// LongStatus is of long history.
type LongStatus struct {
	Bytes            int64      `json:"bytes"`
	FiveMinutes      string     `json:"five_minutes"` // how long they are kept
	FiveMinutesSince *time.Time `json:"five_minutes_since"`
	Hours            string     `json:"hours"`
	HoursSince       *time.Time `json:"hours_since"`
	Late             int        `json:"late"` // stretches of two hours to be computed anew
}

// TextsStatus is of the log of texts.
type TextsStatus struct {
	Series   int        `json:"series"`
	Bytes    int64      `json:"bytes"`
	MaxBytes int64      `json:"max_bytes"`
	Oldest   *time.Time `json:"oldest"`
}

// AlertsKept is of the alert log.
type AlertsKept struct {
	Retention  string     `json:"retention"`
	Oldest     *time.Time `json:"oldest"`
	First      uint64     `json:"first"`
	Last       uint64     `json:"last"`
	Generation string     `json:"generation"`
}

// Text is a state that began at Time and stands until the next of its series.
type Text struct {
	Time     time.Time         `json:"time"`
	Quantity string            `json:"quantity"`
	Labels   map[string]string `json:"labels"`
	Text     string            `json:"text"`
	Quality  string            `json:"quality"`
}

// TextFilter chooses texts; empty fields choose all. From is included, To is not.
type TextFilter struct {
	Site, Edge, Device, Point, Quantity string
	From, To                            time.Time
}

func (h *Handler) mountStore() {
	if h.cfg.Store != nil {
		h.handle("GET /api/v1/store", h.storeStatus)
		h.handle("GET /api/v1/texts", h.listTexts)
	}
}

func (h *Handler) storeStatus(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r) {
		return
	}
	st, err := h.cfg.Store.Status()
	if err != nil {
		h.internal(w, r, err)
		return
	}
	h.json(w, r, st)
}

func (h *Handler) listTexts(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "site", "edge", "device", "point", "quantity", "from", "to", "limit", "cursor") {
		return
	}
	n, ok := h.limit(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	f := TextFilter{Site: q.Get("site"), Edge: q.Get("edge"), Device: q.Get("device"), Point: q.Get("point"), Quantity: q.Get("quantity")}
	if f.From, ok = h.time(w, r, "from"); !ok {
		return
	}
	if f.To, ok = h.time(w, r, "to"); !ok {
		return
	}
	if who(r).Sees != nil && !sees(r, f.Site) {
		h.problem(w, r, http.StatusForbidden, "beyond your sites", "name one of your sites: ?site=")
		return
	}
	p := page[Text]{}
	var err error
	switch p.Items, p.Next, err = h.cfg.Store.Texts(f, q.Get("cursor"), n); {
	case errors.Is(err, ErrBadCursor):
		h.problem(w, r, http.StatusBadRequest, "bad cursor", "take it from the field next of the page before")
	case err != nil:
		h.internal(w, r, err)
	default:
		h.json(w, r, p)
	}
}
