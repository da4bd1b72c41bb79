package hub

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// cutOff knows which edges are offline, by the alerts that say so, and holds what
// depends on them: alerts of series of such an edge, up to the severity that hub.yaml
// says, call nobody while it is offline. The hold moves no start and no end of an
// alert, and ends when the edge is heard again. A hold is in the ledger and so
// outlives the hub; after a start it is compared with the alerts.
type cutOff struct {
	mu      sync.Mutex
	by      map[string]map[string]bool // rules whose alert stands, by edge
	changed map[string]bool
}

// suppressUpTo is the severity up to which alerts of an edge that is offline are held;
// none: none is.
func suppressUpTo(c *OfflineConfig) (alert.Severity, bool) {
	if c.Suppress == "none" {
		return alert.None, true
	}
	return alert.ParseSeverity(c.Suppress)
}

// note takes a transition of a rule.
func (c *cutOff) note(t *alert.Transition) {
	if a := &t.Alert; a.Quantity == alert.QuantitySilence && a.Edge != "" && !a.Test {
		c.set(a.Edge, a.Rule, a.State == alert.Active)
	}
}

func (c *cutOff) set(edge, rule string, offline bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by, c.changed = map[string]map[string]bool{}, map[string]bool{}
	}
	if c.by[edge] == nil {
		c.by[edge] = map[string]bool{}
	}
	was := len(c.by[edge]) > 0
	if offline {
		c.by[edge][rule] = true
	} else {
		delete(c.by[edge], rule)
	}
	if now := len(c.by[edge]) > 0; now != was {
		c.changed[edge] = true
	}
}

// take returns the edges that have gone offline or come back since the last call.
func (c *cutOff) take() (edges map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edges = map[string]bool{}
	for edge := range c.changed {
		edges[edge] = len(c.by[edge]) > 0
		if !edges[edge] {
			delete(c.by, edge)
		}
	}
	clear(c.changed)
	return edges
}

const holdPrefix = "edge-offline-" // of the ids of these holds

// recallCutOff compares the holds with the alerts of edges that stand.
func (h *Hub) recallCutOff(active []alert.Alert) error {
	for i := range active {
		h.cut.note(&alert.Transition{Alert: active[i]})
	}
	holds, err := h.ledger.Holds(false)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	upTo, _ := suppressUpTo(&h.plan.Config.Offline)
	h.cut.mu.Lock()
	defer h.cut.mu.Unlock()
	for i := range holds {
		edge, ok := strings.CutPrefix(holds[i].ID, holdPrefix)
		switch {
		case !ok || holds[i].Kind != alert.HoldEdgeOffline:
		case holds[i].UpTo != upTo || len(h.cut.by[edge]) == 0: // else it is as it should be
			if _, err := h.ledger.EndOwnHold(holds[i].ID, "the edge is back, or hub.yaml says otherwise now"); err != nil {
				return fmt.Errorf("ledger: %w", err)
			}
		default:
			delete(h.cut.changed, edge)
		}
	}
	return nil
}

// suppress holds what depends on edges that have gone offline, and lets go what
// depends on those that are back.
func (h *Hub) suppress(now time.Time) error {
	upTo, _ := suppressUpTo(&h.plan.Config.Offline)
	edges := h.cut.take()
	names := make([]string, 0, len(edges))
	for edge := range edges {
		names = append(names, edge)
	}
	slices.Sort(names)
	for _, edge := range names {
		var err error
		switch {
		case !edges[edge]:
			_, err = h.ledger.EndOwnHold(holdPrefix+edge, "the edge is back")
		case upTo != alert.None:
			_, err = h.ledger.PutHold(alert.Hold{
				ID: holdPrefix + edge, Kind: alert.HoldEdgeOffline, Edge: edge, UpTo: upTo, Until: now.Add(alert.MaxHold - 24*time.Hour).Truncate(time.Second), Why: "the edge is offline",
			})
		}
		var refused *alert.Refusal
		switch {
		case errors.As(err, &refused) && refused.Reason == alert.NotFound: // somebody has ended it
		case errors.As(err, &refused):
			h.logger.Warn("alerts of an edge that is offline go on calling", "edge", edge, "err", err)
		case err != nil:
			return fmt.Errorf("ledger: %w", err)
		}
	}
	return nil
}
