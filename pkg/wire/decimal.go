package wire

import (
	"math"
)

// scale says how an integer i becomes the float64 that a sensor's value is.
// Devices yield decimal numbers; which float64 that gives depends on how their
// values were scaled, so there are variants. Each is exact or not used.
type scale struct {
	variant uint8
	exp     int8
}

// The variants.
const (
	scaleDivide   = 0 // i / 10^exp, or i * 10^-exp for a negative exp: what a parsed decimal is
	scaleMultiply = 1 // i * 10^-exp, with 10^-exp as the nearest float64: what a register times a factor is
	scaleSingle   = 2 // float32(i / 10^exp): what a device gives that computes in single precision
)

const (
	maxExp       = 18
	minExp       = -18
	maxExpSingle = 9
)

func tenTo(exp int8) float64 {
	powers := [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}
	return powers[exp]
}

func oneTenth(exp int8) float64 {
	powers := [...]float64{1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18}
	return powers[exp]
}

func (s scale) valid() bool {
	switch s.variant {
	case scaleDivide:
		return s.exp >= minExp && s.exp <= maxExp
	case scaleMultiply:
		return s.exp >= 0 && s.exp <= maxExp
	case scaleSingle:
		return s.exp >= 0 && s.exp <= maxExpSingle
	}
	return false
}

// scaler is a scale made ready for many values.
type scaler struct {
	scale
	up, down float64
}

func (s scale) scaler() scaler {
	switch {
	case s.variant == scaleMultiply:
		return scaler{s, tenTo(s.exp), oneTenth(s.exp)}
	case s.exp < 0:
		return scaler{s, 1, tenTo(-s.exp)}
	}
	return scaler{s, tenTo(s.exp), 1}
}

// round adds and removes 1.5*2^52, which leaves an integer as long as |x| is
// below 2^51.
const (
	roundMagic = 1.5 * (1 << 52)
	roundLimit = 1 << 51
)

// integer returns the i that gives exactly v, if there is one.
func (s *scaler) integer(v float64) (int64, bool) {
	x := float64(v * s.up)
	if s.exp < 0 {
		x = v / s.down
	}
	if !(x < roundLimit && x > -roundLimit) {
		return 0, false
	}
	i := int64(math.Float64bits(x+roundMagic)) - int64(math.Float64bits(roundMagic))
	return i, math.Float64bits(s.float(i)) == math.Float64bits(v)
}

func (s *scaler) float(i int64) float64 {
	switch {
	case s.variant == scaleDivide && s.exp >= 0:
		return float64(i) / s.up
	case s.variant == scaleSingle:
		return float64(float32(float64(i) / s.up))
	}
	return float64(i) * s.down
}

// floats turns integers into values.
func (s *scaler) floats(out []float64, in []int64) {
	switch {
	case s.variant == scaleDivide && s.exp == 0:
		for j, i := range in {
			out[j] = float64(i)
		}
	case s.variant == scaleDivide && s.exp > 0:
		up := s.up
		for j, i := range in {
			out[j] = float64(i) / up
		}
	default:
		for j, i := range in {
			out[j] = s.float(i)
		}
	}
}

// decimals is v as integers of one scale, but for the exceptions.
type decimals struct {
	scale      scale
	ints       []int64
	exceptions []int32 // ascending indexes in v; their ints repeat the one before
}

// Costs in bits that the choice of a scale weighs: of an exception, and of a
// further digit in each value.
const (
	exceptionCost = 36
	digitCost     = 3.33
)

// fit finds the scale for v. hint is the scale found in the frame before; it is
// updated. It returns false when v is not decimal enough to be worth it.
func (d *decimals) fit(v []float64, hint *scale) bool {
	s := *hint
	if len(v) >= longColumn {
		// Few values with many digits must not cost all others theirs, for good.
		if better, ok := chooseScale(v, 96); ok {
			s = better
		}
	}
	failed := d.convert(v, s)
	if failed*8 > len(v) && len(v) < longColumn {
		var ok bool
		if s, ok = chooseScale(v, 24); !ok {
			return false
		}
		failed = d.convert(v, s)
	}
	for range 3 {
		if failed == 0 {
			break
		}
		// Values with more digits are written as they are, unless they are many.
		more := s.exp
		for _, i := range d.exceptions[:min(len(d.exceptions), 16)] {
			if e, ok := digits(v[i], s.variant); ok {
				more = max(more, e)
			}
		}
		if more == s.exp || float64(len(v))*digitCost*float64(more-s.exp) > float64(failed)*exceptionCost {
			break
		}
		s.exp = more
		failed = d.convert(v, s)
	}
	if failed*2 > len(v) {
		return false
	}
	*hint = s
	d.reduce()
	return true
}

