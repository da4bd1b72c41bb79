package packed

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Compactor is the TSDB's compactor, but for the chunks of the blocks that it makes of
// others. A block of the head gets the TSDB's own chunks, and is planned next.
type Compactor struct {
	*promtsdb.LeveledCompactor
	Options
	readers *Readers
}

// Options of a [Compactor].
type Options struct {
	// Plain makes blocks that Prometheus and its tools read.
	Plain bool
	// Room reports whether so many bytes can be written; nil: always. A block whose
	// compaction has failed is left out of all later ones, so that none is begun for
	// which the disk may be too small.
	Room func(bytes int64) bool
}

const (
	// tooMany is how many samples a block may have to be written anew in one go: up to
	// half an hour, in which no head is written and no backup made. A larger one that an
	// older version has left stays plain until its retention.
	tooMany = 20e9
	// growth is how many times as large as a packed block a plain one may be.
	growth = 10
)

var _ promtsdb.Compactor = (*Compactor)(nil)

// NewCompactor is the TSDB's NewCompactorFunc, which reads through r.
func NewCompactor(r *Readers, options Options) promtsdb.NewCompactorFunc {
	return func(ctx context.Context, metrics prometheus.Registerer, l *slog.Logger, ranges []int64, _ chunkenc.Pool, o *promtsdb.Options) (promtsdb.Compactor, error) {
		inner, err := promtsdb.NewLeveledCompactorWithOptions(ctx, metrics, l, ranges, r.pool, promtsdb.LeveledCompactorOptions{
			MaxBlockChunkSegmentSize:    o.MaxBlockChunkSegmentSize,
			EnableOverlappingCompaction: o.EnableOverlappingCompaction,
			PD:                          o.PostingsDecoderFactory,
			UseUncachedIO:               o.UseUncachedIO,
			BlockExcludeFilter:          o.BlockCompactionExcludeFunc,
		})
		if err != nil {
			return nil, err
		}
		return &Compactor{LeveledCompactor: inner, Options: options, readers: r}, nil
	}
}

// Plan implements promtsdb.Compactor. When nothing is to be joined it names a block
// with chunks of the other kind, the newest first.
func (c *Compactor) Plan(dir string) ([]string, error) {
	plan, err := c.LeveledCompactor.Plan(dir)
	if err != nil || len(plan) > 0 {
		return plan, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	newest := int64(0)
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		m, err := readMeta(path)
		if err != nil {
			return nil, err
		}
		if Packed(m) != c.Plain || m.Compaction.Failed || m.Compaction.Deletable || !c.Plain && m.Stats.NumSamples > tooMany {
			continue
		}
		if len(plan) > 0 && m.MinTime <= newest {
			continue
		}
		if fits, err := c.fits(path); err != nil || !fits {
			return nil, err
		}
		plan, newest = []string{path}, m.MinTime
	}
	return plan, nil
}

// fits reports whether there is room for what a block becomes.
func (c *Compactor) fits(dir string) (bool, error) {
	if c.Room == nil {
		return true, nil
	}
	size := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if c.Plain {
		size *= growth
	}
	return c.Room(size), err
}

func readMeta(dir string) (m promtsdb.BlockMeta, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", filepath.Join(dir, "meta.json"), err)
	}
	return m, nil
}

// Compact implements promtsdb.Compactor.
func (c *Compactor) Compact(dest string, dirs []string, open []*promtsdb.Block) ([]ulid.ULID, error) {
	return c.CompactWithBlockPopulator(dest, dirs, open, populator{c})
}

// populator fills a block as the TSDB does, through a writer of the right chunks.
type populator struct{ c *Compactor }

// PopulateBlock implements promtsdb.BlockPopulator.
func (p populator) PopulateBlock(ctx context.Context, metrics *promtsdb.CompactorMetrics, logger *slog.Logger, pool chunkenc.Pool, merge storage.VerticalChunkSeriesMergeFunc, blocks []promtsdb.BlockReader, meta *promtsdb.BlockMeta, indexw promtsdb.IndexWriter, chunkw promtsdb.ChunkWriter, postings promtsdb.IndexReaderPostingsFunc) error {
	views := make([]promtsdb.BlockReader, len(blocks))
	for i, b := range blocks {
		v := p.c.readers.View(b)
		if own, ok := v.(view); ok && own.Meta().Stats.NumTombstones > 0 {
			own.loose = true // what is left of a chunk is written into another one
			v = own
		}
		views[i] = v
	}
	w := &blockWriter{plain: p.c.Plain}
	err := promtsdb.DefaultBlockPopulator{}.PopulateBlock(ctx, metrics, logger, pool, merge, views, meta, w.index(indexw), w.chunks(chunkw), postings)
	if err != nil {
		return err
	}
	meta.Stats.NumChunks = w.written
	meta.Stats.NumFloatSamples = meta.Stats.NumSamples - meta.Stats.NumHistogramSamples
	if !p.c.Plain {
		meta.Compaction.Hints = append(meta.Compaction.Hints, hint)
		slices.Sort(meta.Compaction.Hints)
	}
	return nil
}
