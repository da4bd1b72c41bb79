package mqtt

import (
	"context"
	"hash/fnv"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/driver"
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
	wake  chan struct{}

	mu    sync.Mutex
	open  map[uint16]*receipt // not acknowledged
	bytes int                 // of these
	acked map[uint16]uint64   // identifiers acknowledged, and the hash
	ring  []uint16            // the same identifiers, oldest at next once it is full
	next  int
	ready []paho.Message

	// Whether an identifier names a message for long. Most brokers count, and come
	// back to a number after 65535 messages; some take the lowest that is free, and
	// the next message has the one of the last. Only of the first kind a message that
	// comes again after a crash can be told from a new one that is alike.
	counts, reuses bool

	empty chan struct{} // receives when the last one that was open is settled
}

func newReceipts(limit int) *receipts {
	return &receipts{
		limit: limit, wake: make(chan struct{}, 1), empty: make(chan struct{}, 1),
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
	hash := sumOf(m.Topic(), m.Payload())
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
	if !m.Duplicate() {
		_, again := r.acked[id]
		r.reuses = r.reuses || again || old != nil
		r.counts = r.counts || !again && len(r.acked) > 0 && len(r.open) == 0
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

// sumOf is the same in every run.
func sumOf(topic string, payload []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(topic))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(payload)
	return h.Sum64()
}

// know takes messages that an earlier run committed: they are read, whether or not
// the broker heard so.
func (r *receipts) know(all []driver.Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range all {
		r.remember(k.ID, k.Sum)
	}
}

// lasting reports whether the message can be known again in another run.
func (r *receipts) lasting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts && !r.reuses
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
	r.remember(e.id, e.hash)
}

// remember enters an acknowledged message. The lock is held.
func (r *receipts) remember(id uint16, hash uint64) {
	r.acked[id] = hash
	if len(r.ring) < recentReceipts {
		r.ring = append(r.ring, id)
		return
	}
	delete(r.acked, r.ring[r.next])
	r.ring[r.next] = id
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
