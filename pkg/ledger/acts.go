package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Act does a person's act to the alerts with these ids, all in one commit, and
// returns when it is on disk; there is a result for each id, in their order. A
// refusal of one alert changes nothing of the others. An act with a key that the
// alert has had before is not done again: the result is the entry of the first
// time, or a refusal when it was another act. The error is the ledger's own.
func (l *Ledger) Act(kind alert.Kind, act alert.Act, ids ...string) ([]alert.ActResult, error) {
	results := make([]alert.ActResult, len(ids))
	err := l.wait(func(b *batch) error {
		for i, id := range ids {
			var err error
			if results[i], err = b.act(kind, act, id); err != nil {
				return err
			}
		}
		return nil
	})
	return results, err
}

func (b *batch) act(kind alert.Kind, act alert.Act, id string) (r alert.ActResult, err error) {
	if r.Err = act.Check(kind, b.recorded); r.Err != nil {
		return r, nil //nolint:nilerr // the refusal is the result
	}
	a, ok, err := b.alert(id)
	if err != nil {
		return r, err
	}
	if !ok {
		r.Err = &alert.Refusal{Reason: alert.NotFound, What: fmt.Sprintf("there is no alert with the id %.40q", id), Do: "take the id from the list of alerts; old ones are dropped after alerts.retention"}
		return r, nil
	}
	act.Automatic, act.Hold = false, ""
	if act.Key != "" {
		t := alert.Transition{Kind: kind, Act: &act, Alert: alert.Alert{ID: id}}
		if seq := b.tx.Bucket(bucketKeys).Get(transitionKey(&t)); seq != nil {
			return b.again(&t, binary.BigEndian.Uint64(seq))
		}
	} else {
		act.Key = b.ownKey()
	}
	if r.Err = a.Apply(kind, &act, b.recorded); r.Err != nil {
		return r, nil //nolint:nilerr // the refusal is the result
	}
	before := len(b.entries)
	switch kind {
	case alert.Shelved:
		h := alert.ShelfFor(&a, &act, b.recorded.UTC())
		if r.Err = b.roomFor(h.ID); r.Err != nil {
			return r, nil //nolint:nilerr // the refusal is the result
		}
		if err := b.putHold(h); err != nil {
			return r, err
		}
		act.Hold = h.ID
		err = b.reach(&h, &act)
	case alert.Unshelved:
		err = b.endShelves(&a, act)
	}
	for i := range b.entries[before:] { // what a shelving reaches has its entry already
		if e := &b.entries[before+i]; e.Alert.ID == id {
			r.Entry = *e
			return r, err
		}
	}
	if err != nil {
		return r, err
	}
	r.Entry, err = b.note(kind, &act, a)
	return r, err
}

// ownKey is a key for an act whose client gave none.
func (b *batch) ownKey() string { return fmt.Sprintf("%s-%d", b.generation(), b.last+1) }

// again answers an act whose key the alert has had.
func (b *batch) again(t *alert.Transition, seq uint64) (r alert.ActResult, err error) {
	r.Repeated = true
	v := b.tx.Bucket(bucketLog).Get(binary.BigEndian.AppendUint64(nil, seq))
	if v == nil { // trimmed: it was done, and that is all that is known
		a, _, err := b.alert(t.Alert.ID)
		t.Alert, t.Time = a, a.Recorded
		r.Entry = alert.Entry{Generation: b.generation(), Sequence: seq, Recorded: a.Recorded, Transition: *t}
		return r, err
	}
	if r.Entry, err = decodeEntry(seq, v, b.generations()); err != nil {
		return r, err
	}
	if r.Entry.Kind != t.Kind || r.Entry.Act == nil || !r.Entry.Act.Same(t.Act) {
		r = alert.ActResult{Err: &alert.Refusal{
			Reason: alert.KeyReused, What: fmt.Sprintf("the key %q has named another act on this alert (entry %d)", t.Act.Key, seq),
			Do: "make a new key for every act; the same one only to send the same act again",
		}}
	}
	return r, nil
}

// note writes an entry that is no rule's: a is the alert as it is afterwards.
func (b *batch) note(kind alert.Kind, act *alert.Act, a alert.Alert) (alert.Entry, error) {
	old, ok, err := b.alert(a.ID)
	if err != nil || !ok {
		return alert.Entry{}, fmt.Errorf("ledger: alert %s is gone: %w", a.ID, err)
	}
	a.ISA = a.Standing()
	t := alert.Transition{Kind: kind, Time: b.recorded.UTC().Truncate(time.Millisecond), Act: act, Alert: a}
	encoded, err := json.Marshal(&t)
	if err != nil {
		return alert.Entry{}, fmt.Errorf("ledger: %s of alert %s: %w", kind, a.ID, err)
	}
	return b.write(t, &old, encoded)
}

// alert reads the alert as this transaction has it.
func (b *batch) alert(id string) (a alert.Alert, ok bool, err error) {
	if id == "" || len(id) > maxAlertID {
		return a, false, nil
	}
	v := b.tx.Bucket(bucketAlerts).Get([]byte(id))
	if v == nil {
		return a, false, nil
	}
	t, err := decodeAlert(v)
	return t.Alert, err == nil, err
}

// Raise appends a transition, returns when it is on disk, and with its entry.
// One whose key is known gives no second entry; the entry is then the zero one.
func (l *Ledger) Raise(t alert.Transition) (e alert.Entry, err error) {
	encoded, err := encodeTransition(&t)
	if err != nil {
		return e, err
	}
	err = l.wait(func(b *batch) error {
		n := len(b.entries)
		if err := b.append(&t, encoded); err != nil {
			return err
		}
		if len(b.entries) > n {
			e = b.entries[n]
		}
		return nil
	})
	return e, err
}

// History returns the entries of the alert that are kept, oldest first, at most
// limit with a sequence above after.
func (l *Ledger) History(id string, after uint64, limit int) ([]alert.Entry, error) {
	generations := l.Generations()
	var out []alert.Entry
	if id == "" || len(id) > maxAlertID {
		return nil, nil
	}
	last := l.LastSequence()
	err := l.view(func(tx *bolt.Tx) error {
		var sequences []uint64
		prefix := keyPrefix(id)
		c := tx.Bucket(bucketKeys).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if seq := binary.BigEndian.Uint64(v); seq > after && seq <= last {
				sequences = append(sequences, seq)
			}
		}
		slices.Sort(sequences)
		log := tx.Bucket(bucketLog)
		for _, seq := range sequences {
			v := log.Get(binary.BigEndian.AppendUint64(nil, seq))
			if v == nil {
				continue // trimmed
			}
			if len(out) == limit {
				return nil
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
