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
	looked   *[]Effective // the engine's sets as of the last look
	tallies  []*tally     // of all rules of kind several in these
	fold     *Fold
	settled  int64
	edges    map[string]*gatherEdge
	pending  []memberStep
	keys     map[string]bool   // of pending
	standing map[string]member // as settled
	ahead    map[string]ahead  // of those with pending steps
	groups   map[groupKey]*group
	order    []groupKey
	leftOut  []string
	late     uint64
}

type gatherEdge struct {
	w     int64     // counted up to here
	heard int64     // its watermark, which may have stepped back since
	seen  time.Time // hub's clock when that moved
}

// memberStep is what an alert became at a time: of a severity, or None.
type memberStep struct {
	t      int64
	key    string
	member member
}

type member struct {
	id       string
	severity alert.Severity
	alert    *alert.Alert
	places   []place // none when it has ended
}

// ahead is where a member counts after its pending steps, and how many these are.
type ahead struct {
	places []place
	steps  int
}

type groupKey struct{ rule, group string }

type group struct {
	number      uint32 // of its series
	provisional *alert.Alert
	active      bool // as settled
}

func newGather(emit func(alert.Transition)) *gather {
	g := &gather{
		emit: emit, settled: math.MinInt64, edges: map[string]*gatherEdge{}, keys: map[string]bool{},
		standing: map[string]member{}, ahead: map[string]ahead{}, groups: map[groupKey]*group{},
	}
	g.engine = newEngine(g.settledStep)
	g.engine.chatter = 0
	g.fold = g.engine.openFold("")
	return g
}

// look takes over the engine's sets if there are new ones: counts are kept ready for
// every rule that holds anywhere, or will.
func (g *gather) look() {
	p := g.engine.sets.Load()
	if p == g.looked {
		return
	}
	g.looked, g.tallies = p, nil
	for _, e := range *p {
		for _, i := range e.Set.severals {
			r := e.Set.rules[i]
			same := func(t *tally) bool { return t.rule.id == r.id && t.rule.version == r.version }
			if slices.ContainsFunc(g.tallies, same) {
				continue
			}
			g.tallies = append(g.tallies, &tally{rule: r})
		}
	}
	for id, m := range g.standing {
		m.places = g.placesOf(&m)
		g.standing[id] = m
		for _, p := range m.places {
			p.in.settled.add(&p, 1)
			p.in.ahead.add(&p, 1)
		}
	}
	clear(g.ahead)
	for i := range g.pending {
		m := &g.pending[i].member
		m.places = g.placesOf(m)
		g.goAhead(m)
	}
}

// goAhead puts a step that is pending into what counts ahead.
func (g *gather) goAhead(m *member) {
	was := g.ahead[m.id]
	if was.steps == 0 {
		was.places = g.standing[m.id].places
	}
	g.ahead[m.id] = ahead{m.places, was.steps + 1}
	for _, p := range was.places {
		p.in.ahead.add(&p, -1)
	}
	for _, p := range m.places {
		p.in.ahead.add(&p, 1)
	}
}

