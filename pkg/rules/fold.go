package rules

import (
	"math"
	"slices"
	"strings"

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

	series  []series
	watched []bool // by some rule, for each series
	untold  int64  // a reading of an unwatched series at or after this may matter
	bound   bool

	w       int64 // watermark
	floor   int64 // rule sets from before have been passed in an earlier era
	soonest int64 // no series has to pass anything before the watermark is here, less 1
	busy    []busyState
	spare   []int32 // free entries of busy
	aux     []aux
	auxFree []int32
	timers  timers
	// breaks are the unobserved intervals that some series has yet to pass. Series
	// count them from firstBreak on.
	breaks     []pause
	firstBreak int

	chatter chatter
	lag     int64 // greatest of any series
	counted int64 // rules of kind several have been told that all is known up to here
	part    part
	broken  int64 // what happens now does because an unobserved interval begins here

	journal journal
	saved   savedState // from Open, until the first Bind
	opened  []byte     // what Open got, until the first Bind
	dirty   bool
	savedW  int64
	stats   FoldStats
}

// FoldStats counts the readings that a fold did not evaluate.
type FoldStats struct {
	Bad     uint64 // bad quality or not finite: the state was held
	Late    uint64 // not after the series' newest, or not after the watermark
	Unknown uint64 // of no bound series
}

type seriesName struct{ device, point string }

// pause is an unobserved interval: the first time after it began, and when it ended.
type pause struct{ at, to int64 }

// unbegun is the since of a series before the edge's first watermark.
const unbegun = math.MinInt64

// series is one series of the edge, with its machines.
type series struct {
	last     int64   // time of the newest reading
	value    float64 // the newest that was not bad
	until    int64   // a reading at or after this first needs [Fold.pass]
	due      int64   // nothing happens to a machine by itself before
	machines []machine
	good     int64 // time of value
	since    int64 // the edge looks since; unbegun
	lag      int64
	quiet    int64 // the longest time without a reading that means nothing; 0: any may
	index    uint32
	number   int                    // in the saved state; unnumbered
	changed  bool                   // since it was saved
	keeps    bool                   // readings change what has to be saved
	muted    bool                   // some machine is
	text     string                 // the newest that was not bad, of a series of texts
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
	f, err := e.openState(edge, saved)
	if err != nil {
		return nil, err
	}
	f.account = e.newAccount(edge)
	return f, nil
}

// openFold is Open for a fold without saved state.
func (e *Engine) openFold(edge string) *Fold {
	f, _ := e.Open(edge, nil) // nothing to read
	return f
}

func (e *Engine) openState(edge string, saved []byte) (*Fold, error) {
	f := &Fold{engine: e, edge: edge, w: math.MinInt64, floor: math.MinInt64, savedW: math.MinInt64, counted: math.MinInt64, broken: math.MinInt64, soonest: never, chatter: chatter{next: never}}
	f.look()
	if len(saved) > 0 {
		if err := f.decode(saved); err != nil {
			return nil, err
		}
		f.opened = slices.Clone(saved)
	}
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
	if f.unwatched(index, t) {
		return
	}
	s := f.take(index, t)
	if s == nil {
		return
	}
	if q != 0 || v-v != 0 { // NaN and infinities minus themselves are NaN
		if !f.usable(s, t, v, q) {
			return
		}
	} else if s.muted {
		f.unmute(s, t)
	}
	s.value, s.good = v, t
	f.compare(s, t, v)
}

// ObserveText is Observe for a reading of a series of texts. Only rules of kind
// state look at them, and those that ask for their presence.
func (f *Fold) ObserveText(index uint32, t int64, text string, q telemetry.Quality) {
	if f.unwatched(index, t) {
		return
	}
	s := f.take(index, t)
	if s == nil || !f.usable(s, t, 0, q) {
		return
	}
	if s.text != text {
		s.text = strings.Clone(text)
	}
	s.good = t
	f.compare(s, t, 0)
}

// unwatched reports whether no rule looks at the series, and none begins to with
// this reading.
func (f *Fold) unwatched(index uint32, t int64) bool {
	return uint64(index) < uint64(len(f.watched)) && !f.watched[index] && t < f.untold && f.looked == f.engine.sets.Load()
}

// take makes the series ready for a reading at t, or returns nil when it is to be
// left out.
func (f *Fold) take(index uint32, t int64) *series {
	if uint64(index) >= uint64(len(f.series)) {
		f.stats.Unknown++
		return nil
	}
	if f.looked != f.engine.sets.Load() {
		f.look()
	}
	s := &f.series[index]
	if t <= s.last || f.w >= t && f.reached(s) >= t {
		f.stats.Late++
		return nil
	}
	if s.since == unbegun {
		f.begin(s, t-1)
	}
	if t >= s.until {
		f.pass(s, t)
	}
	if s.due < t {
		f.fireSeries(s, t-1) // what ends before t ends at the value held then
	}
	s.last = t
	if s.keeps {
		f.touch(s)
	}
	return s
}

