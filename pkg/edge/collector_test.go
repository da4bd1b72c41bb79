package edge

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// fakeClock is a clock that the test sets.
type fakeClock struct {
	clock.Time
	offset int64
}

func (f *fakeClock) Now() clock.Time             { return f.Time }
func (f *fakeClock) OffsetOfBoot() (int64, bool) { return f.offset, f.Trusted }

func testDevice(id string, points ...string) *driver.Device {
	d := &driver.Device{ID: id, Interval: time.Second}
	for _, p := range points {
		d.Points = append(d.Points, profile.Point{ID: p, Quantity: "pm2_5", Topic: "t"})
	}
	return d
}

func testCollector(t *testing.T, now int64, devices ...*driver.Device) (*collector, *fakeClock) {
	t.Helper()
	fc := &fakeClock{Time: clock.Time{Ms: now, Trusted: true}}
	l := newLayout(&Plan{Devices: devices})
	c, schema := newCollector(l, fc, slog.New(slog.DiscardHandler)), l.schema
	if _, _, err := wire.EncodeSchema(nil, schema); err != nil {
		t.Fatal(err)
	}
	c.begin(0)
	return c, fc
}

func value(point int, v float64) []driver.Sample { return []driver.Sample{{Point: point, Value: v}} }

func times(f *wire.Frame) (ts []int64) {
	for _, r := range f.Readings {
		ts = append(ts, r.Time)
	}
	return ts
}

func TestAReadingIsNeverStampedBehindTheWatermarkThatWasGivenAway(t *testing.T) {
	d := testDevice("air", "pm")
	c, fc := testCollector(t, 1000, d)
	c.Put(d, time.Time{}, value(0, 1)) // still in the millisecond in which observing began
	var f wire.Frame
	c.cut(&f, 0)
	if got := times(&f); len(got) != 1 || got[0] <= f.PrevW || got[0] > f.W {
		t.Fatalf("readings at %v in (%d, %d]", got, f.PrevW, f.W)
	}
	fc.Ms = 2000
	c.Put(d, time.Time{}, value(0, 2))
	if !c.cut(&f, time.Second) {
		t.Fatal("no frame")
	}
	w := f.W
	c.Put(d, time.Time{}, value(0, 3)) // same millisecond as the cut
	fc.Ms = 3000
	var g wire.Frame
	if !c.cut(&g, time.Second) {
		t.Fatal("no second frame")
	}
	if g.PrevW != w {
		t.Errorf("PrevW is %d, the frame before ended at %d", g.PrevW, w)
	}
	for _, r := range g.Readings {
		if r.Time <= g.PrevW || r.Time > g.W {
			t.Errorf("reading at %d is outside (%d, %d]", r.Time, g.PrevW, g.W)
		}
	}
}

func TestOneReadingPerSeriesAndMillisecondIsKeptAndTheRestCounted(t *testing.T) {
	d := testDevice("air", "pm", "pm10")
	c, fc := testCollector(t, 1000, d)
	fc.Ms = 1500
	c.Put(d, time.Time{}, value(0, 1))
	c.Put(d, time.Time{}, value(0, 2))
	c.Put(d, time.Time{}, value(1, 3))
	fc.Ms = 2000
	var f wire.Frame
	c.cut(&f, 0)
	if len(f.Readings) != 2 || f.Readings[0].Value != 1 || c.duplicates != 1 {
		t.Errorf("readings %v, %d duplicates", f.Readings, c.duplicates)
	}
}

func TestAQuietAgentSendsAnEmptyFrameOnceTheHeartbeatIsDue(t *testing.T) {
	c, fc := testCollector(t, 1000)
	var f wire.Frame
	if !c.cut(&f, 10*time.Second) || len(f.Marks) != 1 || f.Marks[0].Kind != wire.MarkStart {
		t.Fatalf("the first frame must say that the agent started: %+v", f.Marks)
	}
	fc.Ms = 10_999
	if c.cut(&f, 10*time.Second) {
		t.Error("a frame before the heartbeat is due")
	}
	fc.Ms = 11_000
	if !c.cut(&f, 10*time.Second) || f.W != 11_000 {
		t.Errorf("no heartbeat, W %d", f.W)
	}
}

