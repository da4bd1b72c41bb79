package modbus

import (
	"context"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// nullSink counts.
type nullSink struct{ samples, bad int }

func (s *nullSink) Put(_ *driver.Device, _ time.Time, samples []driver.Sample) driver.Ticket {
	s.samples += len(samples)
	for i := range samples {
		if samples[i].Quality != 0 {
			s.bad++
		}
	}
	return 0
}
func (s *nullSink) Status(*driver.Device, bool, telemetry.Reason, string) {}
func (s *nullSink) Committed(driver.Ticket, func())                       {}
func (s *nullSink) Flush() bool                                           { return false }
func (s *nullSink) Identified(*driver.Device, driver.Identity)            {}

// constantLine answers at once, so that what is measured is the driver's own.
type constantLine struct {
	fakeLine
	data []byte
}

func (l *constantLine) ask(q question) ([]byte, error) { return l.data[:2*q.count], nil }

// benchmarkPolls runs b.N polls of 100 devices of 10 points, without waiting for
// their slots.
func benchmarkPolls(b *testing.B, ln line, cfg *Config) {
	sink := &nullSink{}
	var devices []*driver.Device
	for unit := 1; unit <= 100; unit++ {
		devices = append(devices, device(unit, time.Microsecond, holdings(upTo(0, 10)...)...))
	}
	bus := newBus("bench", cfg, ln, devices, driver.Env{Sink: sink})
	bus.timer = time.NewTimer(time.Hour)
	defer bus.timer.Stop()
	ctx := context.Background()
	bus.begin(time.Now())
	defer ln.close()
	for range 200 {
		bus.step(ctx)
	}
	sink.samples = 0
	b.ReportAllocs()
	b.ResetTimer()
	for sink.samples < 10*b.N {
		bus.step(ctx)
	}
	b.StopTimer()
	if sink.bad > 0 {
		b.Errorf("%d bad samples", sink.bad)
	}
}

func BenchmarkPollDriverAlone(b *testing.B) {
	l := &constantLine{fakeLine: *newFakeLine(0, time.Second), data: make([]byte, 250)}
	cfg := &Config{Address: "x"}
	cfg.ApplyDefaults()
	benchmarkPolls(b, l, cfg)
}

// BenchmarkPollTCP counts the field on the other side of the socket too.
func BenchmarkPollTCP(b *testing.B) {
	field := &drivertest.Field{}
	for unit := 1; unit <= 100; unit++ {
		field.Holding(unit, 0, make([]uint16, 10)...)
	}
	cfg := tcpConfig(field.ServeTCP(b).Address)
	cfg.Timeout = 10 * time.Second
	cfg.ApplyDefaults()
	benchmarkPolls(b, newWireLine(cfg), cfg)
}
