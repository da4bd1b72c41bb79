package local

import (
	"sync"

	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/prometheus/prometheus/storage"
)

// readers counts who reads: Close waits for them, since they look into mapped
// files.
type readers struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when closed and nobody reads
}

func newReaders() *readers { return &readers{idle: make(chan struct{})} }

func (r *readers) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.n++
	return true
}

func (r *readers) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n--
	if r.closed && r.n == 0 {
		close(r.idle)
	}
}

// close lets nobody in any more and waits for those inside.
func (r *readers) close() {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		if r.n == 0 {
			close(r.idle)
		}
	}
	r.mu.Unlock()
	<-r.idle
}

// guarded is the store as PromQL reads it.
type guarded struct{ s *Store }

// Querier implements storage.Queryable.
func (g guarded) Querier(from, to int64) (storage.Querier, error) {
	if !g.s.readers.enter() {
		return nil, tsdb.ErrClosed
	}
	q, err := g.s.db.Querier(from, to)
	if err != nil {
		g.s.readers.leave()
		return nil, err
	}
	return &guardedQuerier{Querier: q, leave: sync.OnceFunc(g.s.readers.leave)}, nil
}

type guardedQuerier struct {
	storage.Querier
	leave func()
}

// Close implements storage.Querier.
func (q *guardedQuerier) Close() error {
	defer q.leave()
	return q.Querier.Close()
}
