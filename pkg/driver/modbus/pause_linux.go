package modbus

import (
	"time"

	"golang.org/x/sys/unix"
)

// pause sleeps for a short time, to some 60 us exact.
func pause(d time.Duration) {
	for end := time.Now().Add(d); d > 0; d = time.Until(end) {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // what a signal took of it is slept after
	}
}
