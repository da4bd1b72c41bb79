package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// MaxLimits bounds the limits of one band.
const MaxLimits = 32

// Band is what the hub's rules watch of one series: the limits at which they would
// change their mind, ascending. An edge that sees a value cross one of them sends
// what it has at once, and does not wait for its period to end.
type Band struct {
	Series uint32
	Limits []float64
}

// Bands are all bands of an edge, for one schema; series without one are not
// watched. A later message replaces an earlier one. It may be lost, and the edge
// says in its hello which it has, see [BandsID].
type Bands struct {
	Schema Hash
	Bands  []Band // by series, ascending
}

// BandsID names the content of an encoded message, never with 0.
func BandsID(payload []byte) uint32 {
	if len(payload) < envelopeSize {
		return 0
	}
	return binary.LittleEndian.Uint32(payload[4:]) | 1
}

// EncodeBands appends the encoded message to dst. It fails with ErrInvalid when
// the series or the limits of one do not ascend, or a limit is not a number, and
// with ErrTooLarge.
func EncodeBands(dst []byte, b *Bands) ([]byte, error) {
	start := len(dst)
	out := begin(dst, KindBands)
	out = append(out, b.Schema[:]...)
	out = append(out, 0)
	lists := map[string]uint64{}
	var names []string
	for i := range b.Bands {
		x := &b.Bands[i]
		if x.Series >= telemetry.MaxSeries || i > 0 && x.Series <= b.Bands[i-1].Series {
			return dst, fmt.Errorf("%w: series %d of a band", ErrInvalid, x.Series)
		}
		if !validLimits(x.Limits) {
			return dst, fmt.Errorf("%w: limits of series %d", ErrInvalid, x.Series)
		}
		if name := limitsName(x.Limits); lists[name] == 0 {
			names = append(names, name)
			lists[name] = uint64(len(names))
		}
	}
	out = appendUvarint(out, uint64(len(names)))
	for _, name := range names {
		out = append(appendUvarint(out, uint64(len(name)/8)), name...)
	}
	out = appendUvarint(out, uint64(len(b.Bands)))
	next := uint32(0)
	for i := range b.Bands {
		x := &b.Bands[i]
		out = appendUvarint(out, uint64(x.Series-next))
		out = appendUvarint(out, lists[limitsName(x.Limits)]-1)
		next = x.Series + 1
	}
	return seal(out, start)
}

func limitsName(limits []float64) string {
	name := make([]byte, 0, 8*len(limits))
	for _, l := range limits {
		name = binary.LittleEndian.AppendUint64(name, math.Float64bits(l))
	}
	return string(name)
}

func validLimits(limits []float64) bool {
	if len(limits) == 0 || len(limits) > MaxLimits || math.IsInf(limits[0], 0) || math.IsInf(limits[len(limits)-1], 0) {
		return false
	}
	for i, l := range limits {
		if math.IsNaN(l) || i > 0 && l <= limits[i-1] {
			return false
		}
	}
	return true
}

// DecodeBands decodes payload into b. Bands that share their limits share the
// memory. Errors: ErrCorrupt, ErrVersion.
func DecodeBands(payload []byte, b *Bands) error {
	body, err := open(payload, KindBands)
	if err != nil {
		return err
	}
	r := reader{b: body, kind: KindBands}
	b.Schema, b.Bands = r.hash(), b.Bands[:0]
	flags := r.u8()
	if flags&^flagExtension != 0 {
		r.unknown("flags", int(flags))
	}
	lists := make([][]float64, 0, 16)
	for range r.count(r.left()/9, "lists of limits") {
		limits := make([]float64, 0, 4)
		for range r.count(MaxLimits, "limits") {
			limits = append(limits, math.Float64frombits(r.u64()))
		}
		if r.err == nil && !validLimits(limits) {
			r.fail("limits do not ascend")
		}
		if r.err != nil {
			return r.err
		}
		lists = append(lists, limits)
	}
	n := r.count(r.left()/2, "bands")
	b.Bands = slices.Grow(b.Bands, n)
	next := uint64(0)
	for range n {
		series, list := next+r.uvarint(), r.uvarint()
		if r.err == nil && (series < next || series >= telemetry.MaxSeries || list >= uint64(len(lists))) {
			r.fail("a band has no series or no limits")
		}
		if r.err != nil {
			return r.err
		}
		b.Bands = append(b.Bands, Band{uint32(series), lists[list]})
		next = series + 1
	}
	if flags&flagExtension != 0 {
		r.extension()
	}
	return r.end()
}
