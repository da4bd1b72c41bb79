// Package doctor prints what an examination of a machine finds, a line for each
// thing: ok, or what is wrong and what to do. The doctor commands of edge and hub
// share it.
package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// Report prints findings and counts those to mend. It is for one goroutine.
type Report struct {
	w   io.Writer
	ill int
	err error
}

// NewReport returns a report that is written to w.
func NewReport(w io.Writer) *Report { return &Report{w: w} }

// Say prints a finding: the text when fault is nil, else the fault and what to do.
func (r *Report) Say(subject string, fault error, text, todo string) {
	mark := "ok  "
	if fault != nil {
		r.ill++
		mark, text = "MEND", fault.Error()
		if todo != "" {
			text += "; " + todo
		}
	}
	if _, err := fmt.Fprintf(r.w, "%s  %-10s %s\n", mark, subject, text); r.err == nil {
		r.err = err
	}
}

// End is the error of the command: of writing, or that there are things to mend.
func (r *Report) End() error {
	if r.err == nil && r.ill > 0 {
		return fmt.Errorf("%s to mend", settings.Count(r.ill, "thing"))
	}
	return r.err
}

// Existing returns dir, or the nearest folder above it that is there: a data folder is
// made at the first start.
func Existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// Free returns the bytes that a user may still write in dir.
func Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // their types differ between machines
}

// FsyncTime is the median of some small durable writes in dir.
func FsyncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name()) // a left-over is empty and harmless
	}()
	var took [5]time.Duration
	block := make([]byte, 4096)
	for i := range took {
		start := time.Now()
		if _, err := f.WriteAt(block, 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
		for j := i; j > 0 && took[j] < took[j-1]; j-- {
			took[j], took[j-1] = took[j-1], took[j]
		}
	}
	return took[len(took)/2], nil
}

// Size writes bytes for people: 1.5 GiB.
func Size(n int64) string {
	const step = 1024
	v, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < step {
			break
		}
		v, unit = v/step, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