func TestDeviceTimeIsHeldBackUntilItsWatermarkPassesAndQoS1WaitsForIt(t *testing.T) {
	d := testDevice("cam", "count")
	d.MQTT.Time = &profile.DeviceTime{MaxLag: 5 * time.Second}
	other := testDevice("air", "pm")
	c, fc := testCollector(t, 100_000, d, other)
	var f wire.Frame
	c.cut(&f, 0)
	fc.Ms = 110_000
	first := c.Put(d, time.UnixMilli(109_000), value(0, 7))
	second := c.Put(other, time.Time{}, value(0, 8))
	c.cut(&f, 0)
	if got := times(&f); !cmp.Equal(got, []int64{110_000}) {
		t.Fatalf("readings at %v: the device's own time lies ahead of its watermark", got)
	}
	if c.newest() >= first {
		t.Errorf("ticket %d counts as written, %d is held back", c.newest(), first)
	}
	fc.Ms = 114_000
	c.cut(&f, 0)
	if got := times(&f); !cmp.Equal(got, []int64{109_000}) {
		t.Fatalf("readings at %v after the watermark passed", got)
	}
	if c.newest() < second {
		t.Errorf("ticket %d, want at least %d", c.newest(), second)
	}
	done := 0
	c.Committed(second, func() { done++ })
	if done != 0 {
		t.Error("acknowledged before the commit")
	}
	c.commit(c.newest())
	c.Committed(first, func() { done++ })
	if done != 2 {
		t.Errorf("%d of 2 acknowledged after the commit", done)
	}
}

func TestALateDeviceTimeComesAtOnceAndIsLate(t *testing.T) {
	d := testDevice("cam", "count")
	d.MQTT.Time = &profile.DeviceTime{MaxLag: 5 * time.Second}
	c, fc := testCollector(t, 100_000, d)
	var f wire.Frame
	fc.Ms = 120_000
	c.cut(&f, 0)
	c.Put(d, time.UnixMilli(101_000), value(0, 7))
	fc.Ms = 121_000
	c.cut(&f, 0)
	if got := times(&f); !cmp.Equal(got, []int64{101_000}) || got[0] > f.PrevW-5000 {
		t.Errorf("readings at %v in (%d, %d]", got, f.PrevW-5000, f.W-5000)
	}
}

func TestWhatWasStampedBeforeTheClockWasKnownMovesToTrueTime(t *testing.T) {
	d := testDevice("air", "pm")
	fc := &fakeClock{Time: clock.Time{Ms: 5_000}, offset: 1_000_000}
	c := newCollector(newLayout(&Plan{Devices: []*driver.Device{d}}), fc, slog.New(slog.DiscardHandler))
	c.begin(900_000)
	var f wire.Frame
	fc.Ms = 6_000
	c.Put(d, time.Time{}, value(0, 1))
	c.cut(&f, 0)
	if !f.Untimed || f.W != 6_000 || f.Marks[0] != (wire.Mark{Kind: wire.MarkStart, From: 900_000, To: 5_000, Fixed: true}) {
		t.Fatalf("first frame %+v", f.Header)
	}
	fc.Ms = 7_000
	c.Put(d, time.Time{}, value(0, 2))
	fc.Time = clock.Time{Ms: 1_008_000, Trusted: true}
	c.cut(&f, 0)
	if f.Untimed || f.PrevW != 1_006_000 || f.W != 1_008_000 || times(&f)[0] != 1_007_000 || len(f.Marks) != 0 {
		t.Errorf("after the clock was known: %+v at %v", f.Header, times(&f))
	}
}

// The clock becomes trusted when the hub answers, at any moment between two cuts.
func TestAReadingThatComesRightAfterTheClockWasKnownHasTrueTimeOnce(t *testing.T) {
	const offset = 1_795_800_000_000
	d := testDevice("air", "pm")
	c, fc := testCollector(t, 0, d)
	fc.Trusted, fc.Ms = false, 1000
	c.trusted = false
	c.begin(0)
	fc.Ms = 1100
	c.Put(d, time.Time{}, value(0, 1))
	fc.Time, fc.offset = clock.Time{Ms: offset + 1150, Trusted: true, Era: 1}, offset
	c.Put(d, time.Time{}, value(0, 2))
	c.Status(d, true, 0, "")
	fc.Ms = offset + 1200
	var f wire.Frame
	c.cut(&f, 0)
	if got, want := times(&f), []int64{offset + 1100, offset + 1150, offset + 1150}; !cmp.Equal(got, want) {
		t.Errorf("times %v, want %v", got, want)
	}
	if f.Untimed || f.Era != 1 || f.W != offset+1200 {
		t.Errorf("%+v", f.Header)
	}
}

