package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	goburrow "github.com/goburrow/modbus"

	"github.com/langbiang/langbiang/pkg/profile"
)

// question is one request to one unit.
type question struct {
	unit           byte
	area           profile.Area
	address, count int
}

// line asks one question at a time. It belongs to the bus's goroutine, but for
// interrupt. The seam lets the bus be tested without a wire.
type line interface {
	// open makes the connection unless it stands.
	open(ctx context.Context) error
	isOpen() bool
	close()
	// interrupt makes the question under way, and all later ones, fail soon.
	interrupt()
	// ask returns the data of the answer: big-endian registers, or bits packed
	// from the lowest of each byte on. It is good until the next ask.
	ask(q question) ([]byte, error)
	// tell writes words, one for each register or bit of the question; multiple
	// takes function 15 or 16 for a single one too.
	tell(q question, words []uint16, multiple bool) error
	// proven reports whether an answer came since the connection was made.
	proven() bool
	// patience is how long ask may take for the question.
	patience(q question) time.Duration
	// quiet is the silence that must lie between two frames.
	quiet() time.Duration
	// passedOver is how many stale answers were met so far.
	passedOver() int
	// name is what a technician calls it: an address or a serial port.
	name() string
}

// gapRTU is how long an answer may pause before it counts as cut off. The
// standard says 1.5 characters; USB adapters hand over what they have every
// 16 ms and converters packet by packet, so it is a good deal more. It is
// only waited for when an answer is damaged.
const gapRTU = 100 * time.Millisecond

// wireLine is the line over TCP or a serial port.
type wireLine struct {
	cfg    *Config
	link   link
	client goburrow.Client
	silent int // questions in a row to which nothing came back
}

func newWireLine(cfg *Config) *wireLine {
	w := &wireLine{cfg: cfg}
	switch cfg.Transport {
	case TransportTCP:
		w.link.framing = &mbap{transaction: uint16(time.Now().UnixNano())}
	case TransportASCII, TransportASCIIOverTCP:
		w.link.framing = &ascii{}
	default:
		w.link.framing = &rtu{}
	}
	if cfg.Transport != TransportTCP {
		w.link.gap = gapRTU
		if cfg.ascii() {
			w.link.gap = time.Second // the standard's
		}
	}
	switch {
	case cfg.Transport == TransportTCP:
		w.link.dial = w.dialTCP
	case cfg.overTCP():
		w.link.dial, w.link.flush = w.dialTCP, drain
	default:
		w.link.dial = func(ctx context.Context) (stream, error) { return openSerial(ctx, cfg) }
		w.link.flush = flushSerial
	}
	w.client = goburrow.NewClient2(w.link.framing, &w.link)
	return w
}

func (w *wireLine) dialTCP(ctx context.Context) (stream, error) {
	d := net.Dialer{Timeout: w.cfg.ConnectTimeout}
	conn, err := d.DialContext(ctx, "tcp", w.cfg.Address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("modbus: %T is no TCP connection", conn)
	}
	return tcp, nil
}

func (w *wireLine) open(ctx context.Context) error {
	w.silent = 0
	return w.link.open(ctx)
}

func (w *wireLine) isOpen() bool    { return w.link.conn != nil }
func (w *wireLine) close()          { w.link.close() }
func (w *wireLine) interrupt()      { w.link.interrupt() }
func (w *wireLine) proven() bool    { return w.link.proven }
func (w *wireLine) passedOver() int { return w.link.stale }

func (w *wireLine) name() string {
	if w.cfg.overTCP() {
		return w.cfg.Address
	}
	return w.cfg.Port
}

func (w *wireLine) ask(q question) ([]byte, error) {
	w.link.about, w.link.writes = q, false
	w.link.framing.address(q.unit)
	w.link.timeout = w.patience(q)
	var (
		data []byte
		err  error
	)
	address, count := uint16(q.address), uint16(q.count)
	switch q.area {
	case profile.AreaCoil:
		data, err = w.client.ReadCoils(address, count)
	case profile.AreaDiscrete:
		data, err = w.client.ReadDiscreteInputs(address, count)
	case profile.AreaHolding:
		data, err = w.client.ReadHoldingRegisters(address, count)
	case profile.AreaInput:
		data, err = w.client.ReadInputRegisters(address, count)
	default:
		return nil, fmt.Errorf("modbus: area %d cannot be read", q.area)
	}
	w.distrust(err)
	return data, err
}

func (w *wireLine) tell(q question, words []uint16, multiple bool) error {
	w.link.about, w.link.writes = q, true
	w.link.framing.address(q.unit)
	w.link.timeout = w.patience(q)
	var (
		err     error
		address = uint16(q.address)
		one     = len(words) == 1 && !multiple
	)
	switch {
	case q.area == profile.AreaCoil && one:
		_, err = w.client.WriteSingleCoil(address, coilWord(words[0]))
	case q.area == profile.AreaCoil:
		bits := make([]byte, (len(words)+7)/8)
		for i, v := range words {
			if v != 0 {
				bits[i/8] |= 1 << (i % 8)
			}
		}
		_, err = w.client.WriteMultipleCoils(address, uint16(len(words)), bits)
	case q.area == profile.AreaHolding && one:
		_, err = w.client.WriteSingleRegister(address, words[0])
	case q.area == profile.AreaHolding:
		data := make([]byte, 0, 2*len(words))
		for _, v := range words {
			data = binary.BigEndian.AppendUint16(data, v)
		}
		_, err = w.client.WriteMultipleRegisters(address, uint16(len(words)), data)
	default:
		return fmt.Errorf("modbus: %s cannot be written", areaName(q.area))
	}
	w.distrust(err)
	return err
}

// coilWord is how function 5 says on and off.
func coilWord(v uint16) uint16 {
	if v != 0 {
		return 0xff00
	}
	return 0
}

// distrust closes a connection on which nothing comes back any more: behind it
// may be a router that forgot it, or an adapter that hangs. Making it anew costs
// little, and tells which.
func (w *wireLine) distrust(err error) {
	if !errors.Is(err, errSilence) {
		w.silent = 0
		return
	}
	limit := 3
	if !w.cfg.overTCP() {
		limit = 10
	}
	if w.silent++; w.silent >= limit {
		w.silent = 0
		w.link.close()
	}
}

func (w *wireLine) patience(q question) time.Duration {
	return w.cfg.Timeout + w.cfg.onWire(q)
}

func (w *wireLine) quiet() time.Duration { return w.cfg.silence() }

// onWire is how long a question and its answer occupy a serial line.
func (c *Config) onWire(q question) time.Duration {
	if c.Transport == TransportTCP {
		return 0
	}
	data := 2 * q.count
	if q.area == profile.AreaCoil || q.area == profile.AreaDiscrete {
		data = (q.count + 7) / 8
	}
	chars := 8 + 5 + data
	if c.ascii() {
		chars = 17 + 11 + 2*data
	}
	return time.Duration(chars) * c.character()
}

// character is how long one character takes.
func (c *Config) character() time.Duration {
	return time.Duration(c.charBits()) * time.Second / time.Duration(c.Baud)
}

// silence is the 3.5 characters that must lie between two RTU frames; above
// 19200 baud it stays at 1.75 ms, as the standard recommends.
func (c *Config) silence() time.Duration {
	switch {
	case c.Transport == TransportTCP || c.ascii():
		return 0
	case c.Baud > 19200:
		return 1750 * time.Microsecond
	}
	return 7 * c.character() / 2
}
