package wire

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// EncodeSchema appends the encoded schema to dst and returns it with its hash.
// It fails with ErrInvalid when the schema breaks a limit of package telemetry,
// and with ErrTooLarge when its message would exceed MaxFrame.
func EncodeSchema(dst []byte, s *telemetry.Schema) ([]byte, Hash, error) {
	plain, err := plainSchema(s)
	if err != nil {
		return dst, Hash{}, err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return dst, Hash{}, fmt.Errorf("wire: %w", err)
	}
	defer func() { _ = z.Close() }()
	start := len(dst)
	out := begin(dst, KindSchema)
	flags := byte(0)
	if hasHardware(s) {
		flags |= schemaHardware
	}
	out = append(out, flags)
	out = appendUvarint(out, uint64(len(plain)))
	out = z.EncodeAll(plain, out)
	if out, err = seal(out, start); err != nil {
		return dst, Hash{}, err
	}
	return out, hashOf(plain), nil
}

// SchemaHash returns the hash that EncodeSchema would.
func SchemaHash(s *telemetry.Schema) (Hash, error) {
	plain, err := plainSchema(s)
	if err != nil {
		return Hash{}, err
	}
	return hashOf(plain), nil
}

// DecodeSchema decodes a schema and computes its hash. Everything is checked:
// limits, UTF-8, that device ids and (device, point) are unique, that labels are
// sorted, unique and not reserved. Series with equal labels share the slice: do
// not change it. Errors: ErrCorrupt, ErrVersion.
func DecodeSchema(payload []byte) (*telemetry.Schema, Hash, error) {
	body, err := open(payload, KindSchema)
	if err != nil {
		return nil, Hash{}, err
	}
	r := reader{b: body, kind: KindSchema}
	flags := r.u8()
	if flags&^schemaHardware != 0 {
		r.unknown("flags", int(flags))
	}
	size := r.count(MaxSchema, "schema")
	if r.err != nil {
		return nil, Hash{}, r.err
	}
	z, err := newZstdDecoder(MaxSchema)
	if err != nil {
		return nil, Hash{}, fmt.Errorf("wire: %w", err)
	}
	defer z.Close()
	var plain []byte
	if plain = unzstd(&r, z, &plain, size); r.err != nil {
		return nil, Hash{}, r.err
	}
	in := schemaReader{reader: reader{b: plain, kind: KindSchema}}
	s := in.schema()
	if flags&schemaHardware != 0 {
		in.hardware(s)
	}
	if err := in.end(); err != nil {
		return nil, Hash{}, err
	}
	if err := checkSchema(s); err != nil {
		return nil, Hash{}, &CorruptError{Kind: KindSchema, What: err.Error()}
	}
	return s, hashOf(plain), nil
}

func hashOf(plain []byte) Hash {
	sum := sha256.Sum256(plain)
	return Hash(sum[:16])
}

// schemaWriter collects the strings of a schema; reference 0 is the empty one.
type schemaWriter struct {
	refs  map[string]uint64
	table []byte
	body  []byte
}

func (w *schemaWriter) ref(s string) {
	if s == "" {
		w.body = append(w.body, 0)
		return
	}
	k, ok := w.refs[s]
	if !ok {
		k = uint64(len(w.refs)) + 1
		w.refs[s] = k
		w.table = appendText(w.table, s)
	}
	w.body = appendUvarint(w.body, k)
}

// plainSchema is the encoding before compression: the strings, then devices,
// label sets and series, field by field.
func plainSchema(s *telemetry.Schema) ([]byte, error) {
	if err := checkSchema(s); err != nil {
		return nil, fmt.Errorf("%w: schema: %w", ErrInvalid, err)
	}
	w := schemaWriter{refs: map[string]uint64{}}
	w.body = appendUvarint(w.body, uint64(len(s.Devices)))
	for field := range 5 {
		for i := range s.Devices {
			w.ref(*deviceFields(&s.Devices[i])[field])
		}
	}
	sets, index := labelSets(s)
	w.body = appendUvarint(w.body, uint64(len(sets)))
	for _, set := range sets {
		w.body = appendUvarint(w.body, uint64(len(set)))
		for _, l := range set {
			w.ref(l.Name)
			w.ref(l.Value)
		}
	}
	w.body = appendUvarint(w.body, uint64(len(s.Series)))
	last := int64(0)
	for i := range s.Series {
		w.body = appendVarint(w.body, int64(s.Series[i].Device)-last)
		last = int64(s.Series[i].Device)
	}
	for field := range 3 {
		for i := range s.Series {
			w.ref(*seriesTexts(&s.Series[i])[field])
		}
	}
	for i := range s.Series {
		w.body = append(w.body, byte(s.Series[i].Kind))
	}
	for i := range s.Series {
		w.body = appendUvarint(w.body, index[i])
	}
	for field := range 3 {
		for i := range s.Series {
			w.body = appendUvarint(w.body, uint64(*seriesTimes(&s.Series[i])[field]))
		}
	}
	if hasHardware(s) {
		w.hardware(s)
	}
	plain := appendUvarint(nil, uint64(len(w.refs)))
	plain = append(append(plain, w.table...), w.body...)
	if len(plain) > MaxSchema {
		name, bytes := largestLabel(s)
		return nil, fmt.Errorf("%w: schema of %d bytes, at most %d; the label with the most has %d, %q", ErrTooLarge, len(plain), MaxSchema, bytes, name)
	}
	return plain, nil
}

