package hub

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/history"
	"github.com/langbiang/langbiang/pkg/tsdb/local"
)

// lateWindow is added to what the edges keep: how far out of order the store
// takes samples.
const lateWindow = 15 * 24 * time.Hour

// inUse is what is said when another process has the data folder.
func (h *Hub) inUse() error {
	return fmt.Errorf("the data folder %s is in use by another process; stop it, or give this hub a data_dir of its own", h.plan.Config.DataDir)
}

// openStore opens the store that hub.yaml chooses. The ledger is open.
func (h *Hub) openStore() error {
	cfg := &h.plan.Config
	var long *history.Options
	if l := &cfg.Store.Long; l.FiveMinutes > 0 {
		long = &history.Options{KeepFiveMinutes: l.FiveMinutes, KeepHours: l.Hours, Aggregate: history.Aggregations(h.plan.Quantities)}
	}
	s, err := local.Open(filepath.Join(cfg.DataDir, storeDir), local.Options{
		Retention: cfg.Store.Retention, MaxSize: int64(cfg.Store.MaxSize), OutOfOrder: cfg.Store.MaxAge + lateWindow,
		MinFree: int64(cfg.Store.MinFree), Long: long, Logger: h.logger, Metrics: h.metrics,
	})
	if errors.Is(err, tsdb.ErrLocked) {
		return h.inUse()
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	h.store, h.local = s, s
	return h.rewind()
}

// rewind makes the edges send again what they keep, when the store has lost what
// had been durable.
func (h *Hub) rewind() error {
	r := h.local.Report()
	for _, d := range r.Damage {
		h.logger.Error("store damaged, part set aside", "path", d.Path, "reason", d.Reason, "folder", r.Folder)
	}
	if !r.NeedRewind {
		return nil
	}
	edges, err := h.ledger.CheckpointedEdges()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	var list []ledger.Checkpoint
	for _, e := range edges {
		list = append(list, ledger.Checkpoint{Edge: e, Position: []byte{}, Rules: []byte{}})
	}
	if err := h.ledger.Checkpoint(list); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := h.ledger.RecordEvent(ledger.Event{Kind: "store_damaged", Text: "the store lost what had been durable; all edges send again what they keep", Detail: map[string]string{"folder": r.Folder}}); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := h.ledger.Flush(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	h.logger.Warn("all edges are asked to send again what they keep", "edges", len(edges))
	return h.local.Rewound()
}
