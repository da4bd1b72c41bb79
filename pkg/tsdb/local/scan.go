package local

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

const pageSize = 32 << 10 // of the TSDB's logs

// segmentScan is what reading one segment through has found.
type segmentScan struct {
	size  int64
	whole int64 // end of the last record that can be read
	torn  bool  // something other than padding follows it
	cause error // why it could not be read on, when the reader knows
}

// scanSegment reads the segment at path and gives each whole record to each.
func scanSegment(path string, each func(rec []byte) error) (segmentScan, error) {
	f, err := os.Open(path)
	if err != nil {
		return segmentScan{}, fmt.Errorf("open log segment: %w", err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return segmentScan{}, fmt.Errorf("stat log segment: %w", err)
	}
	out := segmentScan{size: st.Size()}
	r := wlog.NewReader(bufio.NewReaderSize(f, 1<<20))
	for r.Next() {
		if err := each(r.Record()); err != nil {
			out.cause = err
			break
		}
		out.whole = r.Offset()
	}
	if out.cause == nil {
		out.cause = r.Err()
	}
	// The reader does not tell a torn header from the end of the file, so what
	// follows decides: zeros are padding.
	zeros, err := onlyZeros(io.NewSectionReader(f, out.whole, out.size-out.whole))
	if err != nil {
		return segmentScan{}, fmt.Errorf("read log segment %s: %w", path, err)
	}
	out.torn = !zeros
	return out, nil
}

func onlyZeros(r io.Reader) (bool, error) {
	buf := make([]byte, pageSize)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// refs notes how the logs use the numbers of series.
type refs struct {
	named, used chunks.HeadSeriesRef // the highest that a log names, and uses
	sampled     map[chunks.HeadSeriesRef]bool
	misleading  bool // since it was last reset: see dropMisleading

	samples []record.RefSample
	series  []record.RefSeries
	stones  []tombstones.Stone
	markers []record.RefMmapMarker
	dec     record.Decoder
}

func newRefs() *refs {
	return &refs{
		sampled: make(map[chunks.HeadSeriesRef]bool),
		dec:     record.NewDecoder(labels.NewSymbolTable(), slog.New(slog.DiscardHandler)),
	}
}

// wal notes a record of the write-ahead log. Samples in it need no look: their
// series is named before them in the same log.
func (r *refs) wal(rec []byte) (err error) {
	switch r.dec.Type(rec) {
	case record.Series:
		r.series, err = r.dec.Series(rec, r.series[:0])
		for _, s := range r.series {
			r.named = max(r.named, s.Ref)
		}
	case record.Tombstones:
		r.stones, err = r.dec.Tombstones(rec, r.stones[:0])
		for _, s := range r.stones {
			r.named = max(r.named, chunks.HeadSeriesRef(s.Ref))
		}
	}
	return err
}

// wbl notes a record of the out-of-order log.
func (r *refs) wbl(rec []byte) (err error) {
	switch r.dec.Type(rec) {
	case record.Samples, record.SamplesV2:
		r.samples, err = r.dec.Samples(rec, r.samples[:0])
		last := chunks.HeadSeriesRef(0)
		for _, s := range r.samples {
			if s.Ref != last {
				r.sampled[s.Ref] = true
				r.used = max(r.used, s.Ref)
				last = s.Ref
			}
		}
	case record.MmapMarkers:
		r.markers, err = r.dec.MmapMarkers(rec, r.markers[:0])
		for _, m := range r.markers {
			r.used = max(r.used, m.Ref)
			r.misleading = r.misleading || m.MmapRef == 0 && r.sampled[m.Ref]
		}
	}
	return err
}

// dropMisleading writes a segment of the out-of-order log anew without the
// markers that would lose samples.
//
// A marker tells the TSDB that the samples of a series before it are in a chunk
// on disk. It is ignored while that chunk is not there, except for the kind
// without a chunk, which stands before the first one. But the TSDB writes the
// same kind when a compaction has just taken the chunk in the middle of the log:
// a crash before the end of that compaction loses the chunk, and the marker then
// hides its samples. Without the marker they are read from the log; samples that
// a block has too are seen once.
func dropMisleading(path string, segmentSize int) error {
	tmp := path + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("rewrite log segment: %w", err)
	}
	w, err := wlog.NewSize(nil, nil, tmp, segmentSize, compression.None)
	if err != nil {
		return fmt.Errorf("rewrite log segment: %w", err)
	}
	var enc record.Encoder
	dec := record.NewDecoder(labels.NewSymbolTable(), slog.New(slog.DiscardHandler))
	_, err = scanSegment(path, func(rec []byte) error {
		if dec.Type(rec) == record.MmapMarkers {
			markers, err := dec.MmapMarkers(rec, nil)
			if err != nil {
				return err
			}
			markers = slices.DeleteFunc(markers, func(m record.RefMmapMarker) bool { return m.MmapRef == 0 })
			if len(markers) == 0 {
				return nil
			}
			rec = enc.MmapMarkers(markers, nil)
		}
		return w.Log(rec)
	})
	err = errors.Join(err, w.Close())
	if err != nil {
		return fmt.Errorf("rewrite log segment: %w", err)
	}
	if err := syncTree(tmp, fsyncFile); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(tmp, segmentName(0)), path); err != nil {
		return fmt.Errorf("rewrite log segment: %w", err)
	}
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("rewrite log segment: %w", err)
	}
	return syncPath(filepath.Dir(path), fsyncFile)
}

// lastCheckpoint returns the newest condensed part of the write-ahead log and the
// number of the last segment that it replaces; "" and -1 when there is none.
func lastCheckpoint(dir string) (string, int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", -1, nil
	}
	if err != nil {
		return "", -1, fmt.Errorf("list %s: %w", dir, err)
	}
	name, last := "", -1
	for _, e := range entries {
		if !isCheckpoint(e) {
			continue
		}
		n, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "checkpoint."))
		if err == nil && n > last {
			name, last = filepath.Join(dir, e.Name()), n
		}
	}
	return name, last, nil
}

// raiseFloor lets the TSDB number new series above floor, by a deletion of
// nothing from a series with that number at the end of the write-ahead log.
func raiseFloor(dir string, segmentSize int, floor chunks.HeadSeriesRef) error {
	w, err := wlog.NewSize(nil, nil, dir, segmentSize, compression.None)
	if err != nil {
		return fmt.Errorf("open write-ahead log: %w", err)
	}
	var enc record.Encoder
	rec := enc.Tombstones([]tombstones.Stone{{
		Ref: storage.SeriesRef(floor), Intervals: tombstones.Intervals{{Mint: 0, Maxt: 0}},
	}}, nil)
	if err := w.Log(rec); err != nil {
		return errors.Join(fmt.Errorf("write to write-ahead log: %w", err), w.Close())
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("close write-ahead log: %w", err)
	}
	return syncTree(dir, fsyncFile)
}
