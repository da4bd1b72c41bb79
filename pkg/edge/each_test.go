package edge

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOneEntryIsManyDevices(t *testing.T) {
	dir := files(t, map[string]string{"edge.yaml": `
edge: {id: a}
hub: {url: mqtt://127.0.0.1:1}
connections:
  - {id: local, mqtt: {url: tcp://127.0.0.1:1883}}
  - {id: bus, modbus: {address: "10.0.0.5:502"}}
devices:
  - {id: "zb-{name}", profile: zigbee2mqtt/climate, connection: local, each: {name: [hall, 0x00158d]}, labels: {room: "{name}"}}
  - {id: "soil-{unit}", connection: bus, each: {unit: [3, 4]}, points: [{id: t, quantity: soil_temperature, holding: 1}]}
  - {id: "w{n}", connection: local, each: {n: [1, 2]}, points: [{id: level, quantity: water_level, topic: "wells/{n}/state", path: "m{n}.level"}]}
  - {id: single, connection: bus, unit: 9, points: [{id: t, quantity: soil_temperature, holding: 1}]}
`})
	plan, err := Load(filepath.Join(dir, "edge.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range plan.Devices {
		got = append(got, fmt.Sprint(d.ID, " ", d.Unit, " ", d.Points[0].Topic, " ", d.Points[0].Path, " ", d.Labels.Get("room")))
	}
	want := []string{
		"zb-hall 0 zigbee2mqtt/hall temperature hall", "zb-0x00158d 0 zigbee2mqtt/0x00158d temperature 0x00158d",
		"soil-3 3   ", "soil-4 4   ", "w1 0 wells/1/state m1.level ", "w2 0 wells/2/state m2.level ", "single 9   ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnEntryForManyDevicesIsCheckedOnce(t *testing.T) {
	for entry, want := range map[string]string{
		`{id: zb, profile: zigbee2mqtt/climate, connection: local, each: {name: [a, b]}}`:                               `devices[0].id: would be the id of several devices`,
		`{id: "zb-{name}", profile: zigbee2mqtt/climate, connection: local, each: {name: [a, b], base: [c]}}`:           `goes over 2 parameters`,
		`{id: "zb-{name}", profile: zigbee2mqtt/climate, connection: local, each: {name: []}}`:                          `has 0 values`,
		`{id: "zb-{name}", profile: zigbee2mqtt/climate, connection: local, with: {name: x}, each: {name: [a, b]}}`:     `name stands under each: too`,
		`{id: "zb-{naem}", profile: zigbee2mqtt/climate, connection: local, each: {naem: [a, b]}}`:                      `unknown parameter; did you mean "name"?`,
		`{id: "zb-{name}", profile: zigbee2mqtt/climate, connection: local, each: {name: [a, a]}}`:                      `"zb-a" is taken`,
		`{id: "s{unit}", connection: bus, each: {unit: [a, b]}, points: [{id: t, quantity: co2, holding: 1}]}`:          `"a" is no unit id`,
		`{id: "s{unit}", connection: bus, each: {unit: [1, 2]}, points: [{id: t, quantity: co22, holding: 1}]}`:         `did you mean "co2"?`,
		`{id: "s{unit}", connection: bus, unit: 1, each: {unit: [1, 2]}, points: [{id: t, quantity: co2, holding: 1}]}`: `unit stands under each: too`,
	} {
		dir := files(t, map[string]string{"edge.yaml": "edge: {id: a}\nhub: {url: mqtt://127.0.0.1:1}\nconnections: [{id: local, mqtt: {url: tcp://127.0.0.1:1883}}, {id: bus, modbus: {address: 10.0.0.5}}]\ndevices:\n  - " + entry + "\n"})
		_, err := Load(filepath.Join(dir, "edge.yaml"), nil)
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("%s\n%v\nwant once %q", entry, err, want)
		}
	}
}
