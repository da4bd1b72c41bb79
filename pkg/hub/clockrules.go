package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api/promapi"
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

// builtInPlan is what hub.yaml says of the built-in rules.
func builtInPlan(c *OfflineConfig) *rules.BuiltInPlan {
	p := &rules.BuiltInPlan{Warning: c.Warning, Critical: c.Critical}
	for _, s := range c.Sleepers {
		p.Sleepers = append(p.Sleepers, rules.Sleepers{Edges: s.Edges, Awake: s.Awake, Zone: s.Zone})
	}
	return p
}

// judgeByClock makes what judges by the hub's clock; the alerts that stand go on.
func (h *Hub) judgeByClock() error {
	var active []alert.Alert
	for cursor := ""; ; {
		list, next, err := h.ledger.Alerts(ledger.Filter{State: alert.Active}, cursor, 1000)
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		for i := range list {
			if rules.JudgedByClock(&list[i]) {
				active = append(active, list[i])
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	if err := h.recallCutOff(active); err != nil {
		return err
	}
	h.clock = h.engine.ByClock(active, time.Now(), querier{promapi.NewEvaluator(h.store.Queryable(), h.logger)})
	return nil
}

// settle does what rules judge by the hub's clock, every second.
func (h *Hub) settle(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			h.engine.Settle(now, severalPatience)
			var seen []rules.Seen
			for _, e := range h.agents() {
				last := e.LastSeen
				if p := h.sources[e.Edge]; p != nil {
					last = p.source.LastRow() // it is the sender who falls silent
				}
				seen = append(seen, rules.Seen{Edge: e.Edge, Site: e.Site, Last: last})
			}
			h.clock.Look(now, seen, h.reported)
			h.evaluate(ctx, now, &wg)
			if err := h.suppress(now); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// reported are the series of the quantities that edges have named, also of edges that
// have not been heard since the start: the checkpoint has them.
func (h *Hub) reported(quantities []string) (out []rules.Reported) {
	for _, e := range h.ingest.Edges() {
		for _, s := range h.ingest.Series(e.Edge) {
			if !slices.Contains(quantities, s.Quantity) {
				continue
			}
			r := rules.Reported{BoundSeries: s.BoundSeries}
			if s.Known && !s.Quality.IsBad() {
				r.Last = time.UnixMilli(s.Time)
			}
			out = append(out, r)
		}
	}
	return out
}
