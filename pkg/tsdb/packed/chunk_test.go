package packed

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// series are what sensors and others say: all sorts of times and values.
var times = []struct {
	name string
	next func(r *rand.Rand, t int64, i int) int64
}{
	{"regular", func(_ *rand.Rand, t int64, _ int) int64 { return t + 1000 }},
	{"jitter", func(r *rand.Rand, _ int64, i int) int64 { return 1_700_000_000_000 + int64(i)*5000 + r.Int64N(9) }},
	{"drift", func(r *rand.Rand, t int64, _ int) int64 { return t + 1000 + r.Int64N(5) }},
	{"gaps", func(r *rand.Rand, t int64, _ int) int64 {
		if r.IntN(50) == 0 {
			t += 3_600_000 * r.Int64N(100)
		}
		return t + 10_000
	}},
	{"by exception", func(r *rand.Rand, t int64, _ int) int64 { return t + 5000*(1+r.Int64N(200)) }},
	{"wild", func(r *rand.Rand, t int64, _ int) int64 { return t + 1 + int64(1)<<r.IntN(40) }},
	{"the end of time", func(r *rand.Rand, _ int64, i int) int64 {
		return math.MinInt64 + int64(i)*(math.MaxInt64/40000)
	}},
}

var values = []struct {
	name string
	next func(r *rand.Rand, v float64, i int) float64
}{
	{"constant", func(*rand.Rand, float64, int) float64 { return 21.5 }},
	{"zero", func(*rand.Rand, float64, int) float64 { return 0 }},
	{"one decimal", func(r *rand.Rand, v float64, _ int) float64 { return math.Round(v*10+float64(r.IntN(7)-3)) / 10 }},
	{"any decimals", func(r *rand.Rand, _ float64, i int) float64 {
		return math.Round(r.Float64()*1e9) / math.Pow10(i/200%10)
	}},
	{"mixed decimals", func(r *rand.Rand, _ float64, _ int) float64 { return float64(r.IntN(1e6)) / math.Pow10(r.IntN(5)) }},
	{"counts times a factor", func(r *rand.Rand, _ float64, _ int) float64 { return float64(r.IntN(4096)*2053) / 1e4 }},
	{"counter", func(r *rand.Rand, v float64, _ int) float64 { return v + float64(410+r.IntN(9)) }},
	{"counter with resets", func(r *rand.Rand, v float64, _ int) float64 {
		if r.IntN(100) == 0 {
			return 0
		}
		return v + 1
	}},
	{"states", func(r *rand.Rand, v float64, _ int) float64 {
		if r.IntN(20) == 0 {
			return float64(r.IntN(4))
		}
		return v
	}},
	{"noise", func(r *rand.Rand, _ float64, _ int) float64 { return math.Round(r.NormFloat64()*40) / 4 }},
	{"huge", func(r *rand.Rand, _ float64, _ int) float64 { return float64(r.Int64()) * math.Pow10(r.IntN(200)) }},
	{"tiny", func(r *rand.Rand, _ float64, _ int) float64 { return r.Float64() * math.Pow10(-r.IntN(300)) }},
	{"fractions", func(r *rand.Rand, _ float64, _ int) float64 { return r.Float64() }},
	{"any bits", func(r *rand.Rand, _ float64, _ int) float64 { return math.Float64frombits(r.Uint64()) }},
	{"staleness", func(r *rand.Rand, v float64, _ int) float64 {
		switch r.IntN(30) {
		case 0:
			return math.Float64frombits(value.StaleNaN)
		case 1:
			return math.Float64frombits(value.NormalNaN)
		case 2:
			return math.Copysign(0, -1)
		case 3:
			return math.Inf(1 - 2*r.IntN(2))
		case 4:
			return math.Float64frombits(0x7ff8dead00000000 | uint64(r.Uint32()))
		}
		return float64(r.IntN(500)) / 10
	}},
	{"integers of 52 bits", func(r *rand.Rand, _ float64, _ int) float64 { return float64(r.Int64N(1<<54) - 1<<53) }},
	{"two far values", func(r *rand.Rand, _ float64, _ int) float64 { return float64(int64(r.IntN(2)) << 50) }},
}

func generate(seed uint64, ti, vi, n int) (t []int64, v []float64) {
	r := rand.New(rand.NewPCG(seed, uint64(ti*100+vi)))
	at, x := int64(1_700_000_000_000), 20.0
	for i := range n {
		at = times[ti].next(r, at, i)
		if x != x || math.IsInf(x, 0) {
			x = 20
		}
		x = values[vi].next(r, x, i)
		t, v = append(t, at), append(v, x)
	}
	return t, v
}

