//go:build !linux

package modbus

import (
	"context"
	"errors"
)

// ErrPortInUse is in the error of a serial line that another program holds.
var ErrPortInUse = errors.New("the port is in use by another program")

var errNoSerial = errors.New("serial ports are supported on Linux only")

func openSerial(context.Context, *Config) (stream, error) { return nil, errNoSerial }

func flushSerial(stream) error { return nil }
