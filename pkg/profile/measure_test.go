package profile_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestWhatOtherRegistersSayOfAValue(t *testing.T) {
	same := driver.Linear{Factor: 1}
	bad := telemetry.BadQuality
	gate := &profile.Match{Place: profile.Place{Input: ptr(100)}, Mask: 1, Equals: []float64{0}}
	decimals := &profile.PowerOfTen{Place: profile.Place{Input: ptr(3)}, Negative: true}
	code := &profile.UnitCode{Place: profile.Place{Input: ptr(2)}, Units: map[string]string{"1": "cm", "F": "[degF]", "16": "m"}}
	num := func(n float64) profile.Raw { return profile.Raw{Number: n} }
	for name, c := range map[string]struct {
		pt   profile.Point
		raw  float64
		refs []profile.Raw
		want float64
		q    telemetry.Quality
	}{
		"valid":                          {profile.Point{ValidWhen: gate}, 5, []profile.Raw{num(6)}, 5, 0},
		"invalid":                        {profile.Point{ValidWhen: gate}, 5, []profile.Raw{num(7)}, 0, bad(telemetry.ReasonInvalid)},
		"a sentinel goes before":         {profile.Point{ValidWhen: gate, Sentinels: []float64{5}}, 5, []profile.Raw{num(7)}, 0, bad(telemetry.ReasonNotFitted)},
		"the status could not be read":   {profile.Point{ValidWhen: gate}, 5, []profile.Raw{{Quality: bad(telemetry.ReasonNoAnswer)}}, 0, bad(telemetry.ReasonNoAnswer)},
		"the status is not there at all": {profile.Point{ValidWhen: gate}, 5, nil, 0, bad(telemetry.ReasonMissing)},
		"three decimals":                 {profile.Point{PowerOfTen: decimals}, 3254, []profile.Raw{num(3)}, 3.254, 0},
		"a power upwards":                {profile.Point{PowerOfTen: &profile.PowerOfTen{}}, 3, []profile.Raw{num(2)}, 300, 0},
		"a power that is none":           {profile.Point{PowerOfTen: decimals}, 1, []profile.Raw{num(1.5)}, 0, bad(telemetry.ReasonMalformed)},
		"a power beyond all reason":      {profile.Point{PowerOfTen: decimals}, 1, []profile.Raw{num(65535)}, 0, bad(telemetry.ReasonMalformed)},
		"a unit by code":                 {profile.Point{Unit: "m", UnitCode: code}, 125, []profile.Raw{num(1)}, 1.25, 0},
		"a unit by word":                 {profile.Point{Unit: "Cel", UnitCode: code}, 50, []profile.Raw{{Text: " F "}}, 10, 0},
		"a unit that nobody knows":       {profile.Point{Unit: "m", UnitCode: code}, 125, []profile.Raw{num(9)}, 0, bad(telemetry.ReasonConfiguration)},
		"all at once, then the range": {
			profile.Point{Unit: "m", ValidWhen: gate, PowerOfTen: decimals, UnitCode: code, Valid: &profile.Range{Max: ptr(1.0)}},
			1255,
			[]profile.Raw{num(0), num(1), num(1)},
			1.255, bad(telemetry.ReasonOutOfRange),
		},
	} {
		got, q, ok := profile.Measure(&c.pt, same, nil, c.raw, c.refs, 0)
		if got != c.want || q != c.q || !ok {
			t.Errorf("%s: %v %v, want %v %v", name, got, q, c.want, c.q)
		}
		if n := len(c.pt.Refs()); c.refs != nil && n != len(c.refs) {
			t.Errorf("%s: %d refs", name, n)
		}
	}
}

