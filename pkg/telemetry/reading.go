package telemetry

import (
	"math"
	"slices"
	"strings"
)

// Reading is one value of one point at one time. Series is its index in the
// [Schema] that the reading is held with. Time is log time in milliseconds.
// Value holds numbers and booleans (0, 1); Text holds the value of a series of
// kind [KindText], whose Value is 0.
type Reading struct {
	Series  uint32
	Quality Quality
	Time    int64
	Value   float64
	Text    string
}

// Check returns the quality that a reading of value v may have at best:
// q itself, or bad when v is not a finite number.
func Check(v float64, q Quality) Quality {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		if q.IsBad() {
			return q
		}
		return BadQuality(ReasonNonFinite)
	}
	return q
}

// Kind tells numbers from text.
type Kind uint8

// The kinds of a series. The numbers are part of the wire format.
const (
	KindNumber Kind = 0
	KindText   Kind = 1
)

// Label is a name and a value, as in Prometheus.
type Label struct{ Name, Value string }

// Labels are sorted by name, names unique.
type Labels []Label

// NewLabels returns the map as sorted labels.
func NewLabels(m map[string]string) Labels {
	ls := make(Labels, 0, len(m))
	for n, v := range m {
		ls = append(ls, Label{n, v})
	}
	slices.SortFunc(ls, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return ls
}

// Get returns the value of the label, or "".
func (ls Labels) Get(name string) string {
	for _, l := range ls {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// Map returns the labels as a new map.
func (ls Labels) Map() map[string]string {
	m := make(map[string]string, len(ls))
	for _, l := range ls {
		m[l.Name] = l.Value
	}
	return m
}

// Series describes one series of an edge: which device and point, what it
// measures, and what the hub must know to judge its silence. Durations are in
// milliseconds.
type Series struct {
	Device   uint32 // index in Schema.Devices
	Point    string
	Quantity string // metric name at the hub
	Unit     string // canonical unit (UCUM); empty for a pure number
	Kind     Kind
	Labels   Labels // what the YAML adds on top of site, edge, device and point
	// Interval is the time between readings that the configuration asks for; 0 when unknown.
	Interval int64
	// Silence is the longest time for which an unchanged value may go unreported
	// (report by exception); 0 when every reading is reported.
	Silence int64
	// MaxLag is how far behind arrival the device's own time may be; 0 when the
	// edge stamps the readings. The series' on-time interval lags by as much.
	MaxLag int64
}

// Device describes one device of an edge, for people: nothing here decides how
// a reading is stored or judged.
type Device struct {
	ID         string
	Profile    string // "renke/cwt-uwd", empty when points are given inline
	Revision   string // of the profile, empty when it has one only
	Connection string
	Address    string // as a technician writes it: "unit 3", "gate"
	// Hardware is what the device has been, oldest first, as far as somebody noted
	// it; the last one is what stands there now. At most [MaxHardware].
	Hardware []Hardware
}

// Hardware is one piece of hardware under a device's id, which outlives it.
type Hardware struct {
	Serial string
	Note   string
	Since  int64 // log time in milliseconds; 0: not known
}

// Schema is the table that the readings of a frame point into. It travels once
// and is named by the hash of its encoding (see package wire). A series is
// identified by its device's id and its point; both unique together.
type Schema struct {
	Devices []Device
	Series  []Series
}

// Limits of a schema, enforced by every decoder and by the edge's check.
const (
	MaxDevices  = 10_000
	MaxSeries   = 100_000
	MaxHardware = 16  // kept of a device
	MaxLabels   = 16  // labels that the YAML may add to a series
	MaxNameLen  = 128 // of an id, a point, a quantity, a label name
	MaxValueLen = 256 // of a label value
	MaxTextLen  = 1024
)

// The labels that the hub gives every series, and that the YAML must not use.
const (
	LabelSite   = "site"
	LabelEdge   = "edge"
	LabelDevice = "device"
	LabelPoint  = "point"
	LabelLate   = "late" // "1" on readings that came after their watermark
	// LabelAtSite is, in the schema of a source inside the hub, the site of a series
	// that is not at the source's. The hub makes it the series' site; it is no label
	// of what is stored.
	LabelAtSite = "at_site"
)

// QuantityDeviceUp is the quantity, and the point, of the series that every
// device has: 1 while it answers, 0 when not. The reason is in the quality of
// the reading, whose status stays good.
const QuantityDeviceUp = "device_up"

// QuantityReadingQuality is the series that the hub writes when the quality of
// another series changes: its value is the quality byte.
const QuantityReadingQuality = "reading_quality"
