package scan_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/edge/scan"
	"github.com/langbiang/langbiang/pkg/profile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func known(t testing.TB) scan.Known {
	t.Helper()
	data, err := firmwareprofiles.FS.ReadFile("quantities.yaml")
	if err != nil {
		t.Fatal(err)
	}
	q, err := profile.ParseQuantities("quantities.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	k, faulty := scan.Open(profile.Open(q, firmwareprofiles.FS), q)
	if len(faulty) > 0 {
		t.Fatal(faulty)
	}
	return k
}

func fixtures(t testing.TB, id string) []profile.Fixture {
	t.Helper()
	file := id + ".fixtures.yaml"
	data, err := firmwareprofiles.FS.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fs, err := profile.ParseFixtures(file, data)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func guesses(f *scan.Finding) (ids []string) {
	for _, g := range f.Guesses {
		ids = append(ids, g.Profile.ID)
	}
	return ids
}

// lacking reports whether a revision is only known by what the device lacks.
func lacking(p *profile.Profile, revision string) bool {
	for i := range p.Firmware {
		if p.Firmware[i].ID == revision {
			return len(p.Match) == 0 && !slices.ContainsFunc(p.Firmware[i].Match, func(m profile.Match) bool { return !m.Absent })
		}
	}
	return false
}

func probe(t testing.TB, address string) *modbus.Probe {
	t.Helper()
	p, err := (&modbus.Config{Address: address}).OpenProbe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestEveryModbusProfileWithAnIdentityIsFoundOnTheBus(t *testing.T) {
	k := known(t)
	identified := map[string]bool{}
	for _, p := range k.Profiles {
		if p.Protocol != profile.ProtocolModbus || p.Identification(nil) == nil {
			continue
		}
		field := &drivertest.Field{}
		field.Gateway(true)
		want := map[int]string{}
		var units []int
		for i, f := range fixtures(t, p.ID) {
			if f.Takes == "" {
				continue
			}
			unit := 10 + i
			field.Load(unit, f.Registers())
			units, want[unit] = append(units, unit), f.Takes
		}
		found, err := scan.Modbus(t.Context(), probe(t, field.ServeTCP(t).Address), k, scan.ModbusOptions{Units: units})
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != len(units) {
			t.Errorf("%s: %d of %d units found", p.ID, len(found), len(units))
		}
		for _, f := range found {
			takes := want[f.Unit]
			got := "none"
			switch {
			case lacking(p, takes):
				if f.Profile != nil || !slices.Contains(guesses(&f), p.ID) {
					t.Errorf("%s: %s is known by nothing that it has, yet it is found to be %+v", p.ID, takes, f.Profile)
				}
				continue
			case f.Profile != nil && f.Profile != p:
				got = f.Profile.ID
			case f.Profile == p && f.Revision != "" && len(p.Firmware) > 1:
				got = f.Revision
			case f.Profile == p:
				got = "model"
			}
			if got != takes && (takes != "none" || f.Profile == p) {
				t.Errorf("%s: the fixture that takes %s is found to be %s (read %s, %d of %d points, others %v)", p.ID, takes, got, f.Seen, f.Read, f.Points, f.Others)
			}
			if f.Profile == p {
				identified[p.ID] = true
			}
		}
		if len(units) == 0 {
			t.Errorf("%s: no fixture says what it takes", p.ID)
		}
	}
	for _, id := range []string{"ecowitt/ws90", "lufft/ws-umb", "vaisala/wxt530", "seeed/orch-s4", "generic/xy-md02", "teltonika/rut", "moxa/iologik-e1200"} {
		if !identified[id] {
			t.Errorf("%s was not found once", id)
		}
	}
	t.Logf("%d profiles were identified", len(identified))
}

func TestAScanTellsWhoIsThereAndWhoIsNot(t *testing.T) {
	k := known(t)
	field := &drivertest.Field{}
	field.Load(144, fixtures(t, "ecowitt/ws90")[0].Registers())
	field.Load(3, fixtures(t, "renke/cwt-uwd")[0].Registers()) // says nothing of itself
	field.Load(4, fixtures(t, "peacefair/pzem-016")[0].Registers())
	field.Holding(7, 5000, 1) // refuses what is asked for
	field.Holding(9, 0, 1)
	field.Break(9, drivertest.Fault{Damage: true, Replace: []byte{1, 2, 3, 4, 5, 6, 7, 8}})
	p, err := (&modbus.Config{Address: field.ServeRTUOverTCP(t).Address, Transport: modbus.TransportRTUOverTCP}).OpenProbe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var live []int
	asked := 0
	found, err := scan.Modbus(t.Context(), p, k, scan.ModbusOptions{
		Units: []int{1, 3, 4, 7, 9, 144}, Timeout: time.Second,
		Asked: func(int, int) { asked++ }, Found: func(f scan.Finding) { live = append(live, f.Unit) },
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]string{}
	for _, f := range found {
		switch {
		case f.Damaged:
			got[f.Unit] = "damaged"
		case f.Profile == nil:
			got[f.Unit] = fmt.Sprint("unknown, perhaps ", guesses(&f))
		default:
			got[f.Unit] = f.Profile.ID + " " + f.Revision
		}
	}
	want := map[int]string{3: "unknown, perhaps [renke/cwt-uwd]", 4: "unknown, perhaps [peacefair/pzem-016]", 7: "unknown, perhaps []", 9: "damaged", 144: "ecowitt/ws90 1.0.3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{3, 4, 7, 9, 144}, live); diff != "" || asked != 6 {
		t.Error(diff, asked)
	}
}

func TestAScanEndsWhenItIsToldTo(t *testing.T) {
	k := known(t)
	field := &drivertest.Field{}
	field.Load(2, fixtures(t, "ecowitt/ws90")[0].Registers())
	ctx, cancel := context.WithCancel(t.Context())
	p, err := (&modbus.Config{Address: field.ServeTCP(t).Address}).OpenProbe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	found, err := scan.Modbus(ctx, p, k, scan.ModbusOptions{
		Units: []int{2, 3}, Timeout: time.Hour, Found: func(scan.Finding) { cancel() }, // while unit 3 keeps silent
	})
	if !errors.Is(err, modbus.ErrStopped) || len(found) != 1 {
		t.Errorf("%v, %d found", err, len(found))
	}
}

func TestALineThatCannotBeOpenedSaysWhy(t *testing.T) {
	_, err := (&modbus.Config{Port: "/dev/nosuch"}).OpenProbe(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot reach /dev/nosuch: no such device, is the adapter plugged in") {
		t.Error(err)
	}
}
