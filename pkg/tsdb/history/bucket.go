package history

import (
	"math"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The streams of a set: what a bucket holds.
const (
	streamValue = iota
	streamMin
	streamMax
	streamCount
	streams
)

var streamNames = [streams]string{"value", "min", "max", "count"}

// bucket gathers samples.
type bucket struct {
	n        float64 // samples
	min, max float64
	value    float64 // as its aggregation makes it; a sum before finish
	x, y     float64 // of a vector mean
}

// add takes in n samples with their value, smallest and largest; for a single one
// all three are the same.
func (b *bucket) add(how telemetry.Aggregation, n, v, lo, hi float64) {
	if b.n == 0 {
		b.min, b.max = lo, hi
	} else {
		b.min, b.max = min(b.min, lo), max(b.max, hi)
	}
	b.n += n
	switch how {
	case telemetry.AggregateSum:
		b.value += v
	case telemetry.AggregateLast:
		b.value = v
	case telemetry.AggregateVectorMean:
		sin, cos := math.Sincos(v * math.Pi / 180)
		b.x, b.y = b.x+cos*n, b.y+sin*n
	case telemetry.AggregateMin, telemetry.AggregateMax:
		// Min and max have it.
	default:
		b.value += v * n
	}
}

// finish makes the value of what was added. A mean is rounded to 24 bits, which no
// sensor exceeds and which halves what it takes on disk, and never leaves
// [min, max].
func (b *bucket) finish(how telemetry.Aggregation) {
	switch how {
	case telemetry.AggregateSum, telemetry.AggregateLast:
	case telemetry.AggregateMin:
		b.value = b.min
	case telemetry.AggregateMax:
		b.value = b.max
	case telemetry.AggregateVectorMean:
		b.value = b.min // no direction prevails
		if math.Hypot(b.x, b.y) > 1e-9*b.n {
			b.value = narrow(math.Mod(math.Atan2(b.y, b.x)*180/math.Pi+360, 360))
		}
	default:
		b.value = min(max(narrow(b.value/b.n), b.min), b.max)
	}
}

func narrow(v float64) float64 {
	if n := float64(float32(v)); !math.IsInf(n, 0) {
		return n
	}
	return v
}

// buckets are those of one series in one period: at [i] the one that ends at
// start + (i+1) * width.
type buckets struct {
	start, width int64
	list         []bucket
}

func newBuckets(p period, width int64) *buckets {
	return &buckets{start: p.start, width: width, list: make([]bucket, (p.end-p.start)/width)}
}

func (b *buckets) reset() { clear(b.list) }

// at returns the bucket that a time falls into, nil when it is outside.
func (b *buckets) at(t int64) *bucket {
	i := t - b.start - 1
	if i < 0 || i >= int64(len(b.list))*b.width {
		return nil
	}
	return &b.list[i/b.width]
}

// end returns when the bucket i ends.
func (b *buckets) end(i int) int64 { return b.start + int64(i+1)*b.width }

func (b *buckets) finish(how telemetry.Aggregation) {
	for i := range b.list {
		if b.list[i].n > 0 {
			b.list[i].finish(how)
		}
	}
}
