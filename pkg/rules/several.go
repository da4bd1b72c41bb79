package rules

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// ReasonRevised ends a provisional alert that did not stand once all had been heard.
const ReasonRevised = "revised"

// LabelLeftOut names, on alerts of kind several, the edges that were not waited for.
const LabelLeftOut = "left_out"

const severalPrefix = "several/" // of the quantity of a group's series

// gather judges the rules of kind several: how many alerts of other rules stand at
// once, in groups. It is a fold over the alerts, as the folds of edges are over
// logs: what the edges tell is put in order of event time, and judged up to the
// smallest watermark of the edges that take part. That is settled and depends on
// nothing else. What is not settled yet is told as well, as provisional, so that
// nobody waits for an edge that is cut off; it is confirmed or revised.
type gather struct {
	engine *Engine // of the rules, with one series for each rule and group
	emit   func(alert.Transition)

	used     atomic.Bool // some set has such rules
	recalled atomic.Bool // Recall was called

	mu       sync.Mutex
	fold     *Fold
	settled  int64
	edges    map[string]*gatherEdge
	pending  []memberStep
	keys     map[string]bool // of pending
	standing map[string]member
	groups   map[groupKey]*group
	order    []groupKey
	leftOut  []string
	late     uint64
}

type gatherEdge struct {
	w    int64
	seen time.Time // hub's clock when w moved
}

// memberStep is what an alert became at a time: of a severity, or None.
type memberStep struct {
	t      int64
	member member
}

type member struct {
	id       string
	rule     string
	severity alert.Severity
	alert    *alert.Alert
}

type groupKey struct{ rule, group string }

type group struct {
	provisional *alert.Alert
	active      bool // as settled
}

func newGather(emit func(alert.Transition)) *gather {
	g := &gather{
		emit: emit, settled: math.MinInt64, edges: map[string]*gatherEdge{}, keys: map[string]bool{},
		standing: map[string]member{}, groups: map[groupKey]*group{},
	}
	g.engine = newEngine(g.settledStep)
	g.engine.chatter = 0
	g.fold = g.engine.openFold("")
	return g
}

