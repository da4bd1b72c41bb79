//go:build unix

package enrol

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// likeParent gives a file the owner of its folder, so that what root enrols the
// agent's user can read. Only root can give away: for others it is theirs already.
func likeParent(path string) error {
	st, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := os.Lchown(path, int(owner.Uid), int(owner.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
