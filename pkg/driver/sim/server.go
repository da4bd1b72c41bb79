package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"sync"
	"time"
)

// Server serves connections of one address until it is stopped.
type Server struct {
	// Address is where it listens; with port 0 the first Start chooses one, and
	// it stays.
	Address string
	// Serve has one connection, which is closed when ctx ends.
	Serve func(ctx context.Context, c net.Conn)

	mu     sync.Mutex
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// Loopback is a Server on a free port of this machine, not started yet.
func Loopback(serve func(ctx context.Context, c net.Conn)) *Server {
	return &Server{Address: "127.0.0.1:0", Serve: serve}
}

// Streams is Loopback for what serves any stream.
func Streams(serve func(ctx context.Context, c io.ReadWriter)) *Server {
	return Loopback(func(ctx context.Context, c net.Conn) { serve(ctx, c) })
}

// Start serves, on the same port as before. It does nothing when it serves already.
func (s *Server) Start() error {
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
				s.Serve(ctx, c)
			})
		}
	})
	return nil
}

// Stop refuses connections, closes those there are, and waits for that.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
	s.wait.Wait()
}

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

// ServeTCP answers Modbus TCP on a connection until it ends.
func (f *Field) ServeTCP(ctx context.Context, c io.ReadWriter) {
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
		ans, x := f.answer(head[6], pdu)
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

// ServeRTU answers RTU frames until the stream ends. Requests of damaged or unknown
// form are passed over byte by byte. With echo it gives back what it receives, as
// some RS-485 adapters do; pace is the time between two bytes of an answer.
func (f *Field) ServeRTU(ctx context.Context, c io.ReadWriter, echo bool, pace time.Duration) {
	var (
		buf [512]byte
		n   int
	)
	for {
		m, err := c.Read(buf[n:])
		if err != nil || m == 0 {
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

// ServeASCII answers Modbus ASCII until the stream ends; lines that are no request
// are passed over.
func (f *Field) ServeASCII(ctx context.Context, c io.ReadWriter) {
	var (
		buf [1024]byte
		n   int
	)
	for {
		m, err := c.Read(buf[n:])
		if err != nil || m == 0 {
			return
		}
		n += m
		for {
			end := bytes.IndexByte(buf[:n], '\n')
			if end < 0 {
				break
			}
			line := bytes.TrimSpace(buf[:end])
			raw := make([]byte, len(line)/2)
			_, err := hex.Decode(raw, bytes.TrimPrefix(line, []byte(":")))
			n = copy(buf[:], buf[end+1:n])
			raw = raw[:max(0, len(line)-1)/2]
			if err != nil || len(raw) < 3 || sum(raw) != 0 {
				continue
			}
			ans, x := f.answer(raw[0], raw[1:len(raw)-1])
			out := append([]byte{raw[0]}, ans...)
			out = append(out, -sum(out))
			if !dispatch(ctx, c, append(append([]byte(":"), bytes.ToUpper(hex.AppendEncode(nil, out))...), '\r', '\n'), x, 0) {
				return
			}
		}
		if n == len(buf) {
			n = 0
		}
	}
}

// sum is what the checksum of ASCII makes zero.
func sum(b []byte) (s byte) {
	for _, c := range b {
		s += c
	}
	return s
}
