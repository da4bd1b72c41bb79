package edge

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
)

func valveFolder(t *testing.T) string {
	field := &drivertest.Field{}
	field.Holding(1, 4, 300)
	field.Holding(1, 5, 1834)
	return files(t, map[string]string{"edge.yaml": fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
clock: {trust: always}
connections: [{id: cabinet, modbus: {address: %s}}]
devices:
  - {id: gate, connection: cabinet, unit: 1, interval: 100ms, points: [{id: limit, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m, writable: {min: 0.1, max: 5}}, {id: level, quantity: water_level, holding: 5, type: uint16, scale: 0.001, unit: m}]}
`, field.ServeTCP(t).Address)})
}

func TestAWriteReadsBackWithAndWithoutAnAgent(t *testing.T) {
	dir := valveFolder(t)
	if code, out, errs := command(t, dir, "write", "gate", "limit", "1.25", "--yes"); code != 0 || !strings.Contains(out, "written; limit of gate reads 1.25 m now") {
		t.Errorf("without an agent: exit %d, %s%s", code, out, errs)
	}
	done := false
	runAgent(t, dir, func(a *Agent) bool {
		if !done && a.collect.answering() == 1 {
			done = true
			if code, out, errs := command(t, dir, "write", "gate", "limit", "2.5", "--yes"); code != 0 || !strings.Contains(out, "limit of gate reads 2.5 m now") {
				t.Errorf("through the agent: exit %d, %s%s", code, out, errs)
			}
			return false
		}
		r, ok := agentNewest{a}.reading(a.plan.Devices[0], 0)
		return done && ok && r.Value == 2.5 // the polls see it
	})
}

func TestNothingIsWrittenThatWasNotMeant(t *testing.T) {
	dir := valveFolder(t)
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"write gate limt 1", `did you mean "limit"?`, 2},
		{"write gate level 1", `gate has no point "level" that may be written`, 2},
		{"write gat limit 1", `did you mean "gate"?`, 2},
		{"write gate limit 7 --yes", "gate.limit:", 1},
		{"write gate limit much --yes", "gate.limit:", 1},
	} {
		if code, out, errs := command(t, dir, strings.Fields(c.args)...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit %d, %s%s", c.args, code, out, errs)
		}
	}
	_, out, _ := command(t, dir, "read", "gate", "limit")
	if !strings.Contains(out, "0.30") {
		t.Errorf("the limit is\n%s", out)
	}
}

func TestAWriteAsksFirst(t *testing.T) {
	dir := valveFolder(t)
	for answer, code := range map[string]int{"n\n": 1, "": 1, "\n": 1, "y\n": 0} {
		in, err := os.CreateTemp(t.TempDir(), "answer")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		stdin := os.Stdin
		os.Stdin = in
		var out bytes.Buffer
		got := Main(t.Context(), "test", []string{"write", "gate", "limit", "0.9", "--config", filepath.Join(dir, "edge.yaml")}, &out, &out)
		os.Stdin = stdin
		if got != code || !strings.Contains(out.String(), "write 0.9 m to limit of gate? It changes the device. [y/N]") {
			t.Errorf("answer %q: exit %d, %s", answer, got, &out)
		}
		_ = in.Close()
	}
}
