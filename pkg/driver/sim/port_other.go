//go:build !linux

package sim

import (
	"context"
	"errors"
	"io"
)

// Port is a serial port that is no hardware. There is none on this system.
type Port struct {
	Path  string
	Serve func(ctx context.Context, c io.ReadWriter)
}

// Plug fails.
func (*Port) Plug() error {
	return errors.New("there are no pseudo-terminals for a simulated serial port on this system")
}

// Unplug does nothing.
func (*Port) Unplug() {}