// member takes a step of an alert of another rule; recalled says that it comes
// from the alert log, and has been told before.
func (g *gather) member(t alert.Transition, recalled bool) {
	if !g.used.Load() || !g.counts(t.Alert.Rule) {
		return
	}
	m := member{t.Alert.ID, t.Alert.Rule, t.Alert.Severity, &t.Alert}
	switch t.Kind {
	case alert.Raised, alert.SeverityChanged:
	case alert.Ended:
		m.severity = alert.None
	default:
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := t.Key()
	if g.keys[key] {
		return
	}
	step := memberStep{t.Time.UnixMilli(), m}
	if step.t <= g.settled {
		g.late++ // of a replay, or of an edge that was not waited for
		return
	}
	g.keys[key] = true
	i, _ := slices.BinarySearchFunc(g.pending, step, compareSteps)
	g.pending = slices.Insert(g.pending, i, step)
	if !recalled {
		g.foresee(step.t)
	}
}

// recall takes a step that the alert log has: of a member, or of a group's own
// alert, of which only those that are still provisional matter.
func (g *gather) recall(t alert.Transition) {
	if !g.used.Load() {
		return
	}
	g.member(t, true)
	for _, set := range *g.engine.sets.Load() {
		i, ok := set.Set.byID[t.Alert.Rule]
		if !ok || set.Set.rules[i].kind != Several {
			continue
		}
		g.mu.Lock()
		key := groupKey{t.Alert.Point, t.Alert.Device}
		g.series(key)
		switch gr := g.groups[key]; {
		case t.Kind == alert.Foreseen:
			gr.provisional = &t.Alert
		case gr.provisional != nil && gr.provisional.ID == t.Alert.ID:
			gr.provisional = nil
		}
		g.mu.Unlock()
		return
	}
}

// counts reports whether any rule counts the alerts of this one.
func (g *gather) counts(rule string) bool {
	for _, set := range *g.engine.sets.Load() {
		for _, i := range set.Set.severals {
			if set.Set.rules[i].several.Of.match(rule) {
				return true
			}
		}
	}
	return false
}

func compareSteps(a, b memberStep) int {
	return cmp.Or(cmp.Compare(a.t, b.t), strings.Compare(a.member.id, b.member.id), cmp.Compare(a.member.severity, b.member.severity))
}

// expect says that the edge will take part, though it has not been heard yet.
func (g *gather) expect(edge string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.edges[edge] == nil {
		g.edges[edge] = &gatherEdge{w: math.MinInt64, seen: now}
	}
}

// advance says that the edge has told everything up to w.
func (g *gather) advance(edge string, w int64) {
	if !g.used.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.edges[edge]
	if e == nil {
		e = &gatherEdge{w: math.MinInt64}
		g.edges[edge] = e
	}
	if w > e.w {
		e.w, e.seen = w, time.Time{}
	}
	g.settle(func(*gatherEdge) bool { return false })
}

// tick settles without the edges that have not advanced for the time of patience.
func (g *gather) tick(now time.Time, patience time.Duration) {
	if !g.used.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leftOut = g.leftOut[:0]
	for id, e := range g.edges {
		if e.seen.IsZero() {
			e.seen = now
		}
		if now.Sub(e.seen) > patience {
			g.leftOut = append(g.leftOut, id)
		}
	}
	slices.Sort(g.leftOut)
	g.settle(func(e *gatherEdge) bool { return now.Sub(e.seen) > patience })
}

// settle judges up to the smallest watermark of the edges that are not left out.
func (g *gather) settle(out func(*gatherEdge) bool) {
	w := int64(math.MaxInt64)
	for _, e := range g.edges {
		if !out(e) {
			w = min(w, e.w)
		}
	}
	if w == math.MaxInt64 || w <= g.settled {
		return
	}
	if g.settled == math.MinInt64 {
		first := w
		if len(g.pending) > 0 {
			first = min(w, g.pending[0].t-1)
		}
		g.fold.Advance(first)
	}
	n := 0
	for n < len(g.pending) && g.pending[n].t <= w {
		t := g.pending[n].t
		var changed []groupKey
		for ; n < len(g.pending) && g.pending[n].t == t; n++ {
			changed = append(changed, g.apply(&g.pending[n].member, t, g.standing)...)
		}
		slices.SortFunc(changed, func(a, b groupKey) int {
			return cmp.Or(strings.Compare(a.rule, b.rule), strings.Compare(a.group, b.group))
		})
		for _, key := range slices.Compact(changed) {
			g.fold.Observe(g.series(key), t, float64(g.count(key, t, g.standing)), 0)
		}
	}
	g.pending = slices.Delete(g.pending, 0, n)
	if n > 0 {
		clear(g.keys)
		for i := range g.pending {
			g.keys[stepKey(&g.pending[i])] = true
		}
	}
	g.settled = w
	g.fold.Advance(w)
	for _, key := range g.order {
		if p := g.groups[key].provisional; p != nil && p.Start.UnixMilli() <= w {
			g.revise(key, w)
		}
	}
}

// stepKey is the key of the transition that the step came from.
func stepKey(p *memberStep) string {
	kind := alert.Raised
	switch {
	case p.member.severity == alert.None:
		kind = alert.Ended
	case p.member.alert.Start.UnixMilli() != p.t:
		kind = alert.SeverityChanged
	}
	t := alert.Transition{Kind: kind, Time: at(p.t), Alert: *p.member.alert}
	return t.Key()
}

// setAt returns the rule set that holds at t.
func (g *gather) setAt(t int64) *Set {
	var set *Set
	for _, e := range *g.engine.sets.Load() {
		if set == nil || e.From <= t {
			set = e.Set
		}
	}
	return set
}

// apply puts a step into effect, and returns the groups whose count it may change.
func (g *gather) apply(m *member, t int64, standing map[string]member) (changed []groupKey) {
	was, known := standing[m.id]
	if m.severity == alert.None {
		delete(standing, m.id)
	} else {
		standing[m.id] = *m
	}
	if !known {
		was = *m
	}
	for _, set := range *g.engine.sets.Load() { // a count is kept ready for sets to come
		for _, i := range set.Set.severals {
			if r := set.Set.rules[i]; r.several.Of.match(was.rule) {
				changed = append(changed, groupKey{r.id, r.several.group(was.alert)})
			}
		}
	}
	return changed
}

// group names what an alert's group agrees in.
func (s *severalOf) group(a *alert.Alert) string {
	parts := make([]string, len(s.By))
	for i, by := range s.By {
		parts[i] = by + "=" + field(a, by)
	}
	return strings.Join(parts, " ")
}

func field(a *alert.Alert, name string) string {
	switch name {
	case "site":
		return a.Site
	case "edge":
		return a.Edge
	case "device":
		return a.Edge + "/" + a.Device
	case "rule":
		return a.Rule
	case "series":
		return alert.SeriesKey(a.Edge, a.Device, a.Point)
	}
	return a.Labels[strings.TrimPrefix(name, "labels.")]
}

// count returns how many different things of a group stand.
func (g *gather) count(key groupKey, t int64, standing map[string]member) int {
	set := g.setAt(t)
	i, ok := set.byID[key.rule]
	if !ok || set.rules[i].several == nil {
		return 0
	}
	s := set.rules[i].several
	things := map[string]bool{}
	for _, m := range standing {
		if m.severity >= s.Severity && s.Of.match(m.rule) && s.group(m.alert) == key.group {
			things[field(m.alert, s.Count)] = true
		}
	}
	return len(things)
}

// series returns the number of the group's series, which is made when it is new.
func (g *gather) series(key groupKey) uint32 {
	if g.groups[key] == nil {
		g.groups[key] = &group{}
		g.order = append(g.order, key)
		list := make([]telemetry.BoundSeries, len(g.order))
		for i, k := range g.order {
			list[i] = k.series()
		}
		g.fold.Bind(list)
	}
	return uint32(slices.Index(g.order, key))
}

func (k groupKey) series() telemetry.BoundSeries {
	b := telemetry.BoundSeries{Device: k.group, Point: k.rule, Quantity: severalPrefix + k.rule, Unit: "1"}
	for part := range strings.SplitSeq(k.group, " ") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "site":
			b.Site = value
		case "edge":
			b.Edge = value
		}
	}
	return b
}

