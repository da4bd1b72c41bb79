package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// filled returns the folder of a closed store with several segments in both logs.
func filled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s := mustOpen(t, dir, func(o *Options) { o.SegmentSize = pageSize })
	add(t, s, "late", t0, 1)  // so that the rest of it is out of order
	for i := range int64(7) { // less than what is compacted
		add(t, s, "now", t0+i*1000_000, 1000)
		add(t, s, "late", t0-20*day+i*1000_000, 1000)
	}
	check(t, s.Close())
	return dir
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	check(t, err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b, at)
	check(t, err)
	check(t, f.Close())
}

func TestDamageInALogIsSetAsideAndAsksForARewind(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		keeps  map[string]bool // series that must be complete all the same
	}{
		{"a byte in the middle of the write-ahead log", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, walDir, "00000002"), 5000)
		}, map[string]bool{"late": true}},
		{"a byte in the middle of the out-of-order log", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, wblDir, "00000001"), 7000)
		}, map[string]bool{"now": true}},
		{"a segment of the write-ahead log is missing", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, walDir, "00000003")))
		}, map[string]bool{"late": true}},
		{"the end of the write-ahead log is missing", func(t *testing.T, dir string) {
			segs, err := listSegments(filepath.Join(dir, walDir))
			check(t, err)
			check(t, os.Truncate(filepath.Join(dir, walDir, segmentName(segs[len(segs)-1])), 0))
		}, map[string]bool{"late": true}},
		{"the write-ahead log is missing", func(t *testing.T, dir string) {
			check(t, os.RemoveAll(filepath.Join(dir, walDir)))
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filled(t)
			c.damage(t, dir)
			s := mustOpen(t, dir)
			r := s.Report()
			if !r.NeedRewind || len(r.Damage) == 0 {
				t.Fatalf("report %+v, want damage and a rewind", r)
			}
			for point, from := range map[string]int64{"now": t0, "late": t0 - 20*day} {
				if c.keeps[point] {
					expectRange(t, s, point, from, 7_000)
				}
			}
			// A series that is new gets nothing of what the old ones have left.
			add(t, s, "newcomer", t0+80_000_000, 10)
			check(t, s.Close())

			// The demand outlives the process until it is met.
			s = mustOpen(t, dir)
			if !s.Report().NeedRewind {
				t.Fatal("the rewind was forgotten")
			}
			if got := times(t, s, "newcomer"); len(got) != 10 {
				t.Errorf("the new series has %d samples, want 10", len(got))
			}
			check(t, s.Rewound())
			add(t, s, "now", t0, 7_000) // the edges send all again
			add(t, s, "late", t0-20*day, 7_000)
			expectRange(t, s, "now", t0, 7_000)
			expectRange(t, s, "late", t0-20*day, 7_000)
			check(t, s.Close())

			s = mustOpen(t, dir)
			if r := s.Report(); r.NeedRewind || len(r.Damage) != 0 {
				t.Errorf("report %+v after all was mended", r)
			}
			expectRange(t, s, "now", t0, 7_000)
			expectRange(t, s, "late", t0-20*day, 7_000)
		})
	}
}

func TestDamagedPartsAreKept(t *testing.T) {
	dir := filled(t)
	flip(t, filepath.Join(dir, walDir, "00000002"), 5000)
	before, err := listSegments(filepath.Join(dir, walDir))
	check(t, err)
	s := mustOpen(t, dir)
	aside := filepath.Join(dir, s.Report().Folder)
	kept, err := listSegments(filepath.Join(aside, walDir))
	check(t, err)
	if want := before[slices.Index(before, 2):]; !slices.Equal(kept, want) {
		t.Errorf("segments %v were kept, want %v", kept, want)
	}
	if _, err := os.Stat(filepath.Join(aside, asideReport)); err != nil {
		t.Error(err)
	}
}

func TestTornTailDoesNotLoseTheOutOfOrderLog(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	add(t, s, "now", t0, 2000)
	add(t, s, "late", t0, 1)
	add(t, s, "late", t0-20*day, 2000)
	check(t, s.Sync())
	end := s.wal.end()
	add(t, s, "now", t0+2000_000, 500) // not durable
	crashed := t.TempDir()
	copyStore(t, dir, crashed)
	path := filepath.Join(crashed, walDir, segmentName(end.Segment))
	check(t, os.Truncate(path, end.Offset+1000)) // inside the record of the last batch

	s = mustOpen(t, crashed)
	r := s.Report()
	if r.NeedRewind || len(r.Damage) != 0 || len(r.Cut) != 1 || r.Cut[0].Bytes != 1000 {
		t.Errorf("report %+v, want a cut of 1000 bytes and no damage", r)
	}
	expectRange(t, s, "now", t0, 2000)
	expectRange(t, s, "late", t0-20*day, 2000)
}

