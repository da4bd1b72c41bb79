package profile_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestVersionsAreReadAsDevicesTellThem(t *testing.T) {
	for _, c := range []struct {
		form string
		raw  profile.Raw
		mask uint32
		want string
	}{
		{"bytes", profile.Raw{Number: 0x0204}, 0, "2.4"},
		{"bytes", profile.Raw{Number: 7}, 0, "0.7"},
		{"bytes", profile.Raw{Number: 0x01020003}, 0, "1.2.0.3"},
		{"digits", profile.Raw{Number: 451}, 0, "4.5.1"},
		{"tenths", profile.Raw{Number: 0x0B0A}, 0x00FF, "1.0"},
		{"tenths", profile.Raw{Number: 0x0B0A}, 0xFF00, "1.1"},
		{"hundredths", profile.Raw{Number: 104}, 0, "1.4"},
		{"text", profile.Raw{Text: "V3.1.21-snap"}, 0, "3.1.21"},
		{"text", profile.Raw{Text: "quickstart"}, 0, ""},
		{"text", profile.Raw{Text: "99999999999999999999.1"}, 0, ""},
		{"digits", profile.Raw{Number: -1}, 0, ""},
		{"digits", profile.Raw{Number: 1.5}, 0, ""},
		{"bytes", profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonNoAnswer)}, 0, ""},
	} {
		m := profile.Match{Version: c.form, Mask: c.mask}
		v, ok := m.FirmwareVersion(c.raw)
		if got := v.String(); got != c.want || ok != (c.want != "") {
			t.Errorf("%s of %+v: %q, want %q", c.form, c.raw, got, c.want)
		}
	}
}

func TestAVersionIsInItsRange(t *testing.T) {
	for text, cases := range map[string]string{
		">=1.0.1 <1.0.3": "1.0.0 no, 1.0.1 yes, 1.0.2.9 yes, 1.0.3 no, 1.1 no",
		"<3.1.4":         "3.1.3 yes, 3.1.4 no, 3.1.21 no",
		"=2":             "2 yes, 2.0.0 yes, 2.0.1 no",
		"<=2 >1":         "2.0 yes, 1.0 no, 1.5 yes",
		"":               "0 yes, 99.1 yes",
	} {
		r, err := profile.ParseVersionRange(text)
		if err != nil {
			t.Fatal(err)
		}
		for c := range strings.SplitSeq(cases, ", ") {
			word, want, _ := strings.Cut(c, " ")
			v, _ := profile.ParseVersion(word)
			if r.Contains(v) != (want == "yes") {
				t.Errorf("%q in %q: not %s", word, text, want)
			}
		}
	}
	for _, bad := range []string{"1.0", ">=", ">=a", "~1.0", ">=1..2"} {
		if _, err := profile.ParseVersionRange(bad); err == nil {
			t.Errorf("%q was taken for a range", bad)
		}
	}
}

