package rules

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// savedState is what Open read: series in the order in which they stood.
type savedState struct {
	byName map[seriesName]*savedSeries
	order  []*savedSeries
	rules  []*rule
}

type savedSeries struct {
	name              seriesName
	last, good, since int64
	value             float64
	text              string
	machines          []savedMachine
}

type savedMachine struct {
	rule  *rule // with id, version, source, function and levels only
	flags byte
	state busyState
	x     float64
	alive int64 // x is an age since then; math.MinInt64: it is none
	aux   aux
}

func (s *savedState) add(x *savedSeries) {
	if s.byName == nil {
		s.byName = map[seriesName]*savedSeries{}
	}
	s.byName[x.name] = x
	s.order = append(s.order, x)
}

// take returns the state of a series and forgets it; nil when there is none.
func (s *savedState) take(name seriesName) *savedSeries {
	x := s.byName[name]
	delete(s.byName, name)
	if x != nil && len(x.machines) == 0 {
		return nil
	}
	return x
}

// rest returns what nobody took.
func (s *savedState) rest() (out []*savedSeries) {
	for _, x := range s.order {
		if s.byName[x.name] == x && len(x.machines) > 0 {
			out = append(out, x)
		}
	}
	return out
}

// decode reads what Save and SaveChanges wrote. The bytes come from disk: nothing
// in them is believed.
func (f *Fold) decode(data []byte) error {
	if data[0] < stateFormat {
		return f.decodeOld(data)
	}
	for first := true; len(data) > 0; first = false {
		d := stateReader{b: data}
		d.format = d.byte()
		if d.format != stateFormat {
			return fmt.Errorf("edge %s: %w: %w (format %d, this one knows up to %d)", f.edge, ErrState, ErrVersion, d.format, stateFormat)
		}
		whole := d.byte()
		body := d.bytes()
		if data = d.b; d.bad || whole > partChanges || first != (whole == partWhole) {
			return f.damaged()
		}
		part := stateReader{b: body, format: stateFormat}
		if f.decodePart(&part); part.bad || len(part.b) > 0 {
			return f.damaged()
		}
	}
	f.savedW = f.w
	return nil
}

func (f *Fold) damaged() error { return fmt.Errorf("edge %s: %w: it is damaged", f.edge, ErrState) }

func (f *Fold) decodePart(d *stateReader) {
	f.w, f.floor = d.mark(), d.mark()
	d.w = f.w
	f.breaks = f.breaks[:0]
	for range d.count(2) {
		b := pause{at: d.since()}
		b.to = b.at + d.time()
		if b.to > 1<<60 || b.to < b.at-1 {
			d.fail()
			return
		}
		f.breaks = append(f.breaks, b)
	}
	for range d.count(5) {
		r := &rule{id: d.text(), version: d.text(), source: source(d.byte()), fn: function(d.byte())}
		d.levels(r)
		f.saved.rules = append(f.saved.rules, r)
	}
	for range d.count(4) {
		n := d.below(len(f.saved.order) + 1)
		if d.bad {
			return
		}
		if n == len(f.saved.order) {
			f.saved.add(&savedSeries{name: seriesName{d.text(), d.text()}})
		}
		d.changedSeries(f.saved.order[n], f.saved.rules)
	}
	for range d.count(1) {
		if !f.loadChatter(d.bytes()) {
			d.fail()
			return
		}
	}
}

type stateReader struct {
	b      []byte
	format byte
	w      int64 // that times are told from
	bad    bool
}

func (d *stateReader) fail() {
	d.bad = true
	d.b = nil
}

func (d *stateReader) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *stateReader) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// time is int for a time that delays are added to.
func (d *stateReader) time() int64 {
	t := d.int()
	if t > 1<<60 || t < -1<<60 {
		d.fail()
	}
	return t
}

// mark is time, or the one before everything.
func (d *stateReader) mark() int64 {
	t := d.int()
	if t != math.MinInt64 && (t > 1<<60 || t < -1<<60) {
		d.fail()
	}
	return t
}

