package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/tsdb"
)

func TestAFolderSaysItsFormatAndANewerOneIsRefusedUntouched(t *testing.T) {
	for name, c := range map[string]struct {
		content string // "": no file
		newer   bool
	}{
		"of the first programs": {"", false},
		"of this program":       {formatLine(FormatVersion), false},
		"damaged":               {strings.Replace(formatLine(FormatVersion), "store 1", "store 3", 1), false},
		"empty":                 {"\n", false},
		"newer":                 {formatLine(FormatVersion + 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, formatName)
			if c.content != "" {
				if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			s, err := Open(dir, Options{MinFree: -1})
			b, rerr := os.ReadFile(path)
			if rerr != nil {
				t.Fatal(rerr)
			}
			if c.newer {
				entries, lerr := os.ReadDir(dir)
				if !errors.Is(err, tsdb.ErrVersion) || !strings.Contains(err.Error(), "format: written by a newer langbiang-hub (format 2, this one knows up to 1)") || string(b) != c.content || lerr != nil || len(entries) != 2 {
					t.Fatalf("%v; %d files, %q", err, len(entries), b)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if string(b) != formatLine(FormatVersion) {
				t.Errorf("the folder says %q", b)
			}
		})
	}
}