// labelSets returns the different sets, the empty one first, and the set of each
// series.
func labelSets(s *telemetry.Schema) ([]telemetry.Labels, []uint64) {
	sets := []telemetry.Labels{nil}
	known := map[string]uint64{"": 0}
	index := make([]uint64, len(s.Series))
	var key strings.Builder
	for i := range s.Series {
		key.Reset()
		for _, l := range s.Series[i].Labels {
			fmt.Fprintf(&key, "%d:%s%d:%s", len(l.Name), l.Name, len(l.Value), l.Value)
		}
		k, ok := known[key.String()]
		if !ok {
			k = uint64(len(sets))
			known[key.String()] = k
			sets = append(sets, s.Series[i].Labels)
		}
		index[i] = k
	}
	return sets, index
}

// schemaHardware is the flag of a schema in which some device has hardware.
const schemaHardware = 1

func hasHardware(s *telemetry.Schema) bool {
	return slices.ContainsFunc(s.Devices, func(d telemetry.Device) bool { return len(d.Hardware) > 0 })
}

// hardware writes what the devices that have some have been.
func (w *schemaWriter) hardware(s *telemetry.Schema) {
	n := 0
	for i := range s.Devices {
		if len(s.Devices[i].Hardware) > 0 {
			n++
		}
	}
	w.body = appendUvarint(w.body, uint64(n))
	next := 0
	for i := range s.Devices {
		list := s.Devices[i].Hardware
		if len(list) == 0 {
			continue
		}
		w.body = appendUvarint(appendUvarint(w.body, uint64(i-next)), uint64(len(list)))
		next = i + 1
		for _, h := range list {
			w.ref(h.Serial)
			w.ref(h.Note)
			w.body = appendVarint(w.body, h.Since)
		}
	}
}

func (r *schemaReader) hardware(s *telemetry.Schema) {
	n := r.count(r.left(), "devices with hardware")
	if n == 0 {
		r.fail("no hardware where some was announced")
	}
	next := uint64(0)
	for range n {
		at := next + r.uvarint()
		if r.err != nil || at >= uint64(len(s.Devices)) || at < next {
			r.fail("hardware of no device")
			return
		}
		next = at + 1
		list := make([]telemetry.Hardware, r.count(telemetry.MaxHardware, "hardware"))
		if len(list) == 0 {
			r.fail("no hardware where some was announced")
		}
		for i := range list {
			list[i] = telemetry.Hardware{Serial: r.ref(), Note: r.ref(), Since: r.varint()}
		}
		s.Devices[at].Hardware = list
	}
}

// The fields in the order in which they are written.

func deviceFields(d *telemetry.Device) [5]*string {
	return [...]*string{&d.ID, &d.Profile, &d.Revision, &d.Connection, &d.Address}
}

func seriesTexts(s *telemetry.Series) [3]*string {
	return [...]*string{&s.Point, &s.Quantity, &s.Unit}
}

func seriesTimes(s *telemetry.Series) [3]*int64 {
	return [...]*int64{&s.Interval, &s.Silence, &s.MaxLag}
}

type schemaReader struct {
	reader
	strings []string
}

func (r *schemaReader) ref() string {
	k := r.uvarint()
	if k >= uint64(len(r.strings)) {
		r.fail("a reference to no string")
		return ""
	}
	return r.strings[k]
}

func (r *schemaReader) schema() *telemetry.Schema {
	n := r.count(r.left(), "strings")
	r.strings = make([]string, 1, n+1)
	for range n {
		if r.err != nil {
			return nil
		}
		r.strings = append(r.strings, r.text(telemetry.MaxTextLen, "string"))
	}
	s := &telemetry.Schema{}
	s.Devices = make([]telemetry.Device, r.count(min(telemetry.MaxDevices, r.left()/5), "devices"))
	for field := range 5 {
		for i := range s.Devices {
			*deviceFields(&s.Devices[i])[field] = r.ref()
		}
	}
	sets := make([]telemetry.Labels, r.count(min(telemetry.MaxSeries+1, r.left()), "label sets"))
	for i := range sets {
		m := r.count(min(telemetry.MaxLabels, r.left()/2), "labels")
		if m == 0 {
			continue
		}
		sets[i] = make(telemetry.Labels, m)
		for j := range sets[i] {
			sets[i][j] = telemetry.Label{Name: r.ref(), Value: r.ref()}
		}
	}
	s.Series = make([]telemetry.Series, r.count(min(telemetry.MaxSeries, r.left()/9), "series"))
	last := int64(0)
	for i := range s.Series {
		last += r.varint()
		if last < 0 || last >= int64(len(s.Devices)) {
			r.fail("a series of no device")
			return nil
		}
		s.Series[i].Device = uint32(last)
	}
	for field := range 3 {
		for i := range s.Series {
			*seriesTexts(&s.Series[i])[field] = r.ref()
		}
	}
	for i := range s.Series {
		s.Series[i].Kind = telemetry.Kind(r.u8())
	}
	for i := range s.Series {
		k := r.uvarint()
		if k >= uint64(len(sets)) {
			r.fail("a reference to no label set")
			return nil
		}
		s.Series[i].Labels = sets[k]
	}
	for field := range 3 {
		for i := range s.Series {
			*seriesTimes(&s.Series[i])[field] = int64(r.uvarint())
		}
	}
	return s
}

