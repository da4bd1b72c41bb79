//go:build interop

package interop

import (
	"bytes"
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
	"testing"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
)

// deafWay leads to a broker; while deaf, what the client says after its connecting
// and subscribing gets lost: its acknowledgements.
type deafWay struct {
	address string
	deaf    atomic.Bool
	swallow atomic.Int64
}

func newDeafWay(t *testing.T, to string) *deafWay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &deafWay{address: ln.Addr().String()}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			broker, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, client, broker)
			mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(client, broker); _ = client.Close() })
			wg.Go(func() {
				defer func() { _ = broker.Close() }()
				buf := make([]byte, 4096)
				for {
					n, err := client.Read(buf)
					if err != nil {
						return
					}
					if w.deaf.Load() {
						w.swallow.Add(int64(n))
						continue
					}
					if _, err := broker.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return w
}

// An agent is killed between the commit of messages and their acknowledgement. The
// broker gives them again; each stands in the log once.
func TestMosquittoAndAnAgentThatIsKilledBeforeItsAcknowledgements(t *testing.T) {
	m := newMosquitto(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "langbiang-edge")
	build := exec.Command("go", "build", "-o", program, "../../cmd/edge")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	way := newDeafWay(t, "127.0.0.1:"+m.plain)
	config := filepath.Join(dir, "edge.yaml")
	yaml := fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
buffer: {commit_every: 100ms}
clock: {trust: always}
connections: [{id: local, mqtt: {url: "tcp://%s", max_reconnect: 200ms}}]
devices: [{id: room, connection: local, points: [{id: n, quantity: person_count, topic: z/room}]}]
`, way.address)
	if err := os.WriteFile(config, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() *exec.Cmd {
		c := exec.Command(program, "run", "--config", config)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	kill := func(c *exec.Cmd) { _ = c.Process.Kill(); _ = c.Wait() }
	// times is how often a value stands in the log, as far as it is on the disk.
	times := func(v int) int {
		out, err := exec.Command(program, "queue", "dump", "--config", config, "--device", "room", "--point", "n").Output()
		if err != nil {
			var failed *exec.ExitError
			if errors.As(err, &failed) {
				t.Log(string(failed.Stderr))
			}
			return 0 // there is no log yet
		}
		return strings.Count(string(bytes.ReplaceAll(out, []byte(" "), nil)), fmt.Sprintf(`"value":%d,`, v)) +
			strings.Count(string(bytes.ReplaceAll(out, []byte(" "), nil)), fmt.Sprintf(`"value":%d}`, v))
	}
	agent := run()
	defer func() { kill(agent) }()
	drivertest.Until(t, "the agent has subscribed", func() bool { m.publish("z/room", "1", 1, false); return times(1) > 0 })
	m.publish("z/room", "2", 1, false) // once more, so that the broker is known to count
	drivertest.Until(t, "all is acknowledged", func() bool { return times(2) == 1 })
	for round := range 3 {
		first := 100 * (round + 1)
		way.deaf.Store(true)
		before := way.swallow.Load()
		for i := range 5 { // one after the other: a series has one reading in a millisecond
			m.publish("z/room", fmt.Sprint(first+i), 1, false)
			drivertest.Until(t, "committed", func() bool { return times(first+i) == 1 })
		}
		drivertest.Until(t, "the acknowledgements are under way", func() bool { return way.swallow.Load() > before })
		kill(agent)
		way.deaf.Store(false)
		agent = run()
		m.publish("z/room", fmt.Sprint(first+5), 1, false)
		drivertest.Until(t, "what came while it was down", func() bool { return times(first+5) == 1 })
		m.publish("z/room", fmt.Sprint(first+6), 1, false)
		drivertest.Until(t, "what comes afterwards", func() bool { return times(first+6) == 1 })
		for v := first; v <= first+6; v++ {
			if n := times(v); n != 1 {
				t.Errorf("round %d: message %d stands in the log %d times", round, v, n)
			}
		}
	}
}
