package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// Deliveries is what carries the alert log elsewhere. All methods are safe for
// concurrent use; refusals are [*alert.Refusal].
type Deliveries interface {
	// Deliveries returns how it stands with every target.
	Deliveries() []feed.Delivery
	// Skip puts the entry that the target is held at among the dead letters.
	Skip(ctx context.Context, name string, sequence uint64, who, why string) error
	// Retry lets a target that waits try at once.
	Retry(ctx context.Context, name, who string) error
	// Probe sends a test, and says in words what came of it; an error that is no
	// refusal is the target's.
	Probe(ctx context.Context, name, who string) (string, error)
	// DeadLetters returns those of the target (of all when it is empty) with a number
	// below before (0: from the newest), newest first.
	DeadLetters(target string, before uint64, limit int) ([]feed.DeadLetter, error)
	// Receipts returns the messages to people that match chooses, in the same way.
	Receipts(match func(*feed.Receipt) bool, before uint64, limit int) ([]feed.Receipt, error)
}

// probeTime bounds a test of a target.
const probeTime = 30 * time.Second

func (h *Handler) mountDeliveries() {
	if h.cfg.Deliveries == nil {
		return
	}
	h.handle("GET /api/v1/deliveries", h.listDeliveries)
	h.handle("GET /api/v1/deliveries/dead", h.listDead)
	h.handle("POST /api/v1/deliveries/{name}/skip", h.skipDelivery)
	h.handle("POST /api/v1/deliveries/{name}/retry", h.retryDelivery)
	h.handle("POST /api/v1/deliveries/{name}/test", h.testDelivery)
	h.handle("GET /api/v1/notices", h.listNotices)
}

func (h *Handler) listDeliveries(w http.ResponseWriter, r *http.Request) {
	if h.allow(w, r) {
		h.json(w, r, page[feed.Delivery]{Items: append([]feed.Delivery{}, h.cfg.Deliveries.Deliveries()...)})
	}
}

// newestFirst answers a page of numbered records.
func newestFirst[T any](h *Handler, w http.ResponseWriter, r *http.Request, number func(*T) uint64, read func(before uint64, limit int) ([]T, error)) {
	n, ok := h.limit(w, r)
	if !ok {
		return
	}
	before := uint64(0)
	if c := r.URL.Query().Get("cursor"); c != "" {
		var err error
		if before, err = strconv.ParseUint(c, 10, 64); err != nil || before == 0 {
			h.problem(w, r, http.StatusBadRequest, "bad cursor", "give back the next of the page before, as it stands")
			return
		}
	}
	items, err := read(before, n+1)
	if err != nil {
		h.internal(w, r, err)
		return
	}
	p := page[T]{Items: append([]T{}, items...)}
	if len(items) > n {
		p.Items = items[:n]
		p.Next = strconv.FormatUint(number(&items[n-1]), 10)
	}
	h.json(w, r, p)
}

func (h *Handler) listDead(w http.ResponseWriter, r *http.Request) {
	if h.allow(w, r, "target", "limit", "cursor") {
		newestFirst(h, w, r, func(d *feed.DeadLetter) uint64 { return d.Number }, func(before uint64, limit int) ([]feed.DeadLetter, error) {
			return h.cfg.Deliveries.DeadLetters(r.URL.Query().Get("target"), before, limit)
		})
	}
}

func (h *Handler) listNotices(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "route", "alert", "person", "channel", "limit", "cursor") {
		return
	}
	id := r.URL.Query().Get("alert")
	match := func(x *feed.Receipt) bool {
		if !wants(r, "route", x.Consumer) || !wants(r, "person", x.Person) || !wants(r, "channel", x.Channel) {
			return false
		}
		for _, a := range x.Alerts {
			if a == id {
				return true
			}
		}
		return id == ""
	}
	newestFirst(h, w, r, func(x *feed.Receipt) uint64 { return x.Number }, func(before uint64, limit int) ([]feed.Receipt, error) {
		return h.cfg.Deliveries.Receipts(match, before, limit)
	})
}

// deliveryBody is the body of an act on a delivery.
type deliveryBody struct {
	Sequence uint64 `json:"sequence"`
	Who      string `json:"who"`
	Why      string `json:"why"`
}

// onDelivery reads an act and answers with how it stands afterwards.
func (h *Handler) onDelivery(w http.ResponseWriter, r *http.Request, act func(ctx context.Context, name string, b *deliveryBody) error) {
	var b deliveryBody
	if !h.allow(w, r) || !h.body(w, r, &b) {
		return
	}
	b.Who = actor(r, b.Who)
	ctx, cancel := context.WithTimeout(r.Context(), probeTime)
	defer cancel()
	err := act(ctx, r.PathValue("name"), &b)
	if errors.Is(err, context.DeadlineExceeded) {
		err = &alert.Refusal{Reason: alert.NotNow, What: "the target is busy with an attempt", Do: "try again in a moment"}
	}
	if err != nil {
		h.refused(w, r, err)
		return
	}
	for _, d := range h.cfg.Deliveries.Deliveries() {
		if d.Name == r.PathValue("name") {
			h.json(w, r, d)
			return
		}
	}
}

func (h *Handler) skipDelivery(w http.ResponseWriter, r *http.Request) {
	h.onDelivery(w, r, func(ctx context.Context, name string, b *deliveryBody) error {
		return h.cfg.Deliveries.Skip(ctx, name, b.Sequence, b.Who, b.Why)
	})
}

func (h *Handler) retryDelivery(w http.ResponseWriter, r *http.Request) {
	h.onDelivery(w, r, func(ctx context.Context, name string, b *deliveryBody) error {
		return h.cfg.Deliveries.Retry(ctx, name, b.Who)
	})
}

// probed is the answer to a test of a target.
type probed struct {
	OK     bool   `json:"ok"`
	Result string `json:"result"` // in words
}

func (h *Handler) testDelivery(w http.ResponseWriter, r *http.Request) {
	var b deliveryBody
	if !h.allow(w, r) || !h.body(w, r, &b) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), probeTime)
	defer cancel()
	result, err := h.cfg.Deliveries.Probe(ctx, r.PathValue("name"), actor(r, b.Who))
	var no *alert.Refusal
	switch {
	case errors.As(err, &no):
		h.refused(w, r, err)
	case err != nil:
		h.json(w, r, probed{false, err.Error()})
	default:
		h.json(w, r, probed{true, result})
	}
}
