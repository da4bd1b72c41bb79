package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// sink is one target's side of the mechanism. It is used by the goroutine of its
// target only.
type sink interface {
	// deliver gives the entries to the target, in order, and returns how many it
	// has taken. An error is about the next one: a [*refusal] when the target does
	// not want it, anything else when it is worth another try.
	deliver(ctx context.Context, entries []alert.Entry) (taken int, err error)
}

// rememberer is a sink with something to keep between entries.
type rememberer interface {
	remember(state json.RawMessage) error // once, before anything else; nil when there is none
	memory() (json.RawMessage, error)
	// receipts are those since the last call.
	receipts() []feed.Receipt
}

// idler is a sink with something to do while the log stands still.
type idler interface {
	// idle is called when the time that it last returned has come (at first: at
	// once). It returns the next, zero for never. Changed says that its memory is
	// to be written.
	idle(ctx context.Context, now time.Time) (next time.Time, changed bool, err error)
}

// waker is an idler whose next time may come sooner by what it was given.
type waker interface{ due() time.Time }

// prober is a sink that can be tried.
type prober interface {
	// probe sends a test and says in words what came of it. It may be called from
	// any goroutine.
	probe(ctx context.Context, who string) (string, error)
}

// refusal is a target's no to an entry.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

// notBefore is a failure with the target's wish when to come again.
type notBefore struct {
	err   error
	after time.Duration
}

func (n *notBefore) Error() string { return n.err.Error() }
func (n *notBefore) Unwrap() error { return n.err }

// The pauses between tries.
const (
	leastPause   = 500 * time.Millisecond
	mostPause    = time.Minute
	mostHeld     = 5 * time.Minute // between offers of an entry that was refused
	mostAsked    = time.Hour       // what a Retry-After may ask for
	saveEvery    = time.Second
	deliverBatch = 64
)

// target is a consumer with its sink.
type target struct {
	name, kind, where string
	choice            feed.Choice
	skipAfter         time.Duration
	oldest            bool // a new one begins at the oldest entry
	sink              sink
	parts             *Parts
	log               *slog.Logger

	// Of the goroutine that runs it.
	saved    feed.Position // on disk, or on its way
	savedAt  time.Time
	changed  bool // the sink's memory is to be written
	nextIdle time.Time

	mu       sync.Mutex
	status   feed.Delivery
	oldestAt time.Time // recorded time of the oldest entry that is not done with
	order    *order
	wake     chan struct{} // has one when there is an order
}

func (t *target) set(change func(*feed.Delivery)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.status)
}

// run delivers until ctx ends. The error is the ledger's.
func (t *target) run(ctx context.Context) error {
	c, known, err := t.parts.Book.Consumer(t.name)
	if err != nil {
		return err
	}
	if !known && !t.oldest {
		c.Position = feed.Newest(t.parts.Log)
	}
	if r, ok := t.sink.(rememberer); ok {
		if err := r.remember(c.State); err != nil {
			// Its own fault: the others go on, and what is kept stays as it is.
			t.log.Error("delivery does not run: what was kept of it cannot be read", "target", t.name, "err", err)
			t.set(func(s *feed.Delivery) { s.LastError = "what was kept of it cannot be read: " + err.Error() })
			<-ctx.Done()
			return nil
		}
	}
	t.set(func(s *feed.Delivery) {
		if s.State, s.Held = feed.Idle, c.Held; c.Held != nil {
			s.State = feed.Held
		}
	})
	reader := feed.NewReader(t.parts.Log, c.Position)
	pos := c.Position
	if pos == (feed.Position{}) {
		pos = reader.Position()
	}
	t.moved(pos)
	if !known {
		// From here on, also when the hub ends before the first entry.
		if err := t.save(pos, true); err != nil {
			return err
		}
	}
	t.saved = pos
	t.nextIdle = t.parts.Now()
	defer t.stopped()
	for ctx.Err() == nil {
		changed := t.parts.Log.Changed()
		b, err := reader.Next(deliverBatch)
		if err != nil {
			return err
		}
		t.tell(b.Notices)
		if err := t.give(ctx, b.Entries, reader.Position()); err != nil {
			return err
		}
		if b.More && ctx.Err() == nil {
			if err := t.saveIfDue(false); err != nil {
				return err
			}
			continue
		}
		if ctx.Err() == nil {
			if err := t.rest(ctx, changed); err != nil {
				return err
			}
		}
	}
	return t.saveIfDue(true)
}

func (t *target) position() feed.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.Position
}

func (t *target) moved(p feed.Position) { t.set(func(s *feed.Delivery) { s.Position = p }) }

