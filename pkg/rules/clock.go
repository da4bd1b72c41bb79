package rules

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Seen is when an edge was heard last, by the hub's clock; zero when not since the
// hub started.
type Seen struct {
	Edge, Site string
	Last       time.Time
}

// Reported is a series that the hub knows, with the event time of its newest good
// reading; zero when there was none since the hub started.
type Reported struct {
	telemetry.BoundSeries
	Last time.Time
}

// Sample is one series of a query's result. Its labels are those of the result
// without the metric's name.
type Sample struct {
	Labels telemetry.Labels
	Value  float64
}

// Querier evaluates PromQL. Late readings are left out, as rules do not judge them.
// It is safe for concurrent use and returns soon after ctx ends.
type Querier interface {
	// Query returns the result at a time: an error, and no part of it, when it has
	// more series than the limit.
	Query(ctx context.Context, query string, at time.Time, limit int) ([]Sample, error)
}

// ReasonMissing ends an alert whose series is no longer in what the hub finds.
const ReasonMissing = "no longer in the result"

const (
	// quantitySilence is the quantity of what the hub hears of an edge.
	quantitySilence = alert.QuantitySilence
	// settleIn is how long after the hub's start what is missing means nothing: edges
	// come back one after the other, and queries look back for so long.
	settleIn = 5 * time.Minute
	// unheard is when an edge counts as cut off, so that what is missing of it is held.
	unheard = time.Minute
	// countEvery is how often rules of kind fewer count.
	countEvery = 5 * time.Second
)

// ByClock judges the rules that go by the hub's clock: edge_offline, fewer and
// expression. There is one way for all three. What the hub finds at a time (how
// long it has not heard an edge, how many report, what a query gives) is a reading
// of a series at that time, shown to a fold with the hub's clock as the watermark;
// ladder, delays, schedule and chattering are those of every other rule. A time in
// which nobody could look, because a query failed or the hub was down, is an
// unobserved interval: it neither raises nor clears.
//
// Nothing of this can be replayed, so there is no checkpoint of it: the alert log is
// the truth, and what stands in it goes on after a restart, with its start and id.
//
// Look and Due belong to one goroutine; the evaluations that Due returns may run at
// once, and beside it.
type ByClock struct {
	engine *Engine // of these rules; its sets are those of the engine that it was made for
	query  Querier
	start  time.Time

	inPast  bool                // what is judged is long over: no edge is waited for
	silence *results            // of edges
	counts  map[string]*results // by rule of kind fewer
	counted time.Time

	mu      sync.Mutex
	heard   map[string]time.Time
	waiting []alert.Alert // stand in the log and have not been found again, but those of edges
	asked   map[string]*expression
	quick   int // evaluations that run
	slow    int // the same of those that have been slow
}

// ByClock makes what judges the engine's rules of these kinds. Active are their
// alerts that stand in the alert log (see [JudgedByClock]): they go on. Start is when
// the hub started, by its clock: edges count as heard then. Query may be nil: then
// expressions are not evaluated.
func (e *Engine) ByClock(active []alert.Alert, start time.Time, query Querier) *ByClock {
	c := &ByClock{
		query: query, start: start, heard: map[string]time.Time{}, counts: map[string]*results{}, asked: map[string]*expression{},
	}
	c.engine = newEngine(e.emit)
	c.engine.use(*e.sets.Load())
	c.silence = c.newResults("")
	var edges []alert.Alert
	for i := range active {
		a := &active[i]
		switch {
		case a.State != alert.Active || a.Test || !JudgedByClock(a):
		case a.Quantity == quantitySilence:
			edges = append(edges, *a)
		default:
			c.waiting = append(c.waiting, *a)
		}
	}
	c.recallEdges(edges)
	e.clock.Store(c)
	return c
}

// JudgedByClock reports whether the alert is of a rule that goes by the hub's clock.
func JudgedByClock(a *alert.Alert) bool { return a.Labels[LabelJudgedBy] == HubClock }

// setAt returns the rule set that holds at t, nil when there is none.
func (e *Engine) setAt(t int64) *Set {
	var set *Set
	for _, x := range *e.sets.Load() {
		if set == nil || x.From <= t {
			set = x.Set
		}
	}
	return set
}

// Look judges what the hub has heard up to now, its clock, which must not go back.
// Series is called when some rule counts them, with the quantities of those rules.
func (c *ByClock) Look(now time.Time, edges []Seen, series func(quantities []string) []Reported) {
	c.mu.Lock()
	for _, e := range edges {
		if e.Last.After(c.heard[e.Edge]) {
			c.heard[e.Edge] = e.Last
		}
	}
	c.mu.Unlock()
	c.lookAtEdges(now, edges)
	set := c.engine.setAt(now.UnixMilli())
	if set == nil {
		return
	}
	c.sync(set, now)
	if len(c.counts) == 0 || now.Sub(c.counted) < countEvery {
		return
	}
	c.counted = now
	var quantities []string
	for id := range c.counts {
		quantities = append(quantities, set.rules[set.byID[id]].quantity)
	}
	slices.Sort(quantities)
	list := series(slices.Compact(quantities))
	for _, id := range keys(c.counts) {
		r := set.rules[set.byID[id]]
		if found, ok := r.countReports(list, set, now, c.start); ok {
			c.counts[id].judge(now.UnixMilli(), r, found, nil)
		}
	}
}

