package history

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/langbiang/langbiang/pkg/tsdb"
)

// set is one on disk, open. It does not change.
type set struct {
	period
	width  int64 // of its buckets
	id     ulid.ULID
	dir    string
	blocks [streams]*promtsdb.Block
}

func openSet(dir string, width int64) (*set, error) {
	p, id, err := parseName(filepath.Base(dir))
	if err != nil {
		return nil, err
	}
	s := &set{period: p, width: width, id: id, dir: dir}
	for i, name := range streamNames {
		if s.blocks[i], err = promtsdb.OpenBlock(noLogs, filepath.Join(dir, name), nil, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), s.close())
		}
	}
	return s, nil
}

// close waits for those who read it.
func (s *set) close() error {
	var errs []error
	for _, b := range s.blocks {
		if b != nil {
			errs = append(errs, b.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *set) size() (n int64) {
	for _, b := range s.blocks {
		n += b.Size()
	}
	return n
}

// everything matches all series.
var everything = labels.MustNewMatcher(labels.MatchRegexp, tsdb.NameLabel, ".+")

// reader goes through the series of several sets, in the order of their labels, and
// reads all streams of each.
type reader struct {
	queriers []storage.Querier
	sets     [streams]storage.SeriesSet
	its      [streams]chunkenc.Iterator
}

// newReader reads sets whose times do not overlap.
func newReader(ctx context.Context, sets []*set) (r *reader, err error) {
	r = &reader{}
	for i := range r.sets {
		var parts []storage.SeriesSet
		for _, s := range sets {
			q, err := promtsdb.NewBlockQuerier(s.blocks[i], math.MinInt64, math.MaxInt64)
			if err != nil {
				return nil, errors.Join(err, r.close())
			}
			r.queriers = append(r.queriers, q)
			parts = append(parts, q.Select(ctx, true, nil, everything))
		}
		r.sets[i] = storage.NewMergeSeriesSet(parts, 0, storage.ChainedSeriesMerge)
	}
	return r, nil
}

// next moves to the next series.
func (r *reader) next() (bool, error) {
	ok := false
	for i, s := range r.sets {
		more := s.Next()
		if i > 0 && more != ok {
			return false, errors.New("the blocks of a set hold different series")
		}
		if ok = more; !ok {
			if err := s.Err(); err != nil {
				return false, err
			}
		}
	}
	return ok, nil
}

func (r *reader) labels() labels.Labels { return r.sets[0].At().Labels() }

// each gives the buckets of the present series to f.
func (r *reader) each(f func(end int64, v [streams]float64)) error {
	for i, s := range r.sets {
		r.its[i] = s.At().Iterator(r.its[i])
	}
	for {
		var end int64
		var v [streams]float64
		ok := false
		for i, it := range r.its {
			more := it.Next() == chunkenc.ValFloat
			if i > 0 && more != ok {
				return errors.New("the blocks of a set hold different buckets")
			}
			if ok = more; !ok {
				if err := it.Err(); err != nil {
					return err
				}
				continue
			}
			t, x := it.At()
			if i > 0 && t != end {
				return errors.New("the blocks of a set hold different buckets")
			}
			end, v[i] = t, x
		}
		if !ok {
			return nil
		}
		f(end, v)
	}
}

func (r *reader) close() error {
	var errs []error
	for _, q := range r.queriers {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}
