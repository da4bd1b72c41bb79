//go:build interop

package interop

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// python is Debian's, which has the packages; another may come first in the path.
const python = "/usr/bin/python3"

// server is a program that serves until the test ends.
type server struct {
	cmd  *exec.Cmd
	wait sync.WaitGroup
}

// serve starts a program and returns once it has printed a line that holds ready.
func serve(t *testing.T, ready string, name string, args ...string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(name, args...)}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	seen := make(chan error, 1)
	s.wait.Go(func() {
		lines := bufio.NewScanner(out)
		var all strings.Builder
		for lines.Scan() {
			all.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), ready) {
				select {
				case seen <- nil:
				default:
				}
			}
		}
		select {
		case seen <- errors.New(all.String()):
		default:
		}
	})
	select {
	case err := <-seen:
		if err != nil {
			t.Fatalf("%s ended: %v", name, err)
		}
	case <-time.After(drivertest.Limit):
		t.Fatalf("%s is not ready", name)
	}
	return s
}

func (s *server) stop() {
	if s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		s.wait.Wait()
		_ = s.cmd.Wait()
		s.cmd.Process = nil
	}
}

// freePort returns one that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// start runs a driver until the test, or stop, ends it.
func start(t *testing.T, src driver.Source, sink driver.Sink, devices ...*driver.Device) (drv driver.Driver, stop func()) {
	t.Helper()
	drv, err := src.New("conn", devices, driver.Env{Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := drv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return drv, stop
}

// cable joins two pseudo-terminals. A byte takes as long on it as at the speed, as
// on a serial line; ends a and b are what programs open.
type cable struct {
	a, b string

	mu    sync.Mutex
	bytes int
}

func newCable(t *testing.T, baud int) *cable {
	t.Helper()
	c := &cable{}
	var masters [2]*os.File
	for i := range masters {
		m, s, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw(t, s)
		fd, err := unix.Dup(int(m.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.Close(), unix.SetNonblock(fd, true)); err != nil {
			t.Fatal(err)
		}
		masters[i] = os.NewFile(uintptr(fd), "cable")
		t.Cleanup(func() { _ = s.Close() }) // kept open: without any opener the master reads errors
		if i == 0 {
			c.a = s.Name()
		} else {
			c.b = s.Name()
		}
	}
	var wg sync.WaitGroup
	for i := range masters {
		from, to := masters[i], masters[1-i]
		wg.Go(func() { c.carry(from, to, time.Second*11/time.Duration(baud)) })
	}
	t.Cleanup(func() {
		_ = masters[0].Close()
		_ = masters[1].Close()
		wg.Wait()
	})
	return c
}

// raw makes the line discipline leave the bytes alone.
func raw(t *testing.T, f *os.File) {
	t.Helper()
	tio, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	tio.Iflag, tio.Oflag, tio.Lflag = 0, 0, 0
	tio.Cflag = tio.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, tio); err != nil {
		t.Fatal(err)
	}
}

// carry gives byte after byte at the pace of the line. Where the timer is too
// coarse it gives several at once, as the buffer of an adapter does.
func (c *cable) carry(from io.Reader, to io.Writer, each time.Duration) {
	buf := make([]byte, 4096)
	next := time.Now()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if now := time.Now(); now.After(next) {
			next = now
		}
		for i := 0; i < n; {
			k := min(n-i, max(1, int(time.Millisecond/each)))
			next = next.Add(time.Duration(k) * each)
			timer.Reset(time.Until(next)) // the line's own time, nothing is waited for
			<-timer.C
			if _, err := to.Write(buf[i : i+k]); err != nil {
				return
			}
			i += k
		}
		c.mu.Lock()
		c.bytes += n
		c.mu.Unlock()
	}
}
