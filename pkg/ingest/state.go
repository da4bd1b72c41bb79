package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// durable is what a checkpoint keeps of an edge, beside the rule state and the
// schema. Its encoding, version 1 (or 2, when series are refused), integers as
// (u)varints unless said:
//
//	version     u8 = 1 or 2
//	instance    8 bytes
//	epoch, seq  16 bytes, uvarint          the place
//	flags       u8: 1 sum known, 2 watermark known
//	sum         u32 little endian
//	watermark   varint, ms
//	its epoch   16 bytes
//	its era     uvarint
//	site claim  uvarint length, bytes
//	runs        uvarint count, then start and random of each, u32 little endian
//	schema      16 bytes                   hash of the schema of the states below
//	series      uvarint count
//	qualities   on time, then late: pairs of run length (uvarint) and byte
//	refused     of version 2: the same, 1 for a series that is refused
type durable struct {
	line
	hasW   bool
	w      int64
	wEpoch wire.Epoch // the epoch and the era that w belongs to
	era    uint32
	claim  string // the site that the edge says it is at
	schema wire.Hash
	onTime []uint8 // last quality of each series, noQuality when none
	late   []uint8
	// refused are the series that there was no room for; nil: none.
	refused []uint8
}

const stateVersion, refusedVersion = 1, 2

// maxClaim bounds the claim of a site, in bytes.
const maxClaim = 128

// noQuality stands for "no reading yet"; no decoder returns it.
const noQuality = 0xff

var errState = errors.New("the checkpoint is damaged")

// ErrVersion says that a checkpoint was written by a newer program.
var ErrVersion = errors.New("written by a newer langbiang-hub")

func (d *durable) encode(dst []byte) []byte {
	if d.refused == nil {
		dst = append(dst, stateVersion)
	} else {
		dst = append(dst, refusedVersion)
	}
	dst = append(dst, d.instance[:]...)
	e := d.pos.Epoch.Bytes()
	dst = append(dst, e[:]...)
	dst = binary.AppendUvarint(dst, d.pos.Seq)
	var flags byte
	if d.hasSum {
		flags |= 1
	}
	if d.hasW {
		flags |= 2
	}
	dst = append(dst, flags)
	dst = binary.LittleEndian.AppendUint32(dst, d.sum)
	dst = binary.AppendVarint(dst, d.w)
	e = d.wEpoch.Bytes()
	dst = append(dst, e[:]...)
	dst = binary.AppendUvarint(dst, uint64(d.era))
	dst = binary.AppendUvarint(dst, uint64(len(d.claim)))
	dst = append(dst, d.claim...)
	dst = binary.AppendUvarint(dst, uint64(len(d.runs)))
	for _, r := range d.runs {
		dst = binary.LittleEndian.AppendUint32(dst, r.start)
		dst = binary.LittleEndian.AppendUint32(dst, r.random)
	}
	dst = append(dst, d.schema[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(d.onTime)))
	dst = appendRuns(dst, d.onTime)
	dst = appendRuns(dst, d.late)
	if d.refused != nil {
		dst = appendRuns(dst, d.refused)
	}
	return dst
}

func appendRuns(dst, q []uint8) []byte {
	for i := 0; i < len(q); {
		j := i + 1
		for j < len(q) && q[j] == q[i] {
			j++
		}
		dst = append(binary.AppendUvarint(dst, uint64(j-i)), q[i])
		i = j
	}
	return dst
}

// reader takes values off a buffer; after the first failure all are zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > limit {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.bytes(4)) }

func (r *reader) runs(n int) []uint8 {
	out := make([]uint8, 0, n)
	for len(out) < n && !r.bad {
		k := int(r.uvarint(uint64(n - len(out))))
		q := r.bytes(1)[0]
		if k == 0 {
			r.bad = true
		}
		for range k {
			out = append(out, q)
		}
	}
	return out
}

func (d *durable) decode(b []byte) error {
	r := &reader{b: b}
	v := r.bytes(1)[0]
	if v != stateVersion && v != refusedVersion {
		if v > refusedVersion && v < 1<<7 {
			return fmt.Errorf("%w (format %d, this one knows up to %d)", ErrVersion, v, refusedVersion)
		}
		return fmt.Errorf("%w: version %d", errState, v)
	}
	copy(d.instance[:], r.bytes(len(d.instance)))
	d.pos.Epoch = wire.EpochFrom([16]byte(r.bytes(16)))
	d.pos.Seq = r.uvarint(1<<64 - 1)
	flags := r.bytes(1)[0]
	d.hasSum, d.hasW = flags&1 != 0, flags&2 != 0
	d.sum = r.u32()
	d.w = r.varint()
	d.wEpoch = wire.EpochFrom([16]byte(r.bytes(16)))
	d.era = uint32(r.uvarint(1<<32 - 1))
	d.claim = string(r.bytes(int(r.uvarint(maxClaim))))
	d.runs = make([]run, r.uvarint(maxRuns))
	for i := range d.runs {
		d.runs[i] = run{r.u32(), r.u32()}
	}
	copy(d.schema[:], r.bytes(len(d.schema)))
	n := int(r.uvarint(telemetry.MaxSeries))
	d.onTime, d.late = r.runs(n), r.runs(n)
	if v == refusedVersion {
		d.refused = r.runs(n)
	}
	if r.bad || len(r.b) > 0 {
		return errState
	}
	return nil
}
