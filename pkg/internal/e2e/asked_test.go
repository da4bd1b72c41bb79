package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// pipe carries bytes that nobody in the middle can read: TLS. It counts and cuts them.
type pipe struct {
	ln     net.Listener
	target string
	bytes  atomic.Int64 // both ways
	wg     sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
	down bool
}

func newPipe(t *testing.T, target string) *pipe {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{ln: ln, target: target, open: map[net.Conn]struct{}{}}
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.cut(true)
		p.wg.Wait()
	})
	return p
}

// keep notes a connection, unless the link is down.
func (p *pipe) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		_ = c.Close()
		return false
	}
	p.open[c] = struct{}{}
	return true
}

func (p *pipe) serve(edge net.Conn) {
	hub, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(edge) || !p.keep(hub) {
		_ = edge.Close()
		return
	}
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{edge, hub}, {hub, edge}} {
		wg.Go(func() {
			n, _ := io.Copy(tally{way[0], &p.bytes}, way[1]) // it ends when one of them does
			_ = n
			_, _ = way[0].Close(), way[1].Close()
		})
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, edge)
	delete(p.open, hub)
}

type tally struct {
	io.Writer
	n *atomic.Int64
}

func (c tally) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.Writer.Write(b)
}

// cut ends all connections, and with down none is made any more.
func (p *pipe) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for c := range p.open {
		_ = c.Close()
	}
}

// remoteField is a hub with TLS on both listeners and an enrolled gateway that costs.
type remoteField struct {
	t         *testing.T
	dir       string
	link      *pipe
	hub, edge *process
}

func newRemoteField(t *testing.T) *remoteField {
	t.Helper()
	r := &remoteField{t: t, dir: t.TempDir()}
	web, bus := testutil.FreeAddress(t), testutil.FreeAddress(t)
	r.link = newPipe(t, bus)
	r.write("hub.yaml", fmt.Sprintf("data_dir: ./hub\nhttp: {listen: %q, tls: on}\nmqtt: {listen: %q, tls: on}\nclock: {require_sync: false}\nsites: ./sites.yaml\n", web, bus))
	r.write("sites.yaml", "sites:\n  - {id: \"24848\", name: {vi: Lạc Dương, en: Lac Duong}, edges: [lac-duong-01]}\n")
	r.write("edge.yaml", `
edge: {id: lac-duong-01, site: "24848"}
data_dir: ./edge
hub: {url: "mqtt://127.0.0.1:1", link: metered}
clock: {trust: always}
connections:
  - {id: cabinet, modbus: {address: "127.0.0.1:1", timeout: 300ms}}
devices:
  - {id: tank, connection: cabinet, unit: 7, interval: 1s, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}]}
`)
	r.startHub()
	out, _ := r.run("langbiang-hub", "hub.yaml", "edges", "token", "--edge", "lac-duong-01", "--site", "24848")
	line := strings.Fields(out) // sudo langbiang-edge enroll HUB TOKEN
	if len(line) < 2 {
		t.Fatalf("no line to paste: %q", out)
	}
	if out, code := r.run("langbiang-edge", "edge.yaml", "enroll", line[len(line)-2], line[len(line)-1]); code != 0 {
		t.Fatalf("enroll: exit %d\n%s", code, out)
	}
	return r
}

