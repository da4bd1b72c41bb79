package telemetry_test

import (
	"math"
	"testing"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestUnitsOfOneDimensionConvert(t *testing.T) {
	for _, c := range []struct {
		from, to string
		x, want  float64
	}{
		{"degF", "Cel", 212, 100},
		{"°F", "°C", -40, -40},
		{"K", "degC", 273.15, 0},
		{"Cel", "[degF]", 37, 98.6},
		{"kPa", "hPa", 91.3, 913},
		{"mbar", "hPa", 1013.2, 1013.2},
		{"Pa", "hPa", 100309, 1003.09},
		{"mmHg", "hPa", 760, 1013.25},
		{"inHg", "hPa", 29.92, 1013.2},
		{"mm[H2O]", "Pa", 1, 9.80665},
		{"psi", "kPa", 1, 6.894757293168},
		{"km/h", "m/s", 36, 10},
		{"kn", "m/s", 10, 5.144444444444},
		{"m/s", "km/h", 2.5, 9},
		{"mph", "km/h", 1, 1.609344},
		{"in", "mm", 1, 25.4},
		{"cm", "m", 185, 1.85},
		{"mm", "m", 1230, 1.23},
		{"mm/min", "mm/h", 0.5, 30},
		{"mg/m3", "ug/m3", 0.035, 35},
		{"µg/m3", "ug/m3", 7, 7},
		{"μg/m³", "µg/m³", 7, 7},
		{"ppb", "[ppm]", 400, 0.4},
		{"ppm", "%", 10000, 1},
		{"%RH", "%", 49, 49},
		{"klux", "lx", 41.2, 41200},
		{"lux", "lx", 5, 5},
		{"mW/cm2", "W/m2", 1, 10},
		{"mV", "V", 2985, 2.985},
		{"mA", "A", 20, 0.02},
		{"kW", "W", 1.5, 1500},
		{"Wh", "kW.h", 100000, 100},
		{"MWh", "kWh", 1, 1000},
		{"kJ", "Wh", 3600, 1000},
		{"dB(A)", "dB", 48.2, 48.2},
		{"dBm", "dB{mW}", -71, -71},
		{"rad", "deg", math.Pi, 180},
		{"mS/cm", "uS/cm", 1.413, 1413},
		{"fps", "/s", 25, 25},
		{"h", "s", 2, 7200},
		{"GiB", "By", 1, 1 << 30},
		{"L/min", "m3/s", 60000, 1},
		{"", "1", 3, 3},
		{"{count}", "", 3, 3},
		{"widgets", "widgets", 4, 4},
	} {
		f, o, ok := telemetry.ConvertUnit(c.from, c.to)
		got := c.x*f + o
		if !ok || math.Abs(got-c.want) > 1e-4*math.Max(math.Abs(c.want), 1) {
			t.Errorf("%v %s is %v %s (ok %v), want %v", c.x, c.from, got, c.to, ok, c.want)
		}
	}
}

func TestUnitsOfDifferentDimensionsDoNotConvert(t *testing.T) {
	for _, c := range [][2]string{
		{"hPa", "Cel"},
		{"ppm", "ug/m3"},
		{"m", "m/s"},
		{"lx", "W/m2"},
		{"dB", "dB{mW}"},
		{"W", "Wh"},
		{"VA", "W"},
		{"mm", "mm/h"},
		{"degx", "Cel"},
		{"Cel", "degx"},
		{"", "Cel"},
		{"celsius ", "Cel"},
	} {
		if f, o, ok := telemetry.ConvertUnit(c[0], c[1]); ok {
			t.Errorf("%s converts into %s: %v %v", c[0], c[1], f, o)
		}
	}
}

func TestConversionsAreEachOthersInverse(t *testing.T) {
	names := telemetry.UnitNames()
	seen := map[string]bool{}
	for _, a := range names {
		if seen[a] {
			t.Errorf("%s is listed twice", a)
		}
		seen[a] = true
		for _, b := range names {
			f, o, ok := telemetry.ConvertUnit(a, b)
			g, p, back := telemetry.ConvertUnit(b, a)
			if ok != back {
				t.Fatalf("%s and %s convert one way only", a, b)
			}
			if !ok {
				continue
			}
			for _, x := range []float64{-40, 0, 1, 98.6} {
				if y := (x*f+o)*g + p; math.Abs(y-x) > 1e-9*math.Max(1, math.Max(math.Abs(x), math.Abs(o*g))) {
					t.Errorf("%v %s by way of %s is %v", x, a, b, y)
				}
			}
		}
	}
}

func TestDecimalUnitsHaveDecimalFactors(t *testing.T) {
	for _, c := range []struct {
		from, to string
		factor   float64
	}{
		{"kPa", "hPa", 10}, {"Pa", "hPa", 0.01}, {"mV", "V", 0.001}, {"Wh", "kWh", 0.001}, {"ppb", "ppm", 0.001}, {"ppm", "%", 0.0001}, {"cm", "mm", 10}, {"mS/cm", "uS/cm", 1000}, {"m/s", "km/h", 3.6},
	} {
		if f, o, _ := telemetry.ConvertUnit(c.from, c.to); f != c.factor || o != 0 {
			t.Errorf("%s to %s: %v %v", c.from, c.to, f, o)
		}
	}
	if f, o, _ := telemetry.ConvertUnit("K", "Cel"); f != 1 || o != -273.15 {
		t.Error(f, o)
	}
}

func TestUnitsAreShownAsPeopleWriteThem(t *testing.T) {
	for ucum, want := range map[string]string{
		"Cel": "°C", "ug/m3": "µg/m³", "%": "%", "[ppm]": "ppm", "kW.h": "kWh", "m3/s": "m³/s", "{count}": "", "1": "",
		"dB[SPL]": "dB", "dB{mW}": "dBm", "deg": "°", "[pH]": "", "uS/cm": "µS/cm", "mm/h": "mm/h", "{vehicle}/h": "/h",
	} {
		if got := telemetry.UnitSymbol(ucum); got != want {
			t.Errorf("%s is shown as %q, want %q", ucum, got, want)
		}
	}
}
