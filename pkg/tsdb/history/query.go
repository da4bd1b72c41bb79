package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/langbiang/langbiang/pkg/tsdb"
)

// Queryable returns samples and history as one.
func (h *History) Queryable(raw Raw) storage.Queryable { return queryable{h, raw} }

type queryable struct {
	h   *History
	raw Raw
}

// Querier implements storage.Queryable. It keeps the sets open that are there now.
func (q queryable) Querier(from, to int64) (storage.Querier, error) {
	samples, err := q.raw.Queryable().Querier(from, to)
	if err != nil {
		return nil, err
	}
	// The store drops whole slices, so from the beginning of its oldest on it has all.
	oldest := q.raw.Oldest()
	if oldest != math.MaxInt64 {
		oldest = floor(oldest-1, Slice) + 1
	}
	if gone := q.h.marks.droppedUpTo(); gone >= oldest {
		oldest = gone + 1
	}
	return &querier{Querier: samples, h: q.h, raw: q.raw.Queryable(), from: from, to: to, floor: oldest}, nil
}

// querier answers from both. The embedded one reads samples in all of the time.
type querier struct {
	storage.Querier
	h        *History
	raw      storage.Queryable
	from, to int64
	floor    int64 // the samples are complete from here on
	opened   []storage.Querier
}

// Select implements storage.Querier.
func (q *querier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	if hints == nil {
		hints = &storage.SelectHints{Start: q.from, End: q.to}
	}
	if hints.Func == tsdb.OnlySamples {
		return q.Querier.Select(ctx, sorted, hints, matchers...)
	}
	how, known := q.h.aggregation(matchers)
	c, ok := choose(hints, how)
	ok = ok && (known || c.exact && hints.Func != "avg_over_time" && hints.Func != "last_over_time")
	width := int64(0)
	if ok && c.exact {
		width = coarse(hints)
	}
	if width == 0 && hints.Start >= q.floor {
		return q.Querier.Select(ctx, sorted, hints, matchers...)
	}
	sets, left, err := q.parts(ctx, c, ok, width, hints, matchers)
	if err != nil {
		return storage.ErrSeriesSet(fmt.Errorf("long history: %w", err))
	}
	set := storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	if left {
		return warned{set, cmp.Or(hints.Func, "a range of readings"), q.floor}
	}
	return set
}

// parts opens the parts of the time that a query needs, all with sorted series; left
// says that there is history of some which does not answer it.
func (q *querier) parts(ctx context.Context, c choice, buckets bool, width int64, hints *storage.SelectHints, matchers []*labels.Matcher) (sets []storage.SeriesSet, left bool, err error) {
	q.h.mu.RLock() // so that no set is closed before it is opened here
	defer q.h.mu.RUnlock()
	for _, p := range q.h.plan(hints.Start, hints.End, q.floor, width) {
		narrowed := *hints
		narrowed.Start, narrowed.End = p.from, p.to
		if p.set == nil {
			one, err := q.raw.Querier(p.from, p.to)
			if err != nil {
				return nil, false, err
			}
			q.opened = append(q.opened, one)
			sets = append(sets, one.Select(ctx, true, &narrowed, matchers...))
			continue
		}
		if !buckets {
			left = true
			continue
		}
		narrowed.End = min(p.to+p.set.width, math.MaxInt64-1) // the bucket that is going on at the end
		one, err := promtsdb.NewBlockQuerier(p.set.blocks[c.stream], narrowed.Start, narrowed.End)
		if err != nil {
			return nil, false, err
		}
		q.opened = append(q.opened, one)
		spread := int64(1)
		if c.spread {
			spread = p.set.width / FiveMinutes
		}
		sets = append(sets, spreadSet{one.Select(ctx, true, &narrowed, matchers...), p, spread})
	}
	return sets, left, nil
}

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.listed(func(x storage.Querier) ([]string, annotations.Annotations, error) {
		return x.LabelValues(ctx, name, hints, matchers...)
	})
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.listed(func(x storage.Querier) ([]string, annotations.Annotations, error) {
		return x.LabelNames(ctx, hints, matchers...)
	})
}

