package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/langbiang/langbiang/pkg/tsdb"
)

const (
	stateName    = "state.json"
	stateVersion = 1
)

// state is the file state.json.
type state struct {
	Version int     `json:"version"`
	Late    []int64 `json:"late"` // starts of slices, ms
	Gone    int64   `json:"gone"` // the store has dropped samples up to here
}

// marks are the slices that late samples have changed, with a count that grows, so
// that what comes while one is corrected is not taken for corrected.
type marks struct {
	path string

	mu      sync.Mutex
	late    map[int64]uint64
	count   uint64
	dropped int64
	unsaved bool

	saving sync.Mutex // held while the file is written
}

// open reads the file. A damaged one is set aside: then nobody knows what came
// late, and what is computed stays.
func (m *marks) open(dir string) error {
	m.path = filepath.Join(dir, stateName)
	m.late, m.dropped = map[int64]uint64{}, math.MinInt64
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return os.Rename(m.path, m.path+".corrupt")
	}
	if st.Version > stateVersion {
		return fmt.Errorf("%s: %w (format %d, this one knows up to %d)", m.path, tsdb.ErrVersion, st.Version, stateVersion)
	}
	for _, s := range st.Late {
		m.late[s] = 0
	}
	m.dropped = st.Gone
	return nil
}

func (m *marks) add(slices []int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	for _, s := range slices {
		if _, known := m.late[s]; !known {
			m.unsaved = true
		}
		m.late[s] = m.count
	}
}

func (m *marks) gone(t int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t > m.dropped {
		m.dropped, m.unsaved = t, true
	}
}

func (m *marks) droppedUpTo() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dropped
}

// all returns the marks.
func (m *marks) all() map[int64]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.late)
}

// done removes marks that have not been renewed since they were read, and saves.
func (m *marks) done(list map[int64]uint64) error {
	m.mu.Lock()
	for s, n := range list {
		if m.late[s] == n {
			delete(m.late, s)
			m.unsaved = true
		}
	}
	m.mu.Unlock()
	return m.save()
}

// save writes the file if something is new.
func (m *marks) save() error {
	m.saving.Lock()
	defer m.saving.Unlock()
	m.mu.Lock()
	if !m.unsaved {
		m.mu.Unlock()
		return nil
	}
	m.unsaved = false
	st := state{Version: stateVersion, Late: []int64{}, Gone: m.dropped}
	for s := range m.late {
		st.Late = append(st.Late, s)
	}
	m.mu.Unlock()
	err := writeDurably(m.path, &st)
	if err != nil {
		m.mu.Lock()
		m.unsaved = true
		m.mu.Unlock()
	}
	return err
}

func writeDurably(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	if err := syncPath(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

// syncTree fsyncs a folder with all in it.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncPath(path)
	})
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
