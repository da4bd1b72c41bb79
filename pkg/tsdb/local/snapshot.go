package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/langbiang/langbiang/pkg/tsdb"
)

// snapshotPrefix begins the names of the folders that Snapshot makes. What a crash
// has left of one goes at the next start.
const snapshotPrefix = ".snapshot-"

// Snapshot makes a store in a folder of its own below this one, from which another
// store can be opened: everything whose Commit had returned before the call is in
// it. Blocks are linked, so it takes the room of the last hours only. The caller
// reads it and calls done, which removes it.
//
// What came out of order must be in blocks first: the TSDB's own snapshot leaves it
// out.
func (s *Store) Snapshot(ctx context.Context) (dir string, done func() error, err error) {
	if !s.readers.enter() {
		return "", nil, tsdb.ErrClosed
	}
	defer s.readers.leave()
	if err := s.dead(); err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp(s.dir, snapshotPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("snapshot: %w", err)
	}
	done = func() error { return os.RemoveAll(dir) }
	if err := s.snapshot(ctx, dir); err != nil {
		_ = done() // the first error is the one to tell; the next start removes the rest
		return "", nil, fmt.Errorf("snapshot: %w", err)
	}
	return dir, done, nil
}

func (s *Store) snapshot(ctx context.Context, dir string) error {
	if err := s.db.CompactOOOHead(ctx); err != nil {
		return err
	}
	head := s.db.Head()
	if err := s.db.Snapshot(dir, head.MinTime() <= head.MaxTime()); err != nil {
		return err
	}
	if err := putFormat(dir); err != nil || s.long == nil {
		return err
	}
	return s.long.Snapshot(filepath.Join(dir, historyDir))
}

// dropSnapshots removes what a crash has left of snapshots.
func dropSnapshots(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list store: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), snapshotPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("drop old snapshot: %w", err)
			}
		}
	}
	return nil
}
