package api

import (
	"errors"
	"fmt"
	"net/http"
)

// ErrNoEdge says that the hub has never heard of an edge.
var ErrNoEdge = errors.New("no such edge")

// EdgeAdmin changes what the hub knows of edges. Safe for concurrent use.
type EdgeAdmin interface {
	// Forget lets the hub forget where it stands in the log of an edge, which then
	// sends anew what it keeps: the way out of a fork. The store keeps once what it
	// has already. It fails with ErrNoEdge.
	Forget(edge string) error
}

func (h *Handler) mountEdges() {
	if h.cfg.Edges != nil {
		h.handle("POST /api/v1/edges/{id}/forget", h.forgetEdge)
	}
	if h.cfg.Asking != nil {
		h.handle("POST /api/v1/edges/{id}/ask", h.ask)
	}
}

func (h *Handler) forgetEdge(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !h.seesEdge(r, id, "") {
		h.problem(w, r, http.StatusForbidden, "beyond your sites", "the edge does not stand at one of your sites")
		return
	}
	switch err := h.cfg.Edges.Forget(id); {
	case errors.Is(err, ErrNoEdge):
		h.problem(w, r, http.StatusNotFound, "no such edge", fmt.Sprintf("the hub has never heard of an edge %q", id))
	case err != nil:
		h.internal(w, r, err)
	default:
		h.json(w, r, map[string]string{"edge": id})
	}
}
