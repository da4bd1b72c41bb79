package clock

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type system struct{ boot [16]byte }

// System is the machine itself as a Source.
func System() (Source, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("the boot's id: %w", err)
	}
	id, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""))
	if err != nil || len(id) != 16 {
		return nil, fmt.Errorf("the boot's id is %q", b)
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return nil, fmt.Errorf("CLOCK_BOOTTIME: %w", err)
	}
	return system{[16]byte(id)}, nil
}

func (system) Monotonic() int64 {
	var ts unix.Timespec
	// System has tried that it works.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return ts.Nano() / 1e6
}

func (system) Wall() int64 { return time.Now().UnixMilli() }

func (system) Synchronised() (bool, error) { return Synchronised() }

func (s system) BootID() [16]byte { return s.boot }

// Synchronised reports whether the kernel holds the system's clock for
// synchronised: some daemon (chrony, ntpd, systemd-timesyncd) disciplines it,
// and the estimated error is below the 16 s at which the kernel gives up.
// Virtual machines whose clock the host keeps right often report false.
func Synchronised() (bool, error) {
	var tx unix.Timex
	if _, err := unix.Adjtimex(&tx); err != nil {
		return false, fmt.Errorf("adjtimex: %w", err)
	}
	return tx.Status&unix.STA_UNSYNC == 0 && tx.Maxerror < 16_000_000, nil
}
