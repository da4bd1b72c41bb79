package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// blockWriter writes a block of the TSDB series by series, in the order of their
// labels, so that memory does not grow with their number; the TSDB's own writers
// hold all of a block. The files are not fsynced.
type blockWriter struct {
	dir    string
	index  *index.Writer
	chunks *chunks.Writer
	ref    storage.SeriesRef
	stats  promtsdb.BlockStats
}

// newBlockWriter begins a block in dir, whose labels are made of the sorted
// symbols.
func newBlockWriter(ctx context.Context, dir string, symbols []string) (*blockWriter, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	w := &blockWriter{dir: dir}
	var err error
	if w.chunks, err = chunks.NewWriter(filepath.Join(dir, "chunks")); err != nil {
		return nil, err
	}
	if w.index, err = index.NewWriter(ctx, filepath.Join(dir, "index")); err != nil {
		return nil, errors.Join(err, w.chunks.Close())
	}
	for _, s := range symbols {
		if err := w.index.AddSymbol(s); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

// maxChunk is how many samples a chunk gets; the format has 16 bits for it.
const maxChunk = 16_384

// add writes a series with samples in order of time, at least one.
func (w *blockWriter) add(ls labels.Labels, ts []int64, vs []float64) error {
	var metas []chunks.Meta
	for from := 0; from < len(ts); from += maxChunk {
		to := min(from+maxChunk, len(ts))
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			return err
		}
		for i := from; i < to; i++ {
			app.Append(0, ts[i], vs[i])
		}
		metas = append(metas, chunks.Meta{Chunk: c, MinTime: ts[from], MaxTime: ts[to-1]})
	}
	if err := w.chunks.WriteChunks(metas...); err != nil {
		return err
	}
	if err := w.index.AddSeries(w.ref, ls, metas...); err != nil {
		return err
	}
	w.ref++
	w.stats.NumSeries++
	w.stats.NumChunks += uint64(len(metas))
	w.stats.NumSamples += uint64(len(ts))
	w.stats.NumFloatSamples += uint64(len(ts))
	return nil
}

// finish writes what makes a block of the files.
func (w *blockWriter) finish(p period, id ulid.ULID) error {
	if err := w.close(); err != nil {
		return err
	}
	if _, err := tombstones.WriteFile(noLogs, w.dir, tombstones.NewMemTombstones()); err != nil {
		return err
	}
	meta := promtsdb.BlockMeta{
		ULID: id, MinTime: p.start + 1, MaxTime: p.end + 1, Stats: w.stats, Version: 1,
		Compaction: promtsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{id}},
	}
	b, err := json.MarshalIndent(meta, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, "meta.json"), b, 0o644)
}

func (w *blockWriter) close() error { return errors.Join(w.index.Close(), w.chunks.Close()) }

// setWriter writes the four blocks of a set.
type setWriter struct {
	period  period
	id      ulid.ULID
	dir     string
	writers [streams]*blockWriter
	ts      []int64
	vs      [streams][]float64
	series  int
}

func newSetWriter(ctx context.Context, dir string, p period, id ulid.ULID, symbols []string) (*setWriter, error) {
	w := &setWriter{period: p, id: id, dir: dir}
	for i, name := range streamNames {
		var err error
		if w.writers[i], err = newBlockWriter(ctx, filepath.Join(dir, name), symbols); err != nil {
			return nil, errors.Join(fmt.Errorf("write set: %w", err), w.abort())
		}
	}
	return w, nil
}

// add writes the buckets of a series that have samples; a series without any is
// left out.
func (w *setWriter) add(ls labels.Labels, b *buckets) error {
	w.ts = w.ts[:0]
	for i := range w.vs {
		w.vs[i] = w.vs[i][:0]
	}
	for i := range b.list {
		k := &b.list[i]
		if k.n == 0 {
			continue
		}
		w.ts = append(w.ts, b.end(i))
		for s, v := range [streams]float64{streamValue: k.value, streamMin: k.min, streamMax: k.max, streamCount: k.n} {
			w.vs[s] = append(w.vs[s], v)
		}
	}
	if len(w.ts) == 0 {
		return nil
	}
	w.series++
	for s := range w.writers {
		if err := w.writers[s].add(ls, w.ts, w.vs[s]); err != nil {
			return fmt.Errorf("write set: %w", err)
		}
	}
	return nil
}

func (w *setWriter) finish() error {
	for i, b := range w.writers {
		w.writers[i] = nil
		if err := b.finish(w.period, w.id); err != nil {
			return errors.Join(fmt.Errorf("write set: %w", err), w.abort())
		}
	}
	return nil
}

// abort closes what is open.
func (w *setWriter) abort() error {
	var errs []error
	for _, b := range w.writers {
		if b != nil {
			errs = append(errs, b.close())
		}
	}
	return errors.Join(errs...)
}

// symbolTable gathers the symbols of label sets.
type symbolTable map[string]struct{}

func (s symbolTable) add(ls labels.Labels) {
	ls.Range(func(l labels.Label) {
		for _, x := range [2]string{l.Name, l.Value} {
			if _, ok := s[x]; !ok {
				s[string(append([]byte(nil), x...))] = struct{}{} // it may lie in a mapped file
			}
		}
	})
}

func (s symbolTable) sorted() []string {
	out := make([]string, 0, len(s))
	for x := range s {
		out = append(out, x)
	}
	slices.Sort(out)
	return out
}
