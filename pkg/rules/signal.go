package rules

import (
	"math"
)

// source says what of a series a rule judges.
type source uint8

const (
	ofReading source = iota // the reading
	ofWindow                // an aggregate over a sliding window
	ofFlat                  // for how long the value has not moved, in milliseconds
	ofSilence               // for how long no data came, in milliseconds
	ofState                 // how many levels the state stands for
)

// ages reports whether what the rule judges is a time since something.
func (r *rule) ages() bool { return r.source == ofFlat || r.source == ofSilence }

// aux is what a machine remembers beside its switches: of the readings before, and
// of its rule's schedule.
type aux struct {
	since int64 // the rule judges the series from here on; see also series.since
	tick  int64 // when x changes by itself next, or a time before; never: it does not
	turn  int64 // last millisecond before the schedule changes; never

	last  int64 // time of the newest reading taken in; math.MinInt64: none
	value float64
	x     float64 // judged last, of flat and windows
	// flat: when the value last moved, and from where it is measured
	moved  int64
	anchor float64
	window
}

// window holds as many steps as the width has: those that are over, and in place
// of the oldest the one that runs, once it has a reading. So right at the end of a
// step it holds exactly the width, and in between a part of a step less. It does
// not hold the readings themselves: only what the function needs of each step.
type window struct {
	at   int64  // number of the step that runs: those after at*step up to (at+1)*step
	cur  pane   // readings of that step
	over pane   // of the steps in ring, joined
	done pane   // the same without the oldest
	ring []pane // the steps that are over, oldest at head
	head int
	// rolled is how many steps have come to an end since the state was saved, at most
	// as many as the ring has.
	rolled int
}

// pane is what is kept of a step's readings.
type pane struct {
	v float64 // sum, least, greatest, or first
	t int64   // time of the first
	n uint32  // how many
}

// function is what a window makes of its readings.
type function uint8

const (
	fnSum function = iota
	fnMean
	fnMin
	fnMax
	fnCount
	fnIncrease // sum of what a running total grew by; one that falls began anew
	fnRate     // change per r.per from the first reading to the last
	fnIndex    // an index over means of steps, see index.go
)

// step of a window that t falls into.
func (r *rule) stepOf(t int64) int64 {
	q := (t - 1) / r.step
	if (t-1)%r.step < 0 {
		q--
	}
	return q
}

func (w *window) empty() bool { return w.cur.n == 0 && w.over.n == 0 }

func (w *window) clear() {
	w.cur, w.done, w.over = pane{}, pane{}, pane{}
	clear(w.ring)
	w.rolled = len(w.ring)
}

// join computes what the steps that are over make together.
func (w *window) join(fn function) {
	w.done = pane{}
	for i := 1; i < len(w.ring); i++ {
		k := w.head + i
		if k >= len(w.ring) {
			k -= len(w.ring)
		}
		w.done = fn.join(w.done, w.ring[k])
	}
	w.over = fn.join(w.ring[w.head], w.done)
}

// all joins the steps that the window holds.
func (w *window) all(fn function) pane {
	if w.cur.n == 0 {
		return w.over
	}
	return fn.join(w.done, w.cur)
}

// roll moves the window on to the step.
func (w *window) roll(r *rule, at int64) {
	if at == w.at {
		return
	}
	steps := at - w.at
	w.at = at
	if w.empty() {
		return
	}
	if n := int64(len(w.ring)); steps > n {
		w.clear()
		return
	}
	w.rolled = min(w.rolled+int(steps), len(w.ring))
	for range steps {
		w.ring[w.head] = w.cur
		if w.head++; w.head == len(w.ring) {
			w.head = 0
		}
		w.cur = pane{}
	}
	w.join(r.fn)
}

// join puts two stretches of readings together, p before q.
func (fn function) join(p, q pane) pane {
	switch {
	case q.n == 0:
		return p
	case p.n == 0:
		return q
	}
	switch fn {
	case fnMin:
		p.v = min(p.v, q.v)
	case fnMax:
		p.v = max(p.v, q.v)
	case fnRate, fnCount:
	default:
		p.v += q.v
	}
	p.n += q.n
	return p
}

// add takes a reading into the step that runs.
func (a *aux) add(r *rule, t int64, v float64) {
	a.roll(r, r.stepOf(t))
	c := v
	if r.fn == fnIncrease {
		switch {
		case a.last == math.MinInt64:
			c = 0
		case v >= a.value:
			c = v - a.value
		}
	}
	if p := &a.cur; p.n == 0 {
		*p = pane{v: c, t: t, n: 1}
	} else {
		*p = r.fn.join(*p, pane{v: c, t: t, n: 1})
	}
	a.last, a.value = t, v
}

// result is the window's value at t; none when it has too few readings. Since is
// from when on the edge has looked.
func (a *aux) result(r *rule, t, since int64) (x float64, ok bool) {
	if r.fn == fnIndex {
		return a.indexValue(r)
	}
	if r.full && t-since < r.width {
		return 0, false
	}
	all := a.all(r.fn)
	n := float64(all.n)
	if int(all.n) < r.atLeast {
		return 0, false
	}
	switch r.fn {
	case fnCount:
		return n, true
	case fnSum, fnIncrease:
		return all.v, all.v-all.v == 0
	case fnMean:
		x = all.v / n
	case fnRate:
		if all.n < 2 {
			return 0, false
		}
		x = (a.value - all.v) / float64(a.last-all.t) * float64(r.per)
	default:
		x = all.v
	}
	return x, all.n > 0 && x-x == 0
}

