package hub

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/ledger"
)

// rewriteAfter is how old the record of an edge may be before a hello that says
// nothing new is written again: edges on bad links say hello often.
const rewriteAfter = 10 * time.Minute

// registry decides at which site an edge stands: where sites.yaml puts it; or
// else where it stood before; or else where it says itself, from then on. Safe
// for concurrent use.
type registry struct {
	ledger *ledger.Ledger
	logger *slog.Logger
	pinned map[string]string // edge -> site
	sites  map[string]bool

	mu      sync.Mutex
	records map[string]ledger.EdgeRecord
}

func newRegistry(l *ledger.Ledger, plan *Plan, logger *slog.Logger) (*registry, error) {
	r := &registry{ledger: l, logger: logger, pinned: map[string]string{}, sites: map[string]bool{}, records: map[string]ledger.EdgeRecord{}}
	for _, s := range plan.Sites {
		r.sites[s.ID] = true
		for _, e := range s.Edges {
			r.pinned[e] = s.ID
		}
	}
	for i := range plan.Config.Push.Sources {
		r.pinned[plan.Config.Push.Sources[i].ID] = plan.Config.Push.Sources[i].Site
	}
	records, err := l.EdgeRecords()
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	for _, rec := range records {
		r.records[rec.Edge] = rec
	}
	return r, nil
}

// Site implements [ingest.Registry].
func (r *registry) Site(edge, claim string) string {
	if s, ok := r.pinned[edge]; ok {
		return s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, known := r.records[edge]
	if known && rec.Site != "" {
		return rec.Site
	}
	if claim != "" {
		if !r.sites[claim] && len(r.sites) > 0 {
			r.logger.Warn("edge stands at a site that sites.yaml does not list", "edge", edge, "site", claim)
		}
		rec.Edge, rec.Site, rec.Claim = edge, claim, claim
		r.records[edge] = rec
	}
	return claim
}

// hello keeps the document that an edge introduced itself with.
func (r *registry) hello(edge string, document []byte) {
	var h struct {
		Instance string `json:"instance"`
		Site     string `json:"site"`
		Version  string `json:"version"`
	}
	if err := json.Unmarshal(document, &h); err != nil {
		return // ingest has refused it already
	}
	site := r.Site(edge, h.Site)
	now := time.Now()
	r.mu.Lock()
	rec := r.records[edge]
	news := rec.Instance != h.Instance || rec.Site != site || rec.Claim != h.Site || now.Sub(rec.LastHello) > rewriteAfter
	rec.Edge, rec.Site, rec.Claim, rec.Instance = edge, site, h.Site, h.Instance
	if news {
		rec.LastHello = now
		rec.Hello = append(json.RawMessage(nil), document...)
		if rec.FirstSeen.IsZero() {
			rec.FirstSeen = now
		}
	}
	r.records[edge] = rec
	r.mu.Unlock()
	if !news {
		return
	}
	if h.Site != site && h.Site != "" {
		r.logger.Warn("edge says it stands elsewhere than the registry has it", "edge", edge, "says", h.Site, "registry", site)
	}
	if err := r.ledger.PutEdge(rec); err != nil {
		r.logger.Debug("record of the edge not written", "edge", edge, "err", err)
	}
}
