package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Report says what [Open] found wrong with the files and did about it. It
// outlives the process while NeedRewind is set.
type Report struct {
	// NeedRewind says that samples may be missing that had been durable: the
	// hub forgets its positions, so that the edges send what they still keep,
	// and calls [Store.Rewound] when that is durable. Samples that come twice
	// stand in the store once.
	NeedRewind bool `json:"need_rewind"`
	// Folder is where damaged parts were moved, "" when there were none.
	Folder string `json:"folder,omitempty"`
	// Damage lists them.
	Damage []Damage `json:"damage,omitempty"`
	// Cut lists torn tails, which are normal after a power cut: nothing in them
	// was ever acknowledged.
	Cut []Cut `json:"-"`
	// Duration of opening.
	Duration time.Duration `json:"-"`
}

// Damage is a part that could not be used.
type Damage struct {
	Path   string `json:"path"`   // in the data directory
	Reason string `json:"reason"` // for people
	// From and To bound the times of the samples in it, in milliseconds; both
	// are 0 when unknown.
	From int64 `json:"from,omitempty"`
	To   int64 `json:"to,omitempty"`
}

// Cut is a torn tail of a log.
type Cut struct {
	Path  string // in the data directory
	Bytes int64
}

const (
	rewindName     = "rewind-needed"
	asidePrefix    = ".corrupt-"
	asideReport    = "report.json"
	asideTimestamp = "20060102T150405.000Z"
)

// quarantine moves damaged parts aside. The intention to rewind is made durable
// before the first of them is touched, since a second start would find nothing
// wrong any more.
type quarantine struct {
	dir    string
	now    time.Time
	report *Report
}

// note adds damage to the report, and makes the rewind that it may need durable.
func (q *quarantine) note(d Damage, rewind bool) error {
	q.report.Damage = append(q.report.Damage, d)
	if rewind {
		q.report.NeedRewind = true
		return writeDurably(filepath.Join(q.dir, rewindName), q.report)
	}
	return nil
}

func (q *quarantine) folder() (string, error) {
	if q.report.Folder == "" {
		name := asidePrefix + q.now.UTC().Format(asideTimestamp)
		if err := os.Mkdir(filepath.Join(q.dir, name), 0o755); err != nil {
			return "", fmt.Errorf("make folder for damaged parts: %w", err)
		}
		q.report.Folder = name
	}
	return filepath.Join(q.dir, q.report.Folder), nil
}

func (q *quarantine) target(path string) (string, error) {
	folder, err := q.folder()
	if err != nil {
		return "", err
	}
	to := filepath.Join(folder, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", fmt.Errorf("make folder for damaged parts: %w", err)
	}
	return to, nil
}

// move takes a file or folder out of the data directory, if it exists.
func (q *quarantine) move(path string) error {
	from := filepath.Join(q.dir, path)
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	to, err := q.target(path)
	if err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	return nil
}

// copy keeps what a file holds before it is cut.
func (q *quarantine) copy(path string) (err error) {
	to, err := q.target(path)
	if err != nil {
		return err
	}
	in, err := os.Open(filepath.Join(q.dir, path))
	if err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	_, err = io.Copy(out, in)
	if err != nil {
		err = fmt.Errorf("set aside: %w", err)
	}
	return errors.Join(err, out.Close())
}

// finish writes the report beside what was set aside.
func (q *quarantine) finish() error {
	if q.report.NeedRewind {
		if err := writeDurably(filepath.Join(q.dir, rewindName), q.report); err != nil {
			return err
		}
	}
	if q.report.Folder == "" {
		return nil
	}
	return writeDurably(filepath.Join(q.dir, q.report.Folder, asideReport), q.report)
}

// pendingRewind adds to the report what an earlier start has found and nobody has
// confirmed yet.
func pendingRewind(dir string, report *Report) error {
	b, err := os.ReadFile(filepath.Join(dir, rewindName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pending rewind: %w", err)
	}
	var old Report
	if err := json.Unmarshal(b, &old); err == nil {
		report.Damage = append(report.Damage, old.Damage...)
	}
	report.NeedRewind = true
	return nil
}

// writeDurably replaces the file at path with v in JSON.
func writeDurably(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := syncPath(tmp, fsyncFile); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncPath(filepath.Dir(path), fsyncFile)
}
