package history

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
)

// choice says what of a bucket answers a query.
type choice struct {
	stream int
	// exact says that buckets give what samples would, by the quantity's aggregation;
	// else they are taken only where the samples are gone.
	exact bool
	// spread repeats the bucket of an hour every five minutes, so that a query that
	// looks back five minutes finds it. What adds up or looks at differences must see
	// it once.
	spread bool
}

// choose finds out what of a bucket answers a query of a metric with the
// aggregation how; ok is false when nothing does.
//
// A plain selector, whatever is then done with it across series, gets the value. A
// function over time gets a choice if it can be made of buckets. All others would
// be wrong, not just coarse: the number of samples is not that of buckets, their
// quantiles are not those of means.
func choose(hints *storage.SelectHints, how telemetry.Aggregation) (c choice, ok bool) {
	if hints.Range == 0 {
		return choice{streamValue, true, true}, true
	}
	mean := how == telemetry.AggregateMean || how == telemetry.AggregateVectorMean
	switch hints.Func {
	case "min_over_time":
		return choice{streamMin, true, true}, true
	case "max_over_time":
		return choice{streamMax, true, true}, true
	case "avg_over_time":
		return choice{streamValue, mean, true}, true
	case "sum_over_time":
		return choice{streamValue, true, false}, how == telemetry.AggregateSum
	case "last_over_time":
		return choice{streamValue, how == telemetry.AggregateLast, true}, true
	case "present_over_time":
		return choice{streamValue, true, true}, true
	case "increase", "rate":
		return choice{streamValue, false, false}, how == telemetry.AggregateLast
	case "delta", "deriv", "predict_linear":
		return choice{streamValue, false, false}, mean || how == telemetry.AggregateLast
	}
	return choice{}, false
}

// coarse returns the widest buckets that the steps of a query leave room for, 0 when
// they leave none. A function over time must begin and end its windows where
// buckets do.
func coarse(hints *storage.SelectHints) int64 {
	for _, width := range []int64{Hour, FiveMinutes} {
		if hints.Step < width {
			continue
		}
		if hints.Range == 0 || hints.Range%width == 0 && hints.Step%width == 0 && (hints.Start-1)%width == 0 {
			return width
		}
	}
	return 0
}

// aggregation returns how the metric that the matchers name is joined; ok is false
// when they name several.
func (h *History) aggregation(matchers []*labels.Matcher) (telemetry.Aggregation, bool) {
	i := slices.IndexFunc(matchers, func(m *labels.Matcher) bool {
		return m.Name == tsdb.NameLabel && m.Type == labels.MatchEqual
	})
	if i < 0 {
		return "", false
	}
	return h.o.Aggregate(matchers[i].Value), true
}

// part is a piece of the time of a query, both ends included, and who answers it:
// a set, or the samples when that is nil.
type part struct {
	from, to int64
	set      *set
}

// plan divides [from, to] among the sets, the samples, and nobody. Samples are
// complete from the time floor on. With width 0 sets answer below it only. Sets
// that late samples have changed answer only what samples cannot.
func (h *History) plan(from, to, floor, width int64) (parts []part) {
	late := h.marks.all()
	stale := func(s *set) bool {
		for slice := range late {
			if s.start <= slice && slice < s.end {
				return true
			}
		}
		return false
	}
	free := []part{{from: from, to: to}}
	take := func(s *set, from, to int64) {
		var rest []part
		for _, f := range free {
			a, b := max(f.from, from), min(f.to, to)
			if a > b {
				rest = append(rest, f)
				continue
			}
			parts = append(parts, part{a, b, s})
			if f.from < a {
				rest = append(rest, part{from: f.from, to: a - 1})
			}
			if b < f.to {
				rest = append(rest, part{from: b + 1, to: f.to})
			}
		}
		free = rest
	}
	order := slices.Clone(h.sets) // by width
	if width == Hour {
		slices.SortStableFunc(order, func(a, b *set) int { return int(b.width - a.width) })
	}
	for _, s := range order {
		until := s.end
		if width == 0 || s.width > width || stale(s) {
			until = min(until, floor-1)
		}
		take(s, s.start+1, until)
	}
	parts = append(parts, free...)
	slices.SortFunc(parts, func(a, b part) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})
	return parts
}
