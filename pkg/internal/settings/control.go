package settings

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
)

// ListenControl makes the socket on which a running program answers the commands of
// its own machine, for its user and group. The folder must be the program's alone: a
// socket that is there is one of a run that was killed. A program works without it all
// the same, so a failure is a line in the log, and nil.
func ListenControl(path string, logger *slog.Logger) net.Listener {
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		var l net.Listener
		if l, err = net.Listen("unix", path); err == nil {
			if err = os.Chmod(path, 0o660); err == nil {
				return l
			}
			_ = l.Close() // the first error is the one to tell
		}
	}
	logger.Warn("commands on this machine cannot reach this program", "socket", path, "err", err)
	return nil
}
