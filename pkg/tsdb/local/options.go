package local

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/langbiang/langbiang/pkg/tsdb/history"
	"github.com/langbiang/langbiang/pkg/tsdb/packed"
	"github.com/prometheus/client_golang/prometheus"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// Options of a [Store]. The zero value of every field is a good choice.
type Options struct {
	// Retention is how long samples are kept; 400 days when 0. A block goes
	// when its newest sample is older.
	Retention time.Duration
	// MaxSize bounds the blocks in bytes: the oldest go first; 0 is unbounded.
	MaxSize int64
	// OutOfOrder is how far behind the newest sample of all another one may be:
	// what the edges keep, and some days; 45 days when 0.
	OutOfOrder time.Duration
	// MinFree is the number of bytes below which nothing more is accepted; 512
	// MiB when 0, no floor when negative.
	MinFree int64
	// MapEvery is the longest time between two moves of full chunks out of the
	// heap; 5 s when 0. They move sooner when there are many.
	MapEvery time.Duration
	// SegmentSize of the logs in bytes, a multiple of 32 KiB; 128 MiB when 0.
	SegmentSize int
	// Plain leaves the chunks of blocks as the TSDB writes them, which Prometheus and
	// its tools read, and makes packed ones plain again; see package packed.
	Plain bool
	// Long keeps long history in the folder history; nil: none. OutOfOrder, Room,
	// Now and Logger in it are the store's.
	Long *history.Options
	// Now is the hub's clock in milliseconds; the system's when nil.
	Now func() int64
	// FreeSpace returns the free bytes on the disk of dir; the system's when nil.
	FreeSpace func(dir string) (int64, error)
	// Logger, silent when nil.
	Logger *slog.Logger
	// Metrics, none when nil: langbiang_hub_store_* and the TSDB's own
	// prometheus_tsdb_*.
	Metrics prometheus.Registerer
}

const (
	defaultRetention  = 400 * 24 * time.Hour
	defaultOutOfOrder = 45 * 24 * time.Hour
	defaultMinFree    = 512 << 20
	defaultMapEvery   = 5 * time.Second

	minBlock = 2 * time.Hour
	maxBlock = 31 * 24 * time.Hour
)

func (o Options) withDefaults() (Options, error) {
	if o.Retention == 0 {
		o.Retention = defaultRetention
	}
	if o.OutOfOrder == 0 {
		o.OutOfOrder = defaultOutOfOrder
	}
	if o.MinFree == 0 {
		o.MinFree = defaultMinFree
	}
	if o.MapEvery == 0 {
		o.MapEvery = defaultMapEvery
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = wlog.DefaultSegmentSize
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	if o.FreeSpace == nil {
		o.FreeSpace = freeSpace
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Retention < minBlock:
		return o, fmt.Errorf("retention %s is shorter than a block, %s", o.Retention, minBlock)
	case o.OutOfOrder < 0 || o.MapEvery < 0 || o.MaxSize < 0:
		return o, fmt.Errorf("a duration or a size is negative")
	case o.SegmentSize < pageSize || o.SegmentSize%pageSize != 0:
		return o, fmt.Errorf("segment size %d is not a multiple of %d", o.SegmentSize, pageSize)
	}
	return o, nil
}

// tsdbOptions translates. The longest block is a tenth of the retention, so that
// deleting whole blocks keeps at most a tenth too much, and not above a month.
func (o Options) tsdbOptions(retain promtsdb.BlocksToDeleteFunc, readers *packed.Readers, room func(int64) bool) *promtsdb.Options {
	t := promtsdb.DefaultOptions()
	t.RetentionDuration = o.Retention.Milliseconds()
	t.MinBlockDuration = minBlock.Milliseconds()
	t.MaxBlockDuration = min(max(o.Retention/10, minBlock), maxBlock).Milliseconds()
	t.OutOfOrderTimeWindow = o.OutOfOrder.Milliseconds()
	t.WALSegmentSize = o.SegmentSize
	t.WALCompression = compression.None
	t.FloatChunkEncoding = chunkenc.EncXOR
	t.NoLockfile = true // Open holds the lock itself: it works on the files before the TSDB does.
	t.EnableOverlappingCompaction = true
	t.BlocksToDelete = retain
	t.NewCompactorFunc = packed.NewCompactor(readers, packed.Options{Plain: o.Plain, Room: room})
	t.BlockQuerierFunc = readers.Querier
	return t
}
