package texts

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// ErrCursor says that a cursor is none that Query gave out.
var ErrCursor = errors.New("not a cursor of this list")

// State is one that began at Time, in milliseconds, and stands until the next of its
// series.
type State struct {
	Labels  map[string]string
	Time    int64
	Text    string
	Quality telemetry.Quality
}

// Query chooses states: by labels, and by the time at which they began. A zero To is
// no bound.
type Query struct {
	Where    map[string]string // label: value; empty values choose all
	From, To int64
}

// Query returns up to limit states, newest first, and the cursor of the next page,
// "" on the last.
func (l *Log) Query(q Query, cursor string, limit int) (out []State, next string, err error) {
	if q.To == 0 {
		q.To = math.MaxInt64
	}
	var start []byte
	if cursor != "" {
		if start, err = hex.DecodeString(cursor); err != nil || len(start) != 16 {
			return nil, "", ErrCursor
		}
	} else {
		start = binary.BigEndian.AppendUint64(appendTime(nil, q.To), math.MaxUint64)
	}
	err = l.db.View(func(tx *bolt.Tx) error {
		wanted, err := choose(tx, q.Where)
		if err != nil || len(wanted) == 0 {
			return err
		}
		states := tx.Bucket(bucketStates)
		c := tx.Bucket(bucketTimes).Cursor()
		k, _ := c.Seek(start)
		if k == nil {
			k, _ = c.Last()
		}
		for ; k != nil && timeOf(k) >= q.From; k, _ = c.Prev() {
			if string(k) > string(start) || cursor != "" && string(k) == string(start) {
				continue
			}
			labels, ok := wanted[string(k[8:])]
			if !ok {
				continue
			}
			if len(out) == limit {
				return nil
			}
			v := states.Get(append(append([]byte(nil), k[8:]...), k[:8]...))
			if len(v) == 0 {
				continue
			}
			out = append(out, State{Labels: maps.Clone(labels), Time: timeOf(k), Quality: telemetry.Quality(v[0]), Text: string(v[1:])})
			next = hex.EncodeToString(k)
		}
		next = ""
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("texts: %w", err)
	}
	return out, next, nil
}

// choose returns the labels of the series that a query wants, by id.
func choose(tx *bolt.Tx, where map[string]string) (map[string]map[string]string, error) {
	wanted := map[string]map[string]string{}
	err := tx.Bucket(bucketSeries).ForEach(func(id, v []byte) error {
		var labels map[string]string
		if err := json.Unmarshal(v, &labels); err != nil {
			return fmt.Errorf("a series cannot be read: %w", err)
		}
		for name, value := range where {
			if value != "" && labels[name] != value {
				return nil
			}
		}
		wanted[string(id)] = labels
		return nil
	})
	return wanted, err
}

// Stats are numbers of a log.
type Stats struct {
	Series int
	Bytes  int64
	Oldest int64 // when the oldest state began, ms; 0 when there is none
}

// Stats returns numbers for people.
func (l *Log) Stats() (st Stats, err error) {
	err = l.db.View(func(tx *bolt.Tx) error {
		st.Series = tx.Bucket(bucketSeries).Inspect().KeyN
		if v := tx.Bucket(bucketMeta).Get(keyBytes); len(v) == 8 {
			st.Bytes = int64(binary.BigEndian.Uint64(v))
		}
		if k, _ := tx.Bucket(bucketTimes).Cursor().First(); k != nil {
			st.Oldest = timeOf(k)
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("texts: %w", err)
	}
	return st, err
}
