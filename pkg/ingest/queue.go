package ingest

import "sync"

// queue holds the messages that wait for one worker, a lane for each edge. Within
// a lane they keep their order; between lanes the live edges come first, so that
// what an edge sends now does not wait behind what another one catches up with,
// and the lanes of one kind take turns. An edge that sends more than it was given
// credit for fills its own lane and nobody else's.
//
// Safe for concurrent use: anybody offers, the worker takes.
type queue struct {
	maxMessages         int   // of all lanes
	maxBytes, laneBytes int64 // of all lanes, and of one
	isBacklog           func(edge string) bool

	// ready holds a token while there may be something to take.
	ready chan struct{}

	mu       sync.Mutex
	lanes    map[string]*lane // those that are not empty
	live     lanes
	backlog  lanes
	running  int // messages taken from the live ones in a row
	messages int
	bytes    int64
	spare    []*lane
}

// lane is what waits of one edge.
type lane struct {
	edge    string
	waiting []message
	next    int // in waiting
	bytes   int64
	turn    int // messages taken in its present turn
}

const (
	// liveRun is after how many messages of live edges in a row one of a backlog is
	// taken: a hub that is busy with the present gives the past a small share.
	liveRun = 16
	// laneTurn is how many messages of one edge are taken in a row, if as many wait:
	// the state of its series is large, and is in the processor's cache by then. A
	// reading then costs half.
	laneTurn = 8
)

func newQueue(messages int, bytes int64, isBacklog func(string) bool) *queue {
	return &queue{
		maxMessages: messages, maxBytes: bytes, laneBytes: 2 * maxShare, isBacklog: isBacklog,
		ready: make(chan struct{}, 1), lanes: map[string]*lane{},
	}
}

// offer takes the message, or reports that there is no room for it.
func (q *queue) offer(m message) bool {
	n := int64(len(m.payload))
	q.mu.Lock()
	l := q.lanes[m.edge]
	switch {
	case q.messages >= q.maxMessages, q.bytes+n > q.maxBytes, l != nil && l.bytes+n > q.laneBytes:
		q.mu.Unlock()
		return false
	case l == nil:
		l = q.lane(m.edge)
	}
	l.waiting = append(l.waiting, m)
	l.bytes += n
	q.bytes += n
	q.messages++
	q.mu.Unlock()
	q.wake()
	return true
}

// lane begins the lane of an edge. The lock is held.
func (q *queue) lane(edge string) *lane {
	l := &lane{}
	if n := len(q.spare); n > 0 {
		l, q.spare = q.spare[n-1], q.spare[:n-1]
	}
	l.edge = edge
	q.lanes[edge] = l
	if q.isBacklog(edge) {
		q.backlog.push(l)
	} else {
		q.live.push(l)
	}
	return l
}

// take returns the next message, and whether it is of a backlog; false when there
// is none. When it is to be of a live edge and backlogs alone wait, there is none.
func (q *queue) take(liveOnly bool) (m message, past, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	from := &q.live
	if !liveOnly && (from.empty() || q.running >= liveRun && !q.backlog.empty()) {
		from = &q.backlog
	}
	if from.empty() {
		return message{}, false, false
	}
	if from == &q.live {
		q.running++
	} else {
		q.running = 0
	}
	return q.first(from), from == &q.backlog, true
}

// takeLive returns the next message of a live edge other than the one named; false
// when there is none.
func (q *queue) takeLive(not string) (message, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.live.empty() {
		return message{}, false
	}
	if l := q.live.first(); l.edge == not {
		q.live.pop()
		q.live.push(l)
		if q.live.first() == l {
			return message{}, false
		}
	}
	return q.first(&q.live), true
}

// first takes the first message of the first lane. The lock is held.
func (q *queue) first(from *lanes) message {
	l := from.first()
	m := l.waiting[l.next]
	l.waiting[l.next] = message{}
	l.next++
	l.turn++
	n := int64(len(m.payload))
	l.bytes -= n
	q.bytes -= n
	q.messages--
	switch {
	case l.next == len(l.waiting):
		from.pop()
		delete(q.lanes, l.edge)
		q.recycle(l)
	case l.turn == laneTurn:
		from.pop()
		l.turn = 0
		l.shift()
		if q.isBacklog(l.edge) { // it may have become one, or caught up
			q.backlog.push(l)
		} else {
			q.live.push(l)
		}
	}
	if q.messages > 0 {
		q.wake()
	}
	return m
}

// shift gives the room before next back once it is most of the slice.
func (l *lane) shift() {
	if l.next >= 64 && l.next > len(l.waiting)/2 {
		n := copy(l.waiting, l.waiting[l.next:])
		clear(l.waiting[n:])
		l.waiting, l.next = l.waiting[:n], 0
	}
}

const (
	maxSpareLanes = 1024
	maxSpareRoom  = 64
)

func (q *queue) recycle(l *lane) {
	if len(q.spare) >= maxSpareLanes {
		return
	}
	*l = lane{waiting: l.waiting[:0]}
	if cap(l.waiting) > maxSpareRoom {
		l.waiting = nil
	}
	q.spare = append(q.spare, l)
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// waiting returns the number of messages and their bytes.
func (q *queue) waiting() (messages int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.messages, q.bytes
}

// lanes is a ring of lanes: first in, first out.
type lanes struct {
	list []*lane
	head int
}

func (r *lanes) empty() bool  { return r.head == len(r.list) }
func (r *lanes) first() *lane { return r.list[r.head] }
func (r *lanes) push(l *lane) { r.list = append(r.list, l) }
func (r *lanes) pop() {
	r.list[r.head] = nil
	r.head++
	switch {
	case r.head == len(r.list):
		r.list, r.head = r.list[:0], 0
	case r.head >= 64 && r.head > len(r.list)/2:
		n := copy(r.list, r.list[r.head:])
		clear(r.list[n:])
		r.list, r.head = r.list[:n], 0
	}
}
