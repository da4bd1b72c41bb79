package modbus

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/profile"
)

func TestPlanMergesWithinTheLimits(t *testing.T) {
	wide := profile.Point{ID: "lux", Holding: ptr(510), Type: profile.TypeUint32}
	rare := holding(9)
	rare.Interval = 150 * time.Second
	bit := func(a, b int) profile.Point {
		return profile.Point{ID: "bit", Holding: ptr(a), Bit: ptr(b), Type: profile.TypeBool}
	}
	for _, c := range []struct {
		name   string
		points []profile.Point
		limits profile.ModbusDefaults
		want   string
	}{
		{"neighbours", holdings(500, 501, 502), profile.ModbusDefaults{}, "function 3, holding 500-502, every 1m0s: h500, h501, h502"},
		{"order does not matter", holdings(502, 500), profile.ModbusDefaults{}, "function 3, holding 500-502, every 1m0s: h500, h502"},
		{"a hole is bridged", append(holdings(493), wide), profile.ModbusDefaults{}, "function 3, holding 493-511, every 1m0s: h493, lux"},
		{"a wide hole is not", holdings(0, 18), profile.ModbusDefaults{}, "function 3, holding 0, every 1m0s: h0\nfunction 3, holding 18, every 1m0s: h18"},
		{"no holes", holdings(0, 1, 3), profile.ModbusDefaults{MaxHole: ptr(0)}, "function 3, holding 0-1, every 1m0s: h0, h1\nfunction 3, holding 3, every 1m0s: h3"},
		{"short requests", append(holdings(507, 508, 509), wide), profile.ModbusDefaults{MaxRegisters: 4}, "function 3, holding 507-509, every 1m0s: h507, h508, h509\nfunction 3, holding 510-511, every 1m0s: lux"},
		{"bits of one register", []profile.Point{bit(3, 0), bit(3, 4)}, profile.ModbusDefaults{}, "function 3, holding 3, every 1m0s: bit, bit"},
		{"rare ones apart", append(holdings(8, 10), rare), profile.ModbusDefaults{}, "function 3, holding 8-10, every 1m0s: h8, h10\nfunction 3, holding 9, every 2m0s: h9"},
		{
			"areas apart",
			[]profile.Point{{ID: "c", Coil: ptr(1)}, {ID: "c2", Coil: ptr(200)}, {ID: "d", Discrete: ptr(1)}, {ID: "i", Input: ptr(1)}},
			profile.ModbusDefaults{},
			"function 1, coil 1-200, every 1m0s: c, c2\nfunction 2, discrete 1, every 1m0s: d\nfunction 4, input 1, every 1m0s: i",
		},
		{"a string longer than the limit", []profile.Point{{ID: "s", Holding: ptr(0), Type: profile.TypeString, Length: 20}}, profile.ModbusDefaults{MaxRegisters: 10}, "function 3, holding 0-19, every 1m0s: s"},
		{"nothing to read", []profile.Point{{ID: "x", Topic: "a"}, {ID: "y", Holding: ptr(65535), Type: profile.TypeUint32}}, profile.ModbusDefaults{}, ""},
	} {
		d := device(1, time.Minute, c.points...)
		d.Modbus = c.limits
		var lines []string
		for _, r := range Plan(d) {
			lines = append(lines, r.Describe(d))
		}
		if diff := cmp.Diff(c.want, strings.Join(lines, "\n")); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

// Whatever the points: each is in exactly one request, which covers it and keeps
// the limits; and cutting down to single points loses none.
func TestPlanAndCutsCoverEveryPointOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	types := []profile.Type{profile.TypeUint16, profile.TypeFloat32, profile.TypeInt64}
	for range 300 {
		d := device(1, time.Second)
		for range 1 + rng.IntN(40) {
			p := holding(rng.IntN(300))
			p.Type = types[rng.IntN(len(types))]
			d.Points = append(d.Points, p)
		}
		d.Modbus = profile.ModbusDefaults{MaxRegisters: 4 + rng.IntN(60), MaxHole: ptr(rng.IntN(20))}
		bs := newBlocks(d)
		for steps := 0; ; steps++ {
			seen := make([]int, len(d.Points))
			for _, b := range bs.list {
				if b.Count > d.Modbus.MaxRegisters {
					t.Fatalf("a request of %d registers, allowed are %d", b.Count, d.Modbus.MaxRegisters)
				}
				for _, i := range b.Points {
					seen[i]++
					if _, a := d.Points[i].Area(); a < b.Address || a+d.Points[i].Width() > b.Address+b.Count {
						t.Fatalf("point at %d is outside of %d, %d", a, b.Address, b.Count)
					}
				}
			}
			for i, n := range seen {
				if n != 1 {
					t.Fatalf("point %d is in %d requests", i, n)
				}
			}
			if _, _, ok := bs.cut(bs.list[rng.IntN(len(bs.list))]); !ok && steps > 50 {
				break
			}
		}
	}
}
