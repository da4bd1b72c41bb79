package wire

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The fixed part of a frame's body.
const (
	frameEpoch  = 0
	frameSchema = 16
	frameBase   = 32
	frameFlags  = 40
	frameFixed  = 41
)

// The bits of a frame's flags; a snapshot uses packed and extension alone.
const (
	flagUntimed   = 0x01
	flagBoot      = 0x02
	flagPrev      = 0x04
	flagMarks     = 0x08
	flagPacked    = 0x10 // the block is compressed
	flagExtension = 0x20
	flagEstimated = 0x40
	flagsKnown    = 0x7f
)

// markFixed is set in a mark's kind when From is not relative to the base.
const markFixed = 0x80

// Encoder encodes frames and snapshots. It keeps its scratch memory and learns
// from each frame how to encode the next one faster; the output of each decodes
// alone. It is not for concurrent use.
type Encoder struct {
	block blockEncoder

	// Of joined frames.
	ends    []int64
	frameOf []uint16
}

// NewEncoder returns an encoder. The schema, which may be nil, is that of the
// frames to come; see [Encoder.SetSchema].
func NewEncoder(s *telemetry.Schema) *Encoder {
	e := &Encoder{}
	e.SetSchema(s)
	return e
}

// SetSchema tells which series measure the same, so that they are encoded side
// by side. It only ever changes the size of the output, and what it does not
// know may still be encoded. A schema whose series are sorted by quantity, then
// by device, gives the smallest frames.
func (e *Encoder) SetSchema(s *telemetry.Schema) {
	e.block.layout.setSchema(s)
	e.block.hints = e.block.hints[:0]
}

// Encode appends the encoded frame to dst and returns it. It fails with
// ErrTooLarge when the frame exceeds a limit and must be split, and with
// ErrInvalid when a field is not allowed; dst is then returned unchanged. It
// keeps nothing of f.
func (e *Encoder) Encode(dst []byte, f *Frame) ([]byte, error) {
	if f.Epoch.IsZero() || f.Seq == 0 {
		return dst, fmt.Errorf("%w: frame without an epoch or a number", ErrInvalid)
	}
	if f.Seq != 1 && !f.Prev.IsZero() {
		return dst, fmt.Errorf("%w: frame %d has a Prev; only the first of an epoch may", ErrInvalid, f.Seq)
	}
	if len(f.Marks) > MaxMarks {
		return dst, fmt.Errorf("%w: %d marks, at most %d", ErrTooLarge, len(f.Marks), MaxMarks)
	}
	start := len(dst)
	out := begin(dst, KindFrame)
	out = appendEpoch(out, f.Epoch)
	out = append(out, f.Schema[:]...)
	base := f.W
	out = binary.LittleEndian.AppendUint64(out, uint64(base))
	out = append(out, 0)
	out = appendUvarint(out, f.Seq)
	out = appendUvarint(out, uint64(f.Era))
	out = appendVarint(out, f.W-base)
	out = appendVarint(out, f.W-f.PrevW)
	out, flags, err := appendHead(out, &f.Header, base, true)
	if err != nil {
		return dst, err
	}
	out, packed, err := e.block.append(out, f.Readings, base, nil)
	if err != nil {
		return dst, err
	}
	if packed {
		flags |= flagPacked
	}
	out[start+envelopeSize+frameFlags] = flags
	if out, err = seal(out, start); err != nil {
		return dst, err
	}
	return out, nil
}

// appendHead appends what the flags of a frame announce, and returns them: boot,
// prev and, if asked for, marks.
func appendHead(dst []byte, h *Header, base int64, marks bool) (out []byte, flags byte, err error) {
	out = dst
	if h.Untimed {
		flags |= flagUntimed
	}
	if h.Estimated {
		flags |= flagEstimated
	}
	if h.Untimed || h.Boot != [16]byte{} {
		flags |= flagBoot
		out = append(out, h.Boot[:]...)
	}
	if !h.Prev.IsZero() {
		flags |= flagPrev
		out = appendEpoch(out, h.Prev.Epoch)
		out = appendUvarint(out, h.Prev.Seq)
	}
	if marks && len(h.Marks) > 0 {
		flags |= flagMarks
		out, err = appendMarks(out, h.Marks, base)
	}
	return out, flags, err
}

func appendMarks(dst []byte, marks []Mark, base int64) ([]byte, error) {
	out := appendUvarint(dst, uint64(len(marks)))
	for _, m := range marks {
		if m.Kind >= markFixed {
			return dst, fmt.Errorf("%w: mark of kind %d", ErrInvalid, m.Kind)
		}
		if m.Fixed {
			out = append(out, byte(m.Kind)|markFixed)
			out = appendVarint(out, m.From)
		} else {
			out = append(out, byte(m.Kind))
			out = appendVarint(out, m.From-base)
		}
		out = appendVarint(out, m.To-base)
		out = appendText(out, cut(m.Note))
	}
	return out, nil
}

// EncodeSnapshot appends the encoded snapshot to dst, as Encode does a frame.
func (e *Encoder) EncodeSnapshot(dst []byte, s *Snapshot) ([]byte, error) {
	start := len(dst)
	out := begin(dst, KindSnapshot)
	out = appendEpoch(out, s.Epoch)
	out = append(out, s.Schema[:]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(s.At))
	out = append(out, 0)
	out = appendUvarint(out, s.Seq)
	out = appendUvarint(out, s.Counter)
	out, packed, err := e.block.append(out, s.Readings, s.At, nil)
	if err != nil {
		return dst, err
	}
	if packed {
		out[start+envelopeSize+frameFlags] = flagPacked
	}
	if out, err = seal(out, start); err != nil {
		return dst, err
	}
	return out, nil
}

