package modbus

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	goburrow "github.com/goburrow/modbus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// fakeLine answers by the bubble's clock: every register holds its address.
type fakeLine struct {
	timeout time.Duration
	takes   time.Duration // of an answered question
	mute    func(q question) bool
	refuse  func(q question) byte
	flaky   func(q question) error
	missing error // why the line cannot be opened

	registers map[int]uint16 // what they hold, if not their address

	up      bool
	stopped chan struct{}
	asked   []asked
}

type asked struct {
	at time.Time
	q  question
}

func newFakeLine(takes, timeout time.Duration) *fakeLine {
	return &fakeLine{timeout: timeout, takes: takes, stopped: make(chan struct{})}
}

func (l *fakeLine) open(context.Context) error {
	l.up = l.missing == nil
	return l.missing
}
func (l *fakeLine) isOpen() bool                    { return l.up }
func (l *fakeLine) close()                          { l.up = false }
func (l *fakeLine) interrupt()                      { close(l.stopped) }
func (l *fakeLine) proven() bool                    { return true }
func (l *fakeLine) patience(question) time.Duration { return l.timeout }
func (l *fakeLine) quiet() time.Duration            { return 0 }
func (l *fakeLine) passedOver() int                 { return 0 }
func (l *fakeLine) name() string                    { return "the line" }

func (l *fakeLine) tell(question, []uint16, bool) error { return errSilence }

func (l *fakeLine) ask(q question) ([]byte, error) {
	l.asked = append(l.asked, asked{time.Now(), q})
	d, err := l.takes, error(nil)
	if l.flaky != nil {
		err = l.flaky(q)
	}
	switch {
	case l.mute != nil && l.mute(q):
		d, err = l.timeout, errSilence
	case l.refuse != nil && l.refuse(q) != 0:
		err = &goburrow.ModbusError{FunctionCode: 0x83, ExceptionCode: l.refuse(q)}
	}
	select {
	case <-time.After(d):
	case <-l.stopped:
		return nil, errStopped
	}
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, 2*q.count)
	for i := range q.count {
		v := uint16(q.address + i)
		if l.registers != nil {
			v = l.registers[q.address+i]
		}
		out = append(out, byte(v>>8), byte(v))
	}
	return out, nil
}

// simulate runs a bus over the line for a while of the bubble's time.
func simulate(t *testing.T, l *fakeLine, d time.Duration, env driver.Env, devices ...*driver.Device) (*drivertest.Recorder, *bus) {
	t.Helper()
	rec := &drivertest.Recorder{}
	env.Sink = rec
	cfg := &Config{Address: "10.0.0.5", Timeout: l.timeout}
	cfg.ApplyDefaults()
	b := newBus("bus", cfg, l, devices, env)
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := b.Run(ctx); err != nil {
		t.Error(err)
	}
	rec.Check(t)
	return rec, b
}

func fleet(n int, interval time.Duration) []*driver.Device {
	var ds []*driver.Device
	for unit := 1; unit <= n; unit++ {
		ds = append(ds, device(unit, interval, holdings(0, 1, 2)...))
	}
	return ds
}

func TestPollsAreSpreadAndKeepTheirCadence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(20*time.Millisecond, time.Second)
		begin := time.Now()
		rec, _ := simulate(t, l, 10*time.Minute-time.Millisecond, driver.Env{}, fleet(10, time.Second)...)
		for unit := 1; unit <= 10; unit++ {
			rs := rec.Readings(fmt.Sprintf("unit-%d", unit), 0)
			if len(rs) != 600 {
				t.Errorf("unit %d was read %d times in 600 s", unit, len(rs))
			}
			phase := time.Duration(unit-1)*100*time.Millisecond + l.takes
			for i, r := range rs {
				if at := r.Put.Sub(begin); at != phase+time.Duration(i)*time.Second {
					t.Fatalf("unit %d: reading %d at %v, want %v past the second", unit, i, at, phase)
				}
			}
		}
	})
}

