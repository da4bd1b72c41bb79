package drivertest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// dispatch is how a server writes an answer with its fault. It returns false
// when the connection is to be closed.
func dispatch(ctx context.Context, w io.Writer, frame []byte, x Fault, pace time.Duration) bool {
	if !pauseFor(ctx, x.Delay) || x.Close {
		return false
	}
	if x.Drop {
		return true
	}
	if x.Replace != nil {
		frame = x.Replace
	}
	if x.Damage {
		frame[len(frame)-3] ^= 4
	}
	frame = frame[:max(0, len(frame)-x.Truncate)]
	frame = append(append([]byte(nil), x.Prefix...), frame...)
	if pace = max(pace, x.Drip); pace == 0 {
		_, err := w.Write(frame)
		return err == nil
	}
	for i := range frame {
		if _, err := w.Write(frame[i : i+1]); err != nil || !pauseFor(ctx, pace) {
			return false
		}
	}
	return true
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// TCP is a field on a socket.
type TCP struct {
	Address string

	field  *Field
	framed func(ctx context.Context, c io.ReadWriter) // how requests are read
	mu     sync.Mutex
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// ServeTCP puts the field on a free port of the loopback interface, as Modbus
// TCP. It ends with the test.
func (f *Field) ServeTCP(t testing.TB) *TCP {
	s := &TCP{field: f, Address: "127.0.0.1:0"}
	s.framed = s.mbap
	s.open(t)
	return s
}

// ServeRTUOverTCP is ServeTCP with RTU frames, as behind a transparent
// converter.
func (f *Field) ServeRTUOverTCP(t testing.TB) *TCP {
	s := &TCP{field: f, Address: "127.0.0.1:0"}
	s.framed = func(ctx context.Context, c io.ReadWriter) { f.rtu(ctx, c, false, 0) }
	s.open(t)
	return s
}

func (s *TCP) open(t testing.TB) {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
}

// Start serves, on the same port as before.
func (s *TCP) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		return nil
	}
	ln, err := net.Listen("tcp", s.Address)
	if err != nil {
		return err
	}
	s.Address = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.wait.Go(func() {
		stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
		defer stop()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.wait.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				defer stop()
				defer func() { _ = c.Close() }()
				s.framed(ctx, c)
			})
		}
	})
	return nil
}

// Stop refuses connections, closes those there are, and waits for that.
func (s *TCP) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
	s.wait.Wait()
}

func (s *TCP) mbap(ctx context.Context, c io.ReadWriter) {
	var head [7]byte
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(head[4:]))
		if n < 2 || n > 254 {
			return
		}
		pdu := make([]byte, n-1)
		if _, err := io.ReadFull(c, pdu); err != nil {
			return
		}
		ans, x := s.field.answer(head[6], pdu)
		frame := append(head[:], ans...)
		binary.BigEndian.PutUint16(frame, binary.BigEndian.Uint16(head[:])+x.Transaction)
		binary.BigEndian.PutUint16(frame[4:], uint16(1+len(ans)))
		if x.Unit != 0 {
			frame[6] = x.Unit
		}
		if !dispatch(ctx, c, frame, x, 0) {
			return
		}
	}
}

// rtu serves RTU frames until the stream ends. Requests of damaged or unknown
// form are passed over byte by byte.
func (f *Field) rtu(ctx context.Context, c io.ReadWriter, echo bool, pace time.Duration) {
	var (
		buf [512]byte
		n   int
	)
	for {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		if echo {
			if _, err := c.Write(buf[n : n+m]); err != nil {
				return
			}
		}
		for n += m; n >= 8; {
			size := 8
			if buf[1] == 15 || buf[1] == 16 {
				size = 9 + int(buf[6])
			}
			if n < size {
				break
			}
			frame := CRC(append([]byte(nil), buf[:size-2]...))
			if frame[size-2] != buf[size-2] || frame[size-1] != buf[size-1] {
				n = copy(buf[:], buf[1:n])
				continue
			}
			n = copy(buf[:], buf[size:n])
			ans, x := f.answer(frame[0], frame[1:size-2])
			id := frame[0]
			if x.Unit != 0 {
				id = x.Unit
			}
			if !dispatch(ctx, c, CRC(append([]byte{id}, ans...)), x, pace) {
				return
			}
		}
	}
}

// Serial is a field behind a pseudo-terminal, at a path that stays the same
// when it is pulled out and plugged in again.
type Serial struct {
	Path string // what the driver opens: a symbolic link
	// Echo gives back what is received, as some RS-485 adapters do. Pace is the
	// time between two bytes of an answer: 11 bits at the line's speed. Both hold
	// from the next Plug on.
	Echo bool
	Pace time.Duration

	field  *Field
	mu     sync.Mutex
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// ServeRTU puts the field behind a pseudo-terminal. It ends with the test.
func (f *Field) ServeRTU(t testing.TB) *Serial {
	t.Helper()
	s := &Serial{field: f, Path: filepath.Join(t.TempDir(), "ttyRS485")}
	if err := s.Plug(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Unplug)
	return s
}

// Plug makes a new pseudo-terminal and puts it at the path.
func (s *Serial) Plug() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		return nil
	}
	blocking, slave, err := pty.Open()
	if err != nil {
		return err
	}
	master, err := pollable(blocking)
	if err != nil {
		return errors.Join(err, slave.Close())
	}
	if err := os.Symlink(slave.Name(), s.Path); err != nil {
		return errors.Join(err, master.Close(), slave.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	echo, pace := s.Echo, s.Pace
	s.wait.Go(func() {
		// The slave is kept open: without any opener the master reads errors.
		defer func() { _ = slave.Close() }()
		stop := context.AfterFunc(ctx, func() { _ = master.Close() })
		defer stop()
		s.field.rtu(ctx, master, echo, pace)
		<-ctx.Done()
	})
	return nil
}

// pollable returns the file as one whose reads end when it is closed, and closes
// the one that was given.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Close(), unix.SetNonblock(fd, true)); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Unplug takes the terminal away: whoever has it open reads errors.
func (s *Serial) Unplug() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil {
		return
	}
	_ = os.Remove(s.Path)
	s.cancel()
	s.cancel = nil
	s.wait.Wait()
}
