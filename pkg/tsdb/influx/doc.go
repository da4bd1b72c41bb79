// Package influx keeps samples on a server, or a cluster, that speaks the InfluxDB
// v2 write API, and reads them back by the Prometheus query API; VictoriaMetrics
// speaks both. It is for when one machine is outgrown.
//
//	s, err := influx.Open(influx.Options{URL: "http://store:8428", Bucket: "langbiang", QueryURL: "http://store:8428"})
//
// A series becomes a measurement, named by its quantity, with its labels as tags and
// one field, value; times are milliseconds:
//
//	air_temperature,device=air-01,edge=lac-duong-01,point=air_temperature,site=24848 value=21.5 1767225600000
//
// So that queries find it under the quantity, VictoriaMetrics is started with
// -influxSkipSingleField; and with -dedup.minScrapeInterval=1ms, so that a sample
// that is written twice, as after a crash, counts once.
//
// # What is safe
//
// A write that succeeded need not be on the server's disk. [Store.Sync] returns once
// everything was written and Options.FlushDelay has passed since: it must be longer
// than the server takes to flush, and then what is lost in the server's crash is what
// is not called safe, and comes again from the edges. A server that loses what it
// had flushed is beyond that: then langbiang-hub edges forget lets them send all they
// keep.
//
// # When it fails
//
// Batches wait in memory and are sent again, at growing distances, for as long as
// the server cannot be reached or refuses everybody; Commit blocks when
// Options.Pending is full. A line that the server refuses for itself (a field of
// another type, most often) is found by halving the batch, and set aside in the file
// Options.Refused with the reason; its series goes there at once for a while. The
// rest of the batch is stored.
//
// Staleness markers cannot be said in line protocol and are left out.
package influx
