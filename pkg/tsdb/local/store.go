package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/history"
	"github.com/langbiang/langbiang/pkg/tsdb/packed"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/fileutil"
)

// Store is a [tsdb.Store] in a directory of this machine.
type Store struct {
	dir     string
	options Options
	logger  *slog.Logger
	report  Report

	lock    fileutil.Releaser
	db      *promtsdb.DB
	head    atomic.Pointer[promtsdb.Head] // of db, for what the TSDB calls back
	tap     *tap
	metrics *metrics
	readers *readers
	packed  *packed.Readers  // of db's blocks
	long    *history.History // nil: none is kept

	// refuse is why nothing is accepted: an error that wraps ErrFatal,
	// ErrNoSpace or ErrClosed; nil while all is well.
	refuse atomic.Pointer[error]

	// commits is held for reading while a batch goes into the logs, and for
	// writing while Sync notes where the logs end, so that a mark always lies
	// between records.
	commits sync.RWMutex

	syncs    sync.Mutex // held by Sync and Close; guards what follows
	wal, wbl *segments
	mark     *markFile
	closed   bool

	walFailed, wblFailed func() float64 // of the TSDB, since it was opened

	unscanned atomic.Int64 // samples committed since the logs were listed
	unmapped  atomic.Int64 // samples committed since full chunks left the heap
	samples   atomic.Uint64
	conflicts atomic.Uint64
	tooOld    atomic.Uint64
	ahead     atomic.Uint64
	syncCount atomic.Uint64
	lastSync  atomic.Int64
	lastTook  atomic.Int64

	stop context.CancelFunc
	done chan struct{}
}

var _ tsdb.Store = (*Store)(nil)

// scanAfter is the number of samples after which the logs are listed even
// without a Sync: a sample takes eight bytes at least, so no segment of the
// default size can come and go unseen.
const scanAfter = 4 << 20