func each(t testing.TB, f func(name string, ti, vi int)) {
	t.Helper()
	for ti := range times {
		for vi := range values {
			f(times[ti].name+"/"+values[vi].name, ti, vi)
		}
	}
}

func TestEverySampleComesBackBitByBit(t *testing.T) {
	t.Parallel()
	var e Encoder
	var it chunkenc.Iterator
	each(t, func(name string, ti, vi int) {
		for seed, n := range []int{1, 2, 3, 127, 128, 129, 255, 256, 257, 960, 3000} {
			ts, vs := generate(uint64(seed), ti, vi, n)
			c := NewChunk(e.Encode(nil, ts, vs))
			if c.NumSamples() != n {
				t.Fatalf("%s: %d samples of %d", name, c.NumSamples(), n)
			}
			it = c.Iterator(it)
			for i := range ts {
				if it.Next() != chunkenc.ValFloat {
					t.Fatalf("%s: ends at %d of %d: %v", name, i, n, it.Err())
				}
				if at, v := it.At(); at != ts[i] || it.AtT() != ts[i] || math.Float64bits(v) != math.Float64bits(vs[i]) {
					t.Fatalf("%s: sample %d of %d is (%d, %x), was (%d, %x)", name, i, n, at, math.Float64bits(v), ts[i], math.Float64bits(vs[i]))
				}
			}
			if it.Next() != chunkenc.ValNone || it.Err() != nil {
				t.Fatalf("%s: goes on after its end: %v", name, it.Err())
			}
		}
	})
}

// A decimal of up to 15 digits, as people and devices write them, is one here.
func TestDecimalsAreTakenAsSuch(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		exponent := r.IntN(12)
		n := r.Int64N(int64(math.Pow10(1 + r.IntN(15))))
		v := float64(n) / math.Pow10(exponent)
		want := uint8(exponent)
		for ; want > 0 && n%10 == 0; want-- {
			n /= 10
		}
		for _, guess := range []uint8{0, want, 9} {
			if got := exponentOf(v, guess); got != want {
				t.Fatalf("%g is %d over 10^%d, got %d with %d guessed", v, n, want, got, guess)
			}
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.Pi, 1e300, 5e-324, 1 << 52} {
		if got := exponentOf(v, 0); got != noDecimal {
			t.Errorf("%g is a decimal, exponent %d", v, got)
		}
	}
}

// Seek answers as the chunk of the TSDB does, whatever comes before it.
func TestSeekAnswersAsThePlainChunk(t *testing.T) {
	t.Parallel()
	var e Encoder
	r := rand.New(rand.NewPCG(3, 4))
	for _, ti := range []int{0, 1, 3, 4, 5} {
		ts, vs := generate(7, ti, 2, 700)
		plain := chunkenc.NewXORChunk()
		app, err := plain.Appender()
		if err != nil {
			t.Fatal(err)
		}
		for i := range ts {
			app.Append(0, ts[i], vs[i])
		}
		own := NewChunk(e.Encode(nil, ts, vs))
		for range 300 {
			a, b := plain.Iterator(nil), own.Iterator(nil)
			for range 12 {
				var x, y chunkenc.ValueType
				if r.IntN(2) == 0 {
					x, y = a.Next(), b.Next()
				} else {
					at := ts[r.IntN(len(ts))] + r.Int64N(3) - 1
					if r.IntN(10) == 0 {
						at = ts[len(ts)-1] + 1
					}
					x, y = a.Seek(at), b.Seek(at)
				}
				if x != y {
					t.Fatalf("%v, the plain chunk says %v", y, x)
				}
				if x == chunkenc.ValNone {
					break
				}
				at, av := a.At()
				bt, bv := b.At()
				if at != bt || av != bv {
					t.Fatalf("(%d, %g), the plain chunk says (%d, %g)", bt, bv, at, av)
				}
			}
		}
	}
}

// drain reads all, and no more than there can be.
func drain(t testing.TB, b []byte) (ts []int64, vs []float64, err error) {
	it := NewChunk(b).Iterator(nil)
	for it.Next() != chunkenc.ValNone {
		at, v := it.At()
		ts, vs = append(ts, at), append(vs, v)
		if len(ts) > maxSamples {
			t.Fatal("it does not end")
		}
	}
	return ts, vs, it.Err()
}

