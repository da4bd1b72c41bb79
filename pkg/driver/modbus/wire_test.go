package modbus

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

const often = 20 * time.Millisecond

// onEachTransport puts a fresh field on each kind of wire.
func onEachTransport(t *testing.T, test func(t *testing.T, field *drivertest.Field, cfg *Config)) {
	for _, transport := range []string{TransportTCP, TransportRTU, TransportRTUOverTCP} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			field := &drivertest.Field{}
			cfg := &Config{Transport: transport, Timeout: 100 * time.Millisecond}
			switch transport {
			case TransportTCP:
				cfg.Address = field.ServeTCP(t).Address
			case TransportRTUOverTCP:
				cfg.Address = field.ServeRTUOverTCP(t).Address
			default:
				cfg.Port, cfg.Baud = field.ServeRTU(t).Path, 115200
			}
			test(t, field, cfg)
		})
	}
}

func TestFaultsAreNamed(t *testing.T) {
	t.Parallel()
	garbage := []byte{0xde, 0xad, 0xbe, 0xef, 0x01, 0x02, 0x03, 0x04}
	for _, c := range []struct {
		name   string
		fault  drivertest.Fault
		only   string // transport; empty: all
		reason telemetry.Reason
		detail string
	}{
		{"no answer", drivertest.Fault{Drop: true}, "", telemetry.ReasonNoAnswer, "unit 1 does not answer (asked for holding 0-1, timeout 100ms)"},
		{"too late", drivertest.Fault{Delay: 200 * time.Millisecond}, "tcp", telemetry.ReasonNoAnswer, "does not answer"},
		{"exception 2", drivertest.Fault{Exception: 2}, "", telemetry.ReasonException, "unit 1 refuses holding 1: illegal data address (exception 2)"},
		{"exception 4", drivertest.Fault{Exception: 4}, "", telemetry.ReasonException, "unit 1 refuses holding 0-1: device failure (exception 4)"},
		{"exception 6", drivertest.Fault{Exception: 6}, "", telemetry.ReasonException, "device busy"},
		{"exception 11", drivertest.Fault{Exception: 11}, "", telemetry.ReasonNoAnswer, "does not answer the gateway"},
		{"exception 10", drivertest.Fault{Exception: 10}, "", telemetry.ReasonUnreachable, "the gateway has no way to unit 1"},
		{"wrong unit", drivertest.Fault{Unit: 9}, "tcp", telemetry.ReasonBadFrame, "comes from unit 9"},
		{"wrong unit", drivertest.Fault{Unit: 9}, "rtu", telemetry.ReasonBadFrame, "comes from another unit"},
		{"wrong transaction", drivertest.Fault{Transaction: 7}, "tcp", telemetry.ReasonNoAnswer, "does not answer"},
		{"garbage", drivertest.Fault{Replace: garbage}, "tcp", telemetry.ReasonBadFrame, "does not begin like Modbus TCP: de ad be ef"},
		{"garbage", drivertest.Fault{Replace: garbage}, "rtu", telemetry.ReasonBadFrame, "is no Modbus frame: 8 bytes, de ad be ef"},
		{"cut off", drivertest.Fault{Truncate: 3}, "tcp", telemetry.ReasonBadFrame, "stopped after 10 bytes"},
		{"cut off", drivertest.Fault{Truncate: 3}, "rtu", telemetry.ReasonBadFrame, "stopped after 6 of 9 bytes"},
		{"damaged", drivertest.Fault{Damage: true}, "rtu", telemetry.ReasonBadFrame, "wrong checksum"},
		{"damaged exception", drivertest.Fault{Exception: 2, Damage: true}, "rtu", telemetry.ReasonBadFrame, "wrong checksum"},
		{"closed", drivertest.Fault{Close: true}, "tcp", telemetry.ReasonUnreachable, "the other side closed it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEachTransport(t, func(t *testing.T, field *drivertest.Field, cfg *Config) {
				if tcp := cfg.Transport == TransportTCP; c.only == "tcp" && !tcp || c.only == "rtu" && tcp {
					return
				}
				field.Holding(1, 0, 17, 18)
				field.Break(1, c.fault)
				d := device(1, often, holdings(0, 1)...)
				rec, _ := run(t, cfg, d)
				// On a busy machine an answer may come too late before it comes wrong.
				var s drivertest.State
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("it was down with %v, %q; want %v, %q", s.Reason, s.Detail, c.reason, c.detail)
					}
				})
				rec.Wait(t, "down for its reason, and so are its points", func() bool {
					s = rec.State(d.ID)
					for p := range d.Points {
						if r, ok := rec.Last(d.ID, p); !ok || r.Quality != telemetry.BadQuality(c.reason) {
							return false
						}
					}
					return s.Known && !s.Up && s.Reason == c.reason && strings.Contains(s.Detail, c.detail)
				})
				field.Break(1, drivertest.Fault{})
				rec.Wait(t, "up again", func() bool {
					a, ok := rec.Last(d.ID, 0)
					b, ok2 := rec.Last(d.ID, 1)
					return ok && ok2 && a.Quality == 0 && a.Value == 17 && b.Quality == 0 && b.Value == 18 && rec.State(d.ID).Up
				})
			})
		})
	}
}

