package profile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Errors of [Decode].
var (
	// ErrWidth says that there are fewer or more registers than the point has.
	ErrWidth = errors.New("wrong number of registers")
	// ErrDigits says that a BCD value holds a nibble above 9.
	ErrDigits = errors.New("not a decimal number")
)

// IsText reports whether the point gives text rather than a number.
func (p *Point) IsText() bool {
	return p.Kind == KindText || p.Kind == "" && p.Type == TypeString
}

// RawType returns the type that registers are read as: Type, or what holds when
// it is not said.
func (p *Point) RawType() Type {
	if p.Type != "" {
		return p.Type
	}
	if a, _ := p.Area(); p.Bit != nil || a == AreaCoil || a == AreaDiscrete {
		return TypeBool
	}
	return TypeUint16
}

// Decode reads the raw value of a point from its registers, pt.Width() of them
// in the order of their addresses. order is the profile's; the point's own goes
// before it. Coils and discrete inputs need no decoding: their raw value is 0
// or 1. For the type string, text is the characters up to the first NUL, spaces
// at both ends taken away. Numbers beyond 2^53 lose their last digits. Decode
// checks nothing else: a sentinel is a raw value (see [Number]).
func Decode(pt *Point, order Order, regs []uint16) (raw float64, text string, err error) {
	if len(regs) != pt.Width() {
		return 0, "", fmt.Errorf("%w: %d, want %d", ErrWidth, len(regs), pt.Width())
	}
	t := pt.RawType()
	if t == TypeString {
		return 0, registerText(regs, pt.Order == OrderBADC), nil
	}
	if len(regs) == 1 {
		order = OrderABCD // a profile's order is for values wider than a register
	}
	if pt.Order != "" {
		order = pt.Order
	}
	bits := join(regs, order)
	switch t {
	case TypeBool:
		if pt.Bit != nil {
			bits = bits >> *pt.Bit & 1
		}
		if bits != 0 {
			raw = 1
		}
		return raw, "", nil
	case TypeInt16:
		return float64(int16(bits)), "", nil
	case TypeInt32:
		return float64(int32(bits)), "", nil
	case TypeInt64:
		return float64(int64(bits)), "", nil
	case TypeFloat32:
		return shortest(math.Float32frombits(uint32(bits))), "", nil
	case TypeFloat64:
		return math.Float64frombits(bits), "", nil
	case TypeBCD16, TypeBCD32:
		raw, err = bcd(bits)
		return raw, "", err
	}
	return float64(bits), "", nil
}

// join makes one number of up to four registers.
func join(regs []uint16, order Order) (bits uint64) {
	for i := range regs {
		r := regs[i]
		if order == OrderCDAB || order == OrderDCBA {
			r = regs[len(regs)-1-i]
		}
		if order == OrderBADC || order == OrderDCBA {
			r = r<<8 | r>>8
		}
		bits = bits<<16 | uint64(r)
	}
	return bits
}

func bcd(bits uint64) (float64, error) {
	n := 0.0
	for shift := 28; shift >= 0; shift -= 4 {
		d := bits >> shift & 0xf
		if d > 9 {
			return 0, fmt.Errorf("%w: BCD %#x", ErrDigits, bits)
		}
		n = n*10 + float64(d)
	}
	return n, nil
}

func registerText(regs []uint16, swap bool) string {
	b := make([]byte, 0, 2*len(regs))
	for _, r := range regs {
		if swap {
			r = r<<8 | r>>8
		}
		b = binary.BigEndian.AppendUint16(b, r)
	}
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "?"))
}

// shortest widens a float32 to the number that people would write for it: 23.1
// rather than 23.100000381469727.
func shortest(f float32) float64 {
	x := float64(f)
	if math.IsNaN(x) || math.IsInf(x, 0) || x == math.Trunc(x) {
		return x
	}
	var b [32]byte
	d, err := strconv.ParseFloat(string(strconv.AppendFloat(b[:0], x, 'g', -1, 32)), 64)
	if err != nil {
		return x
	}
	return d
}

