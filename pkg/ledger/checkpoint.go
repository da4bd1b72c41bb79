package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// Checkpoint is how far the hub has got with one edge. The bytes mean nothing
// to the ledger. In a call of [Ledger.Checkpoint] a nil field leaves what
// stands; an empty one that is not nil removes it.
type Checkpoint struct {
	Edge     string
	Position []byte // of the newest frame that is under this checkpoint
	Rules    []byte // state of the rules there; in place of all that stood of it
	Changes  []byte // of the rules' state, to be kept after what stands of it
	Schema   []byte // encoded schema in force there
}

// maxEdgeLen bounds an edge's id, as everywhere (telemetry.MaxNameLen).
const maxEdgeLen = 128

func checkEdge(edge string) error {
	if edge == "" || len(edge) > maxEdgeLen {
		return fmt.Errorf("edge id %.40q %w: it is empty or longer than %d bytes", edge, ErrInvalid, maxEdgeLen)
	}
	return nil
}

// Checkpoint commits everything queued so far and these checkpoints in one
// transaction, and returns when it is on disk. When it fails none of it is, and
// the ledger accepts no more.
func (l *Ledger) Checkpoint(list []Checkpoint) error {
	for _, c := range list {
		if err := checkEdge(c.Edge); err != nil {
			return err
		}
	}
	return l.wait(func(b *batch) error {
		for _, c := range list {
			if err := b.checkpoint(c); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *batch) checkpoint(c Checkpoint) error {
	if c.Rules != nil {
		if err := dropChanges(b.tx, c.Edge); err != nil {
			return err
		}
	}
	if len(c.Changes) > 0 {
		changes := b.tx.Bucket(bucketChanges)
		n, err := changes.NextSequence()
		if err != nil {
			return err
		}
		if err := changes.Put(binary.BigEndian.AppendUint64(changesOf(c.Edge), n), c.Changes); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		bucket, value []byte
	}{{bucketPositions, c.Position}, {bucketState, c.Rules}, {bucketSchemas, c.Schema}} {
		if f.value == nil {
			continue
		}
		bucket := b.tx.Bucket(f.bucket)
		if len(f.value) == 0 {
			if err := bucket.Delete([]byte(c.Edge)); err != nil {
				return err
			}
			continue
		}
		if err := bucket.Put([]byte(c.Edge), f.value); err != nil {
			return err
		}
	}
	return nil
}

// changesOf is what the keys of the edge's changes begin with.
func changesOf(edge string) []byte { return append([]byte(edge), 0) }

func dropChanges(tx *bolt.Tx, edge string) error {
	prefix := changesOf(edge)
	c := tx.Bucket(bucketChanges).Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Seek(prefix) {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// Load returns the newest checkpoint of the edge, the rules' state with its changes
// after it; ok is false when it has none.
func (l *Ledger) Load(edge string) (c Checkpoint, ok bool, err error) {
	c.Edge = edge
	err = l.view(func(tx *bolt.Tx) error {
		c.Position = bytes.Clone(tx.Bucket(bucketPositions).Get([]byte(edge)))
		c.Rules = bytes.Clone(tx.Bucket(bucketState).Get([]byte(edge)))
		prefix := changesOf(edge)
		changes := tx.Bucket(bucketChanges).Cursor()
		for k, v := changes.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = changes.Next() {
			c.Rules = append(c.Rules, v...)
		}
		c.Schema = bytes.Clone(tx.Bucket(bucketSchemas).Get([]byte(edge)))
		return nil
	})
	return c, c.Position != nil || c.Rules != nil || c.Schema != nil, err
}

// CheckpointedEdges returns the ids of the edges that have a checkpoint, sorted.
func (l *Ledger) CheckpointedEdges() ([]string, error) {
	var ids []string
	err := l.view(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketPositions, bucketState, bucketSchemas} {
			err := tx.Bucket(name).ForEach(func(k, _ []byte) error {
				ids = append(ids, string(k))
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	slices.Sort(ids)
	return slices.Compact(ids), err
}
