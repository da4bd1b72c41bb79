package local

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// appender implements [tsdb.Appender]. The TSDB's own appenders are for one
// batch; it takes one when a batch begins.
type appender struct {
	s       *Store
	batch   storage.Appender // nil between batches
	limit   int64            // newest time that this batch may hold
	n       int64            // samples in the batch
	builder labels.ScratchBuilder
	late    lateSlices
}

// Appender implements [tsdb.Store].
func (s *Store) Appender() tsdb.Appender {
	return &appender{s: s, builder: labels.NewScratchBuilder(16)}
}

// Append implements [tsdb.Appender].
func (a *appender) Append(ref uint64, lset []telemetry.Label, t int64, v float64) (uint64, error) {
	if a.batch == nil {
		if why := a.s.refuse.Load(); why != nil {
			return ref, *why
		}
		a.batch = a.s.db.Appender(context.Background())
		now := a.s.options.Now()
		a.limit = now + tsdb.MaxAhead.Milliseconds()
		a.n = 0
		a.late.begin(now)
	}
	if t <= a.late.before && a.s.long != nil {
		a.late.note(t)
	}
	if t > a.limit {
		a.s.ahead.Add(1)
		a.s.metrics.dropped.WithLabelValues("ahead").Inc()
		return ref, fmt.Errorf("%w: by %d s", tsdb.ErrAhead, (t-a.limit)/1000+int64(tsdb.MaxAhead.Seconds()))
	}
	// The labels matter only when the TSDB does not know the number, because
	// the series is new or was forgotten. Then it complains that there are none.
	if ref != 0 {
		got, err := a.batch.Append(storage.SeriesRef(ref), labels.EmptyLabels(), t, v)
		if err == nil {
			a.n++
			return uint64(got), nil
		}
		if !errors.Is(err, promtsdb.ErrInvalidSample) {
			return a.refused(ref, err)
		}
		if lset == nil {
			return 0, nil
		}
	}
	if err := a.convert(lset); err != nil {
		return 0, err
	}
	got, err := a.batch.Append(0, a.builder.Labels(), t, v)
	if err != nil {
		return a.refused(0, err)
	}
	a.n++
	return uint64(got), nil
}

// refused sorts what the TSDB says to a sample.
func (a *appender) refused(ref uint64, err error) (uint64, error) {
	switch {
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		a.s.conflicts.Add(1)
		a.s.metrics.dropped.WithLabelValues("conflict").Inc()
		return ref, nil
	case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrOutOfOrderSample):
		a.s.tooOld.Add(1)
		a.s.metrics.dropped.WithLabelValues("too_old").Inc()
		return ref, nil
	case errors.Is(err, promtsdb.ErrInvalidSample):
		return ref, fmt.Errorf("%w: %w", tsdb.ErrInvalidSeries, err)
	}
	return ref, fmt.Errorf("append: %w", err)
}

// convert puts the labels into the builder, which copies them into one string
// when asked for them: the caller's may be parts of a large message.
func (a *appender) convert(lset []telemetry.Label) error {
	a.builder.Reset()
	named := false
	for i, l := range lset {
		switch {
		case l.Name == "":
			return fmt.Errorf("%w: a label has no name", tsdb.ErrInvalidSeries)
		case i > 0 && lset[i-1].Name >= l.Name:
			return fmt.Errorf("%w: label %q stands after %q", tsdb.ErrInvalidSeries, l.Name, lset[i-1].Name)
		case !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value):
			return fmt.Errorf("%w: label %q is not UTF-8", tsdb.ErrInvalidSeries, l.Name)
		}
		named = named || l.Name == tsdb.NameLabel && l.Value != ""
		if l.Value != "" {
			a.builder.Add(l.Name, l.Value)
		}
	}
	if !named {
		return fmt.Errorf("%w: it has no %s", tsdb.ErrInvalidSeries, tsdb.NameLabel)
	}
	return nil
}

// Commit implements [tsdb.Appender].
func (a *appender) Commit() error {
	if a.batch == nil {
		return nil
	}
	if err := a.commit(); err != nil {
		return err
	}
	if a.s.long != nil {
		a.late.tell(a.s.long)
	}
	a.s.samples.Add(uint64(a.n))
	a.s.unmapped.Add(a.n)
	a.s.metrics.samples.Add(float64(a.n))
	if err := a.s.scanIfDue(a.n); err != nil {
		return a.s.fatal(err)
	}
	return nil
}

func (a *appender) commit() error {
	batch := a.batch
	a.batch = nil
	a.s.commits.RLock()
	defer a.s.commits.RUnlock()
	if err := a.s.dead(); err != nil {
		// The TSDB may be closed; the batch goes down with it.
		return err
	}
	if err := batch.Commit(); err != nil {
		// A log that a write has failed on is torn in the middle: nothing may
		// follow.
		return a.s.fatal(err)
	}
	return nil
}

// Rollback implements [tsdb.Appender].
func (a *appender) Rollback() error {
	if a.batch == nil {
		return nil
	}
	batch := a.batch
	a.batch = nil
	a.s.commits.RLock()
	defer a.s.commits.RUnlock()
	if err := a.s.dead(); err != nil {
		return nil
	}
	if err := batch.Rollback(); err != nil {
		return a.s.fatal(err)
	}
	return nil
}
