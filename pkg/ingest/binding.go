package ingest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

const (
	labelName     = "__name__"
	labelQuantity = "quantity" // on reading_quality: what the quality is of
	lateValue     = "1"
)

// schema is one that an edge has sent, verified by its hash. It is kept as it came:
// read, it is ten times as large, and a binding has all of it that is needed.
type schema struct {
	hash   wire.Hash
	raw    []byte            // as it travels and as the ledger keeps it
	series int               // how many
	read   *telemetry.Schema // until it is bound
}

// stream is one of the series that the store keeps of a series of the edge.
type stream uint8

// A late stream and one of the quality are made by adding the two.
const (
	streamValue   stream = 0
	streamLate    stream = 1
	streamQuality stream = 2
	streams       stream = 4
)

// series is what a worker keeps of one series under the schema in force.
type series struct {
	refs    [streams]uint64 // of the store, 0 when not known
	lag     int64
	device  uint32
	text    bool
	refused bool // there was no room for it
}

func (s *series) kind() telemetry.Kind {
	if s.text {
		return telemetry.KindText
	}
	return telemetry.KindNumber
}

// binding joins a schema with the store's references and the edge's identity.
type binding struct {
	*schema
	site, edge string
	devices    []telemetry.Device
	series     []series
	bound      []telemetry.BoundSeries
	taken      int // series that are not refused
}

// bind binds a schema; the error can only be that of memory gone bad. Series of a
// source inside the hub may be at a site of their own.
func bind(s *schema, site, edge string, pushed bool) (*binding, error) {
	read := s.read
	if s.read = nil; read == nil {
		var err error
		if read, _, err = wire.DecodeSchema(s.raw); err != nil {
			return nil, fmt.Errorf("ingest: schema of edge %s: %w", edge, err)
		}
	}
	b := &binding{
		schema: s, site: site, edge: edge, devices: read.Devices,
		series: make([]series, s.series), bound: make([]telemetry.BoundSeries, s.series),
	}
	for i := range read.Series {
		d := &read.Series[i]
		b.series[i] = series{lag: d.MaxLag, device: d.Device, text: d.Kind == telemetry.KindText}
		b.bound[i] = telemetry.BoundSeries{
			Site: site, Edge: edge, Device: read.Devices[d.Device].ID, Point: d.Point, Quantity: d.Quantity, Unit: d.Unit,
			Labels: d.Labels, Interval: d.Interval, Silence: d.Silence, MaxLag: d.MaxLag,
		}
		if at := d.Labels.Get(telemetry.LabelAtSite); pushed && at != "" {
			b.bound[i].Site = at
			b.bound[i].Labels = slices.DeleteFunc(slices.Clone(d.Labels), func(l telemetry.Label) bool { return l.Name == telemetry.LabelAtSite })
		}
	}
	return b, nil
}

// labels writes the sorted labels of a stream to dst. The store wants them once for
// each: they are not kept.
func (b *binding) labels(dst []telemetry.Label, i uint32, st stream) []telemetry.Label {
	d := &b.bound[i]
	dst = append(dst[:0],
		telemetry.Label{Name: labelName, Value: d.Quantity},
		telemetry.Label{Name: telemetry.LabelSite, Value: d.Site},
		telemetry.Label{Name: telemetry.LabelEdge, Value: b.edge},
		telemetry.Label{Name: telemetry.LabelDevice, Value: d.Device},
		telemetry.Label{Name: telemetry.LabelPoint, Value: d.Point})
	if st&streamLate != 0 {
		dst = append(dst, telemetry.Label{Name: telemetry.LabelLate, Value: lateValue})
	}
	if st&streamQuality != 0 {
		dst[0].Value = telemetry.QuantityReadingQuality
		dst = append(dst, telemetry.Label{Name: labelQuantity, Value: d.Quantity})
	}
	for _, l := range d.Labels {
		if !reserved(l.Name) {
			dst = append(dst, l)
		}
	}
	return sorted(dst)
}

// reserved labels are the hub's; schemas with them are refused by the decoder
// already, this holds should a new one be added there later than here.
func reserved(name string) bool {
	switch name {
	case labelName, telemetry.LabelSite, telemetry.LabelEdge, telemetry.LabelDevice, telemetry.LabelPoint,
		telemetry.LabelLate, labelQuantity:
		return true
	}
	return false
}

func sorted(ls []telemetry.Label) []telemetry.Label {
	slices.SortFunc(ls, func(a, b telemetry.Label) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(ls, func(a, b telemetry.Label) bool { return a.Name == b.Name })
}

// seriesKey is what stays of a series when the schema changes.
type seriesKey struct{ device, point string }

func (b *binding) keys() map[seriesKey]int {
	m := make(map[seriesKey]int, len(b.bound))
	for i := range b.bound {
		m[seriesKey{b.bound[i].Device, b.bound[i].Point}] = i
	}
	return m
}

// carry moves what is kept per series from an old binding to a new one: move is
// called with the old and the new number of every series that both have.
func carry(old, to *binding, move func(from, to int)) {
	if old == nil {
		return
	}
	was := old.keys()
	for i := range to.bound {
		if j, ok := was[seriesKey{to.bound[i].Device, to.bound[i].Point}]; ok {
			move(j, i)
		}
	}
}
