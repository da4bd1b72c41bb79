package airindex

import (
	"math"
	"slices"
	"testing"
)

// vn is the table of Decision 1459/QĐ-TCMT, in µg/m³.
var vn = Table{
	Index: []float64{0, 50, 100, 150, 200, 300, 400, 500},
	Of: map[string]Of{
		"pm2_5": {NowCast: true, Factor: 1, At: []float64{0, 25, 50, 80, 150, 250, 350, 500}},
		"pm10":  {NowCast: true, Factor: 1, At: []float64{0, 50, 150, 250, 350, 420, 500, 600}},
		"o3":    {Factor: 1, At: []float64{0, 160, 200, 300, 400, 800, 1000, 1200}, At8h: []float64{0, 100, 120, 170, 210, 400}},
		"no2":   {Factor: 1, At: []float64{0, 100, 200, 700, 1200, 2350, 3100, 3850}},
	},
}

var none = math.NaN()

// hours are n hourly means, newest first; the rest is the last one said.
func hours(n int, values ...float64) []float64 {
	for len(values) < n {
		values = append(values, values[len(values)-1])
	}
	return values
}

func TestBreakpoints(t *testing.T) {
	of := vn.Of["pm2_5"]
	for c, want := range map[float64]float64{0: 0, 12.5: 25, 25: 50, 37.5: 75, 50: 100, 65: 125, 80: 150, 115: 175, 150: 200, 200: 250, 250: 300, 425: 450, 500: 500, 900: 500, -1: 0} {
		if got := vn.Value(&of, c); got != want {
			t.Errorf("PM2.5 of %v: %v, want %v", c, got, want)
		}
	}
	// A worked example in circulation gives 60 for 68.7 µg/m³ of PM10; the table says 59.35.
	pm10 := vn.Of["pm10"]
	if got := vn.Value(&pm10, 68.7); got != 59 {
		t.Errorf("PM10 of 68.7: %v, want 59", got)
	}
	for index, want := range map[float64]int{0: 1, 50: 1, 51: 2, 100: 2, 101: 3, 150: 3, 151: 4, 200: 4, 201: 5, 300: 5, 301: 6, 500: 6} {
		if got := vn.Level(index); got != want {
			t.Errorf("level of %v: %d, want %d", index, got, want)
		}
	}
}

// The decision's formula by hand: c = 64 48 32 16 ..., newest first.
func TestNowCastByHand(t *testing.T) {
	for name, c := range map[string]struct {
		c    []float64
		want float64
		ok   bool
	}{
		"steady":                 {hours(12, 40), 40, true},
		"falls to half at least": {[]float64{64, 48, 32}, 0.5*64 + 0.25*48 + 0.125*32, true},
		"above one half":         {[]float64{40, 32}, (40 + 0.8*32) / 1.8, true},
		"one of three":           {[]float64{40, none, none, 40}, 0, false},
		"the newest is missing":  {[]float64{none, 20, 20}, 20, true},
		"nothing":                {[]float64{0, 0, 0}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			var m [12]float64
			var known [12]bool
			for i, v := range c.c {
				m[i], known[i] = v, !math.IsNaN(v)
			}
			got, ok := NowCast(m, known)
			if ok != c.ok || math.Abs(got-c.want) > 1e-9 {
				t.Errorf("got %v %v, want %v %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func TestHourAndDay(t *testing.T) {
	if v, ok := vn.Hour(Hours{"o3": {500}}); ok {
		t.Errorf("without particles: %v", v)
	}
	if v, ok := vn.Hour(Hours{"pm2_5": hours(12, 25), "o3": {300}}); !ok || v != 150 {
		t.Errorf("the worst substance counts: %v %v", v, ok)
	}
	if v, ok := vn.Hour(Hours{"pm2_5": hours(12, 25), "o3": {none, 300}}); !ok || v != 50 {
		t.Errorf("one that is missing does not: %v %v", v, ok)
	}
	day := hours(24, 50)
	if v, ok := vn.Day(Hours{"pm2_5": day}); !ok || v != 100 {
		t.Errorf("a steady day: %v %v", v, ok)
	}
	few := slices.Concat(hours(17, 50), hours(7, none))
	if v, ok := vn.Day(Hours{"pm2_5": few}); ok {
		t.Errorf("17 hours are too few: %v", v)
	}
	// 8 h of ozone at 170 µg/m³ are 150; its worst hour of 200 is 100 only.
	ozone := slices.Concat([]float64{200}, hours(7, 165.7142857), hours(16, 10))
	if v, ok := vn.Day(Hours{"pm2_5": hours(24, 5), "o3": ozone}); !ok || v != 150 {
		t.Errorf("8 h of ozone: %v %v", v, ok)
	}
	// Above 400 over 8 h only the hour counts.
	if v, ok := vn.Day(Hours{"pm2_5": hours(24, 5), "o3": hours(24, 410)}); !ok || v != 203 {
		t.Errorf("ozone beyond the 8 h table: %v %v", v, ok)
	}
	if v, ok := vn.Day(Hours{"pm2_5": hours(24, 5), "no2": slices.Concat([]float64{700}, hours(23, 5))}); !ok || v != 150 {
		t.Errorf("a gas by its worst hour: %v %v", v, ok)
	}
}
