package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// shippedFixture returns a fixture of a built-in profile by what it takes.
func shippedFixture(t *testing.T, id, takes string) *profile.Fixture {
	t.Helper()
	file := id + ".fixtures.yaml"
	data, err := firmwareprofiles.FS.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fixtures, err := profile.ParseFixtures(file, data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range fixtures {
		if fixtures[i].Takes == takes {
			return &fixtures[i]
		}
	}
	t.Fatalf("%s: no fixture takes %q", file, takes)
	return nil
}

// files writes files into a folder of their own and returns its path.
func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runAgent runs the agent of an edge.yaml until it has said done, and returns
// what it logged.
func runAgent(t *testing.T, dir string, done func(a *Agent) bool) string {
	t.Helper()
	plan, err := Load(filepath.Join(dir, "edge.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedText{}
	a, err := Open(plan, "test", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	testutil.Eventually(t, time.Minute, "the agent has done it", func() bool { return done(a) })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	return log.String()
}

// loggedReading is a reading with its series by "device/point".
type loggedReading struct {
	series string
	telemetry.Reading
}

// readLog returns the schema in force at the log's end, and every reading in
// order.
func readLog(t *testing.T, dir string) (schema *telemetry.Schema, all []loggedReading) {
	t.Helper()
	l, err := buffer.Open(filepath.Join(dir, "data", "log"), buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = l.Read(buffer.Pos{}, 1<<30, func(r buffer.Record) error {
		var f wire.Frame
		if err := wire.NewDecoder().DecodeFrame(r.Payload, &f); err != nil {
			return err
		}
		data, ok := l.Attachment(f.Schema)
		if !ok {
			return errors.New("the log lacks a schema")
		}
		var err error
		if schema, _, err = wire.DecodeSchema(data); err != nil {
			return err
		}
		for _, x := range f.Readings {
			s := schema.Series[x.Series]
			all = append(all, loggedReading{schema.Devices[s.Device].ID + "/" + s.Point, x})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return schema, all
}

// everyReading is what stands in an agent's log.
func everyReading(t *testing.T, dir string) []loggedReading {
	t.Helper()
	_, all := readLog(t, dir)
	return all
}

// logged is the schema in force at the end of an agent's log, and the newest
// reading of each series by "device/point".
func logged(t *testing.T, dir string) (*telemetry.Schema, map[string]telemetry.Reading) {
	t.Helper()
	schema, all := readLog(t, dir)
	newest := map[string]telemetry.Reading{}
	for _, r := range all {
		newest[r.series] = r.Reading
	}
	return schema, newest
}

func TestTheAgentTakesTheRevisionOfEachDeviceAndTellsTheHub(t *testing.T) {
	field := &drivertest.Field{}
	for unit, takes := range map[int]string{1: "1.0.0", 2: "1.0.1", 3: "1.0.3"} {
		field.Load(unit, shippedFixture(t, "ecowitt/ws90", takes).Registers())
	}
	field.Load(4, shippedFixture(t, "ecowitt/ws90", "1.0.0").Registers())
	field.Load(5, shippedFixture(t, "lufft/ws-umb", "rain").Registers())
	field.Holding(6, 0x160, 0x77) // another model
	for a := range 10 {
		field.Holding(6, 0x165+a, 10)
	}
	dir := files(t, map[string]string{"edge.yaml": fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
clock: {trust: always}
connections: [{id: cabinet, modbus: {address: %s}}]
devices:
  - {id: oldest, profile: ecowitt/ws90, connection: cabinet, unit: 1, interval: 100ms}
  - {id: middle, profile: ecowitt/ws90, connection: cabinet, unit: 2, interval: 100ms}
  - {id: newest, profile: ecowitt/ws90, connection: cabinet, unit: 3, interval: 100ms}
  - {id: pinned, profile: ecowitt/ws90, connection: cabinet, unit: 4, interval: 100ms, revision: "1.0.3"}
  - {id: lufft, profile: lufft/ws-umb, connection: cabinet, unit: 5, interval: 100ms}
  - {id: other, profile: ecowitt/ws90, connection: cabinet, unit: 6, interval: 100ms}
`, field.ServeTCP(t).Address)})
	text := runAgent(t, dir, func(a *Agent) bool {
		return a.collect.answering() == 6 && a.recorder.readings.Load() > 100
	})
	schema, newest := logged(t, dir)
	got := map[string]string{}
	for _, d := range schema.Devices {
		got[d.ID] = d.Revision
	}
	want := map[string]string{"oldest": "1.0.0", "middle": "1.0.1", "newest": "1.0.3", "pinned": "1.0.3", "lufft": "rain", "other": "1.0.3 (assumed)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the hub sees:\n%s", diff)
	}
	for series, reason := range map[string]string{
		"oldest/air_pressure": "bad: not_fitted", "oldest/rain_fine": "bad: not_fitted", "middle/rain_fine": "bad: not_fitted",
		"pinned/rain_fine": "bad: exception", "lufft/wind_speed": "bad: not_fitted", "middle/air_pressure": "good",
		"newest/rain_fine": "good", "lufft/rain_total": "good", "other/air_temperature": "uncertain: configuration",
	} {
		if r, ok := newest[series]; !ok || r.Quality.String() != reason {
			t.Errorf("%s is %v (there: %v), want %s", series, r.Quality, ok, reason)
		}
	}
	for _, line := range []string{
		`msg="the device tells its revision" connection=cabinet device=oldest profile=ecowitt/ws90`,
		`revision=1.0.0`,
		`level=WARN msg="no revision of the profile fits the device`,
		`read="holding 352: 119 (0x77)`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the log does not say %s:\n%s", line, text)
		}
	}
	if strings.Contains(text, "device=pinned profile") {
		t.Error("a pinned device was asked what it is")
	}
}

func TestTheAgentTakesTheRevisionThatAPayloadTells(t *testing.T) {
	broker := serveBroker(t)
	dir := files(t, map[string]string{"edge.yaml": fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
clock: {trust: always}
connections: [{id: local, mqtt: {url: %q}}]
devices: [{id: air, profile: airgradient/open-air, connection: local, with: {serial: ecda3b1eaaaf}}]
`, broker.url)})
	payload := shippedFixture(t, "airgradient/open-air", "fw-3.1.3").Messages[0]
	text := runAgent(t, dir, func(a *Agent) bool {
		if err := broker.server.Publish(payload.Topic, []byte(payload.Payload), false, 0); err != nil {
			t.Fatal(err)
		}
		return a.recorder.readings.Load() > 10
	})
	schema, newest := logged(t, dir)
	if got := schema.Devices[0].Revision; got != "fw-3.1.3" {
		t.Errorf("the hub sees revision %q", got)
	}
	if r := newest["air/pm2_5"]; r.Quality != 0 || r.Value != 7 {
		t.Errorf("PM2.5 is not that of the old firmware: %+v", r)
	}
	if !strings.Contains(text, "firmware=3.1.3 revision=fw-3.1.3") {
		t.Errorf("the log does not say what was taken:\n%s", text)
	}
}

func TestABrokenProfileDisablesItsDevicesAndTheOthersRun(t *testing.T) {
	field := &drivertest.Field{}
	field.Load(1, shippedFixture(t, "ecowitt/ws90", "1.0.3").Registers())
	field.Holding(2, 0, 7)
	dir := files(t, map[string]string{
		"profiles/mine/gauge.yaml": "vendor: Mine\nmodel: Gauge\npoints: [{id: level, quantity: water_level, holding: 70000}]\n",
		"profiles/mine/torn.yaml":  "vendor: [",
		"edge.yaml": fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./data
profiles: [./profiles]
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
clock: {trust: always}
connections: [{id: cabinet, modbus: {address: %s}}]
devices:
  - {id: gauge, profile: mine/gauge, connection: cabinet, unit: 2}
  - {id: torn, profile: mine/torn, connection: cabinet, unit: 3}
  - {id: station, profile: ecowitt/ws90, connection: cabinet, unit: 1, interval: 100ms}
`, field.ServeTCP(t).Address),
	})
	text := runAgent(t, dir, func(a *Agent) bool { return a.collect.answering() == 1 && a.recorder.readings.Load() >= 10 })
	schema, newest := logged(t, dir)
	if len(schema.Devices) != 1 || newest["station/air_temperature"].Quality != 0 {
		t.Errorf("%+v %+v", schema.Devices, newest["station/air_temperature"])
	}
	for _, line := range []string{
		`msg="device disabled" device=gauge`, "mine/gauge.yaml:3:54: points[0].holding: address 70000 is outside the area",
		`msg="device disabled" device=torn`, "mine/torn.yaml:1:",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the log does not say %s:\n%s", line, text)
		}
	}
}

func TestTotalsGoOnOverARestartOfTheAgent(t *testing.T) {
	field := &drivertest.Field{}
	ws90 := shippedFixture(t, "ecowitt/ws90", "1.0.3")
	field.Load(1, ws90.Registers())
	dir := files(t, map[string]string{"edge.yaml": fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./data
hub: {url: mqtt://127.0.0.1:1, send_every: 50ms}
buffer: {commit_every: 100ms}
clock: {trust: always}
connections: [{id: cabinet, modbus: {address: %s}}]
devices: [{id: station, profile: ecowitt/ws90, connection: cabinet, unit: 1, interval: 100ms}]
`, field.ServeTCP(t).Address)})
	rain := func(register uint16) float64 {
		field.Holding(1, 0x16C, register)
		runAgent(t, dir, func(a *Agent) bool { return a.recorder.readings.Load() >= 10 })
		_, newest := logged(t, dir)
		return newest["station/rain_total"].Value
	}
	var got []float64
	for _, register := range []uint16{65_000, 20, 40} { // 6500 mm; over the end while the agent was away
		got = append(got, rain(register))
	}
	if diff := cmp.Diff([]float64{6500, 6555.6, 6557.6}, got); diff != "" {
		t.Error(diff)
	}
}

func TestASerialLineTakesTheSettingsOfItsDevices(t *testing.T) {
	for name, c := range map[string]struct{ line, devices, want, warning string }{
		"unsaid":          {"port: /dev/null", "{id: a, profile: renke/cwt-uwd, connection: bus}", "4800 8N1", ""},
		"said":            {"port: /dev/null, baud: 19200", "{id: a, profile: lambrecht/wind, connection: bus}", "19200 8E1", ""},
		"they disagree":   {"port: /dev/null", "{id: a, profile: renke/cwt-uwd, connection: bus}, {id: b, profile: ecowitt/ws90, connection: bus}", "9600 8N1", "baud is not said and the devices leave the factory with different ones (a: 4800, b: 9600); 9600 is taken"},
		"nobody knows":    {"port: /dev/null", "{id: a, connection: bus, unit: 1, points: [{id: x, quantity: co2, holding: 1}]}", "9600 8N1", ""},
		"behind a bridge": {"address: 10.0.0.5, transport: rtu-over-tcp", "{id: a, profile: vaisala/hmp, connection: bus}", "19200 8N2", ""},
	} {
		dir := files(t, map[string]string{"edge.yaml": "edge: {id: a}\nhub: {url: mqtt://127.0.0.1:1}\nconnections: [{id: bus, modbus: {" + c.line + "}}]\ndevices: [" + c.devices + "]\n"})
		plan, err := Load(filepath.Join(dir, "edge.yaml"), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := plan.Connections[0].Source.(interface{ Line() string }).Line(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := plan.Warnings.Error(); (c.warning != "") != (len(plan.Warnings) > 0) || !strings.Contains(got, c.warning) {
			t.Errorf("%s: warned %q", name, got)
		}
	}
}

var _ driver.Totals = (*totals)(nil)
