package profile_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
)

var numberTypes = []profile.Type{
	profile.TypeInt16, profile.TypeUint16, profile.TypeInt32, profile.TypeUint32, profile.TypeInt64, profile.TypeUint64,
	profile.TypeFloat32, profile.TypeFloat64, profile.TypeBCD16, profile.TypeBCD32,
}

func TestEncodeIsTheInverseOfDecode(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	zero := 0
	for _, typ := range numberTypes {
		for _, order := range []profile.Order{"", profile.OrderABCD, profile.OrderCDAB, profile.OrderBADC, profile.OrderDCBA} {
			for own := range 2 {
				pt := profile.Point{Holding: &zero, Type: typ}
				outer := order
				if own == 1 && (pt.Width() > 1 || order == profile.OrderBADC) {
					pt.Order, outer = order, profile.OrderCDAB
				}
				for range 500 {
					regs := make([]uint16, pt.Width())
					for i := range regs {
						regs[i] = uint16(rng.Uint32() >> rng.IntN(32))
					}
					raw, _, err := profile.Decode(&pt, outer, regs)
					if err != nil || math.IsNaN(raw) || math.IsInf(raw, 0) {
						continue // no BCD, or no number
					}
					if (typ == profile.TypeInt64 || typ == profile.TypeUint64) && math.Abs(raw) > 1<<53 {
						if _, err := profile.Encode(&pt, outer, raw*2); err == nil {
							t.Fatalf("%s: %v was encoded though its last digits are lost", typ, raw*2)
						}
						continue
					}
					back, err := profile.Encode(&pt, outer, raw)
					if err != nil {
						t.Fatalf("%s %s: %v: %v", typ, order, raw, err)
					}
					again, _, err := profile.Decode(&pt, outer, back)
					if err != nil || again != raw {
						t.Fatalf("%s %s: %v became %v, %v", typ, order, raw, again, err)
					}
					if !slices.Equal(back, regs) && raw != 0 { // there are two zeros of floats
						t.Fatalf("%s %s: %x became %x", typ, order, regs, back)
					}
				}
			}
		}
	}
}

func TestEncodeRefusesWhatDoesNotFit(t *testing.T) {
	zero := 0
	for _, c := range []struct {
		t   profile.Type
		raw float64
	}{
		{profile.TypeInt16, 32768},
		{profile.TypeUint16, -1},
		{profile.TypeUint16, 0.5},
		{profile.TypeUint16, math.NaN()},
		{profile.TypeInt32, math.Inf(1)},
		{profile.TypeUint32, 1 << 32},
		{profile.TypeInt64, 1 << 60},
		{profile.TypeUint64, -1},
		{profile.TypeFloat32, 1e39},
		{profile.TypeBCD16, 10_000},
		{profile.TypeBCD32, -1},
		{profile.TypeString, 1},
	} {
		if regs, err := profile.Encode(&profile.Point{Holding: &zero, Type: c.t, Length: 1}, "", c.raw); err == nil {
			t.Errorf("%s took %v as %x", c.t, c.raw, regs)
		}
	}
}

func TestWhatAPersonWantsToWriteBecomesARawValue(t *testing.T) {
	zero, tenth := 0, 0.1
	f := func(x float64) *float64 { return &x }
	plain := profile.Point{Holding: &zero, Type: profile.TypeInt16, Scale: &tenth, Writable: &profile.Writable{Min: f(-10), Max: f(10)}}
	sentinel := plain
	sentinel.Sentinels = []float64{50}
	mode := profile.Point{Holding: &zero, Enum: map[string]float64{"auto": 2, "manual": 1}, Writable: &profile.Writable{Min: f(0), Max: f(2)}}
	before := profile.Point{Holding: &zero, Before: -400, Scale: &tenth, Writable: &profile.Writable{Min: f(-40), Max: f(60)}}
	coil := profile.Point{Coil: &zero, Writable: &profile.Writable{}}
	float := profile.Point{Holding: &zero, Type: profile.TypeFloat32, Writable: &profile.Writable{Min: f(0), Max: f(100)}}
	kelvin := driver.Linear{Factor: 1, Offset: -273.15}
	same := driver.Linear{Factor: 1}
	for _, c := range []struct {
		pt    profile.Point
		conv  driver.Linear
		value string
		raw   float64
		err   string
	}{
		{plain, same, "-0.4", -4, ""},
		{plain, same, " 10 ", 100, ""},
		{plain, same, "10.1", 0, "10.1 is outside what may be written, -10 to 10"},
		{plain, driver.Linear{Factor: 1000}, "5000", 50, ""},
		{plain, driver.Linear{Factor: 1000}, "20000", 0, "outside what may be written, -10000 to 10000"},
		{plain, same, "0.25", 0, "the device holds no 0.25: write 0.2 or 0.3"},
		{plain, same, "much", 0, `"much" is no number`},
		{plain, same, "NaN", 0, `"NaN" is no number`},
		{plain, same, "0x1", 0, `is no number`},
		{sentinel, same, "5", 0, "not fitted"},
		{mode, same, "auto", 2, ""},
		{mode, same, "fast", 0, `"fast" is no number and none of auto, manual`},
		{before, same, "25.5", 655, ""},
		{profile.Point{Holding: &zero, Writable: &profile.Writable{Min: f(200), Max: f(400)}}, kelvin, "26.85", 300, ""},
		{coil, same, "on", 1, ""},
		{coil, same, "False", 0, ""},
		{coil, same, "2", 0, "does not fit into bool"},
		{float, same, "12.34", 12.34, ""},
		{profile.Point{Holding: &zero}, same, "1", 0, "is not writable"},
	} {
		raw, err := profile.ToWrite(&c.pt, c.conv, c.value)
		switch {
		case c.err == "" && (err != nil || math.Abs(raw-c.raw) > 1e-9):
			t.Errorf("%q: %v, %v; want %v", c.value, raw, err, c.raw)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: %v, %v; want %q", c.value, raw, err, c.err)
		}
	}
}
