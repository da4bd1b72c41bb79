package edge

import (
	"maps"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/filter"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// filterSet is how the points of devices are thinned out: by device and point
// id; most have nothing here.
type filterSet map[*driver.Device]map[string]filter.Spec

// quantityFilters checks filters: of the whole edge.
func (c *checker) quantityFilters() {
	for _, id := range slices.Sorted(maps.Keys(c.cfg.Filters)) {
		if _, ok := c.quantities[id]; !ok {
			c.fault("there is no such quantity", strictyaml.Meant(id, slices.Sorted(maps.Keys(c.quantities))), "filters", id)
			continue
		}
		f := c.cfg.Filters[id]
		c.filterFaults(&f, 0, false, "filters", id)
	}
}

func (c *checker) filterFaults(f *filter.Config, interval time.Duration, text bool, path ...any) bool {
	ps := f.Validate(interval, text)
	for _, p := range ps {
		if at := dotted(path, p.Field); !c.faulted(at...) {
			c.fault(p.Msg, p.Hint, at...)
		}
	}
	return len(ps) == 0
}

// filters resolves how the points of a device are thinned out: what the device
// says of a point goes before what the edge says of its quantity, and that before
// the catalogue.
func (c *checker) filters(i int, dc *DeviceConfig, d *driver.Device) map[string]filter.Spec {
	for _, name := range slices.Sorted(maps.Keys(dc.Filter)) {
		if !slices.ContainsFunc(d.Points, func(p profile.Point) bool { return p.ID == name }) {
			c.fault("the device has no such point", strictyaml.Meant(name, pointIDs(d.Points)), "devices", i, "filter", name)
		}
	}
	specs := map[string]filter.Spec{}
	for j := range d.Points {
		pt := &d.Points[j]
		q := c.quantities[pt.Quantity]
		cfg, own := dc.Filter[pt.ID]
		path := []any{"devices", i, "filter", pt.ID}
		if !own {
			cfg = c.cfg.Filters[pt.Quantity]
			path = []any{"filters", pt.Quantity}
		}
		interval := seriesInterval(d, pt)
		if !c.filterFaults(&cfg, interval, pt.IsText(), path...) {
			continue
		}
		deadband := q.Deadband
		if cfg.Silence > 0 {
			deadband = pt.DeadbandIn(c.quantities)
		}
		aggregate := q.Aggregate
		switch {
		case pt.IsText():
			deadband, aggregate = 0, telemetry.AggregateLast
		case aggregate == "":
			aggregate = telemetry.AggregateMean
		}
		spec, on := cfg.Spec(deadband, aggregate, interval)
		if !on {
			continue
		}
		if d.MQTT.Time != nil && pt.Topic != "" && (spec.Window > 0 || spec.AtMost > 0) {
			c.fault("the device gives its own time, so its readings may come late and out of order", "take a deadband only", path...)
			continue
		}
		for _, o := range spec.Outputs[min(1, len(spec.Outputs)):] {
			id := furtherPoint(pt.ID, o.Aggregate)
			if len(id) > telemetry.MaxNameLen || slices.ContainsFunc(d.Points, func(p profile.Point) bool { return p.ID == id }) {
				c.fault("the point "+id+" that this would make is there already, or has too long a name", "leave that aggregate away", append(path, "aggregate")...)
			}
		}
		specs[pt.ID] = spec
	}
	return specs
}

// furtherPoints counts the series that filters add.
func furtherPoints(specs map[string]filter.Spec) (n int) {
	for _, s := range specs {
		n += max(0, len(s.Outputs)-1)
	}
	return n
}

// furtherPoint is the id of the point that a further aggregate becomes.
func furtherPoint(point string, a telemetry.Aggregation) string { return point + "_" + string(a) }

// describeFiltered says in the series what the hub must know of its filter.
func describeFiltered(s *telemetry.Series, spec *filter.Spec) {
	s.Interval = max(s.Interval, spec.Window, spec.AtMost)
	s.Silence = spec.Silence
}

// addFilters makes the filters of a device whose series begin at first, and
// appends the series of further aggregates to the schema.
func (l *layout) addFilters(d *driver.Device, first uint32, specs map[string]filter.Spec) {
	schema := l.schema
	for j := range d.Points {
		spec, ok := specs[d.Points[j].ID]
		if !ok {
			continue
		}
		s := first + uint32(j)
		describeFiltered(&schema.Series[s], &spec)
		spec.Outputs = slices.Clone(spec.Outputs)
		for k := range spec.Outputs {
			spec.Outputs[k].Series = s
			if k > 0 {
				further := schema.Series[s]
				further.Point = furtherPoint(further.Point, spec.Outputs[k].Aggregate)
				spec.Outputs[k].Series = uint32(len(schema.Series))
				schema.Series = append(schema.Series, further)
			}
		}
		if l.filters == nil {
			l.filters = make(map[uint32]*filter.Filter)
		}
		l.filters[s] = filter.New(spec)
		l.filtered = append(l.filtered, s)
	}
}

// pass takes a reading that is on time through the filter of its series.
func (c *collector) pass(f *filter.Filter, r telemetry.Reading, lag int64) {
	c.thinned = f.Put(r, c.watermark-lag+1, c.thinned[:0])
	c.keep(lag)
}

// keep puts what a filter gave into the frame to be.
func (c *collector) keep(lag int64) {
	for _, r := range c.thinned {
		c.last[r.Series] = max(c.last[r.Series], r.Time)
		c.place(r, lag)
	}
}

// tick gives the filters the time: windows end that nothing comes for.
func (c *collector) tick(now int64) {
	for _, s := range c.filtered {
		c.thinned = c.filters[s].Tick(now, c.watermark+1, c.thinned[:0])
		c.keep(0)
	}
}

// close ends the open windows. Call it before the last cut.
func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}

// flush is close for those who hold the lock.
func (c *collector) flush() {
	now := c.stamp()
	for _, s := range c.filtered {
		c.thinned = c.filters[s].Flush(now, c.watermark+1, c.thinned[:0])
		c.keep(0)
	}
}

// forget lets the filters begin anew.
func (c *collector) forget() {
	for _, s := range c.filtered {
		c.filters[s].Forget()
	}
}

// thinnedOut returns how many readings the filters dropped.
func (c *collector) thinnedOut() (sum filter.Dropped) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.filters {
		d := f.Dropped()
		sum.Deadband += d.Deadband
		sum.Window += d.Window
		sum.Rate += d.Rate
	}
	return sum
}