func TestConditionsHoldOrDoNot(t *testing.T) {
	five := 5.0
	refused := profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonException)}
	silent := profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonNoAnswer)}
	for name, c := range map[string]struct {
		m    profile.Match
		raw  profile.Raw
		want bool
	}{
		"it is enough to be there":             {profile.Match{}, profile.Raw{Number: 7}, true},
		"refused":                              {profile.Match{}, refused, false},
		"absent and refused":                   {profile.Match{Absent: true}, refused, true},
		"absent and there":                     {profile.Match{Absent: true}, profile.Raw{}, false},
		"silence is not absence":               {profile.Match{Absent: true}, silent, false},
		"high byte":                            {profile.Match{Mask: 0xFF00, Equals: []float64{5, 7}}, profile.Raw{Number: 0x0721}, true},
		"low byte":                             {profile.Match{Mask: 0x00FF, Equals: []float64{7}}, profile.Raw{Number: 0x0721}, false},
		"a mask on a negative number":          {profile.Match{Mask: 1, Equals: []float64{1}}, profile.Raw{Number: -1}, false},
		"below":                                {profile.Match{Min: &five}, profile.Raw{Number: 4}, false},
		"at the end":                           {profile.Match{Min: &five, Max: &five}, profile.Raw{Number: 5}, true},
		"text":                                 {profile.Match{Text: []string{"ok"}}, profile.Raw{Text: " ok "}, true},
		"text with stars":                      {profile.Match{Text: []string{"x", "RUT*9*"}}, profile.Raw{Text: "RUTX09"}, true},
		"stars do not overlap":                 {profile.Match{Text: []string{"a*a"}}, profile.Raw{Text: "a"}, false},
		"a star at the end needs the head":     {profile.Match{Text: []string{"RUT*"}}, profile.Raw{Text: "TRB"}, false},
		"two stars with something in between":  {profile.Match{Text: []string{"*E121*"}}, profile.Raw{Text: "ioLogik E1210"}, true},
		"a number in a payload":                {profile.Match{Equals: []float64{2}}, profile.Raw{Text: "2.0"}, true},
		"a word where a number is wanted":      {profile.Match{Equals: []float64{2}}, profile.Raw{Text: "two"}, false},
		"a version that is none":               {profile.Match{Version: "text"}, profile.Raw{Text: "beta"}, false},
		"a version, whatever it is, is enough": {profile.Match{Version: "text"}, profile.Raw{Text: "1.2"}, true},
	} {
		if got := c.m.Fits(c.raw); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheRevisionIsTakenThatFits(t *testing.T) {
	const text = `
vendor: A
model: B
title: {vi: a, en: b}
category: weather
tested: document
links: [x]
protocol: modbus
match: [{holding: 0, equals: [9]}, {holding: 1, version: digits}]
points: [{id: a, quantity: co2, input: 0}]
firmware:
  - {id: hand, title: {vi: a, en: b}, source: x}
  - {id: new, title: {vi: a, en: b}, source: x, range: ">=2"}
  - {id: oem, title: {vi: a, en: b}, source: x, range: "<2", match: [{holding: 2, equals: [1]}]}
  - {id: old, title: {vi: a, en: b}, source: x, range: "<2"}
`
	p, err := profile.ParseProfile("a/b", "b.yaml", []byte(text), catalogue(t))
	if err != nil {
		t.Fatal(err)
	}
	id := p.Identification(nil)
	if n := len(id.Places()); n != 3 {
		t.Fatalf("%d places", n)
	}
	for regs, want := range map[[3]float64]profile.Verdict{
		{9, 21, 0}: {Model: true, Revision: 1, Version: "2.1", Seen: "holding 0: 9 (0x9), holding 1: 21 (0x15), holding 2: 0 (0x0)"},
		{9, 19, 1}: {Model: true, Revision: 2, Version: "1.9", Seen: "holding 0: 9 (0x9), holding 1: 19 (0x13), holding 2: 1 (0x1)"},
		{9, 19, 0}: {Model: true, Revision: 3, Version: "1.9", Seen: "holding 0: 9 (0x9), holding 1: 19 (0x13), holding 2: 0 (0x0)"},
		{8, 19, 0}: {Model: false, Revision: -1, Version: "1.9", Seen: "holding 0: 8 (0x8), holding 1: 19 (0x13), holding 2: 0 (0x0)"},
	} {
		got := id.Judge(func(pl *profile.Place) profile.Raw { return profile.Raw{Number: regs[*pl.Holding]} })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(regs, diff)
		}
	}
	refused := id.Judge(func(*profile.Place) profile.Raw {
		return profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonException)}
	})
	if refused.Model || refused.Revision != -1 || refused.Seen != "holding 0: exception, holding 1: exception, holding 2: exception" {
		t.Errorf("%+v", refused)
	}
}

