// Package derive computes series out of others, hour by hour and day by day: air
// quality index, sums of rain, vector mean wind, how complete a day is.
//
//	d, err := derive.Open(derive.Options{Queryable: store.Queryable(), Edges: ..., Write: ...})
//	err = d.Run(ctx)           // computes what is due, every minute
//	d.Late("lac-duong-01", hours) // late readings came: those hours are computed anew
//	err = d.Save()             // before a checkpoint: what is due is not forgotten
//
// An hour is due when the edge's watermark has passed it, so an edge that was cut off
// is computed when its readings have come, in order. Everything is read from the
// store, late readings included, and what comes out is compared with what stands
// there: to compute twice changes nothing, and nothing but the list of what is due
// has to be remembered.
//
// # Times and corrections
//
// A store keeps what it has. The value of an hour (a day) stands one second before
// its end, and each correction one millisecond after the value before: a query at the
// full hour sees the newest. There can be 999.
//
// # Stations
//
// What belongs together is the label station of the series, which the YAML of an edge
// may add, or else the device. A derived series has the label device EDGE/STATION.
//
// The hour that ends at 13:00 has the readings after 12:00 up to 13:00, as in rules.
package derive
