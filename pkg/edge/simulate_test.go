package edge

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/driver/sim"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/profile"
)

// simulating serves dir's edge.yaml until the test ends.
func simulating(t *testing.T, dir string, flags ...string) (out *lockedText) {
	t.Helper()
	out = &lockedText{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, "test", append([]string{"simulate", "--config", filepath.Join(dir, "edge.yaml")}, flags...), out, out)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("simulate ended with %d: %s", code, out)
		}
	})
	testutil.Eventually(t, time.Minute, "the simulation says what to do", func() bool {
		if len(ended) > 0 {
			t.Fatal(out.String())
		}
		return strings.Contains(out.String(), "Ctrl-C ends it")
	})
	return out
}

// everyProfile is an edge.yaml with a device of every built-in profile, and of
// every revision that can be pinned.
func everyProfile(t *testing.T) (yaml string, ids []string) {
	t.Helper()
	q, err := catalogue()
	if err != nil {
		t.Fatal(err)
	}
	lib := profile.Open(q, (&checker{cfg: &Config{}}).profileFolders()...)
	var b strings.Builder
	b.WriteString("edge: {id: all}\ndata_dir: ./data\nhub: {url: \"mqtts://192.0.2.1:8883\"}\nconnections:\n  - {id: line, modbus: {transport: rtu, port: /dev/serial/by-id/none, baud: 115200}}\n")
	for _, c := range []string{"tcp, modbus: {address: 192.0.2.2", "tcp-2, modbus: {address: 192.0.2.3, transport: ascii-over-tcp, baud: 115200", "mqtt, mqtt: {url: \"ssl://192.0.2.4\"", "camera, camera: {user: a, password: b"} {
		fmt.Fprintf(&b, "  - {id: %s}}\n", c)
	}
	b.WriteString("devices:\n")
	unit := map[string]int{}
	for _, id := range lib.IDs() {
		p, err := lib.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		revisions := []string{""}
		for i := range p.Firmware {
			revisions = append(revisions, p.Firmware[i].ID)
		}
		for i, rev := range revisions {
			connection, address, with := p.Protocol, "", ""
			for name, param := range p.With {
				if param.Default == "" { // two devices on one topic would not be two
					with += fmt.Sprintf("%s: %q, ", name, param.Example+strings.Repeat("x", i))
				}
			}
			if p.Protocol == profile.ProtocolModbus {
				connection = []string{"line", "tcp", "tcp-2"}[i%3]
				unit[connection]++
				address = fmt.Sprintf(", unit: %d", unit[connection])
			}
			name := strings.ReplaceAll(id, "/", "-") + "-" + rev
			ids = append(ids, strings.TrimSuffix(name, "-"))
			fmt.Fprintf(&b, "  - {id: %q, profile: %s, connection: %s%s, with: {%s}, interval: 2s", ids[len(ids)-1], id, connection, address, with)
			if rev != "" {
				fmt.Fprintf(&b, ", revision: %q", rev)
			}
			b.WriteString("}\n")
		}
	}
	return b.String(), ids
}

