package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Records are what other packages keep here, as opaque bytes under a kind and an id:
// who may speak to the hub. They are part of the file, so of its backup.

// recordKey is kind 0 id.
func recordKey(kind, id string) []byte {
	return append(append([]byte(kind), 0), id...)
}

// GetRecord returns a record; the data is the caller's.
func (l *Ledger) GetRecord(kind, id string) (data []byte, ok bool, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		if v := tx.Bucket(bucketRecords).Get(recordKey(kind, id)); v != nil {
			data, ok = bytes.Clone(v), true
		}
		return nil
	})
	return data, ok, err
}

// PutRecord writes a record, or removes it when data is nil. It is on disk when
// PutRecord returns nil.
func (l *Ledger) PutRecord(kind, id string, data []byte) error {
	if kind == "" || id == "" || len(kind)+len(id) > 512 {
		return fmt.Errorf("record %s %.80q %w", kind, id, ErrInvalid)
	}
	return l.wait(func(b *batch) error {
		bucket := b.tx.Bucket(bucketRecords)
		if data == nil {
			return bucket.Delete(recordKey(kind, id))
		}
		return bucket.Put(recordKey(kind, id), data)
	})
}

// Records calls fn for each record of the kind, in the order of their ids; data is
// valid until fn returns, and fn must not call the ledger.
func (l *Ledger) Records(kind string, fn func(id string, data []byte) error) error {
	prefix := recordKey(kind, "")
	return l.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if err := fn(string(k[len(prefix):]), v); err != nil {
				return err
			}
		}
		return nil
	})
}

// AuditEntry is something that a person or a machine did, or tried to do, to the hub.
// What is done to alerts stands in the alert log besides.
type AuditEntry struct {
	Number   uint64    `json:"number"` // set by the ledger
	Recorded time.Time `json:"recorded"`
	Who      string    `json:"who"`
	Role     string    `json:"role,omitempty"`
	Remote   string    `json:"remote,omitempty"`
	Act      string    `json:"act"`
	Target   string    `json:"target,omitempty"`
	Result   string    `json:"result"` // done, refused: ..., failed
}

// maxAudit is how many entries of the audit log are kept.
const maxAudit = 100_000

// Audit queues an entry of the audit log.
func (l *Ledger) Audit(e AuditEntry) error {
	return l.submit(op{apply: func(b *batch) error {
		bucket := b.tx.Bucket(bucketAudit)
		n, err := bucket.NextSequence()
		if err != nil {
			return err
		}
		e.Number, e.Recorded = n, b.recorded
		if err := putJSON(bucket, binary.BigEndian.AppendUint64(nil, n), &e); err != nil || n <= maxAudit {
			return err
		}
		return bucket.Delete(binary.BigEndian.AppendUint64(nil, n-maxAudit))
	}})
}

// AuditLog returns up to limit entries with a number below before (0: from the
// newest), newest first.
func (l *Ledger) AuditLog(before uint64, limit int) ([]AuditEntry, error) {
	var out []AuditEntry
	err := l.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketAudit).Cursor()
		k, v := c.Last()
		if before > 0 {
			if k, _ = c.Seek(binary.BigEndian.AppendUint64(nil, before)); k != nil {
				k, v = c.Prev()
			} else {
				k, v = c.Last()
			}
		}
		for ; k != nil && len(out) < limit; k, v = c.Prev() {
			var e AuditEntry
			if err := json.Unmarshal(v, &e); err != nil {
				return fmt.Errorf("ledger: an entry of the audit log cannot be read: %w", err)
			}
			out = append(out, e)
		}
		return nil
	})
	return out, err
}
