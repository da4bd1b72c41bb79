package wire

import (
	"encoding/binary"
	"math/bits"
)

// bitWriter appends bits to buf, lowest first.
type bitWriter struct {
	buf []byte
	acc uint64
	n   uint // bits in acc, below 64
}

// put appends the k lowest bits of v, whose other bits are 0; k is at most 64.
func (w *bitWriter) put(v uint64, k uint) {
	w.acc |= v << w.n
	if w.n+k < 64 {
		w.n += k
		return
	}
	w.buf = binary.LittleEndian.AppendUint64(w.buf, w.acc)
	w.acc = v >> (64 - w.n)
	w.n = w.n + k - 64
}

// finish pads with zeros to a whole byte and returns the buffer.
func (w *bitWriter) finish() []byte {
	for ; w.n > 0; w.n -= min(w.n, 8) {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
	}
	return w.buf
}

// bitReader takes bits from b, lowest first. It goes on with zeros past the end
// and notes that in bad.
type bitReader struct {
	b   []byte
	pos int
	acc uint64 // bits above the lowest n are those that stand at pos, or 0
	n   uint
	bad bool
}

// refill makes sure of 56 bits, or of all that are left.
func (r *bitReader) refill() {
	if r.pos+8 <= len(r.b) {
		r.acc |= binary.LittleEndian.Uint64(r.b[r.pos:]) << r.n
		r.pos += int((63 - r.n) >> 3)
		r.n |= 56
		return
	}
	for r.n <= 56 && r.pos < len(r.b) {
		r.acc |= uint64(r.b[r.pos]) << r.n
		r.pos++
		r.n += 8
	}
}

// skip drops k bits.
func (r *bitReader) skip(k uint) {
	if k > r.n {
		r.bad = true
		k = r.n
	}
	r.acc >>= k
	r.n -= k
}

// get takes k bits, at most 64.
func (r *bitReader) get(k uint) uint64 {
	if k > 32 {
		low := r.get(32)
		return low | r.get(k-32)<<32
	}
	if r.n < k {
		r.refill()
	}
	v := r.acc & (1<<k - 1)
	r.skip(k)
	return v
}

// consumed is the number of whole bytes of b that bits were taken from.
func (r *bitReader) consumed() int { return r.pos - int(r.n/8) }

// Rice codes: the value's quotient by 2^k in unary (zeros, then a one), then
// its k low bits. A quotient of escapeZeros or more is written as that many
// zeros, six bits of length minus one, and the value itself.
const (
	escapeZeros = 24
	maxRice     = 32
)

func (w *bitWriter) putRice(u uint64, k uint) {
	if q := u >> k; q < escapeZeros {
		w.put(1<<q|(u&(1<<k-1))<<(q+1), uint(q)+1+k)
		return
	}
	n := uint(bits.Len64(u))
	w.put(uint64(n-1)<<escapeZeros, escapeZeros+6)
	w.put(u, n)
}

func (r *bitReader) getRice(k uint) uint64 {
	r.refill()
	q := uint(bits.TrailingZeros64(r.acc))
	if q < escapeZeros {
		v := uint64(q)<<k | r.acc>>(q+1)&(1<<k-1)
		r.skip(q + 1 + k)
		return v
	}
	r.skip(escapeZeros)
	n := uint(r.get(6)) + 1
	return r.get(n)
}

// riceCost is what putRice writes, in bits.
func riceCost(u uint64, k uint) uint64 {
	if q := u >> k; q < escapeZeros {
		return q + 1 + uint64(k)
	}
	return escapeZeros + 6 + uint64(bits.Len64(u))
}

// adaptive chooses the parameter of the next Rice code from the values before
// it: acc holds about sixteen times their decaying mean.
type adaptive struct{ acc uint64 }

func startAdaptive(k uint) adaptive { return adaptive{acc: 1 << (k + 4)} }

func (a *adaptive) k() uint { return min(uint(bits.Len64(a.acc>>5)), maxRice) }

func (a *adaptive) saw(u uint64) { a.acc += min(u, 1<<40) - a.acc>>4 }

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
