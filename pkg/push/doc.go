// Package push takes in what other programs send over HTTP: InfluxDB's line
// protocol (Telegraf and every InfluxDB client) and Prometheus' remote write.
//
// A named [Source] is an edge inside the hub. It has what an edge has: an id, a
// site, a log (package buffer), epochs, frames, a schema, a watermark; its frames
// reach the ingest through an uplink like those of any agent, only not over a
// network. So the promises need no second mechanism:
//
//	HTTP request -> rows -> one frame, one fsync -> 204
//	                             \-> uplink -> ingest -> store, rules
//
// When [Source.Write] has returned nil the rows are in the log: after a kill the
// ingest says where it stands, and the source's uplink sends again from there. Rows
// that wait at the same time share a frame and its fsync.
//
// # Time
//
// The watermark W is the hub's clock at the cut, and series lag behind it by the
// source's Lag: a row that arrives within Lag of its time is judged by the rules.
// Senders make no promise of order, so what comes later is stored in the series
// itself, not under late="1", and not judged. All this is by the hub's clock and
// outside promise 2. While the hub is down nobody looks: an unobserved interval.
//
// # Rows
//
// A row becomes a reading of a series: quantity, device, point and labels, by the
// source's mapping (see [Mapping]); what no mapping names keeps its name. Rows that
// cannot be taken are told one by one, with line and column; the others are taken.
//
// # Concurrency
//
// A Source may be written to from any goroutine while Run runs. A [Handler] is safe
// for concurrent use.
package push