// count reads a number of things that take at least size bytes each.
func (d *stateReader) count(size int) int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64((len(d.b)-n)/size) {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

func (d *stateReader) below(limit int) int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v >= uint64(limit) {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

func (d *stateReader) text() string {
	n := d.count(1)
	if n > telemetry.MaxTextLen {
		d.fail()
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *stateReader) bytes() []byte {
	n := d.count(1)
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

// anyFloat is float that may be infinite: a sum that has grown too large.
func (d *stateReader) anyFloat() float64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(d.b))
	d.b = d.b[8:]
	return v
}

func (d *stateReader) float() float64 {
	v := d.anyFloat()
	if !finite(v) {
		d.fail()
	}
	return v
}

// since reads a time as what it lies behind the watermark.
func (d *stateReader) since() int64 {
	t := d.w - d.int()
	if t > 1<<60 || t < -1<<60 {
		d.fail()
	}
	return t
}

// number reads what appendNumber wrote; it may be infinite.
func (d *stateReader) number() float64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	k := v & 7
	if k == rawNumber {
		return d.anyFloat()
	}
	if k >= uint64(len(decimals)) {
		d.fail()
		return 0
	}
	z := v >> 3
	return float64(int64(z>>1)^-int64(z&1)) / decimals[k]
}

// finite is number for one that is not infinite.
func (d *stateReader) finite() float64 {
	v := d.number()
	if !finite(v) {
		d.fail()
	}
	return v
}

func (d *stateReader) levels(r *rule) {
	for range d.below(maxLevels + 1) {
		r.levels = append(r.levels, level{severity: alert.Severity(d.byte()), limit: d.float()})
	}
}

// changedSeries reads what is new of a series.
func (d *stateReader) changedSeries(s *savedSeries, rules []*rule) {
	flags := d.byte()
	s.last, s.good, s.since = math.MinInt64, math.MinInt64, unbegun
	for _, t := range []struct {
		flag byte
		t    *int64
	}{{seriesLast, &s.last}, {seriesGood, &s.good}, {seriesSince, &s.since}} {
		if flags&t.flag != 0 {
			*t.t = d.since()
		}
	}
	if flags&seriesGoodIsLast != 0 {
		s.good = s.last
	}
	if s.value, s.text = d.finite(), ""; flags&seriesText != 0 {
		s.text = d.text()
	}
	before := s.machines
	s.machines = nil
	for range d.count(2) {
		i := d.below(len(rules))
		if d.bad {
			return
		}
		m := savedMachine{rule: rules[i], flags: d.byte(), alive: math.MinInt64}
		if m.flags&flagState != 0 {
			d.busy(&m)
		}
		if m.flags&flagMemory != 0 {
			var ring []pane
			if k := slices.IndexFunc(before, func(b savedMachine) bool { return b.rule == m.rule }); k >= 0 {
				ring = before[k].aux.ring
			}
			d.changedMemory(&m, s, ring)
		}
		if d.bad {
			return
		}
		s.machines = append(s.machines, m)
	}
}

func (d *stateReader) busy(m *savedMachine) {
	n := len(m.rule.levels)
	b := busyState{over: d.byte(), active: d.byte(), onset: d.since(), start: d.since(), peak: d.finite()}
	if m.rule.source == ofSilence {
		m.alive = d.since()
	} else {
		m.x = d.finite()
	}
	if int(b.over) > n || int(b.active) > n || b.over+b.active == 0 {
		d.fail()
		return
	}
	for l := range n {
		b.since[l] = d.since()
	}
	m.state = b
}

func (d *stateReader) changedMemory(m *savedMachine, s *savedSeries, ring []pane) {
	a := &m.aux
	flags := d.byte()
	a.since, a.tick, a.turn, a.last = math.MinInt64, never, never, math.MinInt64
	for _, t := range []struct {
		is bool
		t  *int64
	}{{flags&memorySince != 0, &a.since}, {m.flags&flagTick != 0, &a.tick}, {m.flags&flagTurn != 0, &a.turn}} {
		if t.is {
			*t.t = d.since()
		}
	}
	if flags&memorySinceIsSeries != 0 {
		a.since = s.since
	}
	r := m.rule
	if r.source != ofFlat && r.source != ofWindow {
		return
	}
	if flags&memoryLast != 0 {
		a.last = d.since()
	}
	if flags&memoryLastIsSeries != 0 {
		a.last = s.last
	}
	if a.value = s.value; flags&memoryValueIsSeries == 0 {
		a.value = d.finite()
	}
	a.x = d.finite()
	if r.source == ofFlat {
		a.moved, a.anchor = d.since(), d.finite()
		return
	}
	a.at = d.time()
	n := d.count(1)
	if n > maxSteps {
		d.fail()
		return
	}
	if n < len(ring) { // the newest of those that were there go on
		a.ring = append(a.ring, ring[n:]...)
	}
	for range n {
		a.ring = append(a.ring, d.changedPane(r))
	}
	a.cur = d.changedPane(r)
}

func (d *stateReader) changedPane(r *rule) (p pane) {
	if p.n = uint32(d.below(math.MaxInt32)); p.n == 0 {
		return p
	}
	if p.v = d.number(); p.v != p.v {
		d.fail()
	}
	if r.fn == fnRate {
		p.t = d.since()
	}
	return p
}