// patient waits long within an answer: a busy machine tears bytes apart that were
// sent together.
type patient struct{ *Config }

func (p patient) New(id string, devices []*driver.Device, env driver.Env) (driver.Driver, error) {
	cfg := *p.Config
	cfg.ApplyDefaults()
	w := newWireLine(&cfg)
	w.link.gap = cfg.Timeout
	return newBus(id, &cfg, w, devices, env), nil
}

func TestWhatOnlyLooksLikeAFaultIsRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault drivertest.Fault
		only  string
	}{
		{"byte by byte", drivertest.Fault{Drip: 3 * time.Millisecond}, ""},
		{"noise before the answer", drivertest.Fault{Prefix: []byte{0x00, 0xff, 0x01}}, "rtu"},
		{"answer of another unit before it", drivertest.Fault{Prefix: drivertest.CRC([]byte{7, 3, 4, 0, 1, 0, 2})}, "rtu"},
		{"just in time", drivertest.Fault{Delay: 90 * time.Millisecond}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEachTransport(t, func(t *testing.T, field *drivertest.Field, cfg *Config) {
				if c.only == "rtu" && cfg.Transport == TransportTCP {
					return
				}
				cfg.Timeout = 5 * time.Second
				field.Holding(1, 0, 17, 18)
				field.Break(1, c.fault)
				d := device(1, often, holdings(0, 1)...)
				f := drivertest.Fixture{Source: patient{cfg}, Devices: []*driver.Device{d}}
				rec, _ := f.Start(t, "test", nil)
				rec.Wait(t, "five polls", func() bool { return rec.Count(d.ID) >= 10 })
				if s := rec.State(d.ID); !s.Up || s.Changes != 1 {
					t.Errorf("state %+v, want up from the beginning", s)
				}
			})
		})
	}
}

func TestAnEchoingAdapterIsRead(t *testing.T) {
	t.Parallel()
	field := &drivertest.Field{}
	field.Holding(1, 0, 17)
	s := field.ServeRTU(t)
	s.Unplug()
	s.Echo = true
	if err := s.Plug(); err != nil {
		t.Fatal(err)
	}
	d := device(1, often, holding(0))
	cfg := rtuConfig(s.Path)
	cfg.Timeout = 500 * time.Millisecond
	rec, _ := run(t, cfg, d, device(2, often, holding(0)))
	rec.Wait(t, "read", func() bool { r, ok := rec.Last(d.ID, 0); return ok && r.Quality == 0 && r.Value == 17 })
	rec.Wait(t, "the other one is silent", func() bool { s := rec.State("unit-2"); return s.Known && s.Reason == telemetry.ReasonNoAnswer })
}

// A late answer must never be taken for the answer to another question.
func TestLateAnswersDoNotShiftTheOthers(t *testing.T) {
	t.Parallel()
	onEachTransport(t, func(t *testing.T, field *drivertest.Field, cfg *Config) {
		cfg.Timeout = 60 * time.Millisecond
		var devices []*driver.Device
		for unit := 1; unit <= 4; unit++ {
			field.Holding(unit, 0, uint16(1000*unit))
			devices = append(devices, device(unit, often, holding(0)))
		}
		n := 0
		field.Script(func(drivertest.Request) drivertest.Fault {
			if n++; n%7 == 0 {
				return drivertest.Fault{Delay: 80 * time.Millisecond}
			}
			return drivertest.Fault{}
		})
		rec, stop := run(t, cfg, devices...)
		good := func(d *driver.Device) (n int) {
			for _, r := range rec.Readings(d.ID, 0) {
				if r.Quality.IsBad() {
					continue
				}
				if n++; r.Value != float64(1000*d.Unit) {
					t.Fatalf("%s has the value %v of another unit", d.ID, r.Value)
				}
			}
			return n
		}
		rec.Wait(t, "many readings of each, good ones among them", func() bool {
			for _, d := range devices {
				if rec.Count(d.ID) < 30 || good(d) < 8 {
					return false
				}
			}
			return true
		})
		stop()
		for _, d := range devices {
			good(d)
		}
	})
}

