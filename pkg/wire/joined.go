package wire

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// MaxJoined bounds the frames of one joined message.
const MaxJoined = 1024

// Joined is a run of consecutive frames of one epoch, schema and era that travel
// in one message, because together they take less room: a backlog. Each keeps its
// number, watermark, marks and checksum, and the receiver takes them one after the
// other as if each had come alone. See [Header.Joins] for what may stand together.
type Joined struct {
	// Headers are those of the frames, in their order. Count says how many of the
	// readings belong to each; Sum is that of the frame as it stands in the log.
	Headers []Header
	// Readings are those of all frames, frame by frame, each in the order that
	// [Frame] has.
	Readings []telemetry.Reading
}

// Reset empties the run and keeps its memory.
func (j *Joined) Reset() { j.Headers, j.Readings = j.Headers[:0], j.Readings[:0] }

// Frames calls fn for each frame, until it returns false. The frame is valid until
// fn returns, and shares the memory of j.
func (j *Joined) Frames(fn func(*Frame) bool) {
	var f Frame
	at := 0
	for i := range j.Headers {
		f.Header = j.Headers[i]
		f.Readings = j.Readings[at : at+f.Count : at+f.Count]
		at += f.Count
		if !fn(&f) {
			return
		}
	}
}

// Joins reports whether this frame may follow prev in one joined message: it is
// the next of the same epoch, with the same schema and era, goes on from its
// watermark, and both have times of the same kind. A frame whose times are not
// known yet stands alone.
func (h *Header) Joins(prev *Header) bool {
	return h.Epoch == prev.Epoch && h.Seq == prev.Seq+1 && h.Schema == prev.Schema && h.Era == prev.Era &&
		h.PrevW == prev.W && h.W >= prev.W && h.Boot == prev.Boot && h.Estimated == prev.Estimated && !h.Untimed && !prev.Untimed
}

// next returns room for another header, with the memory of an old one's marks.
func (j *Joined) next() *Header {
	if len(j.Headers) < cap(j.Headers) {
		j.Headers = j.Headers[:len(j.Headers)+1]
	} else {
		j.Headers = append(j.Headers, Header{})
	}
	return &j.Headers[len(j.Headers)-1]
}

// AppendFrame decodes a frame and adds it to the run. It fails with ErrInvalid
// when the frame does not join the one before it or there are too many, with
// ErrCorrupt or ErrVersion as [Decoder.DecodeFrame] does; the run is then as it
// was.
func (d *Decoder) AppendFrame(payload []byte, j *Joined) error {
	body, err := open(payload, KindFrame)
	if err != nil {
		return err
	}
	n, m := len(j.Headers), len(j.Readings)
	r := reader{b: body, kind: KindFrame}
	h := j.next()
	base, flags := r.header(h)
	switch {
	case r.err != nil:
	case h.Untimed, n > 0 && !h.Joins(&j.Headers[n-1]):
		r.err = fmt.Errorf("%w: frame %v does not join the one before it", ErrInvalid, h.Pos())
	case n == MaxJoined:
		r.err = fmt.Errorf("%w: more than %d frames joined", ErrInvalid, MaxJoined)
	default:
		j.Readings = d.block.decode(&r, flags&flagPacked != 0, base, j.Readings, nil)
		h.Count = len(j.Readings) - m
	}
	if err := r.end(); err != nil {
		j.Headers, j.Readings = j.Headers[:n], j.Readings[:m]
		return err
	}
	return nil
}

