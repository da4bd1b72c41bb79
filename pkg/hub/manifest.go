package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/tsdb/local"
	"github.com/langbiang/langbiang/pkg/tsdb/texts"
)

const (
	manifestName    = "manifest.json"
	manifestVersion = 1
)

// manifest stands in a backup and says what belongs to it. It is written last: a
// backup without one is none.
type manifest struct {
	Version    int            `json:"version"`
	Created    time.Time      `json:"created"`
	Hub        string         `json:"hub"`     // version of the program
	Ledger     int            `json:"ledger"`  // format of the ledger
	Formats    map[string]int `json:"formats"` // of the other parts
	Store      string         `json:"store"`   // local, or influx: then the readings are not in here
	Generation string         `json:"generation"`
	Sequence   uint64         `json:"sequence"` // newest entry of the alert log
	Files      []manifestFile `json:"files"`
}

// formats are those that this program knows, of the parts that have one of their own.
var formats = map[string]int{storeDir: local.FormatVersion, textsDir: texts.FormatVersion}

type manifestFile struct {
	Path   string `json:"path"` // with slashes
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func (m *manifest) size() (n int64) {
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// readManifest reads and judges the manifest of a backup.
func readManifest(dir string) (*manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no backup, or one that was broken off: it has no %s", dir, manifestName)
	}
	if err != nil {
		return nil, err
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, manifestName), err)
	}
	newer := m.Version > manifestVersion || m.Ledger > ledger.FormatVersion
	for part, version := range formats {
		newer = newer || m.Formats[part] > version
	}
	if newer {
		return nil, fmt.Errorf("%s was made by langbiang-hub %s, which is newer than this program; install that version or a newer one, or take an older backup", dir, m.Hub)
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return nil, fmt.Errorf("%s names the file %q outside of the backup", filepath.Join(dir, manifestName), f.Path)
		}
	}
	return &m, nil
}

// copier copies files durably and notes what it has copied.
type copier struct {
	to    string
	files []manifestFile
	bytes int64
	tell  func() // every tellEvery bytes; may be nil
}

// tellEvery is how many bytes are copied between two reports.
const tellEvery = 64 << 20

// file copies what r gives to a path below the target.
func (c *copier) file(ctx context.Context, r io.Reader, path string) error {
	full := filepath.Join(c.to, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o750); err != nil {
		return err
	}
	mode := fs.FileMode(0o640)
	if strings.HasPrefix(path, identityFolder+"/") {
		mode = 0o600
	}
	f, err := os.OpenFile(full, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), reading(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := r.Read(p)
		c.count(int64(n))
		return n, err
	}))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	c.files = append(c.files, manifestFile{Path: path, Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

type reading func(p []byte) (int, error)

func (r reading) Read(p []byte) (int, error) { return r(p) }

func (c *copier) count(n int64) {
	before := c.bytes / tellEvery
	if c.bytes += n; c.bytes/tellEvery != before && c.tell != nil {
		c.tell()
	}
}

// pipe copies what from writes to a path below the target.
func (c *copier) pipe(ctx context.Context, path string, from func(io.Writer) error) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := from(w)
		_ = w.CloseWithError(err) // never fails
		done <- err
	}()
	err := c.file(ctx, r, path)
	_ = r.CloseWithError(err) // never fails; lets the goroutine go when the disk is full
	return errors.Join(err, <-done)
}

// tree copies a folder of this machine to a path below the target.
func (c *copier) tree(ctx context.Context, from, path string) error {
	return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		return c.file(ctx, f, path+"/"+filepath.ToSlash(rel))
	})
}

// finish makes the names of all files durable.
func (c *copier) finish() error {
	dirs := map[string]bool{c.to: true}
	for _, f := range c.files {
		for d := filepath.Dir(filepath.FromSlash(f.Path)); d != "."; d = filepath.Dir(d) {
			dirs[filepath.Join(c.to, d)] = true
		}
	}
	for d := range dirs {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// write writes the manifest, which makes a backup of the files.
func (c *copier) write(m *manifest) error {
	slices.SortFunc(c.files, func(a, b manifestFile) int { return strings.Compare(a.Path, b.Path) })
	m.Files = c.files
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(c.to, manifestName)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(c.to)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
