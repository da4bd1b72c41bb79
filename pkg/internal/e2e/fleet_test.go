package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// configured is what the hub says of the edge's configuration.
type configured struct {
	State, Owner, Detail string
	Desired              uint64 `json:"desired_version"`
	Running              uint64 `json:"running_version"`
}

func (l *line) configuration() (c configured) {
	var list struct {
		Items []struct {
			ID            string
			Configuration *configured
		}
	}
	if getJSON(l.http+"/api/v1/edges", &list) != nil {
		return c
	}
	for _, e := range list.Items {
		if e.ID == edgeID && e.Configuration != nil {
			c = *e.Configuration
		}
	}
	return c
}

// typed runs one of the programs as a person would.
func (l *line) typed(program, config string, args ...string) (out string, err error) {
	l.t.Helper()
	cmd := exec.Command(filepath.Join(bin, program), append(args, "--config", filepath.Join(l.dir, config))...)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err = cmd.Run()
	return text.String(), err
}

func (l *line) configs(args ...string) (string, error) {
	l.t.Helper()
	return l.typed("langbiang-hub", "hub.yaml", append([]string{"edges", "config"}, args...)...)
}

// agentHas is what the agent itself says of its configuration.
func (l *line) agentHas() (c struct {
	Owner   string
	Version uint64
	Trial   bool
},
) {
	out, err := l.typed("langbiang-edge", "edge.yaml", "status", "--json")
	if err != nil {
		return c
	}
	var s struct{ Agent struct{ Configuration any } }
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return c
	}
	again, err := json.Marshal(s.Agent.Configuration)
	if err == nil {
		_ = json.Unmarshal(again, &c) // what cannot be read is nothing
	}
	return c
}

func (l *line) expect(what, out string, err error, fails bool, says ...string) {
	l.t.Helper()
	if (err != nil) != fails {
		l.t.Fatalf("%s: %v\n%s", what, err, out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			l.t.Errorf("%s does not say %q:\n%s", what, s, out)
		}
	}
}

