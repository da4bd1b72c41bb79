// Package drivertest is what tests of drivers share.
//
// [Run] is the suite that every driver passes: it stays alive with its
// connection down, reads what the outside shows, keeps a silent device from
// harming the others, and lets go of everything when its context ends.
//
// [Recorder] is a [driver.Sink] that remembers, checks what it is given against
// the contract of the interface, and lets a test wait for a state.
//
// [Field] is the Modbus part of package sim for the time of a test.
// [Field.ServeTCP] and [Field.ServeRTU] put it on a socket, or on a pseudo-terminal
// that can be pulled out and plugged in again. Its answers can be late, missing, damaged,
// of the wrong unit or transaction, cut off, or come byte by byte.
//
// It is for tests only and imports testing.
package drivertest
