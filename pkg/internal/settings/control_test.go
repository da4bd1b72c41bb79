package settings

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheSocketOfARunningProgramIsReachedHoweverDeepItsFolderLies(t *testing.T) {
	for name, folder := range map[string]string{"near": "d", "deep": strings.Repeat("a-long-name/", 20)} {
		t.Run(name, func(t *testing.T) {
			if name == "deep" {
				if _, err := os.Stat("/proc/self/fd"); err != nil {
					folder = "d" // only Linux can
				}
			}
			dir := filepath.Join(t.TempDir(), folder)
			path := filepath.Join(dir, "program.sock")
			if _, err := DialControl(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("without a folder: %v", err)
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := DialControl(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("without a program: %v", err)
			}
			for range 2 { // the second finds the socket of a run that was killed
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				l := ListenControl(path, slog.New(slog.DiscardHandler))
				if l == nil {
					t.Fatal("no socket")
				}
				accepted := make(chan error, 1)
				go func() {
					c, err := l.Accept()
					if err == nil {
						err = c.Close()
					}
					accepted <- err
				}()
				c, err := DialControl(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(<-accepted, c.Close(), l.Close()); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("closed, and the socket is there: %v", err)
				}
			}
		})
	}
}
