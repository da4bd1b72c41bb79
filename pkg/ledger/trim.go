package ledger

import (
	"bytes"
	"encoding/binary"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Trim removes entries recorded before the given time, at most limit of them,
// oldest first, the cleared alerts whose newest entry goes with them, and holds
// that ended before it. It returns how many entries it removed; call it again
// while that equals limit. Active alerts stay, whatever their age, with all that
// people did to them; and as long as an alert is kept, so are the names of its
// transitions and acts, so that a replay raises none of them again.
func (l *Ledger) Trim(before time.Time, limit int) (removed int, err error) {
	until := before.UnixMilli()
	err = l.wait(func(b *batch) error {
		log := b.tx.Bucket(bucketLog)
		var gone [][]byte
		c := log.Cursor()
		for k, v := c.First(); k != nil && len(gone) < limit; k, v = c.Next() {
			if len(v) >= 8 && int64(binary.BigEndian.Uint64(v)) >= until {
				break
			}
			e, err := decodeEntry(binary.BigEndian.Uint64(k), v, nil)
			if err != nil {
				return err
			}
			gone = append(gone, bytes.Clone(k))
			if err := b.dropAlert(&e); err != nil {
				return err
			}
		}
		for _, k := range gone {
			if err := log.Delete(k); err != nil {
				return err
			}
			b.first = binary.BigEndian.Uint64(k) + 1
		}
		removed = len(gone)
		return trimHolds(b.tx, before)
	})
	return removed, err
}

// dropAlert removes the alert of an entry that is its newest, if it has cleared.
func (b *batch) dropAlert(e *alert.Entry) error {
	alerts := b.tx.Bucket(bucketAlerts)
	cur := alerts.Get([]byte(e.Alert.ID))
	if e.Alert.State == alert.Active || len(cur) < 8 || binary.BigEndian.Uint64(cur) != e.Sequence {
		return nil
	}
	if _, err := b.unindex(&e.Alert); err != nil {
		return err
	}
	if err := deletePrefix(b.tx.Bucket(bucketKeys), keyPrefix(e.Alert.ID)); err != nil {
		return err
	}
	return alerts.Delete([]byte(e.Alert.ID))
}

func deletePrefix(bucket *bolt.Bucket, prefix []byte) error {
	c := bucket.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Seek(prefix) {
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
