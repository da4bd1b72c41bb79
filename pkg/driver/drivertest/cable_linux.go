package drivertest

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/langbiang/langbiang/pkg/driver/sim"
)

// Cable joins two pseudo-terminals. A byte takes as long on it as on a serial
// line, eleven bits at the speed; both directions share the line as RS-485 does.
type Cable struct {
	A, B string // what programs open

	character time.Duration
	carried   atomic.Int64
	mu        sync.Mutex // the line is free
	free      time.Time  // from then on
}

// NewCable makes a cable that ends with the test.
func NewCable(t testing.TB, baud int) *Cable {
	t.Helper()
	c := &Cable{character: 11 * time.Second / time.Duration(baud)}
	var masters [2]*os.File
	for i, name := range []*string{&c.A, &c.B} {
		var err error
		if masters[i], *name, err = sim.OpenTerminal(); err != nil {
			t.Fatal(err)
		}
		s, err := os.OpenFile(*name, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // kept open: without any opener the master reads errors
		if err := raw(s); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.carry(masters[0], masters[1]) })
	wg.Go(func() { c.carry(masters[1], masters[0]) })
	t.Cleanup(func() {
		_ = masters[0].Close()
		_ = masters[1].Close()
		wg.Wait()
	})
	return c
}

// Carried returns how many bytes went over the line so far, and how long they
// took.
func (c *Cable) Carried() (bytes int64, took time.Duration) {
	n := c.carried.Load()
	return n, time.Duration(n) * c.character
}

// raw makes the line discipline leave the bytes alone.
func raw(f *os.File) error {
	tio, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	tio.Iflag, tio.Oflag, tio.Lflag = 0, 0, 0
	tio.Cflag = tio.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	return unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, tio)
}

// carry gives byte after byte at the pace of the line. Those that are due together
// when the timer comes are given together, as the buffer of an adapter does.
func (c *Cable) carry(from io.Reader, to io.Writer) {
	buf := make([]byte, 4096)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		begin := c.take(n)
		for given := 0; given < n; {
			timer.Reset(time.Until(begin.Add(time.Duration(given+1) * c.character)))
			<-timer.C
			due := min(n, int(time.Since(begin)/c.character))
			if _, err := to.Write(buf[given:due]); err != nil {
				return
			}
			c.carried.Add(int64(due - given))
			given = due
		}
	}
}

// take takes the line for n bytes and returns when they begin.
func (c *Cable) take(n int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.After(c.free) {
		c.free = now
	}
	begin := c.free
	c.free = begin.Add(time.Duration(n) * c.character)
	return begin
}

// ServeRTUOn serves the field on a terminal, as a device on a cable. It ends with
// the test.
func (f *Field) ServeRTUOn(t testing.TB, path string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	line := os.NewFile(uintptr(fd), path)
	if line == nil {
		t.Fatal(errors.New("no file"))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Field.ServeRTU(ctx, line, false, 0) })
	t.Cleanup(func() {
		cancel()
		_ = line.Close()
		wg.Wait()
	})
}
