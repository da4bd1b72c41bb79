package rules

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Effective is a rule set and the event time, in milliseconds, from which it
// holds. The first set of a hub holds from math.MinInt64 on, see [Always].
type Effective struct {
	Set  *Set
	From int64
}

// Always is the time from which a hub's first rule set holds.
const Always = math.MinInt64

// The reasons of alerts that did not end by the value.
const (
	ReasonRuleChanged   = "rule changed"      // the rule is gone, or judges otherwise now
	ReasonNotWatched    = "no longer watched" // the rule's where no longer chooses the series
	ReasonSeriesRemoved = "series removed"    // the edge's configuration no longer has it
	ReasonSchedule      = "outside schedule"  // the rule does not judge at this time
	ReasonMaintenance   = "maintenance"       // a technician works on the device
)

// Engine holds the rule sets and makes a [Fold] for every edge. It is safe for
// concurrent use.
type Engine struct {
	emit    func(alert.Transition)
	gather  *gather                     // nil for that of the groups themselves
	clock   atomic.Pointer[ByClock]     // nil when nobody judges by the hub's clock
	inside  func(edge string) bool      // see [Engine.Inside]
	chatter int64                       // window in which activations are counted; 0: they are not
	sets    atomic.Pointer[[]Effective] // ascending by From; replaced, never changed
	_       [64]byte                    // folds read sets at every reading and write newest at every frame
	newest  atomic.Int64                // greatest event time of any fold

	mu    sync.Mutex
	stats map[statKey]*stat
	folds map[string]*account // of the newest fold of each edge
}

type statKey struct{ id, version string }

// stat counts what a rule does, over all folds.
type stat struct {
	matched, active atomic.Int64
	fired           atomic.Uint64
	last            atomic.Int64
}

// NewEngine makes an engine. Emit gets every transition, with the alert as it
// is afterwards and its message in both languages; it is called by the
// goroutine that runs the fold, within Bind, Observe, Unobserved, NewEra or
// Advance, and may block. A transition may be emitted again by a replay after
// a crash; its key is the same then.
func NewEngine(sets []Effective, emit func(alert.Transition)) *Engine {
	e := newEngine(emit)
	e.gather = newGather(emit)
	sorted := slices.Clone(sets)
	slices.SortStableFunc(sorted, func(a, b Effective) int {
		switch {
		case a.From < b.From:
			return -1
		case a.From > b.From:
			return 1
		}
		return 0
	})
	sets = sorted[:0]
	for i, s := range sorted {
		if i+1 == len(sorted) || sorted[i+1].From != s.From { // of equal times the last
			sets = append(sets, s)
		}
	}
	e.use(sets)
	return e
}

func newEngine(emit func(alert.Transition)) *Engine {
	e := &Engine{emit: emit, chatter: chatterWindow, stats: map[statKey]*stat{}, folds: map[string]*account{}}
	e.newest.Store(math.MinInt64)
	e.sets.Store(&[]Effective{})
	return e
}

// use puts the sets in place of those before.
func (e *Engine) use(sets []Effective) {
	e.sets.Store(&sets)
	if c := e.clock.Load(); c != nil {
		c.engine.use(sets)
	}
	if e.gather != nil {
		e.gather.engine.use(sets)
		e.gather.used.Store(slices.ContainsFunc(sets, func(s Effective) bool { return len(s.Set.severals) > 0 }))
	}
}

// tell hands a transition of a fold on.
func (e *Engine) tell(t alert.Transition) {
	e.emit(t)
	if e.gather != nil {
		e.gather.member(t, false)
	}
}

// Expect says which edges the hub knows: rules of kind several wait for them, for
// the time of patience that [Engine.Settle] is given, before the first has been
// heard again after a start.
func (e *Engine) Expect(edges []string, now time.Time) {
	for _, id := range edges {
		e.gather.expect(id, now)
	}
}

// Inside says which edges are sources inside the hub. They lag behind what they
// take in, and are outside promise 2: rules of kind several wait for one only while
// a rule that they count watches one of its series. Call it before the first Open.
func (e *Engine) Inside(is func(edge string) bool) { e.inside = is }

// NeedsRecall reports whether rules of kind several have come that do not know the
// alert log yet.
func (e *Engine) NeedsRecall() bool { return e.gather.used.Load() && !e.gather.recalled.Load() }

// Recall gives the engine the transitions that the alert log has, oldest first, so
// that rules of kind several know what stands. What they raise anew has the keys
// that it had. Call it before the first fold is opened.
func (e *Engine) Recall(list []alert.Transition) {
	e.gather.recalled.Store(true)
	for i := range list {
		e.gather.recall(list[i])
	}
}

// Settle lets rules of kind several go on without the edges that have not
// advanced for the time of patience, by the hub's clock. Call it every second.
func (e *Engine) Settle(now time.Time, patience time.Duration) { e.gather.tick(now, patience) }

