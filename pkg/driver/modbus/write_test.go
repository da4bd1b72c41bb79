package modbus

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/profile"
)

// writable is a device with one point of each kind that can be written.
func writable(unit int) *driver.Device {
	at := func(a int) *int { return &a }
	f := func(x float64) *float64 { return &x }
	tenth := 0.1
	w := &profile.Writable{Min: f(-1e6), Max: f(1e6)}
	d := &driver.Device{
		ID: "valve", Unit: unit, Interval: 20 * time.Millisecond,
		Modbus: profile.ModbusDefaults{Order: profile.OrderCDAB},
		Points: []profile.Point{
			{ID: "setpoint", Holding: at(10), Type: profile.TypeInt16, Scale: &tenth, Writable: w},
			{ID: "flow", Holding: at(20), Type: profile.TypeFloat32, Writable: w},
			{ID: "pump", Coil: at(3), Writable: &profile.Writable{}},
			{ID: "one", Holding: at(11), Writable: &profile.Writable{Min: f(0), Max: f(60000), Multiple: true}},
			{ID: "lamp", Coil: at(4), Writable: &profile.Writable{Multiple: true}},
			{ID: "fixed", Holding: at(12)},
		},
	}
	for range d.Points {
		d.Convert = append(d.Convert, driver.Linear{Factor: 1})
	}
	return d
}

func writableField() *drivertest.Field {
	f := &drivertest.Field{}
	f.Holding(1, 10, 0, 0, 7)
	f.Holding(1, 20, 0, 0)
	f.Coil(1, 3, 0, 0)
	return f
}

// running starts the driver and returns it once it has polled.
func running(t *testing.T, cfg *Config, d *driver.Device) (driver.Writer, *drivertest.Recorder) {
	t.Helper()
	rec := &drivertest.Recorder{}
	drv, err := cfg.New("bus", []*driver.Device{d}, driver.Env{Sink: rec})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := drv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	w, ok := drv.(driver.Writer)
	if !ok {
		t.Fatalf("%T cannot write", drv)
	}
	return w, rec
}

func TestPointsAreWrittenAndReadBackBetweenPolls(t *testing.T) {
	for name, serve := range map[string]func(t *testing.T, f *drivertest.Field) *Config{
		"TCP": func(t *testing.T, f *drivertest.Field) *Config { return tcpConfig(f.ServeTCP(t).Address) },
		"RTU over TCP": func(t *testing.T, f *drivertest.Field) *Config {
			cfg := tcpConfig(f.ServeRTUOverTCP(t).Address)
			cfg.Transport = TransportRTUOverTCP
			return cfg
		},
		"RTU with an echoing adapter": func(t *testing.T, f *drivertest.Field) *Config {
			s := f.ServeRTU(t)
			s.Unplug()
			s.Echo = true
			if err := s.Plug(); err != nil {
				t.Fatal(err)
			}
			return &Config{Transport: TransportRTU, Port: s.Path, Baud: 115200, Timeout: time.Second}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			field := writableField()
			w, rec := running(t, serve(t, field), writable(1))
			rec.Wait(t, "a poll", func() bool { return rec.State("valve").Up })
			field.Forget()
			for _, c := range []struct {
				point, value string
				back         float64
				function     byte
			}{
				{"setpoint", "-12.3", -12.3, 6},
				{"flow", "3.5", 3.5, 16},
				{"pump", "on", 1, 5},
				{"pump", "off", 0, 5},
				{"one", "513", 513, 16},
				{"lamp", "on", 1, 15},
			} {
				got, err := w.Write(t.Context(), "valve", c.point, c.value)
				if err != nil || !got.Same || got.Back.Value != c.back || got.Back.Quality != 0 {
					t.Errorf("%s: %+v, %v", c.point, got, err)
				}
				writes := 0
				for _, r := range field.Requests() {
					if r.Function == c.function {
						writes++
					}
				}
				if writes != 1 {
					t.Errorf("%s: function %d was sent %d times", c.point, c.function, writes)
				}
				field.Forget()
			}
			if lo, hi := field.Register(1, 20, false), field.Register(1, 21, false); lo != 0 || hi != 0x4060 {
				t.Errorf("3.5 with the low word first stands as %04x %04x", lo, hi)
			}
			rec.Wait(t, "the polls go on and see it", func() bool {
				r, ok := rec.Last("valve", 1)
				return ok && r.Value == 3.5
			})
		})
	}
}

