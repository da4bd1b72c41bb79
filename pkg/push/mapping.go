package push

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Config of a source. Times are durations; the zero value of what has a default
// stands for it.
type Config struct {
	ID    string // of the edge that the source is counted as
	Site  string
	Token string // what senders show; empty: whoever is on the hub's machine

	Lag       time.Duration // how late a reading may come and still be judged; 10 s
	MaxAhead  time.Duration // of the hub's clock, that a row may be; 10 min
	MaxAge    time.Duration // older rows are refused; 30 days
	MaxSeries int           // 10,000
	MaxRows   int           // of one request; 500,000
	MaxLabels int           // of a series, beside site, edge, device and point; 16
	MaxValue  int           // bytes of a label's value; 256
	MaxBytes  int           // of the names and values of a series' labels together; 1024
	Idle      time.Duration // after which a silent series makes room for a new one; 24 h
	Heartbeat time.Duration // how often the watermark moves without rows; 10 s

	Device string    // template of the device's id, see Mapping.Device
	Map    []Mapping // the first that matches holds

	// Units of the quantities of the catalogue; a mapped series has its unit.
	Quantities telemetry.Quantities
}

// Mapping says what a metric of a sender is. A line's metric is MEASUREMENT_FIELD,
// or MEASUREMENT alone when the field is called value; that of remote write is its
// __name__.
type Mapping struct {
	Metric   string            // with * and ?
	Where    map[string]string // tags or labels and their values, with * and ?
	Quantity string            // empty: the metric's own name
	Device   string            // template: text with {tag} in it; empty: the source's
	Site     string            // template; empty: the source's
	Point    string            // template; empty: the metric's name and its labels
	Scale    float64           // readings are multiplied by it; 0 is 1
	Offset   float64           // and then this is added
	Drop     bool              // rows are not wanted: taken and thrown away
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c *Config) fill() {
	setDefault(&c.Lag, 10*time.Second)
	setDefault(&c.MaxAhead, 10*time.Minute)
	setDefault(&c.MaxAge, 30*24*time.Hour)
	setDefault(&c.MaxSeries, 10_000)
	setDefault(&c.MaxRows, 500_000)
	setDefault(&c.MaxLabels, telemetry.MaxLabels)
	setDefault(&c.MaxValue, telemetry.MaxValueLen)
	setDefault(&c.MaxBytes, 1024)
	setDefault(&c.Idle, 24*time.Hour)
	setDefault(&c.Heartbeat, 10*time.Second)
	for i := range c.Map {
		setDefault(&c.Map[i].Scale, 1)
	}
	c.MaxSeries = min(c.MaxSeries, telemetry.MaxSeries)
	c.MaxLabels = min(c.MaxLabels, telemetry.MaxLabels)
	c.MaxValue = min(c.MaxValue, telemetry.MaxValueLen)
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// Check says what is wrong with the mapping, with a hint.
func (m *Mapping) Check(q telemetry.Quantities) (field, msg, hint string) {
	if m.Metric == "" {
		return "metric", "must be set", `the metric's name, with * and ?, for example "bme280_*"`
	}
	if _, err := path.Match(m.Metric, ""); err != nil {
		return "metric", fmt.Sprintf("%q is not a pattern", m.Metric), "* stands for any text, ? for one character"
	}
	for k, v := range m.Where {
		if _, err := path.Match(v, ""); err != nil {
			return "where", fmt.Sprintf("%s: %q is not a pattern", k, v), "* stands for any text, ? for one character"
		}
	}
	if _, ok := q[m.Quantity]; m.Quantity != "" && !ok {
		return "quantity", fmt.Sprintf("unknown quantity %.60q", m.Quantity), "langbiang-edge profiles quantities lists them; without quantity the metric keeps its name"
	}
	for _, t := range []struct{ name, text string }{{"device", m.Device}, {"site", m.Site}, {"point", m.Point}} {
		if err := CheckTemplate(t.text); err != nil {
			return t.name, err.Error(), "write for example {host} or {room}-{sensor}"
		}
	}
	return "", "", ""
}

// CheckTemplate says what is wrong with a template.
func CheckTemplate(t string) error {
	rest := placeholder.ReplaceAllString(t, "")
	if strings.ContainsAny(rest, "{}") || strings.Contains(t, "{}") {
		return fmt.Errorf("%q is not a template", t)
	}
	return nil
}

// expand fills in the template; false when a tag that it names is not there.
func expand(t string, tags []telemetry.Label) (string, bool) {
	ok := true
	out := placeholder.ReplaceAllStringFunc(t, func(p string) string {
		i := slices.IndexFunc(tags, func(l telemetry.Label) bool { return l.Name == p[1:len(p)-1] })
		if i < 0 {
			ok = false
			return ""
		}
		return tags[i].Value
	})
	return out, ok
}

// whole is the tag that the template is all of, "" when it is not.
func whole(t string) string {
	if m := placeholder.FindStringSubmatch(t); m != nil && m[0] == t {
		return m[1]
	}
	return ""
}

func match(pattern, s string) bool {
	// A name with a slash is one name.
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(s, "/", "\x00"))
	return err == nil && ok
}

