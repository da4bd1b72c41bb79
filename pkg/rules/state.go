package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The saved state holds what is over or active and what rules remember, and
// nothing else. Rules are named by id and version, series by device and point, so
// that it survives other schemas and rule sets. v is a signed, u an unsigned
// varint, s a text: u length and bytes; f eight bytes, little endian.
//
//	u8 format (4)
//	v  watermark, v time up to which rule sets were passed in earlier eras
//	u  breaks still to pass: v first time after the beginning, v end
//	u  rules:   s id, s version, u8 source, u levels: u8 severity, f limit
//	u  series:  s device, s point, v last, v good, v since, f value, s text
//	            u machines: u rule, u8 flags (1 state, 2 blind, 4 muted, 8 outside of
//	            the schedule, 16 memory, 32 tick, 64 turn)
//	              state:  u8 over, u8 active, v onset, v start, f peak, f x, v since of each level
//	              memory: v since, v tick, v turn, then for
//	                flat:   v last, f value, f x, v moved, f anchor
//	                window: v last, f value, f x, v at, u steps and each of them, oldest
//	                        first, the one that runs last: u n and, if any, f v, v t
//	u  chattering: so many bytes of JSON, see savedChatter
//
// Format 1 had no flags and no memory: breaks were v, rules had u8 kind (1 below,
// whose peaks were negated) in place of the source, series had no good, since and
// text, machines no x, and there was no chattering; format 2 was like it, with
// chattering; in format 3 windows had a step less. All are still read.
const (
	stateFormat = 4
	firstFormat = 1
)

const (
	flagState = 1 << iota
	flagBlind
	flagMuted
	flagOff
	flagMemory
	flagTick
	flagTurn
)

// ErrState says that saved state cannot be read.
var ErrState = errors.New("saved rule state cannot be read")

type savedSeries struct {
	name              seriesName
	last, good, since int64
	value             float64
	text              string
	machines          []savedMachine
}

type savedMachine struct {
	rule  *rule // with id, version, source and levels only
	flags byte
	state busyState
	x     float64
	aux   aux
}

// savedState is what Open read: by name, and in the order in which it stood.
type savedState struct {
	byName map[seriesName]*savedSeries
	order  []*savedSeries
}

func (s *savedState) add(x savedSeries) {
	if s.byName == nil {
		s.byName = map[seriesName]*savedSeries{}
	}
	s.byName[x.name] = &x
	s.order = append(s.order, &x)
}

// take returns the state of a series and forgets it; nil when there is none.
func (s *savedState) take(name seriesName) *savedSeries {
	x := s.byName[name]
	delete(s.byName, name)
	return x
}

// rest returns what nobody took.
func (s *savedState) rest() (out []*savedSeries) {
	for _, x := range s.order {
		if s.byName[x.name] == x {
			out = append(out, x)
		}
	}
	return out
}

// Dirty reports whether the state differs from what the last Save wrote, in a
// way that matters.
func (f *Fold) Dirty() bool {
	return f.dirty || f.w != f.savedW && (len(f.busy) > len(f.spare) || len(f.aux) > len(f.auxFree) || len(f.chatter.by) > 0)
}

