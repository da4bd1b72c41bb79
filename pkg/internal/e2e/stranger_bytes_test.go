package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
)

// This file and stranger_sender_test.go are a sender as somebody else would write it:
// from docs/uplink.md, with the standard library and an MQTT client. They import
// nothing of ours on purpose; what they cannot do for want of a sentence is a fault
// of that document. Here are the bytes, there is the conversation.

type strangerEpoch [16]byte

func (e strangerEpoch) start() uint32 { return binary.LittleEndian.Uint32(e[8:]) }
func (e strangerEpoch) String() string {
	return hex.EncodeToString(e[:])
}

type strangerPlace struct {
	epoch strangerEpoch
	seq   uint64
}

func (p strangerPlace) before(q strangerPlace) bool {
	if p.epoch.start() != q.epoch.start() {
		return p.epoch.start() < q.epoch.start()
	}
	return p.seq < q.seq
}

func (p strangerPlace) bytes() []byte { return binary.AppendUvarint(p.epoch[:], p.seq) }

func (p strangerPlace) json() map[string]any {
	return map[string]any{"epoch": p.epoch.String(), "seq": p.seq}
}

// strangerReading is a value of a series of the schema.
type strangerReading struct {
	series  int
	time    int64 // Unix ms
	value   float64
	quality byte
	text    string // in place of a value
}

// strangerFrame is one entry of the log.
type strangerFrame struct {
	place, prev strangerPlace // prev: of the first frame of an epoch
	schema      [16]byte
	message     []byte
}

// follows says whether nothing is missing between a place and the frame.
func (f *strangerFrame) follows(p strangerPlace) bool {
	if f.place.epoch == p.epoch {
		return f.place.seq == p.seq+1
	}
	if f.place.seq != 1 {
		return false
	}
	if f.prev == (strangerPlace{}) {
		return p == strangerPlace{}
	}
	return !p.before(f.prev) && p.epoch.start() < f.place.epoch.start() && bytes.Equal(p.epoch[:8], f.place.epoch[:8])
}

// strangerMessage puts a body into the envelope.
func strangerMessage(kind byte, body []byte) []byte {
	m := append([]byte{'L', 'B', 1, kind, 0, 0, 0, 0}, body...)
	crc := crc32.Checksum(append([]byte{1, kind}, body...), crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(m[4:], crc)
	return m
}

func strangerText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// strangerMark is a time in which nobody looked.
type strangerMark struct {
	kind     byte
	from, to int64
}

// encode writes the frame's message: a column for each reading, its value raw.
func (f *strangerFrame) encode(prevW, w int64, mark *strangerMark, readings []strangerReading) {
	b := append(f.place.epoch[:len(f.place.epoch):len(f.place.epoch)], f.schema[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(w)) // base
	var flags byte
	if f.prev != (strangerPlace{}) {
		flags |= 4
	}
	if mark != nil {
		flags |= 8
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, f.place.seq)
	b = binary.AppendUvarint(b, 0)      // era
	b = binary.AppendVarint(b, 0)       // W - base
	b = binary.AppendVarint(b, w-prevW) // W - PrevW
	if f.prev != (strangerPlace{}) {
		b = append(b, f.prev.bytes()...)
	}
	if mark != nil {
		b = append(b, 1, mark.kind)
		b = binary.AppendVarint(b, mark.from-w)
		b = binary.AppendVarint(b, mark.to-w)
		b = strangerText(b, "")
	}
	b = binary.AppendUvarint(b, uint64(len(readings)))
	b = append(b, 0) // no table of instants
	next := 0
	var last int64
	for i, r := range readings {
		var head byte
		if i > 0 && r.time == last {
			head |= 1 << 3 // times as in the column before
		}
		if r.quality != 0 {
			head |= 1 << 6 // all the same
		}
		encoding := byte(6)
		if r.text != "" {
			encoding = 128
		}
		b = append(b, head, encoding)
		b = binary.AppendVarint(b, int64(r.series-next))
		if head&(1<<3) == 0 {
			b = binary.AppendVarint(b, r.time-w)
		}
		if r.quality != 0 {
			b = append(b, r.quality)
		}
		if r.text != "" {
			b = append(strangerText(append(b, 1), r.text), 0, 0, 0)
		} else {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.value))
		}
		next, last = r.series+1, r.time
	}
	f.message = strangerMessage(1, b)
}

// strangerGap declares that what lies between two places cannot be given.
func strangerGap(after, next strangerPlace, reason string) []byte {
	b := append(after.bytes(), next.bytes()...)
	return strangerMessage(3, append(strangerText(b, reason), 0))
}

// strangerSeries is a point of a device.
type strangerSeries struct {
	device                int
	point, quantity, unit string
	interval              uint64 // ms
	text                  bool
}

