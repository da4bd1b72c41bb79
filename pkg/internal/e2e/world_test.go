package e2e

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// world is a hub, a field and several edges, each edge with a bad network of its
// own between it and the hub.
type world struct {
	t             *testing.T
	dir           string
	http, control string
	hub, field    *process
	fieldArgs     []string
	stations      []*station
	ns            *namespace   // of field and edges; nil: all is on loopback
	toField       *http.Client // reaches the field and the agents
	hubTmpfs      bool
	hubCopy       string // a copy of the hub's folder, taken while it was down
	patient       bool   // there is time for what takes the edge a minute to notice
}

// station is one edge.
type station struct {
	w     *world
	id    string
	dir   string
	http  string // of its metrics
	agent *process
	proxy *proxy
	clock clockFile
	tmpfs bool
	image string // a copy of its disk, taken while it was down
	eras  bool   // its clock has stepped
	facts *facts
}

const torturedRule = plainRule

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), toField: http.DefaultClient}
	ns, err := newNamespace(t)
	proxyHost := "127.0.0.1"
	switch {
	case err != nil:
		t.Logf("all on loopback, no network namespace: %v", err)
	case ns.netem:
		t.Log("field and edges in a network namespace; with tc netem")
	default:
		t.Log("field and edges in a network namespace; this kernel has no tc netem")
	}
	if err == nil {
		w.ns, w.toField, proxyHost = ns, ns.client(), ns.addr
	}
	httpAddr, mqtt, modbus, broker, control := testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t)
	w.http, w.control = "http://"+httpAddr, "http://"+control
	w.hubTmpfs = mountSmall(t, filepath.Join(w.dir, "hub"), 256<<20)
	w.write("hub.yaml", fmt.Sprintf(`
data_dir: ./hub/data
http: {listen: %q, auth: off}
mqtt: {listen: %q}
store: {min_free: 4MiB}
clock: {require_sync: false}
ingest: {checkpoint_every: 300ms}
rules: [./rules.yaml]
`, httpAddr, mqtt))
	w.write("rules.yaml", torturedRule)
	w.fieldArgs = []string{"--modbus-tcp", modbus, "--mqtt", broker, "--control", control, "--steady"}
	boot := time.Now().Add(-time.Hour).UnixMilli()
	for i, id := range []string{"steady-01", "drift-01"} {
		s := &station{w: w, id: id, dir: filepath.Join(w.dir, id), facts: newFacts(t, id)}
		s.tmpfs = mountSmall(t, s.dir, 64<<20)
		s.http = testutil.FreeAddress(t)
		s.proxy = newProxy(t, proxyHost, mqtt, seed+uint64(i), s.facts.send)
		s.clock = clockFile{Synced: true, BootMS: boot, Boot: bootName(uint64(i))}
		w.write(id+".yaml", fmt.Sprintf(`
edge: {id: %s, site: "24848"}
data_dir: ./%s/data
hub: {url: "mqtt://%s", insecure: true, send_every: 200ms, heartbeat: 1s}
buffer: {commit_every: 400ms}
http: {listen: %q}
connections:
  - {id: cabinet, modbus: {transport: tcp, address: %q, timeout: 300ms}}
  - {id: local, mqtt: {url: "tcp://%s"}}
devices:
  - {id: air, profile: renke/cwt-uwd, connection: cabinet, unit: 1, interval: 200ms}
  - {id: tank, connection: cabinet, unit: 7, interval: 200ms, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}]}
  - {id: gate-cam, profile: frigate/camera, connection: local, with: {camera: gate}}
`, id, id, s.proxy.addr(), s.http, modbus, broker))
		w.stations = append(w.stations, s)
	}
	return w
}

func bootName(n uint64) string { return hex.EncodeToString(fmt.Appendf(nil, "boot%012d", n)) }

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(strings.TrimLeft(text, "\n")), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// mountSmall puts a small file system of its own under a folder, where we may, so
// that it can be filled without filling the machine's disk.
func mountSmall(t *testing.T, dir string, size int64) bool {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Logf("no file system of its own for %s (%v): its disk will not be filled", filepath.Base(dir), err)
		return false
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return true
}

// alive fails the test when a program has died that nobody killed.
func (w *world) alive(what string) {
	w.t.Helper()
	list := []*process{w.hub, w.field}
	for _, s := range w.stations {
		list = append(list, s.agent)
	}
	for _, p := range list {
		if p != nil && !p.alive() {
			w.t.Fatalf("%s died (%v): %s", p.name, p.err, what)
		}
	}
}

func (w *world) eventually(limit time.Duration, what string, cond func() bool) {
	w.t.Helper()
	testutil.Eventually(w.t, limit, what, func() bool {
		w.alive("while waiting: " + what)
		return cond()
	})
}

func answers(c *http.Client, url string) bool {
	resp, err := c.Get(url)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (w *world) startField() {
	w.t.Helper()
	w.field = startCommand(w.t, "fieldsim", w.within(exec.Command(filepath.Join(bin, "fieldsim"), w.fieldArgs...)))
	w.eventually(time.Minute, "the field serves", func() bool { return answers(w.toField, w.control+"/state") })
}

// within makes a command run where field and edges are.
func (w *world) within(cmd *exec.Cmd) *exec.Cmd {
	if w.ns == nil {
		return cmd
	}
	return w.ns.command(cmd)
}

func (w *world) startHub() {
	w.t.Helper()
	w.hub = start(w.t, "langbiang-hub", "run", "--config", filepath.Join(w.dir, "hub.yaml"))
	w.eventually(time.Minute, "the hub is ready", func() bool { return answers(http.DefaultClient, w.http+"/readyz") })
}

func (s *station) start() {
	s.w.t.Helper()
	clock := filepath.Join(s.w.dir, s.id+".clock")
	if err := s.clock.write(clock); err != nil {
		s.w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], filepath.Join(s.w.dir, s.id+".yaml"))
	cmd.Env = append(os.Environ(), clockEnv+"="+clock)
	s.agent = startCommand(s.w.t, s.id, s.w.within(cmd))
}

// kill ends the agent as SIGKILL does, and takes down what its log holds.
func (s *station) kill() {
	s.w.t.Helper()
	s.agent.kill()
	s.agent = nil
	s.facts.audit(s.logDir())
}

func (s *station) logDir() string { return filepath.Join(s.dir, "data", "log") }

func (w *world) killHub() {
	w.hub.kill()
	w.hub = nil
}

// control asks the field for something; a field that is down does not answer.
func (w *world) post(path string) {
	resp, err := w.toField.Post(w.control+path, "", http.NoBody)
	if err == nil {
		_ = resp.Body.Close()
	}
}

func (w *world) setLevel(v int) {
	w.post(fmt.Sprintf("/set?unit=1&register=%d&value=%d", pm25Register, v))
}

// edgeState is what the hub says of an edge.
type edgeState struct {
	ID, Status, Detail string
	place
	Gaps []struct{ Reason string }
}

// state asks the hub; ok is false while it does not answer or knows no such edge.
func (w *world) state(id string) (e edgeState, ok bool) {
	var list struct{ Items []edgeState }
	if err := getJSON(w.http+"/api/v1/edges", &list); err != nil {
		return e, false
	}
	for _, e := range list.Items {
		if e.ID == id {
			return e, true
		}
	}
	return e, false
}
