package wire

import (
	"github.com/klauspost/compress/zstd"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// blockDecoder decodes readings. It keeps scratch memory, all of it bounded by
// MaxBlock and MaxReadings.
type blockDecoder struct {
	val     valueDecoder
	values  []float64
	ints    []int64
	offBy   []int64
	coder   entropyCoder
	table   []int64
	cols    []span
	texts   map[string]string
	local   []string
	plain   []byte
	zstd    *zstd.Decoder
	zstdErr error
}

// span is where the readings of a column are.
type span struct{ from, n int32 }

// decode takes count, length and block, up to the end of r, and appends the
// readings to out. Frames, when not nil, is told which frame each belongs to.
func (d *blockDecoder) decode(r *reader, packed bool, base int64, out []telemetry.Reading, fr *frames) []telemetry.Reading {
	n := r.count(MaxReadings, "readings")
	if r.err != nil {
		return out
	}
	if n == 0 {
		if packed {
			r.fail("an empty block is compressed")
		}
		return out
	}
	if packed {
		plain := d.unpack(r)
		if r.err != nil {
			return out
		}
		// The rest of the message is the block; go on in the plain one.
		r.off = len(r.b)
		inner := reader{b: plain, kind: r.kind}
		out = d.columns(&inner, n, base, out, fr)
		r.err = inner.end()
		return out
	}
	return d.columns(r, n, base, out, fr)
}

// unpack decompresses the block. The declared length is within MaxBlock, and
// what comes out may be neither longer nor shorter.
func (d *blockDecoder) unpack(r *reader) []byte {
	size := r.count(MaxBlock, "block")
	if r.err != nil {
		return nil
	}
	if d.zstd == nil && d.zstdErr == nil {
		d.zstd, d.zstdErr = newZstdDecoder(MaxBlock)
	}
	if d.zstdErr != nil {
		r.err = d.zstdErr
		return nil
	}
	return unzstd(r, d.zstd, &d.plain, size)
}

func newZstdDecoder(most uint64) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(most), zstd.WithDecoderMaxWindow(max(most, 1<<10)))
}

// unzstd decompresses the rest of r into *plain, which must become size bytes.
func unzstd(r *reader, z *zstd.Decoder, plain *[]byte, size int) []byte {
	*plain = grow(*plain, size)
	got, err := z.DecodeAll(r.b[r.off:], (*plain)[:0:size])
	if err != nil {
		r.fail("it does not decompress")
		return nil
	}
	if len(got) != size {
		r.fail("it decompresses to another length than it says")
		return nil
	}
	*plain = got
	return got
}

// columns decodes columns until there are n readings.
func (d *blockDecoder) columns(r *reader, n int, base int64, out []telemetry.Reading, fr *frames) []telemetry.Reading {
	r.coder = &d.coder
	k := r.count(n, "instants")
	if r.err != nil {
		return out
	}
	d.table = grow(d.table, k)
	if k > 0 {
		r.sequence(d.table, k, 1)
	}
	d.cols = d.cols[:0]
	start, next := len(out), int64(0)
	for left := n; left > 0 && r.err == nil; {
		var m, c int
		head, enc := r.u8(), r.u8()
		before := len(out)
		out, m, c, next = d.series(r, head, left, out, next)
		if r.err != nil {
			break
		}
		col := out[before:]
		d.times(r, head&timesMask, out[start:], before-start, m, c, base)
		qualities(r, head&qualityMask, col)
		d.values = grow(d.values, len(col))
		d.val.decode(r, enc&valuesMask, d.values, m, c)
		if enc&^(valuesMask|valuesText|valuesFrames) != 0 || enc&valuesFrames != 0 && fr == nil {
			r.unknown("encoding", int(enc))
		}
		if r.err != nil {
			break
		}
		for i, v := range d.values {
			col[i].Value = v
		}
		if enc&valuesText != 0 {
			d.textsOf(r, col)
		}
		if fr != nil {
			d.framesOf(r, enc, col, base, fr)
		}
		d.cols = append(d.cols, span{int32(before - start), int32(len(col))})
		left -= len(col)
	}
	return out
}

