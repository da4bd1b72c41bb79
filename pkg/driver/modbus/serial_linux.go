package modbus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrPortInUse is in the error of a serial line that another program holds.
var ErrPortInUse = errors.New("the port is in use by another program")

// serialPort is a serial device in raw mode, read through the runtime's poller.
// It is locked against other programs: two masters on one RS-485 pair spoil
// each other's frames.
type serialPort struct{ *os.File }

// openSerial opens the device of the configuration. It never waits.
func openSerial(_ context.Context, c *Config) (stream, error) {
	fd, err := unix.Open(c.Port, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := setUp(fd, c); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &serialPort{os.NewFile(uintptr(fd), c.Port)}, nil
}

func setUp(fd int, c *Config) error {
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrPortInUse
		}
		return err
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("it is no serial device: %w", err)
	}
	// Raw: no line discipline, no flow control, no signals. VMIN 1 lets a read
	// with nothing to give say so (EAGAIN); with 0 it would look like the end.
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CREAD | unix.CLOCAL | baudFlag(c.Baud)
	t.Ispeed, t.Ospeed = baudFlag(c.Baud), baudFlag(c.Baud)
	t.Cflag |= unix.CS8
	if c.DataBits == 7 {
		t.Cflag = t.Cflag&^unix.CSIZE | unix.CS7
	}
	if c.StopBits == 2 {
		t.Cflag |= unix.CSTOPB
	}
	switch c.Parity {
	case "even":
		t.Cflag |= unix.PARENB
		t.Iflag |= unix.INPCK
	case "odd":
		t.Cflag |= unix.PARENB | unix.PARODD
		t.Iflag |= unix.INPCK
	}
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("the port does not take the line settings: %w", err)
	}
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH)
}

// Close drops what waits to be sent: closing a port whose adapter is stuck
// would otherwise wait for it.
func (p *serialPort) Close() error {
	_ = p.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH) })
	return p.File.Close()
}

// flushSerial throws away what the port has received.
func flushSerial(s stream) error {
	p, ok := s.(*serialPort)
	if !ok {
		return nil
	}
	return p.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
}

func (p *serialPort) control(f func(fd int) error) error {
	raw, err := p.SyscallConn()
	if err != nil {
		return err
	}
	var fail error
	if err := raw.Control(func(fd uintptr) { fail = f(int(fd)) }); err != nil {
		return err
	}
	return fail
}

// SetDeadline implements stream.
func (p *serialPort) SetDeadline(t time.Time) error { return p.File.SetDeadline(t) }

func baudFlag(baud int) uint32 {
	switch baud {
	case 300:
		return unix.B300
	case 600:
		return unix.B600
	case 1200:
		return unix.B1200
	case 2400:
		return unix.B2400
	case 4800:
		return unix.B4800
	case 19200:
		return unix.B19200
	case 38400:
		return unix.B38400
	case 57600:
		return unix.B57600
	case 115200:
		return unix.B115200
	case 230400:
		return unix.B230400
	case 460800:
		return unix.B460800
	case 921600:
		return unix.B921600
	}
	return unix.B9600
}