// fitAll is fit for values of which none may be an exception.
func (d *decimals) fitAll(v []float64, hint *scale) bool {
	if d.convert(v, *hint) == 0 {
		d.reduce()
		return true
	}
	most := int8(0)
	for _, x := range v {
		e, ok := digits(x, scaleDivide)
		if !ok {
			return false
		}
		most = max(most, e)
	}
	s := scale{scaleDivide, most}
	if d.convert(v, s) != 0 {
		return false
	}
	*hint = s
	d.reduce()
	return true
}

// convert fills ints and exceptions and returns how many of these there are.
func (d *decimals) convert(v []float64, s scale) int {
	if cap(d.ints) < len(v) {
		d.ints = make([]int64, len(v))
	}
	d.ints, d.exceptions, d.scale = d.ints[:len(v)], d.exceptions[:0], s
	ints := d.ints
	sc := s.scaler()
	last := int64(0)
	if s.variant == scaleDivide && s.exp >= 0 {
		up := sc.up
		for j, x := range v {
			y := float64(x * up)
			i := int64(math.Float64bits(y+roundMagic)) - int64(math.Float64bits(roundMagic))
			if math.Float64bits(float64(i)/up) != math.Float64bits(x) || !(y < roundLimit && y > -roundLimit) {
				d.exceptions = append(d.exceptions, int32(j))
				i = last
			}
			ints[j] = i
			last = i
		}
	} else {
		for j, x := range v {
			i, ok := sc.integer(x)
			if !ok {
				d.exceptions = append(d.exceptions, int32(j))
				i = last
			}
			ints[j] = i
			last = i
		}
	}
	// Leading exceptions have none before them.
	if n := len(d.exceptions); n > 0 && n < len(v) && d.exceptions[0] == 0 {
		first := 0
		for first < n && d.exceptions[first] == int32(first) {
			first++
		}
		for j := range first {
			ints[j] = ints[first]
		}
	}
	return len(d.exceptions)
}

// reduce drops trailing zeros that all integers have.
func (d *decimals) reduce() {
	if d.scale.variant != scaleDivide {
		return
	}
	for d.scale.exp > minExp {
		zero := true
		for _, i := range d.ints {
			if i%10 != 0 {
				return
			}
			zero = zero && i == 0
		}
		if zero {
			d.scale.exp = 0
			return
		}
		for j, i := range d.ints {
			d.ints[j] = i / 10
		}
		d.scale.exp--
	}
}

// digits is the least exp with which the variant gives exactly v.
func digits(v float64, variant uint8) (int8, bool) {
	for s := (scale{variant: variant}); s.valid(); s.exp++ {
		sc := s.scaler()
		if _, ok := sc.integer(v); ok {
			return s.exp, true
		}
	}
	return 0, false
}

// longColumn is from how many values on the scale is chosen anew, whatever the hint.
const longColumn = 256

// chooseScale looks at so many of the values.
func chooseScale(v []float64, samples int) (scale, bool) {
	step := max(1, len(v)/samples)
	best, bestCost, ok := scale{}, math.Inf(1), false
	for variant := uint8(scaleDivide); variant <= scaleSingle; variant++ {
		var need [maxExp + 1]int
		n, never := 0, 0
		for i := 0; i < len(v); i += step {
			n++
			if e, ok := digits(v[i], variant); ok {
				need[e]++
			} else {
				never++
			}
		}
		above := n - never
		for e := range int8(len(need)) {
			above -= need[e]
			failed := above + never
			cost := float64(failed)*exceptionCost + float64(n)*digitCost*float64(e)
			if failed*2 <= n && cost < bestCost {
				best, bestCost, ok = scale{variant, e}, cost, true
			}
		}
	}
	return best, ok
}
