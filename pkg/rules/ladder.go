package rules

import (
	"math"

	"github.com/langbiang/langbiang/pkg/alert"
)

// shape says how a judged value is compared with the limits of a level.
type shape uint8

const (
	isAbove   shape = iota // over beyond limit, back at clear
	isBelow                // the same downward
	isOutside              // over outside of [low, limit], back within [clearLow, clear]
	isInside               // over within [low, limit], back outside of [clearLow, clear]
	isAtLeast              // over at limit and beyond, back below it
)

// level is one step of a ladder. Times are in milliseconds.
type level struct {
	severity       alert.Severity
	limit, clear   float64
	low, clearLow  float64 // of bands: limit and clear are the upper ends then
	hold, clearFor int64
	is             []stateMatch // of kind state
	name           *alert.Level // of a national ladder; nil: it has none
}

// maxLevels bounds a ladder. Levels of national ladders may share a severity.
const maxLevels = 8

// title is what people call the level.
func (l *level) title() string {
	if l.name != nil {
		return l.name.ID
	}
	return l.severity.String()
}

// is reports whether x is over the level, given whether it was.
func (s shape) is(l *level, x float64, was bool) bool {
	switch s {
	case isAbove:
		return x > l.limit || was && x > l.clear
	case isBelow:
		return x < l.limit || was && x < l.clear
	case isOutside:
		return x > l.limit || x < l.low || was && (x > l.clear || x < l.clearLow)
	case isInside:
		return x >= l.low && x <= l.limit || was && x >= l.clearLow && x <= l.clear
	default:
		return x >= l.limit
	}
}

// climb returns how many levels are over at x, when over were.
func (r *rule) climb(x float64, over uint8) uint8 {
	for int(over) < len(r.levels) && r.shape.is(&r.levels[over], x, false) {
		over++
	}
	for over > 0 && !r.shape.is(&r.levels[over-1], x, true) {
		over--
	}
	return over
}

// worse says how bad x is: the more, the worse. It orders the values of one rule.
func (r *rule) worse(x float64) float64 {
	l := &r.levels[0]
	switch r.shape {
	case isBelow:
		return -x
	case isOutside:
		return max(x-l.limit, l.low-x)
	case isInside:
		return min(x-l.low, l.limit-x)
	}
	return x
}

// quiet returns an interval of values that change nothing, given what is over
// and, while anything is, the worst value so far. An empty one (lo above hi) says
// that every value has to be looked at.
func (r *rule) quiet(over uint8, busy bool, peak float64) (lo, hi float64) {
	lo, hi = math.Inf(-1), math.Inf(1)
	n := int(over)
	switch r.shape {
	case isBelow:
		if n < len(r.levels) {
			lo = r.levels[n].limit
		}
		if n > 0 {
			hi = math.Nextafter(r.levels[n-1].clear, lo)
		}
		if busy {
			lo = max(lo, peak)
		}
	case isOutside:
		if busy || n > 0 {
			return hi, lo
		}
		return r.levels[0].low, r.levels[0].limit
	case isInside:
		return hi, lo
	default:
		if n < len(r.levels) {
			hi = r.levels[n].limit
			if r.shape == isAtLeast {
				hi = math.Nextafter(hi, lo)
			}
		}
		if n > 0 {
			lo = math.Nextafter(r.levels[n-1].clear, math.Inf(1))
			if r.shape == isAtLeast {
				lo = r.levels[n-1].limit
			}
		}
		if busy {
			hi = min(hi, peak)
		}
	}
	return lo, hi
}

// limitAt returns the limit of the level that x is to be held against: of a band
// the nearer end.
func (r *rule) limitAt(l *level, x float64) float64 {
	if (r.shape == isOutside || r.shape == isInside) && math.Abs(x-l.low) < math.Abs(x-l.limit) {
		return l.low
	}
	return l.limit
}
