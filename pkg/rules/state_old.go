package rules

import (
	"fmt"
	"math"
)

// Formats 1 to 4 were written whole at every checkpoint, with rules and series by
// their order, times and values in full:
//
//	u8 format
//	v  watermark, v time up to which rule sets were passed in earlier eras
//	u  breaks still to pass: v first time after the beginning, v end
//	u  rules:   s id, s version, u8 source, u levels: u8 severity, f limit
//	u  series:  s device, s point, v last, v good, v since, f value, s text
//	            u machines: u rule, u8 flags, see flagState
//	              state:  u8 over, u8 active, v onset, v start, f peak, f x, v since of each level
//	              memory: v since, v tick, v turn, then for
//	                flat:   v last, f value, f x, v moved, f anchor
//	                window: v last, f value, f x, v at, u steps and each of them, oldest
//	                        first, the one that runs last: u n and, if any, f v, v t
//	u  chattering: so many bytes of JSON
//
// Format 1 had no flags and no memory: breaks were v, rules had u8 kind (1 below,
// whose peaks were negated) in place of the source, series had no good, since and
// text, machines no x, and there was no chattering; format 2 was like it, with
// chattering; in format 3 windows had a step less. All are still read.
const firstFormat = 1

// decodeOld reads a state of these formats.
func (f *Fold) decodeOld(data []byte) error {
	d := stateReader{b: data}
	if d.format = d.byte(); d.format < firstFormat {
		return fmt.Errorf("edge %s: %w: its format is %d, this program knows %d to %d", f.edge, ErrState, d.format, firstFormat, stateFormat)
	}
	f.w, f.floor = d.mark(), d.mark()
	f.savedW = f.w
	for range d.count(1) {
		b := pause{at: d.time()}
		if b.to = b.at - 1; d.format > 2 {
			b.to = d.time()
		}
		f.breaks = append(f.breaks, b)
	}
	var rules []*rule
	for range d.count(4) {
		rules = append(rules, d.rule())
	}
	for range d.count(12) {
		s := d.series(rules)
		f.saved.add(&s)
	}
	if d.format >= 2 && !f.loadChatters(d.bytes()) {
		d.fail()
	}
	if d.bad || len(d.b) > 0 {
		return f.damaged()
	}
	return nil
}

func (d *stateReader) rule() *rule {
	r := &rule{id: d.text(), version: d.text()}
	switch kind := d.byte(); {
	case d.format <= 2 && kind == 1:
		r.shape = isBelow
	case d.format > 2:
		r.source = source(kind)
	}
	d.levels(r)
	return r
}

func (d *stateReader) series(rules []*rule) savedSeries {
	s := savedSeries{name: seriesName{d.text(), d.text()}, last: d.mark()}
	s.good, s.since = s.last, s.last
	if d.format > 2 {
		s.good, s.since = d.mark(), d.mark()
	}
	s.value = d.float()
	if d.format > 2 {
		s.text = d.text()
	}
	for range d.count(2) {
		i := d.below(len(rules))
		if d.bad {
			return s
		}
		m := savedMachine{rule: rules[i], flags: flagState, alive: math.MinInt64}
		if d.format > 2 {
			m.flags = d.byte()
		}
		if m.flags&flagState != 0 && !d.state(&m, s.value) {
			d.fail()
			return s
		}
		if m.flags&flagMemory != 0 {
			d.memory(&m)
		}
		s.machines = append(s.machines, m)
	}
	return s
}

func (d *stateReader) state(m *savedMachine, value float64) bool {
	n := len(m.rule.levels)
	b := busyState{over: d.byte(), active: d.byte(), onset: d.time(), start: d.time(), peak: d.float()}
	if m.x = value; d.format > 2 {
		m.x = d.float()
	} else if m.rule.shape == isBelow {
		b.peak = -b.peak
	}
	if int(b.over) > n || int(b.active) > n || b.over+b.active == 0 {
		return false
	}
	for l := range n {
		b.since[l] = d.time()
	}
	m.state = b
	return true
}

func (d *stateReader) memory(m *savedMachine) {
	a := &m.aux
	a.since, a.tick, a.turn, a.last = d.mark(), never, never, math.MinInt64
	if m.flags&flagTick != 0 {
		a.tick = d.time()
	}
	if m.flags&flagTurn != 0 {
		a.turn = d.time()
	}
	if m.rule.source != ofFlat && m.rule.source != ofWindow {
		return
	}
	a.last, a.value, a.x = d.mark(), d.float(), d.float()
	if m.rule.source == ofFlat {
		a.moved, a.anchor = d.time(), d.float()
		return
	}
	a.at = d.time()
	n := d.count(1)
	if n > maxSteps {
		d.fail()
		return
	}
	a.ring = make([]pane, n)
	for i := range a.ring {
		a.ring[i] = d.pane()
	}
	a.cur = d.pane()
	if d.format == 3 {
		a.ring = append([]pane{{}}, a.ring...)
	}
}

func (d *stateReader) pane() (p pane) {
	if p.n = uint32(d.below(math.MaxInt32)); p.n > 0 {
		p.v, p.t = d.anyFloat(), d.time()
	}
	return p
}
