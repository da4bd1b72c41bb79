package e2e

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/wire"
)

// silent accepts connections and never says a word on them, as a machine does that
// hangs.
func silent(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
		}
		for _, c := range open {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// term asks a program to end, as the service manager does, and returns how long it
// took. It must end well; how fast is printed, and bounded by what a service manager
// bears.
func (p *process) term() time.Duration {
	p.t.Helper()
	start := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("%s did not stop within 60 s of SIGTERM", p.name)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		p.t.Errorf("%s ended with %v", p.name, p.err)
	}
	return time.Since(start)
}

// amend changes a file of configuration.
func (l *line) amend(name, old, with string) {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		l.t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		l.t.Fatalf("%s has no %q", name, old)
	}
	l.write(name, strings.Replace(string(b), old, with, 1))
}

// stalled asks for something and does not read the answer.
func (l *line) stalled(path string) {
	l.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(l.http, "http://"))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096) // the smaller the sooner it stalls
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: hub\r\n\r\n", path); err != nil {
		l.t.Fatal(err)
	}
}

// start is the number of the agent's start that the hub has come to.
func (l *line) start() uint32 {
	b, err := hex.DecodeString(l.position().Epoch)
	if err != nil || len(b) != 16 {
		return 0
	}
	return wire.EpochFrom([16]byte(b)).Start
}

// Told to stop while everything around it hangs, an agent commits what it has read, and
// a hub what it has taken; both end well. How long it took is printed; the goal is 5 s.
func TestToldToStopWhileAllAroundHangsBothProgramsCommitAndEnd(t *testing.T) {
	l := newLine(t, plainRule)
	hangs := silent(t)
	l.amend("hub.yaml", "rules:", fmt.Sprintf(`deliver:
  webhooks:
    - {name: dead, url: "http://%s/", allow_private: true, from: oldest, timeout: 5m}
    - {name: gone, url: "http://127.0.0.1:1/", allow_private: true, from: oldest}
  alertmanagers: [{name: am, url: "http://%s", timeout: 1m}]
  mqtt: [{name: out, broker: "tcp://%s", timeout: 1m}]
rules:`, hangs, hangs, hangs))
	l.amend("edge.yaml", "devices:", fmt.Sprintf(`  - {id: stuck, modbus: {transport: tcp, address: %q, timeout: 1m}}
  - {id: mute, mqtt: {url: "tcp://%s"}}
  - {id: eyes, camera: {timeout: 1m}}
devices:
  - {id: stuck-1, connection: stuck, unit: 1, points: [{id: level, quantity: water_level, holding: 4}]}
  - {id: mute-1, connection: mute, points: [{id: level, quantity: water_level, topic: x}]}
  - {id: eye-1, profile: generic/rtsp-camera, connection: eyes, interval: 1s, with: {rtsp: "rtsp://%s/a"}}
  - {id: eye-2, profile: generic/snapshot-camera, connection: eyes, interval: 1s, with: {snapshot: "http://%s/s"}}`, hangs, hangs, hangs, hangs))
	l.startHub()
	l.startEdge()
	l.eventually(60*time.Second, "readings arrive", func() bool { return len(l.onTimeOf("air", "pm2_5")) > 10 })
	l.set(pm25Register, 120)
	l.eventually(30*time.Second, "an alert is active", func() bool {
		var list struct{ Items []alert.Alert }
		l.get("/api/v1/alerts?state=active", &list)
		return len(list.Items) > 0
	})
	for range 5 {
		l.stalled("/api/v1/alerts/stream?after=0")
		l.stalled("/api/v1/alerts/events?after=0")
		l.stalled("/api/v1/export?format=csv&match=" + url.QueryEscape(`{edge!=""}`))
	}
	query := url.Values{"query": {`sum(sum_over_time((sum by (device) ({edge!=""}))[5h:1s]))`}, "start": {fmt.Sprint(time.Now().Add(-10 * 24 * time.Hour).Unix())}, "end": {fmt.Sprint(time.Now().Unix())}, "step": {"90s"}}
	for range 2 {
		go func() {
			resp, err := http.Get(l.http + "/prometheus/api/v1/query_range?" + query.Encode())
			if err == nil {
				_ = resp.Body.Close()
			}
		}()
	}
	<-time.After(time.Second) // the queries run by now; if not, nothing is lost but weight

	took := l.hub.term()
	t.Logf("the hub took %v", took.Round(time.Millisecond))
	l.hub = nil
	took = l.edge.term()
	t.Logf("the agent took %v", took.Round(time.Millisecond))
	l.edge = nil

	accepted, last := l.accepted()
	l.startHub()
	l.startEdge()
	l.eventually(60*time.Second, "the hub has caught up", func() bool { return l.start() > last.Epoch.Start })
	again := l.handOver()
	for k, readings := range accepted {
		for at, v := range readings {
			if w, ok := again[k][at]; !ok || v != w {
				t.Errorf("%v at %d was in the log and is not now", k, at)
			}
		}
	}

	// The hub is there and hangs; then it is a machine that takes connections and no more.
	_, last = l.accepted()
	l.startEdge()
	l.eventually(60*time.Second, "readings arrive again", func() bool { return l.start() > last.Epoch.Start })
	if err := l.hub.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	l.set(pm25Register, 20)
	<-time.After(time.Second) // frames wait for an answer
	t.Logf("the agent of a hub that hangs took %v", l.edge.term().Round(time.Millisecond))
	l.edge = start(t, "langbiang-edge", append(l.edgeArgs, "--hub.url", "mqtt://"+hangs)...)
	<-time.After(2 * time.Second)
	t.Logf("the agent of a hub that never answers took %v", l.edge.term().Round(time.Millisecond))
	if err := l.hub.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	_, last = l.accepted()
	l.startEdge()
	l.eventually(60*time.Second, "the hub has caught up once more", func() bool { return l.start() > last.Epoch.Start })
	again = l.handOver()
	onTime, late := l.stored()
	compareStored(t, again, onTime, late, 0)
	l.hub.stop()
}
