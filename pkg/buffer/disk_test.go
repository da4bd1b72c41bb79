package buffer

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// badDisk refuses in the ways that disks do.
type badDisk struct {
	refuse atomic.Int64 // so many openings for writing fail with ENOSPC
	file   *os.File     // the active segment's
}

func (d *badDisk) open(name string, flag int, mode os.FileMode) (*os.File, error) {
	if flag&os.O_RDWR == 0 {
		return os.OpenFile(name, flag, mode)
	}
	if d.refuse.Add(-1) >= 0 {
		return nil, &os.PathError{Op: "open", Path: name, Err: unix.ENOSPC}
	}
	f, err := os.OpenFile(name, flag, mode)
	d.file = f
	return f, err
}

// fail makes writes to the open segment fail from now on.
func (d *badDisk) fail(t *testing.T) {
	f, err := os.Open(d.file.Name())
	if os.IsNotExist(err) { // it was opened as a temporary
		f, err = os.Open(strings.TrimSuffix(d.file.Name(), tmpSuffix))
	}
	must(t, err)
	must(t, unix.Dup3(int(f.Fd()), int(d.file.Fd()), unix.O_CLOEXEC))
	must(t, f.Close())
}

func TestFullDiskKeepsTheNewestInMemoryAndRecovers(t *testing.T) {
	d := &badDisk{}
	o := Options{MaxPending: 100_000}
	o.files.open = d.open
	dir := t.TempDir()
	l := open(t, dir, o)
	must(t, l.Begin(tagOf(1)))
	appendN(t, l, 1, 1, 20, 1000)
	must(t, l.Commit())
	d.fail(t)
	d.refuse.Store(1 << 40)
	appendN(t, l, 1, 21, 30, 1000)
	if err := l.Commit(); !errors.Is(err, unix.EBADF) {
		t.Fatalf("commit to a file that refuses: %v", err)
	}
	if err := l.Commit(); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("commit on a full disk: %v", err)
	}
	wantSeqs(t, readAll(t, l, Pos{}, 1000), 1, 1, 30) // both halves stay readable
	for seq := uint64(31); seq <= 300; seq++ {
		appendN(t, l, 1, seq, seq, 1000)
		if seq%10 == 0 && l.Commit() == nil {
			t.Fatal("a full disk took a commit")
		}
	}
	s := l.Stats()
	if s.PendingBytes > o.MaxPending || s.GivenUp == 0 || !strings.Contains(s.DiskError, "no space") || s.CommitFailures < 20 {
		t.Fatalf("%+v", s)
	}
	g := readAll(t, l, Pos{}, 1000)
	gap := Range{at(1, 20), at(1, 21+s.GivenUp)}
	if len(g.missing) != 1 || g.missing[0] != gap {
		t.Fatalf("missing %v, want %v", g.missing, gap)
	}
	if s.Segments != 1 || len(segmentFiles(t, dir)) != 1 {
		t.Fatalf("failed commits left %v", segmentFiles(t, dir))
	}
	// A new epoch while the disk refuses stands, and is durable with its frames.
	if err := l.Begin(tagOf(2)); err == nil {
		t.Fatal("Begin on a full disk")
	}
	appendN(t, l, 2, 1, 5, 1000)
	gap.Next.Seq = 21 + l.Stats().GivenUp
	d.refuse.Store(0)
	must(t, l.Commit())
	if s := l.Stats(); s.DiskError != "" || s.PendingFrames != 0 {
		t.Fatalf("%+v", s)
	}
	must(t, l.Close())
	l = open(t, dir, Options{})
	g = readAll(t, l, Pos{}, 1000)
	if len(g.missing) != 1 || g.missing[0] != gap || g.pos[len(g.pos)-1] != at(2, 5) {
		t.Fatalf("after it all: missing %v, last %v", g.missing, g.pos[len(g.pos)-1])
	}
}

func TestFullDiskMakesRoomFromSafeFrames(t *testing.T) {
	d := &badDisk{}
	o := Options{SegmentSize: minSegment}
	o.files.open = d.open
	l := open(t, t.TempDir(), o)
	must(t, l.Begin(tagOf(1)))
	for seq := uint64(1); seq <= 40; seq++ {
		appendN(t, l, 1, seq, seq, 1000)
		must(t, l.Commit())
	}
	l.SetSafe(at(1, 40))
	before := l.Stats()
	d.refuse.Store(1)
	seq := uint64(40)
	for l.Stats().Evicted == before.Evicted {
		seq++
		appendN(t, l, 1, seq, seq, 1000)
		must(t, l.Commit())
	}
	if s := l.Stats(); s.Evicted != before.Evicted+1 || s.GivenUp != 0 || s.CommitFailures != 0 {
		t.Fatalf("%+v", s)
	}
	wantSeqs(t, readAll(t, l, at(1, 40), 1000), 1, 41, seq)
}

func TestReadOnlyFolderCanStillBeRead(t *testing.T) {
	dir, frames, o := written(t)
	o.files.open = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if flag&os.O_RDWR != 0 {
			return nil, &os.PathError{Op: "open", Path: name, Err: unix.EROFS}
		}
		return os.OpenFile(name, flag, mode)
	}
	l := open(t, dir, o)
	if err := l.Begin(tagOf(2)); !errors.Is(err, unix.EROFS) {
		t.Fatalf("Begin on a read-only disk: %v", err)
	}
	appendN(t, l, 2, 1, 3, -3000)
	if g := readAll(t, l, Pos{}, -3000); uint64(len(g.pos)) != frames+3 || len(g.missing) != 0 {
		t.Fatalf("%d frames, missing %v", len(g.pos), g.missing)
	}
	if err := l.Close(); !errors.Is(err, unix.EROFS) {
		t.Fatalf("Close lost frames and said %v", err)
	}
}

func TestLargeBacklogOpensLazily(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentSize: minSegment}
	l := open(t, dir, o)
	must(t, l.Begin(tagOf(1)))
	for seq := uint64(1); seq <= 600; seq++ {
		appendN(t, l, 1, seq, seq, 1000)
		if seq%13 == 0 {
			must(t, l.Commit())
		}
	}
	must(t, l.Close())
	opened := map[string]int{}
	o.files.open = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		opened[name]++
		return os.OpenFile(name, flag, mode)
	}
	l = open(t, dir, o)
	s := l.Stats()
	if s.Segments < 20 || s.Frames != 600 || len(opened) != 1 {
		t.Fatalf("%+v, opened %d files", s, len(opened))
	}
	wantSeqs(t, readAll(t, l, Pos{}, 1000), 1, 1, 600)
	for _, path := range segmentFiles(t, dir) {
		info, err := os.Stat(path)
		must(t, err)
		if info.Size() > o.SegmentSize {
			t.Errorf("%s has %d bytes", path, info.Size())
		}
	}
	n := 0
	for _, seg := range l.segs {
		if seg.db != nil {
			n++
		}
	}
	if n > maxOpen {
		t.Fatalf("%d segments are open", n)
	}
}
