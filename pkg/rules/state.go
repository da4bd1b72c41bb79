package rules

import (
	"encoding/binary"
	"errors"
	"math"
)

// The saved state holds what is over or active and what rules remember, and
// nothing else. Rules are named by id and version, series by device and point, so
// that it survives other schemas and rule sets.
//
// It is a whole, and what has changed since, part after part. A part:
//
//	u8 format (5), u8 0 whole or 1 changes, u length of what follows
//	i  watermark, i time up to which rule sets were passed in earlier eras
//	u  breaks still to pass: t first time after the beginning, i its length
//	u  rules, numbered on from those before: s id, s version, u8 source,
//	            u8 function, u levels: u8 severity, f limit
//	u  series:  u number; one that is new: s device, s point
//	            u8 flags (1 last, 2 good, 4 since, 8 good is last, 16 text)
//	            [t last], [t good], [t since], n value, [s text]
//	            u machines (none: forget the series): u rule, u8 flags (1 state,
//	            2 blind, 4 muted, 8 outside of the schedule, 16 memory, 32 tick, 64 turn)
//	              state:  u8 over, u8 active, t onset, t start, n peak,
//	                      n x or, when that is an age, t from when on, t since of each level
//	              memory: u8 flags (1 since, 2 last, 4 last is that of the series, 8
//	                      since is that of the series, 16 value is that of the series),
//	                      [t since], [t tick], [t turn], then for
//	                flat:   [t last], [n value], n x, t moved, n anchor
//	                window: [t last], [n value], n x, i number of the step that
//	                        runs, u steps and so many of them: the newest of those that are
//	                        over, oldest first, all in a whole part; the one that runs
//	                        step: u n and, if any, n value, for a rate t time
//	u  chattering: u length of JSON and it, see savedChatter
//
// u is an unsigned and i a signed varint, s a text (u length and bytes), f eight bytes,
// little endian, t a time, as i of what it lies behind the watermark (a span that
// wraps is one that wraps back), n a number: u, whose last three bits say that the rest,
// a signed varint in zigzag, is to be divided by 1, 10, 100, 1000 ...; or 7 and an f.
const (
	stateFormat = 5
	partWhole   = 0
	partChanges = 1
)