// mappingOf returns the mapping of a metric; a zero one when none matches.
func (c *Config) mappingOf(metric string, tags []telemetry.Label) Mapping {
next:
	for _, m := range c.Map {
		if !match(m.Metric, metric) {
			continue
		}
		for name, pattern := range m.Where {
			if !match(pattern, telemetry.Labels(tags).Get(name)) {
				continue next
			}
		}
		return m
	}
	return Mapping{Scale: 1}
}

// identity is what a row's series is at the hub.
type identity struct {
	site, device, point, quantity, unit string
	labels                              telemetry.Labels
	scale, offset                       float64
	drop                                bool
}

// identify maps a metric with its tags, sorted by name. The error is for the sender.
func (c *Config) identify(metric string, tags []telemetry.Label) (id identity, err error) {
	m := c.mappingOf(metric, tags)
	if m.Drop {
		return identity{drop: true}, nil
	}
	if metric == "" {
		return id, errors.New("it has no name")
	}
	id = identity{scale: m.Scale, offset: m.Offset, quantity: m.Quantity}
	if id.quantity == "" {
		id.quantity = metricName(metric)
	}
	if id.quantity == telemetry.QuantityReadingQuality || id.quantity == telemetry.QuantityDeviceUp {
		return id, fmt.Errorf("%s is a name of the hub's: give it a quantity or another name in the source's map", id.quantity)
	}
	if len(id.quantity) > telemetry.MaxNameLen {
		return id, fmt.Errorf("the metric's name has %d bytes, at most %d", len(id.quantity), telemetry.MaxNameLen)
	}
	id.unit = c.Quantities[id.quantity].Unit
	device := m.Device
	if device == "" {
		device = c.Device
	}
	used := []string{whole(device), whole(m.Site), whole(m.Point)}
	var ok bool
	if id.device, ok = expand(device, tags); !ok || id.device == "" {
		id.device = c.ID
	}
	if id.site, ok = expand(m.Site, tags); !ok || id.site == c.Site {
		id.site = ""
	}
	for _, t := range tags {
		if t.Value == "" || slices.Contains(used, t.Name) {
			continue
		}
		l := telemetry.Label{Name: labelName(t.Name), Value: t.Value}
		if len(l.Value) > c.MaxValue {
			return id, fmt.Errorf("label %s has a value of %d bytes, at most %d", t.Name, len(l.Value), c.MaxValue)
		}
		if len(l.Name) > telemetry.MaxNameLen {
			return id, fmt.Errorf("the name of label %.40q has %d bytes, at most %d", l.Name, len(l.Name), telemetry.MaxNameLen)
		}
		id.labels = append(id.labels, l)
	}
	slices.SortFunc(id.labels, func(a, b telemetry.Label) int { return strings.Compare(a.Name, b.Name) })
	id.labels = slices.CompactFunc(id.labels, func(a, b telemetry.Label) bool { return a.Name == b.Name })
	if len(id.labels) > c.MaxLabels {
		return id, fmt.Errorf("%d labels, at most %d; one of them is %.40q", len(id.labels), c.MaxLabels, id.labels[len(id.labels)-1].Name)
	}
	bytes, largest := 0, 0
	for i, l := range id.labels {
		bytes += len(l.Name) + len(l.Value)
		if len(l.Name)+len(l.Value) > len(id.labels[largest].Name)+len(id.labels[largest].Value) {
			largest = i
		}
	}
	if bytes > c.MaxBytes {
		return id, fmt.Errorf("the labels have %d bytes, at most %d; most of them has %s", bytes, c.MaxBytes, id.labels[largest].Name)
	}
	if id.point, ok = expand(m.Point, tags); !ok || id.point == "" {
		id.point = pointName(metricName(metric), id.labels)
	}
	if len(id.device) > telemetry.MaxNameLen || len(id.point) > telemetry.MaxNameLen {
		return id, fmt.Errorf("device or point is longer than %d bytes", telemetry.MaxNameLen)
	}
	return id, nil
}

// pointName names a series within its device: a device and a point are one series.
func pointName(metric string, labels telemetry.Labels) string {
	var b strings.Builder
	b.WriteString(metric)
	for _, l := range labels {
		b.WriteString(" " + l.Name + "=" + l.Value)
	}
	if s := b.String(); len(s) <= telemetry.MaxNameLen {
		return s
	}
	return shorten(b.String())
}

// metricName makes a name that PromQL can say.
func metricName(s string) string { return clean(s, true) }

// labelName does so for a label; those of the hub's get a prefix, as in Prometheus.
func labelName(s string) string {
	s = strings.TrimLeft(clean(s, false), "_")
	switch s {
	case "":
		return "label"
	case telemetry.LabelSite, telemetry.LabelEdge, telemetry.LabelDevice, telemetry.LabelPoint, telemetry.LabelLate, "quantity", telemetry.LabelAtSite:
		return "exported_" + s
	}
	if s[0] >= '0' && s[0] <= '9' {
		return "label_" + s
	}
	return s
}

func clean(s string, colon bool) string {
	ok := func(i int, c byte) bool {
		return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == ':' && colon || c >= '0' && c <= '9' && (i > 0 || !colon)
	}
	for i := range len(s) {
		if !ok(i, s[i]) {
			b := []byte(s)
			for j := range b {
				if !ok(j, b[j]) {
					b[j] = '_'
				}
			}
			return string(b)
		}
	}
	return s
}
