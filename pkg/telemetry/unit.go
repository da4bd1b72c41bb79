package telemetry

import (
	"math"
	"slices"
	"strings"
)

// unit is one spelling of a unit: base = x*factor + offset, in the base unit of
// its dimension. Units of equal dimension convert into each other.
type unit struct {
	dimension      string
	factor, offset float64
}

// unitTable lists, by dimension, the UCUM code first and then other spellings.
// The dimension is named for its base unit. Amounts that are numbers only are
// kept apart by what they count: a percentage is no particle count.
var unitTable = []struct {
	dimension      string
	factor, offset float64
	names          string
}{
	{"K", 1, 0, "K kelvin"},
	{"K", 1, 273.15, "Cel degC °C C celsius ℃"},
	{"K", 5.0 / 9, 459.67 * 5 / 9, "[degF] degF °F F fahrenheit ℉"},

	{"1", 1, 0, "1 {count} count counts"},
	{"1", 0.01, 0, "% percent %RH %rh"},
	{"1", 0.001, 0, "[ppth] ‰ permille"},
	{"1", 1e-6, 0, "[ppm] ppm"},
	{"1", 1e-9, 0, "[ppb] ppb"},

	{"Pa", 1, 0, "Pa"},
	{"Pa", 100, 0, "hPa mbar mb"},
	{"Pa", 1000, 0, "kPa"},
	{"Pa", 1e6, 0, "MPa"},
	{"Pa", 1e5, 0, "bar"},
	{"Pa", 133.322387415, 0, "mm[Hg] mmHg"},
	{"Pa", 3386.388640341, 0, "[in_i'Hg] inHg"},
	{"Pa", 9.80665, 0, "mm[H2O] mmH2O"},
	{"Pa", 9806.65, 0, "m[H2O] mH2O"},
	{"Pa", 6894.757293168361, 0, "[psi] psi"},

	{"m/s", 1, 0, "m/s mps"},
	{"m/s", 0.001, 0, "mm/s"},
	{"m/s", 0.01, 0, "cm/s"},
	{"m/s", 1 / 3.6, 0, "km/h kmh kph"},
	{"m/s", 1852.0 / 3600, 0, "[kn_i] kn kt knot knots"},
	{"m/s", 0.44704, 0, "[mi_i]/h mph"},
	{"m/s", 0.3048, 0, "[ft_i]/s ft/s"},

	{"m", 1, 0, "m"},
	{"m", 1e-6, 0, "um µm"},
	{"m", 0.001, 0, "mm l/m2"},
	{"m", 0.01, 0, "cm"},
	{"m", 0.1, 0, "dm"},
	{"m", 1000, 0, "km"},
	{"m", 0.0254, 0, "[in_i] in inch"},
	{"m", 0.3048, 0, "[ft_i] ft foot feet"},
	{"mm/h", 1, 0, "mm/h"},
	{"mm/h", 60, 0, "mm/min"},
	{"mm/h", 25.4, 0, "[in_i]/h in/h"},

	{"m2", 1, 0, "m2 m²"},
	{"m3", 1, 0, "m3 m³"},
	{"m3", 0.001, 0, "L l dm3"},
	{"m3/s", 1, 0, "m3/s m³/s"},
	{"m3/s", 1.0 / 3600, 0, "m3/h m³/h"},
	{"m3/s", 0.001, 0, "L/s l/s"},
	{"m3/s", 0.001 / 60, 0, "L/min l/min"},

	{"ug/m3", 1, 0, "ug/m3 µg/m3 μg/m3 ug/m³ µg/m³ μg/m³"},
	{"ug/m3", 1000, 0, "mg/m3 mg/m³"},
	{"ug/m3", 1e6, 0, "g/m3 g/m³ mg/L mg/l"},
	{"mg/kg", 1, 0, "mg/kg"},
	{"/cm3", 1, 0, "/cm3 1/cm3 #/cm3"},
	{"/cm3", 0.001, 0, "/L 1/L #/L"},
	{"/cm3", 0.01, 0, "/dL 1/dL #/0.1L"},

	{"lx", 1, 0, "lx lux"},
	{"lx", 1000, 0, "klx klux"},
	{"W/m2", 1, 0, "W/m2 W/m²"},
	{"W/m2", 0.001, 0, "mW/m2 mW/m²"},
	{"W/m2", 10, 0, "mW/cm2 mW/cm²"},
	{"{UVI}", 1, 0, "{UVI} UVI"},

	{"V", 1, 0, "V"},
	{"V", 1e-6, 0, "uV µV"},
	{"V", 0.001, 0, "mV"},
	{"V", 1000, 0, "kV"},
	{"A", 1, 0, "A"},
	{"A", 1e-6, 0, "uA µA"},
	{"A", 0.001, 0, "mA"},
	{"W", 1, 0, "W"},
	{"W", 0.001, 0, "mW"},
	{"W", 1000, 0, "kW"},
	{"W", 1e6, 0, "MW"},
	{"VA", 1, 0, "V.A VA"},
	{"VA", 1000, 0, "kV.A kVA"},
	{"var", 1, 0, "{var} var"},
	{"var", 1000, 0, "kvar"},
	{"Wh", 1, 0, "W.h Wh"},
	{"Wh", 1000, 0, "kW.h kWh"},
	{"Wh", 1e6, 0, "MW.h MWh"},
	{"Wh", 1.0 / 3600, 0, "J W.s Ws"},
	{"Wh", 1000.0 / 3600, 0, "kJ"},
	{"Ah", 1, 0, "A.h Ah"},
	{"Ah", 0.001, 0, "mA.h mAh"},
	{"{pf}", 1, 0, "{pf} pf"},

	{"Hz", 1, 0, "Hz"},
	{"Hz", 1000, 0, "kHz"},
	{"Hz", 1e6, 0, "MHz"},
	{"dB", 1, 0, "dB dB(A) dBA dB(C) dB[SPL]"},
	{"dBm", 1, 0, "dB{mW} dB[mW] dBm"},

	{"deg", 1, 0, "deg ° degree degrees"},
	{"deg", 180 / math.Pi, 0, "rad"},
	{"S/m", 1, 0, "S/m"},
	{"S/m", 1e-4, 0, "uS/cm µS/cm μS/cm"},
	{"S/m", 0.1, 0, "mS/cm dS/m"},
	{"S/m", 0.001, 0, "mS/m"},
	{"[pH]", 1, 0, "[pH] pH"},
	{"{NTU}", 1, 0, "{NTU} NTU"},

	{"s", 1, 0, "s sec second seconds"},
	{"s", 1e-6, 0, "us µs"},
	{"s", 0.001, 0, "ms"},
	{"s", 60, 0, "min minute minutes"},
	{"s", 3600, 0, "h hour hours"},
	{"s", 86400, 0, "d day days"},

	{"By", 1, 0, "By B byte bytes"},
	{"By", 1e3, 0, "kBy kB"},
	{"By", 1e6, 0, "MBy MB"},
	{"By", 1e9, 0, "GBy GB"},
	{"By", 1024, 0, "KiBy KiB"},
	{"By", 1 << 20, 0, "MiBy MiB"},
	{"By", 1 << 30, 0, "GiBy GiB"},
	{"bit/s", 1, 0, "bit/s bps"},
	{"bit/s", 1000, 0, "kbit/s kbps"},
	{"bit/s", 1e6, 0, "Mbit/s Mbps"},
	{"bit/s", 8, 0, "By/s B/s"},

	{"/s", 1, 0, "/s 1/s {frame}/s fps"},
	{"/s", 1.0 / 60, 0, "/min 1/min"},
	{"/s", 1.0 / 3600, 0, "/h 1/h {vehicle}/h"},
	{"m/s2", 1, 0, "m/s2 m/s²"},
	{"m/s2", 9.80665, 0, "[g] g-force"},
}

