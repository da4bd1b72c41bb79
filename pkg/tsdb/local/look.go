package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/prometheus/prometheus/storage"
)

// Look is a store that nobody has open, read without changing it.
type Look struct {
	store *Store
	lock  *os.File
	copy  string
}

// OpenLook opens what stands in dir for reading. It works on a copy in a folder of
// its own below temp, "" for the system's: the logs are copied, blocks linked where
// that is possible, and what a crash has left is repaired there. While it is open no
// hub can take the folder. tsdb.ErrLocked says that one has it.
func OpenLook(dir, temp string) (*Look, error) {
	if _, err := os.Stat(filepath.Join(dir, walDir)); err != nil {
		return nil, fmt.Errorf("%s is no store: %w", dir, err)
	}
	l := &Look{}
	var err error
	if l.lock, err = os.Open(filepath.Join(dir, "lock")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if l.lock != nil {
		if err := syscall.Flock(int(l.lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
			_ = l.lock.Close() // the first error is the one to tell
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("%s: %w", dir, tsdb.ErrLocked)
			}
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
	if l.copy, err = os.MkdirTemp(temp, "langbiang-look-"); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := copyFolder(dir, l.copy); err != nil {
		return nil, errors.Join(fmt.Errorf("copy %s: %w", dir, err), l.Close())
	}
	l.store, err = Open(l.copy, Options{Retention: 100 * 365 * 24 * time.Hour, MinFree: -1})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.store.db.DisableCompactions() // for a copy that nobody keeps
	return l, nil
}

// Queryable gives reading access.
func (l *Look) Queryable() storage.Queryable { return l.store.Queryable() }

// Close forgets the copy.
func (l *Look) Close() error {
	var errs []error
	if l.store != nil {
		errs = append(errs, l.store.Close())
	}
	if l.copy != "" {
		errs = append(errs, os.RemoveAll(l.copy))
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}

// copyFolder copies a store: blocks, which never change, by links.
func copyFolder(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." || rel == "lock" {
			return err
		}
		top, _, inside := strings.Cut(rel, string(filepath.Separator))
		if strings.HasPrefix(top, ".") || top == headChunksDir || top == historyDir {
			if d.IsDir() { // set aside, made anew from the logs, or no samples
				return fs.SkipDir
			}
			return nil
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.Mkdir(target, 0o755)
		}
		if inside && top != walDir && top != wblDir && os.Link(path, target) == nil {
			return nil
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
