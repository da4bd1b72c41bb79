package derive

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// expected is what should come from an edge.
type expected struct {
	devices map[string]map[string]int64 // device, point: how long a reading stands at most, ms
	longest int64                       // of all
}

// farthest is how far back an hour looks for a reading that still stands.
const farthest = before * hour

func newExpected(list []Series) expected {
	x := expected{devices: map[string]map[string]int64{}}
	for _, s := range list {
		if s.Longest <= 0 {
			continue
		}
		if x.devices[s.Device] == nil {
			x.devices[s.Device] = map[string]int64{}
		}
		stands := min(s.Longest, farthest)
		x.devices[s.Device][s.Point] = stands
		x.longest = max(x.longest, stands)
	}
	return x
}

// completeness computes, for each device, how much of an hour its series cover: a
// reading stands for the time until the next, at most for the longest that is normal.
// That of a day is the mean of its hours, so that a day never needs to be read at once:
// its hours stand already, but for those that late readings have come to.
type completeness struct {
	d *Deriver
	q storage.Querier
	e Edge
	expected
	have map[key]sample
	// fresh: the edge is new here. Hours before its first reading are not counted.
	fresh *bool

	sites map[string]string // by device
}

// span is a time (from, to] that readings cover.
type span struct{ from, to int64 }

// rows returns the values of the hours that changed, and of days.
func (c *completeness) rows(ctx context.Context, hours []int64, changed map[int64]bool, midnight map[int64]bool) ([]Row, error) {
	if len(c.devices) == 0 {
		return nil, nil
	}
	due := map[int64]bool{}
	for _, h := range hours {
		// A reading covers what follows it.
		for k := range c.longest/hour + 2 {
			due[h] = due[h] || changed[h-k]
		}
		if !due[h] {
			delete(due, h)
		}
	}
	for begin := range midnight {
		for h := HourOf(begin + 1); h <= HourOf(c.d.next(begin)); h++ {
			for device := range c.devices {
				if _, ok := c.have[c.key(device, h)]; !ok {
					due[h] = true
				}
			}
		}
	}
	list := slices.Sorted(maps.Keys(due))
	value := map[key]float64{}
	c.sites = map[string]string{}
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n] == list[n-1]+1 {
			n++
		}
		if err := c.run(ctx, list[0], list[n-1], value); err != nil {
			return nil, err
		}
		list = list[n:]
	}
	var rows []Row
	row := func(device, quantity string, end int64, v float64) {
		site := cmp.Or(c.sites[device], c.e.Site)
		rows = append(rows, Row{Site: site, Device: c.e.ID + "/" + device, Quantity: quantity, Time: end, Value: v})
	}
	for _, device := range slices.Sorted(maps.Keys(c.devices)) {
		for _, h := range slices.Sorted(maps.Keys(due)) {
			if v, ok := value[c.key(device, h)]; ok {
				row(device, CompleteHour, (h+1)*hour, v)
			}
		}
		for _, begin := range slices.Sorted(maps.Keys(midnight)) {
			sum, n := 0.0, 0
			for h := HourOf(begin + 1); h <= HourOf(c.d.next(begin)); h++ {
				k := c.key(device, h)
				if v, ok := value[k]; ok {
					sum += v
				} else {
					sum += c.have[k].v
				}
				n++
			}
			row(device, Complete, c.d.next(begin), math.Round(sum/float64(n)*10)/10)
		}
	}
	return rows, nil
}

func (c *completeness) key(device string, h int64) key {
	return key{c.e.ID + "/" + device, CompleteHour, (h + 1) * hour}
}

// soon is how long readings of most devices stand at most: these are read together,
// each of the others from as far back as its own may stand.
const soon = hour / 6

// run computes the hours first to last.
func (c *completeness) run(ctx context.Context, first, last int64, value map[key]float64) error {
	from, to := first*hour, (last+1)*hour
	covered := map[[2]string][]span{} // by device and point
	slow := map[string]int64{}
	for device, points := range c.devices {
		longest := int64(0)
		for _, stands := range points {
			longest = max(longest, stands)
		}
		if longest > soon {
			slow[device] = longest
		}
	}
	if len(slow) < len(c.devices) {
		if err := c.read(ctx, from-soon, to, covered, func(device string) bool { return slow[device] == 0 }); err != nil {
			return err
		}
	}
	for device, longest := range slow {
		if err := c.read(ctx, from-longest, to, covered, nil, equal("device", device)); err != nil {
			return err
		}
	}
	for h := first; h <= last; h++ {
		any := false
		for device, points := range c.devices {
			sum := int64(0)
			for point := range points {
				sum += overlap(covered[[2]string{device, point}], h*hour, (h+1)*hour)
			}
			any = any || sum > 0
			value[c.key(device, h)] = math.Round(float64(sum)/float64(int64(len(points))*hour)*1000) / 10
		}
		if *c.fresh && !any {
			for device := range c.devices {
				delete(value, c.key(device, h))
			}
		}
		*c.fresh = *c.fresh && !any
	}
	return nil
}

// read notes what the readings after from up to to cover, of the devices that are
// wanted.
func (c *completeness) read(ctx context.Context, from, to int64, covered map[[2]string][]span, want func(device string) bool, where ...*labels.Matcher) error {
	where = append(where, equal("edge", c.e.ID), labels.MustNewMatcher(labels.MatchNotEqual, "__name__", "reading_quality"))
	set := c.q.Select(ctx, false, &storage.SelectHints{Start: from + 1, End: to}, where...)
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		ls := s.Labels()
		device, point := ls.Get("device"), ls.Get("point")
		stands := c.devices[device][point]
		if stands == 0 || want != nil && !want(device) {
			continue
		}
		c.sites[device] = ls.Get("site")
		var spans []span
		it = s.Iterator(it)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			t, v := it.At()
			switch {
			case kind != chunkenc.ValFloat || v-v != 0 || t <= from || t > to:
			case len(spans) > 0 && t <= spans[len(spans)-1].to:
				spans[len(spans)-1].to = t + stands
			default:
				spans = append(spans, span{t, t + stands})
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
		k := [2]string{device, point}
		covered[k] = joined(covered[k], spans) // readings that came late are a series of their own
	}
	return set.Err()
}

// joined returns the time that either covers, in order.
func joined(a, b []span) []span {
	if len(a) == 0 || len(b) == 0 {
		return append(a, b...)
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y span) int { return cmp.Compare(x.from, y.from) })
	out := all[:1]
	for _, s := range all[1:] {
		if end := &out[len(out)-1].to; s.from <= *end {
			*end = max(*end, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// overlap returns how much of a time is covered, ms.
func overlap(list []span, from, to int64) (sum int64) {
	for _, s := range list {
		sum += max(0, min(s.to, to)-max(s.from, from))
	}
	return sum
}
