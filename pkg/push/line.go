package push

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// errRows says that a request holds too many rows; nothing of it was taken.
var errRows = errors.New("too many rows")

// maxTags bounds the tags of a line.
const maxTags = 64

// precision is the unit of times in a line.
func precision(s string) (lineprotocol.Precision, bool) {
	switch s {
	case "", "ns", "n":
		return lineprotocol.Nanosecond, true
	case "us", "u", "µ", "µs":
		return lineprotocol.Microsecond, true
	case "ms":
		return lineprotocol.Millisecond, true
	case "s":
		return lineprotocol.Second, true
	}
	return 0, false
}

// lines reads line protocol. Rows are fields.
type lines struct {
	t    *table
	b    *batch
	prec lineprotocol.Precision
	dec  *lineprotocol.Decoder

	line   int64 // from 1
	key    []byte
	name   []byte
	tags   []telemetry.Label
	names  []byte // of the line's fields
	fields []field
	rows   []telemetry.Reading // of the line
}

// readLines reads a text. The error is errRows.
func readLines(text []byte, prec lineprotocol.Precision, t *table, b *batch) error {
	l := &lines{t: t, b: b, prec: prec}
	// Each line by itself: a quote that is not closed costs its line and not the rest.
	for len(text) > 0 {
		one := text
		if i := lineEnd(text); i >= 0 {
			one, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		l.line++
		if err := l.read(one); err != nil {
			return err
		}
		l.line += int64(bytes.Count(one, []byte{'\n'}))
	}
	return nil
}

// lineEnd returns where the first line ends; -1: it is the last one. A text in
// quotes may hold line breaks, but not one that is never closed.
func lineEnd(b []byte) int {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return -1
	}
	if bytes.IndexByte(b[:i], '"') < 0 {
		return i
	}
	quoted, fields, first := false, false, i
	for k := 0; k < len(b) && k < maxLine; k++ {
		switch b[k] {
		case '\\':
			k++
		case ' ':
			fields = true // before the first space a quote is a character like any other
		case '"':
			if fields {
				quoted = !quoted
			}
		case '\n':
			if !quoted {
				return k
			}
		}
	}
	return first
}

// maxLine bounds a line with line breaks in a text.
const maxLine = 64 << 10

func (l *lines) read(one []byte) error {
	d := lineprotocol.NewDecoderWithBytes(one)
	for d.Next() {
		l.dec = d
		if err := l.entry(); err != nil {
			var de *lineprotocol.DecodeError
			p := Problem{Line: l.line, Metric: string(l.name), Message: err.Error()}
			if errors.As(err, &de) {
				p.Line, p.Column, p.Message = l.line+max(0, de.Line-1), de.Column, de.Err.Error()
			}
			l.b.rows++ // nobody knows how many it would have been
			l.b.refuse(p)
		}
		if l.b.full() {
			return errRows
		}
	}
	return nil
}

// entry reads a line: nothing of it when its form is wrong, and else the fields
// that can be taken.
func (l *lines) entry() error {
	l.name, l.tags, l.key, l.rows = l.name[:0], l.tags[:0], l.key[:0], l.rows[:0]
	name, err := l.dec.Measurement()
	if err != nil {
		return err
	}
	l.name = append(l.name, name...)
	l.key = append(append(l.key, 'l', 0), name...)
	for {
		k, v, err := l.dec.NextTag()
		if err != nil {
			return err
		}
		if k == nil {
			break
		}
		if len(l.tags) == maxTags {
			return fmt.Errorf("more than %d tags", maxTags)
		}
		l.key = append(append(append(append(l.key, 0), k...), '='), v...)
		l.tags = append(l.tags, telemetry.Label{Name: string(k), Value: string(v)})
	}
	slices.SortStableFunc(l.tags, func(a, b telemetry.Label) int { return strings.Compare(a.Name, b.Name) })
	l.names, l.fields = l.names[:0], l.fields[:0]
	for {
		name, value, err := l.dec.NextField()
		if err != nil {
			return err
		}
		if name == nil {
			break
		}
		from := len(l.names)
		l.names = append(l.names, name...)
		l.fields = append(l.fields, readField(from, len(l.names), value))
	}
	t, err := l.dec.Time(l.prec, time.UnixMilli(l.b.now))
	if err != nil {
		return err
	}
	// The form is right: from here on each field stands for itself.
	l.b.rows += len(l.fields)
	ms := t.UnixMilli()
	if bad := l.b.when(ms); bad != "" {
		l.b.refused += len(l.fields) - 1
		l.b.refuse(Problem{Line: l.line, Metric: string(l.name), Message: bad})
		return nil
	}
	stem := len(l.key)
	for i := range l.fields {
		l.take(stem, &l.fields[i])
	}
	for i := range l.rows {
		l.rows[i].Time = ms
	}
	l.b.readings = append(l.b.readings, l.rows...)
	return nil
}

// field is a field of the line that is read.
type field struct {
	from, to int // its name, in names
	kind     telemetry.Kind
	value    float64
	text     string
}

func readField(from, to int, v lineprotocol.Value) field {
	f := field{from: from, to: to, kind: telemetry.KindNumber}
	switch v.Kind() {
	case lineprotocol.String:
		f.kind = telemetry.KindText
		f.text = v.StringV()
		if len(f.text) > telemetry.MaxTextLen {
			f.text = strings.ToValidUTF8(f.text[:telemetry.MaxTextLen], "")
		}
		f.text = strings.Clone(f.text)
	case lineprotocol.Bool:
		if v.BoolV() {
			f.value = 1
		}
	case lineprotocol.Int:
		f.value = float64(v.IntV())
	case lineprotocol.Uint:
		f.value = float64(v.UintV())
	case lineprotocol.Float:
		f.value = v.FloatV()
	default: // there is no other
	}
	return f
}

// take makes a row of a field; its time is not known yet.
func (l *lines) take(stem int, f *field) {
	name := l.names[f.from:f.to]
	l.key = append(append(l.key[:stem], 0, 0), name...)
	index, scale, add, drop, err := l.t.lookup(l.key, f.kind, l.b.now, func() (string, []telemetry.Label) {
		metric := string(l.name)
		if string(name) != "value" {
			metric += "_" + string(name)
		}
		return metric, l.tags
	})
	switch {
	case err != nil:
		l.b.refuse(Problem{Line: l.line, Metric: string(l.name) + " " + string(name), Message: err.Error()})
	case drop:
	case f.kind == telemetry.KindText:
		l.rows = append(l.rows, telemetry.Reading{Series: index, Text: f.text})
	default:
		l.rows = append(l.rows, number(index, 0, f.value*scale+add))
	}
}
