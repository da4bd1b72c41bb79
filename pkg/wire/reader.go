package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// reader takes fields from b. After the first field that does not stand there
// it holds err and returns zeros: check err before a loop trusts a count.
type reader struct {
	b    []byte
	off  int
	kind Kind
	err  error

	coder *entropyCoder // made when it is needed
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = &CorruptError{Kind: r.kind, What: what}
	}
}

// unknown fails with ErrVersion: the checksum held, so a newer sender wrote it.
func (r *reader) unknown(what string, v int) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s %d in a %v", ErrVersion, what, v, r.kind)
	}
}

func (r *reader) left() int { return len(r.b) - r.off }

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > r.left() {
		r.fail("it ends too early")
		return nil
	}
	b := r.b[r.off : r.off+n]
	r.off += n
	return b
}

func (r *reader) u8() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.off:])
	if n <= 0 {
		r.fail("a varint is cut off or too long")
		return 0
	}
	r.off += n
	return v
}

func (r *reader) varint() int64 { return unzigzag(r.uvarint()) }

// u32 is a uvarint of at most 32 bits.
func (r *reader) u32(what string) uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.fail("too large: " + what)
	}
	return uint32(v)
}

// count is a uvarint of at most limit.
func (r *reader) count(limit int, what string) int {
	v := r.uvarint()
	if v > uint64(limit) {
		r.fail("too many or too long: " + what)
		return 0
	}
	return int(v)
}

func (r *reader) text(limit int, what string) string {
	return string(r.bytes(r.count(limit, what)))
}

func (r *reader) epoch() Epoch {
	if b := r.bytes(16); b != nil {
		return EpochFrom([16]byte(b))
	}
	return Epoch{}
}

func (r *reader) hash() (h Hash) {
	copy(h[:], r.bytes(len(h)))
	return h
}

// extension skips fields of later versions: a length, then pairs of a tag and a
// length with as many bytes.
func (r *reader) extension() {
	end := r.count(r.left(), "extension") + r.off
	for r.err == nil && r.off < end {
		r.uvarint()
		r.bytes(r.count(r.left(), "extension"))
	}
	if r.err == nil && r.off != end {
		r.fail("an extension has the wrong length")
	}
}

// end fails unless everything was taken.
func (r *reader) end() error {
	if r.err == nil && r.left() != 0 {
		r.fail("bytes are left over")
	}
	return r.err
}

func appendEpoch(dst []byte, e Epoch) []byte {
	b := e.Bytes()
	return append(dst, b[:]...)
}

func appendUvarint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func appendVarint(dst []byte, v int64) []byte { return binary.AppendUvarint(dst, zigzag(v)) }

func appendText(dst []byte, s string) []byte {
	return append(appendUvarint(dst, uint64(len(s))), s...)
}
