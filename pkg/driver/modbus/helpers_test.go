package modbus

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/profile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// holding is a point that is one holding register.
func holding(address int) profile.Point {
	return profile.Point{ID: fmt.Sprintf("h%d", address), Holding: &address, Type: profile.TypeUint16}
}

func holdings(addresses ...int) []profile.Point {
	var ps []profile.Point
	for _, a := range addresses {
		ps = append(ps, holding(a))
	}
	return ps
}

func upTo(first, n int) []int {
	as := make([]int, n)
	for i := range as {
		as[i] = first + i
	}
	return as
}

func device(unit int, interval time.Duration, points ...profile.Point) *driver.Device {
	d := &driver.Device{ID: fmt.Sprintf("unit-%d", unit), Unit: unit, Interval: interval, Points: points}
	for range points {
		d.Convert = append(d.Convert, driver.Linear{Factor: 1})
	}
	return d
}

// patience is for devices that answer: a machine that is busy makes none of them
// silent. Tests whose devices keep silent say for how long they are waited for.
const patience = 10 * time.Second

func tcpConfig(address string) *Config {
	return &Config{Transport: TransportTCP, Address: address, Timeout: patience}
}

func rtuConfig(port string) *Config {
	return &Config{Transport: TransportRTU, Port: port, Baud: 115200, Timeout: patience}
}

// run starts a driver for the devices.
func run(t testing.TB, cfg *Config, devices ...*driver.Device) (*drivertest.Recorder, func()) {
	t.Helper()
	f := drivertest.Fixture{Source: cfg, Devices: devices}
	return f.Start(t, "test", nil)
}

func ptr[T any](v T) *T { return &v }
