package ledger

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// How many are kept; the oldest go.
const (
	maxDead     = 10_000
	maxReceipts = 10_000
)

// Advance writes what one step of a consumer leaves, its position first of all,
// in one transaction, and returns once it is on disk.
func (l *Ledger) Advance(s feed.Step) error {
	apply, err := advance(&s)
	if err != nil {
		return err
	}
	return l.wait(apply)
}

// Pass is Advance without waiting: the step is on disk within the window. What a
// crash takes is done again.
func (l *Ledger) Pass(s feed.Step) error {
	apply, err := advance(&s)
	if err != nil {
		return err
	}
	return l.submit(op{apply: apply})
}

func advance(s *feed.Step) (func(*batch) error, error) {
	name := s.Consumer.Name
	if name == "" || len(name) > maxAlertID {
		return nil, fmt.Errorf("consumer %.40q %w: its name is empty or too long", name, ErrInvalid)
	}
	for _, v := range []any{&s.Consumer, s.Dead, s.Receipts} {
		if _, err := json.Marshal(v); err != nil {
			return nil, fmt.Errorf("consumer %s %w: %w", name, ErrInvalid, err)
		}
	}
	return func(b *batch) error {
		for i := range s.Dead {
			d := &s.Dead[i]
			if err := putNumbered(b.tx.Bucket(bucketDead), &d.Number, d, maxDead); err != nil {
				return err
			}
		}
		for i := range s.Receipts {
			r := &s.Receipts[i]
			if err := putNumbered(b.tx.Bucket(bucketNotices), &r.Number, r, maxReceipts); err != nil {
				return err
			}
		}
		return putJSON(b.tx.Bucket(bucketConsumers), []byte(name), &s.Consumer)
	}, nil
}

// putNumbered gives v the bucket's next number and keeps the newest limit.
func putNumbered(bucket *bolt.Bucket, number *uint64, v any, limit uint64) error {
	n, err := bucket.NextSequence()
	if err != nil {
		return err
	}
	*number = n
	if err := putJSON(bucket, binary.BigEndian.AppendUint64(nil, n), v); err != nil || n <= limit {
		return err
	}
	c := bucket.Cursor()
	for k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k) <= n-limit; k, _ = c.First() {
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// Consumer returns what is kept of the consumer with this name.
func (l *Ledger) Consumer(name string) (c feed.Consumer, ok bool, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketConsumers).Get([]byte(name))
		if v == nil {
			return nil
		}
		ok = true
		return json.Unmarshal(v, &c)
	})
	if err != nil {
		return c, false, fmt.Errorf("ledger: consumer %s: %w", name, err)
	}
	return c, ok, nil
}

// DeadLetters returns up to limit dead letters of the consumer (of all when it is
// empty) with a number below before (0: from the newest), newest first.
func (l *Ledger) DeadLetters(consumer string, before uint64, limit int) (out []feed.DeadLetter, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		return newestFirst(tx.Bucket(bucketDead), before, limit, &out, func(d *feed.DeadLetter) bool { return consumer == "" || d.Consumer == consumer })
	})
	return out, err
}

// Receipts returns up to limit receipts that match chooses (nil: all), with a
// number below before (0: from the newest), newest first.
func (l *Ledger) Receipts(match func(*feed.Receipt) bool, before uint64, limit int) (out []feed.Receipt, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		return newestFirst(tx.Bucket(bucketNotices), before, limit, &out, match)
	})
	return out, err
}

// newestFirst gathers what match chooses of a bucket by number.
func newestFirst[T any](bucket *bolt.Bucket, before uint64, limit int, out *[]T, match func(*T) bool) error {
	c := bucket.Cursor()
	k, v := c.Last()
	if before > 0 {
		if k, _ = c.Seek(binary.BigEndian.AppendUint64(nil, before)); k != nil {
			k, v = c.Prev()
		} else {
			k, v = c.Last()
		}
	}
	for ; k != nil && len(*out) < limit; k, v = c.Prev() {
		var x T
		if err := json.Unmarshal(v, &x); err != nil {
			return fmt.Errorf("ledger: a record cannot be read: %w", err)
		}
		if match == nil || match(&x) {
			*out = append(*out, x)
		}
	}
	return nil
}

// PutToken keeps a secret that a channel got at run time, for example a refresh
// token, and returns once it is on disk. It is never shown.
func (l *Ledger) PutToken(name string, value []byte) error {
	return l.wait(func(b *batch) error { return b.tx.Bucket(bucketTokens).Put([]byte(name), value) })
}

// Token returns what PutToken kept under the name; nil when nothing is.
func (l *Ledger) Token(name string) (value []byte, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		value = append(value, tx.Bucket(bucketTokens).Get([]byte(name))...)
		return nil
	})
	return value, err
}
