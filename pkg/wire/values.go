package wire

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The encodings of a column's values.
const (
	valuesZero    = 0 // all +0
	valuesConst   = 1 // all the same eight bytes
	valuesDecimal = 2 // integers of one scale, with exceptions
	valuesRuns    = 3 // run lengths, then the runs' values as valuesDecimal
	valuesXOR64   = 4 // each XORed with the one before
	valuesXOR32   = 5 // likewise, values that are float32
	valuesRaw     = 6 // eight bytes each

	valuesMask   = 0x0f
	valuesFrames = 0x40 // flag, in joined frames: which frame each belongs to follows the texts
	valuesText   = 0x80 // flag: texts follow the values
)

// decimalExceptions is set in the variant's byte when exceptions follow.
const decimalExceptions = 0x80

// valueEncoder encodes the numbers of a column. It keeps scratch memory.
type valueEncoder struct {
	seq     sequencer
	dec     decimals
	heads   []float64
	lengths []int64

	// Of the exceptions.
	rest      decimals
	restHint  scale
	odd       []float64
	positions []int64
}

// append encodes v, m series of c values each, and returns the encoding used.
func (e *valueEncoder) append(dst []byte, v []float64, m, c int, hint *scale) ([]byte, byte) {
	first := math.Float64bits(v[0])
	runs, last := 1, first
	for _, x := range v[1:] {
		if b := math.Float64bits(x); b != last {
			runs++
			last = b
		}
	}
	if runs == 1 {
		if first == 0 {
			return dst, valuesZero
		}
		return binary.LittleEndian.AppendUint64(dst, first), valuesConst
	}
	if runs*6 <= len(v) {
		start := len(dst)
		if dst, ok := e.appendRuns(dst, v, runs, hint); ok {
			return dst, valuesRuns
		}
		dst = dst[:start]
	}
	if e.dec.fit(v, hint) {
		return e.appendDecimal(dst, v, m, c), valuesDecimal
	}
	return appendXOR(dst, v)
}

// appendDecimal writes what e.dec holds for v.
func (e *valueEncoder) appendDecimal(dst []byte, v []float64, m, c int) []byte {
	variant := e.dec.scale.variant
	if len(e.dec.exceptions) > 0 {
		variant |= decimalExceptions
	}
	dst = append(dst, variant, byte(e.dec.scale.exp))
	if len(e.dec.exceptions) > 0 {
		dst = e.appendExceptions(dst, v)
	}
	return e.seq.append(dst, e.dec.ints, m, c)
}

// appendExceptions writes how many there are, where, and their values, which
// are decimals of another scale or floats.
func (e *valueEncoder) appendExceptions(dst []byte, v []float64) []byte {
	e.odd, e.positions = e.odd[:0], e.positions[:0]
	last := int32(-1)
	for _, i := range e.dec.exceptions {
		e.odd = append(e.odd, v[i])
		e.positions = append(e.positions, int64(i-last-1))
		last = i
	}
	n := len(e.odd)
	dst = appendUvarint(dst, uint64(n))
	dst = e.seq.append(dst, e.positions, n, 1)
	at := len(dst)
	dst = append(dst, valuesDecimal)
	if e.rest.fitAll(e.odd, &e.restHint) {
		dst = append(dst, e.rest.scale.variant, byte(e.rest.scale.exp))
		return e.seq.append(dst, e.rest.ints, n, 1)
	}
	dst, enc := appendXOR(dst, e.odd)
	dst[at] = enc
	return dst
}

func (e *valueEncoder) appendRuns(dst []byte, v []float64, runs int, hint *scale) ([]byte, bool) {
	e.heads, e.lengths = e.heads[:0], e.lengths[:0]
	start := 0
	for i := 1; i <= len(v); i++ {
		if i == len(v) || math.Float64bits(v[i]) != math.Float64bits(v[start]) {
			e.heads = append(e.heads, v[start])
			e.lengths = append(e.lengths, int64(i-start))
			start = i
		}
	}
	if !e.dec.fit(e.heads, hint) {
		return dst, false
	}
	dst = appendUvarint(dst, uint64(runs))
	dst = e.seq.append(dst, e.lengths, runs, 1)
	return e.appendDecimal(dst, e.heads, runs, 1), true
}

// appendXOR writes v in the manner of Facebook's Gorilla (Pelkonen et al., 2015,
// section 4.1.3): a zero bit for the same value again; else a one, then a zero
// and the bits within the last window, or a one and a new window (leading zeros
// in 5 or 6 bits, length minus one in as many) and its bits.
func appendXOR(dst []byte, v []float64) ([]byte, byte) {
	single := true
	for _, x := range v {
		if math.Float64bits(float64(float32(x))) != math.Float64bits(x) {
			single = false
			break
		}
	}
	start := len(dst)
	size, field := uint(64), uint(6)
	enc := byte(valuesXOR64)
	if single {
		size, field, enc = 32, 5, valuesXOR32
	}
	w := bitWriter{buf: dst}
	var prev uint64
	lead, length := uint(0), uint(0) // no window yet
	for _, x := range v {
		b := math.Float64bits(x)
		if single {
			b = uint64(math.Float32bits(float32(x)))
		}
		diff := b ^ prev
		prev = b
		if diff == 0 {
			w.put(0, 1)
			continue
		}
		l := uint(bits.LeadingZeros64(diff)) - (64 - size)
		n := size - l - uint(bits.TrailingZeros64(diff))
		if length != 0 && l >= lead && l+n <= lead+length && length < n+2*field {
			w.put(0b01, 2)
			w.put(diff>>(size-lead-length), length)
			continue
		}
		lead, length = l, n
		w.put(0b11, 2)
		w.put(uint64(lead), field)
		w.put(uint64(length-1), field)
		w.put(diff>>(size-lead-length), length)
	}
	dst = w.finish()
	if len(dst)-start <= 8*len(v) {
		return dst, enc
	}
	dst = dst[:start]
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(x))
	}
	return dst, valuesRaw
}

