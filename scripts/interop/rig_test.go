//go:build interop

package interop

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

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
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it
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
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		s.wait.Wait()
		_ = s.cmd.Wait()
		s.cmd.Process = nil
	}
}

// freePort is the port of a free address.
func freePort(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(drivertest.FreeAddress(t))
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