// tell says what the log no longer has.
func (t *target) tell(notices []feed.Notice) {
	for _, n := range notices {
		text := fmt.Sprintf("entries before %d were trimmed before this target got them", n.First)
		if n.Kind == feed.NewGeneration {
			text = fmt.Sprintf("the hub was restored from a backup; it goes on at entry %d", n.First)
		}
		t.log.Warn("delivery", "target", t.name, "notice", text)
		t.set(func(s *feed.Delivery) { s.Notice = text })
	}
}

// give gives the wanted ones of the entries to the sink, however long it takes.
func (t *target) give(ctx context.Context, entries []alert.Entry, end feed.Position) error {
	wanted := make([]alert.Entry, 0, len(entries))
	for i := range entries {
		ok, err := t.choice.Wants(&entries[i], t.parts.Groups, t.parts.Log)
		if err != nil {
			return err
		}
		if ok {
			wanted = append(wanted, entries[i])
		}
	}
	least := or(t.parts.least, leastPause)
	pause := least
	for len(wanted) > 0 && ctx.Err() == nil {
		t.mu.Lock()
		t.oldestAt = wanted[0].Recorded
		if t.status.State != feed.Held && t.status.State != feed.Retrying {
			t.status.State = feed.Delivering
		}
		t.mu.Unlock()
		n, err := t.sink.deliver(ctx, wanted)
		if n > 0 {
			t.taken(&wanted[n-1], n)
			wanted = wanted[n:]
			pause = least
			if err := t.saveIfDue(false); err != nil {
				return err
			}
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		skipped, werr := t.waitAfter(ctx, &wanted[0], err, &pause)
		if werr != nil {
			return werr
		}
		if skipped {
			wanted = wanted[1:]
			pause = least
		}
	}
	if ctx.Err() != nil && len(wanted) > 0 {
		return nil
	}
	t.mu.Lock()
	t.status.Position, t.status.State, t.oldestAt = end, feed.Idle, time.Time{}
	t.mu.Unlock()
	return nil
}

// taken notes that the target has the n entries up to last.
func (t *target) taken(last *alert.Entry, n int) {
	now := t.parts.Now()
	t.changed = true
	t.set(func(s *feed.Delivery) {
		s.Position = feed.Position{Generation: last.Generation, Sequence: last.Sequence}
		s.Delivered += uint64(n)
		s.LastSuccess = &now
		s.State, s.Held, s.NextTry = feed.Delivering, nil, nil
	})
}

// waitAfter notes a failure to give e and waits until it is worth another try. It
// returns true when e was skipped instead.
func (t *target) waitAfter(ctx context.Context, e *alert.Entry, failure error, pause *time.Duration) (skipped bool, err error) {
	now := t.parts.Now()
	var no *refusal
	var asked *notBefore
	wait := *pause + rand.N(*pause/4+1)
	held := errors.As(failure, &no)
	switch {
	case held:
		*pause = min(2**pause, mostHeld)
	case errors.As(failure, &asked):
		wait = max(wait, min(asked.after, mostAsked))
	}
	if !held {
		*pause = min(2**pause, mostPause)
	}
	first := t.failed(e, failure, held, now, now.Add(wait))
	if held {
		if t.skipAfter > 0 {
			left := t.heldSince().Add(t.skipAfter).Sub(now)
			if left <= 0 {
				return true, t.skip(e, no.reason, "", fmt.Sprintf("refused for %s (skip_after)", t.skipAfter))
			}
			wait = min(wait, left)
		}
		if first {
			if err := t.save(t.position(), true); err != nil { // since when it is held must outlive a restart
				return false, err
			}
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case <-timer.C:
			return false, nil
		case <-t.wake:
		}
		o := t.takeOrder()
		switch {
		case o == nil:
			continue
		case !o.skip:
			t.log.Info("delivery tried again", "target", t.name, "by", o.who)
			*pause = or(t.parts.least, leastPause)
			o.done <- nil
			return false, nil
		case !held || o.sequence != e.Sequence:
			o.done <- &alert.Refusal{Reason: alert.NotNow, What: fmt.Sprintf("%s is not held at entry %d", t.name, o.sequence), Do: "look at /api/v1/deliveries again"}
			continue
		}
		err := t.skip(e, no.reason, o.who, o.why)
		o.done <- err
		return true, err
	}
}

func (t *target) heldSince() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status.Held == nil {
		return t.parts.Now()
	}
	return t.status.Held.Since
}