func TestBlockThatCannotBeOpenedIsSetAside(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, block string){
		"no meta.json": func(t *testing.T, block string) { check(t, os.Remove(filepath.Join(block, "meta.json"))) },
		"short index":  func(t *testing.T, block string) { check(t, os.Truncate(filepath.Join(block, "index"), 20)) },
		"no chunks":    func(t *testing.T, block string) { check(t, os.Truncate(filepath.Join(block, "chunks", "000001"), 3)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir)
			for h := range int64(12) {
				add(t, s, "t", t0+h*time.Hour.Milliseconds(), 60)
			}
			check(t, s.db.Compact(context.Background()))
			check(t, s.Close())
			blocks, err := filepath.Glob(filepath.Join(dir, "01*"))
			check(t, err)
			if len(blocks) < 2 {
				t.Fatalf("%d blocks", len(blocks))
			}
			damage(t, blocks[0])
			s = mustOpen(t, dir)
			r := s.Report()
			if !r.NeedRewind || len(r.Damage) != 1 || r.Damage[0].Path != filepath.Base(blocks[0]) {
				t.Fatalf("report %+v", r)
			}
			if _, err := os.Stat(filepath.Join(dir, r.Folder, r.Damage[0].Path)); err != nil {
				t.Error(err)
			}
			add(t, s, "t", t0, 60)
			for h := range int64(12) {
				add(t, s, "t", t0+h*time.Hour.Milliseconds(), 60)
			}
			for h := range int64(12) {
				expectRange(t, s, "t", t0+h*time.Hour.Milliseconds(), 60)
			}
		})
	}
}

func TestDamagedHeadChunksAreMadeAnewFromTheLogs(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"a byte": func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "000001"), 300) },
		"magic":  func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "000001"), 0) },
		"gone":   func(t *testing.T, dir string) { check(t, os.RemoveAll(dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t)
			damage(t, filepath.Join(dir, headChunksDir))
			s := mustOpen(t, dir)
			if r := s.Report(); r.NeedRewind {
				t.Errorf("report %+v, want no rewind", r)
			}
			expectRange(t, s, "now", t0, 7_000)
			expectRange(t, s, "late", t0-20*day, 7_000)
		})
	}
}

func TestDamagedCheckpointSetsTheHeadAside(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	for h := range int64(12) {
		add(t, s, "t", t0+h*time.Hour.Milliseconds(), 3000)
		add(t, s, "late", t0-20*day+h*time.Hour.Milliseconds(), 100)
	}
	check(t, s.db.Compact(context.Background()))
	check(t, s.Sync())
	check(t, s.Close())
	path, _, err := lastCheckpoint(filepath.Join(dir, walDir))
	check(t, err)
	if path == "" {
		t.Fatal("the TSDB has made no checkpoint")
	}
	flip(t, filepath.Join(path, "00000000"), 20)
	s = mustOpen(t, dir)
	r := s.Report()
	if !r.NeedRewind || len(r.Damage) != 1 || !strings.HasPrefix(r.Damage[0].Path, "wal/checkpoint.") {
		t.Fatalf("report %+v", r)
	}
	for h := range int64(12) {
		add(t, s, "t", t0+h*time.Hour.Milliseconds(), 3000)
		expectRange(t, s, "t", t0+h*time.Hour.Milliseconds(), 3000)
	}
}

func TestMarkSaysNothingWhenItCannotBeRead(t *testing.T) {
	m := mark{WAL: position{3, 1 << 40}, WBL: position{-1, 0}, Clean: true}
	got, err := decodeMark(m.encode())
	if err != nil || got != m {
		t.Fatalf("got %+v, %v; want %+v", got, err, m)
	}
	for i := range markSize {
		b := m.encode()
		b[i] ^= 1
		if _, err := decodeMark(b); !errors.Is(err, errNoMark) {
			t.Errorf("byte %d changed: error %v", i, err)
		}
	}
}

func FuzzDecodeMark(f *testing.F) {
	f.Add(mark{WAL: position{3, 100}}.encode())
	f.Add([]byte("LBSM"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMark(b)
		if err == nil && string(m.encode()) != string(b) && b[6] == 0 && b[7] == 0 && b[5] <= 1 {
			t.Errorf("%x does not come back", b)
		}
	})
}