// foresee tells what holds if nothing earlier than t is still to come.
func (g *gather) foresee(t int64) {
	standing := make(map[string]member, len(g.standing))
	for id, m := range g.standing {
		standing[id] = m
	}
	var changed []groupKey
	for i := range g.pending {
		if g.pending[i].t <= t {
			changed = append(changed, g.apply(&g.pending[i].member, g.pending[i].t, standing)...)
		}
	}
	set := g.setAt(t)
	for _, key := range changed {
		g.series(key)
		gr := g.groups[key]
		i, ok := set.byID[key.rule]
		if !ok || gr.active || gr.provisional != nil {
			continue
		}
		r := set.rules[i]
		n := g.count(key, t, standing)
		for k := len(r.levels) - 1; k >= 0; k-- {
			l := &r.levels[k]
			if float64(n) < l.limit || l.hold > 0 {
				continue
			}
			b := busyState{onset: t, start: t, peak: float64(n), active: uint8(k + 1)}
			bound := key.series()
			s := &series{bound: &bound, set: set, value: float64(n)}
			a := g.fold.describe(alert.Foreseen, s, &b, r, t, float64(n), uint8(k+1), "")
			a.Provisional = true
			gr.provisional = &a
			g.emit(alert.Transition{Kind: alert.Foreseen, Time: at(t), Alert: a})
			break
		}
	}
}

// settledStep takes what the fold over the groups finds.
func (g *gather) settledStep(t alert.Transition) {
	key := groupKey{t.Alert.Point, t.Alert.Device}
	gr := g.groups[key]
	if gr == nil {
		return
	}
	gr.active = t.Alert.State == alert.Active
	if len(g.leftOut) > 0 {
		t.Alert.Labels[LabelLeftOut] = strings.Join(g.leftOut, ", ")
	}
	if p := gr.provisional; p != nil && t.Kind == alert.Raised {
		gr.provisional = nil
		if p.ID != t.Alert.ID {
			g.end(p, t.Time)
		}
	}
	g.emit(t)
}

// revise ends a provisional alert that is not confirmed up to w.
func (g *gather) revise(key groupKey, w int64) {
	gr := g.groups[key]
	g.end(gr.provisional, at(max(w, gr.provisional.Start.UnixMilli())))
	gr.provisional = nil
}

func (g *gather) end(p *alert.Alert, t time.Time) {
	a := *p
	a.State, a.Reason, a.Updated = alert.Cleared, ReasonRevised, t
	if a.Updated.Before(a.Start) {
		a.Updated = a.Start
	}
	a.End = &a.Updated
	g.emit(alert.Transition{Kind: alert.Ended, Time: a.Updated, Alert: a})
}
