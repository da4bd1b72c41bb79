package hub

import (
	"context"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/rules"
)

// severalPatience is how long rules of kind several wait for an edge that does not
// advance, by the hub's clock. What they then judge without it names it.
const severalPatience = time.Hour

// recallAlerts lets the engine know what stands: rules of kind several are judged
// by the alerts of others, and the alert log has them.
func (h *Hub) recallAlerts() error {
	if !h.engine.NeedsRecall() {
		return nil
	}
	edges, err := h.ledger.CheckpointedEdges()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	h.engine.Expect(edges, time.Now())
	for after := uint64(0); ; {
		entries, err := h.ledger.Entries(after, 1000)
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		if len(entries) == 0 {
			return nil
		}
		list := make([]alert.Transition, 0, len(entries))
		for i := range entries {
			if entries[i].Act == nil && !entries[i].Alert.Test {
				list = append(list, entries[i].Transition)
			}
			after = entries[i].Sequence
		}
		h.engine.Recall(list)
	}
}

// offlinePlan is what hub.yaml says of edges that fall silent.
func offlinePlan(c *OfflineConfig) rules.OfflinePlan {
	p := rules.OfflinePlan{Warning: c.Warning, Critical: c.Critical}
	for _, s := range c.Sleepers {
		p.Sleepers = append(p.Sleepers, rules.Sleepers{Edges: s.Edges, Awake: s.Awake, Zone: s.Zone})
	}
	return p
}

// watchEdges makes the built-in rule edge_offline; its alerts that stand go on.
func (h *Hub) watchEdges() error {
	c := &h.plan.Config.Offline
	if c.Warning <= 0 && c.Critical <= 0 {
		return nil
	}
	f := ledger.Filter{State: alert.Active, Rule: []string{rules.RuleOffline}}
	for i := range c.Sleepers {
		f.Rule = append(f.Rule, fmt.Sprintf("%s.%d", rules.RuleOffline, i+1))
	}
	var active []alert.Alert
	for cursor := ""; ; {
		list, next, err := h.ledger.Alerts(f, cursor, 1000)
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		active = append(active, list...)
		if cursor = next; next == "" {
			break
		}
	}
	o, err := rules.NewOffline(offlinePlan(c), rulesEnv(h.plan), active, time.Now(), h.raise)
	if err != nil {
		return fmt.Errorf("offline: %w", err)
	}
	h.offline = o
	return nil
}

// settle does what rules judge by the hub's clock, every second.
func (h *Hub) settle(ctx context.Context) error {
	if err := h.watchEdges(); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			h.engine.Settle(now, severalPatience)
			if h.offline == nil {
				continue
			}
			var seen []rules.Seen
			for _, e := range h.ingest.Edges() {
				seen = append(seen, rules.Seen{Edge: e.Edge, Site: e.Site, Last: e.LastSeen})
			}
			h.offline.Look(now, seen)
		case <-ctx.Done():
			return nil
		}
	}
}
