package filter

import (
	"math"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// window gathers readings up to its end.
type window struct {
	end        int64 // 0: not open
	good, bad  int
	last       telemetry.Reading // of the usable ones
	min, max   float64
	sum        float64
	sin, cos   float64
	worst      telemetry.Quality // of the usable ones
	badQuality telemetry.Quality // of the newest bad one
}

func (w *window) open() bool { return w.end != 0 }

// add takes a reading in; the window that it belongs to opens when none is open.
func (w *window) add(r telemetry.Reading, length int64) {
	if !w.open() {
		w.end = r.Time - mod(r.Time, length) + length
	}
	if r.Quality.IsBad() {
		w.bad++
		w.badQuality = r.Quality
		return
	}
	if w.good == 0 {
		w.min, w.max = r.Value, r.Value
	}
	w.good++
	w.last = r
	w.min, w.max = min(w.min, r.Value), max(w.max, r.Value)
	w.sum += r.Value
	sin, cos := math.Sincos(r.Value * math.Pi / 180)
	w.sin, w.cos = w.sin+sin, w.cos+cos
	if r.Quality.Status() > telemetry.Good {
		w.worst = r.Quality
	}
}

// mod is the remainder that is never negative.
func mod(a, b int64) int64 { return (a%b + b) % b }

func (w *window) shift(offset int64) {
	if w.open() {
		w.end += offset
	}
}

// aggregate returns the value and quality of the window.
func (w *window) aggregate(a telemetry.Aggregation) telemetry.Reading {
	if w.good == 0 {
		return telemetry.Reading{Quality: w.badQuality}
	}
	r := telemetry.Reading{Quality: w.worst, Value: w.last.Value, Text: w.last.Text}
	if w.bad > w.good && r.Quality == 0 {
		r.Quality = telemetry.NewQuality(telemetry.Uncertain, w.badQuality.Reason())
	}
	switch a {
	case telemetry.AggregateMin:
		r.Value = w.min
	case telemetry.AggregateMax:
		r.Value = w.max
	case telemetry.AggregateMean:
		r.Value = round(w.sum / float64(w.good))
	case telemetry.AggregateSum:
		r.Value = round(w.sum)
	case telemetry.AggregateVectorMean:
		// Directions that cancel each other have no mean: the newest stands.
		if n := float64(w.good); math.Hypot(w.sin, w.cos) > 1e-6*n {
			r.Value = round(math.Atan2(w.sin, w.cos) * 180 / math.Pi)
			if r.Value < 0 {
				r.Value += 360
			}
		}
	}
	return r
}

// round keeps nine digits: more than any sensor has, and few enough to pack well.
func round(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return x
	}
	p := math.Pow10(8 - int(math.Floor(math.Log10(math.Abs(x)))))
	if r := math.Round(x*p) / p; !math.IsInf(r, 0) && !math.IsNaN(r) {
		return r
	}
	return x
}
