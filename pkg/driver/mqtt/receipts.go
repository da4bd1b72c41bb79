package mqtt

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// recentReceipts is how many acknowledged messages are remembered, to know them
// again when the acknowledgement was lost with the connection. It is as many as
// a broker may have under way.
const recentReceipts = 8192

// receipt is one QoS 1 message on its way to the log.
type receipt struct {
	id      uint16
	hash    uint64
	size    int
	message paho.Message // its newest delivery: the one to acknowledge
}

// receipts tracks the QoS 1 messages that are not acknowledged yet. The broker
// delivers those again when the connection comes back, with the same packet
// identifier; a message that is known is not read a second time. Safe for
// concurrent use; only run blocks.
type receipts struct {
	limit int
	seed  maphash.Seed
	wake  chan struct{}

	mu    sync.Mutex
	open  map[uint16]*receipt // not acknowledged
	bytes int                 // of these
	acked map[uint16]uint64   // identifiers acknowledged, and the hash
	ring  []uint16            // the same identifiers, oldest at next once it is full
	next  int
	ready []paho.Message
	empty chan struct{} // receives when the last one that was open is settled
}

func newReceipts(limit int) *receipts {
	return &receipts{
		limit: limit, seed: maphash.MakeSeed(), wake: make(chan struct{}, 1), empty: make(chan struct{}, 1),
		open: make(map[uint16]*receipt), acked: make(map[uint16]uint64),
	}
}

type verdict int

const (
	verdictNew      verdict = iota
	verdictRepeated         // known: it is read, or waits to be
	verdictFull             // no room: leave it with the broker
)

// receive enters a QoS 1 message.
func (r *receipts) receive(m paho.Message) (*receipt, verdict) {
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(m.Topic())
	_ = h.WriteByte(0)
	_, _ = h.Write(m.Payload())
	hash := h.Sum64()

	r.mu.Lock()
	defer r.mu.Unlock()
	id := m.MessageID()
	old := r.open[id]
	if m.Duplicate() {
		if old != nil && old.hash == hash {
			old.message = m
			return old, verdictRepeated
		}
		if known, ok := r.acked[id]; ok && known == hash {
			r.acknowledge(m) // the broker did not hear it
			return nil, verdictRepeated
		}
	}
	if len(r.open) >= r.limit || r.bytes+len(m.Payload()) > maxQueueBytes {
		return nil, verdictFull
	}
	if old != nil {
		r.drop(old) // the broker began a new session
	}
	delete(r.acked, id)
	e := &receipt{id: id, hash: hash, size: len(m.Payload()), message: m}
	r.open[id] = e
	r.bytes += e.size
	return e, verdictNew
}

// settle says that the message is committed, or needs no commit.
func (r *receipts) settle(e *receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[e.id] != e {
		return
	}
	r.acknowledge(e.message)
	r.drop(e)
	r.acked[e.id] = e.hash
	if len(r.ring) < recentReceipts {
		r.ring = append(r.ring, e.id)
		return
	}
	delete(r.acked, r.ring[r.next])
	r.ring[r.next] = e.id
	r.next = (r.next + 1) % recentReceipts
}

// forget gives a message back to the broker: it will be new when it comes again.
func (r *receipts) forget(e *receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[e.id] == e {
		r.drop(e)
	}
}

// drop takes e out of those that are open. The lock is held.
func (r *receipts) drop(e *receipt) {
	delete(r.open, e.id)
	r.bytes -= e.size
	if len(r.open) > 0 {
		return
	}
	select {
	case r.empty <- struct{}{}:
	default:
	}
}

// wait returns once no message waits for its commit, or after limit.
func (r *receipts) wait(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		r.mu.Lock()
		open := len(r.open)
		r.mu.Unlock()
		if open == 0 {
			return
		}
		select {
		case <-r.empty:
		case <-timer.C:
			return
		}
	}
}

// dismiss acknowledges a message that is not tracked.
func (r *receipts) dismiss(m paho.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acknowledge(m)
}

// acknowledge hands m to run. The lock is held.
func (r *receipts) acknowledge(m paho.Message) {
	r.ready = append(r.ready, m)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// half reports whether at most half of the room is taken.
func (r *receipts) half() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open) <= r.limit/2 && r.bytes <= maxQueueBytes/2
}

// run acknowledges what is ready until ctx ends, and then what is ready still.
// Sending an acknowledgement can block for as long as the network does, so nobody
// else does it.
func (r *receipts) run(ctx context.Context) {
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-r.wake:
		}
		r.mu.Lock()
		ready := r.ready
		r.ready = nil
		r.mu.Unlock()
		for _, m := range ready {
			m.Ack() // dropped by paho when the connection is gone; the broker then asks again
		}
	}
}
