package modbus

import (
	"fmt"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
)

// BenchmarkLineUtilisation polls as fast as the line allows, over a cable on which
// a byte takes as long as on RS-485. line_% is the part of the time in which bytes
// were on the line; allowed_% counts the silence of 3.5 characters, which must lie
// before a request, as used too; the device here answers without one. Both fall with
// whatever delays the threads of the cable on a busy machine; turn_us is what the
// driver takes from an answer to the next request, the silence in it (1750 above
// 19200 baud), at the median, and ours_% what is allowed of what frames and turn
// take together. The goal is 90 % of what the speed allows. What it allows at all
// at 115200 baud is 64 % of the line for polls of 10 registers, since the silence
// does not shrink, and 93 % for 125.
func BenchmarkLineUtilisation(b *testing.B) {
	for _, baud := range []int{9600, 115200} {
		for _, registers := range []int{10, 125} {
			b.Run(fmt.Sprintf("%d baud, %d registers", baud, registers), func(b *testing.B) {
				field := &drivertest.Field{}
				field.Holding(1, 0, make([]uint16, registers)...)
				cable := drivertest.NewCable(b, baud)
				field.ServeRTUOn(b, cable.A)
				cfg := &Config{Transport: TransportRTU, Port: cable.B, Baud: baud, StopBits: 2, Timeout: 5 * time.Second}
				d := device(1, time.Millisecond, holdings(upTo(0, registers)...)...)
				rec, stop := run(b, cfg, d)
				rec.Wait(b, "a poll", func() bool { return rec.State(d.ID).Up })
				cfg.ApplyDefaults()
				for range b.N {
					asked := len(field.Requests())
					cable.Turns()
					_, before := cable.Carried()
					start := time.Now()
					<-time.After(3 * time.Second)
					took := time.Since(start)
					_, after := cable.Carried()
					polls := len(field.Requests()) - asked
					silence := time.Duration(polls) * cfg.silence()
					b.ReportMetric(100*(after-before).Seconds()/took.Seconds(), "line_%")
					b.ReportMetric(100*(after-before+silence).Seconds()/took.Seconds(), "allowed_%")
					b.ReportMetric(float64(polls)/took.Seconds(), "polls/s")
					turn := cable.Turns()
					perPoll := (after - before) / time.Duration(max(1, polls))
					b.ReportMetric(float64(turn.Microseconds()), "turn_us")
					b.ReportMetric(100*(perPoll+cfg.silence()).Seconds()/(perPoll+turn).Seconds(), "ours_%")
				}
				stop()
			})
		}
	}
}

// BenchmarkBusWithOneDeadUnit reads 32 units at 1 Hz, one of which is dead, with a
// timeout of 1 s. lost_% is how many readings of the other 31 are missing. The
// goal is below 5 %.
func BenchmarkBusWithOneDeadUnit(b *testing.B) {
	const span = 20 * time.Second
	field := &drivertest.Field{}
	for unit := 1; unit <= 31; unit++ {
		field.Holding(unit, 0, make([]uint16, 10)...)
		field.Break(unit, drivertest.Fault{Delay: 10 * time.Millisecond})
	}
	cfg := tcpConfig(field.ServeRTUOverTCP(b).Address)
	cfg.Transport, cfg.Timeout, cfg.Baud = TransportRTUOverTCP, time.Second, 115200
	for range b.N {
		devices := fleet(32, time.Second)
		rec, stop := run(b, cfg, devices...)
		rec.Wait(b, "all are polled", func() bool {
			for _, d := range devices {
				if !rec.State(d.ID).Known {
					return false
				}
			}
			return true
		})
		rec.Forget()
		<-time.After(span)
		got, want := 0, 0
		for _, d := range devices[:31] {
			got += len(rec.Readings(d.ID, 0))
			want += int(span / time.Second)
		}
		stop()
		b.ReportMetric(100*max(0, 1-float64(got)/float64(want)), "lost_%")
	}
}