// Changes are written until they are larger than so many times the whole, which is
// then written anew: it bounds what is kept and read at a start, and what is
// written, too.
const (
	changesPerWhole = 2
	changesAtLeast  = 4096 // bytes of them that are not worth a whole
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

const (
	seriesLast = 1 << iota
	seriesGood
	seriesSince
	seriesGoodIsLast
	seriesText
)

const (
	memorySince = 1 << iota
	memoryLast
	memoryLastIsSeries
	memorySinceIsSeries
	memoryValueIsSeries
)

// ErrState says that saved state cannot be read.
var ErrState = errors.New("saved rule state cannot be read")

// ErrVersion says that saved state was written by a newer program.
var ErrVersion = errors.New("written by a newer langbiang-hub")

// journal is what a fold knows of the state that it has saved.
type journal struct {
	whole    bool          // the next part has to be a whole one
	changed  []uint32      // series, since the last part
	rules    map[*rule]int // numbers in the parts so far
	series   int           // numbered in the parts so far
	size     int           // of the whole part
	since    int           // of the changes since
	chatters map[chatterKey]bool
}

// Dirty reports whether the state differs from what the last Save wrote, in a
// way that matters.
func (f *Fold) Dirty() bool {
	return f.dirty || f.w != f.savedW && (len(f.busy) > len(f.spare) || len(f.aux) > len(f.auxFree) || len(f.chatter.by) > 0)
}

// touch says that there is something new to save of the series.
func (f *Fold) touch(s *series) {
	f.dirty = true
	if !s.changed {
		s.changed = true
		f.journal.changed = append(f.journal.changed, s.index)
	}
}

// Save appends the whole state to dst, for a later [Engine.Open]. It must be kept
// together with the position of the last frame that was folded.
func (f *Fold) Save(dst []byte) []byte {
	f.journal.whole = true
	dst, _ = f.SaveChanges(dst)
	return dst
}

// SaveChanges appends to dst what has changed since the last call, or the whole
// state when that is the shorter way. [Engine.Open] takes a whole one with all
// the changes after it, one after the other.
func (f *Fold) SaveChanges(dst []byte) (out []byte, whole bool) {
	f.dirty, f.savedW = false, f.w
	if !f.bound && f.opened != nil {
		return append(dst, f.opened...), true
	}
	j := &f.journal
	whole = j.whole || j.rules == nil || j.since > max(changesAtLeast, changesPerWhole*j.size)
	kind := byte(partChanges)
	if whole {
		kind = partWhole
		f.number()
	}
	begin := len(dst)
	dst = append(dst, stateFormat, kind, 0, 0, 0, 0, 0) // room for the length
	dst = f.appendBody(dst, whole)
	dst = setLength(dst, begin+2)
	if j.chatters = nil; whole {
		j.size, j.since = len(dst)-begin, 0
	} else {
		j.since += len(dst) - begin
	}
	j.whole, j.changed = false, j.changed[:0]
	return dst, whole
}

// number begins the numbers of rules and series anew, for a whole part.
func (f *Fold) number() {
	j := &f.journal
	j.rules, j.series, j.changed = map[*rule]int{}, 0, j.changed[:0]
	for i := range f.series {
		s := &f.series[i]
		s.number, s.changed = unnumbered, false
		for k := range s.machines {
			if m := &s.machines[k]; m.aux != idle {
				f.aux[m.aux].rolled = len(f.aux[m.aux].ring)
			}
		}
		if s.kept() {
			j.changed = append(j.changed, uint32(i))
		}
	}
}

const unnumbered = -1

func (f *Fold) appendBody(dst []byte, whole bool) []byte {
	j := &f.journal
	dst = binary.AppendVarint(binary.AppendVarint(dst, f.w), f.floor)
	dst = binary.AppendUvarint(dst, uint64(len(f.breaks)))
	for _, b := range f.breaks {
		dst = binary.AppendVarint(f.appendTime(dst, b.at), b.to-b.at)
	}
	var rules []*rule
	n := 0
	for _, i := range j.changed {
		s := &f.series[i]
		if s.number == unnumbered && !s.kept() {
			continue // it came and went
		}
		n++
		for k := range s.machines {
			r := s.set.rules[s.machines[k].rule]
			if _, ok := j.rules[r]; !ok && s.machines[k].kept() {
				j.rules[r] = len(j.rules)
				rules = append(rules, r)
			}
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(rules)))
	for _, r := range rules {
		dst = appendRule(dst, r)
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for _, i := range j.changed {
		s := &f.series[i]
		s.changed = false
		if kept := s.kept(); s.number != unnumbered || kept {
			dst = f.appendSeries(dst, s)
			s.keeps = kept
		}
	}
	return f.appendChatter(dst, whole)
}

// setLength puts the length of what follows the five bytes at i there, and takes out
// the bytes that it does not need.
func setLength(dst []byte, i int) []byte {
	body := dst[i+5:]
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(len(body)))
	copy(dst[i:], length[:n])
	return append(dst[:i+n], body...)
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

// decimals are what numbers are divided by.
var decimals = [...]float64{1, 10, 100, 1000, 1e4, 1e6}

const rawNumber = 7

// appendNumber writes the few digits that most numbers have.
func appendNumber(dst []byte, v float64) []byte {
	for k, by := range decimals {
		x := math.Round(v * by)
		if math.Abs(x) >= 1<<53 || x != x {
			break
		}
		if i := int64(x); math.Float64bits(float64(i)/by) == math.Float64bits(v) {
			return binary.AppendUvarint(dst, uint64(i<<1^i>>63)<<3|uint64(k))
		}
	}
	return appendFloat(append(dst, rawNumber), v)
}

func (f *Fold) appendTime(dst []byte, t int64) []byte { return binary.AppendVarint(dst, f.w-t) }

func appendRule(dst []byte, r *rule) []byte {
	dst = appendText(appendText(dst, r.id), r.version)
	dst = binary.AppendUvarint(append(dst, byte(r.source), byte(r.fn)), uint64(len(r.levels)))
	for i := range r.levels {
		dst = appendFloat(append(dst, byte(r.levels[i].severity)), r.levels[i].limit)
	}
	return dst
}

func (f *Fold) appendSeries(dst []byte, s *series) []byte {
	if s.number == unnumbered {
		s.number = f.journal.series
		f.journal.series++
		dst = binary.AppendUvarint(dst, uint64(s.number))
		dst = appendText(appendText(dst, s.bound.Device), s.bound.Point)
	} else {
		dst = binary.AppendUvarint(dst, uint64(s.number))
	}
	var flags byte
	set := func(on bool, flag byte) {
		if on {
			flags |= flag
		}
	}
	set(s.last != math.MinInt64, seriesLast)
	set(s.good == s.last, seriesGoodIsLast)
	set(s.good != s.last && s.good != math.MinInt64, seriesGood)
	set(s.since != unbegun, seriesSince)
	set(s.text != "", seriesText)
	dst = append(dst, flags)
	for _, t := range []struct {
		flag byte
		t    int64
	}{{seriesLast, s.last}, {seriesGood, s.good}, {seriesSince, s.since}} {
		if flags&t.flag != 0 {
			dst = f.appendTime(dst, t.t)
		}
	}
	dst = appendNumber(dst, s.value)
	if s.text != "" {
		dst = appendText(dst, s.text)
	}
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
		dst = f.appendMachine(binary.AppendUvarint(dst, uint64(f.journal.rules[r])), s, m, r)
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
		dst = f.appendTime(f.appendTime(dst, b.onset), b.start)
		dst = appendNumber(dst, b.peak)
		if r.source == ofSilence {
			dst = f.appendTime(dst, r.alive(s, &f.aux[m.aux]))
		} else {
			dst = appendNumber(dst, f.valueOf(s, m, r, 0))
		}
		for l := range r.levels {
			dst = f.appendTime(dst, b.since[l])
		}
	}
	if m.aux != idle {
		dst = f.appendMemory(dst, s, &f.aux[m.aux], r)
	}
	return dst
}

func (f *Fold) appendMemory(dst []byte, s *series, a *aux, r *rule) []byte {
	var flags byte
	set := func(on bool, flag byte) {
		if on {
			flags |= flag
		}
	}
	remembers := r.source == ofFlat || r.source == ofWindow
	set(a.since == s.since, memorySinceIsSeries)
	set(a.since != s.since && a.since != math.MinInt64, memorySince)
	set(remembers && a.last == s.last, memoryLastIsSeries)
	set(remembers && a.last != s.last && a.last != math.MinInt64, memoryLast)
	set(math.Float64bits(a.value) == math.Float64bits(s.value), memoryValueIsSeries)
	dst = append(dst, flags)
	if flags&memorySince != 0 {
		dst = f.appendTime(dst, a.since)
	}
	if a.tick != never {
		dst = f.appendTime(dst, a.tick)
	}
	if a.turn != never {
		dst = f.appendTime(dst, a.turn)
	}
	if !remembers {
		return dst
	}
	if flags&memoryLast != 0 {
		dst = f.appendTime(dst, a.last)
	}
	if flags&memoryValueIsSeries == 0 {
		dst = appendNumber(dst, a.value)
	}
	dst = appendNumber(dst, a.x)
	if r.source == ofFlat {
		return appendNumber(f.appendTime(dst, a.moved), a.anchor)
	}
	dst = binary.AppendVarint(dst, a.at)
	dst = binary.AppendUvarint(dst, uint64(a.rolled))
	for i := len(a.ring) - a.rolled; i < len(a.ring); i++ {
		dst = f.appendPane(dst, &a.ring[(a.head+i)%len(a.ring)], r)
	}
	a.rolled = 0
	return f.appendPane(dst, &a.cur, r)
}

func (f *Fold) appendPane(dst []byte, p *pane, r *rule) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.n))
	if p.n == 0 {
		return dst
	}
	if dst = appendNumber(dst, p.v); r.fn == fnRate {
		dst = f.appendTime(dst, p.t)
	}
	return dst
}
