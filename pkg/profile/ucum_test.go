package profile_test

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// ucumAtoms are the units that UCUM 2.1 defines and we use, each by its
// definition there: an expression of others, with a factor. The base units have
// none. Special units (temperatures, logarithms, pH) have a dimension of their
// own here, since no factor leads to them.
var ucumAtoms = map[string]struct {
	factor float64
	unit   string
	metric bool // takes prefixes
}{
	"m": {metric: true}, "s": {metric: true}, "g": {metric: true}, "rad": {metric: true}, "K": {metric: true}, "C": {metric: true}, "cd": {metric: true},
	"%": {factor: 0.01}, "[ppth]": {factor: 1e-3}, "[ppm]": {factor: 1e-6}, "[ppb]": {factor: 1e-9},
	"Hz": {1, "s-1", true}, "N": {1, "kg.m/s2", true}, "Pa": {1, "N/m2", true}, "J": {1, "N.m", true}, "W": {1, "J/s", true}, "A": {1, "C/s", true},
	"V": {1, "J/C", true}, "S": {1, "A/V", true}, "lm": {1, "cd.sr", true}, "sr": {factor: 1, metric: true}, "lx": {1, "lm/m2", true},
	"min": {60, "s", false}, "h": {60, "min", false}, "d": {24, "h", false}, "deg": {2 * math.Pi / 360, "rad", false}, "L": {1, "dm3", true}, "bar": {1e5, "Pa", true},
	"m[H2O]": {9.80665, "kPa", true}, "m[Hg]": {133.3220, "kPa", true}, "[in_i'Hg]": {25.4e-3, "m[Hg]", false},
	"[in_i]": {2.54, "cm", false}, "[ft_i]": {12, "[in_i]", false}, "[mi_i]": {5280, "[ft_i]", false}, "[nmi_i]": {1852, "m", false}, "[kn_i]": {1, "[nmi_i]/h", false},
	"[psi]": {4.4482216152605 / 6.4516, "N/cm2", false}, "[g]": {9.80665, "m/s2", true}, "bit": {factor: 1, metric: true}, "By": {8, "bit", true},
	"Cel": {metric: true}, "[degF]": {}, "B": {metric: true}, "B[SPL]": {metric: true}, "[pH]": {},
}

var ucumPrefixes = map[string]float64{
	"M": 1e6, "k": 1e3, "d": 0.1, "h": 100, "c": 0.01, "m": 1e-3, "u": 1e-6, "G": 1e9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30,
}

// ucumUnit is a unit in base units.
type ucumUnit struct {
	factor     float64
	dimensions map[string]int
}

func (u *ucumUnit) times(o ucumUnit, power int) {
	u.factor *= math.Pow(o.factor, float64(power))
	for d, n := range o.dimensions {
		if u.dimensions[d] += n * power; u.dimensions[d] == 0 {
			delete(u.dimensions, d)
		}
	}
}

var (
	ucumAnnotation = regexp.MustCompile(`\{[!-z|~]*\}`)
	ucumPower      = regexp.MustCompile(`^(.*?[^0-9+-])([+-]?[0-9]+)$`)
)

// parseUCUM reads a UCUM expression without parentheses.
func parseUCUM(code string) (ucumUnit, error) {
	u := ucumUnit{1, map[string]int{}}
	rest, sign := ucumAnnotation.ReplaceAllString(code, ""), 1
	for first := true; rest != "" || first; first = false {
		if strings.HasPrefix(rest, "/") && first {
			sign, rest = -1, rest[1:]
		}
		end := strings.IndexAny(rest, "./")
		component := rest
		next := 1
		if end >= 0 {
			component = rest[:end]
			if rest[end] == '/' {
				next = -1
			}
			rest = rest[end+1:]
		} else {
			rest = ""
		}
		part, power := component, 1
		if m := ucumPower.FindStringSubmatch(component); m != nil {
			if _, atom := ucumAtoms[component]; !atom {
				part = m[1]
				power, _ = strconv.Atoi(m[2])
			}
		}
		simple, err := ucumSimple(part)
		if err != nil {
			return u, fmt.Errorf("%q: %w", code, err)
		}
		u.times(simple, sign*power)
		sign = next
	}
	return u, nil
}

func ucumSimple(s string) (ucumUnit, error) {
	if s == "" || s == "1" {
		return ucumUnit{1, nil}, nil
	}
	for i := range 3 {
		if i >= len(s) {
			break
		}
		factor, known := 1.0, true
		if i > 0 {
			factor, known = ucumPrefixes[s[:i]]
		}
		atom, defined := ucumAtoms[s[i:]]
		if !known || !defined || i > 0 && !atom.metric {
			continue
		}
		if atom.factor == 0 { // a base or a special unit
			return ucumUnit{factor, map[string]int{s[i:]: 1}}, nil
		}
		u, err := parseUCUM(atom.unit)
		if err != nil {
			return u, err
		}
		u.factor *= factor * atom.factor
		return u, nil
	}
	return ucumUnit{}, fmt.Errorf("%q is no unit of UCUM", s)
}

func TestTheUnitsOfTheCatalogueAreUCUM(t *testing.T) {
	q := catalogue(t)
	for id, x := range q {
		if _, err := parseUCUM(x.Unit); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	lib := profile.Open(q, firmwareprofiles.FS)
	for _, id := range lib.IDs() {
		p, err := lib.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		for name := range p.Own {
			if _, err := parseUCUM(p.Own[name].Unit); err != nil {
				t.Errorf("%s: %s: %v", id, name, err)
			}
		}
	}
}

// What converts must be of one dimension in UCUM, by UCUM's own factor.
func TestUnitsConvertAsUCUMDefinesThem(t *testing.T) {
	units := map[string]ucumUnit{}
	for _, name := range telemetry.UnitNames() {
		if u, err := parseUCUM(name); err == nil && ucumMeans(name, u) {
			units[name] = u
		}
	}
	if len(units) < 100 {
		t.Fatalf("only %d of our spellings are UCUM", len(units))
	}
	compared := 0
	for _, a := range slices.Sorted(maps.Keys(units)) {
		for b, y := range units {
			x := units[a]
			factor, _, ok := telemetry.ConvertUnit(a, b)
			if !ok || a == b {
				continue
			}
			if special(x) || special(y) {
				continue // Cel, K, [degF]: an offset, tested in package telemetry
			}
			compared++
			if !maps.Equal(x.dimensions, y.dimensions) {
				t.Errorf("%s converts into %s, which is no unit of the same kind: %v, %v", a, b, x.dimensions, y.dimensions)
			} else if want := x.factor / y.factor; math.Abs(factor-want) > 1e-5*want {
				t.Errorf("one %s is %v %s here and %v in UCUM", a, factor, b, want)
			}
		}
	}
	if compared < 300 {
		t.Errorf("only %d conversions were compared", compared)
	}
}

// ucumMeans leaves out spellings that are UCUM codes by accident, and mean
// something else there.
func ucumMeans(name string, _ ucumUnit) bool {
	return !slices.Contains([]string{
		"C", "F", "B", "kB", "MB", "GB", "B/s", "KiB", "MiB", "GiB", // coulomb and bel, as people write degrees and bytes
		"g-force",
	}, name)
}

func special(u ucumUnit) bool {
	for _, d := range []string{"Cel", "[degF]", "B", "[pH]", "B[SPL]", "K"} {
		if u.dimensions[d] != 0 {
			return true
		}
	}
	return false
}
