// Package tsdb says what the hub needs of the place where samples are kept: a
// [Store]. Two implementations are meant to pass the one suite in tsdbtest:
// tsdb/local, embedded in the hub, and tsdb/influx, for when one machine is
// outgrown.
//
// A sample is a number at a time in milliseconds since the Unix epoch, in a
// series that is named by its sorted labels, the metric name under [NameLabel].
// [StaleMarker] as value says that the series has no value from that time on.
//
// A worker takes an [Appender] for itself, appends what a batch of frames holds
// and commits:
//
//	app := store.Appender()
//	ref, err := app.Append(0, lset, t, v)   // the first sample of the series
//	ref, err = app.Append(ref, lset, t2, v2) // later ones, by reference
//	err = app.Commit()                      // visible to queries
//	err = store.Sync()                      // durable: now positions may move
//
// The hub's truth is the edges' logs, and the store is derived from them. So
// nothing here retries: what cannot be stored is refused with one of the errors
// below, positions stay where they are, and the edges send again.
package tsdb

import "math"

// NameLabel is the label that holds the metric name, which is the quantity.
const NameLabel = "__name__"

// OnlySamples as Func of a select's hints asks for samples and nothing else: not for
// what long history has of a time whose samples are gone.
const OnlySamples = "samples"

// staleBits is the bit pattern of Prometheus' staleness marker, one of the many
// NaNs. It must be compared by its bits.
const staleBits uint64 = 0x7ff0000000000002

// StaleMarker returns the value that ends a series until its next sample.
func StaleMarker() float64 { return math.Float64frombits(staleBits) }

// IsStaleMarker reports whether v is [StaleMarker], which == cannot tell.
func IsStaleMarker(v float64) bool { return math.Float64bits(v) == staleBits }
