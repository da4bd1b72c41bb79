package packed

import (
	"encoding/binary"
	"math/bits"
)

// maxUnary is the number of zeros that says that a number follows in 64 bits.
const maxUnary = 16

// maxK is the largest parameter of a Rice code: prefix and low bits fit into the 57
// that a load has for certain.
const maxK = 31

func zigzag(x int64) uint64   { return uint64(x<<1) ^ uint64(x>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// bitWriter appends bits to buf, from the highest on.
type bitWriter struct {
	buf  []byte
	acc  uint64 // the low n bits are not written yet
	free uint   // 64 - n
}

func newBitWriter(buf []byte) bitWriter { return bitWriter{buf: buf, free: 64} }

// put appends the low n bits of x, n up to 64; the others are zero.
func (w *bitWriter) put(x uint64, n uint) {
	if n <= w.free {
		w.acc = w.acc<<n | x
		w.free -= n
		return
	}
	n -= w.free
	w.acc = w.acc<<w.free | x>>n
	w.buf = binary.BigEndian.AppendUint64(w.buf, w.acc)
	w.acc, w.free = x&(1<<n-1), 64-n
}

// rice appends the Rice code of u.
func (w *bitWriter) rice(u uint64, k uint) {
	q := u >> k
	if q >= maxUnary {
		w.put(0, maxUnary)
		w.put(u, 64)
		return
	}
	w.put(1<<k|u&(1<<k-1), uint(q)+1+k)
}

// finish fills up the last byte and returns the buffer.
func (w *bitWriter) finish() []byte {
	n := 64 - w.free
	acc := w.acc << (w.free & 63)
	for ; n > 0; n -= min(n, 8) {
		w.buf = append(w.buf, byte(acc>>56))
		acc <<= 8
	}
	return w.buf
}

// bitReader reads bits of buf. Beyond its end are zeros; see over.
type bitReader struct {
	buf []byte
	pos int // in bits
}

// load returns 57 bits or more from pos on, the first one highest.
func (r *bitReader) load() uint64 {
	at := r.pos >> 3
	if at+8 <= len(r.buf) {
		return binary.BigEndian.Uint64(r.buf[at:]) << (r.pos & 7)
	}
	return r.loadEnd(at)
}

func (r *bitReader) loadEnd(at int) (w uint64) {
	for i := range 8 {
		w <<= 8
		if at+i < len(r.buf) {
			w |= uint64(r.buf[at+i])
		}
	}
	return w << (r.pos & 7)
}

// rice reads a Rice code.
func (r *bitReader) rice(k uint) uint64 {
	w := r.load()
	q := uint(bits.LeadingZeros64(w))
	if q >= maxUnary {
		return r.escaped()
	}
	r.pos += int(q + 1 + k)
	return uint64(q)<<k | w<<(q+1)>>(64-k)
}

func (r *bitReader) escaped() uint64 {
	r.pos += maxUnary
	high := r.load() >> 32
	r.pos += 32
	low := r.load() >> 32
	r.pos += 32
	return high<<32 | low
}

// over reports whether more was read than there is.
func (r *bitReader) over() bool { return r.pos > 8*len(r.buf) }

// rest returns what follows the byte that was read last.
func (r *bitReader) rest() []byte { return r.buf[(r.pos+7)>>3:] }
