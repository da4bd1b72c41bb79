package ingest

import (
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

// schema is one that an edge has sent, verified by its hash.
type schema struct {
	hash wire.Hash
	raw  []byte // as it travels and as the ledger keeps it
	*telemetry.Schema
}

// series is what a worker keeps of one series under the schema in force.
type series struct {
	labels         []telemetry.Label // of the on-time samples, sorted, with __name__
	ref            uint64            // of the store, for each of the four streams
	lateRef        uint64
	qualityRef     uint64
	lateQualityRef uint64
	lag            int64
	text           bool
}

// binding joins a schema with the store's references and the edge's identity.
type binding struct {
	*schema
	site   string
	series []series
	bound  []telemetry.BoundSeries
}

func bind(s *schema, site, edge string) *binding {
	b := &binding{
		schema: s, site: site,
		series: make([]series, len(s.Series)), bound: make([]telemetry.BoundSeries, len(s.Series)),
	}
	for i := range s.Series {
		d := &s.Series[i]
		device := s.Devices[d.Device].ID
		ls := make([]telemetry.Label, 0, 5+len(d.Labels))
		ls = append(ls,
			telemetry.Label{Name: labelName, Value: d.Quantity},
			telemetry.Label{Name: telemetry.LabelSite, Value: site},
			telemetry.Label{Name: telemetry.LabelEdge, Value: edge},
			telemetry.Label{Name: telemetry.LabelDevice, Value: device},
			telemetry.Label{Name: telemetry.LabelPoint, Value: d.Point})
		for _, l := range d.Labels {
			if !reserved(l.Name) {
				ls = append(ls, l)
			}
		}
		b.series[i] = series{labels: sorted(ls), lag: d.MaxLag, text: d.Kind == telemetry.KindText}
		b.bound[i] = telemetry.BoundSeries{
			Site: site, Edge: edge, Device: device, Point: d.Point, Quantity: d.Quantity, Unit: d.Unit,
			Labels: d.Labels, Interval: d.Interval, Silence: d.Silence, MaxLag: d.MaxLag,
		}
	}
	return b
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

// with returns the labels and one more in the scratch slice, sorted.
func with(scratch, labels []telemetry.Label, name, value string) []telemetry.Label {
	i, _ := slices.BinarySearchFunc(labels, name, func(l telemetry.Label, n string) int { return strings.Compare(l.Name, n) })
	scratch = append(scratch[:0], labels[:i]...)
	scratch = append(scratch, telemetry.Label{Name: name, Value: value})
	return append(scratch, labels[i:]...)
}

// ofQuality turns the labels of a series, in a scratch slice, into those of its
// reading_quality. The name sorts first unless a label is upper case; it is found.
func ofQuality(scratch, labels []telemetry.Label, quantity string) []telemetry.Label {
	out := with(scratch, labels, labelQuantity, quantity)
	for i := range out {
		if out[i].Name == labelName {
			out[i].Value = telemetry.QuantityReadingQuality
		}
	}
	return out
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
