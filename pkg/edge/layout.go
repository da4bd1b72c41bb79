package edge

import (
	"maps"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/filter"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// layout is what the collector knows of each series and each device. A reload
// makes another one and carries over what the two have in common.
type layout struct {
	schema   *telemetry.Schema // what the devices are, as far as they told it
	revised  bool              // schema is new
	series   []telemetry.Series
	first    map[*driver.Device]uint32 // index of the first series of the device
	last     []int64                   // newest time given to each series
	up       map[*driver.Device]*deviceState
	filters  map[uint32]*filter.Filter // by series; nil when there are none
	filtered []uint32                  // the series that have a filter, in order
}

type deviceState struct {
	known    bool
	up       bool
	reason   telemetry.Reason
	detail   string
	since    int64
	reported int64
}

// newLayout gives every point of the plan's devices a series.
func newLayout(plan *Plan) layout {
	connections := map[*driver.Device]string{}
	for _, c := range plan.Connections {
		for _, d := range c.Devices {
			connections[d] = c.ID
		}
	}
	l := layout{schema: &telemetry.Schema{}, first: make(map[*driver.Device]uint32), up: make(map[*driver.Device]*deviceState)}
	for i, d := range plan.Devices {
		l.schema.Devices = append(l.schema.Devices, describe(d, connections[d]))
		l.first[d] = uint32(len(l.schema.Series))
		l.up[d] = &deviceState{}
		for j := range d.Points {
			p := &d.Points[j]
			s := telemetry.Series{
				Device: uint32(i), Point: p.ID, Quantity: p.Quantity, Unit: plan.Quantities[p.Quantity].Unit,
				Labels: d.Labels, Interval: seriesInterval(d, p).Milliseconds(),
			}
			if p.IsText() {
				s.Kind = telemetry.KindText
			}
			if p.Topic != "" && d.MQTT.Time != nil {
				s.MaxLag = d.MQTT.Time.MaxLag.Milliseconds()
			}
			l.schema.Series = append(l.schema.Series, s)
		}
		l.schema.Series = append(l.schema.Series, telemetry.Series{
			Device: uint32(i), Point: telemetry.QuantityDeviceUp, Quantity: telemetry.QuantityDeviceUp,
			Labels: d.Labels, Interval: d.Interval.Milliseconds(), Silence: upSilence(d),
		})
		l.addFilters(d, l.first[d], plan.Filters[d])
	}
	l.series = l.schema.Series
	l.last = make([]int64, len(l.series))
	return l
}

// seriesInterval is the time between the readings of a point that the
// configuration asks for. One that is worth reading less often than its device
// has a multiple of the device's interval; one that comes when the device likes
// has none but its profile's.
func seriesInterval(d *driver.Device, p *profile.Point) time.Duration {
	if p.Topic != "" {
		return p.Interval
	}
	return d.Interval * max(1, p.Interval/max(d.Interval, 1))
}

// upEvery is how often it is said that a device still answers, or still does not. It
// would be a sixth of all readings of a small gateway if it were said with each reading.
const upEvery = 30 * time.Second

// upSilence is for how long device_up may stay silent while nothing changes, in
// milliseconds.
func upSilence(d *driver.Device) int64 { return max(d.Interval, upEvery).Milliseconds() }

// of returns the indexes of a device's series: from, and up to but without to.
func (l *layout) of(d *driver.Device) (from, to uint32) {
	from = l.first[d]
	for to = from; to < uint32(len(l.series)) && l.series[to].Device == l.series[from].Device; {
		to++
	}
	return from, to
}

// relay changes over to another layout. Whatever was taken in by the old one goes
// into f, for which it returns whether there is something to say; only readings of
// devices that stay and whose watermark lags are carried over. old tells for each
// series of the new layout which one it was, or -1.
//
// The devices that stay are those whose very pointers are in both.
func (c *collector) relay(next layout, f *wire.Frame) (cut bool, old []int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	cut = c.take(f, 0)
	old = make([]int32, len(next.series))
	for i := range old {
		old[i] = -1
	}
	moved := make(map[uint32]uint32, len(c.series))
	for d := range maps.Keys(next.first) {
		if _, stays := c.first[d]; !stays {
			continue
		}
		from, to := c.layout.of(d)
		base := next.first[d]
		for k := range to - from {
			next.last[base+k] = c.last[from+k]
			old[base+k] = int32(from + k)
			moved[from+k] = base + k
		}
		next.up[d] = c.up[d]
		next.schema.Devices[next.series[base].Device].Revision = c.schema.Devices[c.series[from].Device].Revision
	}
	held := c.held[:0]
	for _, r := range c.held {
		if to, ok := moved[r.Series]; ok {
			r.Series = to
			held = append(held, r)
		} else { // its device is gone: ahead of its watermark, so it comes late, but it comes
			f.Readings = append(f.Readings, r.Reading)
		}
	}
	clear(c.held[len(held):])
	sortReadings(f.Readings)
	c.held = held
	c.cutTicket = c.ticket
	for i := range c.held {
		c.cutTicket = min(c.cutTicket, c.held[i].ticket-1)
	}
	c.layout = next
	c.urgency.relay(&c.layout, old)
	return cut, old
}
