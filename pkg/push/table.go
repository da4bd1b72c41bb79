package push

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// table knows the series of a source: what senders call them, and their number in
// the schema. A number once given stays, unless its series has been silent for long
// and a new one needs the room. Safe for concurrent use.
type table struct {
	cfg *Config

	mu       sync.Mutex
	devices  []telemetry.Device
	device   map[string]uint32
	series   []entry
	named    map[seriesName]uint32
	keys     map[string]*known // by what the sender calls them
	free     []uint32
	changed  bool  // the schema is not that of the newest frame
	good     int   // how many series the newest schema had that could be encoded
	limit    int   // of series; below cfg.MaxSeries when the schema had no room
	looked   int64 // when the idle were looked for last
	overflow map[string]uint64
	refused  uint64
}

type seriesName struct{ device, point string }

type entry struct {
	telemetry.Series
	keys  []string // of known, that lead here
	heard int64
	scale float64
	add   float64
}

// known is what a sender's name leads to.
type known struct {
	index uint32
	drop  bool
}

func newTable(cfg *Config) *table {
	return &table{
		cfg: cfg, device: map[string]uint32{}, named: map[seriesName]uint32{}, keys: map[string]*known{},
		limit: cfg.MaxSeries, overflow: map[string]uint64{},
	}
}

// maxDropped bounds how many names of unwanted rows are remembered.
const maxDropped = 100_000

// restore takes over the schema of the newest frame of the run before: numbers go
// on, and senders' names find their series by device and point.
func (t *table) restore(s *telemetry.Schema, now int64) {
	t.devices = slices.Clone(s.Devices)
	for i, d := range t.devices {
		t.device[d.ID] = uint32(i)
	}
	for i := range s.Series {
		d := s.Series[i]
		if lag := t.cfg.Lag.Milliseconds(); d.MaxLag != lag {
			d.MaxLag, t.changed = lag, true
		}
		t.series = append(t.series, entry{Series: d, heard: now, scale: 1})
		t.named[seriesName{t.devices[d.Device].ID, d.Point}] = uint32(i)
	}
	t.good = len(t.series)
}

// lookup returns the number of the series that the sender calls key, and what its
// value becomes: times scale, plus add. The error says why there is none. Metric is
// asked for when the key is not known, and returns tags sorted by name.
func (t *table) lookup(key []byte, kind telemetry.Kind, now int64, metric func() (string, []telemetry.Label)) (index uint32, scale, add float64, drop bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.keys[string(key)]; k != nil {
		if k.drop {
			return 0, 0, 0, true, nil
		}
		e := &t.series[k.index]
		if e.Kind != kind {
			return 0, 0, 0, false, kindError(e.Kind)
		}
		e.heard = now
		return k.index, e.scale, e.add, false, nil
	}
	name, tags := metric()
	id, err := t.cfg.identify(name, tags)
	if err != nil {
		t.refused++
		return 0, 0, 0, false, err
	}
	if id.drop {
		if len(t.keys) < t.limit+maxDropped {
			t.keys[string(key)] = &known{drop: true}
		}
		return 0, 0, 0, true, nil
	}
	if index, err = t.add(&id, kind, now); err != nil {
		t.refused++
		return 0, 0, 0, false, err
	}
	e := &t.series[index]
	e.heard, e.scale, e.add = now, id.scale, id.offset
	k := string(key)
	t.keys[k] = &known{index: index}
	e.keys = append(e.keys, k)
	return index, e.scale, e.add, false, nil
}

func kindError(have telemetry.Kind) error {
	if have == telemetry.KindText {
		return fmt.Errorf("this series is of texts, and the value is a number")
	}
	return fmt.Errorf("this series is of numbers, and the value is a text")
}

// add finds or makes a series. The lock is held.
func (t *table) add(id *identity, kind telemetry.Kind, now int64) (uint32, error) {
	labels := id.labels
	if id.site != "" {
		labels = append(slices.Clone(labels), telemetry.Label{Name: telemetry.LabelAtSite, Value: id.site})
		slices.SortFunc(labels, func(a, b telemetry.Label) int { return cmp.Compare(a.Name, b.Name) })
		if len(labels) > telemetry.MaxLabels {
			return 0, fmt.Errorf("%d labels, at most %d", len(labels), telemetry.MaxLabels)
		}
	}
	for _, s := range []string{id.device, id.point, id.quantity} {
		if !utf8.ValidString(s) {
			return 0, fmt.Errorf("%.40q is not UTF-8", s)
		}
	}
	for _, l := range labels {
		if !utf8.ValidString(l.Value) {
			return 0, fmt.Errorf("the value of label %s is not UTF-8", l.Name)
		}
	}
	name := seriesName{id.device, id.point}
	if i, ok := t.named[name]; ok {
		s := &t.series[i]
		if s.Kind != kind {
			return 0, kindError(s.Kind)
		}
		if s.Quantity == id.quantity && slices.Equal(s.Labels, labels) {
			return i, nil
		}
		if len(s.keys) > 0 {
			return 0, fmt.Errorf("device %s has another series at point %s, with other labels: let the mapping's point name the tag that tells them apart", id.device, id.point)
		}
		// Of an earlier mapping: the series goes on under what it is called now.
		s.Quantity, s.Unit, s.Labels, t.changed = id.quantity, id.unit, labels, true
		return i, nil
	}
	d, ok := t.device[id.device]
	if !ok {
		if len(t.devices) >= telemetry.MaxDevices {
			return 0, fmt.Errorf("source %s has its limit of %d devices; let the mapping's device name a tag with fewer values", t.cfg.ID, telemetry.MaxDevices)
		}
		d = uint32(len(t.devices))
	}
	i, ok := t.room(now)
	if !ok {
		return 0, t.full(id)
	}
	if int(d) == len(t.devices) {
		t.devices = append(t.devices, telemetry.Device{ID: id.device, Connection: "http"})
		t.device[id.device] = d
	}
	t.series[i] = entry{Series: telemetry.Series{
		Device: d, Point: id.point, Quantity: id.quantity, Unit: id.unit, Kind: kind, Labels: labels, MaxLag: t.cfg.Lag.Milliseconds(),
	}}
	t.named[name] = i
	t.changed = true
	return i, nil
}

