package rules

import (
	"math"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// restore gives a fresh series its saved state.
func (f *Fold) restore(s *series, saved *savedSeries) {
	s.good, s.since, s.value, s.text = saved.good, saved.since, saved.value, saved.text
	if s.set == nil {
		f.abandon(s, saved, ReasonRuleChanged)
		return
	}
	taken := make([]bool, len(s.machines))
	var lost []savedMachine
	for i := range saved.machines {
		sm := &saved.machines[i]
		k := find(s.machines, s.set, sm.rule)
		if k < 0 || taken[k] || !f.fits(s.set.rules[s.machines[k].rule], sm) {
			lost = append(lost, *sm)
			continue
		}
		taken[k] = true
		f.restoreMachine(s, &s.machines[k], sm)
	}
	saved.machines = lost
	f.abandon(s, saved, "")
}

// fits reports whether what was saved is of a machine of the rule.
func (f *Fold) fits(r *rule, sm *savedMachine) bool {
	return len(r.levels) == len(sm.rule.levels) && r.source == sm.rule.source &&
		r.remembers() == (sm.flags&flagMemory != 0) &&
		(r.source != ofWindow || len(sm.aux.ring) == r.steps())
}

func (f *Fold) restoreMachine(s *series, m *machine, sm *savedMachine) {
	r := s.set.rules[m.rule]
	m.blind, m.muted, m.off = sm.flags&flagBlind != 0, sm.flags&flagMuted != 0, sm.flags&flagOff != 0
	s.muted = s.muted || m.muted
	over, peak := uint8(0), 0.0
	if sm.flags&flagState != 0 {
		f.wake(s, m)
		f.busy[m.busy] = sm.state
		if over, peak = sm.state.over, sm.state.peak; sm.state.active > 0 {
			f.account.add(r, 0, 1)
		}
	}
	if m.aux != idle {
		a := &f.aux[m.aux]
		*a = sm.aux
		if len(a.ring) > 0 {
			a.join(r.fn)
		}
	}
	f.hush(m, r, over, peak)
}

// valueAt is what the machine judged at t.
func (sm *savedMachine) valueAt(t int64) float64 {
	if sm.alive != math.MinInt64 {
		return float64(t - sm.alive)
	}
	return sm.x
}

// abandon ends the alerts of saved state that no rule in force takes up.
func (f *Fold) abandon(s *series, saved *savedSeries, reason string) {
	for i := range saved.machines {
		sm := &saved.machines[i]
		f.dirty = true
		if sm.state.active == 0 {
			continue
		}
		why := ReasonRuleChanged
		if reason != "" {
			why = reason
		} else if s.set != nil {
			why = endReason(s.set, sm.rule, "")
		}
		r, set := f.known(sm.rule)
		was := s.set
		s.set = set
		f.tell(alert.Ended, s, &sm.state, r, max(f.now(s), sm.state.start), sm.valueAt(f.now(s)), sm.state.active, why)
		s.set = was
	}
}

// known returns the rule as one of the sets has it, or else one that can just
// be named.
func (f *Fold) known(r *rule) (*rule, *Set) {
	for _, e := range f.sets {
		if i, ok := e.Set.find(r.id, r.version); ok && len(e.Set.rules[i].levels) == len(r.levels) {
			return e.Set.rules[i], e.Set
		}
	}
	return r, nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// at is a time of the API.
func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
