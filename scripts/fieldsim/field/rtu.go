package field

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// bus is a serial line: the field holds one end of a pseudo-terminal, and the
// other end has a stable name.
type bus struct {
	name   string   // the line: the path of the link
	master *os.File // ours
	slave  *os.File // held open, so that a client may come and go
}

// openBus makes a pseudo-terminal and links its client's end as path.
func openBus(path string) (*bus, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("pseudo-terminal %s: %w", path, err)
	}
	if master, err = pollable(master); err != nil {
		return nil, errors.Join(fmt.Errorf("pseudo-terminal %s: %w", path, err), slave.Close())
	}
	b := &bus{name: path, master: master, slave: slave}
	if err := raw(slave); err != nil {
		return nil, errors.Join(fmt.Errorf("pseudo-terminal %s: %w", path, err), b.close())
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSymlink == 0 {
		return nil, errors.Join(fmt.Errorf("%s exists and is no link; remove it or name another place", path), b.close())
	}
	_ = os.Remove(path)
	if err := os.Symlink(slave.Name(), path); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bus) close() error {
	if to, err := os.Readlink(b.name); err == nil && to == b.slave.Name() {
		_ = os.Remove(b.name)
	}
	return errors.Join(b.master.Close(), b.slave.Close())
}

// pollable returns the file with deadlines that work: one that came from a
// blocking open would keep its reader for ever. The given file is closed.
func pollable(f *os.File) (*os.File, error) {
	defer func() { _ = f.Close() }()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// raw takes echo and line editing from a terminal.
func raw(f *os.File) error {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// byteTime is how long a byte takes at 9600 baud.
const byteTime = 10 * time.Second / 9600

// frameGap ends a frame that does not say its length or is damaged.
const frameGap = 30 * time.Millisecond

// runBus serves Modbus RTU on the line until ctx ends.
func (f *Field) runBus(ctx context.Context, b *bus) error {
	chunks := make(chan []byte)
	done := make(chan error, 1)
	go func() {
		for {
			buf := make([]byte, 256)
			n, err := b.master.Read(buf)
			if err != nil {
				done <- err
				close(chunks)
				return
			}
			select {
			case chunks <- buf[:n]:
			case <-ctx.Done():
			}
		}
	}()
	defer func() {
		_ = b.master.SetReadDeadline(time.Now()) // wakes the reader
		<-done
	}()
	var frame []byte
	for {
		var gap <-chan time.Time
		if len(frame) > 0 {
			gap = time.After(frameGap)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-gap:
			frame = frame[:0]
		case c, ok := <-chunks:
			if !ok {
				return fmt.Errorf("%s: %w", b.name, os.ErrClosed)
			}
			frame = append(frame, c...)
		}
		for {
			n := requestLen(frame)
			if n == 0 || len(frame) < n {
				break
			}
			request := frame[:n]
			if binary.LittleEndian.Uint16(request[n-2:]) != crc16(request[:n-2]) {
				break // wait for the silence, then begin anew
			}
			if reply, ok := f.serve(b.name, request[0], request[1:n-2]); ok {
				reply = append([]byte{request[0]}, reply...)
				reply = binary.LittleEndian.AppendUint16(reply, crc16(reply))
				select { // the time that request and reply take on the line
				case <-time.After(time.Duration(n+4+len(reply)) * byteTime):
				case <-ctx.Done():
					return nil
				}
				if _, err := b.master.Write(reply); err != nil {
					return fmt.Errorf("%s: %w", b.name, err)
				}
			}
			frame = frame[n:]
		}
	}
}

// requestLen returns the length of the RTU request that begins the bytes; 0 when
// that cannot be said yet.
func requestLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case 15, 16:
		if len(b) < 7 {
			return 0
		}
		return 9 + int(b[6])
	}
	return 8
}

// crc16 is the checksum of Modbus RTU; its low byte is sent first.
func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, x := range b {
		crc ^= uint16(x)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
