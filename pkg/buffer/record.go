package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// formatVersion is the version of segment files and of the meta file.
const formatVersion = 1

const formatMagic = "langbiang-buffer"

var (
	bucketAbout       = []byte("about") // sorts first: the version is met before the rest
	bucketAttachments = []byte("attachments")
	bucketEpochs      = []byte("epochs")
	bucketFrames      = []byte("frames")

	keyFormat = []byte("format")
	keyCheck  = []byte("format-check") // sorts next
	keyHeader = []byte("header")
	keyState  = []byte("state")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCorrupt marks whatever makes a segment unfit for use.
var errCorrupt = errors.New("corrupt")

func corruptf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errCorrupt, fmt.Sprintf(format, a...))
}

// pos is a Pos with the epoch's ordinal, so that positions have an order.
// Ordinals count from 1; the zero pos is before everything.
type pos struct {
	ord uint32
	seq uint64
}

func (p pos) less(q pos) bool { return p.ord < q.ord || p.ord == q.ord && p.seq < q.seq }

func (p pos) zero() bool { return p == pos{} }

const keySize = 12

// frameKey is  ord u32 BE | seq u64 BE : the order of keys is the log's order.
func frameKey(dst []byte, p pos) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.ord)
	return binary.BigEndian.AppendUint64(dst, p.seq)
}

func parseFrameKey(k []byte) (pos, error) {
	if len(k) != keySize {
		return pos{}, corruptf("a frame's key has %d bytes", len(k))
	}
	return pos{binary.BigEndian.Uint32(k), binary.BigEndian.Uint64(k[4:])}, nil
}

// A frame's value is
//
//	time i64 LE | crc32c u32 LE | payload
//
// with the checksum over epoch tag, key, time and payload.
const frameHeader = 12

func frameSum(tag Epoch, p pos, time, payload []byte) uint32 {
	var b [16 + keySize]byte
	copy(b[:], tag[:])
	frameKey(b[:16], p)
	c := crc32.Update(0, castagnoli, b[:])
	c = crc32.Update(c, castagnoli, time)
	return crc32.Update(c, castagnoli, payload)
}

func appendFrame(dst []byte, tag Epoch, p pos, t int64, payload []byte) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, payload...)
	binary.LittleEndian.PutUint32(dst[at+8:], frameSum(tag, p, dst[at:at+8], payload))
	return dst
}

// parseFrame checks a value against its position; payload aliases v.
func parseFrame(tag Epoch, p pos, v []byte) (t int64, payload []byte, err error) {
	if len(v) < frameHeader {
		return 0, nil, corruptf("frame %d has %d bytes", p.seq, len(v))
	}
	payload = v[frameHeader:]
	if binary.LittleEndian.Uint32(v[8:]) != frameSum(tag, p, v[:8], payload) {
		return 0, nil, corruptf("frame %d: wrong checksum", p.seq)
	}
	return int64(binary.LittleEndian.Uint64(v)), payload, nil
}

// sealValue appends a checksum over key and value to the value.
func sealValue(key, v []byte) []byte {
	return binary.LittleEndian.AppendUint32(v, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, v))
}

// openValue checks and strips the checksum of sealValue; n is the length that
// must remain, or -1 for any.
func openValue(key, v []byte, n int) ([]byte, error) {
	if len(v) < 4 || n >= 0 && len(v) != n+4 {
		return nil, corruptf("%q has %d bytes", key, len(v))
	}
	body := v[:len(v)-4]
	if binary.LittleEndian.Uint32(v[len(body):]) != crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body) {
		return nil, corruptf("%q: wrong checksum", key)
	}
	return body, nil
}

// epoch is an entry of the epoch table, stored as
// tag [16] | prev (ord u32, seq u64) LE | flags u8 | crc32c.
type epoch struct {
	ord  uint32
	tag  Epoch
	prev pos  // the last frame before this epoch
	lost bool // frames after prev may have been lost with a corrupt segment
}

const epochSize = 16 + 12 + 1

func epochKey(ord uint32) []byte { return binary.BigEndian.AppendUint32(nil, ord) }

func appendPos(dst []byte, p pos) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, p.ord)
	return binary.LittleEndian.AppendUint64(dst, p.seq)
}

