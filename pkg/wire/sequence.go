package wire

import (
	"math"
	"math/bits"
)

// How the residuals of a sequence are packed: the coding byte.
const (
	codingFixed    = 0x00 // + width, 0 to 64: bits per residual
	codingRice     = 0x80 // + k, 0 to 32: Rice codes with parameter k
	codingAdaptive = 0xc0 // + k, 0 to 32: Rice codes, the parameter follows the data
	// codingEntropy lies between.
)

// The bits of a sequence's order byte.
const (
	orderHeads      = 0x01 // heads are differences, else offsets from the least
	orderTailsShift = 1    // two bits, see tails*
)

// How the tails of a sequence are predicted.
const (
	tailsOffsets = 0 // from the least
	tailsFirst   = 1 // differences
	tailsSecond  = 2 // differences of differences
	tailsLine    = 3 // offsets from a line through the head, whose step is that of all rows
)

// sequencer encodes integers of m rows with c columns each, row by row. The
// first column (the heads) and the rest (the tails) are predicted and packed
// apart. It keeps scratch memory.
type sequencer struct {
	residuals []uint64
	entropy   entropyCoder
}

// append encodes v, which holds m rows of c. Arithmetic wraps, so that every
// int64 survives.
func (s *sequencer) append(dst []byte, v []int64, m, c int) []byte {
	least, best0, best1 := v[0], uint64(0), uint64(0)
	for i := 0; i < len(v); i += c {
		least = min(least, v[i])
	}
	prev := v[0]
	for i := 0; i < len(v); i += c {
		best0 += uint64(bits.Len64(uint64(v[i] - least)))
		best1 += uint64(bits.Len64(zigzag(v[i] - prev)))
		prev = v[i]
	}
	tails := 0
	if c > 1 {
		tails = tailsOrder(v, c)
	}
	order := byte(tails << orderTailsShift)
	if best1 < best0 {
		order |= orderHeads
	}
	dst = append(dst, order)
	if cap(s.residuals) < len(v) {
		s.residuals = make([]uint64, len(v))
	}
	res := s.residuals[:0]
	if order&orderHeads != 0 {
		dst = appendVarint(dst, v[0])
		prev = v[0]
		for i := c; i < len(v); i += c {
			res = append(res, zigzag(v[i]-prev))
			prev = v[i]
		}
	} else {
		dst = appendVarint(dst, least)
		for i := 0; i < len(v); i += c {
			res = append(res, uint64(v[i]-least))
		}
	}
	dst = s.appendResiduals(dst, res)
	if c == 1 {
		return dst
	}
	res = s.residuals[:0]
	switch tails {
	case tailsLine:
		step := stepOf(v, c)
		least := leastOff(v, c, step)
		dst = appendVarint(appendVarint(dst, step), least)
		for row := 0; row < len(v); row += c {
			at := v[row] + least
			for _, x := range v[row+1 : row+c] {
				at += step
				res = append(res, uint64(x-at))
			}
		}
	case tailsOffsets:
		least = v[1]
		for row := 0; row < len(v); row += c {
			for _, x := range v[row+1 : row+c] {
				least = min(least, x)
			}
		}
		dst = appendVarint(dst, least)
		for row := 0; row < len(v); row += c {
			for _, x := range v[row+1 : row+c] {
				res = append(res, uint64(x-least))
			}
		}
	case tailsFirst:
		for row := 0; row < len(v); row += c {
			prev := v[row]
			for _, x := range v[row+1 : row+c] {
				res = append(res, zigzag(x-prev))
				prev = x
			}
		}
	default:
		for row := 0; row < len(v); row += c {
			prev, diff := v[row], int64(0)
			for _, x := range v[row+1 : row+c] {
				res = append(res, zigzag(x-prev-diff))
				diff = x - prev
				prev = x
			}
		}
	}
	return s.appendResiduals(dst, res)
}

// stepOf is the mean step of the first row.
func stepOf(v []int64, c int) int64 {
	if c < 3 {
		return 0
	}
	return int64(uint64(v[c-1]-v[0])+uint64(c-1)/2) / int64(c-1)
}

// leastOff is the least offset from the lines.
func leastOff(v []int64, c int, step int64) int64 {
	least := int64(math.MaxInt64)
	for row := 0; row < len(v); row += c {
		at := v[row]
		for _, x := range v[row+1 : row+c] {
			at += step
			least = min(least, x-at)
		}
	}
	return least
}

// tailsOrder guesses which prediction leaves the fewest bits.
func tailsOrder(v []int64, c int) int {
	var cost [4]uint64
	least := v[1]
	for row := 0; row < len(v); row += c {
		prev, diff := v[row], int64(0)
		for _, x := range v[row+1 : row+c] {
			d := x - prev
			cost[1] += uint64(bits.Len64(zigzag(d)))
			cost[2] += uint64(bits.Len64(zigzag(d - diff)))
			least = min(least, x)
			prev, diff = x, d
		}
	}
	if cost[1] == 0 {
		return 1
	}
	for row := 0; row < len(v); row += c {
		for _, x := range v[row+1 : row+c] {
			cost[0] += uint64(bits.Len64(uint64(x - least)))
		}
	}
	best := 1
	if cost[2] < cost[best] {
		best = 2
	}
	if cost[0] < cost[best] {
		best = 0
	}
	if step := stepOf(v, c); step != 0 && cost[best] > uint64(len(v)) {
		least := leastOff(v, c, step)
		for row := 0; row < len(v); row += c {
			at := v[row] + least
			for _, x := range v[row+1 : row+c] {
				at += step
				cost[3] += uint64(bits.Len64(uint64(x - at)))
			}
		}
		if cost[3] < cost[best] {
			best = 3
		}
	}
	return best
}