// Save appends the state to dst, for a later [Engine.Open]. It must be kept
// together with the position of the last frame that was folded.
func (f *Fold) Save(dst []byte) []byte {
	f.dirty, f.savedW = false, f.w
	if !f.bound && f.opened != nil {
		return append(dst, f.opened...)
	}
	dst = append(dst, stateFormat)
	dst = binary.AppendVarint(binary.AppendVarint(dst, f.w), f.floor)
	dst = binary.AppendUvarint(dst, uint64(len(f.breaks)))
	for _, b := range f.breaks {
		dst = binary.AppendVarint(binary.AppendVarint(dst, b.at), b.to)
	}
	index := map[*rule]int{}
	var rules []*rule
	n := 0
	for i := range f.series {
		s := &f.series[i]
		if !s.kept() {
			continue
		}
		n++
		for k := range s.machines {
			r := s.set.rules[s.machines[k].rule]
			if _, ok := index[r]; !ok && s.machines[k].kept() {
				index[r] = len(rules)
				rules = append(rules, r)
			}
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(rules)))
	for _, r := range rules {
		dst = appendRule(dst, r)
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for i := range f.series {
		if s := &f.series[i]; s.kept() {
			dst = f.appendSeries(dst, s, index)
		}
	}
	return appendText(dst, string(f.saveChatter()))
}

// kept reports whether there is something to save of the series.
func (s *series) kept() bool {
	for k := range s.machines {
		if s.machines[k].kept() {
			return true
		}
	}
	return false
}

func (m *machine) kept() bool { return m.busy != idle || m.aux != idle || m.muted }

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

func appendRule(dst []byte, r *rule) []byte {
	dst = appendText(appendText(dst, r.id), r.version)
	dst = binary.AppendUvarint(append(dst, byte(r.source)), uint64(len(r.levels)))
	for i := range r.levels {
		dst = appendFloat(append(dst, byte(r.levels[i].severity)), r.levels[i].limit)
	}
	return dst
}

func (f *Fold) appendSeries(dst []byte, s *series, index map[*rule]int) []byte {
	dst = appendText(appendText(dst, s.bound.Device), s.bound.Point)
	dst = binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(dst, s.last), s.good), s.since)
	dst = appendText(appendFloat(dst, s.value), s.text)
	n := 0
	for k := range s.machines {
		if s.machines[k].kept() {
			n++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for k := range s.machines {
		m := &s.machines[k]
		if !m.kept() {
			continue
		}
		r := s.set.rules[m.rule]
		dst = f.appendMachine(binary.AppendUvarint(dst, uint64(index[r])), s, m, r)
	}
	return dst
}

func (f *Fold) appendMachine(dst []byte, s *series, m *machine, r *rule) []byte {
	var flags byte
	set := func(on bool, flag byte) {
		if on {
			flags |= flag
		}
	}
	set(m.busy != idle, flagState)
	set(m.blind, flagBlind)
	set(m.muted, flagMuted)
	set(m.off, flagOff)
	set(m.aux != idle, flagMemory)
	if m.aux != idle {
		set(f.aux[m.aux].tick != never, flagTick)
		set(f.aux[m.aux].turn != never, flagTurn)
	}
	dst = append(dst, flags)
	if m.busy != idle {
		b := &f.busy[m.busy]
		dst = append(dst, b.over, b.active)
		dst = binary.AppendVarint(binary.AppendVarint(dst, b.onset), b.start)
		dst = appendFloat(appendFloat(dst, b.peak), f.valueOf(s, m, r, f.now(s)))
		for l := range r.levels {
			dst = binary.AppendVarint(dst, b.since[l])
		}
	}
	if m.aux != idle {
		dst = f.aux[m.aux].append(dst, r)
	}
	return dst
}

func (a *aux) append(dst []byte, r *rule) []byte {
	dst = binary.AppendVarint(dst, a.since)
	if a.tick != never {
		dst = binary.AppendVarint(dst, a.tick)
	}
	if a.turn != never {
		dst = binary.AppendVarint(dst, a.turn)
	}
	if r.source != ofFlat && r.source != ofWindow {
		return dst
	}
	dst = appendFloat(appendFloat(binary.AppendVarint(dst, a.last), a.value), a.x)
	if r.source == ofFlat {
		return appendFloat(binary.AppendVarint(dst, a.moved), a.anchor)
	}
	dst = binary.AppendVarint(dst, a.at)
	dst = binary.AppendUvarint(dst, uint64(len(a.ring)))
	for i := range a.ring {
		dst = a.ring[(a.head+i)%len(a.ring)].append(dst)
	}
	return a.cur.append(dst)
}

func (p *pane) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.n))
	if p.n == 0 {
		return dst
	}
	return binary.AppendVarint(appendFloat(dst, p.v), p.t)
}

// decode reads what Save wrote. The bytes come from disk: nothing in them is
// believed.
func (f *Fold) decode(data []byte) error {
	d := stateReader{b: data}
	if d.format = d.byte(); d.format < firstFormat || d.format > stateFormat {
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
		f.saved.add(d.series(rules))
	}
	if d.format >= 2 && !f.loadChatter(d.bytes()) {
		d.fail()
	}
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("edge %s: %w: it is damaged", f.edge, ErrState)
	}
	return nil
}

type stateReader struct {
	b      []byte
	format byte
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

func (d *stateReader) rule() *rule {
	r := &rule{id: d.text(), version: d.text()}
	switch kind := d.byte(); {
	case d.format <= 2 && kind == 1:
		r.shape = isBelow
	case d.format > 2:
		r.source = source(kind)
	}
	for range d.below(maxLevels + 1) {
		r.levels = append(r.levels, level{severity: alert.Severity(d.byte()), limit: d.float()})
	}
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
		m := savedMachine{rule: rules[i], flags: flagState}
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
		f.wake(m)
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
		f.tell(alert.Ended, s, &sm.state, r, max(f.now(s), sm.state.start), sm.x, sm.state.active, why)
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