// compare shows the series' new value to its machines.
func (f *Fold) compare(s *series, t int64, v float64) {
	for k := range s.machines {
		m := &s.machines[k]
		x := v
		if m.mode != modePlain {
			if m.muted {
				continue
			}
			x = 0
			if m.mode == modeSense {
				var ok bool
				if x, ok = f.sense(s, m, t, v); !ok {
					continue
				}
			}
		}
		if x < m.lo || x > m.hi {
			f.judge(s, m, t, x)
		}
	}
}

// usable says whether a reading that is not simply good is to be judged, and does
// to each machine what its rule wants done when it is not.
func (f *Fold) usable(s *series, t int64, v float64, q telemetry.Quality) bool {
	bad := q.IsBad() || v-v != 0
	works := q.Reason() == telemetry.ReasonMaintenance
	if s.muted && !works {
		f.unmute(s, t)
	}
	if bad {
		f.stats.Bad++
	} else if !works {
		return true
	}
	judged := !bad
	for k := range s.machines {
		m := &s.machines[k]
		r := s.set.rules[m.rule]
		switch {
		case works && !r.throughWork:
			f.mute(s, m, r, t)
		case bad && r.bad == badNoData:
			f.halt(s, m, r, t)
		case bad && r.bad == badHold && r.source == ofSilence:
			// A sign of life all the same.
			if 0 < m.lo {
				f.judge(s, m, t, 0)
			}
		}
	}
	return judged
}

// Advance moves the watermark: every reading up to w, less the series' lag, has
// been observed. Delays due by then end. It never goes back.
func (f *Fold) Advance(w int64) {
	if w <= f.w {
		return
	}
	first := f.w == math.MinInt64
	f.w = w
	f.engine.seen(w)
	f.look()
	if first {
		for i := range f.series {
			f.begin(&f.series[i], f.reached(&f.series[i]))
		}
	}
	f.passAll()
	f.fireTimers()
	f.endWindows()
	if g := f.engine.gather; g != nil {
		f.counted = w - f.lag
		f.count(g)
	}
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
		s := &f.series[e.series]
		if int(e.slot) >= len(s.machines) || s.machines[e.slot].queued != e.at {
			continue
		}
		m := &s.machines[e.slot]
		m.queued = never
		f.fire(s, m, e.at-s.lag)
		f.schedule(s, m, s.set.rules[m.rule])
	}
}

// begin says that the edge looks at the series since t.
func (f *Fold) begin(s *series, t int64) {
	if s.since != unbegun {
		return
	}
	s.since = t
	f.touch(s)
	for k := range s.machines {
		f.beginMachine(s, &s.machines[k], t)
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
		at = max(at, f.breaks[n-1].at)
	}
	f.breaks = append(f.breaks, pause{at, to})
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
		end = max(end, f.breaks[n-1].at)
	}
	f.timers = f.timers[:0]
	for i := range f.series {
		s := &f.series[i]
		f.pass(s, end) // in this era no reading is to come
	}
	f.floor = max(f.floor, end)
	for i := range f.series {
		s := &f.series[i]
		s.last, s.good, s.since, s.next, s.due = math.MinInt64, math.MinInt64, to, 0, never
		for k := range s.machines {
			m := &s.machines[k]
			m.queued = never
			f.beginMachine(s, m, to)
			s.due = min(s.due, m.due)
		}
	}
	f.w = to - 1
	f.journal.whole = true
	f.breaks, f.firstBreak = f.breaks[:0], 0
	f.findUntil()
	f.dirty = true
}

// nextBreak returns when the series has to pass a break, never when there is
// none.
func (f *Fold) nextBreak(s *series) int64 {
	if i := s.next - f.firstBreak; i < len(f.breaks) {
		return f.breaks[i].at
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
	f.untold = min(f.untold, s.until)
	if s.until < never-s.lag {
		f.soonest = min(f.soonest, s.until+s.lag)
	}
}

// findUntil computes the until of every series, and soonest.
func (f *Fold) findUntil() {
	f.soonest, f.untold = never, never
	for i := range f.series {
		f.setUntil(&f.series[i])
	}
}

// pass takes the series over what lies at or before t: breaks and changes of
// the rule set, in their order.
func (f *Fold) pass(s *series, t int64) {
	for s.until <= t && s.until != never {
		if set := f.nextSet(s); set != nil && set.From <= f.nextBreak(s) {
			f.changeOver(s, *set)
		} else {
			b := f.breaks[s.next-f.firstBreak]
			f.fireSeries(s, b.at-1)
			s.since = max(s.since, b.to)
			f.touch(s)
			for k := range s.machines {
				f.halt(s, &s.machines[k], s.set.rules[s.machines[k].rule], b.at)
				f.interrupt(s, &s.machines[k], b.at-1)
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
	f.soonest, f.untold = never, never
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
