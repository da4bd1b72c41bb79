package drivertest

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
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
	mu        sync.Mutex // guards what follows
	free      time.Time  // the line is, from then on
	given     [2]time.Time
	turns     [2][]time.Duration // see Turns; of A, of B
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
	wg.Go(func() { c.carry(masters[0], masters[1], 0) })
	wg.Go(func() { c.carry(masters[1], masters[0], 1) })
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

// Turns returns how long B took since the last call, at the median, from the last
// byte that it was given to the first that it gave: its silence and whatever else it
// does, with the two ways through the system. Waits of the line are not in it.
func (c *Cable) Turns() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.turns[1]
	c.turns[1] = nil
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
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

// carry gives the bytes at the pace of the line, those of a millisecond together, as
// the buffer of an adapter does, and the last one when it is due.
func (c *Cable) carry(from io.Reader, to io.Writer, end int) {
	buf := make([]byte, 4096)
	chunk := max(1, int(time.Millisecond/c.character))
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		begin := c.take(n, end)
		for given := 0; given < n; {
			sleepUntil(begin.Add(time.Duration(min(n, given+chunk)) * c.character))
			due := min(n, int(time.Since(begin)/c.character))
			if _, err := to.Write(buf[given:due]); err != nil {
				return
			}
			c.carried.Add(int64(due - given))
			given = due
		}
		c.mu.Lock()
		c.given[1-end] = time.Now()
		c.mu.Unlock()
	}
}

// sleepUntil is exact to some 60 us; timers of the runtime are to a millisecond,
// which is eleven characters at 115200 baud.
func sleepUntil(t time.Time) {
	if d := time.Until(t); d > 0 {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // a signal ends it early: the caller looks at the clock
	}
}

// take takes the line for n bytes from an end and returns when they begin.
func (c *Cable) take(n, end int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.given[end]; !last.IsZero() {
		c.turns[end], c.given[end] = append(c.turns[end], time.Since(last)), time.Time{}
	}
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
