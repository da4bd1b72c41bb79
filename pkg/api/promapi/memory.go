package promapi

import (
	"context"
	"math"
	"slices"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// Memory is a small store of series that are given at once, to evaluate expressions
// over what no hub has: a file, or the values of a test. Add first; reading is safe for
// concurrent use afterwards.
type Memory struct{ series []storage.Series }

// MemorySample is one reading; of a bad one the series has no value any more.
type MemorySample struct {
	Time  int64 // ms
	Value float64
	Bad   bool
}

// Add adds a series with its readings in order of time, named as in the store.
func (m *Memory) Add(s telemetry.BoundSeries, readings []MemorySample) {
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, l := range s.Labels {
		b.Set(l.Name, l.Value)
	}
	for name, v := range map[string]string{
		model.MetricNameLabel: s.Quantity, telemetry.LabelSite: s.Site, telemetry.LabelEdge: s.Edge,
		telemetry.LabelDevice: s.Device, telemetry.LabelPoint: s.Point,
	} {
		b.Set(name, v)
	}
	list := make([]chunks.Sample, len(readings))
	for i, r := range readings {
		if r.Bad {
			r.Value = math.Float64frombits(value.StaleNaN)
		}
		list[i] = memorySample{r.Time, r.Value}
	}
	m.series = append(m.series, storage.NewListSeries(b.Labels(), list))
}

// Querier implements storage.Queryable. What lies outside of the time is left to the
// engine, which does not look at it.
func (m *Memory) Querier(_, _ int64) (storage.Querier, error) { return memoryQuerier{m}, nil }

type memoryQuerier struct{ m *Memory }

func (q memoryQuerier) Select(_ context.Context, sorted bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var out memorySet
	for _, s := range q.m.series {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Labels().Get(m.Name)) }) {
			out.list = append(out.list, s)
		}
	}
	if sorted {
		slices.SortFunc(out.list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	}
	return &out
}

func (memoryQuerier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (memoryQuerier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (memoryQuerier) Close() error { return nil }

type memorySet struct {
	list []storage.Series
	next int
}

func (s *memorySet) Next() bool {
	s.next++
	return s.next <= len(s.list)
}

func (s *memorySet) At() storage.Series              { return s.list[s.next-1] }
func (*memorySet) Err() error                        { return nil }
func (*memorySet) Warnings() annotations.Annotations { return nil }

type memorySample struct {
	t int64
	v float64
}

func (s memorySample) T() int64                    { return s.t }
func (memorySample) ST() int64                     { return 0 }
func (s memorySample) F() float64                  { return s.v }
func (memorySample) H() *histogram.Histogram       { return nil }
func (memorySample) FH() *histogram.FloatHistogram { return nil }
func (memorySample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s memorySample) Copy() chunks.Sample         { return s }
