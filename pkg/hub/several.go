package hub

import (
	"context"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
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

// settle lets the rules of kind several go on without edges that are offline.
func (h *Hub) settle(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			h.engine.Settle(now, severalPatience)
		case <-ctx.Done():
			return nil
		}
	}
}
