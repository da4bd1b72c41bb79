package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/alert"
)

// maxHolds bounds the holds that stand at once: every transition is compared with
// each of them.
const maxHolds = 2000

// PutHold begins a hold, or replaces the one with its id, and returns when it is
// on disk together with the entries of the alerts that it reaches. A hold without
// an id gets one. A refusal is a [*alert.Refusal].
func (l *Ledger) PutHold(h alert.Hold) (alert.Hold, error) {
	var refused error
	err := l.wait(func(b *batch) error {
		if refused = h.Check(b.recorded); refused != nil {
			return nil //nolint:nilerr // nothing was done; the refusal is returned below
		}
		if h.ID == "" {
			h.ID = newGenerationID() + newGenerationID()
		}
		old, known := b.hold(h.ID)
		h.Pending = h.From.After(b.recorded)
		switch begun := known && !old.Pending; {
		case known && !sameScope(&old, &h):
			refused = &alert.Refusal{Reason: alert.NotNow, What: fmt.Sprintf("the hold %.80s stands with another kind or scope", h.ID), Do: "end it, or give another id; only its times and its reason can be changed"}
			return nil
		case begun && h.Pending:
			refused = &alert.Refusal{Reason: alert.NotNow, What: fmt.Sprintf("the hold %.80s has begun already", h.ID), Do: "end it, and make another that begins later"}
			return nil
		case begun:
			h.From = old.From
		case !h.Pending:
			h.From = b.recorded
		}
		if refused = b.roomFor(h.ID); refused != nil {
			return nil //nolint:nilerr // the same
		}
		h.Exact, h.Ended, h.From, h.Until = false, nil, h.From.UTC(), h.Until.UTC()
		if err := b.putHold(h); err != nil || h.Pending {
			return err
		}
		return b.reach(&h, holdAct(&h, h.Kind == alert.HoldEdgeOffline))
	})
	if err == nil {
		err = refused
	}
	return h, err
}

// holdAct is the act of the entries of alerts that the hold reaches when it begins.
func holdAct(h *alert.Hold, automatic bool) *alert.Act {
	return &alert.Act{Who: h.Who, Why: h.Why, Until: &h.Until, Hold: h.ID, Automatic: automatic}
}

// EndHold ends a hold before its time. A refusal is a [*alert.Refusal].
func (l *Ledger) EndHold(id, who, why string) (alert.Hold, error) {
	act := alert.Act{Who: who, Why: why}
	return l.release(id, act, func(b *batch) error { return act.Check(alert.Unshelved, b.recorded) })
}

// EndOwnHold is EndHold by the hub itself, for a hold of kind edge_offline.
func (l *Ledger) EndOwnHold(id, why string) (alert.Hold, error) {
	return l.release(id, alert.Act{Why: why, Automatic: true}, func(*batch) error { return nil })
}

func (l *Ledger) release(id string, act alert.Act, check func(*batch) error) (h alert.Hold, err error) {
	var refused error
	err = l.wait(func(b *batch) error {
		if refused = check(b); refused != nil {
			return nil //nolint:nilerr // nothing was done; the refusal is returned below
		}
		var ok bool
		if h, ok = b.hold(id); !ok {
			refused = &alert.Refusal{Reason: alert.NotFound, What: fmt.Sprintf("no hold with the id %.80q stands", id), Do: "the list of holds has those that do"}
			return nil
		}
		h, err = b.endHold(h, act)
		return err
	})
	if err == nil {
		err = refused
	}
	return h, err
}

