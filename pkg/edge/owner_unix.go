//go:build unix

package edge

import (
	"os"
	"syscall"
)

// likeOwner gives a file the owner of another, as far as we may.
func likeOwner(f *os.File, st os.FileInfo) {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(sys.Uid), int(sys.Gid)) // only root may; then it matters
	}
}