// unitsByName has every spelling. It is built once, before main, from the
// constant table above, and never written again.
var unitsByName, unitNames = func() (map[string]unit, []string) {
	m := make(map[string]unit)
	var names []string
	for _, u := range unitTable {
		for _, name := range strings.Fields(u.names) {
			m[name] = unit{u.dimension, u.factor, u.offset}
			names = append(names, name)
		}
	}
	return m, names
}()

// ConvertUnit returns the linear function y = x*factor + offset that takes a
// value from one unit to another. Units are UCUM codes (Cel, hPa, ug/m3,
// [ppm]) or the spellings that technicians use (degC, °C, mbar, µg/m3, lux).
// It is not ok when a unit is unknown or the two measure different things. A
// unit converts to itself even when it is not known, since a profile may
// declare one; the empty unit is the plain number 1.
func ConvertUnit(from, to string) (factor, offset float64, ok bool) {
	if from == to {
		return 1, 0, true
	}
	f, okf := lookUnit(from)
	t, okt := lookUnit(to)
	if !okf || !okt || f.dimension != t.dimension {
		return 0, 0, false
	}
	if f == t {
		return 1, 0, true
	}
	return ratio(f.factor, t.factor), tidy((f.offset - t.offset) / t.factor), true
}

// KnownUnit reports whether ConvertUnit knows the unit.
func KnownUnit(name string) bool {
	_, ok := lookUnit(name)
	return ok
}

