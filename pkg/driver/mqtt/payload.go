package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// maxPayload is the longest payload that is parsed. Frigate's statistics and the
// device list of a Zigbee gateway stay well below it.
const maxPayload = 1 << 20

var (
	errTooLong  = errors.New("payload is longer than 1 MiB")
	errTrailing = errors.New("something follows the JSON value")
)

// document is a payload, parsed once and only when somebody needs it.
type document struct {
	raw    []byte
	parsed bool
	value  any
	err    error
}

// json returns the payload as decoded JSON, numbers as [json.Number].
func (d *document) json() (any, error) {
	if d.parsed {
		return d.value, d.err
	}
	d.parsed = true
	if len(d.raw) > maxPayload {
		d.err = errTooLong
		return nil, d.err
	}
	dec := json.NewDecoder(bytes.NewReader(d.raw))
	dec.UseNumber()
	if err := dec.Decode(&d.value); err != nil {
		d.value, d.err = nil, err
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		d.value, d.err = nil, errTrailing
	}
	return d.value, d.err
}

// root is what a path is looked up in: the JSON value or, for a path that begins
// with an index, the columns of a payload that is no JSON.
func (d *document) root(p *profile.Path) (any, error) {
	v, err := d.json()
	if errors.Is(err, errTooLong) {
		return nil, err
	}
	if columns, ok := profile.Columns(p, d.raw, v, err); ok {
		return columns, nil
	}
	return v, err
}

// word returns the whole payload as text, a JSON string without its quotes.
func (d *document) word() string {
	s := strings.TrimSpace(string(d.raw[:min(len(d.raw), maxPayload)]))
	if len(s) >= 2 && s[0] == '"' {
		var t string
		if json.Unmarshal([]byte(s), &t) == nil {
			return t
		}
	}
	return s
}

// read appends the samples that the payload holds for the points to out. With
// partial, a field that is not there says nothing; otherwise it is a bad reading.
// The error explains the first bad point that is not a matter of its value. at is
// the time of arrival in milliseconds, for rates.
func read(out []driver.Sample, points []point, doc *document, partial bool, counts *driver.Counts, at int64) ([]driver.Sample, error) {
	var first error
	for i := range points {
		p := &points[i]
		s, ok, err := p.sample(doc, counts, at)
		if !ok || err != nil && partial && s.Quality.Reason() == telemetry.ReasonMissing {
			continue
		}
		if err != nil && first == nil {
			first = fmt.Errorf("point %s: %w", p.spec.ID, err)
		}
		out = append(out, s)
	}
	return out, first
}

var (
	errMissing  = errors.New("its field is not in the payload")
	errNotValue = errors.New("is an object or a list, not a value")
)

// sample is not ok when there is nothing to report yet: the first reading of a
// rate, or a message that is not counted.
func (p *point) sample(doc *document, counts *driver.Counts, at int64) (s driver.Sample, ok bool, err error) {
	s.Point = p.index
	bad := func(r telemetry.Reason, err error) (driver.Sample, bool, error) {
		s.Quality = telemetry.BadQuality(r)
		return s, true, err
	}
	var v any
	switch {
	case p.spec.CountsEvents(): // a message has no value: it counts, or not
	case p.path == nil:
		if len(doc.raw) > maxPayload {
			return bad(telemetry.ReasonMalformed, errTooLong)
		}
		v = doc.word()
	default:
		root, err := doc.root(p.path)
		if err != nil {
			return bad(telemetry.ReasonMalformed, fmt.Errorf("the payload is no JSON: %w", err))
		}
		found, ok := p.path.Lookup(root)
		if !ok || found == nil {
			return bad(telemetry.ReasonMissing, errMissing)
		}
		v = found
	}
	var refs []profile.Raw
	for _, path := range p.refs {
		refs = append(refs, doc.at(path))
	}
	var count *profile.Count
	if p.spec.Counter != nil {
		count = counts.Of(p.spec)
	}
	s.Value, s.Text, s.Quality, ok = profile.MeasureValue(p.spec, p.conv, count, v, refs, at)
	if s.Quality.Reason() == telemetry.ReasonMalformed {
		return s, ok, notValue(v)
	}
	return s, ok, nil
}

// at is what stands at a path of the payload; nil is the payload itself.
func (d *document) at(path *profile.Path) profile.Raw {
	if path == nil {
		if len(d.raw) > maxPayload {
			return profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonMalformed)}
		}
		return profile.RawValue(d.word(), true)
	}
	root, err := d.root(path)
	if err != nil {
		return profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonMalformed)}
	}
	return profile.RawValue(path.Lookup(root))
}

// notValue says why a value of JSON is none of the point.
func notValue(v any) error {
	if s, ok := v.(string); ok {
		return fmt.Errorf("%q is no number and no word of its enumeration", excerpt(s))
	}
	return errNotValue
}

// textOf returns a scalar of JSON as text.
func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// excerpt is a payload's beginning, for a log.
func excerpt(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// deviceTime is where a payload carries its time.
type deviceTime struct {
	path   profile.Path
	format string
}

// Times outside these years are a clock that was never set, not a time.
const (
	earliest = 946684800  // 2000-01-01
	latest   = 7258118400 // 2200-01-01
)

// of returns the time that the payload carries; false when it has none that can
// be believed.
func (t *deviceTime) of(doc *document) (time.Time, bool) {
	root, err := doc.json()
	if err != nil {
		return time.Time{}, false
	}
	v, ok := t.path.Lookup(root)
	if !ok {
		return time.Time{}, false
	}
	if t.format == "rfc3339" || t.format == "" {
		s, _ := v.(string)
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || at.Unix() < earliest || at.Unix() > latest {
			return time.Time{}, false
		}
		return at, true
	}
	text, _ := textOf(v)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return time.Time{}, false
	}
	if t.format == "unix_ms" {
		n /= 1000
	}
	if !(n >= earliest && n <= latest) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(n * 1000))), true
}
