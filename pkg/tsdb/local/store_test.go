package local

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/packed"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
	"github.com/prometheus/client_golang/prometheus"
)

// t0 is the time of the first samples.
const t0 = int64(1_767_225_600_000)

var smallOptions = Options{OutOfOrder: tsdbtest.Window, MinFree: -1, SegmentSize: 4 * pageSize}

func mustOpen(t testing.TB, dir string, change ...func(*Options)) *Store {
	t.Helper()
	o := smallOptions
	o.Now = func() int64 { return t0 + 365*24*time.Hour.Milliseconds() }
	for _, c := range change {
		c(&o)
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	s.db.DisableCompactions() // tests compact when they mean to
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func lset(point string) telemetry.Labels { return tsdbtest.Labels("air_temperature", point) }

// add appends n samples a second apart, the value being the time in seconds, so
// that a sample in the wrong place shows.
func add(t testing.TB, s *Store, point string, from int64, n int) {
	t.Helper()
	app := s.Appender()
	var ref uint64
	for i := range n {
		at := from + int64(i)*1000
		var err error
		ref, err = app.Append(ref, lset(point), at, value(point, at))
		check(t, err)
	}
	check(t, app.Commit())
}

func value(point string, at int64) float64 { return float64(at/1000) + float64(len(point))/64 }

// times returns the times that a series has, and fails on a wrong value.
func times(t testing.TB, s *Store, point string) map[int64]bool {
	t.Helper()
	got, err := tsdb.ReadSamples(context.Background(), s.Queryable(), 0, math.MaxInt64/2, tsdb.Match{Name: "point", Value: point})
	check(t, err)
	out := make(map[int64]bool)
	for _, series := range got {
		for _, sample := range series.Samples {
			if out[sample.T] {
				t.Fatalf("%s has two samples at %d", point, sample.T)
			}
			if sample.V != value(point, sample.T) {
				t.Fatalf("%s at %d is %v, want %v", point, sample.T, sample.V, value(point, sample.T))
			}
			out[sample.T] = true
		}
	}
	return out
}

func expectRange(t testing.TB, s *Store, point string, from int64, n int) {
	t.Helper()
	got := times(t, s, point)
	for i := range n {
		if at := from + int64(i)*1000; !got[at] {
			t.Fatalf("%s lacks the sample at %d (number %d of %d)", point, at, i, n)
		}
	}
}

func TestConformance(t *testing.T) {
	tsdbtest.Run(t, func(t *testing.T, dir string, now func() int64) tsdb.Store {
		return mustOpen(t, dir, func(o *Options) { o.Now = now })
	})
}

func TestSecondProcessIsToldThatTheDirectoryIsInUse(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	_, err := Open(dir, smallOptions)
	if !errors.Is(err, tsdb.ErrLocked) {
		t.Fatalf("error %v, want ErrLocked", err)
	}
	check(t, s.Close())
	check(t, mustOpen(t, dir).Close())
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"retention":  {Retention: time.Hour},
		"window":     {OutOfOrder: -1},
		"segment":    {SegmentSize: pageSize + 1},
		"not a file": {},
	} {
		dir := t.TempDir()
		if name == "not a file" {
			dir = filepath.Join(dir, "file")
			check(t, os.WriteFile(dir, nil, 0o644))
		}
		if s, err := Open(dir, o); err == nil {
			t.Errorf("%s: opened", name)
			_ = s.Close()
		}
	}
}

func TestFailedFsyncIsTheEnd(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	add(t, s, "t", t0, 10)
	check(t, s.Sync())
	broken := errors.New("input/output error")
	s.wal.fsync = func(*os.File) error { return broken }
	add(t, s, "t", t0+10_000, 10)
	open := s.Appender()
	_, err := open.Append(0, lset("t"), t0+30_000, value("t", t0+30_000))
	check(t, err)
	if err := s.Sync(); !errors.Is(err, tsdb.ErrFatal) || !errors.Is(err, broken) {
		t.Fatalf("Sync: error %v, want ErrFatal", err)
	}
	// A second try could succeed after the kernel has dropped the pages.
	s.wal.fsync = fsyncFile
	for name, err := range map[string]error{
		"Sync":   s.Sync(),
		"Commit": open.Commit(),
		"Append": func() error { _, err := s.Appender().Append(0, lset("t"), t0, 1); return err }(),
		"Close":  s.Close(),
	} {
		if !errors.Is(err, tsdb.ErrFatal) {
			t.Errorf("%s: error %v, want ErrFatal", name, err)
		}
	}
}

func TestSyncTouchesOnlyWhatIsNotClean(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	var synced []string
	s.wal.fsync = func(f *os.File) error {
		synced = append(synced, filepath.Base(f.Name()))
		return f.Sync()
	}
	for i := range 30 { // more than a segment
		add(t, s, fmt.Sprint("p", i), t0, 1000)
	}
	last := fmt.Sprintf("%08d", s.walSegment(t))
	check(t, s.Sync())
	if len(synced) < 3 || synced[len(synced)-1] != "wal" || synced[len(synced)-2] != last {
		t.Fatalf("synced %v, want all segments to %s in order, then the folder", synced, last)
	}
	synced = nil
	check(t, s.Sync())
	if len(synced) != 0 {
		t.Errorf("an idle Sync has touched %v", synced)
	}
	add(t, s, "p0", t0+1000_000, 1)
	check(t, s.Sync())
	if len(synced) != 1 || synced[0] != last {
		t.Errorf("after one sample Sync has touched %v, want %s", synced, last)
	}
	if len(s.wal.open) != 1 {
		t.Errorf("%d descriptors held, want that of the last segment", len(s.wal.open))
	}
}

func (s *Store) walSegment(t *testing.T) int {
	t.Helper()
	n, err := listSegments(filepath.Join(s.dir, walDir))
	check(t, err)
	return n[len(n)-1]
}

func TestFullDiskRefusesUntilThereIsRoom(t *testing.T) {
	var free atomic.Int64
	free.Store(2 << 20)
	s := mustOpen(t, t.TempDir(), func(o *Options) {
		o.MinFree = 1 << 20
		o.FreeSpace = func(string) (int64, error) { return free.Load(), nil }
	})
	add(t, s, "t", t0, 1)
	free.Store(1<<20 - 1)
	check(t, s.Sync())
	app := s.Appender()
	if _, err := app.Append(0, lset("t"), t0+1000, 1); !errors.Is(err, tsdb.ErrNoSpace) {
		t.Fatalf("error %v, want ErrNoSpace", err)
	}
	check(t, app.Commit())
	check(t, s.Sync())    // what is there stays durable
	free.Store(1<<20 + 1) // not enough more: it would flap
	check(t, s.Sync())
	if _, err := app.Append(0, lset("t"), t0+1000, 1); !errors.Is(err, tsdb.ErrNoSpace) {
		t.Fatalf("error %v, want ErrNoSpace", err)
	}
	free.Store(2 << 20)
	check(t, s.Sync())
	add(t, s, "t", t0+1000, 1)
	expectRange(t, s, "t", t0, 2)
}

func TestBlocksGoByTheHubsClock(t *testing.T) {
	dir := t.TempDir()
	var now atomic.Int64
	now.Store(t0 + 12*time.Hour.Milliseconds())
	clock := func(o *Options) { o.Now = now.Load; o.Retention = 5 * 24 * time.Hour }
	s := mustOpen(t, dir, clock)
	for h := range int64(12) {
		add(t, s, "t", t0+h*time.Hour.Milliseconds(), 60)
	}
	check(t, s.db.Compact(context.Background()))
	blocks := s.Stats().Blocks
	if blocks == 0 {
		t.Fatal("no blocks were made")
	}
	check(t, s.Close())

	now.Store(t0 + 5*24*time.Hour.Milliseconds()) // the oldest sample is just at the limit
	s = mustOpen(t, dir, clock)
	if got := s.Stats().Blocks; got != blocks {
		t.Errorf("%d of %d blocks left before the time", got, blocks)
	}
	add(t, s, "t", now.Load(), 1)
	now.Add(7 * time.Hour.Milliseconds())               // blocks were joined to six hours
	check(t, s.db.CompactOOOHead(context.Background())) // looks at the retention as well
	left := times(t, s, "t")
	if left[t0] || !left[t0+11*time.Hour.Milliseconds()] {
		t.Errorf("the oldest block is there: %v; the newest sample of the first day is there: %v", left[t0], left[t0+11*time.Hour.Milliseconds()])
	}
}

func TestClockThatJumpsAheadDeletesNothingYet(t *testing.T) {
	var now atomic.Int64
	now.Store(t0 + 12*time.Hour.Milliseconds())
	s := mustOpen(t, t.TempDir(), func(o *Options) { o.Now = now.Load; o.Retention = 5 * 24 * time.Hour })
	for h := range int64(12) {
		add(t, s, "t", t0+h*time.Hour.Milliseconds(), 60)
	}
	check(t, s.db.Compact(context.Background()))
	now.Store(t0 + 3650*24*time.Hour.Milliseconds())
	check(t, s.db.CompactOOOHead(context.Background()))
	for h := range int64(12) {
		expectRange(t, s, "t", t0+h*time.Hour.Milliseconds(), 60)
	}
}

func TestOldestBlocksGoBeyondTheSize(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	for h := range int64(12) {
		add(t, s, "t", t0+h*time.Hour.Milliseconds(), 60)
	}
	check(t, s.db.Compact(context.Background()))
	all := s.Stats()
	check(t, s.Close())
	if all.Blocks < 2 {
		t.Fatalf("%d blocks", all.Blocks)
	}
	s = mustOpen(t, dir, func(o *Options) { o.MaxSize = all.BlockBytes - 1 })
	got := times(t, s, "t")
	if got[t0] || !got[t0+11*time.Hour.Milliseconds()] || s.Stats().Blocks != all.Blocks-1 {
		t.Errorf("%d of %d blocks are left; the oldest sample is there: %v", s.Stats().Blocks, all.Blocks, got[t0])
	}
}

func TestFullChunksLeaveTheHeap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := mustOpen(t, dir, func(o *Options) { o.MapEvery = 5 * time.Second })
		add(t, s, "t", t0, 1000)
		<-time.After(6 * time.Second) // of the bubble's clock
		synctest.Wait()
		files, err := os.ReadDir(filepath.Join(dir, headChunksDir))
		check(t, err)
		if len(files) == 0 {
			t.Error("no chunks were mapped")
		}
		check(t, s.Close())
	})
}

