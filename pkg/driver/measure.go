package driver

import (
	"github.com/langbiang/langbiang/pkg/profile"
)

// Counts are the counters of a device. They belong to the goroutine that reads
// it.
type Counts struct {
	device string
	totals Totals
	counts map[countKey]*kept
}

// countKey tells counters apart: one that is wider in another revision is
// another.
type countKey struct {
	point string
	span  float64
}

func keyOf(pt *profile.Point) countKey { return countKey{pt.ID, pt.Counter.Span(pt.RawType())} }

type kept struct {
	*profile.Count
	saved profile.CountState
}

// NewCounts makes the counters of a device. totals may be nil.
func NewCounts(d *Device, totals Totals) *Counts {
	return &Counts{device: d.ID, totals: totals, counts: map[countKey]*kept{}}
}

// Of returns the counter of a point, nil when it has none.
func (c *Counts) Of(pt *profile.Point) *profile.Count {
	if pt.Counter == nil {
		return nil
	}
	k := c.counts[keyOf(pt)]
	if k == nil {
		k = &kept{Count: profile.NewCount(pt)}
		if c.totals == nil {
			k.Plain = true
		} else if s, ok := c.totals.Load(c.device, pt.ID); ok {
			k.Restore(s)
			k.saved = s
		}
		c.counts[keyOf(pt)] = k
	}
	return k.Count
}

// Keep notes where the counter of a point stands after it was read.
func (c *Counts) Keep(pt *profile.Point) {
	if pt.Counter == nil || pt.Counter.Kind == profile.CounterRate || c.totals == nil {
		return
	}
	if k := c.counts[keyOf(pt)]; k != nil {
		if s := k.State(); s != k.saved {
			k.saved = s
			c.totals.Save(c.device, pt.ID, s)
		}
	}
}
