// Package airindex computes air quality indexes of the kind of VN_AQI (Decision
// 1459/QĐ-TCMT of 12 November 2019): linear steps between breakpoints, NowCast for
// particles, the worst substance counts. The breakpoints are data, see
// configs/rules/tables.yaml. Values and pure functions only.
package airindex

import "math"

// Table turns concentrations into an index, by linear steps.
type Table struct {
	Index []float64     // at each step, rising
	Of    map[string]Of // by quantity
}

// Of is one substance of an index: the concentrations at its steps, in the index's
// unit, and what a reading has to be multiplied by to be in that unit.
type Of struct {
	NowCast bool // hourly: over 12 hours; else the mean of the hour. Daily: the mean of the day; else its worst hour
	Factor  float64
	At      []float64
	// At8h is the same for means over 8 h, of which the day's worst counts, too; none
	// above its end. It is not in JSON, which names the rules that judge by the hour.
	At8h []float64 `json:"-"`
}

// Value returns the index of a concentration in the reading's own unit times factor:
// linear between the steps, rounded, the last step for all that lies beyond.
func (t *Table) Value(of *Of, c float64) float64 { return math.Round(t.linear(of.At, c)) }

func (t *Table) linear(at []float64, c float64) float64 {
	for k := 1; k < len(at); k++ {
		if c <= at[k] {
			return t.Index[k-1] + (t.Index[k]-t.Index[k-1])*max(0, c-at[k-1])/(at[k]-at[k-1])
		}
	}
	return t.Index[len(at)-1]
}

// Level returns which level an index is in, from 1: up to the second step of the
// table is 1, and what lies beyond the sixth has no more levels.
func (t *Table) Level(index float64) int {
	for k := 1; k < len(t.Index); k++ {
		if index <= t.Index[k] {
			return min(k, 6)
		}
	}
	return 6
}

// Hours are hourly means by quantity, newest first, in the readings' units; NaN where
// there is none.
type Hours map[string][]float64

// Hour returns the index of the newest hour. It needs particles (a substance with
// NowCast) that have one; others join in when they have one. False: there is none.
func (t *Table) Hour(means Hours) (index float64, ok bool) {
	for q, of := range t.Of {
		hours := means[q]
		if len(hours) == 0 {
			continue
		}
		c, known := hours[0]*of.Factor, !math.IsNaN(hours[0])
		if of.NowCast {
			var m [12]float64
			var has [12]bool
			for i := range min(12, len(hours)) {
				m[i], has[i] = hours[i]*of.Factor, !math.IsNaN(hours[i])
			}
			c, known = NowCast(m, has)
		}
		if known {
			index, ok = max(index, t.Value(&of, c)), ok || of.NowCast
		}
	}
	return index, ok
}

// Shares of a day that must be known: 18 of its 24 hours, 6 of 8.
const (
	dayHours   = 18
	eightHours = 6
)

// Day returns the index of a day, of whose hours, 24 of them, 18 must be known. It
// needs particles as Hour does.
func (t *Table) Day(means Hours) (index float64, ok bool) {
	for q, of := range t.Of {
		sum, n, worst := 0.0, 0, math.Inf(-1)
		hours := means[q]
		for _, m := range hours {
			if !math.IsNaN(m) {
				sum, n, worst = sum+m*of.Factor, n+1, max(worst, m*of.Factor)
			}
		}
		if n < dayHours {
			continue
		}
		if of.NowCast {
			index, ok = max(index, t.Value(&of, sum/float64(n))), true
			continue
		}
		index = max(index, t.Value(&of, worst))
		if len(of.At8h) < 2 {
			continue
		}
		if c, known := worst8(hours, of.Factor); known && c <= of.At8h[len(of.At8h)-1] {
			index = max(index, math.Round(t.linear(of.At8h, c)))
		}
	}
	return index, ok
}

// worst8 returns the greatest mean over 8 hours in a row.
func worst8(hours []float64, factor float64) (worst float64, ok bool) {
	for i := 0; i+8 <= len(hours); i++ {
		sum, n := 0.0, 0
		for _, m := range hours[i : i+8] {
			if !math.IsNaN(m) {
				sum, n = sum+m*factor, n+1
			}
		}
		if n >= eightHours && (!ok || sum/float64(n) > worst) {
			worst, ok = sum/float64(n), true
		}
	}
	return worst, ok
}

// NowCast weighs 12 hourly means, newest first, by Decision 1459/QĐ-TCMT: with w the
// least divided by the greatest, at least one half; for w above one half the weights
// w^(i-1) are made to sum to 1, else they are (1/2)^i. Two of the newest three hours
// must be known; a missing one weighs nothing.
func NowCast(c [12]float64, known [12]bool) (float64, bool) {
	recent := 0
	low, high := math.Inf(1), math.Inf(-1)
	for i := range c {
		if known[i] {
			low, high = min(low, c[i]), max(high, c[i])
			if i < 3 {
				recent++
			}
		}
	}
	if recent < 2 {
		return 0, false
	}
	w := 1.0
	if high > 0 {
		w = max(low/high, 0.5)
	}
	sum, weights, weight := 0.0, 0.0, 1.0
	for i := range c {
		if known[i] {
			sum, weights = sum+weight*c[i], weights+weight
		}
		weight *= w
	}
	if w > 0.5 {
		return sum / weights, true
	}
	return sum / 2, true
}
