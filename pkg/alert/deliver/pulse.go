package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// pulse sends a sign of life once a day on every channel, so that people notice
// when the hub, or a channel, has gone silent. It reads no entries.
type pulse struct {
	p    *people
	at   int // minutes of the day
	st   pulseState
	done []feed.Receipt
}

// pulseState is what is kept, version 1.
type pulseState struct {
	Version int       `json:"version"`
	Last    time.Time `json:"last"` // when the newest was sent
}

func newPulse(p *people) *pulse {
	at, _ := minutes(p.cfg.Heartbeat.At) // checked
	return &pulse{p: p, at: at, st: pulseState{Version: 1}}
}

func (h *pulse) describe() string {
	return "daily at " + h.p.cfg.Heartbeat.At + " to " + strings.Join(h.p.cfg.Heartbeat.Tell, ", ") + " by every channel"
}

func (h *pulse) deliver(_ context.Context, entries []alert.Entry) (int, error) {
	return len(entries), nil
}

func (h *pulse) remember(state json.RawMessage) error {
	if len(state) == 0 {
		h.st.Last = h.p.parts.Now() // a new one begins with the next time
		return nil
	}
	if err := json.Unmarshal(state, &h.st); err != nil || h.st.Version != 1 {
		return errors.Join(err, fmt.Errorf("version %d", h.st.Version))
	}
	return nil
}

func (h *pulse) memory() (json.RawMessage, error) { return json.Marshal(&h.st) }

func (h *pulse) receipts() []feed.Receipt {
	done := h.done
	h.done = nil
	return done
}

// slot is the newest time at or before now at which one is due.
func (h *pulse) slot(now time.Time) time.Time {
	t := now.In(hanoi)
	s := time.Date(t.Year(), t.Month(), t.Day(), 0, h.at, 0, 0, hanoi)
	if s.After(t) {
		s = s.AddDate(0, 0, -1)
	}
	return s
}

func (h *pulse) idle(ctx context.Context, now time.Time) (time.Time, bool, error) {
	slot := h.slot(now)
	next := slot.AddDate(0, 0, 1)
	if !h.st.Last.Before(slot) {
		return next, false, nil
	}
	active, err := h.p.parts.Log.ActiveAlerts()
	if err != nil {
		return now.Add(time.Minute), false, err
	}
	h.st.Last = now
	text := fmt.Sprintf(languages[or(h.p.cfg.Language, "vi")].pulse, len(active))
	var failures []error
	for _, name := range slices.Sorted(maps.Keys(h.p.channels)) {
		for _, person := range h.p.cfg.Heartbeat.Tell {
			to := h.p.address(person, name)
			if to == "" {
				continue
			}
			detail, err := h.p.channels[name].send(ctx, &message{ID: fmt.Sprintf("heartbeat-%d-%s", now.Unix(), name), To: to, Person: person, Title: text, Text: text, Reason: reasonHeartbeat})
			r := feed.Receipt{Consumer: heartbeatName, Reason: reasonHeartbeat, Person: person, Channel: name, Sent: err == nil, Detail: detail, Attempts: 1, Text: text, At: now.UTC()}
			if err != nil {
				r.Detail = err.Error()
				failures = append(failures, fmt.Errorf("%s by %s: %w", person, name, err))
			}
			h.done = append(h.done, r)
		}
	}
	return next, true, errors.Join(failures...)
}

func (h *pulse) probe(ctx context.Context, who string) (string, error) {
	return h.p.probe(ctx, heartbeatName, h.p.cfg.Heartbeat.Tell, slices.Sorted(maps.Keys(h.p.channels)), who)
}
