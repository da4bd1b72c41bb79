package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// EdgeRecord is what the hub knows of an edge besides its readings.
type EdgeRecord struct {
	Edge      string          `json:"edge"`
	Site      string          `json:"site"`               // as the hub decided
	Claim     string          `json:"claim"`              // the site that the edge says it is at
	Instance  string          `json:"instance"`           // id of the installed agent, hexadecimal
	FirstSeen time.Time       `json:"first_seen"`         // hub's clock
	LastHello time.Time       `json:"last_hello"`         // hub's clock
	Hello     json.RawMessage `json:"hello,omitempty"`    // the last one, as it came
	Detail    json.RawMessage `json:"detail,omitempty"`   // whatever else its writer keeps
	Approved  *time.Time      `json:"approved,omitempty"` // when an operator let it in; nil: nobody had to
}

// PutEdge queues the record; it replaces the one with the same edge id, but
// keeps the earlier FirstSeen.
func (l *Ledger) PutEdge(r EdgeRecord) error {
	if err := checkEdge(r.Edge); err != nil {
		return err
	}
	if _, err := json.Marshal(&r); err != nil {
		return fmt.Errorf("record of edge %s %w: %w", r.Edge, ErrInvalid, err)
	}
	return l.submit(op{apply: func(b *batch) error {
		bucket := b.tx.Bucket(bucketEdges)
		if v := bucket.Get([]byte(r.Edge)); v != nil {
			var old EdgeRecord
			if err := json.Unmarshal(v, &old); err == nil && !old.FirstSeen.IsZero() &&
				(r.FirstSeen.IsZero() || old.FirstSeen.Before(r.FirstSeen)) {
				r.FirstSeen = old.FirstSeen
			}
		}
		return putJSON(bucket, []byte(r.Edge), &r)
	}})
}

// Edge returns the record of the edge.
func (l *Ledger) Edge(edge string) (r EdgeRecord, ok bool, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketEdges).Get([]byte(edge))
		if v == nil {
			return nil
		}
		ok = true
		return json.Unmarshal(v, &r)
	})
	return r, ok && err == nil, err
}

// EdgeRecords returns the records of all edges, sorted by id.
func (l *Ledger) EdgeRecords() ([]EdgeRecord, error) {
	var out []EdgeRecord
	err := l.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketEdges).ForEach(func(_, v []byte) error { return appendJSON(&out, v) })
	})
	return out, err
}

// Gap is a stretch of an edge's log that the hub will never get: the edge
// declared it given up. Positions are written as the caller names them.
type Gap struct {
	Edge     string    `json:"edge"`
	After    string    `json:"after"` // position of the last frame before it
	Next     string    `json:"next"`  // position of the first frame after it
	Reason   string    `json:"reason"`
	From     time.Time `json:"from"`     // event time of what is missing, as far as known
	To       time.Time `json:"to"`       // event time
	Recorded time.Time `json:"recorded"` // hub's clock; set by the ledger
}

// RecordGap queues the gap. One that is known already (same edge, After and
// Next) is left as it is, so a replay records nothing twice.
func (l *Ledger) RecordGap(g Gap) error {
	if err := checkEdge(g.Edge); err != nil {
		return err
	}
	if _, err := json.Marshal(&g); err != nil {
		return fmt.Errorf("gap of edge %s %w: %w", g.Edge, ErrInvalid, err)
	}
	sum := sha256.Sum256([]byte(g.After + "\x00" + g.Next))
	prefix := append([]byte(g.Edge), 0)
	key := append(bytes.Clone(prefix), sum[:16]...)
	return l.submit(op{apply: func(b *batch) error {
		bucket := b.tx.Bucket(bucketGaps)
		if bucket.Get(key) != nil {
			return nil
		}
		g.Recorded = b.recorded
		if err := putJSON(bucket, key, &g); err != nil {
			return err
		}
		return trimGaps(bucket, prefix, l.o.MaxGaps)
	}})
}

// ReasonUnobserved is the reason of a gap in which no frame is missing: the edge did
// not look. These go first when an edge has too many.
const ReasonUnobserved = "unobserved"

// trimGaps removes the oldest gap of an edge that has more than limit.
func trimGaps(bucket *bolt.Bucket, prefix []byte, limit int) error {
	n := 0
	var oldest []byte
	var at time.Time
	lost := true // what the oldest is of
	c := bucket.Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		var g Gap
		if err := json.Unmarshal(v, &g); err != nil {
			return err
		}
		n++
		if l := g.Reason != ReasonUnobserved; oldest == nil || lost && !l || lost == l && g.Recorded.Before(at) {
			oldest, at, lost = bytes.Clone(k), g.Recorded, l
		}
	}
	if n <= limit {
		return nil
	}
	return bucket.Delete(oldest)
}

// Gaps returns the gaps of the edge, or of all edges when it is empty, in the
// order of edge, then of recording.
func (l *Ledger) Gaps(edge string) ([]Gap, error) {
	var out []Gap
	var prefix []byte
	if edge != "" {
		prefix = append([]byte(edge), 0)
	}
	err := l.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketGaps).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if err := appendJSON(&out, v); err != nil {
				return err
			}
		}
		return nil
	})
	sortGaps(out)
	return out, err
}

// Event is something about an edge, or about the hub itself (Edge empty), that
// an operator should be able to look up later: fork, clone, clock, reinstalled ...
type Event struct {
	Number   uint64            `json:"number"` // set by the ledger
	Edge     string            `json:"edge"`
	Kind     string            `json:"kind"`
	Text     string            `json:"text"`
	Detail   map[string]string `json:"detail,omitempty"`
	Recorded time.Time         `json:"recorded"` // hub's clock; set by the ledger
}

// RecordEvent queues the event. The oldest beyond Options.MaxEvents go.
func (l *Ledger) RecordEvent(e Event) error {
	return l.submit(op{apply: func(b *batch) error {
		bucket := b.tx.Bucket(bucketEvents)
		e.Recorded = b.recorded
		return putNumbered(bucket, &e.Number, &e, uint64(l.o.MaxEvents))
	}})
}

// Events returns up to limit events of the edge (of all when it is empty) with
// a number below before (0: from the newest), newest first.
func (l *Ledger) Events(edge string, before uint64, limit int) ([]Event, error) {
	var out []Event
	err := l.view(func(tx *bolt.Tx) error {
		return newestFirst(tx.Bucket(bucketEvents), before, limit, &out, func(e *Event) bool { return edge == "" || e.Edge == edge })
	})
	return out, err
}

func putJSON(b *bolt.Bucket, key []byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, data)
}

func appendJSON[T any](out *[]T, v []byte) error {
	var x T
	if err := json.Unmarshal(v, &x); err != nil {
		return fmt.Errorf("ledger: a record cannot be read: %w", err)
	}
	*out = append(*out, x)
	return nil
}