// series decodes which readings the column has and appends them, at most most.
// It returns the series, the readings of each, and the index after the last.
func (d *blockDecoder) series(r *reader, head byte, most int, out []telemetry.Reading, next int64) ([]telemetry.Reading, int, int, int64) {
	first := next + r.varint()
	m, c, step := 1, 1, int64(0)
	mode := head & seriesMask
	switch mode {
	case seriesOne:
	case seriesProgression:
		m = r.count(most, "series")
		step = r.varint()
	case seriesList:
		m = r.count(most, "series")
		if r.err == nil && m < 2 {
			r.fail("a list of one series")
		}
		if r.err == nil {
			d.ints = grow(d.ints, m-1)
			r.sequence(d.ints, m-1, 1)
		}
	default:
		r.unknown("series mode", int(mode))
	}
	if head&headSeveral != 0 {
		c = r.count(most, "readings of a series")
	}
	if r.err == nil && (m < 1 || c < 1 || m > most/c) {
		r.fail("a column has more readings than there are, or none")
	}
	if r.err != nil {
		return out, 0, 0, 0
	}
	at := len(out)
	if need := at + m*c; cap(out) < need {
		out = append(make([]telemetry.Reading, 0, need+min(most-m*c, need)), out...)
	}
	out = out[:at+m*c]
	series := first
	for i := range m {
		if i > 0 {
			if mode == seriesList {
				step = d.ints[i-1]
			}
			series += step
		}
		if series < 0 || series >= telemetry.MaxSeries {
			r.fail("a series index is out of range")
			return out, 0, 0, 0
		}
		line := out[at+i*c : at+(i+1)*c]
		for j := range line {
			line[j] = telemetry.Reading{Series: uint32(series)}
		}
	}
	return out, m, c, series + 1
}

// times decodes the times of all[from:], the column; all[:from] are the columns
// before it.
func (d *blockDecoder) times(r *reader, mode byte, all []telemetry.Reading, from, m, c int, base int64) {
	col := all[from:]
	switch mode {
	case timesOne:
		t := base + r.varint()
		for i := range col {
			col[i].Time = t
		}
	case timesLast, timesBack:
		back := uint64(1)
		if mode == timesBack {
			back = r.uvarint()
		}
		if r.err != nil {
			return
		}
		if back == 0 || back > uint64(len(d.cols)) || int(d.cols[len(d.cols)-int(back)].n) != len(col) {
			r.fail("times refer to a column that does not fit")
			return
		}
		other := all[d.cols[len(d.cols)-int(back)].from:]
		for i := range col {
			col[i].Time = other[i].Time
		}
	case timesGrid:
		d.ints = grow(d.ints, c)
		if r.sequence(d.ints, 1, c); r.err != nil {
			return
		}
		for row := 0; row < len(col); row += c {
			line := col[row : row+c]
			for j := range line {
				line[j].Time = base + d.ints[j]
			}
		}
	case timesEach:
		d.ints = grow(d.ints, len(col))
		if r.sequence(d.ints, m, c); r.err != nil {
			return
		}
		for i, t := range d.ints {
			col[i].Time = base + t
		}
	case timesTable:
		d.ints = grow(d.ints, len(col))
		if r.sequence(d.ints, len(col), 1); r.err != nil {
			return
		}
		for i, k := range d.ints {
			if k < 0 || k >= int64(len(d.table)) {
				r.fail("a time refers to no instant")
				return
			}
			col[i].Time = base + d.table[k]
		}
	default:
		r.unknown("time mode", int(mode))
	}
}

func qualities(r *reader, mode byte, col []telemetry.Reading) {
	switch mode {
	case qualityGood:
	case qualityConst:
		q := telemetry.Quality(r.u8())
		for i := range col {
			col[i].Quality = q
		}
	case qualityRuns:
		at := 0
		for range r.count(len(col), "quality runs") {
			q := telemetry.Quality(r.u8())
			n := r.count(len(col)-at, "quality run")
			if r.err == nil && n == 0 {
				r.fail("an empty quality run")
			}
			if r.err != nil {
				return
			}
			for i := range col[at : at+n] {
				col[at+i].Quality = q
			}
			at += n
		}
		if r.err == nil && at != len(col) {
			r.fail("quality runs do not fill their column")
		}
	default:
		r.unknown("quality mode", int(mode))
	}
}

// interned bounds how many texts a decoder remembers to spare allocations.
const interned = 4096

func (d *blockDecoder) textsOf(r *reader, col []telemetry.Reading) {
	n := r.count(len(col), "texts")
	if d.texts == nil || len(d.texts) > interned {
		d.texts = map[string]string{}
	}
	d.local = d.local[:0]
	for range n {
		b := r.bytes(r.count(telemetry.MaxTextLen, "text"))
		if r.err != nil {
			return
		}
		s, ok := d.texts[string(b)]
		if !ok {
			s = string(b)
			d.texts[s] = s
		}
		d.local = append(d.local, s)
	}
	d.ints = grow(d.ints, len(col))
	if r.err == nil {
		r.sequence(d.ints, len(col), 1)
	}
	if r.err != nil {
		return
	}
	for i, k := range d.ints {
		if k < 0 || k >= int64(n) {
			r.fail("a text refers to none")
			return
		}
		col[i].Text = d.local[k]
	}
}