// Add puts a further set into effect. Its From must lie after that of every
// set before, and should lie after [Engine.Newest]: an edge that has passed it
// already changes over at the next reading of each series instead, and a replay
// after a crash would not. Folds see the set with their next call.
func (e *Engine) Add(s Effective) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := *e.sets.Load()
	if n := len(old); n > 0 && s.From <= old[n-1].From {
		return fmt.Errorf("rule set %s takes effect at %d, not after the one before (%d)", s.Set.ID(), s.From, old[n-1].From)
	}
	e.use(append(slices.Clone(old), s))
	return nil
}

// Drop forgets the sets that took effect before the newest one with From at or
// below t, and returns how many. Readings from before the oldest set that is left
// are judged by none, unless their series has a set already.
func (e *Engine) Drop(t int64) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := *e.sets.Load()
	n := 0
	for n+1 < len(old) && old[n+1].From <= t {
		n++
	}
	if n == 0 {
		return 0
	}
	sets := slices.Clone(old[n:])
	e.use(sets)
	return n
}

// Sets returns the sets in the order in which they take effect.
func (e *Engine) Sets() []Effective { return slices.Clone(*e.sets.Load()) }

// Newest returns the greatest event time that any fold has seen, math.MinInt64
// before the first.
func (e *Engine) Newest() int64 { return e.newest.Load() }

func (e *Engine) seen(t int64) {
	for {
		old := e.newest.Load()
		if t <= old || e.newest.CompareAndSwap(old, t) {
			return
		}
	}
}

// Rules describes the rules of the newest set, sorted by id, with their counts.
func (e *Engine) Rules() []RuleInfo {
	sets := *e.sets.Load()
	if len(sets) == 0 {
		return nil
	}
	set := sets[len(sets)-1].Set
	infos := set.Rules()
	byID := map[string]*RuleInfo{}
	for i := range infos {
		byID[infos[i].ID] = &infos[i]
		infos[i].FillingUntil = e.fillingUntil(sets, infos[i].ID)
	}
	e.count(set, byID)
	if e.gather != nil {
		e.gather.engine.count(set, byID)
	}
	if c := e.clock.Load(); c != nil {
		c.engine.count(set, byID)
		c.describe(byID)
	}
	return infos
}

// fillingUntil is when the windows of a rule of the newest set are full that began
// empty with it; zero when they have been, or go on with what another had gathered.
func (e *Engine) fillingUntil(sets []Effective, id string) time.Time {
	newest := &sets[len(sets)-1]
	r := newest.Set.rules[newest.Set.byID[id]]
	if r.source != ofWindow || newest.From == Always || newest.From+r.width <= e.Newest() {
		return time.Time{}
	}
	if len(sets) > 1 {
		for _, o := range sets[len(sets)-2].Set.rules {
			if o.quantity == r.quantity && r.sameWindow(o) {
				return time.Time{}
			}
		}
	}
	return at(newest.From + r.width)
}

// count adds what the engine's own folds have done.
func (e *Engine) count(set *Set, byID map[string]*RuleInfo) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range set.rules {
		s := e.stats[statKey{r.id, r.version}]
		if s == nil {
			continue
		}
		info := byID[r.id]
		info.Matched += int(s.matched.Load())
		info.Active += int(s.active.Load())
		if n := s.fired.Load(); n > 0 {
			info.Fired += n
			if at := time.UnixMilli(s.last.Load()).UTC(); at.After(info.LastFired) {
				info.LastFired = at
			}
		}
	}
}

// account is what one fold has added to the stats, so that it can be taken
// away again when another fold takes the edge over.
type account struct {
	engine *Engine
	mu     sync.Mutex
	closed bool
	counts map[*stat]*[2]int64 // matched, active
}

func (e *Engine) newAccount(edge string) *account {
	a := &account{engine: e, counts: map[*stat]*[2]int64{}}
	e.mu.Lock()
	old := e.folds[edge]
	e.folds[edge] = a
	e.mu.Unlock()
	if old != nil {
		old.close()
	}
	return a
}

func (e *Engine) stat(r *rule) *stat {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := statKey{r.id, r.version}
	s := e.stats[k]
	if s == nil {
		s = &stat{}
		s.last.Store(math.MinInt64)
		e.stats[k] = s
	}
	return s
}

func (a *account) add(r *rule, matched, active int64) {
	s := a.engine.stat(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	c := a.counts[s]
	if c == nil {
		c = &[2]int64{}
		a.counts[s] = c
	}
	c[0] += matched
	c[1] += active
	s.matched.Add(matched)
	s.active.Add(active)
}

func (a *account) fired(r *rule, t int64) {
	s := a.engine.stat(r)
	s.fired.Add(1)
	for {
		old := s.last.Load()
		if t <= old || s.last.CompareAndSwap(old, t) {
			return
		}
	}
}

func (a *account) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.closed = true
	for s, c := range a.counts {
		s.matched.Add(-c[0])
		s.active.Add(-c[1])
	}
}
