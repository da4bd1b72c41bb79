package wire

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// canonical sorts readings by series and time, as both sides of a round trip
// must agree once sorted.
func canonical(in []telemetry.Reading) []telemetry.Reading {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b telemetry.Reading) int {
		return cmp.Or(cmp.Compare(a.Series, b.Series), cmp.Compare(a.Time, b.Time))
	})
	return out
}

func sameReadings(a, b []telemetry.Reading) bool {
	return slices.EqualFunc(canonical(a), canonical(b), func(x, y telemetry.Reading) bool {
		return x.Series == y.Series && x.Quality == y.Quality && x.Time == y.Time && x.Text == y.Text &&
			math.Float64bits(x.Value) == math.Float64bits(y.Value)
	})
}

func sameHeader(a, b Header) bool {
	return a.Epoch == b.Epoch && a.Seq == b.Seq && a.Prev == b.Prev && a.Schema == b.Schema && a.Era == b.Era &&
		a.PrevW == b.PrevW && a.W == b.W && a.Untimed == b.Untimed && a.Boot == b.Boot && slices.Equal(a.Marks, b.Marks)
}

// checkRoundTrip encodes, peeks and decodes, and compares.
func checkRoundTrip(t *testing.T, enc *Encoder, dec *Decoder, f *Frame) []byte {
	t.Helper()
	p, err := enc.Encode(nil, f)
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	h, err := PeekFrame(p)
	if err != nil || !sameHeader(h, f.Header) || h.Count != len(f.Readings) {
		t.Fatalf("PeekFrame = %+v, %v; want %+v", h, err, f.Header)
	}
	var got Frame
	if err := dec.DecodeFrame(p, &got); err != nil {
		t.Fatalf("DecodeFrame: %v", err)
	}
	if !sameHeader(got.Header, f.Header) {
		t.Fatalf("header\n got %+v\nwant %+v", got.Header, f.Header)
	}
	if !sameReadings(got.Readings, f.Readings) {
		t.Fatalf("readings differ\n got %v\nwant %v", canonical(got.Readings), canonical(f.Readings))
	}
	for i := 1; i < len(got.Readings); i++ {
		if a, b := got.Readings[i-1], got.Readings[i]; a.Series == b.Series && a.Time > b.Time {
			t.Fatalf("series %d goes back in time", a.Series)
		}
	}
	return p
}

func testHeader() Header {
	return Header{
		Epoch: Epoch{Instance: Instance{1, 2, 3}, Start: 3, Random: 9}, Seq: 5,
		Schema: Hash{7}, PrevW: 1000, W: 2000,
	}
}

// generators yield values as sensors of many kinds do.
var generators = map[string]func(r *rand.Rand, i int) float64{
	"zero":          func(*rand.Rand, int) float64 { return 0 },
	"negative zero": func(*rand.Rand, int) float64 { return math.Copysign(0, -1) },
	"constant":      func(*rand.Rand, int) float64 { return 21.5 },
	"bool":          func(r *rand.Rand, _ int) float64 { return float64(r.IntN(2)) },
	"tenths":        func(r *rand.Rand, _ int) float64 { return float64(r.IntN(1000)) / 10 },
	"times tenth":   func(r *rand.Rand, _ int) float64 { return float64(r.IntN(1000)) * 0.1 },
	"single":        func(r *rand.Rand, _ int) float64 { return float64(float32(r.IntN(1000)) / 10) },
	"hundreds":      func(r *rand.Rand, _ int) float64 { return float64(r.IntN(1000)) * 100 },
	"mixed digits":  func(r *rand.Rand, i int) float64 { return float64(r.IntN(1000000)) / math.Pow10(i%5) },
	"counter":       func(r *rand.Rand, i int) float64 { return 1e9 + float64(i*17+r.IntN(3)) },
	"ramp":          func(_ *rand.Rand, i int) float64 { return float64(i) * 3 },
	"huge":          func(r *rand.Rand, _ int) float64 { return r.Float64() * 1e300 },
	"tiny":          func(r *rand.Rand, _ int) float64 { return r.Float64() * 1e-300 },
	"any bits":      func(r *rand.Rand, _ int) float64 { return math.Float64frombits(r.Uint64()) },
	"any single":    func(r *rand.Rand, _ int) float64 { return float64(math.Float32frombits(r.Uint32())) },
	"noise":         func(r *rand.Rand, _ int) float64 { return r.NormFloat64() },
	"runs":          func(_ *rand.Rand, i int) float64 { return float64(i/17) / 10 },
	"NaN payloads":  func(r *rand.Rand, _ int) float64 { return math.Float64frombits(0x7ff0000000000001 + r.Uint64N(5)) },
	"exceptions": func(r *rand.Rand, i int) float64 {
		if i%13 == 0 {
			return r.NormFloat64()
		}
		return float64(r.IntN(500)) / 10
	},
	"infinite": func(r *rand.Rand, i int) float64 {
		if i%9 == 0 {
			return math.Inf(i%2*2 - 1)
		}
		return float64(r.IntN(50))
	},
}

