package rules

import (
	"math"

	"github.com/langbiang/langbiang/pkg/alert"
)

// never is the due time of a machine that waits for nothing.
const never = math.MaxInt64

// machine is one rule on one series. Nothing changes while lo <= x <= hi, where x
// is the judged value: so a reading costs two comparisons nearly always. An empty
// interval (lo above hi) makes the next reading be looked at.
type machine struct {
	lo, hi float64
	due    int64 // nothing happens by itself before; never: nothing will
	queued int64 // time of its valid entry in the timers; never: none
	busy   int32 // index of its state in Fold.busy; idle: nothing is over or active
	aux    int32 // index of its state in Fold.aux; idle: the rule needs none
	rule   uint16
	slot   uint16 // of the machine in its series
	mode   uint8  // what x is, see the constants
	blind  bool   // no held value: none came yet, or an unobserved interval ended it
	muted  bool   // by the reason maintenance, until a reading without it
	off    bool   // outside of the rule's schedule
}

const idle = -1

// What a machine's x is at a reading.
const (
	modePlain  = iota // the reading's value
	modeSense         // what [Fold.sense] makes of it
	modeSilent        // 0: the age of the newest reading
)

// busyState is the state of a machine that is not idle.
type busyState struct {
	since        [maxLevels]int64 // when the level's switch last moved
	onset, start int64            // of the alert; valid while active > 0
	peak         float64          // worst x since onset
	over, active uint8            // how many levels are over, and active
}

// judge takes the x of a reading at t that the machine has to look at. Delays due
// before t have ended already.
func (f *Fold) judge(s *series, m *machine, t int64, x float64) {
	if m.muted {
		return
	}
	m.blind = false
	if m.off {
		m.lo, m.hi = math.Inf(-1), math.Inf(1)
		return
	}
	f.step(s, m, s.set.rules[m.rule], t, x)
}

// step moves the machine's switches to x at t.
func (f *Fold) step(s *series, m *machine, r *rule, t int64, x float64) {
	was := uint8(0)
	if m.busy != idle {
		was = f.busy[m.busy].over
	}
	over := r.climb(x, was)
	if m.busy == idle {
		if over == 0 {
			m.lo, m.hi = r.quiet(0, false, 0)
			return
		}
		f.wake(s, m)
	}
	b := &f.busy[m.busy]
	for k := min(was, over); k < max(was, over); k++ {
		b.since[k] = t
	}
	if was == 0 && b.active == 0 || r.worse(x) > r.worse(b.peak) {
		b.peak = x
	}
	b.over = over
	f.touch(s)
	if over != was {
		f.settle(s, m, b, r, t)
	}
	f.rest(m, r)
	if over != was {
		if r.source == ofSilence {
			f.setTick(s, m, &f.aux[m.aux], r)
		}
		f.schedule(s, m, r)
	}
}

// wake gives an idle machine a fresh state.
func (f *Fold) wake(s *series, m *machine) {
	s.keeps = true
	if n := len(f.spare); n > 0 {
		m.busy, f.spare = f.spare[n-1], f.spare[:n-1]
	} else {
		f.busy = append(f.busy, busyState{})
		m.busy = int32(len(f.busy) - 1)
	}
	f.busy[m.busy] = busyState{}
}

// rest makes the machine idle when nothing of it is over or active, and sets its
// quiet interval.
func (f *Fold) rest(m *machine, r *rule) {
	over, peak := uint8(0), 0.0
	if m.busy != idle {
		b := &f.busy[m.busy]
		if over, peak = b.over, b.peak; over == 0 && b.active == 0 {
			f.release(m)
		}
	}
	f.hush(m, r, over, peak)
}

// hush sets the interval of values that change nothing.
func (f *Fold) hush(m *machine, r *rule, over uint8, peak float64) {
	switch {
	case m.blind || m.muted:
		m.lo, m.hi = math.Inf(1), math.Inf(-1)
	case m.off:
		m.lo, m.hi = math.Inf(-1), math.Inf(1)
	default:
		m.lo, m.hi = r.quiet(over, m.busy != idle, peak)
	}
}

func (f *Fold) release(m *machine) {
	if m.busy != idle {
		f.spare = append(f.spare, m.busy)
		m.busy = idle
	}
}

// settle lets the delays that end at t take effect.
func (f *Fold) settle(s *series, m *machine, b *busyState, r *rule, t int64) {
	was := b.active
	for k := b.over; k > b.active; k-- {
		if b.since[k-1]+r.levels[k-1].hold <= t {
			if b.active == 0 {
				b.onset, b.start = b.since[k-1], t
			}
			b.active = k
			break
		}
	}
	for b.active > b.over && b.since[b.active-1]+r.levels[b.active-1].clearFor <= t {
		b.active--
	}
	if b.active == was {
		return
	}
	x := f.valueOf(s, m, r, t)
	switch {
	case was == 0:
		if r.ages() {
			b.onset = t - int64(x)
		}
		f.account.add(r, 0, 1)
		f.account.fired(r, t)
		f.tell(alert.Raised, s, b, r, t, x, b.active, "")
	case b.active == 0:
		f.account.add(r, 0, -1)
		f.tell(alert.Ended, s, b, r, t, x, was, "")
	case r.levels[was-1].severity == r.levels[b.active-1].severity:
		f.tell(alert.LevelChanged, s, b, r, t, x, b.active, "")
	default:
		f.tell(alert.SeverityChanged, s, b, r, t, x, b.active, "")
	}
	f.touch(s)
}

