package drivertest

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver/sim"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// Fault is how an answer goes wrong. The zero value is no fault.
type Fault = sim.Fault

// Request is a request that reached the field.
type Request = sim.Request

// Field is a [sim.Field] that is served until its test ends.
type Field struct{ sim.Field }

// TCP is a field on a socket.
type TCP = sim.Server

// ServeTCP puts the field on a free port of the loopback interface, as Modbus
// TCP. It ends with the test.
func (f *Field) ServeTCP(t testing.TB) *TCP {
	t.Helper()
	return open(t, func(ctx context.Context, c net.Conn) { f.Field.ServeTCP(ctx, c) })
}

// ServeRTUOverTCP is ServeTCP with RTU frames, as behind a transparent
// converter.
func (f *Field) ServeRTUOverTCP(t testing.TB) *TCP {
	t.Helper()
	return open(t, func(ctx context.Context, c net.Conn) { f.Field.ServeRTU(ctx, c, false, 0) })
}

// ServeASCIIOverTCP is ServeTCP with ASCII frames.
func (f *Field) ServeASCIIOverTCP(t testing.TB) *TCP {
	t.Helper()
	return open(t, func(ctx context.Context, c net.Conn) { f.ServeASCII(ctx, c) })
}

func open(t testing.TB, serve func(context.Context, net.Conn)) *TCP {
	t.Helper()
	s := &sim.Server{Address: testutil.FreeAddress(t), Serve: serve} // it may be stopped and started
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// FreeAddress returns a loopback address for a program that is told where to listen.
// It is the test's until it ends.
func FreeAddress(t testing.TB) string { return testutil.FreeAddress(t) }

// Serial is a field behind a pseudo-terminal.
type Serial struct {
	sim.Port
	// Echo gives back what is received, as some RS-485 adapters do. Pace is the
	// time between two bytes of an answer: 11 bits at the line's speed. Both hold
	// from the next Plug on.
	Echo bool
	Pace time.Duration
}

// ServeRTU puts the field behind a pseudo-terminal. It ends with the test.
func (f *Field) ServeRTU(t testing.TB) *Serial {
	t.Helper()
	s := &Serial{}
	s.Path = filepath.Join(t.TempDir(), "ttyRS485")
	s.Serve = func(ctx context.Context, c io.ReadWriter) { f.Field.ServeRTU(ctx, c, s.Echo, s.Pace) }
	if err := s.Plug(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Unplug)
	return s
}

// CRC returns the frame with the checksum of Modbus RTU, low byte first.
func CRC(frame []byte) []byte { return sim.CRC(frame) }
