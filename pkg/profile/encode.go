package profile

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ErrNotWritable says that a point has no writable: in its profile.
var ErrNotWritable = errors.New("the point is not writable: its profile does not say that it may be written")

// Inverse is a conversion out of the canonical unit; driver.Linear is one.
type Inverse interface {
	Linear
	// Back is the inverse of Of.
	Back(y float64) float64
}

// ToWrite returns the raw value that stands for what a person wants to write: a
// number in the canonical unit, or a word of the point's enumeration. The error
// says why it may not, or cannot, be written.
func ToWrite[C Inverse](pt *Point, conv C, value string) (raw float64, err error) {
	w := pt.Writable
	if w == nil {
		return 0, ErrNotWritable
	}
	x, isWord := pt.Enum[strings.TrimSpace(value)]
	if isWord {
		raw = x
		if x, err = pt.physical(raw); err != nil {
			return 0, err
		}
	} else {
		y, ok := pt.parseWritten(value)
		if !ok {
			return 0, fmt.Errorf("%q is no number%s", value, pt.wordsHint())
		}
		x = tidyBeside(conv.Back(y), conv.Back(0))
		raw = (x-pt.Offset)/pt.scale() - pt.Before
	}
	if w.Min != nil && x < *w.Min || w.Max != nil && x > *w.Max {
		return 0, fmt.Errorf("%s is outside what may be written, %s", value, pt.mayBe(conv))
	}
	if pt.RawType() == TypeFloat32 || pt.RawType() == TypeFloat64 {
		return raw, nil
	}
	whole := math.Round(raw)
	if math.Abs(raw-whole) > 1e-6*max(1, math.Abs(raw)) {
		low := conv.Of((math.Floor(raw)+pt.Before)*pt.scale() + pt.Offset)
		high := conv.Of((math.Ceil(raw)+pt.Before)*pt.scale() + pt.Offset)
		return 0, fmt.Errorf("the device holds no %s: write %v or %v", value, tidy(low), tidy(high))
	}
	if low, high := pt.rawRange(); whole < low || whole > high {
		return 0, fmt.Errorf("%s does not fit into %s", value, pt.RawType())
	}
	if pt.isSentinel(whole) {
		return 0, fmt.Errorf("%s is what the device says for: not fitted", value)
	}
	return whole, nil
}

func (p *Point) scale() float64 {
	if p.Scale != nil {
		return *p.Scale
	}
	return 1
}

// physical is the value in the point's unit.
func (p *Point) physical(raw float64) (float64, error) {
	x := (raw+p.Before)*p.scale() + p.Offset
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, fmt.Errorf("%v has no value", raw)
	}
	return tidy(x), nil
}

func (p *Point) parseWritten(value string) (float64, bool) {
	if p.RawType() == TypeBool {
		switch strings.ToLower(strings.TrimSpace(value)) {
		case "on", "true":
			return 1, true
		case "off", "false":
			return 0, true
		}
	}
	x, ok := parseNumber(strings.TrimSpace(value))
	return x, ok && !math.IsNaN(x) && !math.IsInf(x, 0)
}

func (p *Point) wordsHint() string {
	var words []string
	for w := range p.Enum {
		words = append(words, w)
	}
	if p.RawType() == TypeBool {
		words = append(words, "on", "off")
	}
	if len(words) == 0 {
		return ""
	}
	slices.Sort(words)
	return " and none of " + strings.Join(words, ", ")
}

// mayBe is the range in the canonical unit.
func (p *Point) mayBe(conv Linear) string {
	low, high := "-", "-"
	text := func(x float64) string { return strconv.FormatFloat(tidyBeside(conv.Of(x), conv.Of(0)), 'g', -1, 64) }
	if p.Writable.Min != nil {
		low = text(*p.Writable.Min)
	}
	if p.Writable.Max != nil {
		high = text(*p.Writable.Max)
	}
	return low + " to " + high
}

// Encode is the inverse of [Decode]: the registers of a raw number, in the order
// of their addresses. It fails when the number does not fit the type, and for
// text.
func Encode(pt *Point, order Order, raw float64) ([]uint16, error) {
	t := pt.RawType()
	n := pt.Width()
	if t == TypeString || pt.Bit != nil {
		return nil, fmt.Errorf("%s cannot be encoded", t)
	}
	var bits uint64
	low, high := pt.rawRange()
	switch t {
	case TypeFloat32:
		if math.Abs(raw) > math.MaxFloat32 || math.IsNaN(raw) {
			return nil, fmt.Errorf("%v does not fit into %s", raw, t)
		}
		bits = uint64(math.Float32bits(float32(raw)))
	case TypeFloat64:
		bits = math.Float64bits(raw)
	default:
		if t == TypeInt64 || t == TypeUint64 {
			low, high = max(low, -1<<53), 1<<53 // beyond, a float64 has lost digits
		}
		if raw != math.Trunc(raw) || raw < low || raw > high {
			return nil, fmt.Errorf("%v does not fit into %s", raw, t)
		}
		switch t {
		case TypeBCD16, TypeBCD32:
			for i, v := 0, uint64(raw); i < 4*n; i, v = i+1, v/10 {
				bits |= v % 10 << (4 * i)
			}
		default:
			bits = uint64(int64(raw))
		}
	}
	if n == 1 {
		order = OrderABCD
	}
	if pt.Order != "" {
		order = pt.Order
	}
	return part(bits, n, order), nil
}

// part is the inverse of join.
func part(bits uint64, n int, order Order) []uint16 {
	regs := make([]uint16, n)
	for i := range regs {
		r := uint16(bits >> (16 * (n - 1 - i)))
		if order == OrderBADC || order == OrderDCBA {
			r = r<<8 | r>>8
		}
		if order == OrderCDAB || order == OrderDCBA {
			regs[n-1-i] = r
		} else {
			regs[i] = r
		}
	}
	return regs
}
