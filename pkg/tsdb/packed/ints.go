package packed

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// blockSize is how many samples share a line and a Rice code.
const blockSize = 128

// How the residuals of a block are written.
const (
	modeZero  = iota // all are zero
	modeStep         // of each number to the one before
	modeRuns         // likewise, most of them are zero
	modeLevel        // to a line
)

const fresh = 1 << 5 // in the control byte: unit and slope follow

// line is what a block of ints tells the next one.
type line struct {
	unit  int64 // all differences are multiples of it, taken as uint64
	slope int64 // in units
	last  int64
}

// next is the number that would come if all went on as it does.
func (l *line) next() int64 { return l.last + l.unit*l.slope }

// intEncoder encodes blocks of ints. It keeps scratch memory.
type intEncoder struct {
	m     [blockSize]int64  // (n(i) - n0) / unit
	step  [blockSize]uint64 // zigzag coded residuals; [0] is not used
	level [blockSize]uint64
}

// append encodes n, one to blockSize numbers that follow those of l.
func (e *intEncoder) append(dst []byte, n []int64, l *line) []byte {
	first := n[0] - l.next()
	before := *l
	l.last = n[len(n)-1]
	mode, k, runK, offset := uint(modeZero), uint(0), uint(0), int64(0)
	if unit := commonUnit(n); unit != 0 {
		e.scale(n, unit)
		l.unit, l.slope = int64(unit), e.slope(len(n))
		mode, k, runK, offset = e.choose(len(n), l.slope)
	} else if len(n) > 1 { // all alike
		l.slope = 0
	}
	control := byte(mode<<6 | k)
	if l.unit != before.unit || l.slope != before.slope {
		dst = append(dst, control|fresh)
		dst = binary.AppendUvarint(dst, uint64(l.unit))
		dst = binary.AppendVarint(dst, l.slope)
	} else {
		dst = append(dst, control)
	}
	dst = binary.AppendVarint(dst, first)
	switch mode {
	case modeStep:
		w := newBitWriter(dst)
		for _, u := range e.step[1:len(n)] {
			w.rice(u, k)
		}
		dst = w.finish()
	case modeLevel:
		dst = binary.AppendVarint(dst, offset)
		w := newBitWriter(dst)
		for _, u := range e.level[1:len(n)] {
			w.rice(u, k)
		}
		dst = w.finish()
	case modeRuns:
		w := newBitWriter(append(dst, byte(runK)))
		run := uint64(0)
		for _, u := range e.step[1:len(n)] {
			if u == 0 {
				run++
				continue
			}
			w.rice(run, runK)
			w.rice(u-1, k)
			run = 0
		}
		if run > 0 {
			w.rice(run, runK)
		}
		dst = w.finish()
	}
	return dst
}

// commonUnit returns the greatest common divisor of the differences, 0 when all are
// zero.
func commonUnit(n []int64) (unit uint64) {
	for i := 1; i < len(n) && unit != 1; i++ {
		d := n[i] - n[i-1]
		if d < 0 {
			d = -d
		}
		a, b := uint64(d), unit
		for b != 0 {
			a, b = b, a%b
		}
		unit = a
	}
	return unit
}

// scale fills e.m.
func (e *intEncoder) scale(n []int64, unit uint64) {
	e.m[0] = 0
	switch {
	case unit == 1:
		for i := 1; i < len(n); i++ {
			e.m[i] = n[i] - n[0]
		}
	case unit>>63 != 0: // differences are zero or this
		for i := 1; i < len(n); i++ {
			e.m[i] = e.m[i-1]
			if n[i] != n[i-1] {
				e.m[i]++
			}
		}
	default:
		for i := 1; i < len(n); i++ {
			e.m[i] = e.m[i-1] + (n[i]-n[i-1])/int64(unit)
		}
	}
}

// slope returns the step that leaves the least of e.m: the one that most have, or the
// mean one, or none.
func (e *intEncoder) slope(n int) int64 {
	if n < 2 {
		return 0
	}
	var most int64
	votes := 0
	for i := 1; i < n; i++ {
		switch s := e.m[i] - e.m[i-1]; {
		case votes == 0:
			most, votes = s, 1
		case s == most:
			votes++
		default:
			votes--
		}
	}
	steps := int64(n - 1)
	mean := e.m[n-1] / steps
	if rest := e.m[n-1] % steps; 2*rest >= steps {
		mean++
	} else if -2*rest >= steps {
		mean--
	}
	best, least := int64(0), e.bits(n, 0)
	for _, s := range [...]int64{most, mean} {
		if s == best {
			continue
		}
		if b := e.bits(n, s) + 16; b < least { // what it takes to say it
			best, least = s, b
		}
	}
	return best
}

// bits estimates what residuals by step take.
func (e *intEncoder) bits(n int, slope int64) (sum int) {
	for i := 1; i < n; i++ {
		sum += bits.Len64(zigzag(e.m[i] - e.m[i-1] - slope))
	}
	return sum
}