func TestAFleetIsConfiguredFromItsHub(t *testing.T) {
	t.Parallel()
	l := newLine(t, plainRule)
	const within = "20s"
	edge := filepath.Join(l.dir, "edge.yaml")
	own, err := os.ReadFile(edge)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(own), "heartbeat: 1s}", "heartbeat: 1s, rollback_after: "+within+"}", 1)
	// The simulated serial line is not below /dev, where the hub may name ports.
	lines := strings.SplitAfter(text, "\n")
	text = strings.Join(slices.DeleteFunc(lines, func(s string) bool { return strings.Contains(s, "bus-1") }), "")
	l.write("edge.yaml", text)
	_, part, _ := strings.Cut(text, "connections:\n")
	part = "connections:\n" + part
	doc := func(name string, change ...string) string {
		l.write(name, strings.NewReplacer(change...).Replace(part))
		return filepath.Join(l.dir, name)
	}
	l.startHub()
	l.startEdge()
	l.eventually(time.Minute, "the gateway says that it decides", func() bool { return l.configuration().State == "gateway" })

	// What it has becomes what it is to run; it takes nothing until it lets the hub.
	out, err := l.configs("adopt", edgeID, "--why", "as built")
	l.expect("adopt", out, err, false, "version 1", "4 devices", "the gateway decides")
	out, err = l.configs("set", edgeID, doc("b.yaml", "unit: 7, interval: 200ms", "unit: 7, interval: 250ms"))
	l.expect("set", out, err, false, "version 2", "waits until it lets the hub")
	if c := l.configuration(); c.State != "gateway" || c.Running != 0 || c.Desired != 2 {
		t.Errorf("a gateway that decides stands as %+v", c)
	}
	out, err = l.typed("langbiang-edge", "edge.yaml", "owner", "hub")
	l.expect("owner hub", out, err, false, "the running agent has taken it")
	l.eventually(2*time.Minute, "version 2 is confirmed", func() bool { return l.configuration().State == "in_step" })

	// Mistakes are told at the hub, or by the agent, with their places; nothing changes.
	out, err = l.configs("set", edgeID, doc("bad.yaml", "unit: 7,", "unit: 1,", "{url:", "{user: a, password: hunter2, url:"))
	l.expect("set with mistakes", out, err, true, "bad.yaml:4:", "a secret does not belong", "bad.yaml:7:", "is read by")
	out, err = l.configs("set", edgeID, doc("foreign.yaml", "renke/cwt-uwd", "acme/none"), "--wait", "60s")
	l.expect("set with a profile that is nowhere", out, err, true, "(warning)", "REFUSED", `foreign.yaml:6:`, `there is no profile "acme/none"`)
	out, err = l.configs("show", edgeID)
	l.expect("show", out, err, false, "version 3 was REFUSED; version 2 runs", "acme/none")

	// Kills of the agent at any moment of a change leave no trace of it.
	version := uint64(3)
	for i := range 4 {
		version++
		out, err = l.configs("set", edgeID, doc("c.yaml", "unit: 7, interval: 200ms", fmt.Sprintf("unit: 7, interval: %dms", 260+i)), "--wait", "0s")
		l.expect("set", out, err, false, fmt.Sprintf("version %d", version))
		if i%2 == 0 {
			l.eventually(time.Minute, "the agent runs it", func() bool { return l.agentHas().Version == version })
		}
		l.edge.kill()
		l.startEdge()
	}
	l.eventually(2*time.Minute, "the newest is confirmed", func() bool {
		c := l.configuration()
		return c.State == "in_step" && c.Running == version
	})

	// The hub goes while a version is on trial: the edge goes back by itself.
	for tried := false; !tried; {
		version++
		out, err = l.configs("set", edgeID, doc("d.yaml", "unit: 7, interval: 200ms", fmt.Sprintf("unit: 7, interval: %dms", 270+version)), "--wait", "0s")
		l.expect("set", out, err, false, fmt.Sprintf("version %d", version))
		l.eventually(time.Minute, "the agent runs it", func() bool { return l.agentHas().Version == version })
		l.hub.kill()
		l.hub = nil
		if tried = l.agentHas().Trial; !tried {
			l.startHub() // too slow: it was confirmed before
		}
	}
	l.eventually(2*time.Minute, "the agent has gone back", func() bool {
		a := l.agentHas()
		return a.Version != 0 && a.Version < version && !a.Trial
	})
	l.startHub()
	l.eventually(2*time.Minute, "the hub knows", func() bool {
		c := l.configuration()
		return c.State == "rolled_back" && c.Running < version && strings.Contains(c.Detail, "the hub was not heard of within "+within)
	})

	// Somebody edits edge.yaml: it is not used, shown on both sides, and can be taken over.
	l.write("edge.yaml", strings.Replace(l.read("edge.yaml"), "unit: 7, interval: 200ms", "unit: 7, interval: 300ms", 1))
	out, err = l.typed("langbiang-edge", "edge.yaml", "reload")
	l.expect("reload", out, err, false, "the hub decides: filters, connections and devices are those of its version")
	out, err = l.configs("adopt", edgeID)
	l.expect("adopt", out, err, false, "4 devices")
	l.eventually(2*time.Minute, "what was edited is in step", func() bool { return l.configuration().State == "in_step" })
	out, err = l.configs("show", edgeID)
	l.expect("show", out, err, false, "unit: 7, interval: 300ms")
	l.write("edge.yaml", strings.Replace(l.read("edge.yaml"), "unit: 7, interval: 300ms", "unit: 7, interval: 400ms", 1))
	_, _ = l.typed("langbiang-edge", "edge.yaml", "reload")
	l.eventually(2*time.Minute, "drift is shown", func() bool { return l.configuration().State == "drift" })
	out, err = l.typed("langbiang-edge", "edge.yaml", "owner")
	l.expect("owner", out, err, false, "were changed on the gateway")
	l.write("edge.yaml", strings.Replace(l.read("edge.yaml"), "{url: \"tcp", "{user: a, password: hunter2, url: \"tcp", 1))
	out, err = l.configs("show", edgeID, "--running")
	l.expect("show of a file with a secret", out, err, true, "a secret does not leave the gateway")
	if strings.Contains(out, "hunter2") {
		t.Errorf("it did:\n%s", out)
	}

	// The gateway takes itself back, and goes on with what was in force.
	out, err = l.typed("langbiang-edge", "edge.yaml", "owner", "gateway")
	l.expect("owner gateway", out, err, false, "the running agent has taken it")
	l.eventually(time.Minute, "the hub knows", func() bool {
		c := l.configuration()
		return c.State == "gateway" && c.Owner == "gateway" && c.Running == 0
	})
	if now := l.read("edge.yaml"); !strings.Contains(now, "interval: 300ms") || strings.Contains(now, "hunter2") || strings.Contains(now, "400ms,") {
		t.Errorf("edge.yaml has not what was in force:\n%s", now)
	}
	out, err = l.typed("langbiang-hub", "hub.yaml", "audit", "--limit", "200")
	l.expect("audit", out, err, false, "edge config adopt "+edgeID, "the gateway lets the hub decide", "rolled back", "the gateway decides")
	l.edge.stop()
	l.hub.stop()
}

func (l *line) read(name string) string {
	l.t.Helper()
	data, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		l.t.Fatal(err)
	}
	return string(data)
}
