package local

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/langbiang/langbiang/pkg/tsdb"
	"golang.org/x/sys/unix"
)

// fillUp lets every further write to the current segment of a log fail, as on a
// full disk, by putting /dev/full in place of the TSDB's descriptor. The function
// that it returns makes room again, without which the TSDB cannot be closed.
func fillUp(t *testing.T, s *Store, log string) (room func()) {
	t.Helper()
	segs, err := listSegments(filepath.Join(s.dir, log))
	check(t, err)
	want, err := filepath.EvalSymlinks(filepath.Join(s.dir, log, segmentName(segs[len(segs)-1])))
	check(t, err)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	check(t, err)
	defer func() { _ = full.Close() }()
	fds, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	for _, e := range fds {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || target != want {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		check(t, err)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		check(t, err)
		if flags&unix.O_ACCMODE == unix.O_WRONLY {
			kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			check(t, err)
			check(t, unix.Dup3(int(full.Fd()), fd, unix.O_CLOEXEC))
			return func() {
				check(t, unix.Dup3(kept, fd, unix.O_CLOEXEC))
				check(t, unix.Close(kept))
			}
		}
	}
	t.Fatalf("nobody writes %s", want)
	return nil
}

func TestSwallowedWriteOfTheOutOfOrderLogIsTheEnd(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	add(t, s, "late", t0, 1)
	add(t, s, "late", t0-20*day, 10)
	check(t, s.Sync())
	room := fillUp(t, s, wblDir)
	defer room()
	add(t, s, "late", t0-10*day, 10) // the TSDB says that all is well
	for range 2 {
		if err := s.Sync(); !errors.Is(err, tsdb.ErrFatal) {
			t.Fatalf("error %v, want ErrFatal", err)
		}
	}
}

func TestFailedWriteOfTheWriteAheadLogIsTheEnd(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	add(t, s, "t", t0, 10)
	check(t, s.Sync())
	room := fillUp(t, s, walDir)
	app := s.Appender()
	_, err := app.Append(0, lset("t"), t0+10_000, value("t", t0+10_000))
	check(t, err)
	if err := app.Commit(); !errors.Is(err, tsdb.ErrFatal) {
		t.Fatalf("Commit: error %v, want ErrFatal", err)
	}
	if err := s.Sync(); !errors.Is(err, tsdb.ErrFatal) {
		t.Fatalf("Sync: error %v, want ErrFatal", err)
	}
	room()
	if err := s.Close(); !errors.Is(err, tsdb.ErrFatal) {
		t.Fatalf("Close: error %v, want ErrFatal", err)
	}
	s = mustOpen(t, dir)
	expectRange(t, s, "t", t0, 10)
	if s.Report().NeedRewind {
		t.Errorf("report %+v", s.Report())
	}
}
