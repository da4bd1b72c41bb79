package mqtt

import "sync"

// maxQueueBytes bounds the payloads that wait in a queue, whatever their number.
const maxQueueBytes = 4 << 20

// message is one that waits to be read.
type message struct {
	topic    string
	payload  []byte
	retained bool
	targets  []*target
	receipt  *receipt // nil for QoS 0
}

// queue holds the messages between paho's goroutine and the worker. It is
// bounded in messages and bytes, and no target may take more than a quarter of
// it, so that a device that floods costs the others nothing. Safe for
// concurrent use; no call blocks.
type queue struct {
	limit int
	wake  chan struct{} // receives when the queue stopped being empty

	mu      sync.Mutex
	waiting []message
	spare   []message // what the worker read last, to be reused
	bytes   int
}

func newQueue(limit int) *queue { return &queue{limit: limit, wake: make(chan struct{}, 1)} }

// push appends m; it reports false, and keeps nothing of m, when there is no room.
func (q *queue) push(m message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= q.limit || q.bytes+len(m.payload) > maxQueueBytes {
		return false
	}
	for _, t := range m.targets {
		if t.waiting >= q.limit/4 {
			return false
		}
	}
	for _, t := range m.targets {
		t.waiting++
	}
	q.waiting = append(q.waiting, m)
	q.bytes += len(m.payload)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take empties the queue. The slice is the caller's until the next call.
func (q *queue) take() []message {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.spare)
	out := q.waiting
	for _, m := range out {
		for _, t := range m.targets {
			t.waiting = 0
		}
	}
	q.waiting, q.spare, q.bytes = q.spare[:0], out, 0
	return out
}

func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