// choose fills the residuals and returns the mode that takes the least.
func (e *intEncoder) choose(n int, slope int64) (mode, k, runK uint, offset int64) {
	zeros := 0
	for i := 1; i < n; i++ {
		u := zigzag(e.m[i] - e.m[i-1] - slope)
		e.step[i] = u
		if u == 0 {
			zeros++
		}
	}
	if zeros == n-1 {
		return modeZero, 0, 0, 0
	}
	k, best := riceK(e.step[1:n])
	mode = modeStep
	if 2*zeros > n {
		if rk, ck, b := e.runsCost(n); b < best {
			mode, k, runK, best = modeRuns, ck, rk, b
		}
	}
	var total int64
	for i := 1; i < n; i++ {
		total += e.m[i] - int64(i)*slope
	}
	offset = total / int64(n-1)
	for i := 1; i < n; i++ {
		e.level[i] = zigzag(e.m[i] - int64(i)*slope - offset)
	}
	if lk, b := riceK(e.level[1:n]); b+16 < best {
		mode, k, runK = modeLevel, lk, 0
	}
	return mode, k, runK, offset
}

// runsCost returns the parameters of runs, and the bits that they take.
func (e *intEncoder) runsCost(n int) (runK, k uint, cost int) {
	var lengths, others [blockSize]uint64
	count, run := 0, uint64(0)
	for _, u := range e.step[1:n] {
		if u == 0 {
			run++
			continue
		}
		lengths[count], others[count] = run, u-1
		count, run = count+1, 0
	}
	k, a := riceK(others[:count])
	if run > 0 {
		lengths[count] = run
		count++
	}
	runK, b := riceK(lengths[:count])
	return runK, k, a + b + 8
}

// riceK returns the parameter with which u takes the least bits, and how many.
func riceK(u []uint64) (k uint, cost int) {
	if len(u) == 0 {
		return 0, 0
	}
	var sum uint64
	for _, x := range u {
		sum += min(x, 1<<50)
	}
	guess := min(uint(bits.Len64(sum/uint64(len(u)))), maxK)
	k, cost = 0, 1<<30
	for try := max(guess, 2) - 2; try <= guess; try++ {
		c := 0
		for _, x := range u {
			if q := x >> try; q < maxUnary {
				c += int(q) + 1 + int(try)
			} else {
				c += maxUnary + 64
			}
		}
		if c < cost {
			k, cost = try, c
		}
	}
	return k, cost
}

var (
	errShort   = errors.New("it ends too early")
	errVarint  = errors.New("a number has too many bytes")
	errTooMany = errors.New("a run is longer than its block")
)

func uvarint(b []byte) (uint64, []byte, error) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:], nil
	}
	x, n := binary.Uvarint(b)
	switch {
	case n == 0:
		return 0, nil, errShort
	case n < 0:
		return 0, nil, errVarint
	}
	return x, b[n:], nil
}

func varint(b []byte) (int64, []byte, error) {
	u, rest, err := uvarint(b)
	return unzigzag(u), rest, err
}

// decodeInts fills out from b and returns what follows.
func decodeInts(b []byte, out []int64, l *line) (rest []byte, err error) {
	if len(b) == 0 {
		return nil, errShort
	}
	control := b[0]
	b = b[1:]
	mode, k := control>>6, uint(control&maxK)
	n := l.next()
	if control&fresh != 0 {
		var u uint64
		if u, b, err = uvarint(b); err != nil {
			return nil, err
		}
		l.unit = int64(u)
		if l.slope, b, err = varint(b); err != nil {
			return nil, err
		}
	}
	first, b, err := varint(b)
	if err != nil {
		return nil, err
	}
	n += first
	out[0] = n
	step := l.unit * l.slope
	switch mode {
	case modeZero:
		for i := range out[1:] {
			n += step
			out[i+1] = n
		}
		rest = b
	case modeStep:
		r := bitReader{buf: b}
		unit := l.unit
		for i := range out[1:] {
			n += step + unit*unzigzag(r.rice(k))
			out[i+1] = n
		}
		if r.over() {
			return nil, errShort
		}
		rest = r.rest()
	case modeRuns:
		rest, err = decodeRuns(b, out, l, k)
	case modeLevel:
		var offset int64
		if offset, b, err = varint(b); err != nil {
			return nil, err
		}
		r := bitReader{buf: b}
		unit, at := l.unit, n+l.unit*offset
		for i := range out[1:] {
			at += step
			out[i+1] = at + unit*unzigzag(r.rice(k))
		}
		if r.over() {
			return nil, errShort
		}
		rest = r.rest()
	}
	l.last = out[len(out)-1]
	return rest, err
}

func decodeRuns(b []byte, out []int64, l *line, k uint) ([]byte, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	runK := uint(b[0])
	if runK > maxK {
		return nil, errVarint
	}
	r := bitReader{buf: b[1:]}
	n, step := out[0], l.unit*l.slope
	for i := 1; i < len(out); i++ {
		run := r.rice(runK)
		if run > uint64(len(out)-i) || r.over() {
			return nil, errTooMany
		}
		for ; run > 0; run-- {
			n += step
			out[i] = n
			i++
		}
		if i == len(out) {
			break
		}
		n += step + l.unit*unzigzag(r.rice(k)+1)
		out[i] = n
	}
	if r.over() {
		return nil, errShort
	}
	return r.rest(), nil
}
