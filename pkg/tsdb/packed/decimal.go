package packed

import (
	"encoding/binary"
	"errors"
	"math"
)

// maxExponent is the largest power of ten that a float64 has exactly.
const maxExponent = 22

const (
	exponentMask   = 1<<5 - 1
	withExceptions = 1 << 7
)

var powers = func() (p [maxExponent + 1]float64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// noDecimal stands for the exponent of a value that is no decimal.
const noDecimal = 0xff

// digits bounds the integers of decimals to 51 bits. The quotient with a power of ten
// and the product with it are each wrong by half a unit in the 53rd bit at most, so
// that below this the product always rounds to the integer that there was.
const digits = 51

// decimal returns v times the power of ten, if that is an integer whose quotient has
// the bits of v.
func decimal(v float64, exponent uint8) (int64, bool) {
	p := powers[exponent]
	x := v * p
	if !(x > -1<<digits && x < 1<<digits) {
		return 0, false
	}
	n := int64(math.RoundToEven(x))
	return n, math.Float64bits(float64(n)/p) == math.Float64bits(v)
}

// exponentOf returns the smallest exponent with which v is a decimal, or noDecimal.
// It looks at guess first.
func exponentOf(v float64, guess uint8) uint8 {
	if _, ok := decimal(v, guess); ok {
		for ; guess > 0; guess-- {
			if _, ok := decimal(v, guess-1); !ok {
				break
			}
		}
		return guess
	}
	_, size := math.Frexp(v) // below 2^size
	most := (digits - size) * 1233 >> 12
	if most < 0 {
		return noDecimal
	}
	// A decimal is one with any larger exponent, too.
	most = min(most, maxExponent)
	if _, ok := decimal(v, uint8(most)); !ok {
		return noDecimal
	}
	for e := uint8(0); ; e++ {
		if _, ok := decimal(v, e); ok {
			return e
		}
	}
}

// valueEncoder encodes blocks of values. It keeps scratch memory.
type valueEncoder struct {
	ints  intEncoder
	n     [blockSize]int64
	odd   []byte // where the exceptions are
	other []byte
	guess uint8
}

// append encodes v, one to blockSize values.
func (e *valueEncoder) append(dst []byte, v []float64, l *line) []byte {
	all, most := e.exponents(v)
	start, before := len(dst), *l
	dst = e.appendAs(dst, v, all, l)
	if most < all {
		e.other = e.appendAs(e.other[:0], v, most, &before)
		if len(e.other) < len(dst)-start {
			*l = before
			dst = append(dst[:start], e.other...)
		}
	}
	return dst
}

// exponents returns the one with which all decimals of v are integers, and the one
// with which all but an eighth of the values are.
func (e *valueEncoder) exponents(v []float64) (all, most uint8) {
	var counts [maxExponent + 1]int
	for _, x := range v {
		if at := exponentOf(x, e.guess); at != noDecimal {
			counts[at]++
			all = max(all, at)
		}
	}
	e.guess = all
	sum := 0
	for at := range all {
		if sum += counts[at]; sum >= len(v)-len(v)/8 {
			return all, at
		}
	}
	return all, all
}

func (e *valueEncoder) appendAs(dst []byte, v []float64, exponent uint8, l *line) []byte {
	n := l.last
	e.odd = e.odd[:0]
	for i, x := range v {
		if m, ok := decimal(x, exponent); ok {
			n = m
		} else {
			e.odd = append(e.odd, byte(i))
		}
		e.n[i] = n
	}
	if len(e.odd) == 0 {
		return e.ints.append(append(dst, exponent), e.n[:len(v)], l)
	}
	dst = e.ints.append(append(dst, exponent|withExceptions), e.n[:len(v)], l)
	dst = binary.AppendUvarint(dst, uint64(len(e.odd)))
	for _, i := range e.odd {
		dst = binary.BigEndian.AppendUint64(append(dst, i), math.Float64bits(v[i]))
	}
	return dst
}

var (
	errExponent  = errors.New("a power of ten is too large")
	errException = errors.New("an exception is outside its block")
)

// decodeValues fills out from b and returns what follows; n is scratch memory, as
// long.
func decodeValues(b []byte, out []float64, n []int64, l *line) ([]byte, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	exponent := b[0]
	if exponent&^withExceptions > maxExponent {
		return nil, errExponent
	}
	b, err := decodeInts(b[1:], n, l)
	if err != nil {
		return nil, err
	}
	if p := powers[exponent&exponentMask]; p == 1 {
		for i, x := range n {
			out[i] = float64(x)
		}
	} else {
		for i, x := range n {
			out[i] = float64(x) / p
		}
	}
	if exponent&withExceptions == 0 {
		return b, nil
	}
	count, b, err := uvarint(b)
	if err != nil {
		return nil, err
	}
	if count > uint64(len(out)) {
		return nil, errException
	}
	for ; count > 0; count-- {
		if len(b) < 9 {
			return nil, errShort
		}
		if int(b[0]) >= len(out) {
			return nil, errException
		}
		out[b[0]] = math.Float64frombits(binary.BigEndian.Uint64(b[1:]))
		b = b[9:]
	}
	return b, nil
}
