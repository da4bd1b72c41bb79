package modbus

import (
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
)

func TestTCPPassesTheSuite(t *testing.T) {
	drivertest.Run(t, func(t testing.TB) drivertest.Fixture {
		field := &drivertest.Field{}
		s := field.ServeTCP(t)
		return fixture(t, field, tcpConfig(s.Address), s.Start, s.Stop)
	})
}

func TestRTUOverTCPPassesTheSuite(t *testing.T) {
	drivertest.Run(t, func(t testing.TB) drivertest.Fixture {
		field := &drivertest.Field{}
		s := field.ServeRTUOverTCP(t)
		cfg := tcpConfig(s.Address)
		cfg.Transport = TransportRTUOverTCP
		return fixture(t, field, cfg, s.Start, s.Stop)
	})
}

func TestRTUPassesTheSuite(t *testing.T) {
	drivertest.Run(t, func(t testing.TB) drivertest.Fixture {
		field := &drivertest.Field{}
		s := field.ServeRTU(t)
		return fixture(t, field, rtuConfig(s.Path), s.Plug, s.Unplug)
	})
}

func TestASCIIOverTCPPassesTheSuite(t *testing.T) {
	drivertest.Run(t, func(t testing.TB) drivertest.Fixture {
		field := &drivertest.Field{}
		s := field.ServeASCIIOverTCP(t)
		cfg := tcpConfig(s.Address)
		cfg.Transport, cfg.Baud = TransportASCIIOverTCP, 115200
		return fixture(t, field, cfg, s.Start, s.Stop)
	})
}

func fixture(t testing.TB, field *drivertest.Field, cfg *Config, start func() error, stop func()) drivertest.Fixture {
	const first = 100
	cfg.Timeout = time.Second // a device falls silent, and its neighbours must not
	f := drivertest.Fixture{Source: cfg}
	for unit := 1; unit <= 3; unit++ {
		field.Holding(unit, first, 0, 0)
		f.Devices = append(f.Devices, device(unit, 20*time.Millisecond, holdings(first, first+1)...))
	}
	f.Show = func(device int, v float64) { field.Holding(device+1, first, uint16(v)) }
	f.Silence = func(device int, silent bool) { field.Break(device+1, drivertest.Fault{Drop: silent}) }
	f.Cut = func(away bool) {
		if away {
			stop()
			return
		}
		if err := start(); err != nil {
			t.Error(err)
		}
	}
	return f
}

var _ driver.Source = (*Config)(nil)