// sync makes and drops what the rules of the set need.
func (c *ByClock) sync(set *Set, now time.Time) {
	wanted := func(id string, kind Kind) bool {
		i, ok := set.byID[id]
		return ok && set.rules[i].kind == kind
	}
	var over []*results
	for id, k := range c.counts {
		if !wanted(id, Fewer) {
			over = append(over, k)
			delete(c.counts, id)
		}
	}
	c.mu.Lock()
	for id, x := range c.asked {
		if !wanted(id, Expression) && !x.running {
			over = append(over, x.results)
			delete(c.asked, id)
		}
	}
	if set.clock {
		for _, r := range set.rules[:set.base] {
			switch {
			case r.fewer != nil && c.counts[r.id] == nil:
				c.counts[r.id] = c.newResults(r.id)
			case r.expr != nil && c.asked[r.id] == nil && c.query != nil:
				c.asked[r.id] = &expression{results: c.newResults(r.id)}
			}
		}
	}
	var gone []alert.Alert // of the log; their rules are gone or judge otherwise
	c.waiting = slices.DeleteFunc(c.waiting, func(a alert.Alert) bool {
		_, ok := set.find(a.Rule, a.RuleVersion)
		if !ok {
			gone = append(gone, a)
		}
		return !ok
	})
	c.mu.Unlock()
	for _, k := range over {
		k.close(now.UnixMilli())
	}
	for i := range gone {
		c.end(&gone[i], now.UnixMilli(), ReasonRuleChanged)
	}
}

// end ends an alert that stood in the log and that no fold has taken up.
func (c *ByClock) end(a *alert.Alert, t int64, reason string) {
	x := *a
	x.State, x.Reason, x.Updated, x.Chattering = alert.Cleared, reason, at(max(t, a.Start.UnixMilli())), false
	end := x.Updated
	x.End = &end
	c.engine.emit(alert.Transition{Kind: alert.Ended, Time: end, Alert: x})
}

// cutOff reports whether the edge has not been heard lately; one without a name has
// no edge to wait for.
func (c *ByClock) cutOff(edge string, t int64) bool {
	if edge == "" || c.inPast {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return t-c.heard[edge].UnixMilli() > unheard.Milliseconds()
}

// countReports counts who of each group has reported of late. It says nothing in the
// first time after the hub's start, in which not all can have been heard, unless they
// are enough.
func (r *rule) countReports(list []Reported, set *Set, now, start time.Time) ([]result, bool) {
	s := r.fewer
	things := map[string]map[string]bool{}
	site := map[string]telemetry.BoundSeries{}
	for i := range list {
		b := &list[i]
		if b.Quantity != r.quantity || !s.where.match(&b.BoundSeries, set.sites) {
			continue
		}
		group := s.group(&b.BoundSeries)
		if things[group] == nil {
			things[group], site[group] = map[string]bool{}, b.BoundSeries
		}
		if within := max(s.Within, quietOf(&b.BoundSeries)); now.UnixMilli()-b.Last.UnixMilli() <= within {
			things[group][s.thing(&b.BoundSeries)] = true
		}
	}
	for _, id := range s.named() { // sites that are named are looked at though nothing is known of them
		if group := "site=" + id; things[group] == nil {
			things[group], site[group] = map[string]bool{}, telemetry.BoundSeries{Site: id}
		}
	}
	enough := true
	out := make([]result, 0, len(things))
	for _, group := range keys(things) {
		b := telemetry.BoundSeries{Device: group, Point: r.id, Quantity: r.pseudo(), Unit: "1"}
		if slices.Contains(s.By, "site") {
			b.Site = site[group].Site
		}
		if slices.Contains(s.By, "edge") {
			b.Edge = site[group].Edge
		}
		n := float64(len(things[group]))
		enough = enough && r.climb(n, 0) == 0
		out = append(out, result{b, n})
	}
	return out, enough || now.Sub(start) >= max(ms(s.Within), settleIn)
}

// named returns the sites that are named one by one, when the groups are sites.
func (s *fewerOf) named() (ids []string) {
	if len(s.By) != 1 || s.By[0] != "site" {
		return nil
	}
	for _, id := range s.where.site {
		if !isGlob(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *fewerOf) group(b *telemetry.BoundSeries) string {
	parts := make([]string, len(s.By))
	for i, by := range s.By {
		parts[i] = by + "=" + seriesField(b, by)
	}
	return strings.Join(parts, " ")
}

func (s *fewerOf) thing(b *telemetry.BoundSeries) string { return seriesField(b, s.Count) }

func seriesField(b *telemetry.BoundSeries, name string) string {
	return field(&alert.Alert{Site: b.Site, Edge: b.Edge, Device: b.Device, Point: b.Point, Labels: b.Labels.Map()}, name)
}
