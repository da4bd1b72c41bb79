package uplink

import (
	"slices"

	"github.com/langbiang/langbiang/pkg/wire"
)

// readAhead is how much of the log is held in memory, in bytes of payload.
const readAhead = 64 << 10

// entry is a record read ahead.
type entry struct {
	pos     wire.Pos
	payload []byte
	unsure  bool
}

// upcoming holds the records that come next, read ahead of being sent. It belongs to
// a session.
type upcoming struct {
	log    Log
	failed func(error)

	queue []entry
	next  int // in queue
	bytes int // of queue[next:]
	spare [][]byte
}

// peek returns the records after the cursor that are read ahead, at least half of
// readAhead as long as the log has them; none when it ends there. They are valid until
// the next call.
func (a *upcoming) peek(cursor wire.Pos) []entry {
	for ; a.next < len(a.queue) && behind(a.queue[a.next].pos, cursor); a.next++ {
		a.bytes -= len(a.queue[a.next].payload)
	}
	if a.bytes >= readAhead/2 {
		return a.queue[a.next:]
	}
	after := cursor
	if n := len(a.queue); n > a.next {
		after = a.queue[n-1].pos
	}
	for {
		a.release(a.next)
		got := 0
		err := a.log.Read(after, max(1, readAhead-a.bytes), func(r Record) error {
			got++
			if after = r.Pos; behind(r.Pos, cursor) {
				return nil
			}
			a.queue = append(a.queue, entry{r.Pos, append(a.buffer(), r.Payload...), r.Unsure})
			a.bytes += len(r.Payload)
			return nil
		})
		if err != nil {
			a.failed(err)
		}
		if err != nil || got == 0 || len(a.queue) > 0 {
			return a.queue
		}
	}
}

// behind reports whether the cursor has passed the place.
func behind(p, cursor wire.Pos) bool {
	return !cursor.IsZero() && p.SameLine(cursor) && p.Compare(cursor) <= 0
}

// took drops the first n records that peek returned.
func (a *upcoming) took(n int) {
	for _, e := range a.queue[a.next : a.next+n] {
		a.bytes -= len(e.payload)
	}
	a.next += n
}

func (a *upcoming) buffer() []byte {
	if n := len(a.spare); n > 0 {
		b := a.spare[n-1]
		a.spare = a.spare[:n-1]
		return b[:0]
	}
	return nil
}

// release gives up the first n records of the queue, which have been sent. The
// message returned last may be among them, and has been published by now.
func (a *upcoming) release(n int) {
	for i := range a.queue[:n] {
		if len(a.spare) < 64 && cap(a.queue[i].payload) <= 64<<10 {
			a.spare = append(a.spare, a.queue[i].payload)
		}
	}
	a.queue = slices.Delete(a.queue, 0, n)
	a.next -= n
}

// drop forgets what was read ahead.
func (a *upcoming) drop() {
	a.next, a.bytes = len(a.queue), 0
	a.release(len(a.queue))
}

// forget gives up the memory, too: the connection may still hold a message.
func (a *upcoming) forget() { a.queue, a.next, a.bytes, a.spare = nil, 0, 0, nil }