// delay returns when the next delay of the state ends, never when none runs.
func (b *busyState) delay(r *rule) int64 {
	due := int64(never)
	switch {
	case b.over > b.active:
		for k := b.active; k < b.over; k++ {
			due = min(due, b.since[k]+r.levels[k].hold)
		}
	case b.active > b.over:
		due = b.since[b.active-1] + r.levels[b.active-1].clearFor
	}
	return due
}

// schedule computes when something happens to the machine by itself.
func (f *Fold) schedule(s *series, m *machine, r *rule) {
	m.due = never
	if m.busy != idle {
		m.due = f.busy[m.busy].delay(r)
	}
	if m.aux != idle {
		a := &f.aux[m.aux]
		m.due = min(m.due, a.tick, a.turn)
	}
	if m.due == never {
		return
	}
	s.due = min(s.due, m.due)
	if at := m.due + s.lag; at < m.queued {
		m.queued = at
		f.timers.push(timer{at, s.index, m.slot})
	}
}

// fire lets everything happen that is due at or before t, in order. At the same
// time the machine's own values come first, then delays, then the schedule.
func (f *Fold) fire(s *series, m *machine, t int64) {
	r := s.set.rules[m.rule]
	for m.due <= t {
		at := m.due
		switch {
		case m.aux != idle && f.aux[m.aux].tick <= at:
			f.tick(s, m, &f.aux[m.aux], r, at)
		case m.busy != idle && f.busy[m.busy].delay(r) <= at:
			f.settle(s, m, &f.busy[m.busy], r, at)
			f.rest(m, r)
		case m.aux != idle && f.aux[m.aux].turn <= at:
			f.turn(s, m, &f.aux[m.aux], r, at+1)
		}
		f.schedule(s, m, r)
	}
}

// fireSeries is fire for every machine of the series.
func (f *Fold) fireSeries(s *series, t int64) {
	due := int64(never)
	for k := range s.machines {
		m := &s.machines[k]
		if m.due <= t {
			f.fire(s, m, t)
		}
		due = min(due, m.due)
	}
	s.due = due
}

// halt ends held values at t: what is over but not active, and what is back but
// still active, begins anew with the next reading.
func (f *Fold) halt(s *series, m *machine, r *rule, t int64) {
	m.blind = true
	f.touch(s)
	if m.busy != idle {
		b := &f.busy[m.busy]
		b.over = b.active
	}
	f.rest(m, r)
	if m.aux != idle {
		a := &f.aux[m.aux]
		a.halt(r)
		f.setTick(s, m, a, r)
		a.again(m, r, t)
	}
	f.schedule(s, m, r)
}

// mute puts the machine to silence, from a reading with the reason maintenance on.
func (f *Fold) mute(s *series, m *machine, r *rule, t int64) {
	m.muted, s.muted = true, true
	f.end(s, m, t, ReasonMaintenance)
	f.halt(s, m, r, t)
	f.touch(s)
}

// unmute lets the machines of the series judge again, from the reading at t on.
func (f *Fold) unmute(s *series, t int64) {
	s.muted = false
	for k := range s.machines {
		m := &s.machines[k]
		if !m.muted {
			continue
		}
		m.muted = false
		if r := s.set.rules[m.rule]; m.aux != idle {
			if r.source == ofWindow {
				f.aux[m.aux].roll(r, r.stepOf(t-1)) // what left it meanwhile was not judged
			}
			f.setTick(s, m, &f.aux[m.aux], r)
			f.aux[m.aux].again(m, r, t)
			f.schedule(s, m, r)
		}
	}
	f.touch(s)
}

// again makes an empty window that says something be judged once more, for it has
// been forgotten what it said. Nothing is judged for a time before t.
func (a *aux) again(m *machine, r *rule, t int64) {
	if r.full && a.tick == never && !m.off && !m.muted {
		a.tick = (r.stepOf(t-1)+1)*r.step + 1
	}
	a.tick = max(a.tick, t)
}

// end ends the machine's alert for a reason other than the value, if it is
// active, and makes it idle.
func (f *Fold) end(s *series, m *machine, t int64, reason string) {
	if m.busy == idle {
		return
	}
	b, r := &f.busy[m.busy], s.set.rules[m.rule]
	if b.active > 0 {
		f.account.add(r, 0, -1)
		t = max(t, b.start)
		f.tell(alert.Ended, s, b, r, t, f.valueOf(s, m, r, t), b.active, reason)
	}
	f.release(m)
	f.touch(s)
}
