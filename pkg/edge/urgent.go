package edge

import (
	"math"
	"slices"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// How often what is urgent may be sent and committed at once, in milliseconds. A
// commit costs the card 20 to 40 kB, so a value that flaps must not cause one every
// time: each series waits longer after each of its alarms, and all of them together
// have so many.
const (
	firstRest = 2_000   // of a series, after an alarm; doubled by each that follows
	lastRest  = 300_000 // until this is reached; twice as long a silence makes it forget
	maxAlarms = 20      // of all series, at once
	alarmTime = 15_000  // until there is another one
)

// unknownZone is the zone of a series that has had no value yet.
const unknownZone = -1

// urgency decides which readings cannot wait for the period to end: a change of a
// point that is marked urgent, and a value that crosses a limit which the hub's rules
// watch. The collector's lock guards it.
type urgency struct {
	marked []bool      // by series: a change of it is urgent
	limits [][]float64 // by series: what the hub watches; nil: nothing
	series []seriesUrgency

	alarms float64
	at     int64 // of the last count of alarms
	owed   int64 // when an alarm that had to wait is due; 0: there is none
}

type seriesUrgency struct {
	zone  int16 // between which limits the last value was
	known bool
	bad   bool
	value float64
	text  string
	last  int64 // time of the last alarm
	rest  int64 // pause after it
}

// newUrgency watches the points that are marked in a layout.
func newUrgency(l *layout) urgency {
	u := urgency{alarms: maxAlarms}
	u.relay(l, nil)
	return u
}

// relay changes over to another layout; old tells which series each was, see
// [collector.relay].
func (u *urgency) relay(l *layout, old []int32) {
	n := len(l.series)
	marked, limits, series := make([]bool, n), make([][]float64, n), make([]seriesUrgency, n)
	for d, first := range l.first {
		for j := range d.Points {
			marked[first+uint32(j)] = d.Points[j].Urgent
		}
	}
	for i := range series {
		series[i].zone = unknownZone
		if old != nil && old[i] >= 0 {
			limits[i], series[i] = u.limits[old[i]], u.series[old[i]]
		}
	}
	u.marked, u.limits, u.series = marked, limits, series
}

// watch takes the limits of the hub. Values are compared from the next one on.
func (u *urgency) watch(b *wire.Bands) {
	clear(u.limits)
	for _, band := range b.Bands {
		if int(band.Series) < len(u.limits) {
			u.limits[band.Series] = band.Limits
		}
	}
	for i := range u.series {
		u.series[i].zone = unknownZone
	}
}

// saw takes a reading that arrived at now, and reports whether what is pending must
// be sent at once.
func (u *urgency) saw(r *telemetry.Reading, now int64) bool {
	s := &u.series[r.Series]
	alarm := false
	if u.marked[r.Series] {
		bad := r.Quality.IsBad()
		alarm = s.known && (bad != s.bad || !bad && (math.Float64bits(r.Value) != math.Float64bits(s.value) || r.Text != s.text))
		s.known, s.bad = true, bad
		if !bad {
			s.value, s.text = r.Value, r.Text
		}
	}
	if limits := u.limits[r.Series]; limits != nil && !r.Quality.IsBad() {
		z := zoneOf(r.Value, limits)
		alarm = alarm || s.zone != unknownZone && s.zone != z
		s.zone = z
	}
	return alarm && u.allow(s, now)
}

// zoneOf counts the limits below the value twice, and one that it stands on once:
// some rules fire above a limit, some below it, and none on it.
func zoneOf(v float64, limits []float64) int16 {
	i, on := slices.BinarySearch(limits, v)
	if on {
		return int16(2*i + 1)
	}
	return int16(2 * i)
}

// allow decides whether an alarm of a series at t may be one now; else it is owed.
func (u *urgency) allow(s *seriesUrgency, t int64) bool {
	since := t - s.last
	switch {
	case s.last == 0 || since < 0 || since > 2*lastRest:
		s.rest = 0
	case since < s.rest:
		u.owe(s.last + s.rest)
		return false
	}
	if !u.spend(t) {
		u.owe(t + alarmTime)
		return false
	}
	s.last, s.rest = t, min(max(firstRest, 2*s.rest), lastRest)
	return true
}

func (u *urgency) owe(t int64) {
	if u.owed == 0 || t < u.owed {
		u.owed = t
	}
}

// spend takes one of the alarms that all series share.
func (u *urgency) spend(t int64) bool {
	if d := t - u.at; d > 0 && u.at != 0 {
		u.alarms = min(maxAlarms, u.alarms+float64(d)/alarmTime)
	}
	u.at = t
	if u.alarms < 1 {
		return false
	}
	u.alarms--
	return true
}

// due reports whether an alarm is owed at t, and settles it.
func (u *urgency) due(t int64) bool {
	if u.owed == 0 || t < u.owed {
		return false
	}
	if !u.spend(t) {
		u.owed = t + alarmTime
		return false
	}
	u.owed = 0
	return true
}
