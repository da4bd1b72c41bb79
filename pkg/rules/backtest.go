package rules

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// History is a series with its readings of the past, in order of time.
type History struct {
	Series   telemetry.BoundSeries
	Readings []PastReading
}

// PastReading is a reading of the past; Time is in milliseconds.
type PastReading struct {
	Time  int64
	Value float64
	Bad   bool
}

// Episode is an alert as a backtest finds it. End is zero while it still stood at
// the end of the data.
type Episode struct {
	Rule, Version string
	Series        string // EDGE/DEVICE/POINT
	Severity      alert.Severity
	Start, End    time.Time
	Value, Peak   float64 // when it was raised, and the worst
	Limit         float64
	Unit          string
	Reason        string
	Activations   int
	Message       telemetry.Text
}

// Backtest returns the alerts that the rules would have raised on the histories up
// to the time, by start. It is the code that judges live readings.
func Backtest(set *Set, histories []History, to int64) []Episode {
	var es episodes
	e := NewEngine([]Effective{{set, Always}}, es.take)
	byEdge := map[string][]*History{}
	for i := range histories {
		h := &histories[i]
		byEdge[h.Series.Edge] = append(byEdge[h.Series.Edge], h)
	}
	e.Expect(keys(byEdge), time.Time{})
	for _, edge := range keys(byEdge) {
		replay(e, edge, byEdge[edge], to)
	}
	return es.sorted()
}

// episodes gathers the episodes that transitions tell of.
type episodes struct {
	open  map[string]*Episode
	order []string
}

func (es *episodes) take(t alert.Transition) {
	a := &t.Alert
	if !settled(&t) {
		return
	}
	ep := es.open[a.ID]
	if ep == nil {
		ep = &Episode{
			Rule: a.Rule, Version: a.RuleVersion, Series: alert.SeriesKey(a.Edge, a.Device, a.Point), Start: a.Start,
			Value: a.Value, Unit: a.Unit, Message: a.Message,
		}
		if es.open == nil {
			es.open = map[string]*Episode{}
		}
		es.open[a.ID] = ep
		es.order = append(es.order, a.ID)
	}
	if a.Severity >= ep.Severity {
		ep.Severity, ep.Limit = a.Severity, a.Limit
	}
	ep.Peak, ep.Reason, ep.Activations = a.Peak, a.Reason, a.Activations
	if a.End != nil {
		ep.End = *a.End
	}
}

// sorted returns the episodes by start.
func (es *episodes) sorted() []Episode {
	out := make([]Episode, 0, len(es.order))
	for _, id := range es.order {
		out = append(out, *es.open[id])
	}
	SortEpisodes(out)
	return out
}

// SortEpisodes orders by start, rule and series.
func SortEpisodes(list []Episode) {
	slices.SortStableFunc(list, func(a, b Episode) int {
		return cmp.Or(a.Start.Compare(b.Start), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Series, b.Series))
	})
}

// settled reports whether a transition is more than provisional.
func settled(t *alert.Transition) bool {
	return t.Kind != alert.Foreseen && t.Alert.Reason != ReasonRevised
}

// replay shows an edge's histories in order of time, with a watermark behind.
func replay(e *Engine, edge string, list []*History, to int64) {
	f := e.openFold(edge)
	defer f.Close()
	bound := make([]telemetry.BoundSeries, len(list))
	next := make([]int, len(list))
	for i, h := range list {
		bound[i] = h.Series
	}
	f.Bind(bound)
	for {
		at := int64(never)
		for i, h := range list {
			if next[i] < len(h.Readings) {
				at = min(at, h.Readings[next[i]].Time)
			}
		}
		if at > to {
			break
		}
		if f.Watermark() < at-1 {
			f.Advance(at - 1)
		}
		for i, h := range list {
			for ; next[i] < len(h.Readings) && h.Readings[next[i]].Time == at; next[i]++ {
				r := &h.Readings[next[i]]
				q := telemetry.Quality(0)
				if r.Bad {
					q = telemetry.BadQuality(telemetry.ReasonNoAnswer)
				}
				f.Observe(uint32(i), at, r.Value, q)
			}
		}
	}
	f.Advance(to)
}

// Only returns the set with the rules whose ids match one of the patterns.
func (s *Set) Only(ids ...string) *Set {
	var list []*rule
	for _, r := range s.rules[:s.base] {
		if patterns(ids).match(r.id) {
			list = append(list, r)
		}
	}
	return newSet(list, Env{Sites: s.sites})
}

// WithLimit returns the set with another limit at the severity in every rule that
// has such a level; the clear limit keeps its distance. It reports whether there
// was one. Levels that would stand in the wrong order are moved along.
func (s *Set) WithLimit(severity alert.Severity, limit float64) (*Set, bool) {
	var list []*rule
	found := false
	for _, r := range s.rules[:s.base] {
		c := *r
		c.levels, c.overrides, c.places = slices.Clone(r.levels), nil, nil
		for i := range c.levels {
			l := &c.levels[i]
			if l.severity != severity || c.shape > isBelow {
				continue
			}
			found = true
			by := limit - l.limit
			l.limit, l.clear = limit, l.clear+by
			for k := range c.levels {
				o := &c.levels[k]
				up := (k > i) == (c.shape == isAbove)
				if k != i && (up && o.limit < limit || !up && o.limit > limit) {
					o.clear += limit - o.limit
					o.limit = limit
				}
			}
		}
		c.version = c.hash()
		list = append(list, &c)
	}
	return newSet(list, Env{Sites: s.sites}), found
}

// Summary says how often and how long.
type Summary struct {
	Episodes        int
	Open            int // still standing at the end
	PerWeek         float64
	Standing        time.Duration
	Share           float64 // of the time looked at; 0 to 1, may exceed 1 over several series
	Median, Longest time.Duration
}

// Summarize counts the episodes of a time.
func Summarize(list []Episode, from, to time.Time) Summary {
	s := Summary{Episodes: len(list)}
	var all []time.Duration
	for i := range list {
		end := list[i].End
		if end.IsZero() {
			end = to
			s.Open++
		}
		d := end.Sub(list[i].Start)
		all = append(all, d)
		s.Standing += d
	}
	span := to.Sub(from)
	if span > 0 {
		s.PerWeek = float64(len(list)) / (span.Hours() / 24 / 7)
		s.Share = s.Standing.Seconds() / span.Seconds()
	}
	if slices.Sort(all); len(all) > 0 {
		s.Median, s.Longest = all[len(all)/2], all[len(all)-1]
	}
	return s
}
