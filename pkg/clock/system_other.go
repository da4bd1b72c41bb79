//go:build !linux

package clock

import (
	"crypto/rand"
	"errors"
	"time"
)

type system struct {
	start time.Time
	boot  [16]byte
}

// System is the machine itself as a Source. Where the system names no boot,
// every process counts as one.
func System() (Source, error) {
	s := system{start: time.Now()}
	_, err := rand.Read(s.boot[:])
	return s, err
}

func (s system) Monotonic() int64 { return time.Since(s.start).Milliseconds() }

func (system) Wall() int64 { return time.Now().UnixMilli() }

func (system) Synchronised() (bool, error) { return Synchronised() }

func (s system) BootID() [16]byte { return s.boot }

// Synchronised cannot be answered here: it is always an error.
func Synchronised() (bool, error) {
	return false, errors.New("this system does not say whether its clock is synchronised")
}