func TestManyFullChunksLeaveTheHeapBeforeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := mustOpen(t, dir, func(o *Options) { o.MapEvery = time.Hour; o.SegmentSize = 0 })
		mapped := func() int {
			<-time.After(2 * mapTick) // of the bubble's clock
			synctest.Wait()
			files, err := os.ReadDir(filepath.Join(dir, headChunksDir))
			check(t, err)
			return len(files)
		}
		add(t, s, "t", t0, mapSamples/2)
		if n := mapped(); n != 0 {
			t.Errorf("%d files after half as many samples", n)
		}
		add(t, s, "t", t0+mapSamples/2*1000, mapSamples/2)
		if mapped() == 0 {
			t.Error("no chunks were mapped")
		}
		check(t, s.Close())
	})
}

func TestBlocksAndTheWindowFitTheRetention(t *testing.T) {
	for _, c := range []struct{ retention, block time.Duration }{
		{minBlock, minBlock},
		{10 * 24 * time.Hour, 24 * time.Hour},
		{100 * 24 * time.Hour, 10 * 24 * time.Hour},
		{400 * 24 * time.Hour, maxBlock},
		{4000 * 24 * time.Hour, maxBlock},
	} {
		o, err := Options{Retention: c.retention, OutOfOrder: 45 * 24 * time.Hour}.withDefaults()
		check(t, err)
		got := o.tsdbOptions(nil, packed.NewReaders(), nil)
		if got.MaxBlockDuration != c.block.Milliseconds() || got.OutOfOrderTimeWindow != (45*24*time.Hour).Milliseconds() || got.WALSegmentSize != o.SegmentSize {
			t.Errorf("retention %v: blocks of %d ms, window %d ms", c.retention, got.MaxBlockDuration, got.OutOfOrderTimeWindow)
		}
	}
}

