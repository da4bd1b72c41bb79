package rules

import (
	"strings"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// result is what the hub found of one series at a time.
type result struct {
	series telemetry.BoundSeries
	value  float64
}

// results is a fold over what the hub finds at times of its own clock.
type results struct {
	clock  *ByClock
	fold   *Fold
	list   []telemetry.BoundSeries
	number map[seriesName]uint32
	absent map[seriesName]int64 // since when a series is missing from the result
	last   int64                // time of the newest result
}

func (c *ByClock) newResults(id string) *results {
	k := &results{clock: c, number: map[seriesName]uint32{}, absent: map[seriesName]int64{}}
	k.fold, _ = c.engine.openState("", nil) // nothing to read
	k.fold.account = c.engine.newAccount(id)
	return k
}

// close ends what stands: the rule is gone.
func (k *results) close(t int64) {
	if k.fold.bound {
		k.fold.Advance(t)
		k.fold.Bind(nil)
	}
	k.fold.Close()
}

// judge shows what was found at t. An error says that nobody could look: what stands
// goes on, and delays begin anew with the next result. The calls of one results come
// one after the other.
func (k *results) judge(t int64, r *rule, found []result, err error) {
	f := k.fold
	if t <= f.Watermark() {
		t = f.Watermark() + 1 // the hub's clock was set back
	}
	if err != nil {
		if k.last != 0 {
			f.Unobserved(k.last, t)
			f.Advance(t)
			k.last = t
		}
		return
	}
	if k.last == 0 {
		f.Advance(t - 1)
	}
	k.last = t
	k.know(found, r, t)
	seen := make([]bool, len(k.list))
	for i := range found {
		n := k.number[nameOf(&found[i].series)]
		seen[n] = true
		f.Observe(n, t, found[i].value, 0)
	}
	gone := false
	for n := range k.list {
		name := nameOf(&k.list[n])
		if seen[n] {
			delete(k.absent, name)
		} else if k.miss(uint32(n), r, t) {
			gone = true
			seen[n] = false
			continue
		}
		seen[n] = true
	}
	if gone {
		k.keep(seen)
	}
	f.Advance(t)
	k.tellMissing(r, t)
}

// know takes series that are new into the fold; alerts of theirs that stand in the
// log go on.
func (k *results) know(found []result, r *rule, t int64) {
	list := k.list[:len(k.list):len(k.list)] // the fold keeps the one before
	changed := !k.fold.bound
	for i := range found {
		b := &found[i].series
		name := nameOf(b)
		if n, ok := k.number[name]; ok {
			if list[n].Site != b.Site { // an edge that moves keeps its series
				if !changed {
					list = append([]telemetry.BoundSeries(nil), list...)
				}
				list[n], changed = *b, true
			}
			continue
		}
		k.number[name] = uint32(len(list))
		list = append(list, *b)
		changed = true
		k.recall(b, r, t)
	}
	if changed {
		k.list = list
		k.fold.Bind(list)
	}
}

// keep drops the series that are not marked.
func (k *results) keep(mark []bool) {
	var list []telemetry.BoundSeries
	clear(k.number)
	for n := range k.list {
		name := nameOf(&k.list[n])
		if !mark[n] {
			delete(k.absent, name)
			continue
		}
		k.number[name] = uint32(len(list))
		list = append(list, k.list[n])
	}
	k.list = list
	k.fold.Bind(list)
}

// miss says that the series is not in the result at t, and reports whether it is to
// be dropped.
func (k *results) miss(n uint32, r *rule, t int64) bool {
	b := &k.list[n]
	s := &k.fold.series[n]
	since, ok := k.absent[nameOf(b)]
	if !ok {
		since = t
		k.absent[nameOf(b)] = t
	}
	still := true
	for i := range s.machines {
		still = still && s.machines[i].busy == idle
	}
	if still && k.fold.chatter.by[chatterKey{r.id, r.version, nameOf(b)}] == nil {
		return true
	}
	k.fold.lapse(n, t)
	if r.expr == nil || r.expr.Hold || k.clock.cutOff(b.Edge, t) || t-k.clock.start.UnixMilli() < settleIn.Milliseconds() {
		k.absent[nameOf(b)] = t
		return r.expr == nil && k.fold.conclude(n, t, ReasonMissing)
	}
	wait := int64(0)
	for i := range r.levels {
		wait = max(wait, r.levels[i].clearFor)
	}
	return t-since >= wait && k.fold.conclude(n, t, ReasonMissing)
}

// lapse says that the series has no value at t: delays begin anew with the next.
func (f *Fold) lapse(n uint32, t int64) {
	s := f.take(n, t)
	if s == nil {
		return
	}
	for i := range s.machines {
		m := &s.machines[i]
		f.halt(s, m, s.set.rules[m.rule], t)
	}
}

// conclude ends the alerts of the series for a reason other than the value.
func (f *Fold) conclude(n uint32, t int64, reason string) bool {
	s := &f.series[n]
	for i := range s.machines {
		m := &s.machines[i]
		r := s.set.rules[m.rule]
		f.end(s, m, t, reason)
		f.dismiss(nameOf(s.bound), r.id, r.version, t, reason)
	}
	return true
}

// recall lets an alert of the series that stands in the log go on.
func (k *results) recall(b *telemetry.BoundSeries, r *rule, t int64) {
	c := k.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.engine.setAt(t)
	machines := set.matching(b)
	for i := range c.waiting {
		a := &c.waiting[i]
		if a.Rule != r.id {
			continue
		}
		for _, m := range machines {
			v := set.rules[m]
			if a.ID != alert.NewID(v.id, v.version, alert.SeriesKey(b.Edge, b.Device, b.Point), a.Start.UnixMilli()) {
				continue
			}
			if s := stands(a, v); s != nil {
				k.fold.saved.add(&savedSeries{
					name: nameOf(b), last: min(a.Updated.UnixMilli(), t-1), good: min(a.Updated.UnixMilli(), t-1), since: min(a.Updated.UnixMilli(), t-1),
					value: a.Value, machines: []savedMachine{*s},
				})
				k.fold.restoreChatter(a, v, nameOf(b))
				c.waiting = append(c.waiting[:i:i], c.waiting[i+1:]...)
				return
			}
		}
	}
}

// stands is the state of the machine of the rule whose alert stands; nil when the
// alert's level is none of the rule's.
func stands(a *alert.Alert, r *rule) *savedMachine {
	active := 0
	for i := range r.levels {
		l := &r.levels[i]
		if l.severity < a.Severity || l.severity == a.Severity && (a.Level == nil || l.name == nil || l.name.Rank <= a.Level.Rank) {
			active = i + 1
		}
	}
	if active == 0 {
		return nil
	}
	b := busyState{
		onset: a.Onset.UnixMilli(), start: a.Start.UnixMilli(), peak: a.Peak, over: uint8(active), active: uint8(active),
	}
	for i := range active {
		b.since[i] = b.onset
	}
	flags := byte(flagState | flagBlind)
	m := &savedMachine{rule: r, flags: flags, state: b, x: a.Value}
	if r.remembers() {
		m.flags |= flagMemory
		m.aux = aux{since: b.onset, tick: never, turn: a.Updated.UnixMilli(), last: a.Updated.UnixMilli()}
	}
	return m
}

// restoreChatter lets an alert that chatters go on so.
func (f *Fold) restoreChatter(a *alert.Alert, r *rule, name seriesName) {
	if !a.Chattering {
		return
	}
	if f.chatter.by == nil {
		f.chatter.by = map[chatterKey]*chatterState{}
	}
	last := a.Updated.UnixMilli()
	f.chatter.by[chatterKey{r.id, r.version, name}] = &chatterState{
		Last: last, Count: a.Activations, On: true, Raw: *a,
		Told: &toldAlert{ID: a.ID, Start: a.Start, Onset: a.Onset, Severity: a.Severity, Level: a.Level, Limit: a.Limit, Peak: a.Peak, Message: a.Message},
	}
	f.chatter.next = min(f.chatter.next, last+f.engine.chatter)
}

// tellMissing ends the alerts of the log that no result has taken up, once that means
// something.
func (k *results) tellMissing(r *rule, t int64) {
	c := k.clock
	if t-c.start.UnixMilli() < settleIn.Milliseconds() || r.expr != nil && r.expr.Hold {
		return
	}
	c.mu.Lock()
	var mine []alert.Alert
	rest := c.waiting[:0:0]
	for i := range c.waiting {
		if a := &c.waiting[i]; a.Rule == r.id && (a.Edge == "" || t-c.heard[a.Edge].UnixMilli() <= unheard.Milliseconds()) {
			mine = append(mine, *a)
		} else {
			rest = append(rest, *a)
		}
	}
	c.waiting = rest
	c.mu.Unlock()
	for i := range mine {
		c.end(&mine[i], t, ReasonMissing)
	}
}

// show fills in what people see of an alert that the hub's clock judged.
func (r *rule) show(a *alert.Alert) {
	switch r.kind {
	case EdgeOffline:
		a.Device, a.Point = "", "" // it is about the edge
	case Fewer:
		a.Quantity = r.quantity
	case Expression:
		a.Quantity = r.quantity
		_, a.Point, _ = strings.Cut(a.Point, ";")
		if p, ok := a.Labels[telemetry.LabelPoint]; ok {
			a.Point = p
			delete(a.Labels, telemetry.LabelPoint)
		}
	}
}

// resultSeries is the series of a query's result. Its point is made of its labels, so
// that device and point name it among those of all edges: site and edge, and after a
// semicolon the others.
func (r *rule) resultSeries(ls telemetry.Labels) telemetry.BoundSeries {
	b := telemetry.BoundSeries{Quantity: r.pseudo(), Unit: r.unit}
	var rest []string
	for _, l := range ls {
		switch l.Name {
		case telemetry.LabelSite:
			b.Site = l.Value
			continue
		case telemetry.LabelEdge:
			b.Edge = l.Value
			continue
		case telemetry.LabelDevice:
			b.Device = l.Value
			continue
		}
		b.Labels = append(b.Labels, l)
		rest = append(rest, l.Name+"="+l.Value)
	}
	b.Point = b.Site + "/" + b.Edge + ";" + strings.Join(rest, ",")
	return b
}
