package tsdb

import (
	"errors"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/prometheus/prometheus/storage"
)

// The errors that callers branch on.
var (
	// ErrFatal says that the store can no longer tell what is durable: an fsync
	// or a write to one of its logs failed. The process must exit; everything
	// that was not under a checkpoint comes again from the edges. It is never
	// worth a retry: after a failed fsync the kernel may have dropped the pages.
	ErrFatal = errors.New("the store cannot promise durability any more, the process must exit")

	// ErrNoSpace says that the disk is filled up to the floor that the store
	// keeps free. Nothing was appended; it goes away when there is room again.
	ErrNoSpace = errors.New("the store's disk is full")

	// ErrAhead says that a sample lies further ahead of the hub's clock than
	// [MaxAhead]. It was refused; the rest of the batch is not affected.
	ErrAhead = errors.New("sample is too far ahead of the hub's clock")

	// ErrInvalidSeries says that a label set is empty, unsorted, has no name or
	// is not UTF-8. The rest of the batch is not affected.
	ErrInvalidSeries = errors.New("invalid series")

	// ErrLocked says that another process holds the data directory.
	ErrLocked = errors.New("data directory in use by another process")

	// ErrVersion says that what stands in the data directory was written by a newer
	// program. It is not damaged, and nothing is touched.
	ErrVersion = errors.New("written by a newer langbiang-hub")

	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// MaxAhead is how far ahead of the hub's clock a sample may lie. A single one
// from years ahead would make everybody else's too old to be taken, and let
// retention delete their blocks.
const MaxAhead = 10 * time.Minute

// Store keeps samples. Its methods are safe for concurrent use; an [Appender]
// belongs to one goroutine.
type Store interface {
	// Appender returns an appender for one worker, to be used for any number
	// of batches. It costs nothing while no batch is open.
	Appender() Appender

	// Sync returns when everything whose Commit had returned before the call
	// is durable. An error that is [ErrFatal] means that the process must exit
	// without moving a position. Concurrent calls follow one another.
	Sync() error

	// Queryable gives reading access, as PromQL wants it. A Querier must be
	// closed; closing the store waits for it.
	Queryable() storage.Queryable

	// Stats returns numbers for people. It may look at the disk, and is meant
	// to be called every few seconds at most.
	Stats() Stats

	// Capabilities says what the store does of what not every store can. It does
	// not change.
	Capabilities() Capabilities

	// Close makes everything committed durable and waits for open queriers.
	// Open batches are lost.
	Close() error
}

// Appender writes batches. A batch begins with the first Append and ends with
// Commit or Rollback; it should live for milliseconds, as it holds up the
// cleaning behind the scenes. Not for concurrent use.
type Appender interface {
	// Append adds a sample to the batch. ref is what an earlier Append of this
	// process returned for the series, or 0. lset is sorted, contains
	// [NameLabel], and is not kept; it may be nil when ref is not 0. A series that
	// was quiet for hours is forgotten: with lset it is made anew, without it
	// Append returns 0 and no error, and the sample is not taken. t is in
	// milliseconds; v is a number or [StaleMarker].
	//
	// Samples may come in any order within the store's window. A sample that
	// the series has already, time and value, is silently fine. One with the
	// time of the newest sample and another value is counted and dropped: the
	// first wins. (Among older ones the first wins as well when the store can
	// tell; when not, one of the two is kept, and queries never see both.) One
	// too old for the window is counted and dropped. In these cases the error
	// is nil, and the reference is the one given, which may be 0.
	//
	// Errors: ErrAhead and ErrInvalidSeries refuse this sample alone;
	// ErrNoSpace, ErrFatal and ErrClosed end the batch.
	Append(ref uint64, lset []telemetry.Label, t int64, v float64) (uint64, error)

	// Commit makes the batch visible to queries, and part of the next Sync. An
	// error loses the batch. Without a batch it does nothing.
	Commit() error

	// Rollback drops the batch. Without a batch it does nothing.
	Rollback() error
}

// Capabilities are what the stores differ in: the embedded one has all of them,
// and keeps what is committed at once. What is not said here, all do.
type Capabilities struct {
	// StaleMarkers says that the store keeps [StaleMarker]. One that does not drops
	// it: a series that ends is then seen for as long as a query looks back.
	StaleMarkers bool
	// FirstWins says that of two values at one time the first stands. Elsewhere one
	// of the two does.
	FirstWins bool
	// Window says that samples older than the window are refused and counted.
	Window bool
	// Holdings says that Stats knows what the store holds: series, times, sizes.
	Holdings bool
}

// Stats are numbers about a store. Times are in milliseconds, 0 when there is
// nothing; sizes are in bytes.
type Stats struct {
	Retention       time.Duration // how long samples are kept; 0: the server decides
	MaxSize         int64         // bytes that blocks may take; 0: unbounded
	Series          uint64        // in the head: those with samples of the last hours
	MinTime         int64         // of the oldest sample
	MaxTime         int64         // of the newest sample
	Blocks          int           // on disk
	BlockBytes      int64         // on disk
	LogBytes        int64         // write-ahead logs and head chunks on disk
	FreeBytes       int64         // on the disk, -1 when unknown
	LongBytes       int64         // of long history; 0 when none is kept
	LongFiveMinutes int64         // its oldest buckets of five minutes
	LongHours       int64         // its oldest buckets of an hour
	LongLate        int           // stretches of two hours that late samples have changed, to be computed anew
	Samples         uint64        // appended since start
	Conflicts       uint64        // dropped: same time as the newest sample, another value
	TooOld          uint64        // dropped: older than the window
	Ahead           uint64        // refused: too far ahead of the hub's clock
	Refused         uint64        // by the store's server, and set aside
	Syncs           uint64
	LastSync        int64 // when the last one ended
	SyncDuration    time.Duration
}
