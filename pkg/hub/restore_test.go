package hub

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Who restores is root, and the hub runs under a user of its own.
func TestWhatRootRestoresBelongsToTheHubsUser(t *testing.T) {
	data := t.TempDir()
	_ = os.Chown(data, 12345, 12345) // as root; for anybody else all of it is their own
	fresh := filepath.Join(data, restoringDir)
	if err := os.MkdirAll(filepath.Join(fresh, ledgerDir), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fresh, ledgerDir, "ledger.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ownedLike(fresh, data); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	want := st.Sys().(*syscall.Stat_t).Uid
	err = filepath.WalkDir(fresh, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if got := st.Sys().(*syscall.Stat_t).Uid; got != want {
			t.Errorf("%s belongs to %d, not to %d", path, got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