func readPos(b []byte) pos {
	return pos{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:])}
}

func (e epoch) encode() []byte {
	v := appendPos(append([]byte(nil), e.tag[:]...), e.prev)
	flags := byte(0)
	if e.lost {
		flags = 1
	}
	return sealValue(epochKey(e.ord), append(v, flags))
}

func parseEpoch(k, v []byte) (epoch, error) {
	if len(k) != 4 {
		return epoch{}, corruptf("an epoch's key has %d bytes", len(k))
	}
	b, err := openValue(k, v, epochSize)
	if err != nil {
		return epoch{}, err
	}
	e := epoch{ord: binary.BigEndian.Uint32(k), prev: readPos(b[16:]), lost: b[28]&1 != 0}
	copy(e.tag[:], b)
	if e.ord == 0 {
		return epoch{}, corruptf("epoch 0")
	}
	return e, nil
}

// header is written once per segment: id u64 | base (ord, seq) | crc32c.
type header struct {
	id   uint64
	base pos // the last frame of the log when the segment was made
}

const headerSize = 8 + 12

func (h header) encode() []byte {
	return sealValue(keyHeader, appendPos(binary.LittleEndian.AppendUint64(nil, h.id), h.base))
}

func parseHeader(v []byte) (header, error) {
	b, err := openValue(keyHeader, v, headerSize)
	if err != nil {
		return header{}, err
	}
	return header{binary.LittleEndian.Uint64(b), readPos(b[8:])}, nil
}

// summary says what a segment holds.
type summary struct {
	first, last pos
	frames      uint64
	tmin, tmax  int64 // 0: no frame with a known time
}

func (s *summary) add(p pos, t int64) {
	if s.frames == 0 {
		s.first = p
	}
	s.last = p
	s.frames++
	if t <= 0 {
		return
	}
	if s.tmin == 0 || t < s.tmin {
		s.tmin = t
	}
	s.tmax = max(s.tmax, t)
}

// state rides along with every commit:
// safe | first | last (ord, seq each) | frames u64 | tmin i64 | tmax i64 | crc32c.
type state struct {
	safe pos
	sum  summary
}

const stateSize = 3*12 + 3*8

func (s state) encode() []byte {
	b := appendPos(make([]byte, 0, stateSize+4), s.safe)
	b = appendPos(appendPos(b, s.sum.first), s.sum.last)
	b = binary.LittleEndian.AppendUint64(b, s.sum.frames)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.sum.tmin))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.sum.tmax))
	return sealValue(keyState, b)
}

func parseState(v []byte) (state, error) {
	b, err := openValue(keyState, v, stateSize)
	if err != nil {
		return state{}, err
	}
	return state{readPos(b), summary{
		first: readPos(b[12:]), last: readPos(b[24:]),
		frames: binary.LittleEndian.Uint64(b[36:]),
		tmin:   int64(binary.LittleEndian.Uint64(b[44:])),
		tmax:   int64(binary.LittleEndian.Uint64(b[52:])),
	}}, nil
}

// The format value is the magic followed by the version, u32 LE, in every version of
// this program. Beside it stands its checksum, crc32c over key and value, u32 LE: so a
// newer version is told from a damaged one. The first programs wrote none; they knew
// version 1 alone.
func formatValue() []byte {
	return binary.LittleEndian.AppendUint32([]byte(formatMagic), formatVersion)
}

func formatCheck(v []byte) []byte { return sealValue(keyFormat, slices.Clone(v))[len(v):] }

// checkFormat judges a format value; check is its checksum, nil when there is none.
func checkFormat(v, check []byte) error {
	magic, ok := bytes.CutPrefix(v, []byte(formatMagic))
	if !ok || len(magic) < 4 {
		return corruptf("not a segment of the log")
	}
	if check != nil && !bytes.Equal(check, formatCheck(v)) {
		return corruptf("format version: wrong checksum")
	}
	switch n := binary.LittleEndian.Uint32(magic); {
	case n > formatVersion && check == nil:
		return corruptf("format version %d without a checksum", n)
	case n > formatVersion:
		return fmt.Errorf("%w (format %d, this one knows up to %d)", ErrVersion, n, formatVersion)
	case n == 0 || len(magic) != 4:
		return corruptf("format version %d", n)
	}
	return nil
}
