package edge

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
)

const reloadHead = `
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
clock: {trust: always}
`

func tankPoint(register int) string {
	return fmt.Sprintf(`points: [{id: level, quantity: water_level, holding: %d, type: uint16, scale: 0.001, unit: m}]`, register)
}

// While a device is added, another changed and a third removed, a fourth on a
// connection of its own is read on as if nothing were: by the same driver, not one
// reading lost or under another's name.
func TestAReloadRestartsOnlyWhatChanged(t *testing.T) {
	left, right := &drivertest.Field{}, &drivertest.Field{}
	for unit := range 4 {
		left.Holding(unit+1, 4, uint16(1000+unit))
		left.Holding(unit+1, 5, uint16(2000+unit))
		right.Holding(unit+1, 4, uint16(3000+unit))
	}
	connections := fmt.Sprintf(`
connections:
  - {id: left, modbus: {address: %s}}
  - {id: right, modbus: {address: %s}}
`, left.ServeTCP(t).Address, right.ServeTCP(t).Address)
	device := func(id, connection string, unit, register int) string {
		return fmt.Sprintf("  - {id: %s, connection: %s, unit: %d, interval: 100ms, %s}\n", id, connection, unit, tankPoint(register))
	}
	before := reloadHead + connections + "devices:\n" + device("gone", "left", 1, 4) + device("changed", "left", 2, 4) + device("steady", "right", 1, 4)
	after := reloadHead + connections + "devices:\n" + device("steady", "right", 1, 4) + device("changed", "left", 2, 5) + device("added", "left", 3, 4)
	dir := files(t, map[string]string{"edge.yaml": before})
	path := filepath.Join(dir, "edge.yaml")
	reloads, marked := 0, uint64(0)
	runAgent(t, dir, func(a *Agent) bool {
		switch n := a.recorder.readings.Load(); {
		case reloads == 0 && a.collect.answering() == 3 && n > 20:
			if err := os.WriteFile(path, []byte(after), 0o600); err != nil {
				t.Fatal(err)
			}
			driverOf := func() any {
				a.driversMu.Lock()
				defer a.driversMu.Unlock()
				return a.drivers["right"]
			}
			undisturbed := driverOf()
			out, err := a.Reload(t.Context())
			if driverOf() != undisturbed {
				t.Error("steady is read by another driver than before")
			}
			if err != nil || strings.Join(out.Kept, ",") != "right" || strings.Join(out.Started, ",") != "left" || strings.Join(out.Stopped, ",") != "left" || len(out.Restart) != 0 {
				t.Errorf("reload: %+v, %v", out, err)
			}
			reloads, marked = 1, a.recorder.readings.Load()
		case reloads == 1 && a.collect.answering() == 3 && n > marked+30:
			return true
		}
		return false
	})
	_, newest := logged(t, dir)
	for series, want := range map[string]float64{"gone/level": 1.000, "changed/level": 2.001, "steady/level": 3.000, "added/level": 1.002} {
		if r, ok := newest[series]; !ok || r.Value != want || r.Quality.IsBad() {
			t.Errorf("%s: %v (%v, there: %v), want %v", series, r.Value, r.Quality, ok, want)
		}
	}
	steady := 0
	for _, r := range everyReading(t, dir) {
		switch {
		case r.series == "steady/level" && r.Value != 3.000, r.series == "gone/level" && r.Value != 1.000,
			r.series == "added/level" && r.Value != 1.002, r.series == "changed/level" && r.Value != 1.001 && r.Value != 2.001:
			t.Errorf("%s reads %v", r.series, r.Value)
		case r.series == "steady/level":
			steady++
		}
	}
	if steady < 5 {
		t.Errorf("steady was read %d times", steady)
	}
}

func TestAFaultyReloadChangesNothing(t *testing.T) {
	field := &drivertest.Field{}
	field.Holding(1, 4, 1500)
	good := reloadHead + fmt.Sprintf("connections: [{id: left, modbus: {address: %s}}]\ndevices:\n  - {id: tank, connection: left, unit: 1, interval: 100ms, %s}\n", field.ServeTCP(t).Address, tankPoint(4))
	dir := files(t, map[string]string{"edge.yaml": good})
	path := filepath.Join(dir, "edge.yaml")
	tried, marked := false, uint64(0)
	text := runAgent(t, dir, func(a *Agent) bool {
		n := a.recorder.readings.Load()
		if !tried && n > 5 {
			tried = true
			if err := os.WriteFile(path, []byte(strings.Replace(good, "water_level", "water_leve", 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "edge.yaml:8:") || !strings.Contains(err.Error(), `did you mean "water_level"?`) {
				t.Errorf("the fault is told as %v", err)
			}
			if code, _, errs := command(t, dir, "reload"); code != 2 || !strings.Contains(errs, "edge.yaml:8:") {
				t.Errorf("reload: exit %d, %s", code, errs)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(good, "send_every: 50ms", "send_every: 60ms", 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out, errs := command(t, dir, "reload")
			if code != 0 || !strings.Contains(out, "undisturbed: left") || !strings.Contains(out, "taken at the next start of the agent (systemctl restart langbiang-edge): hub") {
				t.Errorf("reload: exit %d\n%s%s", code, out, errs)
			}
			marked = n
		}
		return tried && n > marked+10
	})
	if !strings.Contains(text, "the agent goes on as before") {
		t.Errorf("the log does not say so:\n%s", text)
	}
}

func TestReloadWithoutAnAgentSaysSo(t *testing.T) {
	dir := files(t, map[string]string{"edge.yaml": reloadHead})
	if code, _, errs := command(t, dir, "reload"); code != 1 || !strings.Contains(errs, "no agent is running") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
