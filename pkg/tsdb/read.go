package tsdb

import (
	"context"
	"fmt"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Sample is a value at a time in milliseconds.
type Sample struct {
	T int64
	V float64
}

// Series is a label set with its samples, in order of time.
type Series struct {
	Labels  telemetry.Labels
	Samples []Sample
}

// Match is the condition that a label has exactly the value; an empty value
// matches series without the label.
type Match struct{ Name, Value string }

// ReadSeries returns the label sets of all series that fulfil the conditions, at
// least one, and may have samples in [from, to]. It reads no samples.
func ReadSeries(ctx context.Context, q storage.Queryable, from, to int64, where ...Match) ([]telemetry.Labels, error) {
	var out []telemetry.Labels
	err := read(ctx, q, from, to, "series", where, func(s storage.Series) error {
		out = append(out, fromLabels(s.Labels()))
		return nil
	})
	return out, err
}

// ReadSamples returns the samples in [from, to], staleness markers included, of
// all series that fulfil the conditions, at least one. It is meant for windows of
// some thousand samples; larger readers iterate over a Querier.
func ReadSamples(ctx context.Context, q storage.Queryable, from, to int64, where ...Match) ([]Series, error) {
	var out []Series
	var it chunkenc.Iterator
	err := read(ctx, q, from, to, OnlySamples, where, func(s storage.Series) error {
		one := Series{Labels: fromLabels(s.Labels())}
		it = s.Iterator(it)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if kind != chunkenc.ValFloat {
				continue
			}
			t, v := it.At()
			one.Samples = append(one.Samples, Sample{T: t, V: v})
		}
		if err := it.Err(); err != nil {
			return err
		}
		if len(one.Samples) > 0 {
			out = append(out, one)
		}
		return nil
	})
	return out, err
}

func read(ctx context.Context, q storage.Queryable, from, to int64, purpose string, where []Match, each func(storage.Series) error) (err error) {
	if len(where) == 0 {
		return fmt.Errorf("read series: no condition given")
	}
	matchers := make([]*labels.Matcher, len(where))
	for i, w := range where {
		matchers[i], err = labels.NewMatcher(labels.MatchEqual, w.Name, w.Value)
		if err != nil {
			return fmt.Errorf("read series: %w", err)
		}
	}
	querier, err := q.Querier(from, to)
	if err != nil {
		return fmt.Errorf("read series: %w", err)
	}
	defer func() {
		if e := querier.Close(); e != nil && err == nil {
			err = fmt.Errorf("read series: %w", e)
		}
	}()
	set := querier.Select(ctx, true, &storage.SelectHints{Start: from, End: to, Func: purpose}, matchers...)
	for set.Next() {
		if err := each(set.At()); err != nil {
			return fmt.Errorf("read series: %w", err)
		}
	}
	if err := set.Err(); err != nil {
		return fmt.Errorf("read series: %w", err)
	}
	return nil
}

func fromLabels(ls labels.Labels) telemetry.Labels {
	out := make(telemetry.Labels, 0, ls.Len())
	ls.Range(func(l labels.Label) { out = append(out, telemetry.Label{Name: l.Name, Value: l.Value}) })
	return out
}