func TestBrokenChunksAnswerWithAnError(t *testing.T) {
	t.Parallel()
	var e Encoder
	ts, vs := generate(1, 1, 14, 300)
	good := e.Encode(nil, ts, vs)
	for n := range good {
		if _, _, err := drain(t, good[:n]); err == nil {
			t.Errorf("%d of %d bytes are read without an error", n, len(good))
		}
	}
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"a later version", append([]byte{2}, good[1:]...)},
		{"too many samples", binary.AppendUvarint([]byte{version}, maxSamples+1)},
		{"a number without end", append([]byte{version}, slices.Repeat([]byte{0xff}, 20)...)},
		{"an exponent of 23", []byte{version, 1, 0, 0, 23, 0, 0}},
		{"an exception outside", []byte{version, 1, 0, 0, withExceptions, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"too many exceptions", []byte{version, 1, 0, 0, withExceptions, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"a run beyond its block", []byte{version, 3, modeRuns << 6, 0, 0, 0x01, 0, 0, 0, 0, 0, 0}},
	} {
		if _, _, err := drain(t, c.b); err == nil {
			t.Errorf("%s is read without an error", c.name)
		}
		if it := NewChunk(c.b).Iterator(nil); it.Seek(5) != chunkenc.ValNone && it.Err() != nil {
			t.Errorf("%s: a sample and an error", c.name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	var e Encoder
	for ti := range times {
		for _, vi := range []int{0, 2, 5, 6, 8, 13, 14} {
			ts, vs := generate(1, ti, vi, 140)
			f.Add(e.Encode(nil, ts, vs))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ts, vs, err := drain(t, b)
		if n := NewChunk(b).NumSamples(); err == nil && n != len(ts) {
			t.Fatalf("%d samples, said are %d", len(ts), n)
		}
		if len(ts) == 0 {
			return
		}
		// Whatever was read is written and read again.
		var e Encoder
		ts2, vs2, err := drain(t, e.Encode(nil, ts, vs))
		if err != nil || !slices.Equal(ts, ts2) || !slices.EqualFunc(vs, vs2, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
			t.Fatalf("comes back otherwise: %v", err)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ts []int64
		var vs []float64
		at := int64(0)
		for ; len(b) >= 10; b = b[10:] {
			at += int64(binary.LittleEndian.Uint16(b))
			v := math.Float64frombits(binary.LittleEndian.Uint64(b[2:]))
			if b[0]&1 == 0 {
				v = float64(int32(binary.LittleEndian.Uint32(b[2:]))) / math.Pow10(int(b[6]%10))
			}
			ts, vs = append(ts, at), append(vs, v)
		}
		if len(ts) == 0 {
			return
		}
		var e Encoder
		ts2, vs2, err := drain(t, e.Encode(nil, ts, vs))
		if err != nil || !slices.Equal(ts, ts2) || !slices.EqualFunc(vs, vs2, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
			t.Fatalf("comes back otherwise: %v", err)
		}
	})
}

// BenchmarkChunk encodes and decodes 960 samples as sensors give them, beside the
// chunks of the TSDB, eight of 120 samples; b.N counts samples.
func BenchmarkChunk(b *testing.B) {
	for _, c := range []struct{ ti, vi int }{{0, 2}, {1, 2}, {0, 8}, {0, 6}, {0, 12}} {
		const n = 960
		ts, vs := generate(1, c.ti, c.vi, n)
		var plain []chunkenc.Chunk
		var app chunkenc.Appender
		size := 0
		for i := range ts {
			if i%120 == 0 {
				x := chunkenc.NewXORChunk()
				app, _ = x.Appender()
				plain = append(plain, x)
			}
			app.Append(0, ts[i], vs[i])
		}
		for _, x := range plain {
			size += len(x.Bytes())
		}
		var e Encoder
		own := NewChunk(e.Encode(nil, ts, vs))
		read := func(b *testing.B, chunks []chunkenc.Chunk) {
			var it chunkenc.Iterator
			for i := 0; i < b.N; i += n {
				for _, x := range chunks {
					it = x.Iterator(it)
					for it.Next() != chunkenc.ValNone {
						it.At()
					}
				}
			}
		}
		name := fmt.Sprintf("%s %s", times[c.ti].name, values[c.vi].name)
		b.Run(name+"/decode packed", func(b *testing.B) {
			read(b, []chunkenc.Chunk{own})
			b.ReportMetric(float64(len(own.Bytes()))/n, "B/sample")
		})
		b.Run(name+"/decode XOR", func(b *testing.B) {
			read(b, plain)
			b.ReportMetric(float64(size)/n, "B/sample")
		})
		b.Run(name+"/encode packed", func(b *testing.B) {
			var buf []byte
			for i := 0; i < b.N; i += n {
				buf = e.Encode(buf[:0], ts, vs)
			}
		})
	}
}
