package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// position is a place in a log: a segment and an offset in bytes. No segment has
// been seen yet when Segment is -1.
type position struct {
	Segment int
	Offset  int64
}

func (p position) before(q position) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

// segment is a file of a log that is not known to be clean, and the descriptor
// held since it was first seen: the kernel reports a failed write-back once to
// each descriptor that was open at the time.
type segment struct {
	file     *os.File
	size     int64 // at the last scan
	clean    int64 // this many bytes are durable, -1 when nobody knows
	complete bool  // a later segment exists, so nothing is written any more
}

// segments are the files of one log (wal or wbl), for the purpose of making them
// durable. Not for concurrent use.
type segments struct {
	dir       string
	folder    *os.File
	open      map[int]*segment
	done      int             // all segments up to this one are clean and complete
	condensed map[string]bool // checkpoint folders of the TSDB that are clean
	fresh     bool            // the folder has entries that are not durable
	fsync     func(*os.File) error
}

func openSegments(dir string, fsync func(*os.File) error) (*segments, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open log folder: %w", err)
	}
	s := &segments{
		dir: dir, folder: folder, open: make(map[int]*segment), done: -1,
		condensed: make(map[string]bool), fresh: true, fsync: fsync,
	}
	if err := s.scan(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// scan takes a descriptor of every segment that has come up, and notes the sizes
// of all. It is cheap: one listing and a stat per segment that is not clean.
func (s *segments) scan() error {
	numbers, err := listSegments(s.dir)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n <= s.done || s.open[n] != nil {
			continue
		}
		f, err := os.Open(filepath.Join(s.dir, segmentName(n)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the TSDB has deleted it since the listing: its samples are in a block
		}
		if err != nil {
			return fmt.Errorf("open log segment: %w", err)
		}
		s.open[n] = &segment{file: f, clean: -1}
		s.fresh = true
	}
	last := s.last()
	for n, seg := range s.open {
		st, err := seg.file.Stat()
		if err != nil {
			return fmt.Errorf("stat log segment: %w", err)
		}
		seg.size = st.Size()
		seg.complete = n < last
	}
	return nil
}

func (s *segments) last() int {
	last := s.done
	for n := range s.open {
		last = max(last, n)
	}
	return last
}

// end returns the end of the log at the last scan.
func (s *segments) end() position {
	last := s.last()
	if seg := s.open[last]; seg != nil {
		return position{last, seg.size}
	}
	return position{last, 0}
}

// sync makes what the last scan has seen durable, oldest first.
func (s *segments) sync() error {
	numbers := make([]int, 0, len(s.open))
	for n := range s.open {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		seg := s.open[n]
		if seg.clean != seg.size {
			if err := s.fsync(seg.file); err != nil {
				return fmt.Errorf("fsync %s: %w", seg.file.Name(), err)
			}
			seg.clean = seg.size
		}
		if seg.complete {
			delete(s.open, n)
			s.done = max(s.done, n)
			if err := seg.file.Close(); err != nil {
				return fmt.Errorf("close %s: %w", seg.file.Name(), err)
			}
		}
	}
	if s.fresh {
		if err := s.fsync(s.folder); err != nil {
			return fmt.Errorf("fsync %s: %w", s.dir, err)
		}
		s.fresh = false
	}
	return s.syncCondensed()
}

// syncCondensed makes the checkpoints durable into which the TSDB condenses old
// segments. It fsyncs them itself, but goes on after an error.
func (s *segments) syncCondensed() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", s.dir, err)
	}
	for _, e := range entries {
		if !isCheckpoint(e) || s.condensed[e.Name()] {
			continue
		}
		if err := syncTree(filepath.Join(s.dir, e.Name()), s.fsync); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // replaced by a newer one
			}
			return err
		}
		s.condensed[e.Name()] = true
	}
	return nil
}

// close gives the descriptors back without syncing anything.
func (s *segments) close() error {
	errs := []error{s.folder.Close()}
	for _, seg := range s.open {
		errs = append(errs, seg.file.Close())
	}
	s.open = nil
	return errors.Join(errs...)
}

func isCheckpoint(e fs.DirEntry) bool {
	number, ok := strings.CutPrefix(e.Name(), "checkpoint.")
	_, err := strconv.Atoi(number)
	return e.IsDir() && ok && err == nil
}

// syncTree fsyncs the files of a folder, and the folder.
func syncTree(dir string, fsync func(*os.File) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		if err := syncPath(filepath.Join(dir, e.Name()), fsync); err != nil {
			return err
		}
	}
	return syncPath(dir, fsync)
}

// syncPath fsyncs one file or folder.
func syncPath(path string, fsync func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open for fsync: %w", err)
	}
	err = fsync(f)
	if err != nil {
		err = fmt.Errorf("fsync %s: %w", path, err)
	}
	return errors.Join(err, f.Close())
}

func segmentName(n int) string { return fmt.Sprintf("%08d", n) }

// listSegments returns the numbers of a log's segments in ascending order. A
// folder that does not exist has none.
func listSegments(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list log segments: %w", err)
	}
	var out []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && !e.IsDir() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// fsyncFile is the real fsync.
func fsyncFile(f *os.File) error { return f.Sync() }
