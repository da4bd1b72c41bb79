package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/tsdb/texts"
)

// storeView implements [api.Store].
type storeView struct{ h *Hub }

// Status implements [api.Store].
func (v storeView) Status() (api.StoreStatus, error) {
	c := &v.h.plan.Config
	st := v.h.store.Stats()
	out := api.StoreStatus{
		Kind: c.Store.Kind, Series: st.Series, Samples: st.Samples, Oldest: millis(st.MinTime), Newest: millis(st.MaxTime),
		Bytes: st.BlockBytes + st.LogBytes, FreeBytes: st.FreeBytes, MaxBytes: st.MaxSize, Blocks: st.Blocks,
		LastSync: millis(st.LastSync), SyncMS: st.SyncDuration.Milliseconds(),
		Dropped: api.StoreDropped{Conflicts: st.Conflicts, TooOld: st.TooOld, Ahead: st.Ahead, Refused: st.Refused},
		Alerts:  api.AlertsKept{Retention: lasting(c.Alerts.Retention), First: v.h.ledger.FirstSequence(), Last: v.h.ledger.LastSequence(), Generation: v.h.ledger.Generation()},
		Backup:  pointer(v.h.backedUp.get()),
		Notes:   []string{},
	}
	if st.Retention > 0 {
		out.Retention = lasting(st.Retention)
	}
	if c.Store.Kind == storeLocal && c.Store.Long.FiveMinutes > 0 {
		out.Long = &api.LongStatus{
			Bytes: st.LongBytes, FiveMinutes: lasting(c.Store.Long.FiveMinutes), Hours: lasting(c.Store.Long.Hours),
			FiveMinutesSince: millis(st.LongFiveMinutes), HoursSince: millis(st.LongHours), Late: st.LongLate,
		}
	}
	t, err := v.h.texts.Stats()
	if err != nil {
		return out, err
	}
	out.Texts = api.TextsStatus{Series: t.Series, Bytes: t.Bytes, MaxBytes: int64(c.Store.Texts.MaxSize), Oldest: millis(t.Oldest)}
	entries, err := v.h.ledger.Entries(0, 1)
	if err != nil {
		return out, err
	}
	if len(entries) > 0 {
		out.Alerts.Oldest = pointer(entries[0].Recorded)
		out.Notes = append(out.Notes, retentionNote(entries[0].Recorded, st.MinTime, time.Now()))
		if out.Notes[0] == "" {
			out.Notes = []string{}
		}
	}
	return out, nil
}

// lasting writes a duration as hub.yaml has it: whole days as 400d.
func lasting(d time.Duration) string {
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// retentionNote says when the alert log reaches further back than the readings that
// its alerts are about.
func retentionNote(alert time.Time, oldest int64, now time.Time) string {
	if oldest == 0 || alert.UnixMilli() >= oldest-day.Milliseconds() || now.Sub(alert) < day {
		return ""
	}
	return fmt.Sprintf("The alert log reaches back to %s, the readings to %s: what raised the older alerts is in long history only, or gone. See alerts.retention, store.retention and store.max_size.",
		alert.UTC().Format(time.DateOnly), time.UnixMilli(oldest).UTC().Format(time.DateOnly))
}

// Texts implements [api.Store].
func (v storeView) Texts(f api.TextFilter, cursor string, limit int) ([]api.Text, string, error) {
	q := texts.Query{Where: map[string]string{
		"site": f.Site, "edge": f.Edge, "device": f.Device, "point": f.Point, "__name__": f.Quantity,
	}}
	if !f.From.IsZero() {
		q.From = f.From.UnixMilli()
	}
	if !f.To.IsZero() {
		q.To = f.To.UnixMilli() - 1
	}
	list, next, err := v.h.texts.Query(q, cursor, limit)
	if errors.Is(err, texts.ErrCursor) {
		return nil, "", errors.Join(api.ErrBadCursor, err)
	}
	out := make([]api.Text, 0, len(list))
	for _, s := range list {
		quantity := s.Labels["__name__"]
		delete(s.Labels, "__name__")
		out = append(out, api.Text{Time: time.UnixMilli(s.Time).UTC(), Quantity: quantity, Labels: s.Labels, Text: s.Text, Quality: s.Quality.String()})
	}
	return out, next, err
}
