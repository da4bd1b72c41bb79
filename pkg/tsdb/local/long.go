package local

import (
	"math"
	"path/filepath"
	"slices"

	"github.com/langbiang/langbiang/pkg/tsdb/history"
	"github.com/prometheus/prometheus/storage"
)

// historyDir is where long history is kept. Its format is that of the package
// history; the TSDB passes over it.
const historyDir = "history"

// openLong opens long history, if it is to be kept.
func (s *Store) openLong() (err error) {
	if s.options.Long == nil {
		return nil
	}
	o := *s.options.Long
	o.OutOfOrder, o.Now, o.Logger = s.options.OutOfOrder, s.options.Now, s.logger
	o.Room = func() error {
		if why := s.refuse.Load(); why != nil {
			return *why
		}
		return nil
	}
	s.long, err = history.Open(filepath.Join(s.dir, historyDir), o)
	return err
}

// samples are the store without its long history.
type samples struct{ s *Store }

// Queryable implements [history.Raw].
func (r samples) Queryable() storage.Queryable { return guarded(r) }

// Oldest implements [history.Raw].
func (r samples) Oldest() int64 {
	if !r.s.readers.enter() {
		return math.MaxInt64
	}
	defer r.s.readers.leave()
	return r.s.oldest()
}

// oldest returns the time of the oldest sample, math.MaxInt64 when there is none.
// The caller reads.
func (s *Store) oldest() int64 {
	head := s.db.Head()
	t := min(head.MinTime(), head.MinOOOTime())
	for _, b := range s.db.Blocks() {
		t = min(t, b.Meta().MinTime)
	}
	return t
}

// lateSlices are the slices of long history that a batch has old samples for.
type lateSlices struct {
	before   int64 // what is older is noted
	from, to int64 // of the newest slice noted: most old samples come in order
	list     []int64
}

// noteAfter is how old a sample must be to be noted: half of what long history waits
// before it computes, and far more than a batch lives.
const noteAfter = 30 * 60 * 1000

func (l *lateSlices) begin(now int64) {
	l.before, l.list = now-noteAfter, l.list[:0]
	l.from, l.to = math.MaxInt64, math.MinInt64
}

// note is called for samples with a time at or before l.before.
func (l *lateSlices) note(t int64) {
	if t > l.from && t <= l.to {
		return
	}
	l.from = (t - 1) - ((t-1)%history.Slice+history.Slice)%history.Slice
	l.to = l.from + history.Slice
	if !slices.Contains(l.list, l.from) {
		l.list = append(l.list, l.from)
	}
}

// tell marks those that may have been computed. The batch is committed.
func (l *lateSlices) tell(h *history.History) {
	if len(l.list) == 0 {
		return
	}
	computed := h.Computed()
	l.list = slices.DeleteFunc(l.list, func(s int64) bool { return s >= computed })
	if len(l.list) > 0 {
		h.Mark(l.list...)
	}
}
