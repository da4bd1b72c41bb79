package ledger

import (
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/langbiang/langbiang/pkg/alert"
)

// op is one write. Apply must fail for reasons of storage only: its error is
// the end of the ledger.
type op struct {
	apply func(*batch) error
	done  chan error // nil: nobody waits, the window may pass
}

// batch is one transaction in the making. What it gathers beside the
// transaction reaches the ledger's memory only once it is committed.
type batch struct {
	l              *Ledger
	tx             *bolt.Tx
	recorded       time.Time
	first, last    uint64
	entries        []alert.Entry
	duplicates     int
	indexed        []indexChange
	newGenerations []Generation
	newHolds       *[]alert.Hold // nil: as they were
}

type indexChange struct {
	index indexValue
	by    int
}

func (b *batch) generations() []Generation {
	if b.newGenerations != nil {
		return b.newGenerations
	}
	return b.l.Generations()
}

func (b *batch) generation() string {
	gs := b.generations()
	return gs[len(gs)-1].ID
}

// submit queues a write. It blocks while the queue is full.
func (l *Ledger) submit(o op) error {
	l.submitMu.RLock()
	defer l.submitMu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	if err := l.Err(); err != nil {
		return err
	}
	l.queue <- o // the writer empties it until Close, which waits for us
	return nil
}

// wait queues a write and returns once it is on disk.
func (l *Ledger) wait(apply func(*batch) error) error {
	done := make(chan error, 1)
	if err := l.submit(op{apply, done}); err != nil {
		return err
	}
	return <-done
}

// Flush returns once everything queued before it is on disk.
func (l *Ledger) Flush() error { return l.wait(func(*batch) error { return nil }) }

const maxBatch = 8192

// write is the writer goroutine. It ends when the queue is closed and empty.
func (l *Ledger) write() {
	defer close(l.done)
	var ops []op
	for {
		first, ok := <-l.queue
		if !ok {
			return
		}
		ops = append(ops[:0], first)
		ops = l.gather(ops)
		err := l.commit(ops)
		for _, o := range ops {
			if o.done != nil {
				o.done <- err
			}
		}
		clear(ops)
	}
}

// gather takes more writes until the window has passed or somebody waits.
func (l *Ledger) gather(ops []op) []op {
	var window <-chan time.Time
	if l.o.Window > 0 && ops[0].done == nil {
		t := time.NewTimer(l.o.Window)
		defer t.Stop()
		window = t.C
	}
	for len(ops) < maxBatch {
		select {
		case o, ok := <-l.queue:
			if !ok {
				return ops
			}
			ops = append(ops, o)
			if o.done != nil {
				window = nil
			}
			continue
		default:
		}
		if window == nil {
			return ops
		}
		select {
		case o, ok := <-l.queue:
			if !ok {
				return ops
			}
			ops = append(ops, o)
			if o.done != nil {
				window = nil
			}
		case <-window:
			window = nil
		}
	}
	return ops
}

// commit runs the writes in one transaction and then shows what they did.
func (l *Ledger) commit(ops []op) error {
	if err := l.Err(); err != nil {
		return err
	}
	began := time.Now()
	b := &batch{l: l, recorded: l.o.Now().UTC().Truncate(time.Millisecond)}
	b.first, b.last = l.bounds()
	err := l.update(func(tx *bolt.Tx) error {
		b.tx = tx
		for _, o := range ops {
			if err := o.apply(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("%w: %w; free disk space or replace the disk, then start the hub again", ErrFailed, err)
		l.mu.Lock()
		l.err = err
		close(l.changed) // whoever waits comes and sees the error
		l.changed = make(chan struct{})
		l.mu.Unlock()
		l.o.Logger.Error("ledger: commit failed", "file", l.db.Path(), "error", err)
		return err
	}
	l.metrics.committed(time.Since(began), b)
	l.publish(b)
	return nil
}

// update is bbolt's Update; a panic of bbolt over a damaged page is an error.
func (l *Ledger) update(fn func(*bolt.Tx) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the file is damaged: %v", r)
		}
	}()
	return l.db.Update(fn)
}

// view is bbolt's View for the read API.
func (l *Ledger) view(fn func(*bolt.Tx) error) error {
	err := l.db.View(fn)
	if err != nil && errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

func (l *Ledger) bounds() (first, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, l.last
}

func (l *Ledger) publish(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.newGenerations != nil {
		l.generations = b.newGenerations
	}
	if b.newHolds != nil {
		l.holds = *b.newHolds
	}
	for i := range b.indexed {
		l.counts.add(&b.indexed[i].index, b.indexed[i].by)
	}
	for i := range b.entries {
		switch a := &b.entries[i].Alert; {
		case a.Test && a.State == alert.Active && a.TestUntil != nil:
			l.tests[a.ID] = a.TestUntil.UnixMilli()
		case a.Test:
			delete(l.tests, a.ID)
		}
	}
	l.first, l.last = b.first, b.last
	if len(b.entries) == 0 {
		return
	}
	l.recent = append(l.recent, b.entries...)
	if n := len(l.recent) - l.o.Recent; n > 0 {
		l.recent = slices.Delete(l.recent, 0, n)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}
