package history

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
)

const tmpSuffix = ".tmp"

// compute makes a set of a period: of the samples in (rawFrom, rawTo], when raw is
// not nil, and of what older sets of the period hold. It returns nil when there is
// nothing.
func (h *History) compute(ctx context.Context, p period, width int64, old []*set, raw storage.Queryable, rawFrom, rawTo int64) (s *set, err error) {
	j := &job{h: h, period: p, width: width, pace: pacer{duty: h.o.Duty}}
	if len(old) > 0 {
		if j.old, err = newReader(ctx, old); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, j.old.close()) }()
	}
	if raw != nil {
		q, err := raw.Querier(rawFrom+1, rawTo)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, q.Close()) }()
		j.raw = q
		j.hints = storage.SelectHints{Start: rawFrom + 1, End: rawTo}
	}
	return j.run(ctx)
}

// job computes one set.
type job struct {
	h *History
	period
	width int64
	old   *reader
	raw   storage.Querier
	hints storage.SelectHints
	pace  pacer
}

func (j *job) run(ctx context.Context) (*set, error) {
	symbols, err := j.symbols(ctx)
	if err != nil || len(symbols) == 0 {
		return nil, err
	}
	id, err := ulid.New(uint64(max(0, j.h.o.Now())), rand.Reader)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(j.h.dir, widthNames[j.width], j.name()+"-"+id.String())
	if err := os.RemoveAll(dir + tmpSuffix); err != nil {
		return nil, err
	}
	n, err := j.write(ctx, dir+tmpSuffix, id, symbols)
	if err != nil || n == 0 {
		return nil, errors.Join(err, os.RemoveAll(dir+tmpSuffix))
	}
	if err := syncTree(dir + tmpSuffix); err != nil {
		return nil, err
	}
	if err := os.Rename(dir+tmpSuffix, dir); err != nil {
		return nil, err
	}
	if err := syncPath(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	return openSet(dir, j.width)
}

// symbols returns what the labels of all series are made of.
func (j *job) symbols(ctx context.Context) ([]string, error) {
	table := symbolTable{}
	if j.raw != nil {
		hints := j.hints
		hints.Func = "series" // what the TSDB understands as: no samples
		set := j.raw.Select(ctx, false, &hints, everything)
		for set.Next() {
			table.add(set.At().Labels())
		}
		if err := set.Err(); err != nil {
			return nil, fmt.Errorf("read series: %w", err)
		}
	}
	if j.old != nil {
		for _, q := range j.old.queriers {
			set := q.Select(ctx, false, &storage.SelectHints{Start: j.start, End: j.end, Func: "series"}, everything)
			for set.Next() {
				table.add(set.At().Labels())
			}
			if err := set.Err(); err != nil {
				return nil, fmt.Errorf("read series: %w", err)
			}
		}
	}
	return table.sorted(), nil
}

// write merges the series of samples and of older sets into a new set, and returns
// how many it has.
func (j *job) write(ctx context.Context, dir string, id ulid.ULID, symbols []string) (int, error) {
	w, err := newSetWriter(ctx, dir, j.period, id, symbols)
	if err != nil {
		return 0, err
	}
	if err := j.series(ctx, w); err != nil {
		return 0, errors.Join(err, w.abort())
	}
	return w.series, w.finish()
}

func (j *job) series(ctx context.Context, w *setWriter) error {
	samples, kept := newBuckets(j.period, j.width), newBuckets(j.period, j.width)
	var it chunkenc.Iterator
	raw := storage.EmptySeriesSet()
	if j.raw != nil {
		raw = j.raw.Select(ctx, true, &j.hints, everything)
	}
	rawOK := raw.Next()
	oldOK, err := j.nextOld()
	for err == nil && (rawOK || oldOK) {
		if err := j.pace.rest(ctx); err != nil {
			return err
		}
		which := -1 // the series stands in raw, in both, in old
		switch {
		case !rawOK:
			which = 1
		case oldOK:
			which = labels.Compare(raw.At().Labels(), j.old.labels())
		}
		var ls labels.Labels
		samples.reset()
		kept.reset()
		if which >= 0 {
			ls = j.old.labels()
			if err := j.fold(ls, kept); err != nil {
				return err
			}
			oldOK, err = j.nextOld()
		}
		if which <= 0 {
			s := raw.At()
			ls = s.Labels()
			it = s.Iterator(it)
			if err := gather(it, samples, j.h.o.Aggregate(ls.Get(tsdb.NameLabel))); err != nil {
				return err
			}
		}
		for i := range kept.list {
			if samples.list[i].n > kept.list[i].n {
				kept.list[i] = samples.list[i]
			}
		}
		if err := w.add(ls, kept); err != nil {
			return err
		}
		if which <= 0 {
			rawOK = raw.Next()
		}
	}
	return errors.Join(err, raw.Err())
}

func (j *job) nextOld() (bool, error) {
	if j.old == nil {
		return false, nil
	}
	return j.old.next()
}

// fold puts the buckets of the older sets' present series into those of this job:
// as they are, or joined when these are wider.
func (j *job) fold(ls labels.Labels, into *buckets) error {
	if j.width == FiveMinutes {
		return j.old.each(func(end int64, v [streams]float64) {
			if b := into.at(end); b != nil {
				*b = bucket{n: v[streamCount], min: v[streamMin], max: v[streamMax], value: v[streamValue]}
			}
		})
	}
	how := j.h.o.Aggregate(ls.Get(tsdb.NameLabel))
	err := j.old.each(func(end int64, v [streams]float64) {
		if b := into.at(end); b != nil {
			b.add(how, v[streamCount], v[streamValue], v[streamMin], v[streamMax])
		}
	})
	into.finish(how)
	return err
}

// gather puts samples into buckets.
func gather(it chunkenc.Iterator, into *buckets, how telemetry.Aggregation) error {
	var b *bucket
	var end int64 // of b
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		if kind != chunkenc.ValFloat {
			continue
		}
		t, v := it.At()
		if math.IsNaN(v) {
			continue // a staleness marker
		}
		if b == nil || t > end {
			if b = into.at(t); b == nil {
				continue
			}
			end = floor(t-1, into.width) + into.width
		}
		b.add(how, 1, v, v, v)
	}
	into.finish(how)
	return it.Err()
}

// pacer leaves the machine to others for most of the time.
type pacer struct {
	duty  float64 // share of a core; 0 and 1: all of it
	since time.Time
}

const workFor = 20 * time.Millisecond

func (p *pacer) rest(ctx context.Context) error {
	if p.duty <= 0 || p.duty >= 1 {
		return ctx.Err()
	}
	now := time.Now()
	if p.since.IsZero() {
		p.since = now
	}
	worked := now.Sub(p.since)
	if worked < workFor {
		return ctx.Err()
	}
	wait := time.NewTimer(time.Duration(float64(worked) * (1/p.duty - 1)))
	defer wait.Stop()
	select {
	case <-wait.C:
		p.since = time.Now()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Aggregations returns how a catalogue joins the readings of its quantities; what it
// does not know is a mean, or the last value when its name says that it only grows.
func Aggregations(q telemetry.Quantities) func(metric string) telemetry.Aggregation {
	return func(metric string) telemetry.Aggregation {
		if d, ok := q[metric]; ok && d.Aggregate != "" {
			return d.Aggregate
		}
		if metric == telemetry.QuantityReadingQuality || len(metric) > 6 && metric[len(metric)-6:] == "_total" {
			return telemetry.AggregateLast
		}
		return telemetry.AggregateMean
	}
}