type strangerDevice struct{ id, profile, connection, address string }

// strangerSchema returns a schema before compression, all series with the one
// label set.
func strangerSchema(devices []strangerDevice, labels [][2]string, series []strangerSeries) []byte {
	var texts []string
	ref := func(dst []byte, s string) []byte {
		if s == "" {
			return append(dst, 0)
		}
		for i, t := range texts {
			if t == s {
				return binary.AppendUvarint(dst, uint64(i+1))
			}
		}
		texts = append(texts, s)
		return binary.AppendUvarint(dst, uint64(len(texts)))
	}
	b := binary.AppendUvarint(nil, uint64(len(devices)))
	for _, of := range []func(strangerDevice) string{
		func(d strangerDevice) string { return d.id },
		func(d strangerDevice) string { return d.profile },
		func(strangerDevice) string { return "" }, // revision
		func(d strangerDevice) string { return d.connection },
		func(d strangerDevice) string { return d.address },
	} {
		for _, d := range devices {
			b = ref(b, of(d))
		}
	}
	b = binary.AppendUvarint(append(b, 1), uint64(len(labels)))
	for _, l := range labels {
		b = ref(ref(b, l[0]), l[1])
	}
	b = binary.AppendUvarint(b, uint64(len(series)))
	last := 0
	for _, s := range series {
		b = binary.AppendVarint(b, int64(s.device-last))
		last = s.device
	}
	for _, of := range []func(strangerSeries) string{
		func(s strangerSeries) string { return s.point },
		func(s strangerSeries) string { return s.quantity },
		func(s strangerSeries) string { return s.unit },
	} {
		for _, s := range series {
			b = ref(b, of(s))
		}
	}
	for _, s := range series {
		if s.text {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	b = append(b, make([]byte, len(series))...) // label sets
	for _, s := range series {
		b = binary.AppendUvarint(b, s.interval)
	}
	b = append(b, make([]byte, 2*len(series))...) // silences, lags
	head := binary.AppendUvarint(nil, uint64(len(texts)))
	for _, t := range texts {
		head = strangerText(head, t)
	}
	return append(head, b...)
}

// strangerSchemaMessage wraps a schema into a zstd frame of one raw block.
func strangerSchemaMessage(schema []byte) []byte {
	b := binary.AppendUvarint([]byte{0}, uint64(len(schema)))
	b = append(b, 0x28, 0xb5, 0x2f, 0xfd, 0xa0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(schema)))
	block := len(schema)<<3 | 1
	b = append(b, byte(block), byte(block>>8), byte(block>>16))
	return strangerMessage(2, append(b, schema...))
}

func strangerHash(schema []byte) (h [16]byte) {
	sum := sha256.Sum256(schema)
	return [16]byte(sum[:16])
}

// strangerAck is what the hub says.
type strangerAck struct {
	status    byte
	instance  [8]byte
	hubTime   int64
	credit    uint64
	got, safe strangerPlace // zero when left out
	nonce     uint64        // 0: none
	need      *[16]byte
	reason    string
}

// strangerReader takes a message apart; err tells that it was too short.
type strangerReader struct {
	b   []byte
	err error
}

func (r *strangerReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.err = errors.New("the message is too short")
		return make([]byte, min(n, 16))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *strangerReader) uv() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err = errors.New("a number does not end")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func strangerReadAck(m []byte) (a strangerAck, err error) {
	if len(m) < 8 || !bytes.Equal(m[:4], []byte{'L', 'B', 1, 4}) {
		return a, errors.New("not an acknowledgement of version 1")
	}
	if !bytes.Equal(strangerMessage(4, m[8:]), m) {
		return a, errors.New("the checksum does not hold")
	}
	r := strangerReader{b: m[8:]}
	head := r.take(2)
	a.status = head[0]
	flags := head[1]
	copy(a.instance[:], r.take(8))
	a.hubTime = int64(binary.LittleEndian.Uint64(r.take(8)))
	a.credit = r.uv()
	if flags&1 != 0 {
		copy(a.got.epoch[:], r.take(16))
		a.got.seq = r.uv()
	}
	if flags&2 != 0 {
		a.safe.epoch = a.got.epoch
		if flags&4 == 0 {
			copy(a.safe.epoch[:], r.take(16))
		}
		a.safe.seq = r.uv()
	}
	if flags&8 != 0 {
		a.nonce = binary.LittleEndian.Uint64(r.take(8))
	}
	if flags&16 != 0 {
		a.need = (*[16]byte)(r.take(16))
	}
	if flags&32 != 0 {
		a.reason = string(r.take(r.uv()))
	}
	return a, r.err
}
