package wire

import (
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// blockEncoder encodes readings. It keeps scratch memory, and per group of
// series the scale that fitted last.
type blockEncoder struct {
	layout layout
	hints  []scale

	// The readings in the order of the columns.
	order   []int32
	times   []int64
	values  []float64
	quality []telemetry.Quality
	texted  bool // one of them has a text

	ints    []int64
	offBy   []int64
	timesOf []byte // by column: its bits of the head byte
	back    []int  // by column: how far back, for timesBack

	instants map[int64]int64
	table    []int64
	texts    map[string]int64

	seq    sequencer
	val    valueEncoder
	block  []byte
	packed []byte
	zstd   *zstd.Encoder
	waste  int // how often in a row zstd was of no use
	turn   int
}

// append appends count, length and block to dst. packed says that the block is
// compressed. Frames, when not nil, says which frame each reading belongs to.
func (e *blockEncoder) append(dst []byte, readings []telemetry.Reading, base int64, fr *frames) (out []byte, packed bool, err error) {
	if len(readings) > MaxReadings {
		return dst, false, fmt.Errorf("%w: %d readings, at most %d", ErrTooLarge, len(readings), MaxReadings)
	}
	for i := range readings {
		if readings[i].Series >= telemetry.MaxSeries {
			return dst, false, fmt.Errorf("%w: series index %d", ErrInvalid, readings[i].Series)
		}
		if len(readings[i].Text) > telemetry.MaxTextLen {
			return dst, false, fmt.Errorf("%w: text of %d bytes in series %d, at most %d",
				ErrInvalid, len(readings[i].Text), readings[i].Series, telemetry.MaxTextLen)
		}
	}
	dst = appendUvarint(dst, uint64(len(readings)))
	if len(readings) == 0 {
		return dst, false, nil
	}
	e.layout.arrange(readings)
	e.gather(readings, base)
	e.block = e.appendColumns(e.block[:0], readings, fr)
	if len(e.block) > MaxBlock {
		return dst, false, fmt.Errorf("%w: block of %d bytes, at most %d", ErrTooLarge, len(e.block), MaxBlock)
	}
	body := e.block
	if fr != nil && !e.texted {
		return append(dst, body...), false, nil // long columns have nothing left to compress
	}
	if small := e.compress(); small != nil {
		body, packed = small, true
		dst = appendUvarint(dst, uint64(len(e.block)))
	}
	return append(dst, body...), packed, nil
}

// gather lays the readings out in the order of the columns.
func (e *blockEncoder) gather(readings []telemetry.Reading, base int64) {
	n := len(readings)
	e.times, e.values, e.quality = grow(e.times, n), grow(e.values, n), grow(e.quality, n)
	e.order, e.texted = grow(e.order, n), false
	at := 0
	for i := range e.layout.rows {
		row := &e.layout.rows[i]
		for _, j := range e.layout.order[row.from : row.from+row.n] {
			r := &readings[j]
			e.order[at], e.times[at], e.values[at], e.quality[at] = j, r.Time-base, r.Value, r.Quality
			e.texted = e.texted || r.Text != ""
			at++
		}
	}
}

// compressFrom is the length of a block for which zstd is tried, in bytes.
const compressFrom = 96

// compress returns the block compressed, or nil when that does not pay. After
// some blocks that do not, it tries only now and then.
func (e *blockEncoder) compress() []byte {
	if len(e.block) < compressFrom {
		return nil
	}
	if e.turn++; e.waste > 8 && e.turn%16 != 0 {
		return nil
	}
	if e.zstd == nil {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(64<<10))
		if err != nil {
			return nil // only wrong options fail
		}
		e.zstd = z
	}
	e.packed = e.zstd.EncodeAll(e.block, e.packed[:0])
	if len(e.packed)+len(e.packed)/32+4 >= len(e.block) {
		e.waste++
		return nil
	}
	e.waste = 0
	return e.packed
}

func (e *blockEncoder) appendColumns(dst []byte, readings []telemetry.Reading, fr *frames) []byte {
	e.planTimes()
	dst = appendUvarint(dst, uint64(len(e.table)))
	if len(e.table) > 0 {
		dst = e.seq.append(dst, e.table, len(e.table), 1)
	}
	next, r := int64(0), 0
	for i := range e.layout.cols {
		col := &e.layout.cols[i]
		rows := e.layout.rows[r : r+col.m]
		head := len(dst)
		dst = append(dst, 0, 0)
		var bits byte
		dst, bits, next = e.appendSeries(dst, rows, next)
		if col.c > 1 {
			bits |= headSeveral
			dst = appendUvarint(dst, uint64(col.c))
		}
		bits |= e.timesOf[i]
		dst = e.appendTimes(dst, i)
		var quality byte
		dst, quality = appendQuality(dst, e.quality[col.from:col.from+col.len()])
		dst[head] = bits | quality
		if int(col.key) >= len(e.hints) {
			e.hints = append(e.hints, make([]scale, int(col.key)+1-len(e.hints))...)
		}
		var enc byte
		dst, enc = e.val.append(dst, e.values[col.from:col.from+col.len()], col.m, col.c, &e.hints[col.key])
		dst, enc = e.appendTexts(dst, enc, col, readings)
		if fr != nil {
			dst, enc = e.appendFrames(dst, enc, col, fr)
		}
		dst[head+1] = enc
		r += col.m
	}
	return dst
}

