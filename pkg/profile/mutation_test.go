package profile

import (
	"fmt"
	"slices"
	"testing"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
)

// mutations are ways in which a point of a profile may be wrong. Each returns
// false for a point that it does not change.
var mutations = map[string]func(pt *Point) bool{
	"its scale is ten times too large": func(pt *Point) bool {
		ten := 10.0
		if pt.Scale != nil {
			ten *= *pt.Scale
		}
		pt.Scale = &ten
		return !pt.IsText() && pt.RawType() != TypeBool && len(pt.Enum) == 0 && pt.Counter == nil
	},
	"it has no scale": func(pt *Point) bool {
		had := pt.Scale != nil
		pt.Scale = nil
		return had
	},
	"it has an offset of 1": func(pt *Point) bool {
		pt.Offset++
		return !pt.IsText() && len(pt.Enum) == 0
	},
	"what is added before scaling is left away": func(pt *Point) bool {
		had := pt.Before != 0
		pt.Before = 0
		return had
	},
	"it has no sign": func(pt *Point) bool {
		if pt.Valid != nil && pt.Valid.Min != nil && *pt.Valid.Min >= 0 || pt.Quantity == "rain_total" {
			return false // it is signed for the sake of its sentinel only
		}
		switch pt.Type {
		case TypeInt16:
			pt.Type = TypeUint16
		case TypeInt32:
			pt.Type = TypeUint32
		default:
			return false
		}
		return true
	},
	"its words are in the other order": func(pt *Point) bool {
		if pt.Width() == 1 || pt.IsText() || pt.Protocol() != ProtocolModbus {
			return false
		}
		if pt.Order == OrderCDAB {
			pt.Order = OrderABCD
		} else {
			pt.Order = OrderCDAB
		}
		return true
	},
	"its address is one too high": func(pt *Point) bool {
		for _, a := range []**int{&pt.Coil, &pt.Discrete, &pt.Holding, &pt.Input} {
			if *a != nil {
				next := **a + 1
				*a = &next
				return true
			}
		}
		return false
	},
	"its bit is the next one": func(pt *Point) bool {
		if pt.Bit == nil {
			return false
		}
		next := (*pt.Bit + 1) % 16
		pt.Bit = &next
		return true
	},
	"its sentinels are forgotten": func(pt *Point) bool {
		had := len(pt.Sentinels) > 0
		pt.Sentinels = nil
		return had
	},
	"its condition is forgotten": func(pt *Point) bool {
		had := pt.ValidWhen != nil
		pt.ValidWhen = nil
		return had
	},
	"its power of ten is forgotten": func(pt *Point) bool {
		had := pt.PowerOfTen != nil
		pt.PowerOfTen = nil
		return had
	},
	"its unit code is forgotten": func(pt *Point) bool {
		had := pt.UnitCode != nil
		pt.UnitCode = nil
		return had
	},
	"its words are forgotten": func(pt *Point) bool {
		had := len(pt.Enum) > 0
		pt.Enum = nil
		return had
	},
	"its rate is per another time": func(pt *Point) bool {
		if pt.Counter == nil || pt.Counter.Kind != CounterRate {
			return false
		}
		own := *pt.Counter
		own.Per = map[string]string{"": "min", "s": "min", "min": "h", "h": "s"}[own.Per]
		pt.Counter = &own
		return true
	},
	"its first condition is forgotten":  withoutCondition(0),
	"its second condition is forgotten": withoutCondition(1),
	"its third condition is forgotten":  withoutCondition(2),
	"its fourth condition is forgotten": withoutCondition(3),
	"its last condition never holds": func(pt *Point) bool {
		if !pt.CountsEvents() {
			return false
		}
		own := *pt.Counter
		own.When = slices.Clone(own.When)
		own.When[len(own.When)-1].Text = []string{"never"}
		pt.Counter = &own
		return true
	},
}

func withoutCondition(i int) func(pt *Point) bool {
	return func(pt *Point) bool {
		if !pt.CountsEvents() || i >= len(pt.Counter.When) {
			return false
		}
		own := *pt.Counter
		own.When = slices.Delete(slices.Clone(own.When), i, i+1)
		pt.Counter = &own
		return true
	}
}

// The fixtures of a shipped profile would notice a wrong scale, offset, sign,
// order, address or sentinel of each of its points. What they cannot notice
// would be a mistake that nobody notices.
func TestTheFixturesCatchAWrongProfile(t *testing.T) {
	data, err := firmwareprofiles.FS.ReadFile("quantities.yaml")
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParseQuantities("quantities.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	lib := Open(q, firmwareprofiles.FS)
	tried, missed := 0, 0
	for _, id := range lib.IDs() {
		p, err := lib.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		file, data, err := lib.Fixtures(id)
		if err != nil {
			t.Fatal(err)
		}
		doc, fixtures, err := parseFixtures(file, data)
		if err != nil {
			t.Fatal(err)
		}
		passes := func(p *Profile) bool {
			c := fixtureCheck{doc: doc, p: p, q: p.Catalogue(q), seen: map[string]bool{}, took: map[string]bool{}}
			for i := range fixtures {
				c.one(i, &fixtures[i])
			}
			return len(c.errs) == 0
		}
		mutate := func(revision string, points func(*Profile) []Point) {
			for i := range points(p) {
				for name, change := range mutations {
					wrong := *p
					wrong.Points, wrong.Firmware = slices.Clone(p.Points), slices.Clone(p.Firmware)
					for j := range wrong.Firmware {
						wrong.Firmware[j].Points = slices.Clone(p.Firmware[j].Points)
					}
					pt := &points(&wrong)[i]
					if pt.Width() > 1 && pt.Order == "" {
						pt.Order = wrong.Modbus.Order
					}
					if !change(pt) {
						continue
					}
					if tried++; passes(&wrong) {
						missed++
						t.Errorf("%s%s: nothing notices when of the point %s %s", id, revision, pt.ID, name)
					}
				}
			}
		}
		mutate("", func(p *Profile) []Point { return p.Points })
		for i := range p.Firmware {
			mutate(fmt.Sprintf(", revision %s", p.Firmware[i].ID), func(p *Profile) []Point { return p.Firmware[i].Points })
		}
	}
	t.Logf("%d mistakes were tried, %d of them not noticed", tried, missed)
}
