package edge

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

func TestReadingsDuringMaintenanceAreMarkedAndItEndsByItself(t *testing.T) {
	d, other := testDevice("d", "p"), testDevice("other", "p")
	c, fc := testCollector(t, 1_000_000, d, other)
	meta := &memoryMeta{values: map[string][]byte{}}
	c.maintenance = newMaintenance(meta, slog.New(slog.DiscardHandler))
	if err := c.maintenance.set("d", 1_010_000, fc.Ms); err != nil {
		t.Fatal(err)
	}
	put := func(at int64) map[string]string {
		fc.Ms = at
		for _, dev := range []*driver.Device{d, other} {
			c.Status(dev, true, telemetry.ReasonNone, "")
			c.Put(dev, time.Time{}, value(0, 1))
		}
		var f wire.Frame
		c.cut(&f, 0)
		got := map[string]string{}
		for _, r := range f.Readings {
			s := c.series[r.Series]
			got[c.schema.Devices[s.Device].ID+"/"+s.Point] = r.Quality.String()
		}
		return got
	}
	got := put(1_005_000)
	for series, want := range map[string]string{"d/p": "uncertain: maintenance", "d/device_up": "uncertain: maintenance", "other/p": "good", "other/device_up": "good"} {
		if got[series] != want {
			t.Errorf("%s is %q, want %q", series, got[series], want)
		}
	}
	// A restart does not end it, and does not make it longer.
	c.maintenance = newMaintenance(meta, slog.New(slog.DiscardHandler))
	if got := put(1_009_000); got["d/p"] != "uncertain: maintenance" {
		t.Errorf("after a restart d/p is %q", got["d/p"])
	}
	if got := put(1_010_500); got["d/p"] != "good" {
		t.Errorf("after its end d/p is %q", got["d/p"])
	}
}

func TestMaintenanceThatAClockMadeEndlessIsNone(t *testing.T) {
	m := newMaintenance(&memoryMeta{values: map[string][]byte{}}, slog.New(slog.DiscardHandler))
	const year = 365 * 24 * 3_600_000
	if err := m.set("d", 3*year+60_000, 3*year); err != nil {
		t.Fatal(err)
	}
	if m.of("d", 3*year) == 0 || m.of("d", year) != 0 {
		t.Error("the clock jumped back two years, and the device is in maintenance for as long")
	}
}

func TestABadReadingStaysBadInMaintenance(t *testing.T) {
	if q := marked(telemetry.BadQuality(telemetry.ReasonNoAnswer)); q.String() != "bad: no_answer" {
		t.Errorf("it became %v", q)
	}
}

func TestATechnicianPutsADeviceIntoMaintenance(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	if code, _, errs := command(t, dir, "maintain", "tank"); code != 1 || !strings.Contains(errs, "no agent is running") {
		t.Errorf("without an agent: exit %d, %s", code, errs)
	}
	if code, _, errs := command(t, dir, "maintain", "tank", "--for", "48h"); code != 2 || !strings.Contains(errs, "is not between 1s and 24h") {
		t.Errorf("too long: exit %d, %s", code, errs)
	}
	done := false
	runAgent(t, dir, func(a *Agent) bool {
		switch {
		case !done && a.collect.answering() == 2:
			code, out, errs := command(t, dir, "maintain", "tank", "--for", "10m")
			if code != 0 || !strings.Contains(out, "tank is in maintenance until") {
				t.Errorf("exit %d, %s%s", code, out, errs)
			}
			_, out, _ = command(t, dir, "status")
			wantLines(t, "status", out, "in maintenance until")
			done = true
		case done:
			r, _ := agentNewest{a}.reading(a.plan.Devices[0], 0)
			return r.Quality.Reason() == telemetry.ReasonMaintenance
		}
		return false
	})
}
