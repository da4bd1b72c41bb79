package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a list.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// problem answers with an RFC 9457 document.
func (h *Handler) problem(w http.ResponseWriter, r *http.Request, status int, title, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	h.encode(w, r, map[string]any{
		"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": r.URL.Path,
	})
}

func (h *Handler) json(w http.ResponseWriter, r *http.Request, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	h.encode(w, r, v)
}

// encode writes v; a client that has gone is not our failure.
func (h *Handler) encode(w http.ResponseWriter, r *http.Request, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.cfg.Logger.Debug("answer not delivered", "path", r.URL.Path, "err", err)
	}
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text) // a client that has gone needs no answer
}

type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// allow refuses query parameters that the resource does not know: a filter that
// is misspelt must not look like one that matched everything.
func (h *Handler) allow(w http.ResponseWriter, r *http.Request, names ...string) bool {
	for name, values := range r.URL.Query() {
		if !slices.Contains(names, name) {
			h.problem(w, r, http.StatusBadRequest, "unknown parameter", fmt.Sprintf("%q is not known here; known are %s", name, strings.Join(names, ", ")))
			return false
		}
		if len(values) > 1 {
			h.problem(w, r, http.StatusBadRequest, "repeated parameter", fmt.Sprintf("%q may be given once", name))
			return false
		}
	}
	return true
}

func (h *Handler) limit(w http.ResponseWriter, r *http.Request) (int, bool) {
	s := r.URL.Query().Get("limit")
	if s == "" {
		return defaultLimit, true
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		h.problem(w, r, http.StatusBadRequest, "bad limit", fmt.Sprintf("limit is %q; it must be a number from 1 to %d", s, maxLimit))
		return 0, false
	}
	return n, true
}

func (h *Handler) time(w http.ResponseWriter, r *http.Request, name string) (time.Time, bool) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return time.Time{}, true
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		h.problem(w, r, http.StatusBadRequest, "bad time", fmt.Sprintf("%s is %q; write it as 2026-11-23T08:00:00+07:00", name, s))
		return time.Time{}, false
	}
	return t, true
}

// list answers one page of items in the order of their keys. The cursor is the
// key of the last item of the page before. It sorts the slice, which is its own.
func list[T any](h *Handler, w http.ResponseWriter, r *http.Request, items []T, key func(T) string, keep func(T) bool) {
	n, ok := h.limit(w, r)
	if !ok {
		return
	}
	after := r.URL.Query().Get("cursor")
	slices.SortFunc(items, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	p := page[T]{Items: []T{}}
	last := ""
	for _, it := range items {
		if k := key(it); k > after && keep(it) {
			if len(p.Items) == n {
				p.Next = last
				break
			}
			p.Items = append(p.Items, it)
			last = k
		}
	}
	h.json(w, r, p)
}
