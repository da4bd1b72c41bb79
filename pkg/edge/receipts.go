package edge

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/driver"
)

// Which messages a frame holds stands beside it in the log, as an attachment of its
// own, so that both are on the disk or neither is:
//
//	version u8 (1) | connections uv, each: id (uv length, bytes), count uv,
//	    each: identifier u16, sum u64              little endian
//
// It is found by the place of the frame: the key is a hash of that. A new epoch begins
// with what was known at the end of the one before.

const receiptsVersion = 1

// Bounds: frames at the end of the log that are looked at when the agent starts, and
// messages that are kept of a connection. What is older was acknowledged long ago, or
// is read twice.
const (
	receiptFrames = 64
	maxReceipts   = 1024
)

// receipts implements [driver.Receipts] over the log.
type receipts struct {
	mu      sync.Mutex
	known   map[string][]driver.Receipt // committed
	pending []notedReceipt              // not in a frame yet
	written []notedReceipt              // in one that is not committed
	carried []byte                      // of the epoch before, for the first frame
}

type notedReceipt struct {
	connection string
	driver.Receipt
	ticket driver.Ticket
}

// newReceipts reads what the newest frames of the log hold.
func newReceipts(log *buffer.Log) *receipts {
	r := &receipts{known: map[string][]driver.Receipt{}}
	last, ok := log.Last()
	if !ok {
		return r
	}
	var found [][]byte
	for n := range uint64(receiptFrames) {
		if n >= last.Seq {
			break
		}
		if data, ok := log.Attachment(receiptKey(last.Epoch, last.Seq-n)); ok {
			found = append(found, data)
		}
	}
	for _, data := range slices.Backward(found) {
		for _, n := range decodeReceipts(data) {
			r.add(n)
		}
	}
	var all []notedReceipt
	for id, list := range r.known {
		for _, x := range list {
			all = append(all, notedReceipt{connection: id, Receipt: x})
		}
	}
	r.carried = encodeReceipts(all)
	return r
}

func receiptKey(epoch [16]byte, seq uint64) (key [16]byte) {
	b := append([]byte("receipts"), epoch[:]...)
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(b, seq))
	copy(key[:], sum[:])
	return key
}

// add notes a committed message. The lock is held, or nobody else is there.
func (r *receipts) add(n notedReceipt) {
	list := append(r.known[n.connection], n.Receipt)
	r.known[n.connection] = list[max(0, len(list)-maxReceipts):]
}

// Known implements [driver.Receipts].
func (r *receipts) Known(connection string) []driver.Receipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.known[connection])
}

// Note implements [driver.Receipts].
func (r *receipts) Note(connection string, x driver.Receipt, t driver.Ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, notedReceipt{connection, x, t})
}

// take returns what must stand beside the frame that holds everything up to the
// ticket; empty when nothing must. It is not all while some of what the frames up
// to this one hold is left for a later one.
func (r *receipts) take(upTo driver.Ticket) (data []byte, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.carried != nil {
		data = r.carried
		r.carried = nil
		return data, false // messages of this run are in a later frame, and never in an earlier one
	}
	n := 0
	for n < len(r.pending) && r.pending[n].ticket <= upTo && n < maxReceipts {
		n++
	}
	all = n == len(r.pending) || r.pending[n].ticket > upTo
	if n == 0 {
		return nil, all
	}
	data = encodeReceipts(r.pending[:n])
	r.written = append(r.written, r.pending[:n]...)
	r.pending = slices.Delete(r.pending, 0, n)
	return data, all
}

// commit says that everything up to the ticket is on the disk.
func (r *receipts) commit(upTo driver.Ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.written) && r.written[n].ticket <= upTo {
		r.add(r.written[n])
		n++
	}
	r.written = slices.Delete(r.written, 0, n)
}

func encodeReceipts(all []notedReceipt) []byte {
	if len(all) == 0 {
		return nil
	}
	by := map[string][]driver.Receipt{}
	var order []string
	for _, n := range all {
		if by[n.connection] == nil {
			order = append(order, n.connection)
		}
		by[n.connection] = append(by[n.connection], n.Receipt)
	}
	b := binary.AppendUvarint([]byte{receiptsVersion}, uint64(len(order)))
	for _, id := range order {
		b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
		b = binary.AppendUvarint(b, uint64(len(by[id])))
		for _, x := range by[id] {
			b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint16(b, x.ID), x.Sum)
		}
	}
	return b
}

// decodeReceipts returns what can be read; what a newer agent wrote says nothing to
// this one.
func decodeReceipts(b []byte) (all []notedReceipt) {
	if len(b) == 0 || b[0] != receiptsVersion {
		return nil
	}
	b = b[1:]
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b = nil
			return 0
		}
		b = b[n:]
		return v
	}
	for n := number(); n > 0 && len(b) > 0; n-- {
		size := number()
		if size > uint64(len(b)) {
			return all
		}
		id := string(b[:size])
		b = b[size:]
		for m := number(); m > 0 && len(b) >= 10; m-- {
			all = append(all, notedReceipt{connection: id, Receipt: driver.Receipt{ID: binary.LittleEndian.Uint16(b), Sum: binary.LittleEndian.Uint64(b[2:])}})
			b = b[10:]
		}
	}
	return all
}