// room returns a number for a new series. The lock is held.
func (t *table) room(now int64) (uint32, bool) {
	if len(t.free) == 0 && len(t.series) >= t.limit && now-t.looked > 60_000 {
		t.looked = now
		for i := range t.series {
			if now-t.series[i].heard > t.cfg.Idle.Milliseconds() {
				t.free = append(t.free, uint32(i))
			}
		}
	}
	for len(t.free) > 0 {
		i := t.free[len(t.free)-1]
		t.free = t.free[:len(t.free)-1]
		e := &t.series[i]
		if now-e.heard <= t.cfg.Idle.Milliseconds() {
			continue // it has spoken since
		}
		delete(t.named, seriesName{t.devices[e.Device].ID, e.Point})
		for _, k := range e.keys {
			delete(t.keys, k)
		}
		return i, true
	}
	if len(t.series) >= t.limit {
		return 0, false
	}
	t.series = append(t.series, entry{})
	return uint32(len(t.series) - 1), true
}

// maxOverflow bounds the metrics that refusals are counted by.
const maxOverflow = 1000

// full says that there are too many series, and which label makes them so many.
func (t *table) full(id *identity) error {
	if _, ok := t.overflow[id.quantity]; ok || len(t.overflow) < maxOverflow {
		t.overflow[id.quantity]++
	}
	label, values := t.widest(id)
	if label == "" {
		return fmt.Errorf("source %s has its limit of %d series (max_series)", t.cfg.ID, t.limit)
	}
	return fmt.Errorf("source %s has its limit of %d series (max_series); of %s the label %s has the most different values, %d", t.cfg.ID, t.limit, id.quantity, label, values)
}

// widest returns the label of a quantity with the most different values, the
// refused series counted in.
func (t *table) widest(id *identity) (label string, values int) {
	seen := map[string]map[string]struct{}{}
	note := func(name, value string) {
		if seen[name] == nil {
			seen[name] = map[string]struct{}{}
		}
		seen[name][value] = struct{}{}
	}
	const most = 2000 // series looked at: this runs for a refusal, under the lock
	looked := 0
	for i := range t.series {
		e := &t.series[i]
		if e.Quantity != id.quantity {
			continue
		}
		if looked++; looked > most {
			break
		}
		note(telemetry.LabelDevice, t.devices[e.Device].ID)
		for _, l := range e.Labels {
			note(l.Name, l.Value)
		}
	}
	if looked == 0 {
		return "", 0
	}
	note(telemetry.LabelDevice, id.device)
	for _, l := range id.labels {
		note(l.Name, l.Value)
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if n := len(seen[name]); n > values {
			label, values = name, n
		}
	}
	return label, values
}

// schema returns the encoded schema when it has changed, and how many series there
// are. A schema must fit into a message: series that there is no room for are
// forgotten, and the limit is what fits from then on, so that their numbers are
// never given again.
func (t *table) schema() (read *telemetry.Schema, raw []byte, hash wire.Hash, n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.changed {
		return nil, nil, hash, len(t.series), nil
	}
	for {
		s := &telemetry.Schema{Devices: slices.Clone(t.devices), Series: make([]telemetry.Series, len(t.series))}
		for i := range t.series {
			s.Series[i] = t.series[i].Series
		}
		raw, hash, err = wire.EncodeSchema(nil, s)
		if err == nil {
			t.changed, t.good = false, len(t.series)
			return s, raw, hash, len(t.series), nil
		}
		if len(t.series) <= t.good {
			return nil, nil, hash, 0, err
		}
		t.limit = t.good
		t.truncate(t.good)
	}
}

// truncate forgets the series from a number on. The lock is held.
func (t *table) truncate(n int) {
	for i := n; i < len(t.series); i++ {
		e := &t.series[i]
		delete(t.named, seriesName{t.devices[e.Device].ID, e.Point})
		for _, k := range e.keys {
			delete(t.keys, k)
		}
	}
	t.series = t.series[:n]
	t.free = slices.DeleteFunc(t.free, func(i uint32) bool { return int(i) >= n })
}

// Overflow is a metric of which series were refused for want of room.
type Overflow struct {
	Metric string
	Rows   uint64
}

func (t *table) stats() (devices, series, limit int, refused uint64, overflow []Overflow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for m, n := range t.overflow {
		overflow = append(overflow, Overflow{m, n})
	}
	slices.SortFunc(overflow, func(a, b Overflow) int {
		return cmp.Or(-cmp.Compare(a.Rows, b.Rows), cmp.Compare(a.Metric, b.Metric))
	})
	return len(t.devices), len(t.series), t.limit, t.refused, overflow[:min(len(overflow), 10)]
}

// shorten keeps the beginning of a name and a hash of all of it.
func shorten(s string) string {
	h := sha256.Sum256([]byte(s))
	return strings.ToValidUTF8(s[:telemetry.MaxNameLen-14], "") + " #" + hex.EncodeToString(h[:6])
}