// Open opens the store in dir, which is made when it does not exist, and repairs
// what a crash or a disk has done to it; see [Store.Report]. It takes as long as
// reading the samples of the last hours. tsdb.ErrLocked says that another process
// has it open, tsdb.ErrVersion that a newer program wrote what stands there.
func Open(dir string, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	start := time.Now()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, _, err := fileutil.Flock(filepath.Join(dir, "lock"))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("open store: %s: %w", dir, tsdb.ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: lock %s: %w", dir, err)
	}
	s := &Store{
		dir: dir, options: o, logger: o.Logger, lock: lock,
		metrics: newMetrics(), readers: newReaders(), done: make(chan struct{}),
	}
	if err := s.open(start); err != nil {
		return nil, fmt.Errorf("open store: %s: %w", dir, errors.Join(err, s.release()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() {
		defer close(s.done)
		var wg sync.WaitGroup
		wg.Go(func() { s.maintain(ctx) })
		if s.long != nil {
			wg.Go(func() { s.long.Run(ctx, samples{s}) })
		}
		wg.Wait()
	}()
	return s, nil
}

func (s *Store) open(start time.Time) (err error) {
	format, err := checkFormat(s.dir)
	if err == nil && format != FormatVersion {
		err = putFormat(s.dir)
	}
	if err != nil {
		return err
	}
	var last mark
	s.mark, last, err = openMark(filepath.Join(s.dir, markName))
	if err != nil {
		return err
	}
	if err := dropSnapshots(s.dir); err != nil {
		return err
	}
	s.report, err = files(s.dir, s.options.SegmentSize, last, start, s.logger)
	if err != nil {
		return err
	}
	if err := s.openLong(); err != nil {
		return err
	}
	if err := s.openDB(); err != nil {
		return err
	}
	if s.wal, err = openSegments(filepath.Join(s.dir, walDir), fsyncFile); err != nil {
		return err
	}
	if s.wbl, err = openSegments(filepath.Join(s.dir, wblDir), fsyncFile); err != nil {
		return err
	}
	// What the last process has left unsynced is durable before anybody builds
	// on it.
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.mark.writeDurably(mark{WAL: s.wal.end(), WBL: s.wbl.end()}); err != nil {
		return err
	}
	if err := syncPath(s.dir, fsyncFile); err != nil {
		return err
	}
	s.watchSpace()
	s.report.Duration = time.Since(start)
	s.metrics.setAside.Set(float64(len(s.report.Damage)))
	return s.register()
}

// openDB opens the TSDB. It ought to find nothing to repair; when it does, and
// has so lost part of a log, it is opened once more: after damage in one log it
// does not read the other.
func (s *Store) openDB() error {
	for attempt := 0; ; attempt++ {
		s.tap, s.packed = newTap(), packed.NewReaders()
		retain := func(blocks []*promtsdb.Block) map[ulid.ULID]struct{} {
			gone, upTo := expired(blocks, s.options.Now(), s.newest(), s.options.Retention.Milliseconds(), s.options.MaxSize)
			if err := s.packed.Keep(blocks, gone); err != nil {
				s.logger.Error("chunk files of deleted blocks do not close", "err", err)
			}
			if s.long != nil {
				s.long.Gone(upTo)
			}
			return gone
		}
		db, err := promtsdb.Open(s.dir, s.logger, s.tap, s.options.tsdbOptions(retain, s.packed, s.room), nil)
		if err != nil {
			return err
		}
		s.db = db
		s.head.Store(db.Head())
		if s.walFailed, err = s.tap.counter(walFailedName); err != nil {
			return err
		}
		if s.wblFailed, err = s.tap.counter(wblFailedName); err != nil {
			return err
		}
		corruptions, err := s.tap.counter(corruptionsName)
		if err != nil {
			return err
		}
		if corruptions() == 0 {
			return nil
		}
		q := quarantine{dir: s.dir, now: time.Now(), report: &s.report}
		if err := q.note(Damage{Path: walDir, Reason: "repaired by the TSDB itself"}, true); err != nil {
			return err
		}
		if attempt > 0 {
			return nil
		}
		s.db = nil
		s.head.Store(nil)
		if err := db.Close(); err != nil {
			return fmt.Errorf("close after repair: %w", err)
		}
		if err := s.packed.Close(); err != nil {
			return fmt.Errorf("close after repair: %w", err)
		}
	}
}

// newest returns the time of the newest sample in the head, or the earliest of
// all times.
func (s *Store) newest() int64 {
	if h := s.head.Load(); h != nil {
		return h.MaxTime()
	}
	return math.MinInt64
}

func (s *Store) register() error {
	if s.options.Metrics == nil {
		return nil
	}
	for _, c := range append(s.metrics.all(), s.tap.Registry) {
		if err := s.options.Metrics.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// unregister must come before the TSDB is closed, which takes metrics out of its
// registry, and so changes what the registry is known by.
func (s *Store) unregister() {
	if s.options.Metrics == nil || s.tap == nil {
		return
	}
	for _, c := range append([]prometheus.Collector{s.tap.Registry}, s.metrics.all()...) {
		s.options.Metrics.Unregister(c)
	}
}

// maintain moves full chunks out of the heap and watches the disk, until Close.
func (s *Store) maintain(ctx context.Context) {
	every := s.options.MapEvery
	tick := time.NewTicker(min(every, mapTick))
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			due := now.Sub(last) >= every
			if due {
				s.watchSpace()
			}
			if due || s.unmapped.Load() >= s.mapAfter() {
				last = now
				s.unmapped.Store(0)
				s.db.ForceHeadMMap()
			}
		}
	}
}

const (
	// mapTick is how often the maintenance looks whether full chunks are many.
	mapTick = 250 * time.Millisecond
	// mapSamples and mapPerSeries say after how many samples full chunks leave the
	// heap before their time: a third of a chunk for each series, so that the walk
	// over all series is worth it.
	mapSamples   = 1 << 20
	mapPerSeries = 40
)

func (s *Store) mapAfter() int64 {
	return max(mapSamples, mapPerSeries*int64(s.db.Head().NumSeries()))
}

// watchSpace refuses samples while less than the floor is free, and takes them
// again once there is an eighth more.
func (s *Store) watchSpace() {
	free, err := s.options.FreeSpace(s.dir)
	if err != nil {
		s.logger.Error("free space of the store's disk is unknown", "err", err)
		return
	}
	s.metrics.free.Set(float64(free))
	if s.options.MinFree < 0 {
		return
	}
	why := s.refuse.Load()
	switch {
	case why == nil && free < s.options.MinFree:
		full := fmt.Errorf("%w: %d MB free of %s, at least %d MB are kept", tsdb.ErrNoSpace, free>>20, s.dir, s.options.MinFree>>20)
		if s.refuse.CompareAndSwap(nil, &full) {
			s.metrics.full.Set(1)
			s.logger.Error("samples are refused", "err", full)
		}
	case why != nil && errors.Is(*why, tsdb.ErrNoSpace) && free >= s.options.MinFree+s.options.MinFree/8:
		if s.refuse.CompareAndSwap(why, nil) {
			s.metrics.full.Set(0)
			s.logger.Info("samples are accepted again", "free", free)
		}
	}
}

// room reports whether so many bytes more leave the floor free.
func (s *Store) room(bytes int64) bool {
	free, err := s.options.FreeSpace(s.dir)
	return err == nil && free-bytes >= s.options.MinFree
}

// fatal makes err the end of the store, unless it has ended already.
func (s *Store) fatal(err error) error {
	for {
		why := s.refuse.Load()
		if why != nil && !errors.Is(*why, tsdb.ErrNoSpace) {
			return *why
		}
		dead := fmt.Errorf("%w: %w", tsdb.ErrFatal, err)
		if s.refuse.CompareAndSwap(why, &dead) {
			s.metrics.fatal.Set(1)
			s.logger.Error("the store has failed", "err", err)
			return dead
		}
	}
}

// dead returns the error that has ended the store, if any.
func (s *Store) dead() error {
	if why := s.refuse.Load(); why != nil && !errors.Is(*why, tsdb.ErrNoSpace) {
		return *why
	}
	return nil
}

// Report returns what Open has found and done. It does not change.
func (s *Store) Report() Report { return s.report }

// Rewound says that the edges will send again what they keep, durably decided, so
// that the next start need not ask for it.
func (s *Store) Rewound() error {
	err := os.Remove(filepath.Join(s.dir, rewindName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("confirm rewind: %w", err)
	}
	return syncPath(s.dir, fsyncFile)
}

// Sync implements [tsdb.Store].
func (s *Store) Sync() error {
	s.syncs.Lock()
	defer s.syncs.Unlock()
	return s.sync()
}

func (s *Store) sync() error {
	if err := s.dead(); err != nil {
		return err
	}
	start := time.Now()
	s.commits.Lock()
	err := s.scan()
	s.commits.Unlock()
	if err != nil {
		return s.fatal(err)
	}
	if err := s.flush(); err != nil {
		return s.fatal(err)
	}
	if err := s.mark.write(mark{WAL: s.wal.end(), WBL: s.wbl.end()}); err != nil {
		return s.fatal(err)
	}
	if s.long != nil {
		if err := s.long.Save(); err != nil {
			return s.fatal(fmt.Errorf("note what came late: %w", err))
		}
	}
	s.watchSpace()
	took := time.Since(start)
	s.metrics.syncs.Observe(took.Seconds())
	s.lastTook.Store(int64(took))
	s.lastSync.Store(s.options.Now())
	s.syncCount.Add(1)
	return nil
}

// scan lists both logs. The caller holds syncs, and commits when it matters where
// the logs end.
func (s *Store) scan() error {
	s.unscanned.Store(0)
	return errors.Join(s.wal.scan(), s.wbl.scan())
}

// flush makes what was scanned durable and looks for writes that failed unseen.
// The counters come last: a batch that is part of this Sync has moved them
// before its Commit returned.
func (s *Store) flush() error {
	if err := s.wal.sync(); err != nil {
		return err
	}
	if err := s.wbl.sync(); err != nil {
		return err
	}
	if n := s.walFailed(); n > 0 {
		return fmt.Errorf("%g writes to the write-ahead log have failed", n)
	}
	if n := s.wblFailed(); n > 0 {
		return fmt.Errorf("%g writes to the out-of-order log have failed", n)
	}
	return nil
}

// scanIfDue takes descriptors of new segments when much was written since the
// last Sync.
func (s *Store) scanIfDue(committed int64) error {
	if s.unscanned.Add(committed) < scanAfter {
		return nil
	}
	s.syncs.Lock()
	defer s.syncs.Unlock()
	if s.closed {
		return nil
	}
	return s.scan()
}

// Queryable implements [tsdb.Store].
func (s *Store) Queryable() storage.Queryable {
	if s.long != nil {
		return s.long.Queryable(samples{s})
	}
	return guarded{s}
}

// Capabilities implements [tsdb.Store].
func (s *Store) Capabilities() tsdb.Capabilities {
	return tsdb.Capabilities{StaleMarkers: true, FirstWins: true, Window: true, Holdings: true}
}

// Stats implements [tsdb.Store].
func (s *Store) Stats() tsdb.Stats {
	st := tsdb.Stats{
		Retention: s.options.Retention, MaxSize: s.options.MaxSize,
		FreeBytes: -1, Samples: s.samples.Load(), Conflicts: s.conflicts.Load(), TooOld: s.tooOld.Load(), Ahead: s.ahead.Load(),
		Syncs: s.syncCount.Load(), LastSync: s.lastSync.Load(), SyncDuration: time.Duration(s.lastTook.Load()),
	}
	if free, err := s.options.FreeSpace(s.dir); err == nil {
		st.FreeBytes = free
	}
	if !s.readers.enter() {
		return st
	}
	defer s.readers.leave()
	if s.long != nil {
		l := s.long.Stats()
		st.LongBytes, st.LongFiveMinutes, st.LongHours, st.LongLate = l.Bytes, l.FiveMinutes, l.Hours, l.Late
	}
	head := s.db.Head()
	st.Series = head.NumSeries()
	st.LogBytes = head.Size()
	first, last := head.MinTime(), head.MaxTime()
	if first <= last {
		st.MinTime, st.MaxTime = first, last
		// With its old samples in blocks the head tells the oldest that it would take,
		// which is the window's end and no sample.
		if old := head.MinOOOTime(); old > last-s.options.OutOfOrder.Milliseconds() {
			st.MinTime = min(first, old)
		}
	}
	for _, b := range s.db.Blocks() {
		m := b.Meta()
		if st.MinTime == 0 || m.MinTime < st.MinTime {
			st.MinTime = m.MinTime
		}
		st.MaxTime = max(st.MaxTime, m.MaxTime-1)
		st.Blocks++
		st.BlockBytes += b.Size()
	}
	return st
}

// Close implements [tsdb.Store]. After a fatal error it returns that error, and
// makes nothing durable. A second call does nothing.
func (s *Store) Close() error {
	s.stop() // what is computed for long history reads, too
	s.readers.close()
	s.syncs.Lock()
	defer s.syncs.Unlock()
	if s.closed {
		return nil
	}
	<-s.done
	err := s.sync()
	s.commits.Lock() // wait for the batch that is being committed
	closed := tsdb.ErrClosed
	if s.dead() == nil {
		s.refuse.Store(&closed)
	}
	s.commits.Unlock()
	s.unregister()
	if e := s.db.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("close store: %w", e))
	}
	if err == nil {
		err = s.markClean()
	}
	return errors.Join(err, s.release())
}

// markClean makes the last page of each log durable, which the TSDB has padded
// on closing, and notes that nothing follows it.
func (s *Store) markClean() error {
	if err := s.scan(); err != nil {
		return err
	}
	if err := errors.Join(s.wal.sync(), s.wbl.sync()); err != nil {
		return err
	}
	return s.mark.writeDurably(mark{WAL: s.wal.end(), WBL: s.wbl.end(), Clean: true})
}

// release gives back what Open has taken, except for a TSDB that was opened
// completely.
func (s *Store) release() error {
	s.unregister()
	var errs []error
	if s.db != nil && !s.closed {
		errs = append(errs, s.db.Close()) // a second close does nothing
	}
	s.closed = true
	if s.packed != nil {
		errs = append(errs, s.packed.Close())
	}
	if s.long != nil {
		errs = append(errs, s.long.Close())
	}
	if s.wal != nil {
		errs = append(errs, s.wal.close())
	}
	if s.wbl != nil {
		errs = append(errs, s.wbl.close())
	}
	if s.mark != nil {
		errs = append(errs, s.mark.f.Close())
	}
	return errors.Join(append(errs, s.lock.Release())...)
}