// member takes a step of an alert of another rule; recalled says that it comes
// from the alert log, and has been told before.
func (g *gather) member(t alert.Transition, recalled bool) {
	if !g.used.Load() {
		return
	}
	m := member{id: t.Alert.ID, severity: t.Alert.Severity}
	switch t.Kind {
	case alert.Raised, alert.SeverityChanged:
	case alert.Ended:
		m.severity = alert.None
	default:
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look()
	if !g.counts(t.Alert.Rule) {
		return
	}
	step := memberStep{t: t.Time.UnixMilli(), key: t.Key(), member: m}
	if t.Counted != nil {
		step.t = t.Counted.UnixMilli()
	}
	switch {
	case g.keys[step.key]:
		return
	case step.t <= g.settled:
		g.late++ // of a replay, or of an edge that was not waited for
		return
	}
	a := t.Alert
	step.member.alert = &a
	step.member.places = g.placesOf(&step.member)
	g.keys[step.key] = true
	i, _ := slices.BinarySearchFunc(g.pending, step, func(a, b memberStep) int {
		if d := compareSteps(a, b); d != 0 {
			return d
		}
		return -1 // of one alert in the order in which they are told
	})
	g.pending = slices.Insert(g.pending, i, step)
	g.goAhead(&step.member)
	if !recalled {
		g.foresee(&step, i == len(g.pending)-1)
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
		switch gr := g.group(key); {
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
	return slices.ContainsFunc(g.tallies, func(t *tally) bool { return t.rule.several.Of.match(rule) })
}

func compareSteps(a, b memberStep) int {
	return cmp.Or(cmp.Compare(a.t, b.t), strings.Compare(a.member.id, b.member.id))
}

// expect says that the edge will take part, though it has not been heard yet.
func (g *gather) expect(edge string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.edges[edge] == nil {
		g.edges[edge] = &gatherEdge{w: math.MinInt64, heard: math.MinInt64, seen: now}
	}
}

// advance says that the edge has told everything up to w, and that earlier eras of
// its log time have come up to floor.
func (g *gather) advance(edge string, w, floor int64) {
	if !g.used.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look()
	e := g.edges[edge]
	if e == nil {
		e = &gatherEdge{w: math.MinInt64, heard: math.MinInt64}
		g.edges[edge] = e
	}
	if w != e.heard {
		e.heard, e.seen = w, time.Time{}
	}
	if floor > w {
		w = floor - 1
	}
	if w <= e.w {
		return
	}
	e.w = w
	g.settle(func(*gatherEdge) bool { return false })
}

// part is whether a source inside the hub takes part, as of the sets.
type part struct {
	of    *[]Effective
	takes bool
}

// count tells how far the fold has got.
func (f *Fold) count(g *gather) {
	if in := f.engine.inside; in != nil && g.used.Load() && in(f.edge) {
		if f.part.of != f.looked {
			f.part = part{f.looked, g.watches(f.series)}
		}
		if !f.part.takes {
			g.leave(f.edge)
			return
		}
	}
	g.advance(f.edge, f.counted, f.floor)
}

// watches reports whether a rule that is counted watches one of the series, now or
// once a set takes effect.
func (g *gather) watches(list []series) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look()
	for _, e := range *g.looked {
		for i := range list {
			for _, r := range e.Set.matching(list[i].bound) {
				if g.counts(e.Set.rules[r].id) {
					return true
				}
			}
		}
	}
	return false
}

// leave says that nothing that counts will come from the edge.
func (g *gather) leave(edge string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.edges[edge] != nil {
		g.look()
		delete(g.edges, edge)
		g.settle(func(*gatherEdge) bool { return false })
	}
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
		g.settled = first
	}
	for _, e := range *g.looked {
		if e.From > g.settled && e.From <= w {
			g.judge(e.From - 1)
			g.takeUp(e)
		}
	}
	g.judge(w)
	g.settled = w
	g.fold.Advance(w)
	for _, key := range g.order {
		if p := g.groups[key].provisional; p != nil && p.Start.UnixMilli() <= w {
			g.revise(key, w)
		}
	}
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

// judge judges what happens up to w.
func (g *gather) judge(w int64) {
	n := 0
	for n < len(g.pending) && g.pending[n].t <= w {
		t := g.pending[n].t
		var changed []groupKey
		for ; n < len(g.pending) && g.pending[n].t == t; n++ {
			changed = g.apply(&g.pending[n], changed)
		}
		g.observe(changed, t)
	}
	g.pending = slices.Delete(g.pending, 0, n)
}

// takeUp judges what stands where a rule set takes effect, with what happens just
// then.
func (g *gather) takeUp(e Effective) {
	var keys []groupKey
	n := 0
	for ; n < len(g.pending) && g.pending[n].t == e.From; n++ {
		keys = g.apply(&g.pending[n], keys)
	}
	g.pending = slices.Delete(g.pending, 0, n)
	for _, i := range e.Set.severals {
		r := e.Set.rules[i]
		if in := g.tallyAt(r.id, e.From); in != nil {
			for name := range in.settled {
				keys = append(keys, groupKey{r.id, name})
			}
		}
	}
	g.observe(keys, e.From)
}

// observe shows the counts of groups at t to their rules.
func (g *gather) observe(keys []groupKey, t int64) {
	slices.SortFunc(keys, func(a, b groupKey) int {
		return cmp.Or(strings.Compare(a.rule, b.rule), strings.Compare(a.group, b.group))
	})
	for _, key := range slices.Compact(keys) {
		g.fold.Observe(g.group(key).number, t, float64(g.things(key, t)), 0)
	}
}

// apply puts a step into effect, and adds the groups whose count it may change.
func (g *gather) apply(s *memberStep, changed []groupKey) []groupKey {
	delete(g.keys, s.key)
	m := &s.member
	was := g.standing[m.id]
	if a := g.ahead[m.id]; a.steps > 1 {
		g.ahead[m.id] = ahead{a.places, a.steps - 1}
	} else {
		delete(g.ahead, m.id)
	}
	for _, p := range was.places {
		p.in.settled.add(&p, -1)
	}
	for _, p := range m.places {
		p.in.settled.add(&p, 1)
	}
	if m.severity == alert.None {
		delete(g.standing, m.id)
	} else {
		g.standing[m.id] = *m
	}
	for _, places := range [][]place{was.places, m.places} {
		for _, p := range places {
			changed = append(changed, groupKey{p.in.rule.id, p.group})
		}
	}
	return changed
}

// group returns the state of a group, which is made when it is new.
func (g *gather) group(key groupKey) *group {
	gr := g.groups[key]
	if gr == nil {
		gr = &group{number: uint32(len(g.order))}
		g.groups[key] = gr
		g.order = append(g.order, key)
		list := make([]telemetry.BoundSeries, len(g.order))
		for i, k := range g.order {
			list[i] = k.series()
		}
		g.fold.Bind(list)
	}
	return gr
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
