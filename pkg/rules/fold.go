package rules

import (
	"math"
	"slices"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Fold is the rules' state for one edge: a fold over its log. It belongs to one
// goroutine at a time.
type Fold struct {
	engine  *Engine
	edge    string
	account *account
	looked  *[]Effective // the engine's sets as of the last look
	sets    []Effective  // the same

	series []series
	bound  bool

	w       int64 // watermark
	floor   int64 // rule sets from before have been passed in an earlier era
	soonest int64 // no series has to pass anything before the watermark is here, less 1
	busy    []busyState
	spare   []int32 // free entries of busy
	timers  timers
	// breaks are the unobserved intervals that some series has yet to pass: the
	// first time after each beginning. Series count them from firstBreak on.
	breaks     []int64
	firstBreak int

	chatter chatter

	saved  savedState // from Open, until the first Bind
	opened []byte     // what Open got, until the first Bind
	dirty  bool
	savedW int64
	stats  FoldStats
}

// FoldStats counts the readings that a fold did not evaluate.
type FoldStats struct {
	Bad     uint64 // bad quality or not finite: the state was held
	Late    uint64 // not after the series' newest, or not after the watermark
	Unknown uint64 // of no bound series
}

type seriesName struct{ device, point string }

// series is one series of the edge, with its machines.
type series struct {
	last     int64   // time of the newest reading
	value    float64 // the newest that was not bad
	until    int64   // a reading at or after this first needs [Fold.pass]
	lag      int64
	machines []machine
	set      *Set                   // in force; nil before the first
	from     int64                  // since when
	next     int                    // number of the next break
	bound    *telemetry.BoundSeries // of the list given to Bind
}

// Open makes the fold of an edge, from the bytes that [Fold.Save] returned for
// it, or from nothing. The error says that the bytes cannot be read; the edge
// then has to be folded anew, from nothing. A later Open for the same edge takes
// the edge's place in the engine's counts.
func (e *Engine) Open(edge string, saved []byte) (*Fold, error) {
	f := &Fold{engine: e, edge: edge, w: math.MinInt64, floor: math.MinInt64, savedW: math.MinInt64, soonest: never, chatter: chatter{next: never}}
	f.look()
	if len(saved) > 0 {
		if err := f.decode(saved); err != nil {
			return nil, err
		}
		f.opened = slices.Clone(saved)
	}
	f.account = e.newAccount(edge)
	return f, nil
}

// Close takes the fold out of the engine's counts. The fold ends no alerts and
// must not be used afterwards.
func (f *Fold) Close() { f.account.close() }

// Stats returns what the fold did not evaluate since it was opened.
func (f *Fold) Stats() FoldStats { return f.stats }

// Watermark returns the watermark, math.MinInt64 before the first.
func (f *Fold) Watermark() int64 { return f.w }

// reached is the time up to which every reading of the series has been seen.
func (f *Fold) reached(s *series) int64 {
	if f.w == math.MinInt64 {
		return f.w
	}
	return f.w - s.lag
}

// Observe evaluates a reading of a bound series (its index in Bind) at event
// time t. Readings of a series come in order of their times and on time; one
// that is not after the series' newest reading, or not after the watermark, is
// counted and left out.
func (f *Fold) Observe(index uint32, t int64, v float64, q telemetry.Quality) {
	if uint64(index) >= uint64(len(f.series)) {
		f.stats.Unknown++
		return
	}
	if f.looked != f.engine.sets.Load() {
		f.look()
	}
	s := &f.series[index]
	if t <= s.last || f.w >= t && f.reached(s) >= t {
		f.stats.Late++
		return
	}
	if t >= s.until {
		f.pass(s, t)
	}
	s.last = t
	if q.IsBad() || v-v != 0 { // NaN and infinities minus themselves are NaN
		f.stats.Bad++
		return
	}
	before := s.value
	s.value = v
	for k := range s.machines {
		m := &s.machines[k]
		if m.due < t {
			s.value = before // a delay that ends before t ends at the value held then
			f.fire(s, m, t-1)
			s.value = v
		}
		x := v
		if m.flip {
			x = -v
		}
		if x > m.hi || x <= m.lo || m.busy != idle && x > f.busy[m.busy].peak {
			f.step(index, s, m, t, x)
		}
	}
}

// Advance moves the watermark: every reading up to w, less the series' lag, has
// been observed. Delays due by then end. It never goes back.
func (f *Fold) Advance(w int64) {
	if w <= f.w {
		return
	}
	f.w = w
	f.engine.seen(w)
	f.look()
	f.passAll()
	f.fireTimers()
	f.endWindows()
}

// look takes over the engine's sets if there are new ones.
func (f *Fold) look() {
	p := f.engine.sets.Load()
	if p == f.looked {
		return
	}
	f.looked, f.sets = p, *p
	f.findUntil()
}

// fireTimers ends the delays that the watermark has reached, earliest first.
func (f *Fold) fireTimers() {
	for len(f.timers) > 0 && f.timers[0].at <= f.w {
		e := f.timers.pop()
		b := &f.busy[e.busy]
		if b.slot == free || b.queued != e.at {
			continue
		}
		b.queued = never
		s := &f.series[b.series]
		m := &s.machines[b.slot]
		f.fire(s, m, e.at-s.lag)
		if m.due != never {
			f.schedule(s, m, b, s.set.rules[m.rule])
		}
	}
}

// Unobserved says that the edge did not look between from and to: delays due by
// from end, others begin anew with the next reading. Call it in the order of the
// log, before readings after from are observed. When to lies before from, log
// time has stepped back: then it is [Fold.NewEra].
func (f *Fold) Unobserved(from, to int64) {
	if to < from {
		f.NewEra(from, to)
		return
	}
	if from == math.MaxInt64 {
		return
	}
	f.look()
	at := from + 1
	if n := len(f.breaks); n > 0 {
		at = max(at, f.breaks[n-1])
	}
	f.breaks = append(f.breaks, at)
	f.findUntil()
	f.dirty = true
	f.passAll()
}

// NewEra says that the edge's log time stepped from one time to another, in
// either direction: like an unobserved interval, and time begins anew at to.
// Call it in the order of the log, between the frames of the two eras.
func (f *Fold) NewEra(from, to int64) {
	f.Unobserved(from, max(from, to))
	end := from + 1
	if n := len(f.breaks); n > 0 {
		end = max(end, f.breaks[n-1])
	}
	for i := range f.series {
		s := &f.series[i]
		f.pass(s, end) // in this era no reading is to come
		s.last, s.next = math.MinInt64, 0
	}
	f.floor = max(f.floor, end)
	f.w = to - 1
	f.breaks, f.firstBreak = f.breaks[:0], 0
	f.timers = f.timers[:0] // all delays have begun anew
	for i := range f.busy {
		f.busy[i].queued = never
	}
	f.findUntil()
	f.dirty = true
}

// nextBreak returns when the series has to pass a break, never when there is
// none.
func (f *Fold) nextBreak(s *series) int64 {
	if i := s.next - f.firstBreak; i < len(f.breaks) {
		return f.breaks[i]
	}
	return never
}

// nextSet returns the set that the series changes over to next, nil when there
// is none.
func (f *Fold) nextSet(s *series) *Effective {
	for i := range f.sets {
		if s.set == nil || f.sets[i].From > s.from {
			return &f.sets[i]
		}
	}
	return nil
}

func (f *Fold) setUntil(s *series) {
	s.until = f.nextBreak(s)
	if set := f.nextSet(s); set != nil {
		s.until = min(s.until, set.From)
	}
	if s.until < never-s.lag {
		f.soonest = min(f.soonest, s.until+s.lag)
	}
}

// findUntil computes the until of every series, and soonest.
func (f *Fold) findUntil() {
	f.soonest = never
	for i := range f.series {
		f.setUntil(&f.series[i])
	}
}

// pass takes the series over what lies at or before t: breaks and changes of
// the rule set, in their order.
func (f *Fold) pass(s *series, t int64) {
	for s.until <= t && s.until != never {
		if set := f.nextSet(s); set != nil && set.From < f.nextBreak(s) {
			f.changeOver(s, *set)
		} else {
			at := f.nextBreak(s)
			for k := range s.machines {
				f.fire(s, &s.machines[k], at-1)
				f.halt(s, &s.machines[k])
				f.interrupt(s, &s.machines[k], at-1)
			}
			s.next++
		}
		f.setUntil(s)
	}
}

// passAll takes every series over what the watermark has passed, and forgets
// the breaks that all have behind them.
func (f *Fold) passAll() {
	if f.w == math.MinInt64 || f.soonest > f.w && f.soonest-1 > f.w {
		return
	}
	f.soonest = never
	passed := f.firstBreak + len(f.breaks)
	for i := range f.series {
		s := &f.series[i]
		f.pass(s, f.reached(s)+1)
		f.setUntil(s)
		passed = min(passed, s.next)
	}
	if n := passed - f.firstBreak; n > 0 {
		f.breaks = slices.Delete(f.breaks, 0, n)
		f.firstBreak = passed
		f.dirty = true
	}
}
