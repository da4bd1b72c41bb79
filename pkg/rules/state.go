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

// The saved state holds what is over or active, and nothing of what is idle.
// Rules are named by id and version, series by device and point, so that it
// survives other schemas and rule sets. v is a signed, u an unsigned varint, s
// a text: u length and bytes; f eight bytes, little endian.
//
//	u8 format (2; 1 has no chattering)
//	v  watermark, v time up to which rule sets were passed in earlier eras
//	u  breaks still to pass, v each
//	u  rules:   s id, s version, u8 kind (0 above, 1 below), u levels: u8 severity, f limit
//	u  series:  s device, s point, v last, f value
//	            u machines: u rule, u8 over, u8 active, v onset, v start, f peak, v since of each level
//	u  chattering: so many bytes of JSON, see savedChatter
const stateFormat = 2

// ErrState says that saved state cannot be read.
var ErrState = errors.New("saved rule state cannot be read")

type savedSeries struct {
	name     seriesName
	last     int64
	value    float64
	machines []savedMachine
}

type savedMachine struct {
	rule  *rule // with id, version, kind and levels only
	state busyState
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
	return f.dirty || f.w != f.savedW && len(f.busy) > len(f.spare)
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
	for _, at := range f.breaks {
		dst = binary.AppendVarint(dst, at)
	}
	index := map[*rule]int{}
	var rules []*rule
	n := 0
	for i := range f.series {
		s := &f.series[i]
		if !s.busy() {
			continue
		}
		n++
		for k := range s.machines {
			r := s.set.rules[s.machines[k].rule]
			if _, ok := index[r]; !ok && s.machines[k].busy != idle {
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
		if s := &f.series[i]; s.busy() {
			dst = f.appendSeries(dst, s, index)
		}
	}
	return appendText(dst, string(f.saveChatter()))
}

func (s *series) busy() bool {
	for k := range s.machines {
		if s.machines[k].busy != idle {
			return true
		}
	}
	return false
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

func appendRule(dst []byte, r *rule) []byte {
	dst = appendText(appendText(dst, r.id), r.version)
	kind := byte(0)
	if r.kind == Below {
		kind = 1
	}
	dst = binary.AppendUvarint(append(dst, kind), uint64(len(r.levels)))
	for _, l := range r.levels {
		dst = appendFloat(append(dst, byte(l.severity)), l.limit)
	}
	return dst
}

func (f *Fold) appendSeries(dst []byte, s *series, index map[*rule]int) []byte {
	dst = appendText(appendText(dst, s.bound.Device), s.bound.Point)
	dst = appendFloat(binary.AppendVarint(dst, s.last), s.value)
	n := 0
	for k := range s.machines {
		if s.machines[k].busy != idle {
			n++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for k := range s.machines {
		m := &s.machines[k]
		if m.busy == idle {
			continue
		}
		b, r := &f.busy[m.busy], s.set.rules[m.rule]
		dst = binary.AppendUvarint(dst, uint64(index[r]))
		dst = append(dst, b.over, b.active)
		dst = binary.AppendVarint(binary.AppendVarint(dst, b.onset), b.start)
		dst = appendFloat(dst, b.peak)
		for l := range r.levels {
			dst = binary.AppendVarint(dst, b.since[l])
		}
	}
	return dst
}

// decode reads what Save wrote. The bytes come from disk: nothing in them is
// believed.
func (f *Fold) decode(data []byte) error {
	d := stateReader{b: data}
	format := d.byte()
	if format == 0 || format > stateFormat {
		return fmt.Errorf("edge %s: %w: its format is %d, this program knows %d", f.edge, ErrState, format, stateFormat)
	}
	f.w, f.floor = d.mark(), d.mark()
	f.savedW = f.w
	for range d.count(1) {
		f.breaks = append(f.breaks, d.time())
	}
	var rules []*rule
	for range d.count(4) {
		rules = append(rules, d.rule())
	}
	for range d.count(12) {
		f.saved.add(d.series(rules))
	}
	if format >= 2 && !f.loadChatter(d.bytes()) {
		d.fail()
	}
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("edge %s: %w: it is damaged", f.edge, ErrState)
	}
	return nil
}

type stateReader struct {
	b   []byte
	bad bool
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
	if n > telemetry.MaxNameLen {
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

func (d *stateReader) float() float64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(d.b))
	d.b = d.b[8:]
	if !finite(v) {
		d.fail()
	}
	return v
}

func (d *stateReader) rule() *rule {
	r := &rule{id: d.text(), version: d.text(), kind: Above}
	if d.byte() == 1 {
		r.kind = Below
	}
	for range d.below(maxLevels + 1) {
		r.levels = append(r.levels, level{severity: alert.Severity(d.byte()), limit: d.float()})
	}
	return r
}

func (d *stateReader) series(rules []*rule) savedSeries {
	s := savedSeries{name: seriesName{d.text(), d.text()}, last: d.mark(), value: d.float()}
	for range d.count(13) {
		i := d.below(len(rules))
		if d.bad {
			return s
		}
		m := savedMachine{rule: rules[i]}
		n := len(m.rule.levels)
		m.state = busyState{over: d.byte(), active: d.byte(), onset: d.time(), start: d.time(), peak: d.float(), queued: never}
		if int(m.state.over) > n || int(m.state.active) > n || m.state.over+m.state.active == 0 {
			d.fail()
			return s
		}
		for l := range n {
			m.state.since[l] = d.time()
		}
		s.machines = append(s.machines, m)
	}
	return s
}

// restore gives a fresh series its saved state.
func (f *Fold) restore(s *series, saved *savedSeries) {
	if saved == nil {
		return
	}
	s.last, s.value = saved.last, saved.value
	f.setUntil(s)
	f.pass(s, f.start(s))
	if s.set == nil {
		f.abandon(s, saved, ReasonRuleChanged)
		return
	}
	var lost []savedMachine
	for _, sm := range saved.machines {
		k := find(s.machines, s.set, sm.rule)
		if k < 0 || len(s.set.rules[s.machines[k].rule].levels) != len(sm.rule.levels) || s.machines[k].busy != idle {
			lost = append(lost, sm)
			continue
		}
		m := &s.machines[k]
		f.busy = append(f.busy, sm.state)
		m.busy = int32(len(f.busy) - 1)
		r := s.set.rules[m.rule]
		m.set(r, int(sm.state.over))
		if sm.state.active > 0 {
			f.account.add(r, 0, 1)
		}
	}
	saved.machines = lost
	f.abandon(s, saved, "")
}

// abandon ends the alerts of saved state that no rule in force takes up.
func (f *Fold) abandon(s *series, saved *savedSeries, reason string) {
	for _, sm := range saved.machines {
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
		f.tell(alert.Ended, s, &sm.state, r, max(f.now(s), sm.state.start), sm.state.active, why)
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

// at is a time of the API.
func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
