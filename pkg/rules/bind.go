package rules

import (
	"math"
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
	old := f.series
	names := make(map[seriesName]int, len(old))
	for i := range old {
		names[nameOf(old[i].bound)] = i
	}
	taken := make([]bool, len(old))
	fresh := make(map[seriesName]*series, len(list))
	f.series = make([]series, len(list))
	f.soonest = never
	for i := range list {
		s, name := &f.series[i], nameOf(&list[i])
		if fresh[name] != nil {
			*s = f.newSeries(&telemetry.BoundSeries{Edge: list[i].Edge, Device: list[i].Device, Point: list[i].Point})
			continue
		}
		fresh[name] = s
		k, ok := names[name]
		if !ok {
			*s = f.newSeries(&list[i])
			f.restore(s, f.saved.take(name))
			continue
		}
		*s, taken[k] = old[k], true
		s.bound, s.lag = &list[i], lagOf(&list[i])
		f.rematch(s, s.set, ReasonNotWatched, f.now(s))
		f.setUntil(s)
	}
	for k := range old {
		if !taken[k] {
			f.remove(&old[k])
		}
	}
	for _, saved := range f.saved.rest() {
		s := f.newSeries(&telemetry.BoundSeries{Edge: f.edge, Device: saved.name.device, Point: saved.name.point})
		s.last, s.value = saved.last, saved.value
		f.abandon(&s, saved, ReasonSeriesRemoved)
	}
	f.saved, f.opened, f.bound = savedState{}, nil, true
	f.rebuildTimers()
	f.rebindChatter()
	f.passAll()
}

func nameOf(b *telemetry.BoundSeries) seriesName { return seriesName{b.Device, b.Point} }

func lagOf(b *telemetry.BoundSeries) int64 { return max(0, min(b.MaxLag, maxLag)) }

func (f *Fold) newSeries(b *telemetry.BoundSeries) series {
	s := series{last: math.MinInt64, until: never, lag: lagOf(b), next: f.firstBreak, bound: b}
	f.setUntil(&s)
	f.pass(&s, f.start(&s))
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
	}
}

// changeOver puts the next rule set into effect for the series.
func (f *Fold) changeOver(s *series, next Effective) {
	for k := range s.machines {
		f.fire(s, &s.machines[k], next.From-1)
	}
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
		machines[k] = machine{due: never, busy: idle, rule: i, flip: r.kind == Below}
		machines[k].set(r, 0)
		f.account.add(r, 1, 0)
	}
	for k := range s.machines {
		m := &s.machines[k]
		r := s.set.rules[m.rule]
		to := find(machines, set, r)
		switch {
		case to < 0:
			f.end(s, m, t, endReason(set, r, reason))
			f.dismiss(nameOf(s.bound), r.id, r.version, t, endReason(set, r, reason))
		case m.busy != idle:
			b := &f.busy[m.busy]
			b.slot = uint16(to)
			machines[to].busy, machines[to].due = m.busy, m.due
			machines[to].set(set.rules[machines[to].rule], int(b.over))
		}
		f.account.add(r, -1, 0)
	}
	s.machines, s.set = machines, set
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
	for i := range f.series {
		s := &f.series[i]
		for k := range s.machines {
			m := &s.machines[k]
			if m.busy == idle {
				continue
			}
			b := &f.busy[m.busy]
			b.series, b.slot, b.queued = uint32(i), uint16(k), never
			f.schedule(s, m, b, s.set.rules[m.rule])
		}
	}
}