// failed notes a failure; it returns true when the target was not held before.
func (t *target) failed(e *alert.Entry, failure error, held bool, now, next time.Time) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.status
	was := s.State
	s.Failures++
	s.LastError, s.LastErrorAt, s.NextTry = failure.Error(), &now, &next
	if !held {
		s.State, s.Held = feed.Retrying, nil
		if was != feed.Retrying {
			t.log.Warn("delivery fails and is tried again", "target", t.name, "entry", e.Sequence, "err", failure)
		}
		return false
	}
	s.State = feed.Held
	if first = s.Held == nil || s.Held.Sequence != e.Sequence; first {
		s.Held = &feed.Holdup{Sequence: e.Sequence, Since: now}
		t.log.Error("delivery is held: the target refuses an entry", "target", t.name, "entry", e.Sequence, "err", failure)
	}
	s.Held.Reason = failure.Error()
	return first
}

// skip puts the entry among the dead letters and goes on after it.
func (t *target) skip(e *alert.Entry, reason, who, why string) error {
	pos := feed.Position{Generation: e.Generation, Sequence: e.Sequence}
	t.set(func(s *feed.Delivery) {
		s.Position, s.Held, s.State, s.NextTry = pos, nil, feed.Delivering, nil
		s.Skipped++
	})
	t.log.Warn("delivery skips an entry", "target", t.name, "entry", e.Sequence, "by", or(who, "skip_after"), "why", why)
	return t.save(pos, true, feed.DeadLetter{Consumer: t.name, Entry: *e, Reason: reason, Who: who, Why: why, At: t.parts.Now().UTC()})
}

// rest waits until the log has more or the sink has something to do, and saves.
func (t *target) rest(ctx context.Context, changed <-chan struct{}) error {
	if w, ok := t.sink.(waker); ok {
		if due := w.due(); !due.IsZero() && (t.nextIdle.IsZero() || due.Before(t.nextIdle)) {
			t.nextIdle = due
		}
	}
	for {
		now := t.parts.Now()
		if idle, ok := t.sink.(idler); ok && !t.nextIdle.IsZero() && !now.Before(t.nextIdle) {
			if err := t.idle(ctx, idle, now); err != nil {
				return err
			}
			continue
		}
		if err := t.saveIfDue(false); err != nil {
			return err
		}
		var timer <-chan time.Time
		next := t.nextIdle
		if due := t.savedAt.Add(saveEvery); t.dirty() && (next.IsZero() || due.Before(next)) {
			next = due
		}
		var stop func() bool
		if !next.IsZero() {
			tm := time.NewTimer(max(next.Sub(now), time.Millisecond))
			timer, stop = tm.C, tm.Stop
		}
		done := false
		select {
		case <-ctx.Done():
			done = true
		case <-changed:
			done = true
		case <-timer:
		case <-t.wake:
			t.refuseOrder()
		}
		if stop != nil {
			stop()
		}
		if done {
			return nil
		}
	}
}

// idle lets the sink do what its time has come for.
func (t *target) idle(ctx context.Context, s idler, now time.Time) error {
	next, changed, err := s.idle(ctx, now)
	t.nextIdle = next
	t.changed = t.changed || changed
	if ctx.Err() != nil {
		return nil //nolint:nilerr // what is left comes at the next start
	}
	t.set(func(s *feed.Delivery) {
		at := now
		switch {
		case err != nil:
			if s.State != feed.Retrying {
				t.log.Warn("delivery", "target", t.name, "err", err)
			}
			s.Failures++
			s.State, s.LastError, s.LastErrorAt, s.NextTry = feed.Retrying, err.Error(), &at, &next
		case s.State == feed.Retrying:
			s.State, s.NextTry = feed.Idle, nil
		}
	})
	if changed {
		return t.save(t.position(), false)
	}
	return nil
}

func (t *target) dirty() bool { return t.changed || t.position() != t.saved }

// saveIfDue writes down how far it has got, not more often than every second
// unless it is the last time.
func (t *target) saveIfDue(now bool) error {
	if !t.dirty() || !now && t.parts.Now().Sub(t.savedAt) < saveEvery {
		return nil
	}
	return t.save(t.position(), false)
}

// save writes the position with what the sink has to keep; wait returns once it
// is on disk.
func (t *target) save(pos feed.Position, wait bool, dead ...feed.DeadLetter) error {
	s := feed.Step{Consumer: feed.Consumer{Name: t.name, Position: pos}, Dead: dead}
	t.mu.Lock()
	s.Consumer.Held = clone(t.status.Held)
	t.mu.Unlock()
	if r, ok := t.sink.(rememberer); ok {
		var err error
		if s.Consumer.State, err = r.memory(); err != nil {
			return err
		}
		s.Receipts = r.receipts()
	}
	t.saved, t.savedAt, t.changed = pos, t.parts.Now(), false
	if wait || len(s.Receipts) > 0 {
		return t.parts.Book.Advance(s)
	}
	return t.parts.Book.Pass(s)
}
