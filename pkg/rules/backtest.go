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

// PastReading is a reading of the past; Time is in milliseconds. A bad one has no
// value.
type PastReading struct {
	Time    int64
	Value   float64
	Quality telemetry.Quality
}

// Requalify gives readings, in order of time, the qualities that held then, in order
// of time, too: what a store has of them is when they changed. Where it changed to
// bad it adds a bad reading.
func Requalify(readings []PastReading, changes []PastReading) []PastReading {
	if len(changes) == 0 {
		return readings
	}
	out := make([]PastReading, 0, len(readings)+len(changes)/2)
	var now telemetry.Quality
	n := 0
	upTo := func(t int64) {
		for ; n < len(changes) && changes[n].Time <= t; n++ {
			if now = changes[n].Quality; now.IsBad() {
				out = append(out, changes[n])
			}
		}
	}
	for _, r := range readings {
		upTo(r.Time)
		if r.Quality = now; now.IsBad() {
			if out[len(out)-1].Time == r.Time {
				continue
			}
			r.Quality = 0 // a change that the store has not: it has a value
		}
		out = append(out, r)
	}
	upTo(never)
	return out
}

// Memory returns how long before a time readings matter at it: the longest window or
// delay of the set's rules.
func (s *Set) Memory() time.Duration {
	most := int64(0)
	for _, r := range s.rules {
		of := r.width + r.step
		for i := range r.levels {
			l := &r.levels[i]
			of = max(of, r.width+r.step+l.hold, l.clearFor)
			if r.ages() {
				of = max(of, int64(l.limit))
			}
		}
		most = max(most, of)
	}
	return time.Duration(most) * time.Millisecond
}

// Since leaves out the episodes that had ended by the time.
func Since(list []Episode, from time.Time) []Episode {
	return slices.DeleteFunc(list, func(e Episode) bool { return !e.End.IsZero() && e.End.Before(from) })
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
	Steps         []EpisodeStep // its severities, from Start on
}

// EpisodeStep is a severity and the time from which an episode had it.
type EpisodeStep struct {
	From     time.Time
	Severity alert.Severity
}

// at returns for how long between from and to the episode was at least so severe, and
// whether it ever was.
func (e *Episode) at(severity alert.Severity, from, to time.Time) (d time.Duration, reached bool) {
	if !e.End.IsZero() && e.End.Before(to) {
		to = e.End
	}
	for i, step := range e.Steps {
		begin, end := step.From, to
		if i+1 < len(e.Steps) {
			end = e.Steps[i+1].From
		}
		if begin.Before(from) {
			begin = from
		}
		if step.Severity < severity || end.Before(begin) {
			continue
		}
		d, reached = d+end.Sub(begin), true
	}
	return d, reached
}

// Backtest returns the alerts that the rules would have raised on the histories up
// to the time, by start. It is the code that judges live readings.
func Backtest(set *Set, histories []History, to int64) []Episode {
	return backtest(set, histories, to, nil)
}

// Judged is what a rule over a window made of a series, as it changed.
type Judged struct {
	Rule   string
	Label  string // in words
	Series string // EDGE/DEVICE/POINT
	Values []PastReading
}

// Judge returns what the rules over windows make of the histories.
func Judge(set *Set, histories []History, to int64) (out []Judged) {
	at := map[[2]string]int{}
	backtest(set, histories, to, func(h *History, r *rule, t int64, x float64) {
		key := [2]string{r.id, alert.SeriesKey(h.Series.Edge, h.Series.Device, h.Series.Point)}
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, Judged{Rule: r.id, Label: r.judges(), Series: key[1]})
		}
		if n := len(out[i].Values); n == 0 || out[i].Values[n-1].Value != x {
			out[i].Values = append(out[i].Values, PastReading{Time: t, Value: x})
		}
	})
	return out
}

