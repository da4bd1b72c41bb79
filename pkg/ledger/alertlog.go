package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Append queues a transition of a rule for the alert log; it is committed within
// the window. It blocks while the queue is full, and returns an error when the
// transition can never be stored ([ErrInvalid]: no id, a value that is not
// finite) or the ledger is closed or failed. The transition and what it points
// to must not be changed afterwards.
func (l *Ledger) Append(t alert.Transition) error {
	encoded, err := encodeTransition(&t)
	if err != nil {
		return err
	}
	return l.submit(op{apply: func(b *batch) error { return b.append(&t, encoded) }})
}

// maxAlertID bounds an alert's id.
const maxAlertID = 255

// encodeTransition checks a rule's transition and encodes it as it is stored when
// no act and no hold adds to it.
func encodeTransition(t *alert.Transition) ([]byte, error) {
	if id := t.Alert.ID; id == "" || len(id) > maxAlertID || strings.ContainsRune(id, 0) {
		return nil, fmt.Errorf("transition of rule %s %w: its alert id %.40q is empty, too long or no text", t.Alert.Rule, ErrInvalid, id)
	}
	if t.Act != nil {
		return nil, fmt.Errorf("transition of alert %s %w: acts go through Act", t.Alert.ID, ErrInvalid)
	}
	t.Alert.ISA = t.Alert.Standing()
	encoded, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("transition of alert %s %w: %w", t.Alert.ID, ErrInvalid, err)
	}
	return encoded, nil
}

// keyPrefix begins the keys of an alert's transitions.
func keyPrefix(id string) []byte { return append([]byte(id), 0) }

// transitionKey is the key of a transition in the bucket keys: alert id, 0, and a
// hash of its name.
func transitionKey(t *alert.Transition) []byte {
	sum := sha256.Sum256([]byte(t.Key()))
	return append(keyPrefix(t.Alert.ID), sum[:16]...)
}

// append gives a rule's transition its sequence, unless the log has it already.
// What people and holds make of the alert stays.
func (b *batch) append(t *alert.Transition, encoded []byte) error {
	if b.tx.Bucket(bucketKeys).Get(transitionKey(t)) != nil {
		b.duplicates++
		return nil
	}
	old, known, err := b.alert(t.Alert.ID)
	if err != nil {
		return err
	}
	now := *t
	if known {
		now.Alert.Carry(&old)
	}
	now.Alert.HeldBy(b.holds())
	if now.Alert.ISA = now.Alert.Standing(); known || now.Alert.ISA != t.Alert.ISA || !sameHold(&now.Alert, &t.Alert) {
		if encoded, err = json.Marshal(&now); err != nil {
			return err
		}
	}
	var was *alert.Alert
	if known {
		was = &old
	}
	_, err = b.write(now, was, encoded)
	return err
}

// write gives the transition the next sequence. Old is the alert before it, nil
// when it is new; encoded is the transition's JSON.
func (b *batch) write(t alert.Transition, old *alert.Alert, encoded []byte) (alert.Entry, error) {
	silent := t.Alert.Held() != ""
	if old != nil {
		was, err := b.unindex(old)
		if err != nil {
			return alert.Entry{}, err
		}
		silent = was.silent
	}
	b.last++
	e := alert.Entry{Transition: t, Sequence: b.last, Recorded: b.recorded, Generation: b.generation()}
	e.Alert.Sequence, e.Alert.Recorded = e.Sequence, e.Recorded
	if err := b.put(&e, encoded); err != nil {
		return e, err
	}
	if err := b.index(&e.Alert, silent); err != nil {
		return e, err
	}
	b.entries = append(b.entries, e)
	return e, nil
}

func (b *batch) put(e *alert.Entry, encoded []byte) error {
	seq := binary.BigEndian.AppendUint64(nil, e.Sequence)
	rec := binary.BigEndian.AppendUint64(nil, uint64(e.Recorded.UnixMilli()))
	log := b.tx.Bucket(bucketLog)
	log.FillPercent = 0.95 // it only grows at its end
	if err := log.Put(seq, append(rec[:8:8], encoded...)); err != nil {
		return err
	}
	if err := log.SetSequence(e.Sequence); err != nil {
		return err
	}
	if err := b.tx.Bucket(bucketKeys).Put(transitionKey(&e.Transition), seq); err != nil {
		return err
	}
	return b.tx.Bucket(bucketAlerts).Put([]byte(e.Alert.ID), append(append(seq[:8:8], rec...), encoded...))
}

func (b *batch) index(a *alert.Alert, silent bool) error {
	k, v := indexKey(a.Start.UnixMilli(), a.ID), indexOf(a)
	v.silent = silent
	if err := b.tx.Bucket(bucketStarts).Put(k, v.encode()); err != nil {
		return err
	}
	if !v.active {
		return nil
	}
	b.indexed = append(b.indexed, indexChange{v, 1})
	return b.tx.Bucket(bucketActive).Put(k, v.encode())
}

// unindex takes the alert out of the indexes and returns what they had of it.
func (b *batch) unindex(a *alert.Alert) (v indexValue, err error) {
	k := indexKey(a.Start.UnixMilli(), a.ID)
	starts := b.tx.Bucket(bucketStarts)
	v, _ = decodeIndex(starts.Get(k))
	if err := starts.Delete(k); err != nil {
		return v, err
	}
	if !v.active {
		return v, nil
	}
	b.indexed = append(b.indexed, indexChange{v, -1})
	return v, b.tx.Bucket(bucketActive).Delete(k)
}

