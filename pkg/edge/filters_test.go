package edge

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/filter"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// filtered is a collector whose device thins out its points as the specs say.
func filtered(t *testing.T, d *driver.Device, specs map[string]filter.Spec) (*collector, *fakeClock, *telemetry.Schema) {
	t.Helper()
	fc := &fakeClock{Time: clock.Time{Ms: 1_000_000, Trusted: true}}
	l := newLayout(&Plan{Devices: []*driver.Device{d}, Filters: filterSet{d: specs}})
	c, schema := newCollector(l, fc, slog.New(slog.DiscardHandler)), l.schema
	if _, _, err := wire.EncodeSchema(nil, schema); err != nil {
		t.Fatal(err)
	}
	c.begin(0)
	return c, fc, schema
}

var byException = filter.Spec{Changes: true, Deadband: filter.Deadband{Absolute: 1}, Silence: 60_000, Interval: 1000}

func TestTheSchemaSaysWhatTheHubMustKnowOfAFilter(t *testing.T) {
	d := testDevice("air", "pm", "wind", "rain", "plain", "slow")
	for i := range d.Points {
		d.Points[i].Topic = "" // polled
	}
	d.Points[4].Interval = 2500 * time.Millisecond
	_, _, schema := filtered(t, d, map[string]filter.Spec{
		"pm":   byException,
		"wind": {Window: 60_000, Outputs: []filter.Output{{Aggregate: "mean"}, {Aggregate: "max"}}},
		"rain": {AtMost: 10_000},
	})
	type told struct {
		Point             string
		Interval, Silence int64
	}
	var got []told
	for _, s := range schema.Series {
		got = append(got, told{s.Point, s.Interval, s.Silence})
	}
	want := []told{{"pm", 1000, 60_000}, {"wind", 60_000, 0}, {"rain", 10_000, 0}, {"plain", 1000, 0}, {"slow", 2000, 0}, {"device_up", 1000, 30_000}, {"wind_max", 60_000, 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatAFilterReportsIsOnTimeAndWhatItDropsIsCommittedAllTheSame(t *testing.T) {
	d := testDevice("air", "pm", "wind")
	c, fc, _ := filtered(t, d, map[string]filter.Spec{
		"pm":   byException,
		"wind": {Window: 10_000, Outputs: []filter.Output{{Aggregate: "mean"}, {Aggregate: "max"}}},
	})
	var got []telemetry.Reading
	var f wire.Frame
	for i := range 21 {
		fc.Ms += 1000
		pm := 5.0
		if i >= 7 {
			pm = 9
		}
		ticket := c.Put(d, time.Time{}, []driver.Sample{{Point: 0, Value: pm}, {Point: 1, Value: float64(i)}})
		fc.Ms += 500
		done := false
		c.Committed(ticket, func() { done = true })
		if c.cut(&f, time.Hour) {
			for _, r := range f.Readings {
				if r.Time <= f.PrevW || r.Time > f.W {
					t.Errorf("%+v is outside (%d, %d]", r, f.PrevW, f.W)
				}
				got = append(got, r)
			}
		}
		c.commit(c.newest())
		if !done {
			t.Errorf("message %d waits for its acknowledgement though nothing of it is left to commit", i)
		}
		fc.Ms -= 500
	}
	want := []telemetry.Reading{
		{Series: 0, Time: 1_001_000, Value: 5},
		{Series: 0, Time: 1_007_000, Value: 5},
		{Series: 0, Time: 1_008_000, Value: 9},
		{Series: 1, Time: 1_010_000, Value: 4},
		{Series: 3, Time: 1_010_000, Value: 8},
		{Series: 1, Time: 1_020_000, Value: 13.5},
		{Series: 3, Time: 1_020_000, Value: 18},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(filter.Dropped{Deadband: 18, Window: 21}, c.thinnedOut()); diff != "" {
		t.Error(diff)
	}
	c.close()
	if !c.cut(&f, 0) || len(f.Readings) != 2 || f.Readings[0].Value != 19.5 {
		t.Errorf("a stopping agent ends its windows: %v", f.Readings)
	}
}

func TestAFilterBeginsAnewWhereValuesHeldAtTheHubEnd(t *testing.T) {
	for name, leap := range map[string]func(*fakeClock){
		"a stall":   func(fc *fakeClock) { fc.Ms += 40_000 },
		"a new era": func(fc *fakeClock) { fc.Ms -= 3_600_000; fc.Era++ },
	} {
		t.Run(name, func(t *testing.T) {
			d := testDevice("air", "pm")
			c, fc, _ := filtered(t, d, map[string]filter.Spec{"pm": byException})
			var f wire.Frame
			for i := range 4 {
				fc.Ms += 1000
				c.Put(d, time.Time{}, value(0, 5))
				c.cut(&f, 0)
				if n := len(f.Readings); n != map[bool]int{true: 1}[i == 0] {
					t.Fatalf("%d readings in frame %d", n, i)
				}
			}
			leap(fc)
			c.cut(&f, 0)
			fc.Ms += 1000
			c.Put(d, time.Time{}, value(0, 5))
			if c.cut(&f, 0); len(f.Readings) != 1 {
				t.Errorf("the first reading afterwards is not reported: %v", f.Readings)
			}
		})
	}
}

func TestAFilterFollowsTheTimeOfThisBootToTrueTime(t *testing.T) {
	d := testDevice("air", "pm")
	c, fc, _ := filtered(t, d, map[string]filter.Spec{"pm": {Window: 60_000, Outputs: []filter.Output{{Aggregate: "last"}}}})
	fc.Time = clock.Time{Ms: 65_000}
	c.trusted, c.watermark, c.stamped, c.last[0] = false, 60_000, 60_000, 0
	c.Put(d, time.Time{}, value(0, 5))
	const offset = 1_700_000_000_000
	fc.Time, fc.offset = clock.Time{Ms: offset + 121_000, Trusted: true, Era: 1}, offset
	c.watermark = 119_000
	var f wire.Frame
	c.cut(&f, 0)
	if len(f.Readings) != 1 || f.Readings[0].Time != offset+120_000 {
		t.Errorf("%v, want the window's end by the name it has now", f.Readings)
	}
}

func TestFiltersAreResolvedPointBeforeQuantityBeforeCatalogue(t *testing.T) {
	const head = `
edge: {id: e}
hub: {url: mqtt://127.0.0.1:1883}
connections:
  - {id: c, modbus: {address: 127.0.0.1:502}}
  - {id: m, mqtt: {url: tcp://127.0.0.1:1883}}
`
	const device = `
devices:
  - id: d
    connection: c
    unit: 1
    points:
      - {id: t, quantity: air_temperature, holding: 0, deadband: 0.3}
      - {id: u, quantity: air_temperature, holding: 1}
      - {id: dir, quantity: wind_direction, holding: 2}
`
	load := func(text string) (*Plan, error) {
		path := filepath.Join(t.TempDir(), "edge.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(path, nil)
	}
	for name, c := range map[string]struct {
		filters, device string
		want            map[string]filter.Spec
	}{
		"off unless somebody asks": {"", "", map[string]filter.Spec{}},
		"by quantity, by point": {
			"filters: {air_temperature: {deadband: 5%}}",
			"    filter: {u: {off: true}, dir: {window: 1m}}",
			map[string]filter.Spec{
				"t":   {Interval: 5000, Changes: true, Deadband: filter.Deadband{Percent: 5}, Silence: 240_000},
				"dir": {Interval: 5000, Window: 60_000, Outputs: []filter.Output{{Aggregate: telemetry.AggregateVectorMean}}},
			},
		},
		"the profile's hint with a silence": {
			"", "    filter: {t: {silence: 10m}}",
			map[string]filter.Spec{"t": {Interval: 5000, Changes: true, Deadband: filter.Deadband{Absolute: 0.3}, Silence: 600_000}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := load(head + c.filters + device + c.device)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, plan.Filters[plan.Devices[0]]); diff != "" {
				t.Error(diff)
			}
		})
	}
	_, err := load(head + `
filters: {air_temprature: {silence: 10m}, pm2_5: {at_most: 1ms}}
devices:
  - {id: d, connection: c, unit: 1, points: [{id: t, quantity: air_temperature, holding: 0}, {id: t_max, quantity: air_temperature, holding: 1}], filter: {tt: {silence: 1m}, t: {window: 1m, aggregate: [mean, max]}, t_max: {window: 8s}}}
`)
	if err == nil {
		t.Fatal("faults were taken")
	}
	for _, want := range []string{
		`filters.air_temprature: there is no such quantity; did you mean "air_temperature"?`,
		`filters.pm2_5.at_most: 1ms is out of bounds`,
		`devices[0].filter.tt: the device has no such point`,
		`devices[0].filter.t.aggregate: the point t_max that this would make is there already`,
		`devices[0].filter.t_max.window: 8s holds less than two readings that come every 5s; write at least 10s`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestACatalogueMayTurnAFilterOn(t *testing.T) {
	d := testDevice("air", "pm")
	d.Interval = 5 * time.Second
	d.Points[0].Topic = ""
	c := &checker{cfg: &Config{}, quantities: telemetry.Quantities{"pm2_5": {ID: "pm2_5", Deadband: 2}}}
	want := map[string]filter.Spec{"pm": {Interval: 5000, Changes: true, Deadband: filter.Deadband{Absolute: 2}, Silence: 240_000}}
	if diff := cmp.Diff(want, c.filters(0, &DeviceConfig{}, d)); diff != "" {
		t.Error(diff)
	}
}
