//go:build !linux

package modbus

import "time"

func pause(d time.Duration) { time.Sleep(d) }
