package ledger

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/alert"
)

// migrate1 brings a file of format 1 to format 2, within one transaction: keys of
// transitions begin with their alert now, and index values hold more.
func migrate1(tx *bolt.Tx) error {
	for _, name := range [][]byte{bucketKeys, bucketStarts, bucketActive} {
		if err := tx.DeleteBucket(name); err != nil {
			return err
		}
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	keys := tx.Bucket(bucketKeys)
	err := tx.Bucket(bucketLog).ForEach(func(k, v []byte) error {
		e, err := decodeEntry(binary.BigEndian.Uint64(k), v, nil)
		if err != nil {
			return err
		}
		return keys.Put(transitionKey(&e.Transition), k)
	})
	if err != nil {
		return fmt.Errorf("from format 1: %w", err)
	}
	starts, active := tx.Bucket(bucketStarts), tx.Bucket(bucketActive)
	return tx.Bucket(bucketAlerts).ForEach(func(id, v []byte) error {
		t, err := decodeAlert(v)
		if err != nil {
			return fmt.Errorf("from format 1: %w", err)
		}
		k, ix := indexKey(t.Alert.Start.UnixMilli(), string(id)), indexOf(&t.Alert)
		if err := starts.Put(k, ix.encode()); err != nil || t.Alert.State != alert.Active {
			return err
		}
		return active.Put(k, ix.encode())
	})
}
