package profile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
)

func TestATechniciansFolderOverridesTheBuiltInProfiles(t *testing.T) {
	q := catalogue(t)
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "renke"), 0o750); err != nil {
		t.Fatal(err)
	}
	own := `{vendor: R, model: M, title: {vi: a, en: b}, category: weather, tested: device, links: [x], protocol: modbus,
  points: [{id: t, quantity: air_temperature, input: 7}]}`
	for name, text := range map[string]string{"renke/cwt-uwd.yaml": own, "renke/broken.yaml": "points: 5", "renke/notes.txt": "x"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lib := profile.Open(q, firmwareprofiles.FS, profile.Dir(folder))
	p, err := lib.Get("renke/cwt-uwd")
	if err != nil || p.Tested != "device" || len(p.Points) != 1 {
		t.Fatalf("%+v %v", p, err)
	}
	if again, _ := lib.Get("renke/cwt-uwd"); again != p {
		t.Error("a profile is parsed once")
	}
	var errs strictyaml.Errors
	if _, err := lib.Get("renke/broken"); !errors.As(err, &errs) || errs[0].File != filepath.Join(folder, "renke", "broken.yaml") {
		t.Errorf("%v", err)
	}
	if _, err := lib.Get("generic/xy-md02"); err != nil {
		t.Errorf("a broken profile must not cost another one: %v", err)
	}
	if _, _, err := lib.Fixtures("renke/cwt-uwd"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the fixtures of the overridden profile are not those of its replacement: %v", err)
	}
	ids := lib.IDs()
	if !slices.IsSorted(ids) || !slices.Contains(ids, "renke/broken") || slices.Contains(ids, "renke/cwt-uwd.fixtures") {
		t.Error(ids)
	}
}

func TestAnUnknownProfileNamesTheNearest(t *testing.T) {
	lib := profile.Open(catalogue(t), firmwareprofiles.FS)
	for id, want := range map[string]string{
		"renke/cwt-uvd":    `unknown profile "renke/cwt-uvd"; did you mean "renke/cwt-uwd"?`,
		"xy-md02":          `unknown profile "xy-md02"; did you mean "generic/xy-md02"?`,
		"pzem/pzem-016":    `unknown profile "pzem/pzem-016"; did you mean "peacefair/pzem-016"?`,
		"advantech/zzzzzz": `unknown profile "advantech/zzzzzz"; of this vendor there are advantech/adam-6050`,
		"../etc/passwd":    "",
		"renke/../x":       "",
		"":                 "",
	} {
		_, err := lib.Get(id)
		if !errors.Is(err, profile.ErrUnknown) || want != "" && err.Error() != want {
			t.Errorf("%q: %v", id, err)
		}
	}
}

const revised = `
vendor: A
model: B
title: {vi: a, en: b}
category: weather
tested: document
links: [x]
protocol: mqtt
mqtt:
  availability: {topic: "{base}/{name}/LWT", path: "state.{name}", online: [up]}
  time: {path: "t.{name}", format: unix, max_lag: 5s}
with:
  name:    {example: gate, title: {vi: a, en: b}}
  base:    {default: "site/{name}", title: {vi: a, en: b}}
  channel: {type: int, default: 0, min: 0, max: 3, example: 1, title: {vi: a, en: b}}
  factor:  {type: float, default: 1.5, title: {vi: a, en: b}}
  raw:     {type: bool, default: false, title: {vi: a, en: b}}
points:
  - {id: a, quantity: air_temperature, topic: "{base}/{name}", path: "temperature:{channel}.{name}.{factor}.{raw}"}
  - {id: b, quantity: co2, topic: "{base}/b"}
firmware:
  - {id: "2", title: {vi: a, en: b}, source: x, range: ">=2.0"}
  - id: "1"
    title: {vi: a, en: b}
    source: x
    remove: [b]
    points: [{id: a, quantity: air_temperature, topic: old}, {id: c, quantity: pm10, topic: "{name}/c"}]
`

func TestADeviceResolvesRevisionAndParameters(t *testing.T) {
	tree := fstest.MapFS{"a/b.yaml": {Data: []byte(revised)}}
	p, err := profile.Open(catalogue(t), tree).Get("a/b")
	if err != nil {
		t.Fatal(err)
	}
	brief := func(points []profile.Point) (s []string) {
		for _, pt := range points {
			s = append(s, pt.ID+" "+pt.Topic+" "+pt.Path)
		}
		return s
	}

	points, rev, with, err := p.Resolve("", map[string]string{"name": "gate.1"})
	if err != nil || rev != "2" {
		t.Fatal(rev, err)
	}
	want := []string{`a site/gate.1/gate.1 temperature:0.gate\.1.1\.5.false`, "b site/gate.1/b "}
	if diff := cmp.Diff(want, brief(points)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"name": "gate.1", "base": "site/gate.1", "channel": "0", "factor": "1.5", "raw": "false"}, with); diff != "" {
		t.Error(diff)
	}
	m := p.ResolveMQTT(with)
	if m.Availability.Topic != "site/gate.1/gate.1/LWT" || m.Availability.Path != `state.gate\.1` || m.Time.Path != `t.gate\.1` {
		t.Errorf("%+v %+v", m.Availability, m.Time)
	}
	if p.MQTT.Availability.Topic != "{base}/{name}/LWT" || p.Points[0].Topic != "{base}/{name}" {
		t.Error("the profile itself must stay as it is")
	}

	points, rev, _, err = p.Resolve("1", map[string]string{"name": "g", "base": "x"})
	if err != nil || rev != "1" {
		t.Fatal(rev, err)
	}
	if diff := cmp.Diff([]string{"a old ", "c g/c "}, brief(points)); diff != "" {
		t.Error(diff)
	}
}

func TestADeviceThatAsksForWhatIsNotThereIsToldAll(t *testing.T) {
	tree := fstest.MapFS{"a/b.yaml": {Data: []byte(revised)}}
	p, err := profile.Open(catalogue(t), tree).Get("a/b")
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = p.Resolve("3", map[string]string{"nam": "x", "channel": "4", "factor": "1,5", "raw": "yes", "base": "a/#"})
	var faults profile.FieldErrors
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	want := `revision: a/b has no revision "3"; known here: 1, 2
with.base: "a/#" holds one of + # { }; these have a meaning in topics
with.channel: 4 is outside 0 to 3; for example 1
with.factor: "1,5" is not a number
with.nam: unknown parameter; did you mean "name"?
with.raw: "yes" is neither true nor false
with.name: must be set; for example with: {name: gate}`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}
