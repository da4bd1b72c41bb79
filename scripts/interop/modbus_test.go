//go:build interop

package interop

import (
	"fmt"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func ptr[T any](v T) *T { return &v }

// pymodbusDevice has points of all areas and widths in what the server holds.
func pymodbusDevice() (d *driver.Device, want []float64) {
	d = &driver.Device{ID: "unit", Unit: 1, Interval: 100 * time.Millisecond}
	add := func(v float64, pt profile.Point) {
		pt.ID = fmt.Sprintf("p%d", len(d.Points))
		d.Points = append(d.Points, pt)
		d.Convert = append(d.Convert, driver.Linear{Factor: 1})
		want = append(want, v)
	}
	w := &profile.Writable{Min: ptr(-1e9), Max: ptr(1e9)}
	add(5, profile.Point{Holding: ptr(5)})
	add(7, profile.Point{Input: ptr(7)})
	add(1, profile.Point{Coil: ptr(4)})
	add(0, profile.Point{Discrete: ptr(5)})
	add(10<<16|11, profile.Point{Holding: ptr(10), Type: profile.TypeUint32})
	add(13<<16|12, profile.Point{Input: ptr(12), Type: profile.TypeInt32, Order: profile.OrderCDAB})
	add(14<<48|15<<32|16<<16|17, profile.Point{Holding: ptr(14), Type: profile.TypeUint64})
	add(199, profile.Point{Holding: ptr(199)})
	add(50, profile.Point{Holding: ptr(50), Type: profile.TypeInt16, Writable: w})
	add(60<<16|61, profile.Point{Holding: ptr(60), Type: profile.TypeUint32, Writable: w})
	add(1, profile.Point{Coil: ptr(20), Writable: &profile.Writable{}})
	add(0, profile.Point{Coil: ptr(21), Writable: &profile.Writable{Multiple: true}})
	add(0, profile.Point{Holding: ptr(500)}) // it does not have that
	return d, want
}

func TestPymodbus(t *testing.T) {
	for name, setup := range map[string]func(t *testing.T) *modbus.Config{
		"TCP": func(t *testing.T) *modbus.Config {
			port := freePort(t)
			serve(t, "ready", python, "pymodbus_server.py", "tcp", port)
			return &modbus.Config{Address: "127.0.0.1:" + port}
		},
		"RTU over TCP": func(t *testing.T) *modbus.Config {
			port := freePort(t)
			serve(t, "ready", python, "pymodbus_server.py", "rtu-over-tcp", port)
			return &modbus.Config{Transport: modbus.TransportRTUOverTCP, Address: "127.0.0.1:" + port}
		},
		"RTU at 9600 baud": func(t *testing.T) *modbus.Config {
			c := drivertest.NewCable(t, 9600)
			serve(t, "ready", python, "pymodbus_server.py", "rtu", c.A, "9600")
			return &modbus.Config{Transport: modbus.TransportRTU, Port: c.B, Baud: 9600}
		},
		"RTU at 115200 baud": func(t *testing.T) *modbus.Config {
			c := drivertest.NewCable(t, 115200)
			serve(t, "ready", python, "pymodbus_server.py", "rtu", c.A, "115200")
			return &modbus.Config{Transport: modbus.TransportRTU, Port: c.B, Baud: 115200}
		},
		"ASCII at 19200 baud": func(t *testing.T) *modbus.Config {
			c := drivertest.NewCable(t, 19200)
			serve(t, "ready", python, "pymodbus_server.py", "ascii", c.A, "19200")
			return &modbus.Config{Transport: modbus.TransportASCII, Port: c.B, Baud: 19200}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := setup(t)
			cfg.Timeout = 5 * time.Second
			readAndWrite(t, cfg)
		})
	}
}

func readAndWrite(t *testing.T, cfg *modbus.Config) {
	t.Helper()
	d, want := pymodbusDevice()
	rec := &drivertest.Recorder{}
	drv, _ := start(t, cfg, rec, d)
	missing := len(d.Points) - 1
	for i := range d.Points[:missing] {
		rec.Wait(t, d.Points[i].ID, func() bool {
			r, ok := rec.Last(d.ID, i)
			return ok && r.Quality == 0
		})
		if r, _ := rec.Last(d.ID, i); r.Value != want[i] {
			t.Errorf("%s is %v, want %v", d.Points[i].ID, r.Value, want[i])
		}
	}
	rec.Wait(t, "the point that is not there is bad alone", func() bool {
		r, ok := rec.Last(d.ID, missing)
		return ok && r.Quality == telemetry.BadQuality(telemetry.ReasonException)
	})
	w, ok := drv.(driver.Writer)
	if !ok {
		t.Fatalf("%T cannot write", drv)
	}
	for _, c := range []struct {
		point int
		value string
		back  float64
	}{{8, "-321", -321}, {9, "123456789", 123456789}, {10, "off", 0}, {11, "on", 1}} {
		got, err := w.Write(t.Context(), d.ID, d.Points[c.point].ID, c.value)
		if err != nil || !got.Same || got.Back.Value != c.back {
			t.Errorf("%s: %+v, %v", d.Points[c.point].ID, got, err)
		}
		rec.Wait(t, "a poll sees it", func() bool {
			r, _ := rec.Last(d.ID, c.point)
			return r.Value == c.back
		})
	}
	if _, err := w.Write(t.Context(), d.ID, d.Points[0].ID, "1"); err == nil {
		t.Error("a point that is not writable was written")
	}
	if s := rec.State(d.ID); !s.Up || s.Changes != 1 {
		t.Errorf("%+v", s)
	}
}