// checkSchema holds every rule that a schema must keep.
func checkSchema(s *telemetry.Schema) error {
	if len(s.Devices) > telemetry.MaxDevices || len(s.Series) > telemetry.MaxSeries {
		return fmt.Errorf("%d devices and %d series, at most %d and %d",
			len(s.Devices), len(s.Series), telemetry.MaxDevices, telemetry.MaxSeries)
	}
	ids := make(map[string]bool, len(s.Devices))
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.ID == "" || ids[d.ID] {
			return fmt.Errorf("device %d: id is empty or taken", i)
		}
		ids[d.ID] = true
		for _, text := range deviceFields(d) {
			if err := checkText(*text, telemetry.MaxValueLen); err != nil {
				return fmt.Errorf("device %d: %w", i, err)
			}
		}
		if err := checkHardware(d.Hardware); err != nil {
			return fmt.Errorf("device %d: %w", i, err)
		}
		if len(d.ID) > telemetry.MaxNameLen {
			return fmt.Errorf("device %d: id is longer than %d bytes", i, telemetry.MaxNameLen)
		}
	}
	type key struct {
		device uint32
		point  string
	}
	points := make(map[key]bool, len(s.Series))
	for i := range s.Series {
		if err := checkSeries(&s.Series[i], len(s.Devices)); err != nil {
			return fmt.Errorf("series %d, point %.40q: %w", i, s.Series[i].Point, err)
		}
		k := key{s.Series[i].Device, s.Series[i].Point}
		if points[k] {
			return fmt.Errorf("series %d: its device has that point already", i)
		}
		points[k] = true
	}
	return nil
}

func checkHardware(list []telemetry.Hardware) error {
	if len(list) > telemetry.MaxHardware {
		return fmt.Errorf("%d pieces of hardware, at most %d", len(list), telemetry.MaxHardware)
	}
	for _, h := range list {
		if err := checkText(h.Serial, telemetry.MaxNameLen); err != nil {
			return err
		}
		if err := checkText(h.Note, telemetry.MaxValueLen); err != nil {
			return err
		}
	}
	return nil
}

func checkSeries(s *telemetry.Series, devices int) error {
	if int64(s.Device) >= int64(devices) {
		return fmt.Errorf("device %d of %d", s.Device, devices)
	}
	for _, text := range seriesTexts(s) {
		if err := checkText(*text, telemetry.MaxNameLen); err != nil {
			return err
		}
	}
	if s.Point == "" || s.Quantity == "" {
		return fmt.Errorf("point or quantity is empty")
	}
	if s.Kind > telemetry.KindText {
		return fmt.Errorf("unknown kind %d", s.Kind)
	}
	for _, d := range seriesTimes(s) {
		if *d < 0 {
			return fmt.Errorf("a negative duration")
		}
	}
	if len(s.Labels) > telemetry.MaxLabels {
		return fmt.Errorf("%d labels, at most %d; one of them is %.40q", len(s.Labels), telemetry.MaxLabels, s.Labels[len(s.Labels)-1].Name)
	}
	for i, l := range s.Labels {
		if err := checkText(l.Name, telemetry.MaxNameLen); err != nil {
			return fmt.Errorf("name of label %.40q: %w", l.Name, err)
		}
		if err := checkText(l.Value, telemetry.MaxValueLen); err != nil {
			return fmt.Errorf("value of label %.40q: %w", l.Name, err)
		}
		if i > 0 && s.Labels[i-1].Name >= l.Name {
			return fmt.Errorf("labels are not sorted by name, each once")
		}
		switch l.Name {
		case telemetry.LabelSite, telemetry.LabelEdge, telemetry.LabelDevice, telemetry.LabelPoint, telemetry.LabelLate:
			return fmt.Errorf("label %s is the hub's", l.Name)
		}
		if l.Name == "" || strings.HasPrefix(l.Name, "__") {
			return fmt.Errorf("a label without a name, or with one that begins with __")
		}
	}
	return nil
}

// largestLabel returns the label whose different values have the most bytes.
func largestLabel(s *telemetry.Schema) (name string, bytes int) {
	seen := map[telemetry.Label]bool{}
	sum := map[string]int{}
	for i := range s.Series {
		for _, l := range s.Series[i].Labels {
			if !seen[l] {
				seen[l] = true
				sum[l.Name] += len(l.Value)
			}
		}
	}
	for n, b := range sum {
		if b > bytes || b == bytes && n < name {
			name, bytes = n, b
		}
	}
	return name, bytes
}

func checkText(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("a text of %d bytes, at most %d", len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("a text is not UTF-8")
	}
	return nil
}
