package rules

import (
	"math"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// maxLag bounds a series' MaxLag.
const maxLag = int64(366 * 24 * time.Hour / time.Millisecond)

// Bind names the series that later calls of Observe mean by their indexes. Call
// it before the first readings, and whenever the edge's schema, or the site that
// the hub has it at, changes. Series are recognised by device and point: they
// keep their state whatever their new index. Alerts of series that are gone end
// at the watermark with the reason "series removed", those of series that their
// rule no longer chooses with "no longer watched". Device and point together
// must be unique; a second series of the same name is not evaluated. The fold
// keeps the list, which must not change afterwards.
func (f *Fold) Bind(list []telemetry.BoundSeries) {
	f.look()
	lag := int64(0)
	for i := range list {
		lag = max(lag, lagOf(&list[i]))
	}
	if f.counted == math.MinInt64 && f.w != math.MinInt64 {
		f.counted = f.w - lag // as it was when the state was saved
	}
	old := f.series
	names := make(map[seriesName]int, len(old))
	for i := range old {
		names[nameOf(old[i].bound)] = i
	}
	taken := make([]bool, len(old))
	fresh := make(map[seriesName]*series, len(list))
	f.series = make([]series, len(list))
	f.soonest, f.untold = never, never
	for i := range list {
		s, name := &f.series[i], nameOf(&list[i])
		if fresh[name] != nil {
			*s = f.newSeries(&telemetry.BoundSeries{Edge: list[i].Edge, Device: list[i].Device, Point: list[i].Point}, math.MinInt64)
			continue
		}
		fresh[name] = s
		k, ok := names[name]
		if !ok {
			if saved := f.saved.take(name); saved != nil {
				*s = f.newSeries(&list[i], saved.last)
				f.restore(s, saved)
			} else {
				*s = f.newSeries(&list[i], math.MinInt64)
			}
			continue
		}
		*s, taken[k] = old[k], true
		s.bound, s.lag, s.quiet = &list[i], lagOf(&list[i]), quietOf(&list[i])
		f.rematch(s, s.set, ReasonNotWatched, f.now(s))
		f.setUntil(s)
	}
	for k := range old {
		if !taken[k] {
			f.remove(&old[k])
		}
	}
	for _, saved := range f.saved.rest() {
		s := f.newSeries(&telemetry.BoundSeries{Edge: f.edge, Device: saved.name.device, Point: saved.name.point}, saved.last)
		s.value = saved.value
		f.abandon(&s, saved, ReasonSeriesRemoved)
	}
	f.saved, f.opened, f.bound, f.lag, f.journal.whole = savedState{}, nil, true, lag, true
	f.part = part{}
	f.rebuildTimers()
	f.rebindChatter()
	f.passAll()
	if g := f.engine.gather; g != nil && f.counted != math.MinInt64 {
		f.count(g)
	}
}

func nameOf(b *telemetry.BoundSeries) seriesName { return seriesName{b.Device, b.Point} }

func lagOf(b *telemetry.BoundSeries) int64 { return max(0, min(b.MaxLag, maxLag)) }

// quietOf is how long a series may be silent although all is well: a point whose
// unchanged values are not reported may be for Silence, and is read every Interval.
func quietOf(b *telemetry.BoundSeries) int64 {
	if b.Silence <= 0 {
		return 0
	}
	return min(b.Silence+max(0, b.Interval), maxLag)
}

// newSeries begins a series where the fold has got to; last is the time of its
// newest reading, math.MinInt64 for none.
func (f *Fold) newSeries(b *telemetry.BoundSeries, last int64) series {
	s := series{
		last: last, good: math.MinInt64, since: unbegun, until: never, due: never,
		lag: lagOf(b), quiet: quietOf(b), next: f.firstBreak, bound: b,
	}
	passed := last
	if r := f.reached(&s); r != math.MinInt64 {
		passed = max(passed, r+1)
	}
	for f.nextBreak(&s) <= passed {
		s.next++
	}
	for i := len(f.sets) - 1; i >= 0; i-- {
		if f.sets[i].From <= f.start(&s) {
			f.rematch(&s, f.sets[i].Set, "", f.sets[i].From)
			s.from = f.sets[i].From
			break
		}
	}
	f.setUntil(&s)
	if r := f.reached(&s); r != math.MinInt64 {
		f.begin(&s, r)
	}
	return s
}

// start is the time whose rule set a series begins with.
func (f *Fold) start(s *series) int64 {
	if r := f.reached(s); r != math.MinInt64 {
		return max(r+1, s.last, f.floor)
	}
	return max(s.last, f.floor)
}

// now is the time of what happens to a series outside of its readings.
func (f *Fold) now(s *series) int64 { return max(f.reached(s), s.last) }

// remove ends what a series that is gone has left.
func (f *Fold) remove(s *series) {
	for k := range s.machines {
		f.end(s, &s.machines[k], f.now(s), ReasonSeriesRemoved)
		f.dismiss(nameOf(s.bound), s.set.rules[s.machines[k].rule].id, s.set.rules[s.machines[k].rule].version, f.now(s), ReasonSeriesRemoved)
		f.account.add(s.set.rules[s.machines[k].rule], -1, 0)
		f.releaseAux(&s.machines[k])
	}
}

// changeOver puts the next rule set into effect for the series.
func (f *Fold) changeOver(s *series, next Effective) {
	f.fireSeries(s, next.From-1)
	f.rematch(s, next.Set, "", next.From)
	s.from = next.From
}

// rematch gives the series the machines of the set, and those that judge as
// before their state. The alerts of others end at t with the reason; an empty
// one stands for what became of their rule.
func (f *Fold) rematch(s *series, set *Set, reason string, t int64) {
	if set == nil {
		return
	}
	matching := set.matching(s.bound)
	machines := make([]machine, len(matching))
	for k, i := range matching {
		r := set.rules[i]
		machines[k] = machine{
			lo: math.Inf(1), hi: math.Inf(-1), due: never, queued: never, busy: idle, aux: idle,
			rule: i, slot: uint16(k), mode: r.mode(), blind: true,
		}
		f.account.add(r, 1, 0)
	}
	kept := make([]bool, len(machines))
	heirs := f.heirs(s, machines, set)
	for k := range s.machines {
		m := &s.machines[k]
		r := s.set.rules[m.rule]
		if to := find(machines, set, r); to >= 0 {
			n := &machines[to]
			m.rule, m.slot, m.queued = n.rule, n.slot, never
			*n, kept[to] = *m, true
		} else {
			f.end(s, m, t, endReason(set, r, reason))
			f.dismiss(nameOf(s.bound), r.id, r.version, t, endReason(set, r, reason))
			f.releaseAux(m)
		}
		f.account.add(r, -1, 0)
	}
	f.journal.whole = true
	s.machines, s.set, s.keeps, s.muted, s.due = machines, set, false, false, never
	if int(s.index) < len(f.watched) {
		f.watched[s.index] = len(machines) > 0 // while series are bound, their indexes are set at the end
	}
	for k := range machines {
		m := &machines[k]
		r := set.rules[m.rule]
		if m.aux == idle && r.remembers() {
			f.newAux(m, r)
		}
		if !kept[k] && s.since != unbegun {
			f.beginMachine(s, m, t)
			if heirs != nil && heirs[k].ring != nil {
				f.inherit(s, m, r, heirs[k], t)
			}
		}
		if kept[k] && r.source == ofSilence {
			f.setTick(s, m, &f.aux[m.aux], r) // the point's longest silence may be another now
			f.aux[m.aux].again(m, r, t)
		}
		s.keeps = s.keeps || m.aux != idle
		s.muted = s.muted || m.muted
		f.schedule(s, m, r)
	}
}

// heir is a window that a rule takes over from another of the same series.
type heir struct {
	aux
	blind bool
}

// heirs returns, for each machine of a set that comes, the window that it can go on
// with: what a rule made of the same steps of the same readings, however it judged
// that. So a limit may be changed without the window being lost.
func (f *Fold) heirs(s *series, machines []machine, set *Set) (out []heir) {
	for k := range machines {
		r := set.rules[machines[k].rule]
		if r.source != ofWindow {
			continue
		}
		for i := range s.machines {
			m := &s.machines[i]
			if m.aux == idle || !r.sameWindow(s.set.rules[m.rule]) {
				continue
			}
			if out == nil {
				out = make([]heir, len(machines))
			}
			if a := &f.aux[m.aux]; out[k].ring == nil || a.since < out[k].since {
				out[k] = heir{*a, m.blind}
			}
		}
		if out != nil {
			out[k].ring = slices.Clone(out[k].ring)
		}
	}
	return out
}

// sameWindow reports whether two rules gather the same of a series.
func (r *rule) sameWindow(o *rule) bool {
	return o.source == ofWindow && r.fn == o.fn && r.width == o.width && r.step == o.step && r.throughWork == o.throughWork
}

// inherit lets the machine, which judges from t on, go on with a window.
func (f *Fold) inherit(s *series, m *machine, r *rule, from heir, t int64) {
	a := &f.aux[m.aux]
	turn := a.turn
	*a, m.blind = from.aux, from.blind
	a.turn = turn
	a.roll(r, r.stepOf(t-1))
	f.setTick(s, m, a, r)
	a.again(m, r, t)
	f.schedule(s, m, r)
}

// newAux gives the machine what its rule has to remember.
func (f *Fold) newAux(m *machine, r *rule) {
	a := aux{since: math.MinInt64, tick: never, turn: never, last: math.MinInt64}
	if n := r.steps(); n > 0 {
		a.ring = make([]pane, n)
	}
	if n := len(f.auxFree); n > 0 {
		m.aux, f.auxFree = f.auxFree[n-1], f.auxFree[:n-1]
		f.aux[m.aux] = a
		return
	}
	f.aux = append(f.aux, a)
	m.aux = int32(len(f.aux) - 1)
}

func (f *Fold) releaseAux(m *machine) {
	if m.aux == idle {
		return
	}
	f.aux[m.aux] = aux{tick: never, turn: never}
	f.auxFree = append(f.auxFree, m.aux)
	m.aux = idle
}

// beginMachine makes the machine judge from t on, without anything from before.
func (f *Fold) beginMachine(s *series, m *machine, t int64) {
	if m.aux == idle {
		return
	}
	a, r := &f.aux[m.aux], s.set.rules[m.rule]
	a.reset(r, t)
	if r.schedule != nil {
		if m.off = !r.schedule.active(t); m.off {
			f.end(s, m, t, ReasonSchedule)
		}
		a.turn = r.schedule.next(t)
		f.rest(m, r)
	}
	f.setTick(s, m, a, r)
	f.schedule(s, m, r)
}

// find returns the slot of the machine that judges as r does, -1 for none.
func find(machines []machine, set *Set, r *rule) int {
	i, ok := set.find(r.id, r.version)
	if !ok {
		return -1
	}
	for k := range machines {
		if machines[k].rule == i {
			return k
		}
	}
	return -1
}

func endReason(set *Set, r *rule, reason string) string {
	if reason != "" {
		return reason
	}
	if _, ok := set.find(r.id, r.version); ok {
		return ReasonNotWatched
	}
	return ReasonRuleChanged
}

// rebuildTimers fills the heap anew after indexes or lags have changed.
func (f *Fold) rebuildTimers() {
	f.timers = f.timers[:0]
	f.watched = make([]bool, len(f.series))
	for i := range f.series {
		s := &f.series[i]
		s.index, s.due, f.watched[i] = uint32(i), never, len(s.machines) > 0
		for k := range s.machines {
			m := &s.machines[k]
			m.queued = never
			f.schedule(s, m, s.set.rules[m.rule])
		}
	}
}