func TestFrameSurvivesWithEveryKindOfValueAndShape(t *testing.T) {
	enc, dec := NewEncoder(nil), NewDecoder()
	for name, gen := range generators {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			for _, shape := range []struct{ series, each int }{{1, 1}, {1, 2}, {2, 1}, {3, 3}, {1, 300}, {300, 1}, {40, 60}, {7, 9}} {
				f := &Frame{Header: testHeader()}
				for s := range shape.series {
					for i := range shape.each {
						f.Readings = append(f.Readings, telemetry.Reading{
							Series: uint32(s * 3), Time: int64(i)*1000 + rng.Int64N(3), Value: gen(rng, s*shape.each+i),
						})
					}
				}
				checkRoundTrip(t, enc, dec, f)
				rng.Shuffle(len(f.Readings), func(i, j int) { f.Readings[i], f.Readings[j] = f.Readings[j], f.Readings[i] })
				checkRoundTrip(t, enc, dec, f)
			}
		})
	}
}

// randomFrame makes a frame of anything that Encode allows.
func randomFrame(rng *rand.Rand) *Frame {
	f := &Frame{Header: Header{
		Epoch: Epoch{Start: rng.Uint32() | 1, Random: rng.Uint32()}, Seq: 1 + rng.Uint64N(5),
		Era: rng.Uint32(), PrevW: int64(rng.Uint64()), W: int64(rng.Uint64()), Untimed: rng.IntN(2) == 0,
	}}
	if f.Seq == 1 {
		f.Prev = Pos{Epoch{Start: rng.Uint32()}, rng.Uint64()}
	}
	if f.Untimed {
		f.Boot[rng.IntN(16)] = byte(rng.Uint32())
	}
	for range rng.IntN(3) {
		f.Marks = append(f.Marks, Mark{
			Kind: MarkKind(rng.IntN(128)), From: int64(rng.Uint64()), To: int64(rng.Uint64()), Fixed: rng.IntN(2) == 0, Note: "power cut",
		})
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range generators {
			if !yield(n) {
				return
			}
		}
	})
	for range rng.IntN(20) {
		gen := generators[names[rng.IntN(len(names))]]
		first, step, c := rng.IntN(1000), 1+rng.IntN(4), 1+rng.IntN(1<<rng.IntN(7))
		quality, text, jitter := rng.IntN(4), rng.IntN(6) == 0, rng.Int64N(20)+1
		at := int64(rng.IntN(5)) * 1000
		for m := range 1 + rng.IntN(1<<rng.IntN(6)) {
			for i := range c {
				r := telemetry.Reading{Series: uint32(first + m*step), Time: at + int64(i)*1000 + rng.Int64N(jitter), Value: gen(rng, m*c+i)}
				if quality == 0 && rng.IntN(3) == 0 {
					r.Quality = telemetry.Quality(rng.IntN(256))
				}
				if text {
					r.Value, r.Text = 0, []string{"", "open", "closed", "xe máy"}[rng.IntN(4)]
				}
				f.Readings = append(f.Readings, r)
			}
		}
		if rng.IntN(8) == 0 {
			f.Readings[len(f.Readings)-1].Time = int64(rng.Uint64())
		}
	}
	return f
}

func randomSchema(rng *rand.Rand) *telemetry.Schema {
	s := &telemetry.Schema{Devices: []telemetry.Device{{ID: "a"}, {ID: "b", Profile: "x/y"}}}
	for i := range 1200 {
		s.Series = append(s.Series, telemetry.Series{
			Device: uint32(rng.IntN(2)), Point: string(rune('a'+i%26)) + string(rune('0'+i/26%50)), Quantity: string(rune('a' + rng.IntN(8))),
		})
	}
	return s
}