func backtest(set *Set, histories []History, to int64, see func(*History, *rule, int64, float64)) []Episode {
	var es episodes
	e := NewEngine([]Effective{{set, Always}}, es.take)
	byEdge := map[string][]*History{}
	for i := range histories {
		h := &histories[i]
		byEdge[h.Series.Edge] = append(byEdge[h.Series.Edge], h)
	}
	e.Expect(keys(byEdge), time.Time{})
	for _, edge := range keys(byEdge) {
		replay(e, edge, byEdge[edge], to, see, es.stands)
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
	if n := len(ep.Steps); a.State == alert.Active && (n == 0 || ep.Steps[n-1].Severity != a.Severity) {
		ep.Steps = append(ep.Steps, EpisodeStep{t.Time, a.Severity})
	}
	if a.Severity > ep.Severity { // the limit that was passed
		ep.Severity, ep.Limit = a.Severity, a.Limit
	}
	ep.Peak, ep.Reason, ep.Activations = a.Peak, a.Reason, a.Activations
	if a.End != nil {
		ep.End = *a.End
	}
}

// stands takes the peak of an alert that stands at the end.
func (es *episodes) stands(a alert.Alert) {
	if ep := es.open[a.ID]; ep != nil {
		ep.Peak = a.Peak
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

// replay shows an edge's histories in order of time, with a watermark behind. See,
// if not nil, is called with what rules over windows judge after a reading.
func replay(e *Engine, edge string, list []*History, to int64, see func(h *History, r *rule, t int64, x float64), stands func(alert.Alert)) {
	f := e.openFold(edge)
	defer f.Close()
	bound := make([]telemetry.BoundSeries, len(list))
	next := make([]int, len(list))
	var due timers
	for i, h := range list {
		bound[i] = h.Series
		if len(h.Readings) > 0 {
			due.push(timer{at: h.Readings[0].Time, series: uint32(i)})
		}
	}
	f.Bind(bound)
	for len(due) > 0 && due[0].at <= to {
		d := due.pop()
		h := list[d.series]
		if f.Watermark() < d.at-1 {
			f.Advance(d.at - 1)
		}
		r := &h.Readings[next[d.series]]
		f.Observe(d.series, d.at, r.Value, r.Quality)
		if next[d.series]++; next[d.series] < len(h.Readings) {
			due.push(timer{at: h.Readings[next[d.series]].Time, series: d.series})
		}
		if see == nil {
			continue
		}
		s := &f.series[d.series]
		for k := range s.machines {
			m := &s.machines[k]
			if rule := s.set.rules[m.rule]; rule.source == ofWindow && !m.blind {
				see(h, rule, d.at, f.aux[m.aux].x)
			}
		}
	}
	f.Advance(to)
	for i := range f.series {
		s := &f.series[i]
		for k := range s.machines {
			if m := &s.machines[k]; m.busy != idle && f.busy[m.busy].active > 0 {
				b, r := &f.busy[m.busy], s.set.rules[m.rule]
				stands(f.describe(alert.SeverityChanged, s, b, r, to, f.valueOf(s, m, r, to), b.active, ""))
			}
		}
	}
}

// Quantities returns what the rules of the set watch.
func (s *Set) Quantities() []string {
	var out []string
	for _, r := range s.rules[:s.base] {
		if r.quantity != "" && !slices.Contains(out, r.quantity) {
			out = append(out, r.quantity)
		}
	}
	return out
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
	return SummarizeAt(list, alert.None, from, to)
}

// SummarizeAt counts the episodes that were at least so severe within the time, and
// for how long they were.
func SummarizeAt(list []Episode, severity alert.Severity, from, to time.Time) (s Summary) {
	var all []time.Duration
	for i := range list {
		d, reached := list[i].at(severity, from, to)
		if !reached {
			continue
		}
		s.Episodes++
		if list[i].End.IsZero() {
			s.Open++
		}
		all = append(all, d)
		s.Standing += d
	}
	if span := to.Sub(from); span > 0 {
		s.PerWeek = float64(s.Episodes) / (span.Hours() / 24 / 7)
		s.Share = s.Standing.Seconds() / span.Seconds()
	}
	if slices.Sort(all); len(all) > 0 {
		s.Median, s.Longest = all[len(all)/2], all[len(all)-1]
	}
	return s
}
