package profile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

const devicesFile = "../../docs/devices.md"

func TestTheTableOfDevicesIsThatOfTheProfiles(t *testing.T) {
	lib := profile.Open(catalogue(t), firmwareprofiles.FS)
	var got bytes.Buffer
	if err := profile.WriteDevices(&got, lib); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(devicesFile, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(filepath.Clean(devicesFile))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("docs/devices.md is not current; go test ./pkg/profile -update\n%s", diff)
	}
}

func TestShippedProfilesSayWhatAPersonNeeds(t *testing.T) {
	lib := profile.Open(catalogue(t), firmwareprofiles.FS)
	ids := lib.IDs()
	if len(ids) < 24 {
		t.Errorf("%d profiles", len(ids))
	}
	categories := map[string]bool{}
	for _, id := range ids {
		p, err := lib.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		categories[p.Category] = true
		if len(p.Caveats) == 0 {
			t.Errorf("%s: every device surprises somebody", id)
		}
		points := p.Points
		for i := range p.Firmware {
			points = append(points[:len(points):len(points)], p.Firmware[i].Points...)
		}
		for i := range points {
			if points[i].Protocol() == profile.ProtocolModbus && points[i].Doc == "" {
				t.Errorf("%s: point %s has no doc: number", id, points[i].ID)
			}
		}
		for _, text := range []string{p.Title.VI, p.Title.EN} {
			if strings.ContainsAny(text, "\n\t|") {
				t.Errorf("%s: title %q", id, text)
			}
		}
	}
	for _, c := range strings.Fields("air weather rain water_level soil slope traffic camera power gateway") {
		if !categories[c] {
			t.Errorf("no profile of category %s", c)
		}
	}
}

// ucum has the codes that the catalogue uses, as defined by UCUM version 2.1,
// each with its dimension: the exponents of length, mass, time, plane angle,
// temperature, charge and luminous intensity. Codes in braces, and dB[mW], are
// annotations or special units without a dimension there.
var ucum = map[string]struct{ dimension, name string }{
	"Cel":    {"temperature", "degree Celsius"},
	"%":      {"number", "percent"},
	"[ppm]":  {"number", "parts per million"},
	"[ppb]":  {"number", "parts per billion"},
	"hPa":    {"mass/length/time2", "hectopascal"},
	"kPa":    {"mass/length/time2", "kilopascal"},
	"m/s":    {"length/time", "metre per second"},
	"km/h":   {"length/time", "kilometre per hour"},
	"mm/h":   {"length/time", "millimetre per hour"},
	"mm":     {"length", "millimetre"},
	"m":      {"length", "metre"},
	"km":     {"length", "kilometre"},
	"m3/s":   {"length3/time", "cubic metre per second"},
	"deg":    {"angle", "degree of arc"},
	"lx":     {"luminous/length2", "lux"},
	"W/m2":   {"mass/time3", "watt per square metre"},
	"ug/m3":  {"mass/length3", "microgram per cubic metre"},
	"mg/kg":  {"number", "milligram per kilogram"},
	"/cm3":   {"1/length3", "per cubic centimetre"},
	"/s":     {"1/time", "per second"},
	"By":     {"bytes", "byte"},
	"bit/s":  {"1/time", "bit per second"},
	"Hz":     {"1/time", "hertz"},
	"s":      {"time", "second"},
	"dB":     {"number", "decibel"},
	"dB[mW]": {"number", "decibel over a milliwatt; UCUM has B[W] only"},
	"V":      {"mass.length2/time2/charge", "volt"},
	"A":      {"charge/time", "ampere"},
	"W":      {"mass.length2/time3", "watt"},
	"V.A":    {"mass.length2/time3", "volt ampere"},
	"kW.h":   {"mass.length2/time2", "kilowatt hour"},
	"uS/cm":  {"charge2.time/mass/length3", "microsiemens per centimetre"},
	"[pH]":   {"number", "pH"},
	"[NTU]":  {"number", "nephelometric turbidity unit"},
	"{UVI}":  {"number", "annotation"},
	"{var}":  {"number", "annotation; UCUM has no var"},
	"{pf}":   {"number", "annotation"},
}

func TestTheUnitsOfTheCatalogueAreUCUM(t *testing.T) {
	used := map[string]bool{}
	for id, q := range catalogue(t) {
		if q.Unit == "" {
			continue
		}
		used[q.Unit] = true
		if _, ok := ucum[q.Unit]; !ok {
			t.Errorf("%s: %q is no code of the table", id, q.Unit)
		}
	}
	for code := range ucum {
		if !used[code] {
			t.Errorf("no quantity uses %q", code)
		}
	}
	for a, x := range ucum {
		for b, y := range ucum {
			if _, _, ok := telemetry.ConvertUnit(a, b); ok && x.dimension != y.dimension {
				t.Errorf("%s (%s) converts into %s (%s)", a, x.dimension, b, y.dimension)
			}
		}
	}
}