// Decoder decodes frames and snapshots. It keeps its scratch memory. It is not
// for concurrent use.
type Decoder struct {
	block blockDecoder

	// Of joined frames.
	ends    []int64
	frameOf []uint16
	places  []int32
	mixed   []telemetry.Reading
}

// NewDecoder returns a decoder.
func NewDecoder() *Decoder { return &Decoder{} }

// DecodeFrame decodes payload into f, reusing the slices of f. Nothing in f
// points into payload. Series indexes are below [telemetry.MaxSeries]; that
// they are below the length of the frame's schema is for the caller to check,
// and so is that times are plausible. On an error f holds nothing of use.
// Errors: ErrCorrupt, ErrVersion.
func (d *Decoder) DecodeFrame(payload []byte, f *Frame) error {
	body, err := open(payload, KindFrame)
	if err != nil {
		return err
	}
	r := reader{b: body, kind: KindFrame}
	base, flags := r.header(&f.Header)
	f.Readings = d.block.decode(&r, flags&flagPacked != 0, base, f.Readings[:0], nil)
	f.Count = len(f.Readings)
	return r.end()
}

// DecodeSnapshot decodes payload into s, as DecodeFrame does.
func (d *Decoder) DecodeSnapshot(payload []byte, s *Snapshot) error {
	body, err := open(payload, KindSnapshot)
	if err != nil {
		return err
	}
	r := reader{b: body, kind: KindSnapshot}
	s.Epoch, s.Schema, s.At = r.epoch(), r.hash(), int64(r.u64())
	flags := r.u8()
	if flags&^(flagPacked|flagExtension) != 0 {
		r.unknown("flags", int(flags))
	}
	s.Seq, s.Counter = r.uvarint(), r.uvarint()
	if flags&flagExtension != 0 {
		r.extension()
	}
	s.Readings = d.block.decode(&r, flags&flagPacked != 0, s.At, s.Readings[:0], nil)
	return r.end()
}

// PeekFrame decodes all of a frame but its readings, after checking its
// checksum. It does not touch the block, and allocates only for marks. Errors:
// ErrCorrupt, ErrVersion.
func PeekFrame(payload []byte) (Header, error) {
	var h Header
	body, err := open(payload, KindFrame)
	if err != nil {
		return h, err
	}
	r := reader{b: body, kind: KindFrame}
	r.header(&h)
	h.Count = r.count(MaxReadings, "readings")
	return h, r.err
}

// header decodes a frame up to its count of readings, and returns the base and
// the flags. It reuses the marks of h.
func (r *reader) header(h *Header) (int64, byte) {
	*h = Header{Marks: h.Marks[:0]}
	h.Epoch, h.Schema = r.epoch(), r.hash()
	base := int64(r.u64())
	flags := r.u8()
	if r.err != nil {
		return 0, 0
	}
	if flags&^flagsKnown != 0 {
		r.unknown("flags", int(flags))
	}
	h.Sum = crc32.Update(crc32.Update(0, castagnoli, r.b[:frameBase]), castagnoli, r.b[frameFixed:])
	h.Seq = r.uvarint()
	h.Era = r.u32("era")
	h.W = base + r.varint()
	h.PrevW = h.W - r.varint()
	h.Untimed, h.Estimated = flags&flagUntimed != 0, flags&flagEstimated != 0
	r.head(h, flags)
	if flags&flagMarks != 0 {
		r.marks(h, base)
	}
	if flags&flagExtension != 0 {
		r.extension()
	}
	if r.err == nil && (h.Seq == 0 || h.Epoch.IsZero()) {
		r.fail("it has no epoch or no number")
	}
	return base, flags
}

// head decodes boot and prev.
func (r *reader) head(h *Header, flags byte) {
	if flags&flagBoot != 0 {
		copy(h.Boot[:], r.bytes(len(h.Boot)))
	} else if h.Untimed {
		r.fail("it is untimed and names no boot")
	}
	if flags&flagPrev != 0 {
		h.Prev = Pos{r.epoch(), r.uvarint()}
		if r.err == nil && h.Seq != 1 {
			r.fail("it has a Prev and is not the first of its epoch")
		}
	}
}

func (r *reader) marks(h *Header, base int64) {
	for range r.count(MaxMarks, "marks") {
		kind := r.u8()
		m := Mark{Kind: MarkKind(kind &^ markFixed), Fixed: kind&markFixed != 0, From: r.varint()}
		if !m.Fixed {
			m.From += base
		}
		m.To = base + r.varint()
		m.Note = r.text(MaxNote, "note")
		if r.err != nil {
			break
		}
		h.Marks = append(h.Marks, m)
	}
}

// Retime adds offset (milliseconds) to every time of an untimed frame, marks it
// timed, and renews its checksum, all in place and without decoding the
// readings. It fails with ErrInvalid on a frame that is timed already. The
// offset of a boot should be decided once and kept: a frame that is sent again
// must carry the same times. Estimated marks them as a guess, see [Header].
func Retime(payload []byte, offset int64, estimated bool) error {
	body, err := open(payload, KindFrame)
	if err != nil {
		return err
	}
	if len(body) < frameFixed {
		return &CorruptError{Kind: KindFrame, What: "it ends too early"}
	}
	if body[frameFlags]&flagUntimed == 0 {
		return fmt.Errorf("%w: the frame is timed already", ErrInvalid)
	}
	body[frameFlags] &^= flagUntimed
	if estimated {
		body[frameFlags] |= flagEstimated
	}
	base := binary.LittleEndian.Uint64(body[frameBase:])
	binary.LittleEndian.PutUint64(body[frameBase:], base+uint64(offset))
	binary.LittleEndian.PutUint32(payload[4:], checksum(payload))
	return nil
}
