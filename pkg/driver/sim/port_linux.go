package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// OpenTerminal makes a pseudo-terminal: its master, whose reads end when it is
// closed, and the path of the other end.
func OpenTerminal() (master *os.File, path string, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return nil, "", errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), fmt.Sprintf("/dev/pts/%d", n), nil
}

// Port is a serial port that is no hardware: a pseudo-terminal, at a path that
// stays the same when it is pulled out and plugged in again.
type Port struct {
	Path string // what a driver opens: a symbolic link
	// Serve has the other end of the line until ctx ends.
	Serve func(ctx context.Context, c io.ReadWriter)

	mu     sync.Mutex
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// Plug makes a new pseudo-terminal and puts it at the path.
func (p *Port) Plug() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		return nil
	}
	master, path, err := OpenTerminal()
	if err != nil {
		return err
	}
	// The other end is kept open: without any opener the master reads errors.
	other, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return errors.Join(err, master.Close())
	}
	if err := os.Symlink(path, p.Path); err != nil {
		return errors.Join(err, master.Close(), other.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.wait.Go(func() {
		defer func() { _ = other.Close() }()
		stop := context.AfterFunc(ctx, func() { _ = master.Close() })
		defer stop()
		p.Serve(ctx, master)
		<-ctx.Done()
	})
	return nil
}

// Unplug takes the terminal away: whoever has it open reads errors.
func (p *Port) Unplug() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel == nil {
		return
	}
	_ = os.Remove(p.Path)
	p.cancel()
	p.cancel = nil
	p.wait.Wait()
}
