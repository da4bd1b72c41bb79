package ingest

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// numbered is a message that says which it is.
func numbered(edge string, n, size int) message {
	p := make([]byte, max(2, size))
	p[0], p[1] = byte(n), byte(n>>8)
	return message{edge: edge, payload: p}
}

func (m message) number() int { return int(m.payload[0]) | int(m.payload[1])<<8 }

func testQueue(messages int, bytes int64, backlog ...string) *queue {
	set := map[string]bool{}
	for _, e := range backlog {
		set[e] = true
	}
	return newQueue(messages, bytes, func(e string) bool { return set[e] })
}

func TestLiveEdgesDoNotWaitBehindABacklog(t *testing.T) {
	q := testQueue(10_000, 1<<30, "old")
	for i := range 5000 {
		q.offer(numbered("old", i, 100))
	}
	for i := range 30 {
		q.take(false)
		q.offer(numbered(fmt.Sprint("live-", i%10), i, 100))
		waited := 0
		for {
			m, _, ok := q.take(false)
			if !ok {
				t.Fatal("empty")
			}
			if m.edge != "old" {
				break
			}
			waited++
		}
		if waited > 1 {
			t.Fatalf("message %d of a live edge waited for %d of the backlog", i, waited)
		}
	}
}

func TestABacklogIsNotStarvedByABusyPresent(t *testing.T) {
	q := testQueue(10_000, 1<<30, "old")
	for i := range 10 {
		q.offer(numbered("old", i, 100))
	}
	old := 0
	for i := range 10 * (liveRun + 1) {
		q.offer(numbered(fmt.Sprint("live-", i%7), i, 100))
		q.offer(numbered(fmt.Sprint("live-", i%7), i, 100))
		if m, _, _ := q.take(false); m.edge == "old" {
			old++
		}
	}
	if old < 9 {
		t.Errorf("%d messages of the backlog were taken", old)
	}
}

func TestOnlyLiveEdgesInterrupt(t *testing.T) {
	q := testQueue(100, 1<<30, "old")
	q.offer(numbered("old", 1, 10))
	q.offer(numbered("self", 2, 10))
	if m, ok := q.takeLive("self"); ok {
		t.Errorf("%s interrupted", m.edge)
	}
	q.offer(numbered("live", 3, 10))
	if m, ok := q.takeLive("self"); !ok || m.edge != "live" {
		t.Errorf("%q, %v", m.edge, ok)
	}
	if n, _ := q.waiting(); n != 2 {
		t.Errorf("%d wait", n)
	}
}

func TestEdgesTakeTurns(t *testing.T) {
	q := testQueue(10_000, 1<<30)
	for i := range 1000 {
		q.offer(numbered("chatty", i, 10))
	}
	q.offer(numbered("quiet", 1, 10))
	for i := range laneTurn + 1 {
		if m, _, _ := q.take(false); m.edge == "quiet" {
			return
		} else if i == laneTurn {
			t.Error("a chatty edge is before a quiet one")
		}
	}
}

func TestAnEdgeThatKnowsNoBoundsFillsItsOwnLaneAlone(t *testing.T) {
	q := testQueue(1<<20, 64<<20)
	for i := range 2000 {
		q.offer(numbered("greedy", i, 10<<10))
	}
	if _, bytes := q.waiting(); bytes > 2*maxShare {
		t.Errorf("one edge holds %d bytes", bytes)
	}
	if !q.offer(numbered("modest", 1, 10<<10)) {
		t.Error("there is no room for another one")
	}
	for range 100_000 { // many small messages are bounded by their number
		q.offer(numbered("small", 1, 2))
	}
	if q = testQueue(100, 1<<20); true {
		for range 1000 {
			q.offer(numbered("small", 1, 2))
		}
		if n, _ := q.waiting(); n != 100 {
			t.Errorf("%d messages wait", n)
		}
	}
}

// Whatever is offered comes out once, and in order for each edge, also of those
// that change between live and backlog meanwhile.
func TestEachEdgesMessagesKeepTheirOrder(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		backlog := map[string]bool{}
		q := newQueue(2000, 100_000, func(e string) bool { return backlog[e] })
		sent, got, expect := map[string][]int{}, map[string][]int{}, 0
		for i := range 20_000 {
			e := fmt.Sprint("e", rnd.IntN(1+rnd.IntN(30)))
			switch rnd.IntN(5) {
			case 0:
				backlog[e] = !backlog[e]
			case 1, 2:
				if q.offer(numbered(e, i, rnd.IntN(200))) {
					sent[e] = append(sent[e], i)
					expect++
				}
			default:
				take := func() (message, bool) { m, _, ok := q.take(false); return m, ok }
				if i%3 == 0 { // in the middle of another message
					take = func() (message, bool) { return q.takeLive("e0") }
				}
				m, ok := take()
				if i%3 == 0 && ok && m.edge == "e0" {
					t.Fatal("an edge's message was taken in the middle of another one of it")
				}
				if ok {
					expect--
					got[m.edge] = append(got[m.edge], m.number())
				}
				if left, _ := q.waiting(); left != expect {
					t.Fatalf("seed %d: %d left, want %d", seed, left, expect)
				}
			}
		}
		for {
			m, _, ok := q.take(false)
			if !ok {
				break
			}
			got[m.edge] = append(got[m.edge], m.number())
		}
		if n, bytes := q.waiting(); n != 0 || bytes != 0 || len(q.lanes) != 0 {
			t.Fatalf("seed %d: %d messages, %d bytes, %d lanes in an empty queue", seed, n, bytes, len(q.lanes))
		}
		for e := range sent {
			if fmt.Sprint(got[e]) != fmt.Sprint(sent[e]) {
				t.Fatalf("seed %d: %s sent %v, came %v", seed, e, sent[e], got[e])
			}
		}
	}
}

func BenchmarkQueue(b *testing.B) {
	const edges = 1000
	q := testQueue(1<<16, 64<<20)
	ms := make([]message, edges)
	for i := range ms {
		ms[i] = numbered(fmt.Sprint("edge-", i), i, 300)
	}
	b.ReportAllocs()
	for i := range b.N {
		q.offer(ms[i%edges])
		if i%4 == 3 {
			for range 4 {
				q.take(false)
			}
		}
	}
}