func TestOneDeadUnitOf32CostsTheOthersLessThan5Percent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(20*time.Millisecond, time.Second) // 62 % of the bus is used
		l.mute = func(q question) bool { return q.unit == 7 }
		const seconds = 300
		rec, _ := simulate(t, l, seconds*time.Second, driver.Env{}, fleet(32, time.Second)...)
		lost, worst := 0, 0
		for unit := 1; unit <= 32; unit++ {
			id := fmt.Sprintf("unit-%d", unit)
			n := len(rec.Readings(id, 0))
			if unit == 7 {
				if n < seconds*9/10 {
					t.Errorf("the dead unit has %d bad readings in %d s", n, seconds)
				}
				continue
			}
			lost += seconds - n
			worst = max(worst, seconds-n)
			if s := rec.State(id); !s.Up || s.Changes != 1 {
				t.Errorf("%s: %+v", id, s)
			}
		}
		probes := 0
		for _, a := range l.asked {
			if a.q.unit == 7 {
				probes++
			}
		}
		share := float64(lost) / (31 * seconds)
		t.Logf("lost %.2f %% (worst unit %d of %d), dead unit asked %d times", 100*share, worst, seconds, probes)
		if share > 0.05 || worst > seconds*5/100 {
			t.Errorf("the others lost %.1f %% of their readings, one of them %d of %d", 100*share, worst, seconds)
		}
		if probes < 5 {
			t.Errorf("the dead unit was asked %d times only", probes)
		}
	})
}

func TestAUnitThatComesBackIsFoundWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(20*time.Millisecond, time.Second)
		begin := time.Now()
		l.mute = func(q question) bool { return q.unit%4 == 0 && time.Since(begin) < 200*time.Second }
		rec, _ := simulate(t, l, 300*time.Second, driver.Env{}, fleet(32, time.Second)...)
		for unit := 4; unit <= 32; unit += 4 {
			id := fmt.Sprintf("unit-%d", unit)
			rs := rec.Readings(id, 0)
			i := slices.IndexFunc(rs, func(r drivertest.Reading) bool { return r.Quality == 0 })
			if i < 0 || rs[i].Put.Sub(begin) > 265*time.Second {
				t.Errorf("%s was not found again within 65 s", id)
			}
		}
	})
}

func TestAUnitThatAnswersNowAndThenDoesNotTakeTheOthersSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(20*time.Millisecond, time.Second)
		n := 0
		l.mute = func(q question) bool {
			if q.unit != 3 {
				return false
			}
			n++
			return n%2 == 0
		}
		rec, _ := simulate(t, l, 300*time.Second, driver.Env{}, fleet(32, time.Second)...)
		for unit := 1; unit <= 32; unit++ {
			if got := len(rec.Readings(fmt.Sprintf("unit-%d", unit), 0)); unit != 3 && got < 285 {
				t.Errorf("unit %d was read %d times in 300 s", unit, got)
			}
		}
	})
}

func TestAWholeDeadBusIsAskedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(20*time.Millisecond, 100*time.Millisecond)
		l.mute = func(question) bool { return true }
		rec, _ := simulate(t, l, 60*time.Second, driver.Env{}, fleet(4, time.Second)...)
		for unit := 1; unit <= 4; unit++ {
			asked := 0
			for _, a := range l.asked {
				if int(a.q.unit) == unit {
					asked++
				}
			}
			if asked < 60 {
				t.Errorf("unit %d was asked %d times in 60 s although nobody else needs the bus", unit, asked)
			}
			if s := rec.State(fmt.Sprintf("unit-%d", unit)); s.Up || s.Changes != 1 {
				t.Errorf("unit %d: %+v", unit, s)
			}
		}
	})
}

func TestAnOverloadedBusGivesPollsUpAndSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(100*time.Millisecond, time.Second) // 20 devices: twice what fits
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		env := driver.Env{Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: reg}
		rec, b := simulate(t, l, 10*time.Minute, env, fleet(20, time.Second)...)
		total := 0
		for unit := 1; unit <= 20; unit++ {
			n := len(rec.Readings(fmt.Sprintf("unit-%d", unit), 0))
			total += n
			if n < 270 || n > 330 {
				t.Errorf("unit %d was read %d times, its fair share is 300", unit, n)
			}
		}
		if total < 5900 {
			t.Errorf("%d polls in 600 s, the bus could carry 6000", total)
		}
		if missed := testutil.ToFloat64(b.metrics.missed); math.Abs(missed-6000) > 100 {
			t.Errorf("%v polls counted as missed, want about 6000", missed)
		}
		if n := strings.Count(log.String(), "cannot carry its polls"); n != 1 {
			t.Errorf("overload was logged %d times:\n%s", n, log.String())
		}
	})
}