// sense takes a good reading and returns what the machine has to judge.
func (f *Fold) sense(s *series, m *machine, t int64, v float64) (x float64, ok bool) {
	r := s.set.rules[m.rule]
	if r.source == ofState {
		return r.stateOf(v, s.text), true
	}
	a := &f.aux[m.aux]
	if r.source == ofFlat {
		kept := 0.0
		if m.busy != idle && f.busy[m.busy].active > 0 {
			kept = r.levels[f.busy[m.busy].active-1].limit
		}
		a.x = a.flat(r, s.quiet, kept, t, v)
		return a.x, true
	}
	before, empty := a.at, a.empty()
	a.add(r, t, v)
	if empty || a.at != before {
		f.setTick(s, m, a, r)
		f.schedule(s, m, r)
	}
	if r.fn == fnIndex {
		m.blind = false
		if empty || a.at == before {
			return 0, false // it changes with the hour, not with the reading
		}
	}
	if x, ok = a.result(r, t, max(s.since, a.since)); ok {
		a.x = x
	}
	return x, ok
}

// flat returns for how long the value has not moved. A hole that is longer than
// the point may be silent does not count: nobody knows what happened in it. A
// value that is the same afterwards keeps an alert, for which it has to have been
// the same for the time kept.
func (a *aux) flat(r *rule, quiet int64, kept float64, t int64, v float64) float64 {
	moved := math.Abs(v-a.anchor) > r.epsilon
	unknown := a.last == math.MinInt64 || quiet > 0 && t-a.last > quiet
	switch {
	case moved || unknown && kept == 0:
		a.moved, a.anchor = t, v
	case unknown:
		a.moved = t - int64(kept)
	}
	a.last, a.value = t, v
	return float64(t - a.moved)
}

// halt forgets what must not be carried across an unobserved interval.
func (a *aux) halt(r *rule) {
	if r.source == ofFlat {
		a.last = math.MinInt64
	}
}

// reset forgets every reading: time begins anew at since.
func (a *aux) reset(r *rule, since int64) {
	a.since, a.last = since, math.MinInt64
	if r.source == ofWindow {
		a.clear()
		a.at = r.stepOf(since)
	}
}

// alive is the time of the newest sign of life, as the rule understands it, or
// that from which it is missed.
func (r *rule) alive(s *series, a *aux) int64 {
	t := s.good
	if r.bad == badHold {
		t = s.last
	}
	return max(t, s.since, a.since)
}

// setTick computes when x changes by itself next.
func (f *Fold) setTick(s *series, m *machine, a *aux, r *rule) {
	a.tick = never
	if m.off || m.muted || s.since == unbegun {
		return
	}
	switch r.source {
	case ofSilence:
		over := 0
		if m.busy != idle {
			over = int(f.busy[m.busy].over)
		}
		if over < len(r.levels) {
			a.tick = r.alive(s, a) + max(int64(r.levels[over].limit), s.quiet)
		}
	case ofWindow:
		if !a.empty() {
			a.tick = (a.at+1)*r.step + 1
		} else if full := max(s.since, a.since) + r.width; r.full && full > a.at*r.step+1 {
			k := (full - 1) / r.step
			if k*r.step+1 < full {
				k++
			}
			a.tick = k*r.step + 1
		}
	}
}

// tick lets x change by itself at t.
func (f *Fold) tick(s *series, m *machine, a *aux, r *rule, t int64) {
	switch r.source {
	case ofSilence:
		over := 0
		if m.busy != idle {
			over = int(f.busy[m.busy].over)
		}
		if alive := r.alive(s, a); alive+max(int64(r.levels[over].limit), s.quiet) <= t {
			f.step(s, m, r, t, float64(t-alive))
		}
	case ofWindow:
		a.roll(r, r.stepOf(t))
		if x, ok := f.held(s, m, a, r, t); ok {
			f.step(s, m, r, t, x)
		}
	}
	f.setTick(s, m, a, r)
	f.touch(s)
}

// valueOf returns what the machine judges at t, from what it holds.
func (f *Fold) valueOf(s *series, m *machine, r *rule, t int64) float64 {
	switch r.source {
	case ofSilence:
		return float64(t - r.alive(s, &f.aux[m.aux]))
	case ofFlat, ofWindow:
		return f.aux[m.aux].x
	}
	return s.value
}

// turn puts the schedule's change at t into effect.
func (f *Fold) turn(s *series, m *machine, a *aux, r *rule, t int64) {
	m.off = !r.schedule.active(t)
	a.turn = r.schedule.next(t)
	f.touch(s)
	if m.off {
		f.end(s, m, t, ReasonSchedule)
		f.rest(m, r)
		a.tick = never
		return
	}
	f.rest(m, r)
	switch r.source {
	case ofWindow:
		a.roll(r, r.stepOf(t))
	case ofSilence:
		a.since = max(a.since, t) // nobody was expected before
	}
	if x, ok := f.held(s, m, a, r, t); ok && !m.muted {
		f.step(s, m, r, t, x)
	}
	f.setTick(s, m, a, r)
}

// held is the value that holds at t without a reading; none when none is held.
func (f *Fold) held(s *series, m *machine, a *aux, r *rule, t int64) (x float64, ok bool) {
	switch r.source {
	case ofSilence:
		if age := t - r.alive(s, a); age >= s.quiet {
			x = float64(age)
		}
		return x, true
	case ofWindow:
		if x, ok = a.result(r, t, max(s.since, a.since)); ok && (r.full || !m.blind) {
			a.x = x
			return x, true
		}
		return 0, false
	case ofFlat:
		return 0, false
	case ofState:
		return r.stateOf(s.value, s.text), !m.blind
	}
	return s.value, !m.blind
}
