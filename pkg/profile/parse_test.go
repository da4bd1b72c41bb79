package profile_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestBadProfilesAreAnsweredWithAllTheirFaults(t *testing.T) {
	q := catalogue(t)
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = profile.ParseProfile("acme/x", name+".yaml", data, q)
			var errs strictyaml.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("%v is no strictyaml.Errors", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheCatalogueHasWhatOthersRelyOn(t *testing.T) {
	q := catalogue(t)
	for _, id := range strings.Fields(`device_up air_temperature relative_humidity air_pressure wind_speed wind_direction rain_total
		illuminance pm1 pm2_5 pm10 co2 noise_level water_level soil_moisture soil_temperature vehicle_count vehicle_speed
		occupancy person_count camera_fps battery_charge battery_voltage voltage current power energy_total frequency
		signal_strength temperature device_temperature`) {
		if _, ok := q[id]; !ok {
			t.Errorf("no quantity %s", id)
		}
	}
	if got := q["wind_direction"].Aggregate; got != telemetry.AggregateVectorMean {
		t.Error(got)
	}
	if q["vehicle_count"].Unit != "" || q["air_pressure"].Unit != "hPa" {
		t.Error("units", q["vehicle_count"], q["air_pressure"])
	}
}

func TestABadCatalogueIsAnsweredWithAllItsFaults(t *testing.T) {
	_, err := profile.ParseQuantities("q.yaml", []byte(`quantities:
  Air: {unit: Cell, label: {vi: "x"}, category: air, aggregate: avg, min: 5, max: 5, decimals: 99, deadband: -1}
  ok: {unit: Cel, label: {vi: "x", en: "x"}, category: airr, aggregate: mean, maxx: 5}
`))
	want := `q.yaml:2:8: quantities.Air: bad name "Air"; use a-z, 0-9 and _, beginning with a letter
q.yaml:2:15: quantities.Air.unit: unknown unit "Cell"; did you mean "Cel"?
q.yaml:2:28: quantities.Air.label: must be set in vi and en
q.yaml:2:65: quantities.Air.aggregate: unknown aggregation "avg"; known here: last, max, mean, sum, vector_mean
q.yaml:2:83: quantities.Air.max: the greatest plausible value is not above the least
q.yaml:2:96: quantities.Air.decimals: 99 is outside 0 to 9
q.yaml:2:110: quantities.Air.deadband: a negative deadband
q.yaml:3:56: quantities.ok.category: unknown category "airr"; did you mean "air"?
q.yaml:3:79: quantities.ok.maxx: unknown key; did you mean "max"?`
	if err == nil {
		t.Fatal("taken")
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestFixturesThatDoNotFitAreAnswered(t *testing.T) {
	q := catalogue(t)
	p, err := profile.ParseProfile("generic/xy-md02", "p.yaml", []byte(`{vendor: A, model: B, title: {vi: a, en: b}, category: weather, tested: document, links: [x], protocol: modbus, points: [
  {id: air_temperature, quantity: air_temperature, input: 1, type: int16, scale: 0.1, valid: {min: -45, max: 125}},
  {id: relative_humidity, quantity: relative_humidity, input: 2, scale: 0.1, valid: {min: 0, max: 100}}]}`), q)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"none":          {"fixtures: []", "f.yaml:1:11: fixtures: must hold at least one\nf.yaml:1:11: fixtures: none has the point air_temperature\nf.yaml:1:11: fixtures: none has the point relative_humidity"},
		"another value": {"fixtures: [{name: x, source: y, input: {1: [305, 1001]}, readings: {air_temperature: 30, relative_humidity: 100}}]", "f.yaml:1:12: fixtures[0]: relative_humidity is bad: out_of_range; expect it under bad\nf.yaml:1:86: fixtures[0].readings.air_temperature: comes out as 30.5, not 30"},
		"not expected":  {"fixtures: [{name: x, source: y, input: {0x1: [305, 1]}, readings: {air_temperature: 30.5, humidity: 0.1}}]", "f.yaml:1:12: fixtures[0]: relative_humidity is 0.1 \"\"; expect it under readings or texts\nf.yaml:1:101: fixtures[0].readings.humidity: is not given; did you mean \"relative_humidity\"?"},
		"unknown":       {"fixtures: [{name: x, source: y, revision: r}]", "f.yaml:1:11: fixtures: none has the point air_temperature\nf.yaml:1:11: fixtures: none has the point relative_humidity\nf.yaml:1:12: fixtures[0]: revision: generic/xy-md02 has no revisions; leave it away"},
	} {
		t.Run(name, func(t *testing.T) {
			err := profile.CheckFixtures(p, "f.yaml", []byte(c.text), q)
			if err == nil || err.Error() != c.want {
				t.Errorf("got\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func FuzzProfile(f *testing.F) {
	data, err := firmwareprofiles.FS.ReadFile("quantities.yaml")
	if err != nil {
		f.Fatal(err)
	}
	q, err := profile.ParseQuantities("q.yaml", data)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(revised))
	f.Add([]byte("points: [{id: a, quantity: power, holding: 65535, type: float64, valid: {max: 1}}]"))
	f.Add([]byte("points: [{id: a, quantity: car_count, topic: t, counter: {kind: events, when: [{path: a, text: [x]}, {path: b.c, min: 1}]}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := profile.ParseProfile("a/b", "f", data, q)
		if err != nil {
			_ = err.Error()
			return
		}
		points, rev, _, err := p.Resolve("", nil)
		if err != nil {
			return
		}
		for i := range points {
			pt := &points[i]
			if faults := profile.CheckPoint(pt, q); len(faults) > 0 {
				t.Fatalf("revision %q, point %q passed the parser and not the check: %v", rev, pt.ID, faults)
			}
			if _, addr := pt.Area(); addr < 0 || addr+pt.Width() > 65536 {
				t.Fatalf("point %q lies outside its area", pt.ID)
			}
		}
	})
}