// A segment that the TSDB has filled, fsynced and closed by itself between two
// scans must still be fsynced through a descriptor of ours, opened while it was
// being written: the kernel tells of a failed write-back once for each.
func TestASegmentIsHeldFromFirstSight(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	first := s.walSegment(t)
	held := s.wal.open[first].file
	for i := range 30 {
		add(t, s, fmt.Sprint("p", i), t0, 1000)
	}
	if s.walSegment(t) == first {
		t.Fatal("the segment is not full, so the test shows nothing")
	}
	errDisk := errors.New("input/output error")
	s.wal.fsync = func(f *os.File) error {
		if f == held {
			return errDisk
		}
		return f.Sync()
	}
	if err := s.Sync(); !errors.Is(err, errDisk) || !errors.Is(err, tsdb.ErrFatal) {
		t.Errorf("Sync returned %v", err)
	}
}

func TestClosingWaitsForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, t.TempDir())
		add(t, s, "t", t0, 10)
		q, err := s.Queryable().Querier(t0, t0+10_000)
		check(t, err)
		done := make(chan error, 1)
		go func() { done <- s.Close() }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("closed under an open querier: %v", err)
		default:
		}
		check(t, q.Close())
		_ = q.Close() // a second time changes nothing
		check(t, <-done)
	})
}

func TestMetricsComeAndGoWithTheStore(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	for range 2 {
		s := mustOpen(t, dir, func(o *Options) { o.Metrics = reg })
		add(t, s, "t", t0, 10)
		families, err := reg.Gather()
		check(t, err)
		found := map[string]bool{}
		for _, f := range families {
			found[f.GetName()] = true
		}
		for _, name := range []string{"langbiang_hub_store_samples_total", "prometheus_tsdb_head_series", wblFailedName} {
			if !found[name] {
				t.Errorf("metric %s is missing", name)
			}
		}
		check(t, s.Close())
	}
	families, err := reg.Gather()
	check(t, err)
	if len(families) != 0 {
		t.Errorf("%d metrics left after Close", len(families))
	}
}

func TestSeriesThatTheHeadHasForgottenIsMadeAnew(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	app := s.Appender()
	ref, err := app.Append(0, lset("t"), t0, value("t", t0))
	check(t, err)
	check(t, app.Commit())
	later := t0 + 6*time.Hour.Milliseconds()
	add(t, s, "u", t0, 1)
	add(t, s, "u", later, 1)
	check(t, s.db.Compact(context.Background()))
	if got, err := app.Append(ref, nil, later, value("t", later)); got != 0 || err != nil {
		t.Errorf("without labels: %d, %v", got, err)
	}
	ref2, err := app.Append(ref, lset("t"), later, value("t", later))
	check(t, err)
	if ref2 == ref {
		t.Error("the head has kept the series, so the test shows nothing")
	}
	check(t, app.Commit())
	got := times(t, s, "t")
	if !got[t0] || !got[later] || len(got) != 2 {
		t.Errorf("samples at %v", got)
	}
}