// EncodeJoined appends the encoded run to dst, as [Encoder.Encode] does a frame.
// The run holds two frames at least, each of which joins the one before.
func (e *Encoder) EncodeJoined(dst []byte, j *Joined) ([]byte, error) {
	n := len(j.Headers)
	if n < 2 || n > MaxJoined {
		return dst, fmt.Errorf("%w: %d frames joined, 2 to %d may be", ErrInvalid, n, MaxJoined)
	}
	first, last := &j.Headers[0], &j.Headers[n-1]
	if first.Epoch.IsZero() || first.Seq == 0 || first.Untimed || first.Seq != 1 && !first.Prev.IsZero() {
		return dst, fmt.Errorf("%w: frame %v cannot be joined", ErrInvalid, first.Pos())
	}
	base, marked, count := last.W, 0, 0
	e.ends, e.frameOf = e.ends[:0], e.frameOf[:0]
	for i := range j.Headers {
		h := &j.Headers[i]
		if i > 0 && !h.Joins(&j.Headers[i-1]) {
			return dst, fmt.Errorf("%w: frame %v does not join the one before it", ErrInvalid, h.Pos())
		}
		if len(h.Marks) > MaxMarks {
			return dst, fmt.Errorf("%w: %d marks, at most %d", ErrTooLarge, len(h.Marks), MaxMarks)
		}
		if len(h.Marks) > 0 {
			marked++
		}
		e.ends = append(e.ends, h.W-base)
		for range h.Count {
			e.frameOf = append(e.frameOf, uint16(i))
		}
		count += h.Count
	}
	if count != len(j.Readings) {
		return dst, fmt.Errorf("%w: %d readings in frames that have %d", ErrInvalid, len(j.Readings), count)
	}
	start := len(dst)
	out := begin(dst, KindJoined)
	out = appendEpoch(out, first.Epoch)
	out = append(out, first.Schema[:]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(base))
	out = append(out, 0)
	out = appendUvarint(out, first.Seq)
	out = appendUvarint(out, uint64(first.Era))
	out = appendUvarint(out, uint64(n))
	out = e.block.seq.append(out, e.ends, n, 1)
	out = appendVarint(out, first.W-first.PrevW)
	for i := range j.Headers {
		out = binary.LittleEndian.AppendUint32(out, j.Headers[i].Sum)
	}
	out, flags, err := appendHead(out, first, base, false)
	if err != nil {
		return dst, err
	}
	if marked > 0 {
		flags |= flagMarks
		out = appendUvarint(out, uint64(marked))
		at := 0
		for i := range j.Headers {
			if len(j.Headers[i].Marks) == 0 {
				continue
			}
			out = appendUvarint(out, uint64(i-at))
			at = i + 1
			if out, err = appendMarks(out, j.Headers[i].Marks, base); err != nil {
				return dst, err
			}
		}
	}
	out, packed, err := e.block.append(out, j.Readings, base, &frames{ends: e.ends, of: e.frameOf})
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

// PeekJoined decodes the headers of a run into j, all but their Count, after
// checking the checksum. Readings are left as they are. Errors: ErrCorrupt,
// ErrVersion.
func PeekJoined(payload []byte, j *Joined) error {
	body, err := open(payload, KindJoined)
	if err != nil {
		return err
	}
	r := reader{b: body, kind: KindJoined}
	r.joined(j)
	return r.err
}

// DecodeJoined decodes payload into j, reusing its slices. What [Decoder.DecodeFrame]
// says of readings holds for these. Errors: ErrCorrupt, ErrVersion.
func (d *Decoder) DecodeJoined(payload []byte, j *Joined) error {
	body, err := open(payload, KindJoined)
	if err != nil {
		return err
	}
	r := reader{b: body, kind: KindJoined}
	base, flags := r.joined(j)
	if r.err != nil {
		return r.err
	}
	d.ends = d.ends[:0]
	for i := range j.Headers {
		d.ends = append(d.ends, j.Headers[i].W-base)
	}
	fr := frames{ends: d.ends, of: d.frameOf[:0]}
	d.mixed = d.block.decode(&r, flags&flagPacked != 0, base, d.mixed[:0], &fr)
	d.frameOf = fr.of
	if err := r.end(); err != nil {
		return err
	}
	d.scatter(j)
	return nil
}

// scatter puts the readings, which came series by series, to their frames.
func (d *Decoder) scatter(j *Joined) {
	for i := range j.Headers {
		j.Headers[i].Count = 0
	}
	for _, k := range d.frameOf {
		j.Headers[k].Count++
	}
	d.places = grow(d.places, len(j.Headers))
	at := int32(0)
	for i := range j.Headers {
		d.places[i] = at
		at += int32(j.Headers[i].Count)
	}
	j.Readings = grow(j.Readings, len(d.mixed))
	for i, k := range d.frameOf {
		j.Readings[d.places[k]] = d.mixed[i]
		d.places[k]++
	}
}

// joined decodes a run up to its count of readings, and returns the base and the
// flags.
func (r *reader) joined(j *Joined) (int64, byte) {
	j.Headers = j.Headers[:0]
	epoch, schema := r.epoch(), r.hash()
	base := int64(r.u64())
	flags := r.u8()
	if flags&^(flagBoot|flagPrev|flagMarks|flagPacked|flagExtension|flagEstimated) != 0 {
		r.unknown("flags", int(flags))
	}
	seq, era := r.uvarint(), r.u32("era")
	n := r.count(MaxJoined, "frames")
	if r.err == nil && (n < 2 || epoch.IsZero() || seq == 0 || seq+uint64(n) < seq) {
		r.fail("it has no epoch, no number or less than two frames")
	}
	if r.err != nil {
		return 0, 0
	}
	var room [64]int64
	ends := room[:]
	if n > len(ends) {
		ends = make([]int64, n)
	}
	ends = ends[:n]
	r.sequence(ends, n, 1)
	w := base + ends[0] - r.varint()
	for i, end := range ends {
		h := j.next()
		marks := h.Marks[:0]
		*h = Header{Epoch: epoch, Seq: seq + uint64(i), Schema: schema, Era: era, PrevW: w, W: base + end, Marks: marks}
		if i > 0 && h.W < w {
			r.fail("a watermark goes backward")
		}
		w = h.W
		if b := r.bytes(4); b != nil {
			h.Sum = binary.LittleEndian.Uint32(b)
		}
		h.Estimated = flags&flagEstimated != 0
	}
	first := &j.Headers[0]
	r.head(first, flags)
	for i := 1; i < n; i++ {
		j.Headers[i].Boot = first.Boot
	}
	if flags&flagMarks != 0 {
		at := 0
		for range r.count(n, "frames with marks") {
			at += r.count(n, "frame with marks")
			if r.err == nil && at >= n {
				r.fail("marks of a frame that is not there")
			}
			if r.err != nil {
				break
			}
			r.marks(&j.Headers[at], base)
			at++
		}
	}
	if flags&flagExtension != 0 {
		r.extension()
	}
	return base, flags
}

// frames tells to which frame of a run each reading of a block belongs.
type frames struct {
	ends []int64  // watermarks, ascending, minus base
	of   []uint16 // by reading: to encode, as given; decoded, in the order of the columns
}

// expected is the frame in which a reading of that time should be: the first whose
// watermark it does not pass, or the last. Near is a frame to look at first.
func (f *frames) expected(t int64, near int) int {
	if near+1 < len(f.ends) && t > f.ends[near] {
		near++
	}
	if (t <= f.ends[near] || near == len(f.ends)-1) && (near == 0 || t > f.ends[near-1]) {
		return near
	}
	i, _ := slices.BinarySearch(f.ends, t)
	return min(i, len(f.ends)-1)
}

// appendFrames writes which of a column's readings are not in the frame where they
// are expected: how many, where, and by how many frames off. It writes nothing when
// there are none.
func (e *blockEncoder) appendFrames(dst []byte, enc byte, col *column, f *frames) ([]byte, byte) {
	e.ints, e.offBy = e.ints[:0], e.offBy[:0]
	near, last := 0, -1
	for i, j := range e.order[col.from : col.from+col.len()] {
		near = f.expected(e.times[col.from+i], near)
		if d := int64(f.of[j]) - int64(near); d != 0 {
			e.ints, e.offBy = append(e.ints, int64(i-last-1)), append(e.offBy, d)
			last = i
		}
	}
	n := len(e.ints)
	if n == 0 {
		return dst, enc
	}
	dst = appendUvarint(dst, uint64(n))
	dst = e.seq.append(dst, e.ints, n, 1)
	return e.seq.append(dst, e.offBy, n, 1), enc | valuesFrames
}

// framesOf decodes the frames of a column's readings.
func (d *blockDecoder) framesOf(r *reader, enc byte, col []telemetry.Reading, base int64, f *frames) {
	from, near := len(f.of), 0
	for i := range col {
		near = f.expected(col[i].Time-base, near)
		f.of = append(f.of, uint16(near))
	}
	if enc&valuesFrames == 0 {
		return
	}
	n := r.count(len(col), "readings in other frames")
	if r.err == nil && n == 0 {
		r.fail("no readings in other frames where some are announced")
	}
	if r.err != nil {
		return
	}
	d.ints, d.offBy = grow(d.ints, n), grow(d.offBy, n)
	r.sequence(d.ints, n, 1)
	r.sequence(d.offBy, n, 1)
	if r.err != nil {
		return
	}
	at := int64(-1)
	of := f.of[from:]
	for i, skip := range d.ints {
		at += skip + 1
		if skip < 0 || at < 0 || at >= int64(len(of)) {
			r.fail("a reading in another frame is outside its column")
			return
		}
		k := int64(of[at]) + d.offBy[i]
		if k < 0 || k >= int64(len(f.ends)) {
			r.fail("a reading belongs to no frame")
			return
		}
		of[at] = uint16(k)
	}
}