func TestWhatOtherFieldsSayOfAPayload(t *testing.T) {
	same := driver.Linear{Factor: 1}
	gate := &profile.Match{Place: profile.Place{Path: "type"}, Text: []string{"telemetry"}}
	pt := &profile.Point{Topic: "t", Path: "v", ValidWhen: gate}
	other := []profile.Raw{profile.RawValue("text", true)}
	if _, _, q, _ := profile.MeasureValue(pt, same, nil, json.Number("3"), other, 0); q != telemetry.BadQuality(telemetry.ReasonInvalid) {
		t.Error(q)
	}
	right := []profile.Raw{profile.RawValue("telemetry", true)}
	if v, _, q, ok := profile.MeasureValue(pt, same, nil, json.Number("3"), right, 0); v != 3 || q != 0 || !ok {
		t.Error(v, q)
	}
	if _, _, q, _ := profile.MeasureValue(pt, same, nil, nil, right, 0); q != telemetry.BadQuality(telemetry.ReasonMissing) {
		t.Error(q)
	}
	if _, _, q, _ := profile.MeasureValue(pt, same, nil, "x", right, 0); q != telemetry.BadQuality(telemetry.ReasonMalformed) {
		t.Error(q)
	}
	text := &profile.Point{Topic: "t", Kind: "text", ValidWhen: gate}
	if _, s, q, _ := profile.MeasureValue(text, same, nil, "hello", right, 0); s != "hello" || q != 0 {
		t.Error(s, q)
	}
	if _, s, q, _ := profile.MeasureValue(text, same, nil, "hello", other, 0); s != "" || q != telemetry.BadQuality(telemetry.ReasonInvalid) {
		t.Error(s, q)
	}
	if r := profile.RawValue(map[string]any{}, true); r.Quality != telemetry.BadQuality(telemetry.ReasonMalformed) {
		t.Errorf("%+v", r)
	}
}