// UnitNames returns every spelling that ConvertUnit knows, UCUM codes before the
// others of the same unit.
func UnitNames() []string { return slices.Clone(unitNames) }

// UnitsLike returns the units that convert into this one, each by its UCUM code.
func UnitsLike(name string) []string {
	u, ok := lookUnit(name)
	if !ok {
		return nil
	}
	var like []string
	for _, other := range unitTable {
		if other.dimension == u.dimension {
			code, _, _ := strings.Cut(other.names, " ")
			like = append(like, code)
		}
	}
	return like
}

func lookUnit(name string) (unit, bool) {
	if name == "" {
		name = "1"
	}
	u, ok := unitsByName[name]
	return u, ok
}

// ratio divides so that decimal units keep decimal factors: kPa to hPa is 10,
// ppm to % is 0.0001.
func ratio(a, b float64) float64 {
	r := a / b
	if inv := b / a; math.Abs(inv) > 1 {
		if n := math.Round(inv); math.Abs(inv-n) < n*1e-12 {
			return 1 / n
		}
	}
	return tidy(r)
}

// tidy takes away the last bits that the division of two decimals has put there.
func tidy(x float64) float64 {
	const digits = 1e9
	if r := math.Round(x*digits) / digits; r != 0 && math.Abs(x-r) <= math.Abs(x)*4e-16 {
		return r
	}
	return x
}

// UnitSymbol writes a UCUM unit as people do: Cel as °C, ug/m3 as µg/m³.
func UnitSymbol(ucum string) string {
	switch ucum {
	case "1", "[pH]":
		return ""
	case "Cel":
		return "°C"
	case "deg":
		return "°"
	case "ug/m3":
		return "µg/m³"
	case "dB{mW}", "dB[mW]":
		return "dBm"
	case "dB[SPL]":
		return "dB"
	}
	// Annotations such as {count} and brackets say nothing to people.
	for {
		open := strings.IndexByte(ucum, '{')
		end := strings.IndexByte(ucum, '}')
		if open < 0 || end < open {
			break
		}
		ucum = ucum[:open] + ucum[end+1:]
	}
	if strings.HasPrefix(ucum, "u") {
		ucum = "µ" + ucum[1:]
	}
	r := strings.NewReplacer("[", "", "]", "", "m3", "m³", "m2", "m²", ".", "")
	return strings.TrimSpace(r.Replace(ucum))
}
