// Package telemetry holds the words that every other package shares: a
// [Reading] with its [Quality], the [Series] it belongs to, and the [Quantity]
// it measures in a canonical unit. It is pure: no files, no clock, no network,
// no goroutines, and it imports nothing else of ours.
//
// Times are milliseconds since the Unix epoch (int64) wherever many of them
// are held, and [time.Time] at the edges of the program.
package telemetry
