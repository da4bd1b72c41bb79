package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Snapshot makes a copy in dir, which must be on the same disk and is made: files
// never change, so they are linked. It is taken after a snapshot of the samples:
// what came late to these is then noted here, or in the sets already.
func (h *History) Snapshot(dir string) error {
	h.catching.Lock() // no set comes or goes
	defer h.catching.Unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if err := h.marks.save(); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	b, err := os.ReadFile(h.marks.path)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, stateName), b, 0o644)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("history: %w", err)
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.sets {
		if err := linkTree(s.dir, filepath.Join(dir, widthNames[s.width], filepath.Base(s.dir))); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return nil
}

func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}
