package rules

import (
	"math"

	"github.com/langbiang/langbiang/pkg/alert"
)

// never is the due time of a machine without a delay.
const never = math.MaxInt64

// machine is one rule on one series: what a reading has to be compared with.
// While lo < x <= hi nothing changes, where x is the value, negated for rules
// of kind below.
type machine struct {
	hi   float64 // limit of the lowest level that is not over; +Inf when all are
	lo   float64 // clear limit of the highest level that is over; -Inf when none is
	due  int64   // when the next delay ends; never: none runs
	busy int32   // index of its state in Fold.busy; idle: nothing is over or active
	rule uint16  // index in the series' set
	flip bool    // kind below
}

const idle = -1

// busyState is the state of a machine that is not idle.
type busyState struct {
	since        [maxLevels]int64 // when the level's switch last moved
	onset, start int64            // of the alert; valid while active > 0
	peak         float64          // greatest x since onset
	queued       int64            // time of its valid entry in the timers; never: none
	series       uint32
	slot         uint16 // of the machine in the series
	over, active uint8  // how many levels are over, and active
}

// free marks an entry of Fold.busy that is in nobody's use.
const free = math.MaxUint16

// set puts the machine's limits in accordance with the levels that are over.
func (m *machine) set(r *rule, over int) {
	s := r.kind.sign()
	m.hi, m.lo = math.Inf(1), math.Inf(-1)
	if over < len(r.levels) {
		m.hi = s * r.levels[over].limit
	}
	if over > 0 {
		m.lo = s * r.levels[over-1].clear
	}
}

// step takes a reading at t that moves a switch or extends the peak. Delays due
// before t have ended already.
func (f *Fold) step(i uint32, s *series, m *machine, t int64, x float64) {
	r := s.set.rules[m.rule]
	b := f.wake(i, s, m)
	was := b.over
	for int(b.over) < len(r.levels) && x > r.kind.sign()*r.levels[b.over].limit {
		b.since[b.over] = t
		b.over++
	}
	for b.over > 0 && x <= r.kind.sign()*r.levels[b.over-1].clear {
		b.over--
		b.since[b.over] = t
	}
	if was == 0 && b.active == 0 || x > b.peak {
		b.peak = x
	}
	if b.over != was {
		m.set(r, int(b.over))
		f.settle(s, m, b, r, t)
		f.schedule(s, m, b, r)
	}
	f.dirty = true
	f.rest(m, b)
}

// wake returns the machine's state, a fresh one when it was idle.
func (f *Fold) wake(i uint32, s *series, m *machine) *busyState {
	if m.busy != idle {
		return &f.busy[m.busy]
	}
	if n := len(f.spare); n > 0 {
		m.busy, f.spare = f.spare[n-1], f.spare[:n-1]
	} else {
		f.busy = append(f.busy, busyState{})
		m.busy = int32(len(f.busy) - 1)
	}
	b := &f.busy[m.busy]
	*b = busyState{queued: never, series: i}
	for k := range s.machines {
		if &s.machines[k] == m {
			b.slot = uint16(k)
		}
	}
	return b
}

// rest makes the machine idle when nothing of it is over or active.
func (f *Fold) rest(m *machine, b *busyState) {
	if b.over > 0 || b.active > 0 {
		return
	}
	f.release(m, b)
}

func (f *Fold) release(m *machine, b *busyState) {
	b.slot = free
	b.queued = never
	f.spare = append(f.spare, m.busy)
	m.busy, m.due = idle, never
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
	switch {
	case b.active == was:
		return
	case was == 0:
		f.account.add(r, 0, 1)
		f.account.fired(r, t)
		f.tell(alert.Raised, s, b, r, t, b.active, "")
	case b.active == 0:
		f.account.add(r, 0, -1)
		f.tell(alert.Ended, s, b, r, t, was, "")
	default:
		f.tell(alert.SeverityChanged, s, b, r, t, b.active, "")
	}
	f.dirty = true
}

// schedule computes when the machine's next delay ends.
func (f *Fold) schedule(s *series, m *machine, b *busyState, r *rule) {
	m.due = never
	switch {
	case b.over > b.active:
		for k := b.active; k < b.over; k++ {
			m.due = min(m.due, b.since[k]+r.levels[k].hold)
		}
	case b.active > b.over:
		m.due = b.since[b.active-1] + r.levels[b.active-1].clearFor
	}
	if m.due == never {
		return
	}
	if at := m.due + s.lag; at < b.queued {
		b.queued = at
		f.timers.push(timer{at, b.series, m.busy, b.slot})
	}
}

// fire ends the machine's delays that are due at or before t.
func (f *Fold) fire(s *series, m *machine, t int64) {
	for m.due <= t {
		b, r := &f.busy[m.busy], s.set.rules[m.rule]
		f.settle(s, m, b, r, m.due)
		f.schedule(s, m, b, r)
		f.rest(m, b)
	}
}

// halt ends held values: what is over but not active, and what is back but
// still active, begins anew with the next reading.
func (f *Fold) halt(s *series, m *machine) {
	if m.busy == idle {
		return
	}
	b := &f.busy[m.busy]
	if b.over == b.active {
		return
	}
	b.over = b.active
	m.due = never
	m.set(s.set.rules[m.rule], int(b.over))
	f.rest(m, b)
	f.dirty = true
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
		f.tell(alert.Ended, s, b, r, max(t, b.start), b.active, reason)
	}
	f.release(m, b)
	f.dirty = true
}
