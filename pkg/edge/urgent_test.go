package edge

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// seriesLayout has so many series, none of which is a point's.
func seriesLayout(n int) *layout { return &layout{series: make([]telemetry.Series, n)} }

// flushes counts the alarms of a sequence of values, two minutes apart.
func flushes(u *urgency, series uint32, values ...float64) (n int) {
	for i, v := range values {
		q := telemetry.Quality(0)
		if math.IsNaN(v) {
			q = telemetry.BadQuality(telemetry.ReasonNoAnswer)
		}
		now := int64(i+1) * 1_200_000
		if u.saw(&telemetry.Reading{Series: series, Time: now, Value: v, Quality: q}, now) {
			n++
		}
	}
	return n
}

func TestWhatIsUrgent(t *testing.T) {
	bad := math.NaN()
	for name, c := range map[string]struct {
		marked bool
		limits []float64
		values []float64
		want   int
	}{
		"nothing is watched":                   {false, nil, []float64{1, 2, bad, 3}, 0},
		"the first value of a marked point":    {true, nil, []float64{1}, 0},
		"a marked point that changes":          {true, nil, []float64{0, 0, 1, 1, 0}, 2},
		"a marked point that fails":            {true, nil, []float64{0, bad, bad, 0}, 2},
		"a value between the limits":           {false, []float64{10, 20}, []float64{11, 19, 12}, 0},
		"a value that crosses one":             {false, []float64{10, 20}, []float64{15, 21, 25, 19}, 2},
		"a value that crosses two":             {false, []float64{10, 20}, []float64{5, 25}, 1},
		"below a limit from on it":             {false, []float64{10}, []float64{10, 9.9}, 1},
		"bad values cross nothing":             {false, []float64{10}, []float64{15, bad, 15}, 0},
		"a crossing that a bad value hides":    {false, []float64{10}, []float64{15, bad, 5}, 1},
		"the first value, whatever it is":      {false, []float64{10}, []float64{500}, 0},
		"marked and watched: one at each step": {true, []float64{10}, []float64{5, 15, 5}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUrgency(seriesLayout(3))
			u.marked[1] = c.marked
			if c.limits != nil {
				u.watch(&wire.Bands{Bands: []wire.Band{{Series: 1, Limits: c.limits}, {Series: 99, Limits: []float64{0}}}})
			}
			if n := flushes(&u, 1, c.values...); n != c.want {
				t.Errorf("%d, want %d", n, c.want)
			}
		})
	}
}

func TestAFlappingValueDoesNotWearOutTheCardNorHideOthers(t *testing.T) {
	const series, hour = 50, 3600
	u := newUrgency(seriesLayout(series + 1))
	for i := range u.marked {
		u.marked[i] = true
	}
	total, firstHour := 0, 0
	saw := func(i uint32, second int64, v float64) bool {
		return u.saw(&telemetry.Reading{Series: i, Value: v}, 1_760_000_000_000+second*1000)
	}
	saw(series, 0, 0)
	for second := range int64(24 * hour) {
		if saw(0, second, float64(second%2)) {
			total++
		}
		if second == hour {
			firstHour = total
			if !saw(series, second, 1) {
				t.Error("a series that flaps hides another one")
			}
		}
	}
	if total > 24*hour/250 || firstHour > 25 {
		t.Errorf("one series: %d alarms in a day, %d in the first hour", total, firstHour)
	}
	total = 0
	for second := range int64(24 * hour) {
		for i := range uint32(series) {
			if saw(i, 48*hour+second, float64(second%2)) {
				total++
			}
		}
	}
	if most := 24*hour/15 + maxAlarms + 1; total > most {
		t.Errorf("%d series: %d alarms in a day, at most %d", series, total, most)
	}
}

func TestAnAlarmThatHadToWaitIsNotForgotten(t *testing.T) {
	u := newUrgency(seriesLayout(1))
	u.marked[0] = true
	at := func(ms int64, v float64) bool { return u.saw(&telemetry.Reading{Value: v}, 1_000_000+ms) }
	at(0, 0)
	if !at(10, 1) || at(500, 0) {
		t.Fatal("the first is an alarm, the next must wait")
	}
	if u.due(1_000_000+1000) || !u.due(1_000_000+2100) || u.due(1_000_000+9000) {
		t.Error("owed once, after its rest")
	}
}

func TestUrgentReadingsAreSentAndCommittedAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, err := buffer.Open(dir, buffer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		d := testDevice("gate", "flood", "level")
		d.Points[0].Urgent = true
		c, fc := testCollector(t, 1_760_000_000_000, d)
		begun, err := framelog.Begin(log, 0, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r, err := newRecorder(log, c, c.schema, newTotals(log, slog.New(slog.DiscardHandler)), begun, wire.Pos{}, [16]byte{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		flushed := 0
		r.flush = func() { flushed++ }
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.run(ctx, time.Hour, time.Hour, time.Hour, func() {}) }()
		put := func(point int, v float64) {
			fc.Ms += 1000
			c.Put(d, time.Time{}, value(point, v))
			synctest.Wait()
		}
		put(0, 0)
		put(1, 3)
		if flushed != 0 || r.frames.Load() != 0 {
			t.Fatal("sent too early")
		}
		put(0, 1)
		committed := func() (n int, all bool) {
			all = true
			if err := log.Read(buffer.Pos{}, 1<<20, func(r buffer.Record) error { n++; all = all && r.Committed; return nil }); err != nil {
				t.Fatal(err)
			}
			return n, all
		}
		if n, all := committed(); flushed != 1 || n != 1 || !all {
			t.Errorf("marked: flushed %d times, %d frames, committed %v", flushed, n, all)
		}
		c.watch(&wire.Bands{Bands: []wire.Band{{Series: 1, Limits: []float64{5}}}})
		put(1, 4)
		put(1, 6)
		if n, all := committed(); flushed != 2 || n != 2 || !all {
			t.Errorf("watched: flushed %d times, %d frames, committed %v", flushed, n, all)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsWatchedOutlivesAReload(t *testing.T) {
	a, b, added := testDevice("a", "x"), testDevice("b", "x"), testDevice("c", "x")
	added.Points[0].Urgent = true
	c, _ := testCollector(t, 1000, a, b)
	c.watch(&wire.Bands{Bands: []wire.Band{{Series: 2, Limits: []float64{10}}}}) // b
	c.Put(b, time.Time{}, value(0, 5))
	var f wire.Frame
	c.relay(newLayout(&Plan{Devices: []*driver.Device{added, b}}), &f)
	c.Put(b, time.Time{}, value(0, 15))
	select {
	case <-c.urgent:
	default:
		t.Error("the crossing of a device that stayed is not urgent")
	}
	if !c.urgency.marked[0] || c.urgency.marked[2] || c.urgency.limits[0] != nil {
		t.Errorf("%+v", c.urgency)
	}
}

func TestPaceFollowsTheDevicesAndTheLink(t *testing.T) {
	every := func(ds ...time.Duration) (out []*driver.Device) {
		for _, d := range ds {
			out = append(out, &driver.Device{Interval: d})
		}
		return out
	}
	for name, c := range map[string]struct {
		change  func(*Config)
		devices []*driver.Device
		want    pace
	}{
		"nothing to read":    {func(*Config) {}, nil, pace{5 * time.Second, 0, 5 * time.Second, 15 * time.Second, time.Minute, 10 * time.Second, 30}},
		"read every second":  {func(*Config) {}, every(10*time.Second, time.Second), pace{time.Second, 0, time.Second, 3 * time.Second, time.Minute, 10 * time.Second, 30}},
		"read all the time":  {func(*Config) {}, every(100 * time.Millisecond), pace{time.Second, 0, time.Second, 3 * time.Second, time.Minute, 10 * time.Second, 30}},
		"metered":            {func(c *Config) { c.Hub.Link = linkMetered }, every(time.Second), pace{5 * time.Second, time.Minute, time.Minute, 5 * time.Second, 5 * time.Minute, time.Minute, 36}},
		"metered, but often": {func(c *Config) { c.Hub.Link, c.Hub.SendEvery = linkMetered, 10*time.Second }, nil, pace{5 * time.Second, 10 * time.Second, 10 * time.Second, 5 * time.Second, 5 * time.Minute, time.Minute, 30}},
		"said":               {func(c *Config) { c.Hub.SendEvery = 200 * time.Millisecond }, every(time.Second), pace{200 * time.Millisecond, 0, 200 * time.Millisecond, 600 * time.Millisecond, time.Minute, 10 * time.Second, 30}},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		if got := paceOf(&cfg, c.devices); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
