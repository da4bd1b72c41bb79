package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// bin holds the programs under test, built once.
var bin string

func TestMain(m *testing.M) {
	if clock := os.Getenv(clockEnv); clock != "" {
		if err := runSteppedEdge(os.Args[1], clock); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "langbiang-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		bin = dir
		for name, pkg := range map[string]string{
			"langbiang-edge": "../../../cmd/edge", "langbiang-hub": "../../../cmd/hub", "fieldsim": "../../../scripts/fieldsim", "demo": "../../../scripts/demo",
		} {
			cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
			if out, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// process is a program that the test started. Its output is shown when the test
// fails.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	err  error
}

// output keeps the newest part of what a program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() > 1<<20 {
		o.buf.Next(o.buf.Len() / 2)
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, name, exec.Command(filepath.Join(bin, name), args...))
}

func startCommand(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: cmd, out: &output{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			text := p.out.String()
			t.Logf("%s printed:\n%s", name, text[max(0, len(text)-6000):])
		}
	})
	return p
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the program as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// stop asks the program to end and expects that it does so, cleanly and soon.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Fatalf("%s did not stop within a minute", p.name)
	}
	var exit *exec.ExitError
	if p.err != nil && errors.As(p.err, &exit) {
		p.t.Fatalf("%s ended with %v", p.name, p.err)
	}
}

// eventually waits for a condition, and fails at once when a program has died.
func (l *line) eventually(limit time.Duration, what string, cond func() bool) {
	l.t.Helper()
	testutil.Eventually(l.t, limit, what, func() bool {
		for _, p := range []*process{l.hub, l.edge, l.field} {
			if p != nil && !p.alive() {
				l.t.Fatalf("%s died (%v) while waiting: %s", p.name, p.err, what)
			}
		}
		return cond()
	})
}
