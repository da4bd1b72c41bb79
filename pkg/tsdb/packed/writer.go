package packed

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	// joined is how many samples chunks are joined up to. What a chunk costs beside its
	// samples (its index entry, its length and checksum, its first numbers: 30 bytes) is
	// then little, and to find one sample few are decoded: some microseconds.
	joined = 1024
	// full is what a packed chunk needs to be left as it is.
	full = joined / 2
	// overhead is what a chunk costs in its file and in the index.
	overhead = 14
	// plainSamples is how many samples the TSDB gives a chunk.
	plainSamples = 120
)

// blockWriter stands between the TSDB, which writes a block series by series, and the
// files, and writes other chunks with the same samples.
type blockWriter struct {
	plain   bool
	written uint64 // chunks

	out     []chunks.Meta // of the present series
	group   []chunks.Meta // to be joined
	samples int           // of group
	t       []int64
	v       []float64
	buf     []byte
	encoder Encoder
	it      chunkenc.Iterator
}

type chunkWriter struct {
	promtsdb.ChunkWriter
	w *blockWriter
}

type indexWriter struct {
	promtsdb.IndexWriter
	w *blockWriter
}

func (w *blockWriter) chunks(inner promtsdb.ChunkWriter) promtsdb.ChunkWriter {
	return chunkWriter{inner, w}
}

func (w *blockWriter) index(inner promtsdb.IndexWriter) promtsdb.IndexWriter {
	return indexWriter{inner, w}
}

// WriteChunks implements promtsdb.ChunkWriter. It is called with all chunks of a
// series, which do not overlap.
func (c chunkWriter) WriteChunks(list ...chunks.Meta) error {
	if err := c.w.convert(list); err != nil {
		return err
	}
	c.w.written += uint64(len(c.w.out))
	return c.ChunkWriter.WriteChunks(c.w.out...)
}

// AddSeries implements promtsdb.IndexWriter. It is called after WriteChunks, with the
// chunks given there.
func (i indexWriter) AddSeries(ref storage.SeriesRef, l labels.Labels, _ ...chunks.Meta) error {
	return i.IndexWriter.AddSeries(ref, l, i.w.out...)
}

// convert fills w.out.
func (w *blockWriter) convert(list []chunks.Meta) error {
	w.out, w.buf = w.out[:0], w.buf[:0]
	for _, c := range list {
		n := c.Chunk.NumSamples()
		if w.samples+n > joined {
			if err := w.flush(); err != nil {
				return err
			}
		}
		if w.plain && c.Chunk.Encoding() != Encoding || !w.plain && !joinable(c.Chunk, n) {
			if err := w.flush(); err != nil {
				return err
			}
			w.out = append(w.out, c)
			continue
		}
		w.group, w.samples = append(w.group, c), w.samples+n
	}
	return w.flush()
}

func joinable(c chunkenc.Chunk, samples int) bool {
	return c.Encoding() == chunkenc.EncXOR || c.Encoding() == Encoding && samples < full
}

// flush writes the group.
func (w *blockWriter) flush() error {
	if len(w.group) == 0 {
		return nil
	}
	defer func() { w.group, w.samples = w.group[:0], 0 }()
	if !w.plain && len(w.group) == 1 && w.group[0].Chunk.Encoding() == Encoding {
		w.out = append(w.out, w.group...)
		return nil
	}
	before, err := w.decode()
	if err != nil {
		return err
	}
	if w.plain {
		return w.plainChunks()
	}
	start := len(w.buf)
	w.buf = w.encoder.Encode(w.buf, w.t, w.v)
	b := w.buf[start:len(w.buf):len(w.buf)]
	if len(b)+overhead >= before {
		w.buf = w.buf[:start]
		w.out = append(w.out, w.group...)
		return nil
	}
	w.out = append(w.out, chunks.Meta{Chunk: NewChunk(b), MinTime: w.t[0], MaxTime: w.t[len(w.t)-1]})
	return nil
}

// decode reads the samples of the group, and returns what they take as it is.
func (w *blockWriter) decode() (size int, err error) {
	w.t, w.v = w.t[:0], w.v[:0]
	for _, c := range w.group {
		size += len(c.Chunk.Bytes()) + overhead
		w.it = c.Chunk.Iterator(w.it)
		for w.it.Next() == chunkenc.ValFloat {
			t, v := w.it.At()
			w.t, w.v = append(w.t, t), append(w.v, v)
		}
		if err := w.it.Err(); err != nil {
			return 0, fmt.Errorf("chunk from %d to %d: %w", c.MinTime, c.MaxTime, err)
		}
	}
	if len(w.t) != w.samples {
		return 0, fmt.Errorf("chunks from %d to %d: %d samples, they say %d", w.group[0].MinTime, w.group[len(w.group)-1].MaxTime, len(w.t), w.samples)
	}
	return size, nil
}

// plainChunks writes the decoded samples as the TSDB would.
func (w *blockWriter) plainChunks() error {
	for from := 0; from < len(w.t); from += plainSamples {
		to := min(from+plainSamples, len(w.t))
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			return err
		}
		for i := from; i < to; i++ {
			app.Append(0, w.t[i], w.v[i])
		}
		w.out = append(w.out, chunks.Meta{Chunk: c, MinTime: w.t[from], MaxTime: w.t[to-1]})
	}
	return nil
}
