//go:build unix

package modbus

import (
	"errors"
	"io"
	"syscall"
)

// drain throws away what a socket has received, without waiting.
func drain(s stream) error {
	sc, ok := s.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var (
		buf  [512]byte
		fail error
	)
	err = raw.Read(func(fd uintptr) bool {
		for range 64 { // a flood is not waited out; the framing copes with the rest
			n, err := syscall.Read(int(fd), buf[:])
			switch {
			case errors.Is(err, syscall.EINTR):
				continue
			case errors.Is(err, syscall.EAGAIN):
			case err != nil:
				fail = err
			case n == 0:
				fail = io.EOF
			default:
				continue
			}
			return true
		}
		return true
	})
	return errors.Join(err, fail)
}