func TestEveryProfileCanBeSimulated(t *testing.T) {
	yaml, ids := everyProfile(t)
	dir := files(t, map[string]string{"edge.yaml": yaml})
	simulating(t, dir)
	o, err := settings.Register(pflag.NewFlagSet("", pflag.ContinueOnError), &Config{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := loadSimulated(filepath.Join(dir, "edge.yaml"), o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := readDirectly(t.Context(), plan, plan.Devices, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Devices) != len(ids) {
		t.Errorf("%d of %d devices", len(plan.Devices), len(ids))
	}
	for _, d := range plan.Devices {
		if st, _ := r.state(d); !st.up {
			t.Errorf("%s does not answer: %s", d.ID, st.detail)
			continue
		}
		if said, ok := r.said[d]; ok && !said.Fits {
			t.Errorf("%s is not what its profile says: %s", d.ID, said.Seen)
		}
		states := plan.states(d)
		for i := range d.Points {
			pt := &d.Points[i]
			x, ok := r.reading(d, i)
			excused := slices.ContainsFunc(states, func(s sim.State) bool { _, bad := s.Bad[pt.ID]; return bad })
			absent := len(d.Revisions) > 0 && x.Quality.Reason().String() == "not_fitted"
			waits := pt.Counter != nil && pt.Counter.Kind == profile.CounterRate && !ok
			if (!ok || x.Quality != 0) && !excused && !absent && !waits {
				t.Errorf("%s %s: %s (read: %v)", d.ID, pt.ID, x.Quality, ok)
			}
			q := plan.Quantities[pt.Quantity]
			if x.Quality == 0 && (q.Min != nil && x.Value < *q.Min || q.Max != nil && x.Value > *q.Max) {
				t.Errorf("%s %s is %v, which is not plausible", d.ID, pt.ID, x.Value)
			}
		}
	}
}

func TestATechnicianTriesAConfigurationWithoutHardware(t *testing.T) {
	const yaml = `
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtts://192.0.2.1:8883, send_every: 100ms}
connections:
  - {id: bus-1, modbus: {transport: rtu, port: /dev/serial/by-id/usb-none, timeout: 500ms}}
  - {id: local, mqtt: {url: "ssl://192.0.2.2"}}
devices:
  - {id: station, profile: ecowitt/ws90, connection: bus-1, unit: 3, interval: 100ms}
  - {id: gauge, connection: bus-1, unit: 9, interval: 200ms, points: [{id: level, quantity: water_level, holding: 4, scale: 0.001, unit: m}]}
  - {id: dead, connection: bus-1, unit: 10, interval: 200ms, points: [{id: level, quantity: water_level, holding: 4}]}
  - {id: air, profile: airgradient/open-air, connection: local, with: {serial: aabbccddeeff}, interval: 100ms}
`
	dir := files(t, map[string]string{"edge.yaml": yaml})
	if code, _, errs := command(t, dir, "read", "--simulated"); code != 2 || !strings.Contains(errs, "start langbiang-edge simulate in another terminal") {
		t.Errorf("without a simulation: exit %d, %s", code, errs)
	}
	said := simulating(t, dir, "--silent", "dead")
	wantLines(t, "simulate", said.String(), "no real device, broker or hub is touched", "bus-1 /dev/serial/by-id/usb-none", "station bus-1 ecowitt/ws90 a shower", "dead bus-1 silent, as you asked", "gauge bus-1 made-up values of its points")
	if code, _, errs := command(t, dir, "simulate"); code != 1 || !strings.Contains(errs, "simulated already") {
		t.Errorf("a second simulation: exit %d, %s", code, errs)
	}
	_, out, _ := command(t, dir, "read", "--simulated", "--for", "30s")
	wantLines(t, "read", out, "station air_temperature 2", "gauge level", "air firmware_version 3.1.3 good", "dead does not answer", "simulated: no value is real")

	ctx, cancel := context.WithCancel(t.Context())
	var log lockedText
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, "test", []string{"run", "--simulated", "--config", filepath.Join(dir, "edge.yaml")}, &log, &log)
	}()
	defer func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("the agent ended with %d: %s", code, log.String())
		}
	}()
	testutil.Eventually(t, time.Minute, "the agent reads all devices", func() bool {
		_, out, _ := command(t, dir, "status", "--simulated")
		return strings.Contains(strings.Join(strings.Fields(out), " "), "bus-1 2 of 3") || strings.Contains(out, "2 of 3") && strings.Contains(out, "1 of 1")
	})
	_, out, _ = command(t, dir, "status", "--simulated")
	wantLines(t, "status", out, "edge a-01-simulated", "devices simulated: no value is real", "hub none: simulated readings are sent nowhere")
	testutil.Eventually(t, time.Minute, "all is well with the station", func() bool {
		code, out, _ := command(t, dir, "why", "station", "--simulated")
		text := strings.Join(strings.Fields(out), " ")
		return code == 0 && strings.Contains(text, "ok device unit 3 answers") && strings.Contains(text, "ok hub none")
	})
	testutil.Eventually(t, time.Minute, "the silent device is missed", func() bool {
		_, out, _ = command(t, dir, "why", "dead", "--simulated")
		return strings.Contains(strings.Join(strings.Fields(out), " "), "STOP device unit 10 does not answer")
	})
	seen := map[string]bool{}
	testutil.Eventually(t, time.Minute, "a value moves", func() bool {
		_, out, _ := command(t, dir, "read", "gauge", "--simulated")
		if _, shown, ok := strings.Cut(out, "level"); ok {
			seen[strings.Fields(shown)[0]] = true
		}
		return len(seen) > 1
	})
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("the data folder of the real agent was made")
	}

	// A fault in the file changes nothing, a further device is taken up.
	path := filepath.Join(dir, "edge.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(yaml + "  - {id: pit, connection: buss-1, unit: 11, points: []}\n")
	testutil.Eventually(t, time.Minute, "the fault is told", func() bool { return strings.Contains(said.String(), "the simulation stays as it was") })
	write(yaml + "  - {id: pit, connection: bus-1, unit: 11, points: [{id: level, quantity: water_level, input: 2}]}\n")
	testutil.Eventually(t, time.Minute, "the device is taken up", func() bool { return strings.Contains(said.String(), "5 devices of 2 connections now") })
	if code, out, errs := command(t, dir, "reload", "--simulated"); code != 0 || !bytes.Contains([]byte(out), []byte("started: bus-1")) {
		t.Errorf("reload: exit %d, %s %s", code, out, errs)
	}
	testutil.Eventually(t, time.Minute, "the device is read", func() bool {
		_, out, _ := command(t, dir, "status", "--simulated")
		return strings.Contains(out, "3 of 4")
	})
}
