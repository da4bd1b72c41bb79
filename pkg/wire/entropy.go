package wire

import (
	"errors"
	"math"
	"math/bits"

	"github.com/klauspost/compress/fse"
)

// Entropy coding of residuals: each becomes a symbol, which stands for itself or
// for the length of a larger number, whose other bits follow as they are. The
// symbols are packed by a finite state entropy coder, which knows no order but
// learns how often each comes. It pays for the long columns of joined frames.
const (
	codingEntropy = 65
	entropyFrom   = 256 // residuals that it is tried for
	plainSymbols  = 192 // residuals below are symbols; from here on a symbol is a length
	shortest      = 8   // length in bits of plainSymbols
)

func symbolOf(u uint64) byte {
	if u < plainSymbols {
		return byte(u)
	}
	return byte(plainSymbols + bits.Len64(u) - shortest)
}

// entropyCoder keeps the scratch memory of the coder, for one direction.
type entropyCoder struct {
	fse     fse.Scratch
	symbols []byte
}

// cost estimates what the residuals take, in bits.
func (e *entropyCoder) cost(res []uint64) uint64 {
	var histogram [256]uint32
	e.symbols = grow(e.symbols, len(res))
	extra := 0
	for i, u := range res {
		s := symbolOf(u)
		histogram[s]++
		e.symbols[i] = s
		if s >= plainSymbols {
			extra += int(s) - plainSymbols + shortest - 1
		}
	}
	n, sum, distinct := float64(len(res)), 0.0, 0
	for _, h := range histogram {
		if h > 0 {
			sum -= float64(h) * math.Log2(float64(h)/n)
			distinct++
		}
	}
	if distinct < 2 {
		return math.MaxUint64
	}
	return uint64(sum) + uint64(extra) + uint64(6*distinct) + 32
}

// append packs the residuals that cost was asked for. It reports false when the
// coder does not want them.
func (e *entropyCoder) append(dst []byte, res []uint64) ([]byte, bool) {
	e.fse.MaxSymbolValue, e.fse.TableLog = 255, 0
	packed, err := fse.Compress(e.symbols, &e.fse)
	if err != nil {
		return dst, false // incompressible, or one symbol alone
	}
	dst = appendUvarint(append(dst, codingEntropy), uint64(len(packed)))
	dst = append(dst, packed...)
	w := bitWriter{buf: dst}
	for i, s := range e.symbols {
		if s >= plainSymbols {
			k := uint(s) - plainSymbols + shortest - 1
			w.put(res[i]&(1<<k-1), k)
		}
	}
	return w.finish(), true
}

var errSymbols = errors.New("not as many symbols as there are residuals")

// unpack decodes n symbols.
func (e *entropyCoder) unpack(packed []byte, n int) error {
	e.fse.DecompressLimit = n
	got, err := fse.Decompress(packed, &e.fse)
	if err != nil {
		return err
	}
	if len(got) != n {
		return errSymbols
	}
	e.symbols = got
	return nil
}

// entropy unpacks n symbols; the bits that belong to them come next.
func (r *reader) entropy(n int) bool {
	if r.coder == nil {
		r.coder = &entropyCoder{}
	}
	packed := r.bytes(r.count(r.left(), "packed symbols"))
	if r.err != nil {
		return false
	}
	if err := r.coder.unpack(packed, n); err != nil {
		r.fail("packed symbols are damaged")
		return false
	}
	return true
}

// fill turns the symbols from the given one on into residuals, every step'th of out.
func (e *entropyCoder) fill(br *bitReader, from int, out []int64, step int) {
	symbols := e.symbols[from:]
	for i, k := 0, 0; i < len(out); i, k = i+step, k+1 {
		s := symbols[k]
		if s < plainSymbols {
			out[i] = int64(s)
			continue
		}
		n := min(uint(s)-plainSymbols+shortest-1, 63)
		out[i] = int64(uint64(1)<<n | br.get(n))
	}
}