// appendResiduals packs the residuals in the way that takes the fewest bits.
func (s *sequencer) appendResiduals(dst []byte, res []uint64) []byte {
	var all, sum uint64
	for _, u := range res {
		all |= u
		sum += min(u, 1<<40)
	}
	width := uint(bits.Len64(all))
	n := uint64(len(res))
	coding, cost := byte(codingFixed)+byte(width), n*uint64(width)
	var k uint
	if n >= 3 && width > 1 {
		k = min(uint(bits.Len64(sum*11/(n*16))), maxRice)
		var static, adapt uint64
		a := startAdaptive(k)
		for _, u := range res {
			static += riceCost(u, k)
			adapt += riceCost(u, a.k())
			a.saw(u)
		}
		if static < cost {
			coding, cost = codingRice+byte(k), static
		}
		if adapt < cost {
			coding, cost = codingAdaptive+byte(k), adapt
		}
	}
	if n >= entropyFrom && cost > n/8 && s.entropy.cost(res) < cost-cost/32 {
		if out, ok := s.entropy.append(dst, res); ok {
			return out
		}
	}
	dst = append(dst, coding)
	if width == 0 {
		return dst
	}
	w := bitWriter{buf: dst}
	switch {
	case coding >= codingAdaptive:
		a := startAdaptive(k)
		for _, u := range res {
			w.putRice(u, a.k())
			a.saw(u)
		}
	case coding >= codingRice:
		for _, u := range res {
			w.putRice(u, k)
		}
	default:
		for _, u := range res {
			w.put(u, width)
		}
	}
	return w.finish()
}

// sequence decodes m rows of c into out, which has that length, m*c > 0.
func (r *reader) sequence(out []int64, m, c int) {
	order := r.u8()
	tails := int(order >> orderTailsShift)
	if order>>3 != 0 || c == 1 && tails != 0 {
		r.unknown("order", int(order))
	}
	base := r.varint()
	if r.err != nil {
		return
	}
	if order&orderHeads != 0 {
		out[0] = base
		r.residuals(out, c, m-1, c)
		for i := c; i < len(out); i += c {
			base += unzigzag(uint64(out[i]))
			out[i] = base
		}
	} else {
		r.residuals(out, 0, m, c)
		for i := 0; i < len(out); i += c {
			out[i] += base
		}
	}
	if c == 1 {
		return
	}
	var step int64
	switch tails {
	case tailsOffsets:
		base = r.varint()
	case tailsLine:
		step, base = r.varint(), r.varint()
	}
	if r.err != nil {
		return
	}
	r.tails(out, m, c)
	if r.err != nil {
		return
	}
	for row := 0; row < len(out); row += c {
		prev, line := out[row], out[row+1:row+c]
		switch tails {
		case tailsLine:
			prev += base
			for i := range line {
				prev += step
				line[i] += prev
			}
		case tailsOffsets:
			for i := range line {
				line[i] += base
			}
		case tailsFirst:
			for i, u := range line {
				prev += unzigzag(uint64(u))
				line[i] = prev
			}
		default:
			var diff int64
			for i, u := range line {
				diff += unzigzag(uint64(u))
				prev += diff
				line[i] = prev
			}
		}
	}
}

// tails unpacks the residuals of all columns but the first.
func (r *reader) tails(out []int64, m, c int) {
	coding := r.u8()
	if r.err != nil || !r.coding(coding) {
		return
	}
	if coding == codingEntropy && !r.entropy(m*(c-1)) {
		return
	}
	br := bitReader{b: r.b[r.off:]}
	a := startAdaptive(uint(coding & 0x3f))
	for row := 0; row < m*c; row += c {
		if coding == codingEntropy {
			r.coder.fill(&br, row/c*(c-1), out[row+1:row+c], 1)
		} else {
			unpack(&br, &a, coding, out[row+1:row+c], 1)
		}
		if br.bad {
			r.fail("packed integers end too early")
			return
		}
	}
	r.off += br.consumed()
}

// residuals unpacks n residuals to out[from], out[from+step] and so on.
func (r *reader) residuals(out []int64, from, n, step int) {
	coding := r.u8()
	if r.err != nil || !r.coding(coding) || n == 0 {
		return
	}
	if coding == codingEntropy && !r.entropy(n) {
		return
	}
	br := bitReader{b: r.b[r.off:]}
	if line := out[from : from+(n-1)*step+1]; coding == codingEntropy {
		r.coder.fill(&br, 0, line, step)
	} else {
		a := startAdaptive(uint(coding & 0x3f))
		unpack(&br, &a, coding, line, step)
	}
	if br.bad {
		r.fail("packed integers end too early")
		return
	}
	r.off += br.consumed()
}

func (r *reader) coding(c byte) bool {
	if c > codingEntropy && c < codingRice || c >= codingRice && c&0x3f > maxRice {
		r.unknown("coding", int(c))
		return false
	}
	return true
}

// unpack fills every step'th of out. It may go on with zeros after br went bad.
func unpack(br *bitReader, a *adaptive, coding byte, out []int64, step int) {
	switch {
	case coding >= codingAdaptive:
		for i := 0; i < len(out); i += step {
			u := br.getRice(a.k())
			a.saw(u)
			out[i] = int64(u)
		}
	case coding >= codingRice:
		k := uint(coding - codingRice)
		for i := 0; i < len(out); i += step {
			out[i] = int64(br.getRice(k))
		}
	default:
		width := uint(coding)
		if width > 32 {
			for i := 0; i < len(out); i += step {
				out[i] = int64(br.get(width))
			}
			return
		}
		mask := uint64(1)<<width - 1
		for i := 0; i < len(out); i += step {
			if br.n < width {
				br.refill()
			}
			out[i] = int64(br.acc & mask)
			br.skip(width)
		}
	}
}