func TestADeviceWithoutPinnedRevisionHasThePointsOfAll(t *testing.T) {
	lib := profile.Open(catalogue(t), firmwareprofiles.FS)
	p, err := lib.Get("ecowitt/ws90")
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.ResolveDevice("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Revision != "1.0.3" || r.Identify == nil || len(r.Revisions) != 3 || len(r.Points) != 10 {
		t.Fatalf("%s %v %d %d", r.Revision, r.Identify, len(r.Revisions), len(r.Points))
	}
	lacks := func(i int) (ids []string) {
		for j, pt := range r.Revisions[i].Points {
			if pt.ID != r.Points[j].ID {
				t.Fatalf("point %d is %q and %q", j, pt.ID, r.Points[j].ID)
			}
			if pt.Protocol() == "" {
				ids = append(ids, pt.ID)
			}
		}
		return ids
	}
	if diff := cmp.Diff([][]string{nil, {"rain_fine"}, {"air_pressure", "rain_fine"}}, [][]string{lacks(0), lacks(1), lacks(2)}); diff != "" {
		t.Error(diff)
	}
	own := profile.Point{ID: "air_pressure", Quantity: "air_pressure", Holding: ptr(7)}
	r.Override(own, profile.Point{ID: "door", Quantity: "door_open", Coil: ptr(1)})
	for i := range r.Revisions {
		last := r.Revisions[i].Points[len(r.Revisions[i].Points)-1]
		if len(r.Revisions[i].Points) != 11 || last.ID != "door" || *r.Revisions[i].Points[8].Holding != 7 {
			t.Errorf("revision %d: own points are not in their places", i)
		}
	}
	pinned, err := p.ResolveDevice("1.0.0", nil)
	if err != nil || pinned.Identify != nil || pinned.Revisions != nil || len(pinned.Points) != 8 {
		t.Errorf("pinned: %+v %v", pinned, err)
	}
	if _, err := p.ResolveDevice("9", nil); err == nil {
		t.Error("a revision that is not there")
	}
}

func TestARevisionMayDepartFromAnother(t *testing.T) {
	tree := fstest.MapFS{"a/b.yaml": {Data: []byte(`
vendor: A
model: B
title: {vi: a, en: b}
category: weather
tested: document
links: [x]
protocol: modbus
points: [{id: a, quantity: co2, input: 0}, {id: b, quantity: co2, input: 1}]
firmware:
  - {id: "3", title: {vi: a, en: b}, source: x, like: "2", points: [{id: c, quantity: co2, input: 3}]}
  - {id: "2", title: {vi: a, en: b}, source: x, like: "1", points: [{id: b, quantity: co2, input: 20}]}
  - {id: "1", title: {vi: a, en: b}, source: x, remove: [a]}
`)}}
	p, err := profile.Open(catalogue(t), tree).Get("a/b")
	if err != nil {
		t.Fatal(err)
	}
	points, _, _, err := p.Resolve("3", nil)
	if err != nil || len(points) != 2 || points[0].ID != "b" || *points[0].Input != 20 || points[1].ID != "c" {
		t.Errorf("%+v %v", points, err)
	}
}

func TestAPayloadTellsTheFirmware(t *testing.T) {
	p, err := profile.Open(catalogue(t), firmwareprofiles.FS).Get("airgradient/open-air")
	if err != nil {
		t.Fatal(err)
	}
	id := p.Identification(map[string]string{"serial": "abc"})
	places := id.Places()
	if len(places) != 1 || places[0].Topic != "airgradient/readings/abc" || places[0].String() != "firmware of airgradient/readings/abc" {
		t.Fatalf("%+v", places[0])
	}
	for version, want := range map[string]int{"3.1.3": 1, "3.1.4": 0, "3.1.21": 0, "4.0": 0, "dev": -1} {
		got := id.Judge(func(*profile.Place) profile.Raw { return profile.RawValue(version, true) })
		if got.Revision != want {
			t.Errorf("%s: %+v", version, got)
		}
	}
}