// decodeAlert reads a value of the bucket alerts.
func decodeAlert(v []byte) (t alert.Transition, err error) {
	if len(v) < 16 {
		return t, fmt.Errorf("ledger: an alert of %d bytes is too short", len(v))
	}
	if err := json.Unmarshal(v[16:], &t); err != nil {
		return t, fmt.Errorf("ledger: an alert cannot be read: %w", err)
	}
	t.Alert.Sequence = binary.BigEndian.Uint64(v)
	t.Alert.Recorded = time.UnixMilli(int64(binary.BigEndian.Uint64(v[8:]))).UTC()
	t.Alert.ISA = t.Alert.Standing() // what format 1 wrote has none
	return t, nil
}

func decodeEntry(seq uint64, v []byte, generations []Generation) (e alert.Entry, err error) {
	if len(v) < 8 {
		return e, fmt.Errorf("ledger: entry %d is too short", seq)
	}
	if err := json.Unmarshal(v[8:], &e.Transition); err != nil {
		return e, fmt.Errorf("ledger: entry %d cannot be read: %w", seq, err)
	}
	e.Sequence = seq
	e.Recorded = time.UnixMilli(int64(binary.BigEndian.Uint64(v))).UTC()
	e.Alert.Sequence, e.Alert.Recorded = e.Sequence, e.Recorded
	e.Alert.ISA = e.Alert.Standing()
	for _, g := range generations {
		if g.First <= seq {
			e.Generation = g.ID
		}
	}
	return e, nil
}

// Entries returns up to limit entries with a sequence above after, oldest
// first. When entries after that are no longer kept (see FirstSequence), it
// begins with the oldest kept one. The entries share memory with other callers
// and must not be changed.
func (l *Ledger) Entries(after uint64, limit int) ([]alert.Entry, error) {
	l.mu.Lock()
	last, generations, err := l.last, l.generations, l.err
	if after >= last || limit <= 0 {
		l.mu.Unlock()
		return nil, err
	}
	if n := len(l.recent); n > 0 && l.recent[0].Sequence <= after+1 {
		from := int(after + 1 - l.recent[0].Sequence)
		out := append([]alert.Entry(nil), l.recent[from:min(n, from+limit)]...)
		l.mu.Unlock()
		return out, nil
	}
	l.mu.Unlock()
	var out []alert.Entry
	err = l.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketLog).Cursor()
		for k, v := c.Seek(binary.BigEndian.AppendUint64(nil, after+1)); k != nil && len(out) < limit; k, v = c.Next() {
			seq := binary.BigEndian.Uint64(k)
			if seq > last {
				return nil // committed, but not yet told
			}
			e, err := decodeEntry(seq, v, generations)
			if err != nil {
				return err
			}
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

// Alert returns the alert as it is after its newest transition.
func (l *Ledger) Alert(id string) (a alert.Alert, ok bool, err error) {
	if id == "" {
		return a, false, nil
	}
	err = l.view(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketAlerts).Get([]byte(id))
		if v == nil {
			return nil
		}
		t, err := decodeAlert(v)
		a, ok = t.Alert, err == nil
		return err
	})
	return a, ok, err
}

// Filter chooses alerts. A zero field chooses all. Lists choose those that
// equal any of their words.
type Filter struct {
	State    alert.State
	ISA      []alert.ISAState
	Test     *bool
	Severity []alert.Severity
	Site     []string
	Rule     []string
	From, To time.Time // alerts that stood at some time in [From, To)
}

func (f *Filter) matches(start int64, v *indexValue) bool {
	switch {
	case f.State == alert.Active && !v.active, f.State == alert.Cleared && v.active:
		return false
	case !oneOf(f.Severity, v.severity), !oneOf(f.Site, v.site), !oneOf(f.Rule, v.rule):
		return false
	case f.Test != nil && *f.Test != v.test, len(f.ISA) > 0 && !oneOf(f.ISA, v.standing()):
		return false
	case !f.To.IsZero() && start >= f.To.UnixMilli(), !f.From.IsZero() && v.end <= f.From.UnixMilli():
		return false
	}
	return true
}

func oneOf[T comparable](list []T, v T) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return len(list) == 0
}

// maxScan bounds how many index entries one call of Alerts looks at.
const maxScan = 100_000

// Alerts returns up to limit alerts that the filter chooses, newest start
// first, and a cursor for the next call, empty at the end. Cursors stay valid
// while alerts come and go: a later page repeats none and misses none that
// started before the first page's newest. A page may be shorter than limit
// although a cursor follows, when few of many alerts match.
func (l *Ledger) Alerts(f Filter, cursor string, limit int) (items []alert.Alert, next string, err error) {
	if limit <= 0 {
		return nil, "", nil
	}
	before := bytes.Repeat([]byte{0xff}, 16)
	if cursor != "" {
		if before, err = parseCursor(cursor); err != nil {
			return nil, "", err
		}
	} else if !f.To.IsZero() {
		t := timeKey(f.To.UnixMilli())
		before = t[:]
	}
	err = l.view(func(tx *bolt.Tx) error {
		bucket := bucketStarts
		if f.State == alert.Active {
			bucket = bucketActive
		}
		alerts := tx.Bucket(bucketAlerts)
		c := tx.Bucket(bucket).Cursor()
		step := c.Last
		if k, _ := c.Seek(before); k != nil {
			step = c.Prev
		}
		k, v := step()
		for scanned := 0; k != nil; k, v = c.Prev() {
			ix, ok := decodeIndex(v)
			if ok && len(k) > 8 && f.matches(keyTime(k), &ix) {
				a, err := decodeAlert(alerts.Get(k[8:]))
				if err != nil {
					return err
				}
				items = append(items, a.Alert)
			}
			if scanned++; len(items) == limit || scanned == maxScan {
				if before, _ := c.Prev(); before != nil {
					next = cursorString(k)
				}
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return items, next, nil
}
