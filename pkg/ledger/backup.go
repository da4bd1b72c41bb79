package ledger

import (
	"encoding/binary"
	"fmt"
	"io"

	bolt "go.etcd.io/bbolt"
)

// Backup writes a consistent copy of the ledger as it stands on disk, and returns
// the sequence of the newest entry in it. Reads and commits go on; the file keeps
// the pages that are replaced meanwhile, and a commit that needs a larger file waits
// for the end, so w should be a disk and not a line.
func (l *Ledger) Backup(w io.Writer) (last uint64, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		log := tx.Bucket(bucketLog)
		last = log.Sequence()
		if k, _ := log.Cursor().Last(); k != nil {
			last = max(last, binary.BigEndian.Uint64(k))
		}
		_, err := tx.WriteTo(w)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ledger: copy: %w", err)
	}
	return last, nil
}