func (r *remoteField) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(strings.TrimLeft(text, "\n")), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// run runs a command to its end and returns what it printed, and its exit status.
func (r *remoteField) run(program, config string, args ...string) (out string, code int) {
	r.t.Helper()
	cmd := exec.Command(filepath.Join(bin, program), append(args, "--config", filepath.Join(r.dir, config))...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func (r *remoteField) startHub() {
	r.t.Helper()
	r.hub = start(r.t, "langbiang-hub", "run", "--config", filepath.Join(r.dir, "hub.yaml"))
	testutil.Eventually(r.t, time.Minute, "the hub runs", func() bool {
		if !r.hub.alive() {
			r.t.Fatalf("the hub died: %v", r.hub.err)
		}
		return strings.Contains(r.hub.out.String(), "hub runs")
	})
}

func (r *remoteField) startEdge(args ...string) {
	r.t.Helper()
	args = append([]string{"run", "--config", filepath.Join(r.dir, "edge.yaml"), "--hub.url", "mqtts://" + r.link.ln.Addr().String()}, args...)
	r.edge = start(r.t, "langbiang-edge", args...)
}

// ask asks as the technician does, until it is answered: the edge may be on its way back.
func (r *remoteField) ask(until string, args ...string) string {
	r.t.Helper()
	var out string
	testutil.Eventually(r.t, 90*time.Second, strings.Join(args, " ")+" says "+until, func() bool {
		out, _ = r.run("langbiang-hub", "hub.yaml", append([]string{"edges", "ask", "lac-duong-01"}, args...)...)
		return strings.Contains(out, until)
	})
	return out
}

// follow begins to follow the log of the agent.
func (r *remoteField) follow(length string) *process {
	r.t.Helper()
	p := start(r.t, "langbiang-hub", "edges", "ask", "lac-duong-01", "log", "--follow", "--for", length, "--config", filepath.Join(r.dir, "hub.yaml"))
	testutil.Eventually(r.t, time.Minute, "the log is shown", func() bool { return strings.Contains(p.out.String(), "kind=log") })
	return p
}

// reload lets the agent log something, and waits until the follower shows it.
func (r *remoteField) reload(p *process) {
	r.t.Helper()
	before := strings.Count(p.out.String(), "configuration reloaded")
	if err := r.edge.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
	testutil.Eventually(r.t, 90*time.Second, "the follower hears of the reload", func() bool {
		if !p.alive() {
			r.t.Fatalf("it ended: %s", p.out.String())
		}
		return strings.Count(p.out.String(), "configuration reloaded") > before
	})
}

func TestAGatewayThatNobodyCanReachIsAskedFromTheHub(t *testing.T) {
	r := newRemoteField(t)
	r.startEdge("--hub.link", "unmetered")
	out := r.ask("ok    agent", "doctor")
	for _, want := range []string{"MEND  cabinet", "thing to mend"} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
	before := r.link.bytes.Load()
	out = r.ask("STOP  connection", "why", "tank")
	t.Logf("why: %d bytes of TLS on the link (TCP's own are not counted); it says: %s", r.link.bytes.Load()-before, last(out))

	// The link is cut in the middle of an answer, which goes on.
	p := r.follow("5m")
	r.reload(p)
	r.link.cut(false)
	r.reload(p)
	// Ctrl-C ends it at both ends: the agent takes another.
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-p.done

	// The hub is stopped in the middle of an answer, and started again.
	p = r.follow("5m")
	r.hub.stop()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatal("the command waits for a hub that is gone")
	}
	if p.err == nil || !strings.Contains(p.out.String(), "the hub") {
		t.Errorf("it ended with %v: %s", p.err, last(p.out.String()))
	}
	r.startHub()
	r.ask("lac-duong-01, version", "status")

	// And killed.
	p = r.follow("5m")
	r.hub.kill()
	<-p.done
	if p.err == nil {
		t.Error("the command says that all went well")
	}
	r.startHub()
	r.ask("lac-duong-01, version", "status")

	// The link is down: what the technician reads is that, and since when.
	r.link.cut(true)
	out = r.ask("the edge is not connected; it was last heard", "doctor")
	t.Log(last(out))
	r.link.cut(false)
	r.ask("lac-duong-01, version", "status")
}

func TestTenTechniciansAskAtOnce(t *testing.T) {
	r := newRemoteField(t)
	r.startEdge()
	r.ask("which is metered", "status")
	var wg sync.WaitGroup
	outs := make([]string, 10)
	for i := range outs {
		wg.Go(func() {
			outs[i], _ = r.run("langbiang-hub", "hub.yaml", "edges", "ask", "lac-duong-01", "log", "--lines", "100")
		})
	}
	wg.Wait()
	good := 0
	for _, out := range outs {
		switch {
		case strings.Contains(out, "agent starts") && strings.Contains(out, "answered in"):
			good++
		case strings.Contains(out, "too many questions at a time"):
		default:
			t.Errorf("neither answered nor sent away:\n%s", out)
		}
	}
	if good == 0 {
		t.Error("nobody was answered")
	}
	t.Logf("%d of 10 were answered, the others sent away", good)
	// Whose gateway it is can forbid it, whatever the hub wants.
	r.edge.stop()
	r.startEdge("--hub.remote", "off")
	r.ask("the gateway does not let itself be asked", "doctor")
}

// last is the last line of a text.
func last(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