// Linear is a conversion into the canonical unit; driver.Linear is one.
type Linear interface{ Of(x float64) float64 }

// Number takes a raw number through the point: a sentinel is bad (not fitted);
// then (raw + Before) * Scale + Offset, rounded to Decimals when they are given;
// outside Valid is bad (out of range), with the value kept for those who look
// into it; then conv, into the canonical unit. What is not finite is bad, and 0.
func Number[C Linear](pt *Point, conv C, raw float64) (value float64, q telemetry.Quality) {
	if pt.isSentinel(raw) {
		return 0, telemetry.BadQuality(telemetry.ReasonNotFitted)
	}
	return number(pt, context{}, conv, raw)
}

func (p *Point) isSentinel(raw float64) bool {
	for _, s := range p.Sentinels {
		if raw == s || raw == p.signed(s) {
			return true
		}
	}
	return false
}

// signed reads a sentinel that was written as the maker prints it, 0x8000, for a
// register that is read as signed.
func (p *Point) signed(s float64) float64 {
	switch {
	case p.Type == TypeInt16 && s > math.MaxInt16 && s <= math.MaxUint16:
		return s - 1<<16
	case p.Type == TypeInt32 && s > math.MaxInt32 && s <= math.MaxUint32:
		return s - 1<<32
	}
	return s
}

// tidy takes away what binary fractions add to decimal ones: 283 * 0.1 is 28.3,
// not 28.300000000000004. People see the number, and it packs better.
func tidy(x float64) float64 { return tidyBeside(x, x) }

// tidyBeside is tidy for a sum of which a part was as large as y: Fahrenheit
// passes through 273.15 and leaves the last bits of that behind.
func tidyBeside(x, y float64) float64 {
	if x == math.Trunc(x) || math.Abs(x) > 1e9 {
		return x
	}
	slack := math.Abs(x) * 1e-15
	if y != x {
		slack += math.Abs(y) * 4e-15
	}
	p := 1.0
	for range 9 {
		p *= 10
		if r := math.Round(x*p) / p; math.Abs(x-r) <= slack {
			return r
		}
	}
	return x
}

// Value takes what a payload holds through the point: a value from
// encoding/json (with or without UseNumber), or the payload itself as a string.
// For a number, words go through Enum and text that is a number counts as one;
// true is 1. nil is bad (missing), what does not fit bad (malformed). For a
// point that [Point.IsText], text is the value, cut to telemetry.MaxTextLen.
func Value[C Linear](pt *Point, conv C, v any) (value float64, text string, q telemetry.Quality) {
	malformed := telemetry.BadQuality(telemetry.ReasonMalformed)
	if v == nil {
		return 0, "", telemetry.BadQuality(telemetry.ReasonMissing)
	}
	if pt.IsText() {
		text, ok := asText(v)
		if !ok {
			return 0, "", malformed
		}
		return 0, clipText(text), 0
	}
	raw, ok := pt.asNumber(v)
	if !ok {
		return 0, "", malformed
	}
	value, q = Number(pt, conv, raw)
	return value, "", q
}

func (p *Point) asNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case bool:
		if n, ok := p.Enum[strconv.FormatBool(v)]; ok {
			return n, true
		}
		if v {
			return 1, true
		}
		return 0, true
	case json.Number:
		return parseNumber(string(v))
	case string:
		s := strings.TrimSpace(v)
		if n, ok := p.Enum[s]; ok {
			return n, true
		}
		return parseNumber(s)
	}
	return 0, false
}

// parseNumber reads decimal notation only: no hexadecimal, no underscores. NaN
// and Inf are numbers here; Number makes them bad.
func parseNumber(s string) (float64, bool) {
	if s == "" || len(s) > 64 || strings.ContainsAny(s, "xXpP_") {
		return 0, false
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return x, true
}

func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return string(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func clipText(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= telemetry.MaxTextLen {
		return s
	}
	n := telemetry.MaxTextLen
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
