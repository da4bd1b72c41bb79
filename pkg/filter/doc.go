// Package filter thins readings out on their way from a driver into the log:
// report by exception with a deadband and a longest silence, aggregates over a
// window, a rate limit. A series has a filter only where the configuration or
// the catalogue of quantities asks for one.
//
//	f := filter.New(spec)
//	out = f.Put(reading, floor, out[:0]) // what is to be logged now
//	out = f.Tick(now, floor, out[:0])    // what falls due by itself: windows that end
//
// It is pure: time is an argument, in milliseconds of log time, and a [Filter]
// belongs to whoever calls it. Nothing is dropped uncounted, see [Dropped].
//
// # What a rule sees
//
// Report by exception must not move an alert. The reading that leaves the
// deadband is reported at its own time, so a threshold that is further from the
// reported value than the deadband is crossed in the same millisecond as
// without a filter. The reading before it, which was held back, is given as
// well, so that the step stands where it was and not somewhere in a ramp that
// began minutes earlier. Its own time may lie behind the watermark by then, and
// a late reading would never be judged; it is therefore repeated at the first
// time that is still on time (floor), which is honest, because a value that was
// not reported stands until the next one.
//
// A change of quality, and a new text, are changes whatever the deadband. What
// the longest silence promises is kept against the interval: a reading is
// reported when the one after it would come too late.
//
// A rate limit never ends on an old value: what was held back last is reported
// once the time is over, at that time, unless it has come back into the
// deadband.
//
// # Windows
//
// Windows lie on the clock: one of a minute ends at each full minute, and its
// aggregates have that time. Bad readings take no part; where they are the
// most, the aggregates are uncertain with their reason, and where there are no
// others, bad. What stands in an open window is lost with the power: it is not
// accepted before its aggregate is.
package filter