// appendSeries writes which series a column holds. next is the index after the
// last series of the column before.
func (e *blockEncoder) appendSeries(dst []byte, rows []row, next int64) ([]byte, byte, int64) {
	first, last := int64(rows[0].series), int64(rows[len(rows)-1].series)
	dst = appendVarint(dst, first-next)
	if len(rows) == 1 {
		return dst, seriesOne, last + 1
	}
	dst = appendUvarint(dst, uint64(len(rows)))
	step, even := int64(rows[1].series)-first, true
	for i := 2; i < len(rows) && even; i++ {
		even = int64(rows[i].series)-int64(rows[i-1].series) == step
	}
	if even {
		return appendVarint(dst, step), seriesProgression, last + 1
	}
	e.ints = e.ints[:0]
	for i := 1; i < len(rows); i++ {
		e.ints = append(e.ints, int64(rows[i].series)-int64(rows[i-1].series))
	}
	return e.seq.append(dst, e.ints, len(e.ints), 1), seriesList, last + 1
}

// lookBack is how many columns are compared with to find the same times.
const lookBack = 12

// planTimes chooses for each column how its times are written.
func (e *blockEncoder) planTimes() {
	cols := e.layout.cols
	e.timesOf, e.back = grow(e.timesOf, len(cols)), grow(e.back, len(cols))
	e.table = e.table[:0]
	each := 0
	for i := range cols {
		e.timesOf[i] = e.planColumn(i)
		if e.timesOf[i] == timesEach && cols[i].c == 1 {
			each += cols[i].m
		}
	}
	if each < 16 {
		return
	}
	// One instant per device and many columns: a table of instants pays.
	if e.instants == nil {
		e.instants = map[int64]int64{}
	}
	clear(e.instants)
	for i := range cols {
		if e.timesOf[i] != timesEach || cols[i].c != 1 {
			continue
		}
		for _, t := range e.times[cols[i].from : cols[i].from+cols[i].m] {
			if _, ok := e.instants[t]; !ok {
				e.instants[t] = int64(len(e.table))
				e.table = append(e.table, t)
			}
		}
		if len(e.table)*3 > each {
			e.table = e.table[:0]
			return
		}
	}
	for i := range cols {
		if e.timesOf[i] == timesEach && cols[i].c == 1 {
			e.timesOf[i] = timesTable
		}
	}
}

func (e *blockEncoder) planColumn(i int) byte {
	cols := e.layout.cols
	col := &cols[i]
	t := e.times[col.from : col.from+col.len()]
	for back := 1; back <= min(i, lookBack); back++ {
		other := &cols[i-back]
		if other.len() == len(t) && slices.Equal(t, e.times[other.from:other.from+other.len()]) {
			e.back[i] = back
			if back == 1 {
				return timesLast
			}
			return timesBack
		}
	}
	one := true
	for _, x := range t {
		if x != t[0] {
			one = false
			break
		}
	}
	if one {
		return timesOne
	}
	if col.m > 1 && col.c > 1 {
		for row := col.c; row < len(t); row += col.c {
			if !slices.Equal(t[:col.c], t[row:row+col.c]) {
				return timesEach
			}
		}
		return timesGrid
	}
	return timesEach
}

func (e *blockEncoder) appendTimes(dst []byte, i int) []byte {
	col := &e.layout.cols[i]
	t := e.times[col.from : col.from+col.len()]
	switch e.timesOf[i] {
	case timesOne:
		return appendVarint(dst, t[0])
	case timesLast:
		return dst
	case timesBack:
		return appendUvarint(dst, uint64(e.back[i]))
	case timesGrid:
		return e.seq.append(dst, t[:col.c], 1, col.c)
	case timesTable:
		e.ints = grow(e.ints, len(t))
		for j, x := range t {
			e.ints[j] = e.instants[x]
		}
		return e.seq.append(dst, e.ints, len(t), 1)
	}
	return e.seq.append(dst, t, col.m, col.c)
}

func appendQuality(dst []byte, q []telemetry.Quality) ([]byte, byte) {
	runs := 1
	for i := 1; i < len(q); i++ {
		if q[i] != q[i-1] {
			runs++
		}
	}
	if runs == 1 {
		if q[0] == 0 {
			return dst, qualityGood
		}
		return append(dst, byte(q[0])), qualityConst
	}
	dst = appendUvarint(dst, uint64(runs))
	start := 0
	for i := 1; i <= len(q); i++ {
		if i == len(q) || q[i] != q[start] {
			dst = append(dst, byte(q[start]))
			dst = appendUvarint(dst, uint64(i-start))
			start = i
		}
	}
	return dst, qualityRuns
}

// appendTexts writes the texts of a column if it has any: the different ones,
// then which stands where.
func (e *blockEncoder) appendTexts(dst []byte, enc byte, col *column, readings []telemetry.Reading) ([]byte, byte) {
	if !e.texted {
		return dst, enc
	}
	order := e.order[col.from : col.from+col.len()]
	if !slices.ContainsFunc(order, func(j int32) bool { return readings[j].Text != "" }) {
		return dst, enc
	}
	if e.texts == nil {
		e.texts = map[string]int64{}
	}
	clear(e.texts)
	e.ints = e.ints[:0]
	var list []string
	for _, j := range order {
		s := readings[j].Text
		k, ok := e.texts[s]
		if !ok {
			k = int64(len(list))
			e.texts[s] = k
			list = append(list, s)
		}
		e.ints = append(e.ints, k)
	}
	dst = appendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendText(dst, s)
	}
	clear(e.texts)
	return e.seq.append(dst, e.ints, len(e.ints), 1), enc | valuesText
}
