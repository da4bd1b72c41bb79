package settings

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
)

// maxSocketPath is what fits the address of a Unix socket everywhere (104 bytes with
// the 0 at its end on the BSDs, 108 on Linux).
const maxSocketPath = 103

// ListenControl makes the socket on which a running program answers the commands of
// its own machine, for its user and group. The folder must be the program's alone: a
// socket that is there is one of a run that was killed. A program works without it all
// the same, so a failure is a line in the log, and nil.
func ListenControl(path string, logger *slog.Logger) net.Listener {
	l, err := listenControl(path)
	if err != nil {
		logger.Warn("commands on this machine cannot reach this program", "socket", path, "err", err)
		return nil
	}
	return l
}

func listenControl(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var l *net.UnixListener
	err := withSocket(path, func(address string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it knows no more than the address
	c := &controlListener{l, path}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = c.Close() // the first error is the one to tell
		return nil, err
	}
	return c, nil
}

// DialControl connects to the socket that [ListenControl] made at the path. The error
// is fs.ErrNotExist or syscall.ECONNREFUSED when no program answers there.
func DialControl(ctx context.Context, path string) (c net.Conn, err error) {
	err = withSocket(path, func(address string) (err error) {
		c, err = new(net.Dialer).DialContext(ctx, "unix", address)
		return err
	})
	return c, err
}

// withSocket calls do with an address of the socket at the path. One that is too long
// for the system is reached through its opened folder, which Linux can.
func withSocket(path string, do func(address string) error) error {
	if len(path) <= maxSocketPath {
		return do(path)
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // was read only
	return do(fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path)))
}

// controlListener removes its socket when it is closed.
type controlListener struct {
	*net.UnixListener
	path string
}

// Close implements [net.Listener].
func (l *controlListener) Close() error {
	err := l.UnixListener.Close()
	if gone := os.Remove(l.path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}
