package promapi

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

func appendFailure(b []byte, kind, text string) []byte {
	b = append(b, `{"status":"error","errorType":`...)
	b = appendString(b, kind)
	b = append(b, `,"error":`...)
	b = appendString(b, text)
	return append(b, '}')
}

// result writes {"resultType":"matrix","result":[...]}. There are no histograms: the
// store holds numbers only, and no function makes them of numbers.
func (o *output) result(v parser.Value) {
	o.b = append(o.b, `{"resultType":"`...)
	o.b = append(o.b, v.Type()...)
	o.b = append(o.b, `","result":`...)
	switch v := v.(type) {
	case promql.Matrix:
		o.list(len(v), func(i int) {
			o.b = appendLabels(append(o.b, `{"metric":`...), v[i].Metric)
			o.b = append(o.b, `,"values":`...)
			points := v[i].Floats
			o.list(len(points), func(k int) { o.b = appendPoint(o.b, points[k].T, points[k].F) })
			o.b = append(o.b, '}')
		})
	case promql.Vector:
		o.list(len(v), func(i int) {
			o.b = appendLabels(append(o.b, `{"metric":`...), v[i].Metric)
			o.b = appendPoint(append(o.b, `,"value":`...), v[i].T, v[i].F)
			o.b = append(o.b, '}')
		})
	case promql.Scalar:
		o.b = appendPoint(o.b, v.T, v.V)
	case promql.String:
		o.b = appendTime(append(o.b, '['), v.T)
		o.b = appendString(append(o.b, ','), v.V)
		o.b = append(o.b, ']')
	default:
		o.b = append(o.b, `null`...)
	}
	o.b = append(o.b, '}')
}

func appendPoint(b []byte, t int64, v float64) []byte {
	b = appendTime(append(b, '['), t)
	b = appendNumber(append(b, ',', '"'), v)
	return append(b, '"', ']')
}

// appendTime writes milliseconds as seconds, with three decimals or none.
func appendTime(b []byte, t int64) []byte {
	if t < 0 {
		b = append(b, '-')
		t = -t
	}
	b = strconv.AppendInt(b, t/1000, 10)
	if f := t % 1000; f != 0 {
		b = append(b, '.', byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10))
	}
	return b
}

// appendNumber writes the shortest number that reads back the same: 0.1, 1e+21,
// NaN, +Inf.
func appendNumber(b []byte, v float64) []byte {
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, v, format, -1, 64)
}

func appendLabels(b []byte, ls labels.Labels) []byte {
	b = append(b, '{')
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendString(b, l.Name)
		b = appendString(append(b, ':'), l.Value)
	})
	return append(b, '}')
}

// appendString writes a string of JSON; bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}
