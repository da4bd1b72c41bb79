package hub

import (
	"context"
	"fmt"
	"time"
)

// trimBatch bounds the entries that one commit removes, so that alerts that come
// in between do not wait.
const trimBatch = 2000

// keepAlerts does to the alert log what the hub's clock asks for: ends shelvings,
// holds and tests whose time is over, and drops what is older than configured.
func (h *Hub) keepAlerts(ctx context.Context) error {
	second, hour := time.NewTicker(time.Second), time.NewTicker(time.Hour)
	defer second.Stop()
	defer hour.Stop()
	if err := h.trimAlerts(ctx); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-second.C:
			err = h.ledger.Expire()
		case <-hour.C:
			err = h.trimAlerts(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (h *Hub) trimAlerts(ctx context.Context) error {
	now := time.Now()
	total := 0
	for ctx.Err() == nil {
		n, err := h.ledger.Trim(now.Add(-h.plan.Config.Alerts.Retention), trimBatch)
		if err != nil {
			return fmt.Errorf("trim the alert log: %w", err)
		}
		if total += n; n < trimBatch {
			break
		}
	}
	if total > 0 {
		h.logger.Info("alert log trimmed", "entries", total, "older_than", h.plan.Config.Alerts.Retention)
	}
	return h.dropRules(now)
}