// valueDecoder decodes the numbers of a column. It keeps scratch memory.
type valueDecoder struct {
	ints      []int64
	lengths   []int64
	heads     []float64
	positions []int64
	odd       []float64
}

// grow returns s with length n, its content undefined.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// decode fills out, m series of c values.
func (d *valueDecoder) decode(r *reader, enc byte, out []float64, m, c int) {
	switch enc {
	case valuesZero:
		clear(out)
	case valuesConst:
		v := math.Float64frombits(r.u64())
		for i := range out {
			out[i] = v
		}
	case valuesDecimal:
		d.decimal(r, out, m, c)
	case valuesRuns:
		d.runs(r, out)
	case valuesXOR64:
		decodeXOR(r, out, 64, 6)
	case valuesXOR32:
		decodeXOR(r, out, 32, 5)
	case valuesRaw:
		b := r.bytes(8 * len(out))
		if b == nil {
			return
		}
		for i := range out {
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
		}
	default:
		r.unknown("encoding of values", int(enc))
	}
}

func (d *valueDecoder) decimal(r *reader, out []float64, m, c int) {
	variant := r.u8()
	s := scale{variant &^ decimalExceptions, int8(r.u8())}
	if r.err != nil {
		return
	}
	if !s.valid() {
		r.unknown("decimal variant", int(variant))
		return
	}
	odd := 0
	if variant&decimalExceptions != 0 {
		if odd = d.exceptions(r, len(out)); r.err != nil {
			return
		}
	}
	d.ints = grow(d.ints, len(out))
	r.sequence(d.ints, m, c)
	if r.err != nil {
		return
	}
	sc := s.scaler()
	sc.floats(out, d.ints)
	at := int64(-1)
	for i := range odd {
		at += d.positions[i] + 1
		if d.positions[i] < 0 || at < 0 || at >= int64(len(out)) {
			r.fail("an exception is outside its column")
			return
		}
		out[at] = d.odd[i]
	}
}

// exceptions decodes the exceptions of a column of n values into odd and
// positions.
func (d *valueDecoder) exceptions(r *reader, n int) int {
	odd := r.count(n, "exceptions")
	if r.err == nil && odd == 0 {
		r.fail("no exceptions where some are announced")
	}
	if r.err != nil {
		return 0
	}
	d.positions = grow(d.positions, odd)
	r.sequence(d.positions, odd, 1)
	d.odd = grow(d.odd, odd)
	enc := r.u8()
	if enc != valuesDecimal {
		if enc == valuesRuns {
			r.unknown("encoding of exceptions", int(enc))
			return 0
		}
		d.decode(r, enc, d.odd, odd, 1)
		return odd
	}
	s := scale{r.u8(), int8(r.u8())}
	if r.err == nil && !s.valid() {
		r.unknown("decimal variant", int(s.variant))
	}
	if r.err != nil {
		return 0
	}
	d.ints = grow(d.ints, odd)
	r.sequence(d.ints, odd, 1)
	sc := s.scaler()
	sc.floats(d.odd, d.ints)
	return odd
}

func (d *valueDecoder) runs(r *reader, out []float64) {
	n := r.count(len(out), "runs")
	if r.err != nil || n == 0 {
		r.fail("a column without runs")
		return
	}
	d.lengths = grow(d.lengths, n)
	r.sequence(d.lengths, n, 1)
	d.heads = grow(d.heads, n)
	d.decimal(r, d.heads, n, 1)
	if r.err != nil {
		return
	}
	at := 0
	for i, v := range d.heads {
		l := d.lengths[i]
		if l < 1 || l > int64(len(out)-at) {
			r.fail("runs do not fill their column")
			return
		}
		for j := range out[at : at+int(l)] {
			out[at+j] = v
		}
		at += int(l)
	}
	if at != len(out) {
		r.fail("runs do not fill their column")
	}
}

func decodeXOR(r *reader, out []float64, size, field uint) {
	if r.err != nil {
		return
	}
	br := bitReader{b: r.b[r.off:]}
	var prev uint64
	lead, length := uint(0), uint(0)
	for i := range out {
		if br.get(1) != 0 {
			if br.get(1) != 0 {
				lead = uint(br.get(field))
				length = uint(br.get(field)) + 1
			}
			if length == 0 || lead+length > size || br.bad {
				r.fail("packed floats are damaged or end too early")
				return
			}
			prev ^= br.get(length) << (size - lead - length)
		}
		if size == 32 {
			out[i] = float64(math.Float32frombits(uint32(prev)))
		} else {
			out[i] = math.Float64frombits(prev)
		}
	}
	if br.bad {
		r.fail("packed floats are damaged or end too early")
		return
	}
	r.off += br.consumed()
}
