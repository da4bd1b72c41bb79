package deliver

import (
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// now is how it stands.
func (t *target) now() feed.Delivery {
	newest, now := t.parts.Log.LastSequence(), t.parts.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status
	s.Held = clone(s.Held)
	if newest > s.Position.Sequence {
		s.Lag = newest - s.Position.Sequence
	}
	if !t.oldestAt.IsZero() {
		s.LagSeconds = max(0, now.Sub(t.oldestAt).Seconds())
	}
	s.Summary = summary(&s)
	return s
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// summary says in plain words how it stands and what to do.
func summary(s *feed.Delivery) string {
	switch s.State {
	case feed.Held:
		if s.Held != nil {
			return fmt.Sprintf("refuses entry %d since %s: %s. Nothing overtakes it. Mend the receiver, or skip the entry: langbiang-hub deliveries skip %s %d",
				s.Held.Sequence, s.Held.Since.Format(time.RFC3339), s.Held.Reason, s.Name, s.Held.Sequence)
		}
	case feed.Retrying:
		return fmt.Sprintf("does not answer as it should: %s. It is tried again by itself", s.LastError)
	case feed.Delivering:
		return fmt.Sprintf("%d entries behind, and being given", s.Lag)
	case feed.Stopped:
		return "not running " + s.LastError
	case feed.Idle:
	}
	return fmt.Sprintf("everything up to entry %d is given", s.Position.Sequence)
}