func TestAFastDeviceIsNotHeldUpByALongOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(50*time.Millisecond, time.Second)
		slow := device(1, time.Minute)
		for i := range 100 { // a hundred blocks: 5 s
			slow.Points = append(slow.Points, holding(200*i))
			slow.Convert = append(slow.Convert, driver.Linear{Factor: 1})
		}
		rec, _ := simulate(t, l, 5*time.Minute, driver.Env{}, slow, device(2, 200*time.Millisecond, holding(0)))
		if n := len(rec.Readings("unit-2", 0)); n < 1490 {
			t.Errorf("the fast device was read %d times in 300 s, want 1500", n)
		}
		if n := len(rec.Readings("unit-1", 99)); n < 5 {
			t.Errorf("the long device was read %d times in 5 min", n)
		}
	})
}

func TestABlockIsCutUntilOnlyTheBadPointIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for bad := range 20 {
			l := newFakeLine(time.Millisecond, time.Second)
			l.refuse = func(q question) byte {
				if q.address <= bad && bad < q.address+q.count {
					return 2
				}
				return 0
			}
			d := device(1, time.Second, holdings(upTo(0, 20)...)...)
			rec, _ := simulate(t, l, 9900*time.Millisecond, driver.Env{}, d)
			for p := range d.Points {
				rs := rec.Readings(d.ID, p)
				if len(rs) != 10 {
					t.Errorf("bad %d: point %d has %d readings in 10 s", bad, p, len(rs))
				}
				for _, r := range rs {
					want := telemetry.Quality(0)
					if p == bad {
						want = telemetry.BadQuality(telemetry.ReasonException)
					}
					if r.Quality != want || p != bad && r.Value != float64(p) {
						t.Fatalf("bad %d: point %d is %v, %v", bad, p, r.Value, r.Quality)
					}
				}
			}
			if s := rec.State(d.ID); !s.Up || s.Changes != 1 {
				t.Errorf("bad %d: %+v", bad, s)
			}
			last := l.asked[len(l.asked)-5:]
			for _, a := range last {
				if a.q.address <= bad && bad < a.q.address+a.q.count && a.q.count > 1 {
					t.Errorf("bad %d: %s is still asked for", bad, a.q)
				}
			}
			requests := 0
			for _, a := range l.asked {
				if time.Since(a.at) <= 1500*time.Millisecond {
					requests++
				}
			}
			if requests > 4 {
				t.Errorf("bad %d: a poll still takes %d requests", bad, requests)
			}
		}
	})
}

func TestAHoleThatIsRefusedIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(time.Millisecond, time.Second)
		l.refuse = func(q question) byte {
			if q.address < 12 && q.address+q.count > 10 {
				return 2
			}
			return 0
		}
		d := device(1, time.Second, holdings(append(upTo(0, 10), upTo(12, 10)...)...)...)
		rec, _ := simulate(t, l, 4900*time.Millisecond, driver.Env{}, d)
		var got []string
		for _, a := range l.asked {
			got = append(got, a.q.String())
		}
		want := append([]string{"holding 0-21"}, slices.Repeat([]string{"holding 0-9", "holding 12-21"}, 5)...)
		if !slices.Equal(got, want) {
			t.Errorf("asked for %v, want %v", got, want)
		}
		for p := range d.Points {
			for _, r := range rec.Readings(d.ID, p) {
				if r.Quality != 0 {
					t.Errorf("point %d: %v", p, r.Quality)
				}
			}
		}
	})
}

func TestADeviceThatLikesShortRequestsGetsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(time.Millisecond, time.Second)
		l.refuse = func(q question) byte {
			if q.count > 16 {
				return 3
			}
			return 0
		}
		d := device(1, time.Second, holdings(upTo(0, 100)...)...)
		rec, _ := simulate(t, l, 4900*time.Millisecond, driver.Env{}, d)
		for p := range d.Points {
			if rs := rec.Readings(d.ID, p); len(rs) != 5 || rs[4].Quality != 0 || rs[0].Quality != 0 {
				t.Errorf("point %d: %d readings", p, len(rs))
			}
		}
		if n := len(l.asked); n > 15+4*8+4 {
			t.Errorf("%d requests in five polls", n)
		}
	})
}

func TestABlockThatIsSilentCostsItselfOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(10*time.Millisecond, 500*time.Millisecond)
		l.mute = func(q question) bool { return q.address == 500 }
		d := device(1, time.Second, holdings(0, 500, 900)...)
		rec, _ := simulate(t, l, 120*time.Second, driver.Env{}, d, device(2, time.Second, holding(0)))
		for p, want := range []int{118, 0, 100} {
			good := 0
			for _, r := range rec.Readings(d.ID, p) {
				if r.Quality == 0 {
					good++
				}
			}
			if good < want || p == 1 && good > 0 {
				t.Errorf("point %s has %d good readings in 120 s", d.Points[p].ID, good)
			}
		}
		if s := rec.State(d.ID); !s.Up {
			t.Errorf("%+v", s)
		}
	})
}