func TestANewEraBeginsAtItsOwnTimeAndKeepsTheNewestOfEachSeries(t *testing.T) {
	d := testDevice("air", "pm")
	c, fc := testCollector(t, 500_000, d)
	var f wire.Frame
	fc.Ms = 501_000
	c.Put(d, time.Time{}, value(0, 1))
	fc.Ms = 501_500
	c.Put(d, time.Time{}, value(0, 2))
	fc.Time = clock.Time{Ms: 100_000, Trusted: true, Era: 1} // the clock was an hour ahead
	c.cut(&f, 0)
	if f.Era != 1 || f.PrevW != 99_999 || f.W != 100_000 || len(f.Readings) != 1 || f.Readings[0].Value != 2 || f.Readings[0].Time != 100_000 {
		t.Errorf("first frame of the era: %+v %v", f.Header, f.Readings)
	}
	if m := f.Marks[len(f.Marks)-1]; m.Kind != wire.MarkEra || m.To != f.PrevW {
		t.Errorf("marks %+v", f.Marks)
	}
	fc.Ms = 101_000
	c.Put(d, time.Time{}, value(0, 3))
	c.cut(&f, 0)
	if len(f.Readings) != 1 || f.Readings[0].Time != 101_000 {
		t.Errorf("the era goes on with %v", f.Readings)
	}
}

func TestAnAgentThatWasAwaySaysThatItDidNotLook(t *testing.T) {
	c, fc := testCollector(t, 1000)
	var f wire.Frame
	c.cut(&f, 0)
	fc.Ms = 1000 + stallAfter.Milliseconds() + 1
	c.cut(&f, 10*time.Second)
	if len(f.Marks) != 1 || f.Marks[0] != (wire.Mark{Kind: wire.MarkStall, From: 1000, To: fc.Ms}) {
		t.Errorf("marks %+v", f.Marks)
	}
}

func TestDeviceUpIsReportedAtOnceOnChangeAndThenNowAndThen(t *testing.T) {
	d := testDevice("air", "pm")
	c, fc := testCollector(t, 1000, d)
	status := func(at int64, up bool, reason telemetry.Reason) {
		fc.Ms = at
		c.Status(d, up, reason, "unit 1 does not answer")
	}
	status(1100, true, telemetry.ReasonNone)
	status(1200, true, telemetry.ReasonNone)
	status(1300, false, telemetry.ReasonNoAnswer)
	status(1400, false, telemetry.ReasonNoAnswer)
	status(31_299, false, telemetry.ReasonNoAnswer)
	status(31_300, false, telemetry.ReasonNoAnswer)
	fc.Ms = 32_000
	var f wire.Frame
	c.cut(&f, 0)
	want := []telemetry.Reading{
		{Series: 1, Time: 1100, Value: 1},
		{Series: 1, Time: 1300, Value: 0, Quality: telemetry.NewQuality(telemetry.Good, telemetry.ReasonNoAnswer)},
		{Series: 1, Time: 31_300, Value: 0, Quality: telemetry.NewQuality(telemetry.Good, telemetry.ReasonNoAnswer)},
	}
	if diff := cmp.Diff(want, f.Readings); diff != "" {
		t.Error(diff)
	}
}

func TestAFloodIsBoundedAndCounted(t *testing.T) {
	d := testDevice("air", "pm")
	c, fc := testCollector(t, 0, d)
	for i := range 3 * maxPending {
		fc.Ms = int64(1 + i)
		c.Put(d, time.Time{}, value(0, float64(i)))
	}
	select {
	case <-c.full:
	default:
		t.Error("nobody was told to cut a frame")
	}
	if len(c.pending) > 2*maxPending || c.unplaced == 0 {
		t.Errorf("%d pending, %d dropped", len(c.pending), c.unplaced)
	}
}
