package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/ledger"
)

// restoringDir holds a restore that is going on in a data folder. While it is there
// the hub does not start.
const restoringDir = ".restoring"

// parts are what a restore puts into a data folder.
var parts = []string{storeDir, textsDir, ledgerDir, identityFolder}

func restoreCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "restore DIR", Short: "make the data folder of a hub that does not run from a backup; see docs/store.md",
		Args: cobra.ExactArgs(1),
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			m, err := restore(ctx, plan.Config.DataDir, c.Args[0])
			if err != nil {
				return err
			}
			if m.Store != plan.Config.Store.Kind {
				_, _ = fmt.Fprintf(c.Stderr, "warning: the backup is of a hub with store.kind: %s, and this configuration says %s\n", m.Store, plan.Config.Store.Kind)
			}
			_, err = fmt.Fprintf(c.Stdout, "%s: restored from the backup of %s: %s, %.1f MB; the alert log goes on after entry %d in a new generation; start the hub, and the edges send what they keep since then\n",
				plan.Config.DataDir, m.Created.Format(time.RFC3339), settings.Count(len(m.Files), "file"), float64(m.size())/1e6, m.Sequence)
			return err
		},
	}
}

// restore makes a data folder from a backup. All of it is beside its place before
// any of it is in its place, so that a broken-off restore is seen and done again.
func restore(ctx context.Context, data, dir string) (*manifest, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	fresh := filepath.Join(data, restoringDir)
	if err := clearTarget(data, fresh); err != nil {
		return nil, err
	}
	c := &copier{to: fresh}
	for _, f := range m.Files {
		if err := c.checked(ctx, dir, f); err != nil {
			return nil, err
		}
	}
	if err := c.finish(); err != nil {
		return nil, err
	}
	if err := begin(filepath.Join(fresh, ledgerDir), m); err != nil {
		return nil, err
	}
	if err := ownedLike(fresh, data); err != nil {
		return nil, err
	}
	for _, p := range parts {
		err := os.Rename(filepath.Join(fresh, p), filepath.Join(data, p))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a store elsewhere has no part
			return nil, err
		}
	}
	if err := syncDir(data); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(fresh); err != nil {
		return nil, err
	}
	return m, syncDir(data)
}

// ownedLike gives what is below a folder the owner of another one, where root does
// the work of a hub that runs under a user of its own.
func ownedLike(dir, other string) error {
	st, err := os.Stat(other)
	if err != nil {
		return err
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}

// clearTarget makes sure that the data folder has nothing in it but what a
// broken-off restore has left, and removes that.
func clearTarget(data, fresh string) error {
	_, err := os.Stat(fresh)
	brokenOff := err == nil
	for _, p := range parts {
		path := filepath.Join(data, p)
		_, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !brokenOff:
			return fmt.Errorf("%s holds a hub's data already; stop that hub and move the folder away (mv %s %s.old), or choose another data_dir", data, data, strings.TrimRight(data, "/"))
		default:
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	return os.MkdirAll(fresh, 0o750)
}

// checked copies a file of a backup and compares it with what its manifest says.
func (c *copier) checked(ctx context.Context, dir string, want manifestFile) error {
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(want.Path)))
	if err != nil {
		return fmt.Errorf("the backup is not whole: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := c.file(ctx, f, want.Path); err != nil {
		return err
	}
	if got := c.files[len(c.files)-1]; got != want {
		return fmt.Errorf("the backup is damaged: %s is not what was written (%d bytes, sha256 %s); take another backup", want.Path, want.Bytes, want.SHA256)
	}
	return nil
}

// begin starts a new generation in a restored ledger: who has read the alert log of
// the lost hub may have seen entries that are not in here.
func begin(dir string, m *manifest) error {
	l, err := ledger.Open(dir, ledger.Options{})
	if err != nil {
		return err
	}
	id, err := l.NewGeneration()
	if err == nil {
		err = l.RecordEvent(ledger.Event{
			Kind: "hub_restored", Text: fmt.Sprintf("This hub was restored from a backup of %s. The alert log goes on after entry %d in generation %s; the edges send again what they keep.", m.Created.Format(time.RFC3339), m.Sequence, id),
			Detail: map[string]string{"generation": id, "after": fmt.Sprint(m.Sequence)},
		})
	}
	return errors.Join(err, l.Close())
}

// notRestoring says that a restore was broken off.
func notRestoring(data string) error {
	if _, err := os.Stat(filepath.Join(data, restoringDir)); err == nil {
		return fmt.Errorf("a restore of %s was broken off; run langbiang-hub restore again", data)
	}
	return nil
}