func TestPointsAreReadAsOftenAsTheyAreWorth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(time.Millisecond, time.Second)
		rare := holding(10)
		rare.Interval = time.Minute
		d := device(1, time.Second, holding(0), rare)
		rec, _ := simulate(t, l, 10*time.Minute-time.Millisecond, driver.Env{}, d)
		if n := len(rec.Readings(d.ID, 0)); n != 600 {
			t.Errorf("read %d times, want 600", n)
		}
		if n := len(rec.Readings(d.ID, 1)); n != 10 {
			t.Errorf("the rare point was read %d times, want 10", n)
		}
	})
}

func TestALineThatIsMissingIsTriedAtGrowingIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(time.Millisecond, time.Second)
		l.missing = context.DeadlineExceeded
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		rec, b := simulate(t, l, 10*time.Minute-time.Millisecond, driver.Env{Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: reg}, fleet(2, time.Second)...)
		tries := testutil.ToFloat64(b.metrics.kinds[telemetry.ReasonUnreachable])
		if tries < 20 || tries > 40 {
			t.Errorf("%v tries in 10 min", tries)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines logged:\n%s", n, log.String())
		}
		for _, id := range []string{"unit-1", "unit-2"} {
			if rs := rec.Readings(id, 0); len(rs) != 600 || rs[0].Quality != telemetry.BadQuality(telemetry.ReasonUnreachable) {
				t.Errorf("%s has %d readings in 600 s", id, len(rs))
			}
			if s := rec.State(id); s.Up || s.Calls != 600 {
				t.Errorf("%s: %+v", id, s)
			}
		}
	})
}

func TestADamagedAnswerIsAskedForAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(time.Millisecond, time.Second)
		n := 0
		l.flaky = func(question) error {
			if n++; n%5 == 0 {
				return frameErrorf(FaultCRC, "has a wrong checksum")
			}
			return nil
		}
		reg := prometheus.NewRegistry()
		rec, b := simulate(t, l, time.Minute, driver.Env{Metrics: reg}, device(1, time.Second, holding(4)))
		for _, r := range rec.Readings("unit-1", 0) {
			if r.Quality != 0 {
				t.Errorf("a damaged answer was not asked for again: %v", r.Quality)
			}
		}
		if got := testutil.ToFloat64(b.metrics.kinds[telemetry.ReasonBadFrame]); got < 5 {
			t.Errorf("%v damaged answers counted", got)
		}
	})
}

func TestADeviceThatWarmsUpIsBadUntilItIsWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(time.Millisecond, 100*time.Millisecond)
		begin := time.Now()
		l.mute = func(question) bool { s := time.Since(begin).Seconds(); return s > 10 && s < 20 }
		d := device(1, time.Second, holding(4))
		d.Modbus.WarmUp = 10 * time.Second
		rec, _ := simulate(t, l, time.Minute, driver.Env{}, d)
		count := map[telemetry.Reason]int{}
		for _, r := range rec.Readings(d.ID, 0) {
			count[r.Quality.Reason()]++
		}
		if count[telemetry.ReasonWarmUp] != 10 || count[telemetry.ReasonNoAnswer] < 9 || count[telemetry.ReasonNone] < 38 {
			t.Errorf("%v", count)
		}
	})
}

func TestPointsThatCannotBeReadAreBadAndHarmNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine(time.Millisecond, time.Second)
		topic := profile.Point{ID: "topic", Topic: "a/b"}
		rec, _ := simulate(t, l, 2900*time.Millisecond, driver.Env{}, device(1, time.Second, holding(4), topic), device(2, time.Second, topic))
		if r, ok := rec.Last("unit-1", 1); !ok || r.Quality != telemetry.BadQuality(telemetry.ReasonConfiguration) {
			t.Errorf("%+v", r)
		}
		if r, ok := rec.Last("unit-1", 0); !ok || r.Value != 4 {
			t.Errorf("%+v", r)
		}
		if s := rec.State("unit-2"); s.Up || s.Reason != telemetry.ReasonConfiguration {
			t.Errorf("%+v", s)
		}
	})
}
