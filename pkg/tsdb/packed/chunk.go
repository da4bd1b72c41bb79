package packed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Encoding marks packed chunks in chunk files. Prometheus counts its own from 1 on.
const Encoding chunkenc.Encoding = 0xB1

// version is the first byte of a chunk.
const version = 1

// maxSamples bounds the samples of a chunk, written or read.
const maxSamples = 1 << 16

// Encoder makes packed chunks. It is for one goroutine.
type Encoder struct {
	values      valueEncoder
	times, line line
}

// Encode appends a chunk of the samples (t[i], v[i]), 1 to 65,536 in order of time,
// to dst.
func (e *Encoder) Encode(dst []byte, t []int64, v []float64) []byte {
	dst = binary.AppendUvarint(append(dst, version), uint64(len(t)))
	e.times, e.line = line{}, line{}
	for len(t) > 0 {
		n := min(len(t), blockSize)
		dst = e.values.ints.append(dst, t[:n], &e.times)
		dst = e.values.append(dst, v[:n], &e.line)
		t, v = t[n:], v[n:]
	}
	return dst
}

// Chunk is a packed chunk as the TSDB reads it. Nothing can be appended to it.
type Chunk struct{ b []byte }

var _ chunkenc.Chunk = (*Chunk)(nil)

// NewChunk makes a chunk of the bytes that Encode wrote, which it keeps.
func NewChunk(b []byte) *Chunk { return &Chunk{b} }

// Bytes implements chunkenc.Chunk.
func (c *Chunk) Bytes() []byte { return c.b }

// Encoding implements chunkenc.Chunk.
func (*Chunk) Encoding() chunkenc.Encoding { return Encoding }

// Appender implements chunkenc.Chunk. It fails.
func (*Chunk) Appender() (chunkenc.Appender, error) {
	return nil, errors.New("nothing can be appended to a packed chunk")
}

// NumSamples implements chunkenc.Chunk. It is 0 for what is no chunk.
func (c *Chunk) NumSamples() int {
	n, _, err := header(c.b)
	if err != nil {
		return 0
	}
	return n
}

// Compact implements chunkenc.Chunk.
func (*Chunk) Compact() {}

// Reset implements chunkenc.Chunk.
func (c *Chunk) Reset(b []byte) { c.b = b }

// Iterator implements chunkenc.Chunk.
func (c *Chunk) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	i, ok := it.(*iterator)
	if !ok {
		i = &iterator{}
	}
	i.reset(c.b)
	return i
}

var errCount = fmt.Errorf("more than %d samples", maxSamples)

// header returns the number of samples, and what follows.
func header(b []byte) (int, []byte, error) {
	if len(b) == 0 {
		return 0, nil, errShort
	}
	if b[0] != version {
		return 0, nil, fmt.Errorf("format %d, known is %d", b[0], version)
	}
	n, rest, err := uvarint(b[1:])
	if err == nil && n > maxSamples {
		err = errCount
	}
	if err != nil {
		return 0, nil, err
	}
	return int(n), rest, nil
}

// milliseconds since 1970: by its own name go vet does not take Seek for that of io.
type milliseconds = int64

// iterator decodes a block at a time.
type iterator struct {
	b           []byte // not decoded yet
	left        int    // samples in b
	i, n        int    // at t[i-1] of t[:n]
	t           [blockSize]int64
	v           [blockSize]float64
	ints        [blockSize]int64
	times, line line
	err         error
}

func (it *iterator) reset(b []byte) {
	it.i, it.n, it.err = 0, 0, nil
	it.times, it.line = line{}, line{}
	it.left, it.b, it.err = header(b)
	if it.err != nil {
		it.fail(it.err)
	}
}

func (it *iterator) fail(err error) chunkenc.ValueType {
	it.left, it.i, it.n = 0, 0, 0
	it.err = fmt.Errorf("read packed chunk: %w", err)
	return chunkenc.ValNone
}

// Next implements chunkenc.Iterator.
func (it *iterator) Next() chunkenc.ValueType {
	if it.i < it.n {
		it.i++
		return chunkenc.ValFloat
	}
	return it.block()
}

// block moves to the first sample of the next block.
func (it *iterator) block() chunkenc.ValueType {
	if it.left == 0 {
		return chunkenc.ValNone
	}
	n := min(it.left, blockSize)
	b, err := decodeInts(it.b, it.t[:n], &it.times)
	if err != nil {
		return it.fail(err)
	}
	if it.b, err = decodeValues(b, it.v[:n], it.ints[:n], &it.line); err != nil {
		return it.fail(err)
	}
	it.left -= n
	it.i, it.n = 1, n
	return chunkenc.ValFloat
}

// Seek implements chunkenc.Iterator.
func (it *iterator) Seek(t milliseconds) chunkenc.ValueType {
	if it.i > 0 && it.t[it.i-1] >= t {
		return chunkenc.ValFloat
	}
	for {
		if it.i < it.n && it.t[it.n-1] >= t {
			for it.t[it.i] < t {
				it.i++
			}
			it.i++
			return chunkenc.ValFloat
		}
		it.i = it.n
		if it.block() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
		if it.t[0] >= t {
			return chunkenc.ValFloat
		}
	}
}

// At implements chunkenc.Iterator.
func (it *iterator) At() (int64, float64) { return it.t[it.i-1], it.v[it.i-1] }

// AtT implements chunkenc.Iterator.
func (it *iterator) AtT() int64 { return it.t[it.i-1] }

// AtST implements chunkenc.Iterator: there are no start times.
func (*iterator) AtST() int64 { return 0 }

// AtHistogram implements chunkenc.Iterator: there are none.
func (*iterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return math.MinInt64, nil
}

// AtFloatHistogram implements chunkenc.Iterator: there are none.
func (*iterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return math.MinInt64, nil
}

// Err implements chunkenc.Iterator.
func (it *iterator) Err() error { return it.err }
