package wire

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// randomRun makes consecutive frames of anything that may be joined: late readings,
// readings ahead of the watermark, empty frames, marks, texts.
func randomRun(rng *rand.Rand) []*Frame {
	n := 2 + rng.IntN(1<<rng.IntN(8))
	pool := randomFrame(rng)
	h := Header{Epoch: pool.Epoch, Seq: pool.Seq, Prev: pool.Prev, Era: pool.Era, Schema: Hash{3}, Estimated: rng.IntN(4) == 0}
	if rng.IntN(3) == 0 {
		h.Boot[3] = 7
	}
	w := int64(0)
	out := make([]*Frame, n)
	for i := range out {
		f := &Frame{Header: h}
		f.PrevW = w
		w += int64(rng.IntN(2)) * rng.Int64N(3000)
		f.W = w
		for range rng.IntN(4) / 3 {
			f.Marks = append(f.Marks, Mark{Kind: MarkStall, From: w - 50, To: w, Fixed: rng.IntN(2) == 0, Note: "asleep"})
		}
		out[i] = f
		h.Seq++
		h.Prev = Pos{}
	}
	for i, r := range pool.Readings {
		f := out[i*n/len(pool.Readings)]
		if rng.IntN(10) != 0 {
			r.Time = f.PrevW + rng.Int64N(f.W-f.PrevW+1)
		}
		f.Readings = append(f.Readings, r)
	}
	return out
}

// joinAll puts encoded frames into a run.
func joinAll(t testing.TB, dec *Decoder, j *Joined, payloads [][]byte) {
	t.Helper()
	j.Reset()
	for _, p := range payloads {
		if err := dec.AppendFrame(p, j); err != nil {
			t.Fatal(err)
		}
	}
}

