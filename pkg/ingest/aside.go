package ingest

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Bounds of the folder of refused messages.
const (
	asideFiles = 100
	asideBytes = 16 << 20
	asidePace  = 100 * time.Millisecond // between two files: an attacker does not get the disk
)

// aside keeps messages that could not be read, the newest of them, for whoever
// wants to know why.
type aside struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	loaded bool
	files  []asideFile // oldest first
	bytes  int64
	last   time.Time
	failed bool
	n      uint64
}

type asideFile struct {
	name string
	size int64
}

func newAside(dir string, log *slog.Logger) *aside { return &aside{dir: dir, log: log} }

// keep writes the message to a file of its own.
func (a *aside) keep(edge string, payload []byte, now time.Time) {
	if a.dir == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.last.IsZero() && now.Sub(a.last) < asidePace && !now.Before(a.last) {
		return
	}
	a.last = now
	if err := a.write(edge, payload, now); err != nil {
		if !a.failed {
			a.log.Error("a refused message could not be kept aside", "folder", a.dir, "error", err)
		}
		a.failed = true
		return
	}
	a.failed = false
}

func (a *aside) write(edge string, payload []byte, now time.Time) error {
	if err := a.load(); err != nil {
		return err
	}
	a.n++
	f := asideFile{fmt.Sprintf("%s-%06d-%s.bin", now.UTC().Format("20060102T150405.000"), a.n%1_000_000, edge), int64(len(payload))}
	for len(a.files) > 0 && (len(a.files) >= asideFiles || a.bytes+f.size > asideBytes) {
		if err := os.Remove(filepath.Join(a.dir, a.files[0].name)); err != nil && !os.IsNotExist(err) {
			return err
		}
		a.bytes -= a.files[0].size
		a.files = a.files[1:]
	}
	if err := os.WriteFile(filepath.Join(a.dir, f.name), payload, 0o640); err != nil {
		return err
	}
	a.files = append(a.files, f)
	a.bytes += f.size
	return nil
}

func (a *aside) load() error {
	if a.loaded {
		return nil
	}
	if err := os.MkdirAll(a.dir, 0o750); err != nil {
		return err
	}
	list, err := os.ReadDir(a.dir)
	if err != nil {
		return err
	}
	a.files, a.bytes = nil, 0
	for _, d := range list {
		if filepath.Ext(d.Name()) != ".bin" {
			continue
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		a.files = append(a.files, asideFile{d.Name(), info.Size()})
		a.bytes += info.Size()
	}
	slices.SortFunc(a.files, func(x, y asideFile) int {
		switch {
		case x.name < y.name:
			return -1
		case x.name > y.name:
			return 1
		}
		return 0
	})
	a.loaded = true
	return nil
}