func TestAnAdapterThatIsPulledAndPluggedInAgainRecovers(t *testing.T) {
	t.Parallel()
	field := &drivertest.Field{}
	s := field.ServeRTU(t)
	field.Holding(1, 0, 5)
	d := device(1, often, holding(0))
	rec, _ := run(t, rtuConfig(s.Path), d)
	good := func(v float64) func() bool {
		return func() bool {
			r, ok := rec.Last(d.ID, 0)
			return ok && r.Quality == 0 && r.Value == v && rec.State(d.ID).Up
		}
	}
	rec.Wait(t, "read", good(5))
	for i := range 2 {
		s.Unplug()
		rec.Wait(t, "gone", func() bool { return rec.State(d.ID).Reason == telemetry.ReasonUnreachable })
		rec.Wait(t, "told what to look at", func() bool {
			return rec.State(d.ID).Detail == "cannot reach "+s.Path+": no such device, is the adapter plugged in"
		})
		field.Holding(1, 0, uint16(6+i))
		if err := s.Plug(); err != nil {
			t.Fatal(err)
		}
		rec.Wait(t, "read again", good(float64(6+i)))
	}
}

func TestAPortHasOneOwner(t *testing.T) {
	t.Parallel()
	field := &drivertest.Field{}
	field.Holding(1, 0, 5)
	s := field.ServeRTU(t)
	one, _ := run(t, rtuConfig(s.Path), device(1, often, holding(0)))
	one.Wait(t, "read", func() bool { return one.State("unit-1").Up })
	two, _ := run(t, rtuConfig(s.Path), device(1, often, holding(0)))
	two.Wait(t, "refused", func() bool {
		return strings.Contains(two.State("unit-1").Detail, "the port is in use by another program")
	})
}

// How many polls a machine makes in a second is its own affair; that the dead unit
// takes them from nobody is not. By the clock the same is tested without a wire.
func TestADeadUnitLeavesTheCadenceOfItsBusAlone(t *testing.T) {
	t.Parallel()
	field := &drivertest.Field{}
	s := field.ServeRTU(t)
	var devices []*driver.Device
	const interval = 100 * time.Millisecond
	for unit := 1; unit <= 8; unit++ {
		field.Holding(unit, 0, uint16(unit))
		devices = append(devices, device(unit, interval, holding(0)))
	}
	var asked atomic.Int64
	field.Script(func(r drivertest.Request) drivertest.Fault {
		if r.Unit != 3 {
			return drivertest.Fault{}
		}
		asked.Add(1)
		return drivertest.Fault{Drop: true}
	})
	cfg := rtuConfig(s.Path)
	cfg.Timeout = 100 * time.Millisecond
	rec, stop := run(t, cfg, devices...)
	rec.Wait(t, "the dead unit is known", func() bool { return rec.State("unit-3").Calls > 5 })
	rec.Forget()
	asked.Store(0)
	begin := time.Now()
	rec.Wait(t, "twenty polls of each", func() bool {
		for _, d := range devices {
			if rec.Count(d.ID) < 20 {
				return false
			}
		}
		return true
	})
	lost := time.Duration(asked.Load()) * cfg.Timeout
	took := time.Since(begin)
	stop()
	if lost > took/share+3*cfg.Timeout {
		t.Errorf("the dead unit cost %v of %v", lost, took)
	}
	least, most := rec.Count("unit-1"), 0
	for _, d := range devices {
		if n := rec.Count(d.ID); d.Unit != 3 {
			least, most = min(least, n), max(most, n)
		}
	}
	if dead := rec.Count("unit-3"); least < most*70/100 || dead < least*70/100 {
		t.Errorf("of the devices of one bus the one has %d readings and the other %d; the dead one %d", least, most, dead)
	}
}

func TestAllAreasAreRead(t *testing.T) {
	t.Parallel()
	field := &drivertest.Field{}
	field.Coil(1, 5, 1, 0, 1)
	field.Discrete(1, 19, 0, 1)
	field.Input(1, 3, 0xffff)
	field.Holding(1, 10, 0x41f4, 0x7ae1)
	field.Holding(1, 20, 0x4c41, 0x4e47)
	d := device(1, often,
		profile.Point{ID: "c5", Coil: ptr(5)}, profile.Point{ID: "c6", Coil: ptr(6)}, profile.Point{ID: "c7", Coil: ptr(7)},
		profile.Point{ID: "d19", Discrete: ptr(19)}, profile.Point{ID: "d20", Discrete: ptr(20)},
		profile.Point{ID: "t", Input: ptr(3), Type: profile.TypeInt16, Scale: ptr(0.1)},
		profile.Point{ID: "rh", Holding: ptr(10), Type: profile.TypeFloat32},
		profile.Point{ID: "name", Holding: ptr(20), Type: profile.TypeString, Length: 2},
	)
	rec, _ := run(t, tcpConfig(field.ServeTCP(t).Address), d)
	rec.Wait(t, "read", func() bool { return rec.Count(d.ID) >= len(d.Points) })
	for i, want := range []float64{1, 0, 1, 0, 1, -0.1, 30.56, 0} {
		r, ok := rec.Last(d.ID, i)
		if !ok || r.Quality != 0 || r.Value != want {
			t.Errorf("point %s is %v (%v), want %v", d.Points[i].ID, r.Value, r.Quality, want)
		}
	}
	if r, _ := rec.Last(d.ID, 7); r.Text != "LANG" {
		t.Errorf("text is %q", r.Text)
	}
}
