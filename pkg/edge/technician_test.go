package edge

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// cabinetFolder is an edge.yaml with a rain gauge that answers, one that refuses a
// register and one that is not there.
func cabinetFolder(t *testing.T, address string) string {
	return files(t, map[string]string{"edge.yaml": fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
clock: {trust: always}
connections:
  - {id: cabinet, modbus: {address: %s, timeout: 1s, retries: 0}}
  - {id: nowhere, modbus: {address: 127.0.0.1:1}}
devices:
  - {id: tank, connection: cabinet, unit: 1, interval: 100ms, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}]}
  - {id: pit, connection: cabinet, unit: 2, interval: 100ms, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}, {id: battery, quantity: battery_voltage, holding: 900, type: uint16, scale: 0.01, unit: V}]}
  - {id: gone, connection: cabinet, unit: 9, interval: 100ms, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}]}
  - {id: far, connection: nowhere, unit: 1, interval: 100ms, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}]}
`, address)})
}

// command runs the command line and returns the exit status and both outputs.
func command(t *testing.T, dir string, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code = Main(ctx, "test", append(args, "--config", filepath.Join(dir, "edge.yaml")), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// commandUntil runs a command that ends with Ctrl-C until enough says so of what it
// has written, and returns the exit status and that.
func commandUntil(t *testing.T, dir string, enough func(out string) bool, args ...string) (code int, out string) {
	t.Helper()
	var text lockedText
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, "test", append(args, "--config", filepath.Join(dir, "edge.yaml")), &text, &text)
	}()
	testutil.Eventually(t, time.Minute, strings.Join(args, " ")+" shows what is looked for", func() bool {
		if len(ended) > 0 {
			t.Fatalf("%s: exit %d\n%s", strings.Join(args, " "), <-ended, text.String())
		}
		return enough(text.String())
	})
	interrupt()
	return <-ended, text.String()
}

func wantLines(t *testing.T, what, text string, lines ...string) {
	t.Helper()
	folded := strings.Join(strings.Fields(text), " ")
	for _, l := range lines {
		if !strings.Contains(folded, l) {
			t.Errorf("%s does not say %q:\n%s", what, l, text)
		}
	}
}

func cabinetField(t *testing.T) string {
	field := &drivertest.Field{}
	field.Holding(1, 4, 1834)
	field.Holding(2, 4, 520)
	return field.ServeTCP(t).Address
}

func TestReadWithoutAnAgentAsksTheDevicesThemselves(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	code, out, errs := command(t, dir, "read")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	wantLines(t, "read", out,
		"tank level 1.83 m good", "pit level 0.52 m good", "pit battery - V bad: exception",
		"gone does not answer: unit 9 does not answer (asked for holding 4, timeout 1s)",
		"far does not answer: cannot reach 127.0.0.1:1: connection refused, nothing listens there")
	shown := func(out string) int {
		return strings.Count(strings.Join(strings.Fields(out), " "), "tank level 1.83 m good")
	}
	if code, out := commandUntil(t, dir, func(out string) bool { return shown(out) >= 4 }, "read", "tank", "--watch"); code != 0 {
		t.Errorf("watch without an agent: exit %d\n%s", code, out)
	}
	if code, out, _ := command(t, dir, "read", "pit", "level"); code != 0 || strings.Contains(out, "battery") || !strings.Contains(out, "0.52") {
		t.Errorf("one point: exit %d\n%s", code, out)
	}
}

func TestAMistypedNameIsAnsweredWithTheNearest(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	for _, c := range []struct{ args, want string }{
		{"read tnak", `there is no device "tnak"; did you mean "tank"?`},
		{"read pit batery", `pit has no point "batery"; did you mean "battery"?`},
		{"why piit", `did you mean "pit"?`},
		{"plan fra", `did you mean "far"?`},
	} {
		if code, _, errs := command(t, dir, strings.Fields(c.args)...); code != 2 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit %d, %s", c.args, code, errs)
		}
	}
}

func TestARunningAgentIsAskedWithoutDisturbingItsPolls(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	if code, _, errs := command(t, dir, "status"); code != 1 || !strings.Contains(errs, "no agent is running on this data folder") {
		t.Errorf("without an agent: exit %d, %s", code, errs)
	}
	asked := false
	runAgent(t, dir, func(a *Agent) bool {
		if a.collect.answering() < 2 || a.recorder.readings.Load() < 20 {
			return false
		}
		if asked {
			return true
		}
		asked = true
		_, out, _ := command(t, dir, "status")
		wantLines(t, "status", out, "edge a-01, version test", "clock", "hub mqtt://127.0.0.1:1: not connected",
			"cabinet modbus", "2 of 3", "nowhere modbus 127.0.0.1:1 0 of 1", "tank up", "gone down", "far down")
		_, out, _ = command(t, dir, "read", "tank")
		wantLines(t, "read", out, "tank level 1.83 m good")
		code, out, _ := command(t, dir, "why", "tank")
		wantLines(t, "why", out, "ok device unit 1 answers", "ok points 1 of 1 give values", "STOP hub")
		if code != 1 {
			t.Errorf("the readings stop at the hub, and why ends with %d", code)
		}
		_, out, _ = command(t, dir, "status", "--json")
		wantLines(t, "status --json", out, `"edge": "a-01"`, `"quality": "good"`)
		if code, out := commandUntil(t, dir, func(out string) bool {
			return strings.Count(strings.Join(strings.Fields(out), " "), "tank level 1.83 m good") >= 2
		}, "read", "tank", "--watch"); code != 0 {
			t.Errorf("watch: exit %d\n%s", code, out)
		}
		return true
	})
	if !asked {
		t.Error("the agent was never asked")
	}
	if code, _, errs := command(t, dir, "status"); code != 1 || !strings.Contains(errs, "no agent is running") {
		t.Errorf("after it stopped: exit %d, %s", code, errs)
	}
}

func TestWhySaysWhereReadingsStopAndWhatToTry(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	for device, want := range map[string][]string{
		"tank": {"ok points 1 of 1 give values", "STOP agent not running"},
		"gone": {"ok connection cabinet", "STOP device unit 9 does not answer", "try: its neighbours answer, so the line is good: is this device powered?", "langbiang-edge scan cabinet"},
		"far":  {"STOP connection cannot reach 127.0.0.1:1", "try: is the device or gateway powered, and does ping reach it?"},
		"pit":  {"ok points 1 of 2 give values; bad: battery (exception)", "try: the device refuses a register"},
	} {
		code, out, errs := command(t, dir, "why", device)
		if code != 1 {
			t.Errorf("%s: exit %d, %s", device, code, errs)
		}
		wantLines(t, "why "+device, out, want...)
	}
}

func TestDoctorNamesWhatMustBeMended(t *testing.T) {
	address := cabinetField(t)
	dir := cabinetFolder(t, address)
	code, out, errs := command(t, dir, "doctor")
	if code != 1 || !strings.Contains(errs, "things to mend") {
		t.Errorf("exit %d, %s", code, errs)
	}
	wantLines(t, "doctor", out, "ok version test", "ok cabinet "+address+" takes connections", "MEND nowhere", "MEND hub", "fsync takes",
		"a year to the card", "MEND agent no agent is running")
}
