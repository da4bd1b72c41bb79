package edge

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestAReplacedDeviceKeepsItsIdAndTellsWhatItHasBeen(t *testing.T) {
	field := &drivertest.Field{}
	field.Load(1, shippedFixture(t, "ecowitt/ws90", "1.0.1").Registers())
	field.Holding(1, 0x16C, 65_000)
	dir := files(t, map[string]string{"edge.yaml": fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
buffer: {commit_every: 100ms}
clock: {trust: always}
connections: [{id: cabinet, modbus: {address: %s}}]
devices: [{id: rain, profile: ecowitt/ws90, connection: cabinet, unit: 1, interval: 100ms}]
`, field.ServeTCP(t).Address)})
	if code, _, errs := command(t, dir, "replace", "rain", "--serial", "SN-2"); code != 1 || !strings.Contains(errs, "start it first") {
		t.Errorf("without an agent: exit %d, %s", code, errs)
	}
	step := 0
	before := uint64(0)
	runAgent(t, dir, func(a *Agent) bool {
		n := a.recorder.readings.Load()
		switch {
		case step == 0 && n >= 9:
			_, out, _ := command(t, dir, "replace", "rain")
			wantLines(t, "replace without a serial number", out, "nothing is noted of the hardware of rain")
			code, out, errs := command(t, dir, "replace", "rain", "--serial", "SN-1", "--at", "2025-03-01 08:00")
			if code != 0 {
				t.Fatalf("exit %d, %s", code, errs)
			}
			wantLines(t, "replace", out, "2025-03-01 08:00:00 serial SN-1", "rain goes on under its id")
			for args, want := range map[string]string{
				"replace rian --serial x":                           `did you mean "rain"?`,
				"replace rain --serial x --at yesterday":            "is no time",
				"replace rain --note why":                           "belong to a --serial",
				"replace rain --serial x --at 2099-01-01":           "is in the future",
				"replace rain --serial " + strings.Repeat("x", 200): "at most 128 bytes",
			} {
				if code, _, errs := command(t, dir, strings.Fields(args)...); code == 0 || !strings.Contains(errs, want) {
					t.Errorf("%s: exit %d, %s", args, code, errs)
				}
			}
			// The new one: other firmware, and its counter begins near 0, which is no wrap.
			field.Holding(1, 0x16E, 31)
			field.Holding(1, 0x16C, 3)
			code, out, errs = command(t, dir, "replace", "rain", "--serial", "SN-2", "--note", "hit by lightning")
			if code != 0 {
				t.Fatalf("exit %d, %s", code, errs)
			}
			wantLines(t, "replace", out, "serial SN-1", "serial SN-2 hit by lightning")
			before, step = a.recorder.readings.Load(), 1
		case step == 1 && n >= before+10:
			_, out, _ := command(t, dir, "status", "--json")
			return strings.Contains(out, `"serial": "SN-2"`) && strings.Contains(out, `"revision": "1.0.3"`)
		}
		return false
	})
	schema, newest := logged(t, dir)
	got := schema.Devices[0].Hardware
	if len(got) != 2 || time.Since(time.UnixMilli(got[1].Since)) > time.Hour {
		t.Fatalf("%+v", got)
	}
	got[1].Since = 0
	want := []telemetry.Hardware{
		{Serial: "SN-1", Since: time.Date(2025, 3, 1, 8, 0, 0, 0, time.Local).UnixMilli()},
		{Serial: "SN-2", Note: "hit by lightning"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r := newest["rain/rain_total"]; r.Value != 0.3 {
		t.Errorf("the rain of the new one is %v: its counter was taken for a wrap", r.Value)
	}
	runAgent(t, dir, func(a *Agent) bool {
		_, out, _ := command(t, dir, "replace", "rain")
		return strings.Contains(out, "SN-1") && strings.Contains(out, "SN-2") && a.recorder.readings.Load() > 5
	})
}

// values is what a log keeps beside its frames.
type values map[string][]byte

func (v values) Meta(key string) ([]byte, bool) { d, ok := v[key]; return d, ok }

func (v values) SetMeta(key string, value []byte) error { v[key] = value; return nil }

func TestAReplacementBeforeTheTimeIsKnownGetsItsDateAfterwards(t *testing.T) {
	store := values{}
	h := newHardware(store, slog.New(slog.DiscardHandler))
	if err := h.note("rain", piece{Serial: "A", Since: 5000, Untimed: true}); err != nil {
		t.Fatal(err)
	}
	if got := h.of("rain"); got[0].Since != 0 {
		t.Errorf("a date that nobody knows: %+v", got)
	}
	if later := newHardware(store, h.logger); len(later.of("rain")) != 1 || later.shift(1000) {
		t.Error("a boot that ended before it knew the time gave a date after all")
	}
	if !h.shift(1_790_000_000_000) || h.of("rain")[0].Since != 1_790_000_005_000 {
		t.Errorf("%+v", h.of("rain"))
	}
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	if got := newHardware(store, h.logger).of("rain"); got[0].Since != 1_790_000_005_000 {
		t.Errorf("after a restart: %+v", got)
	}
	for i := range 2 * telemetry.MaxHardware {
		if err := h.note("rain", piece{Serial: fmt.Sprint(i), Since: 1_800_000_000_000 + int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.of("rain"); len(got) != telemetry.MaxHardware || got[telemetry.MaxHardware-1].Serial != "31" {
		t.Errorf("%d pieces, the last one %+v", len(got), got[len(got)-1])
	}
}

func TestWhatANewerAgentKeepsIsRefusedByNameAndLeftAlone(t *testing.T) {
	store := values{}
	if err := checkState(store); err != nil || len(store) != 1 {
		t.Fatalf("of the first agents, which noted no version: %v %v", err, store)
	}
	if err := checkState(store); err != nil {
		t.Error(err)
	}
	store[stateKey] = []byte{2, 0, 0, 0}
	dir := t.TempDir()
	if err := settings.NoteUse(dir, program, "v9.1.0", time.Now()); err != nil {
		t.Fatal(err)
	}
	err := newer(checkState(store), dir, "v1.0.0")
	want := "small values: written by a newer version of this program (format 2, this one knows up to 1); nothing was changed. Install langbiang-edge v9.1.0 or a newer one; to go back to this version, move " +
		dir + "/log away: readings in it that the hub has not got wait there for a newer agent: docs/upgrade.md"
	if err == nil || err.Error() != want || store[stateKey][0] != 2 {
		t.Errorf("%v", err)
	}
}