func TestWhatBecameOfAWriteIsTold(t *testing.T) {
	isWrite := func(r drivertest.Request) bool { return r.Function == 6 || r.Function == 16 }
	for name, c := range map[string]struct {
		prepare      func(f *drivertest.Field)
		point, value string
		err          string
		doubt        bool
		same         bool
		note         string
		writes       int
	}{
		"no such device point": {nil, "speed", "1", "has no such point", false, false, "", 0},
		"not writable":         {nil, "fixed", "1", "is not writable", false, false, "", 0},
		"out of range":         {nil, "one", "60001", "outside what may be written", false, false, "", 0},
		"refused":              {func(f *drivertest.Field) { f.Writes(1, true, 0) }, "setpoint", "1", "illegal function", false, false, "", 1},
		"bent by the device":   {func(f *drivertest.Field) { f.Writes(1, false, 50) }, "setpoint", "9", "", false, false, "holds another value", 1},
		"an answer that is lost": {
			// Carried out, and the answer never comes: the drop is decided before it is carried out,
			// so a delay beyond the timeout stands for it.
			func(f *drivertest.Field) {
				f.Script(func(r drivertest.Request) drivertest.Fault {
					if isWrite(r) {
						return drivertest.Fault{Truncate: 100}
					}
					return drivertest.Fault{}
				})
			}, "setpoint", "1.5", "", false, true, "did not answer, but holds what was written", 1,
		},
		"silence for good": {
			func(f *drivertest.Field) { f.Break(1, drivertest.Fault{Drop: true}) },
			"setpoint", "1.5", "does not answer", true, false, "", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			field := writableField()
			s := field.ServeTCP(t)
			cfg := tcpConfig(s.Address)
			cfg.Timeout = 2 * time.Second
			w, rec := running(t, cfg, writable(1))
			rec.Wait(t, "a poll", func() bool { return rec.State("valve").Up })
			field.Forget()
			if c.prepare != nil {
				c.prepare(field)
			}
			got, err := w.Write(t.Context(), "valve", c.point, c.value)
			switch {
			case c.err == "" && err != nil, c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%v, want %q", err, c.err)
			case errors.Is(err, driver.ErrInDoubt) != c.doubt:
				t.Errorf("in doubt is %v: %v", !c.doubt, err)
			case err == nil && (got.Same != c.same || !strings.Contains(got.Note, c.note)):
				t.Errorf("%+v", got)
			}
			n := 0
			for _, r := range field.Requests() {
				if isWrite(r) {
					n++
				}
			}
			if n != c.writes {
				t.Errorf("written %d times, want %d", n, c.writes)
			}
		})
	}
}

func TestAWriteDoesNotWaitForALineThatIsGone(t *testing.T) {
	field := writableField()
	s := field.ServeTCP(t)
	s.Stop()
	w, rec := running(t, tcpConfig(s.Address), writable(1))
	rec.Wait(t, "it is down", func() bool { return rec.State("valve").Known })
	if _, err := w.Write(t.Context(), "valve", "pump", "on"); err == nil || errors.Is(err, driver.ErrInDoubt) || !strings.Contains(err.Error(), "nothing listens there") {
		t.Error(err)
	}
}

func TestAWriteEndsWithItsContextAndWithTheDriver(t *testing.T) {
	d := writable(1)
	drv, err := tcpConfig("127.0.0.1:1").New("bus", []*driver.Device{d}, driver.Env{Sink: &drivertest.Recorder{}})
	if err != nil {
		t.Fatal(err)
	}
	w := drv.(driver.Writer) //nolint:errcheck,forcetypeassert // the test above looks
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Write(ctx, "valve", "pump", "on"); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody runs it: %v", err)
	}
	if err := drv.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(t.Context(), "valve", "pump", "on"); err == nil || !strings.Contains(err.Error(), "was stopped") {
		t.Errorf("after the end: %v", err)
	}
}

func TestEverybodyOnASerialLineIsNotWrittenTo(t *testing.T) {
	field := writableField()
	d := writable(0)
	w, _ := running(t, &Config{Transport: TransportRTU, Port: field.ServeRTU(t).Path, Timeout: 50 * time.Millisecond}, d)
	if _, err := w.Write(t.Context(), "valve", "pump", "on"); err == nil || !strings.Contains(err.Error(), "everybody") {
		t.Error(err)
	}
}
