package rules

import (
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/alert"
)

// tally counts, for one rule of kind several, the standing alerts of each different
// thing in each group: as settled, and with all that is pending.
type tally struct {
	rule           *rule
	settled, ahead things
}

type things map[string]map[string]int

// place is where an alert counts.
type place struct {
	in           *tally
	group, thing string
}

// placesOf returns where the alert counts as it is.
func (g *gather) placesOf(m *member) (out []place) {
	if m.severity == alert.None {
		return nil
	}
	for _, t := range g.tallies {
		if s := t.rule.several; m.severity >= s.Severity && s.Of.match(m.alert.Rule) {
			out = append(out, place{t, s.group(m.alert), field(m.alert, s.Count)})
		}
	}
	return out
}

func (t *things) add(p *place, by int) {
	in := (*t)[p.group]
	if in == nil {
		if *t == nil {
			*t = things{}
		}
		in = map[string]int{}
		(*t)[p.group] = in
	}
	if in[p.thing] += by; in[p.thing] == 0 {
		delete(in, p.thing)
	}
	if len(in) == 0 {
		delete(*t, p.group)
	}
}

// group names what an alert's group agrees in.
func (s *severalOf) group(a *alert.Alert) string {
	parts := make([]string, len(s.By))
	for i, by := range s.By {
		parts[i] = by + "=" + field(a, by)
	}
	return strings.Join(parts, " ")
}

func field(a *alert.Alert, name string) string {
	switch name {
	case "site":
		return a.Site
	case "edge":
		return a.Edge
	case "device":
		return a.Edge + "/" + a.Device
	case "rule":
		return a.Rule
	case "series":
		return alert.SeriesKey(a.Edge, a.Device, a.Point)
	}
	return a.Labels[strings.TrimPrefix(name, "labels.")]
}

// tallyAt returns the count of the rule in the set that holds at t; nil when there
// is none.
func (g *gather) tallyAt(rule string, t int64) *tally {
	set := g.setAt(t)
	i, ok := set.byID[rule]
	if !ok || set.rules[i].kind != Several {
		return nil
	}
	k := slices.IndexFunc(g.tallies, func(t *tally) bool { return t.rule.id == rule && t.rule.version == set.rules[i].version })
	if k < 0 {
		return nil
	}
	return g.tallies[k]
}

// things returns how many different things of a group stand, as settled.
func (g *gather) things(key groupKey, t int64) int {
	if in := g.tallyAt(key.rule, t); in != nil {
		return len(in.settled[key.group])
	}
	return 0
}

// reaches returns when from t on so many things of a group stand for the first time,
// with what is pending, and how many then; ok is false when they never do.
func (g *gather) reaches(in *tally, group string, t int64, limit float64) (at int64, n int, ok bool) {
	settled := in.settled[group]
	n = len(settled)
	more := map[string]int{}   // members of a thing, beyond those that are settled
	now := map[string]string{} // thing of each member that has a step; "" of those that do not stand
	count := func(thing string, by int) {
		before := settled[thing] + more[thing]
		more[thing] += by
		switch after := before + by; {
		case before == 0 && after > 0:
			n++
		case before > 0 && after == 0:
			n--
		}
	}
	thingOf := func(places []place) string {
		for _, p := range places {
			if p.in == in && p.group == group {
				return "." + p.thing
			}
		}
		return ""
	}
	for i := range g.pending {
		s := &g.pending[i]
		if i > 0 && g.pending[i-1].t >= t && g.pending[i-1].t < s.t && float64(n) >= limit {
			return g.pending[i-1].t, n, true
		}
		was, known := now[s.member.id]
		if !known {
			was = thingOf(g.standing[s.member.id].places)
		}
		is := thingOf(s.member.places)
		if was == "" && is == "" {
			continue
		}
		now[s.member.id] = is
		if was == is {
			continue
		}
		if was != "" {
			count(was[1:], -1)
		}
		if is != "" {
			count(is[1:], 1)
		}
	}
	return g.pending[len(g.pending)-1].t, n, float64(n) >= limit
}

// foresee tells what holds if nothing earlier than the step is still to come.
// Newest says that no step is later.
func (g *gather) foresee(step *memberStep, newest bool) {
	for _, p := range step.member.places {
		key := groupKey{p.in.rule.id, p.group}
		gr := g.group(key)
		if gr.active || gr.provisional != nil || g.tallyAt(key.rule, step.t) != p.in {
			continue
		}
		r := p.in.rule
		first := slices.IndexFunc(r.levels, func(l level) bool { return l.hold <= 0 })
		if first < 0 {
			continue
		}
		limit := r.levels[first].limit
		t, n := step.t, len(p.in.ahead[p.group])
		ok := float64(n) >= limit
		if !newest {
			t, n, ok = g.reaches(p.in, p.group, t, limit)
		}
		if !ok {
			continue
		}
		for k := len(r.levels) - 1; ; k-- {
			if l := &r.levels[k]; l.hold > 0 || float64(n) < l.limit {
				continue
			}
			b := busyState{onset: t, start: t, peak: float64(n), active: uint8(k + 1)}
			bound := key.series()
			s := &series{bound: &bound, set: g.setAt(t), value: float64(n)}
			a := g.fold.describe(alert.Foreseen, s, &b, r, t, float64(n), uint8(k+1), "")
			a.Provisional = true
			gr.provisional = &a
			g.emit(alert.Transition{Kind: alert.Foreseen, Time: at(t), Alert: a})
			break
		}
	}
}