// Holds returns the holds that stand, or with ended also those that have ended
// and are still kept; in the order of their beginnings.
func (l *Ledger) Holds(ended bool) ([]alert.Hold, error) {
	var out []alert.Hold
	err := l.view(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketHolds, bucketEnded} {
			if bytes.Equal(name, bucketEnded) && !ended {
				continue
			}
			if err := tx.Bucket(name).ForEach(func(_, v []byte) error { return appendJSON(&out, v) }); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b alert.Hold) int {
		if c := a.From.Compare(b.From); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, err
}

// holds are those that stand, as this transaction has them.
func (b *batch) holds() []alert.Hold {
	if b.newHolds != nil {
		return *b.newHolds
	}
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	return b.l.holds
}

func (b *batch) hold(id string) (alert.Hold, bool) {
	for _, h := range b.holds() {
		if h.ID == id {
			return h, true
		}
	}
	return alert.Hold{}, false
}

func (b *batch) without(id string) []alert.Hold {
	return slices.DeleteFunc(slices.Clone(b.holds()), func(h alert.Hold) bool { return h.ID == id })
}

func (b *batch) putHold(h alert.Hold) error {
	holds := append(b.without(h.ID), h)
	b.newHolds = &holds
	return putJSON(b.tx.Bucket(bucketHolds), []byte(h.ID), &h)
}

// endHold moves a hold to those that have ended, and tells the alerts that it
// held.
func (b *batch) endHold(h alert.Hold, act alert.Act) (alert.Hold, error) {
	h.Ended = &alert.HoldEnd{At: b.recorded.UTC(), Who: act.Who, Why: act.Why}
	holds := b.without(h.ID)
	b.newHolds = &holds
	if err := b.tx.Bucket(bucketHolds).Delete([]byte(h.ID)); err != nil {
		return h, err
	}
	if err := putJSON(b.tx.Bucket(bucketEnded), indexKey(h.Ended.At.UnixMilli(), h.ID), &h); err != nil {
		return h, err
	}
	act.Hold = h.ID
	return h, b.reach(&h, &act)
}

// roomFor refuses a hold that would be one too many.
func (b *batch) roomFor(id string) error {
	if _, known := b.hold(id); known || len(b.holds()) < maxHolds {
		return nil
	}
	return &alert.Refusal{Reason: alert.NotNow, What: fmt.Sprintf("%d holds stand already, shelvings among them", maxHolds), Do: "end some, or use fewer with a wider scope"}
}

func sameScope(a, b *alert.Hold) bool {
	return a.Kind == b.Kind && a.Site == b.Site && a.Edge == b.Edge && a.Device == b.Device && a.Point == b.Point && a.Rule == b.Rule && a.UpTo == b.UpTo
}

// endShelves ends the shelvings that cover the alert.
func (b *batch) endShelves(a *alert.Alert, act alert.Act) error {
	for _, h := range b.holds() {
		if h.Kind == alert.HoldShelved && h.Covers(a) {
			if _, err := b.endHold(h, act); err != nil {
				return err
			}
		}
	}
	return nil
}

// reach writes an entry for every active alert that the hold changes, now that it
// stands or has ended.
func (b *batch) reach(h *alert.Hold, act *alert.Act) error {
	var ids []string
	series := []byte(alert.SeriesKey(h.Edge, h.Device, h.Point))
	err := b.tx.Bucket(bucketActive).ForEach(func(k, v []byte) error {
		if h.Exact && !bytes.HasSuffix(v, series) { // the series is the last of the value
			return nil
		}
		ix, ok := decodeIndex(v)
		if ok && (h.Rule == "" || ix.rule == h.Rule) && (h.Site == "" || h.Exact || ix.site == h.Site) &&
			(h.Edge == "" || strings.HasPrefix(ix.series, h.Edge+"/")) {
			ids = append(ids, string(k[8:]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	kinds := map[alert.HoldKind][2]alert.Kind{
		alert.HoldShelved:      {alert.Shelved, alert.Unshelved},
		alert.HoldOutOfService: {alert.OutOfService, alert.InService},
		alert.HoldMaintenance:  {alert.Suppressed, alert.Unsuppressed},
		alert.HoldEdgeOffline:  {alert.Suppressed, alert.Unsuppressed},
	}[h.Kind]
	kind := kinds[0]
	if h.Ended != nil {
		kind = kinds[1]
	}
	if h.Pending { // it ended before it began
		return nil
	}
	for _, id := range ids {
		old, ok, err := b.alert(id)
		if err != nil {
			return err
		}
		a := old
		if a.HeldBy(b.holds()); !ok || !h.Covers(&old) || sameHold(&old, &a) {
			continue
		}
		one := *act
		if one.Key == "" {
			one.Key = b.ownKey()
		}
		if _, err := b.note(kind, &one, a); err != nil {
			return err
		}
	}
	return nil
}

func sameHold(a, b *alert.Alert) bool {
	return a.Suppressed == b.Suppressed && a.OutOfService == b.OutOfService && (a.ShelvedUntil == nil) == (b.ShelvedUntil == nil) &&
		(a.ShelvedUntil == nil || a.ShelvedUntil.Equal(*b.ShelvedUntil))
}

// Expire begins the holds whose time has come, and ends those and the tests whose time
// is over, by the hub's clock. It
// costs next to nothing when there are none: call it every second.
func (l *Ledger) Expire() error {
	l.mu.Lock()
	next := l.nextExpiry()
	l.mu.Unlock()
	if l.o.Now().UnixMilli() < next {
		return nil
	}
	return l.wait(func(b *batch) error {
		for _, h := range b.holds() {
			if h.Until.After(b.recorded) {
				if err := b.begin(h); err != nil {
					return err
				}
				continue
			}
			if _, err := b.endHold(h, alert.Act{Why: "its time is over", Automatic: true}); err != nil {
				return err
			}
		}
		for id, until := range b.testAlerts() {
			if until > b.recorded.UnixMilli() {
				continue
			}
			if err := b.endTest(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// begin lets a hold begin whose time has come.
func (b *batch) begin(h alert.Hold) error {
	if !h.Pending || h.From.After(b.recorded) {
		return nil
	}
	h.Pending = false
	if err := b.putHold(h); err != nil {
		return err
	}
	return b.reach(&h, holdAct(&h, true))
}

// nextExpiry is when something begins or ends next; the caller holds l.mu.
func (l *Ledger) nextExpiry() int64 {
	next := int64(math.MaxInt64)
	for i := range l.holds {
		next = min(next, l.holds[i].Until.UnixMilli())
		if l.holds[i].Pending {
			next = min(next, l.holds[i].From.UnixMilli())
		}
	}
	for _, until := range l.tests {
		next = min(next, until)
	}
	return next
}

// testAlerts are the active tests with their ends.
func (b *batch) testAlerts() map[string]int64 {
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	return maps.Clone(b.l.tests)
}

func (b *batch) endTest(id string) error {
	a, ok, err := b.alert(id)
	if err != nil || !ok || a.State != alert.Active {
		return err
	}
	end := b.recorded.UTC().Truncate(time.Millisecond)
	a.State, a.End, a.Updated, a.Reason = alert.Cleared, &end, end, "test over"
	_, err = b.note(alert.Ended, &alert.Act{Why: "its time is over", Automatic: true, Key: b.ownKey()}, a)
	return err
}

// loadHolds reads what is held in memory.
func (l *Ledger) loadHolds(tx *bolt.Tx) error {
	l.tests = map[string]int64{}
	if err := tx.Bucket(bucketHolds).ForEach(func(_, v []byte) error { return appendJSON(&l.holds, v) }); err != nil {
		return err
	}
	return tx.Bucket(bucketActive).ForEach(func(k, v []byte) error {
		ix, ok := decodeIndex(v)
		if !ok || !ix.test {
			return nil
		}
		t, err := decodeAlert(tx.Bucket(bucketAlerts).Get(k[8:]))
		if err == nil && t.Alert.TestUntil != nil {
			l.tests[t.Alert.ID] = t.Alert.TestUntil.UnixMilli()
		}
		return err
	})
}

// trimHolds removes the holds that ended before the time.
func trimHolds(tx *bolt.Tx, before time.Time) error {
	bucket := tx.Bucket(bucketEnded)
	c := bucket.Cursor()
	for k, _ := c.First(); k != nil && keyTime(k) < before.UnixMilli(); k, _ = c.First() {
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