func TestFrameOfAnythingAllowedSurvives(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	plain, hinted, dec := NewEncoder(nil), NewEncoder(randomSchema(rng)), NewDecoder()
	for range 300 {
		f := randomFrame(rng)
		checkRoundTrip(t, plain, dec, f)
		checkRoundTrip(t, hinted, dec, f)
	}
}

func TestFrameFromTracesSurvives(t *testing.T) {
	f := newFleet(t, false)
	enc, dec := NewEncoder(&f.schema), NewDecoder()
	for _, fr := range append(f.frames(20, 1), f.frames(1, 60)...) {
		p := checkRoundTrip(t, enc, dec, fr)
		if most := 2 * len(fr.Readings); len(p)+mqttOverhead("lac-duong-01", len(p)) > most {
			t.Errorf("%d bytes for %d samples, want at most %d", len(p), len(fr.Readings), most)
		}
	}
}

func TestRetimeMovesEveryTimeButFixedOnes(t *testing.T) {
	f := &Frame{Header: testHeader()}
	f.Untimed, f.Boot = true, [16]byte{4}
	f.Marks = []Mark{{Kind: MarkStart, From: 1_700_000_000_000, To: 900, Fixed: true}, {Kind: MarkStall, From: 1100, To: 1200}}
	for i := range 20 {
		f.Readings = append(f.Readings, telemetry.Reading{Series: uint32(i % 3), Time: int64(i * 100), Value: float64(i)})
	}
	p, err := NewEncoder(nil).Encode(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	before, err := PeekFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	const offset = 1_760_000_000_123
	if err := Retime(p, offset, false); err != nil {
		t.Fatal(err)
	}
	want := *f
	want.Untimed = false
	want.W, want.PrevW = f.W+offset, f.PrevW+offset
	want.Marks = []Mark{{Kind: MarkStart, From: 1_700_000_000_000, To: 900 + offset, Fixed: true}, {Kind: MarkStall, From: 1100 + offset, To: 1200 + offset}}
	want.Readings = slices.Clone(f.Readings)
	for i := range want.Readings {
		want.Readings[i].Time += offset
	}
	var got Frame
	if err := NewDecoder().DecodeFrame(p, &got); err != nil {
		t.Fatal(err)
	}
	if !sameHeader(got.Header, want.Header) || !sameReadings(got.Readings, want.Readings) {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}
	if got.Sum != before.Sum {
		t.Errorf("Sum changed from %08x to %08x", before.Sum, got.Sum)
	}
	if err := Retime(p, 1, true); !errors.Is(err, ErrInvalid) {
		t.Errorf("second Retime: %v, want ErrInvalid", err)
	}
}

func TestEncodeRefusesWhatDoesNotFit(t *testing.T) {
	enc := NewEncoder(nil)
	noise := func(n int) []telemetry.Reading {
		rng := rand.New(rand.NewPCG(3, 3))
		out := make([]telemetry.Reading, n)
		for i := range out {
			out[i] = telemetry.Reading{Series: uint32(i % 1000), Time: int64(i), Value: rng.NormFloat64()}
		}
		return out
	}
	for name, c := range map[string]struct {
		change func(f *Frame)
		want   error
	}{
		"more bytes than MaxFrame":       {func(f *Frame) { f.Readings = noise(60_000) }, ErrTooLarge},
		"more readings than MaxReadings": {func(f *Frame) { f.Readings = make([]telemetry.Reading, MaxReadings+1) }, ErrTooLarge},
		"too many marks":                 {func(f *Frame) { f.Marks = make([]Mark, MaxMarks+1) }, ErrTooLarge},
		"no number":                      {func(f *Frame) { f.Seq = 0 }, ErrInvalid},
		"no epoch":                       {func(f *Frame) { f.Epoch = Epoch{} }, ErrInvalid},
		"prev in a later frame":          {func(f *Frame) { f.Prev = f.Pos() }, ErrInvalid},
		"series index":                   {func(f *Frame) { f.Readings = []telemetry.Reading{{Series: telemetry.MaxSeries}} }, ErrInvalid},
		"long text":                      {func(f *Frame) { f.Readings = []telemetry.Reading{{Text: string(make([]byte, 1025))}} }, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Frame{Header: testHeader()}
			c.change(f)
			got, err := enc.Encode([]byte("before"), f)
			if !errors.Is(err, c.want) || string(got) != "before" {
				t.Errorf("Encode = %q, %v; want %v and dst unchanged", got, err, c.want)
			}
		})
	}
}