func TestAnElementOfAnArrayIsEnoughForAText(t *testing.T) {
	for name, c := range map[string]struct {
		v     any
		match profile.Match
		want  bool
	}{
		"one of them":                       {[]any{"a", "crossing"}, profile.Match{Text: []string{"crossing"}}, true},
		"one of them is one of the texts":   {[]any{"a", "b"}, profile.Match{Text: []string{"b", "c"}}, true},
		"none":                              {[]any{"a", "crossing-2"}, profile.Match{Text: []string{"crossing"}}, false},
		"a star":                            {[]any{"a", "crossing-2"}, profile.Match{Text: []string{"crossing*"}}, true},
		"an empty one":                      {[]any{}, profile.Match{Text: []string{"crossing"}}, false},
		"an empty one, and anything goes":   {[]any{}, profile.Match{Text: []string{"*"}}, true},
		"nested ones do not count":          {[]any{[]any{"crossing"}, map[string]any{"crossing": 1}, nil}, profile.Match{Text: []string{"crossing"}}, false},
		"nor what would look like two":      {[]any{"a\x00crossing"}, profile.Match{Text: []string{"crossing"}}, false},
		"numbers are texts too":             {[]any{json.Number("4")}, profile.Match{Text: []string{"4"}}, true},
		"an array is no number":             {[]any{json.Number("4")}, profile.Match{Equals: []float64{4}}, false},
		"an empty array is no number":       {[]any{}, profile.Match{Equals: []float64{0}}, false},
		"an array is no version":            {[]any{"1.2"}, profile.Match{Version: profile.VersionText}, false},
		"a text beside arrays is one still": {"crossing", profile.Match{Text: []string{"crossing"}}, true},
	} {
		if got := c.match.Fits(profile.RawValue(c.v, true)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, pt := range []profile.Point{{PowerOfTen: &profile.PowerOfTen{}}, {Unit: "m", UnitCode: &profile.UnitCode{Units: map[string]string{"3": "cm"}}}} {
		if _, q, _ := profile.Measure(&pt, driver.Linear{Factor: 1}, nil, 5, []profile.Raw{profile.RawValue([]any{"3"}, true)}, 0); !q.IsBad() {
			t.Errorf("an array was taken for a power or a unit: %+v", pt)
		}
	}
}

func TestATotalGoesOnOverItsWraps(t *testing.T) {
	pt := &profile.Point{Holding: ptr(0), Counter: &profile.Counter{}}
	c := profile.NewCount(pt)
	for i, x := range []struct{ raw, want float64 }{
		{65000, 65000},
		{65535, 65535},
		{4, 65540},           // a wrap
		{30000, 95536},       // runs on
		{12, 12},             // the device began anew
		{65000, 65000},       // however far it ran in between
		{30000, 30000},       // too far for a wrap: began anew
		{60000, 60000},       //
		{65000, 65000},       //
		{100, 65536 + 100},   // a wrap
		{100, 65536 + 100},   // nothing new
		{4200, 65536 + 4200}, //
	} {
		if got, ok := c.Next(pt.Counter, x.raw, int64(i)); !ok || got != x.want {
			t.Errorf("step %d: %v is %v, want %v", i, x.raw, got, x.want)
		}
	}
}

func TestATotalGoesOnAfterARestartOfTheAgent(t *testing.T) {
	pt := &profile.Point{Holding: ptr(0), Counter: &profile.Counter{}}
	for name, c := range map[string]struct {
		state     profile.CountState
		raw, want float64
	}{
		"where it was":             {profile.CountState{Base: 65536, Last: 16384}, 20000, 85536},
		"wrapped meanwhile":        {profile.CountState{Base: 65536, Last: 49152}, 100, 131172},
		"the device began anew":    {profile.CountState{Base: 65536, Last: 32768}, 100, 100},
		"nothing was kept":         {profile.CountState{}, 500, 500},
		"further than it was kept": {profile.CountState{Base: 0, Last: 49152}, 60000, 60000},
	} {
		n := profile.NewCount(pt)
		n.Restore(c.state)
		if got, _ := n.Next(pt.Counter, c.raw, 0); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	n := profile.NewCount(pt)
	states := map[profile.CountState]bool{}
	for raw := range 65536 * 2 {
		_, _ = n.Next(pt.Counter, float64(raw%65536), 0)
		states[n.State()] = true
	}
	if len(states) != 8 {
		t.Errorf("%d states in two rounds, want 8", len(states))
	}
}

func TestPlainTotalsStayAsTheDeviceGivesThem(t *testing.T) {
	pt := &profile.Point{Holding: ptr(0), Counter: &profile.Counter{}}
	c := profile.NewCount(pt)
	c.Plain = true
	for _, raw := range []float64{65535, 3, 2} {
		if got, ok := c.Next(pt.Counter, raw, 0); !ok || got != raw {
			t.Errorf("%v is %v", raw, got)
		}
	}
}

func TestARateIsTheIncreaseOverTime(t *testing.T) {
	pt := &profile.Point{Holding: ptr(0), Scale: ptr(0.2), Counter: &profile.Counter{Kind: "rate", Per: "h"}}
	c := profile.NewCount(pt)
	same := driver.Linear{Factor: 1}
	for i, x := range []struct {
		raw  float64
		at   int64
		want float64
		ok   bool
	}{
		{65530, 0, 0, false},      // the first says nothing
		{65535, 60_000, 60, true}, // 5 tips of 0.2 mm in a minute
		{4, 120_000, 60, true},    // over the wrap
		{4, 180_000, 0, true},     //
		{4, 180_000, 0, false},    // no time has passed
		{2, 240_000, 0, false},    // the device began anew
		{3, 300_000, 12, true},
	} {
		got, q, ok := profile.Measure(pt, same, c, x.raw, nil, x.at)
		if ok != x.ok || math.Abs(got-x.want) > 1e-9 || q != 0 {
			t.Errorf("step %d: %v %v %v, want %v %v", i, got, q, ok, x.want, x.ok)
		}
	}
}

func TestADeadbandIsInTheCanonicalUnit(t *testing.T) {
	q := telemetry.Quantities{"water_level": {ID: "water_level", Unit: "m", Deadband: 0.01}}
	pt := &profile.Point{Quantity: "water_level", Unit: "mm", Deadband: 5}
	if got := pt.DeadbandIn(q); got != 0.005 {
		t.Error(got)
	}
	pt.Deadband = 0
	if got := pt.DeadbandIn(q); got != 0.01 {
		t.Error(got)
	}
}