func encodeAll(t testing.TB, enc *Encoder, frames []*Frame) (out [][]byte) {
	t.Helper()
	for _, f := range frames {
		p, err := enc.Encode(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// sameAsSingle fails unless the run is what the payloads decode to one by one.
func sameAsSingle(t *testing.T, j *Joined, payloads [][]byte) {
	t.Helper()
	if len(j.Headers) != len(payloads) {
		t.Fatalf("%d frames, want %d", len(j.Headers), len(payloads))
	}
	i, dec := 0, NewDecoder()
	j.Frames(func(got *Frame) bool {
		var want Frame
		if err := dec.DecodeFrame(payloads[i], &want); err != nil {
			t.Fatal(err)
		}
		if !sameHeader(got.Header, want.Header) || got.Sum != want.Sum || got.Count != want.Count || got.Estimated != want.Estimated {
			t.Fatalf("frame %d\n got %+v\nwant %+v", i, got.Header, want.Header)
		}
		if !sameReadings(got.Readings, want.Readings) {
			t.Fatalf("frame %d: readings differ\n got %v\nwant %v", i, canonical(got.Readings), canonical(want.Readings))
		}
		seen := map[uint32]bool{}
		for k, r := range got.Readings {
			if k > 0 && got.Readings[k-1].Series == r.Series {
				if got.Readings[k-1].Time > r.Time {
					t.Fatalf("frame %d: series %d goes back in time", i, r.Series)
				}
				continue
			}
			if seen[r.Series] {
				t.Fatalf("frame %d: the readings of series %d do not stand together", i, r.Series)
			}
			seen[r.Series] = true
		}
		i++
		return true
	})
}

func TestJoinedFramesAreTheFramesThatWereJoined(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	plain, hinted, dec := NewEncoder(nil), NewEncoder(randomSchema(rng)), NewDecoder()
	var j, got Joined
	for range 200 {
		for _, enc := range []*Encoder{plain, hinted} {
			payloads := encodeAll(t, enc, randomRun(rng))
			joinAll(t, dec, &j, payloads)
			p, err := enc.EncodeJoined(nil, &j)
			if err != nil {
				t.Fatal(err)
			}
			if err := PeekJoined(p, &got); err != nil {
				t.Fatal(err)
			}
			for i := range j.Headers {
				if !sameHeader(j.Headers[i], got.Headers[i]) || j.Headers[i].Sum != got.Headers[i].Sum {
					t.Fatalf("PeekJoined: frame %d\n got %+v\nwant %+v", i, got.Headers[i], j.Headers[i])
				}
			}
			if err := dec.DecodeJoined(p, &got); err != nil {
				t.Fatal(err)
			}
			sameAsSingle(t, &got, payloads)
		}
	}
}

func TestJoinedTracesTakeLessThanAByteASample(t *testing.T) {
	f := newFleet(t, false)
	enc, dec := NewEncoder(&f.schema), NewDecoder()
	payloads := encodeAll(t, enc, f.frames(60, 1))
	var j, got Joined
	joinAll(t, dec, &j, payloads)
	p, err := enc.EncodeJoined(nil, &j)
	if err != nil {
		t.Fatal(err)
	}
	if err := dec.DecodeJoined(p, &got); err != nil {
		t.Fatal(err)
	}
	sameAsSingle(t, &got, payloads)
	if n := len(p) + mqttOverhead("lac-duong-01", len(p)); n >= len(j.Readings) {
		t.Errorf("%d bytes for %d samples", n, len(j.Readings))
	}
}

func TestFramesThatDoNotBelongTogetherAreNotJoined(t *testing.T) {
	for name, change := range map[string]func(*Frame){
		"a number is missing":         func(f *Frame) { f.Seq++ },
		"another epoch":               func(f *Frame) { f.Epoch.Start++ },
		"another schema":              func(f *Frame) { f.Schema[0]++ },
		"another era":                 func(f *Frame) { f.Era++ },
		"a hole between watermarks":   func(f *Frame) { f.PrevW++ },
		"a watermark that goes back":  func(f *Frame) { f.W = f.PrevW - 1 },
		"another boot":                func(f *Frame) { f.Boot[0] = 1 },
		"guessed times beside others": func(f *Frame) { f.Estimated = true },
		"times not known yet":         func(f *Frame) { f.Untimed = true },
	} {
		t.Run(name, func(t *testing.T) {
			enc, dec := NewEncoder(nil), NewDecoder()
			a := &Frame{Header: testHeader(), Readings: []telemetry.Reading{{Time: 1500, Value: 1}}}
			b := &Frame{Header: testHeader()}
			b.Seq, b.PrevW, b.W = a.Seq+1, a.W, a.W+1000
			change(b)
			payloads := encodeAll(t, enc, []*Frame{a, b})
			var j Joined
			joinAll(t, dec, &j, payloads[:1])
			if err := dec.AppendFrame(payloads[1], &j); !errors.Is(err, ErrInvalid) {
				t.Errorf("AppendFrame: %v", err)
			}
			if len(j.Headers) != 1 || len(j.Readings) != 1 {
				t.Errorf("the run was changed: %+v", j)
			}
			j.Headers = append(j.Headers, b.Header)
			if _, err := enc.EncodeJoined(nil, &j); !errors.Is(err, ErrInvalid) {
				t.Errorf("EncodeJoined: %v", err)
			}
		})
	}
	var j Joined
	joinAll(t, NewDecoder(), &j, encodeAll(t, NewEncoder(nil), []*Frame{{Header: testHeader()}}))
	if _, err := NewEncoder(nil).EncodeJoined(nil, &j); !errors.Is(err, ErrInvalid) {
		t.Errorf("one frame alone: %v", err)
	}
}

func TestSteadyJoinedFramesAllocateNothing(t *testing.T) {
	f := newFleet(t, false)
	enc, dec := NewEncoder(&f.schema), NewDecoder()
	payloads := encodeAll(t, enc, f.frames(60, 1))
	var j, got Joined
	var dst []byte
	run := func() {
		var err error
		joinAll(t, dec, &j, payloads)
		if dst, err = enc.EncodeJoined(dst[:0], &j); err != nil {
			t.Fatal(err)
		}
		if err = dec.DecodeJoined(dst, &got); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		run()
	}
	if n := testing.AllocsPerRun(20, run); n > 70 {
		t.Errorf("%v allocations for 60 frames of 1,015 readings", n)
	}
}

func FuzzDecodeJoined(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	enc, dec := NewEncoder(nil), NewDecoder()
	for range 12 {
		var j Joined
		run := randomRun(rng)
		joinAll(f, dec, &j, encodeAll(f, enc, run[:min(len(run), 20)]))
		if len(j.Readings) > 500 {
			continue
		}
		p, err := enc.EncodeJoined(nil, &j)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		enc, dec := NewEncoder(nil), NewDecoder()
		var j, again Joined
		known(t, dec.DecodeJoined(payload, &j))
		payload = resealed(payload, KindJoined)
		known(t, PeekJoined(payload, &j))
		if !known(t, dec.DecodeJoined(payload, &j)) {
			return
		}
		p, err := enc.EncodeJoined(nil, &j)
		if err != nil {
			if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid) {
				return
			}
			t.Fatal(err)
		}
		if err := dec.DecodeJoined(p, &again); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(j.Headers, again.Headers, func(a, b Header) bool {
			return sameHeader(a, b) && a.Sum == b.Sum && a.Count == b.Count
		}) {
			t.Fatalf("round trip\n got %+v\nwant %+v", again.Headers, j.Headers)
		}
		i, frames := 0, []Frame{}
		again.Frames(func(fr *Frame) bool { frames = append(frames, *fr); return true })
		j.Frames(func(fr *Frame) bool {
			if !sameReadings(fr.Readings, frames[i].Readings) {
				t.Fatalf("frame %d\n got %v\nwant %v", i, frames[i].Readings, fr.Readings)
			}
			i++
			return true
		})
	})
}