// listed joins what samples, and the sets below them, answer.
func (q *querier) listed(ask func(storage.Querier) ([]string, annotations.Annotations, error)) ([]string, annotations.Annotations, error) {
	out, notes, err := ask(q.Querier)
	if err != nil || q.from >= q.floor {
		return out, notes, err
	}
	q.h.mu.RLock()
	defer q.h.mu.RUnlock()
	for _, p := range q.h.plan(q.from, q.to, q.floor, 0) {
		if p.set == nil {
			continue
		}
		one, err := promtsdb.NewBlockQuerier(p.set.blocks[streamCount], p.from, p.to)
		if err != nil {
			return nil, nil, err
		}
		q.opened = append(q.opened, one)
		more, others, err := ask(one)
		if err != nil {
			return nil, nil, err
		}
		out, notes = append(out, more...), notes.Merge(others)
	}
	slices.Sort(out)
	return slices.Compact(out), notes, nil
}

// Close implements storage.Querier.
func (q *querier) Close() error {
	errs := []error{q.Querier.Close()}
	for _, o := range q.opened {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}

// warned says that the older part of the time is left out.
type warned struct {
	storage.SeriesSet
	function string
	floor    int64
}

// Warnings implements storage.SeriesSet.
func (w warned) Warnings() annotations.Annotations {
	notes := w.SeriesSet.Warnings()
	return notes.Add(fmt.Errorf("%w: %s cannot be made of long history, and the readings before %s are gone: it leaves that time out",
		annotations.PromQLWarning, w.function, time.UnixMilli(w.floor).UTC().Format(time.RFC3339)))
}

// spreadSet is what a set answers for a part of the time.
type spreadSet struct {
	storage.SeriesSet
	part
	times int64 // how often a bucket is told
}

// At implements storage.SeriesSet.
func (s spreadSet) At() storage.Series { return spreadSeries{s.SeriesSet.At(), s.part, s.times} }

type spreadSeries struct {
	storage.Series
	part
	times int64
}

// Iterator implements storage.Series.
func (s spreadSeries) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	x, ok := it.(*spreadIterator)
	if !ok {
		x = &spreadIterator{}
	}
	*x = spreadIterator{Iterator: s.Series.Iterator(x.Iterator), part: s.part, times: s.times}
	return x
}

// spreadIterator tells each bucket several times, the last time at its end, within
// the part.
type spreadIterator struct {
	chunkenc.Iterator
	part
	times, left int64 // left: how often the present bucket is still to be told
	end         int64 // of the present bucket
	v           float64
	at          int64
	started     bool
}

// Next implements chunkenc.Iterator.
func (s *spreadIterator) Next() chunkenc.ValueType {
	for {
		if s.left == 0 {
			if s.Iterator.Next() == chunkenc.ValNone {
				return chunkenc.ValNone
			}
			s.end, s.v = s.Iterator.At()
			s.left = s.times
		}
		s.left--
		s.at = s.end - s.left*FiveMinutes
		switch {
		case s.at > s.to:
			return chunkenc.ValNone
		case s.at >= s.from:
			s.started = true
			return chunkenc.ValFloat
		}
	}
}

// milliseconds keeps vet from taking the next method for that of io.Seeker.
type milliseconds = int64

// Seek implements chunkenc.Iterator.
func (s *spreadIterator) Seek(t milliseconds) chunkenc.ValueType {
	if s.started && s.at >= t {
		return chunkenc.ValFloat
	}
	if t > s.end { // beyond the present bucket
		s.left = 0
		if s.Iterator.Seek(t) == chunkenc.ValNone {
			return chunkenc.ValNone
		}
		s.end, s.v = s.Iterator.At()
		s.left = s.times
	}
	for kind := s.Next(); kind != chunkenc.ValNone; kind = s.Next() {
		if s.at >= t {
			return kind
		}
	}
	return chunkenc.ValNone
}

// At implements chunkenc.Iterator.
func (s *spreadIterator) At() (int64, float64) { return s.at, s.v }

// AtT implements chunkenc.Iterator.
func (s *spreadIterator) AtT() int64 { return s.at }
