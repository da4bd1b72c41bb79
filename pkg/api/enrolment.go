package api

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// Enrolment lets gateways in and out. Safe for concurrent use. Its refusals are
// [*Refusal].
type Enrolment interface {
	// Enrol answers a request for a certificate, and names the edge.
	Enrol(body []byte, remote string) (answer any, edge string, err error)
	// Renew is Enrol for the holder of a certificate.
	Renew(cert *x509.Certificate, body []byte, remote string) (answer any, edge string, err error)
	NewToken(t EdgeToken, by string) (EdgeToken, error)
	// Revoke makes the certificates of an edge void and ends its connections.
	Revoke(edge string) (connections int, err error)
	Certificates() []EdgeCertificate
	// Authority is the hub's authority, DER.
	Authority() []byte
}

// EdgeToken lets the gateway of one edge in.
type EdgeToken struct {
	Edge    string    `json:"edge"`
	Site    string    `json:"site"`
	TTL     string    `json:"ttl,omitempty"` // of the request; 24h when not said
	Address string    `json:"address"`       // by which the gateway reaches the hub; the hub's own when not said
	Token   string    `json:"token"`
	Command string    `json:"command"` // the line to paste on the gateway
	Expires time.Time `json:"expires"`

	Life time.Duration `json:"-"`
}

// EdgeCertificate is what is known of the certificates of an edge.
type EdgeCertificate struct {
	Edge     string     `json:"edge"`
	Site     string     `json:"site,omitempty"`
	Enrolled *time.Time `json:"enrolled"`
	Renewed  *time.Time `json:"renewed"`
	NotAfter *time.Time `json:"not_after"`
	Revoked  *time.Time `json:"revoked"`
}

const tokenLife = 24 * time.Hour

func (h *Handler) mountEnrolment() {
	if h.cfg.Enrolment == nil {
		return
	}
	h.handle("POST /api/v1/enrol", func(w http.ResponseWriter, r *http.Request) {
		if body, ok := h.raw(w, r); ok {
			answer, edge, err := h.cfg.Enrolment.Enrol(body, remote(r))
			h.enrolled(w, r, answer, edge, err)
		}
	})
	h.handle("POST /api/v1/enrol/renew", func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			h.problem(w, r, http.StatusUnauthorized, "no certificate", "a gateway renews with the certificate that it has")
			return
		}
		if body, ok := h.raw(w, r); ok {
			answer, edge, err := h.cfg.Enrolment.Renew(r.TLS.PeerCertificates[0], body, remote(r))
			h.enrolled(w, r, answer, edge, err)
		}
	})
	h.handle("GET /api/v1/enrol/authority.pem", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pem-file")
		_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: h.cfg.Enrolment.Authority()}) // a client that has gone needs no answer
	})
	h.handle("POST /api/v1/edges/tokens", h.newEdgeToken)
	h.handle("POST /api/v1/edges/{id}/revoke", h.revokeEdge)
	h.handle("GET /api/v1/edges/certificates", func(w http.ResponseWriter, r *http.Request) {
		if h.allow(w, r, "limit", "cursor") {
			list(h, w, r, h.cfg.Enrolment.Certificates(), func(c EdgeCertificate) string { return c.Edge }, func(c EdgeCertificate) bool { return h.seesEdge(r, c.Edge, c.Site) })
		}
	})
}

// raw reads a bounded body.
func (h *Handler) raw(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return body, true
	case errors.As(err, &large):
		h.problem(w, r, http.StatusRequestEntityTooLarge, "body too large", fmt.Sprintf("at most %d bytes are taken", maxBody))
	default:
		h.problem(w, r, http.StatusBadRequest, "bad body", "it ended before its end")
	}
	return nil, false
}

func (h *Handler) enrolled(w http.ResponseWriter, r *http.Request, answer any, edge string, err error) {
	acting(w, "edge "+edge)
	if err != nil {
		h.refusal(w, r, err)
		return
	}
	h.json(w, r, answer)
}

func (h *Handler) newEdgeToken(w http.ResponseWriter, r *http.Request) {
	var t EdgeToken
	if !h.allow(w, r) || !h.body(w, r, &t) {
		return
	}
	acting(w, "edge "+t.Edge)
	t.Life = tokenLife
	if t.TTL != "" {
		var err error
		if t.Life, err = strictyaml.ParseDuration(t.TTL); err != nil {
			h.problem(w, r, http.StatusBadRequest, "bad ttl", fmt.Sprintf("ttl is %.40q; write it as 24h or 7d", t.TTL))
			return
		}
	}
	// Neither a token for somebody else's site, nor one that takes an edge away from it.
	if !sees(r, t.Site) || !h.seesEdge(r, t.Edge, t.Site) {
		h.problem(w, r, http.StatusForbidden, "beyond your sites", "name one of your sites, and an edge that does not stand elsewhere")
		return
	}
	out, err := h.cfg.Enrolment.NewToken(t, who(r).Name)
	if err != nil {
		h.refusal(w, r, err)
		return
	}
	h.json(w, r, out)
}

// seesEdge reports whether who asks may see an edge: where the hub has it, or, of one
// that it has never heard, where it is said to be.
func (h *Handler) seesEdge(r *http.Request, edge, site string) bool {
	if p := who(r); p == nil || p.Sees == nil {
		return true
	}
	for _, e := range h.cfg.Fleet.Edges() {
		if e.ID == edge {
			return sees(r, e.Site)
		}
	}
	return sees(r, site)
}

func (h *Handler) revokeEdge(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !h.seesEdge(r, id, "") {
		h.problem(w, r, http.StatusForbidden, "beyond your sites", "the edge does not stand at one of your sites")
		return
	}
	n, err := h.cfg.Enrolment.Revoke(id)
	if err != nil {
		h.refusal(w, r, err)
		return
	}
	h.json(w, r, map[string]any{"edge": id, "connections_ended": n})
}
