package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// resealed returns payload with a checksum that holds, so that fuzzing gets
// past it.
func resealed(payload []byte, k Kind) []byte {
	p := bytes.Clone(payload)
	if len(p) < envelopeSize {
		return p
	}
	p[0], p[1], p[2], p[3] = 'L', 'B', Version, byte(k)
	binary.LittleEndian.PutUint32(p[4:], checksum(p))
	return p
}

// known fails the test on an error that is neither corruption nor a version.
func known(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
		t.Fatalf("unexpected kind of error: %v", err)
	}
	return err == nil
}

func FuzzDecodeFrame(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	enc := NewEncoder(nil)
	for range 12 {
		fr := randomFrame(rng)
		if len(fr.Readings) > 200 {
			fr.Readings = fr.Readings[:200]
		}
		p, err := enc.Encode(nil, fr)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		enc, dec := NewEncoder(nil), NewDecoder()
		var fr, again Frame
		known(t, dec.DecodeFrame(payload, &fr))
		payload = resealed(payload, KindFrame)
		_, peekErr := PeekFrame(payload)
		known(t, peekErr)
		if !known(t, dec.DecodeFrame(payload, &fr)) {
			return
		}
		if peekErr != nil {
			t.Fatalf("PeekFrame: %v on a frame that decodes", peekErr)
		}
		p, err := enc.Encode(nil, &fr)
		if err != nil {
			if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid) {
				return
			}
			t.Fatal(err)
		}
		if err := dec.DecodeFrame(p, &again); err != nil {
			t.Fatal(err)
		}
		if !sameHeader(fr.Header, again.Header) || !sameReadings(fr.Readings, again.Readings) {
			t.Fatalf("round trip\n got %+v\nwant %+v", again, fr)
		}
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	p, err := NewEncoder(nil).EncodeSnapshot(nil, &Snapshot{
		Epoch: Epoch{Start: 1}, Seq: 4, Counter: 2, At: 5000, Readings: []telemetry.Reading{{Series: 1, Time: 4900, Value: 2}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var s, again Snapshot
		dec := NewDecoder()
		if !known(t, dec.DecodeSnapshot(resealed(payload, KindSnapshot), &s)) {
			return
		}
		p, err := NewEncoder(nil).EncodeSnapshot(nil, &s)
		if err != nil {
			return
		}
		if err := dec.DecodeSnapshot(p, &again); err != nil {
			t.Fatal(err)
		}
		if s.Epoch != again.Epoch || s.Seq != again.Seq || s.Counter != again.Counter || s.Schema != again.Schema ||
			s.At != again.At || !sameReadings(s.Readings, again.Readings) {
			t.Fatalf("round trip\n got %+v\nwant %+v", again, s)
		}
	})
}

func testSchema() *telemetry.Schema {
	labels := telemetry.Labels{{Name: "spot", Value: "chợ"}}
	return &telemetry.Schema{
		Devices: []telemetry.Device{
			{ID: "air-01", Profile: "renke/cwt-uwd", Revision: "2", Connection: "cabinet", Address: "unit 1"},
			{ID: "gate-cam", Profile: "frigate/camera", Connection: "local", Address: "gate"},
		},
		Series: []telemetry.Series{
			{Device: 0, Point: "temp", Quantity: "air_temperature", Unit: "Cel", Labels: labels, Interval: 1000, Silence: 60_000},
			{Device: 0, Point: "humidity", Quantity: "relative_humidity", Unit: "%", Labels: labels, Interval: 1000},
			{Device: 1, Point: "state", Quantity: "camera_state", Kind: telemetry.KindText, MaxLag: 5000},
		},
	}
}

func FuzzDecodeSchema(f *testing.F) {
	p, _, err := EncodeSchema(nil, testSchema())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	replaced := testSchema()
	replaced.Devices[0].Hardware = []telemetry.Hardware{{Serial: "SN-2", Note: "new", Since: 1_790_000_000_000}}
	if p, _, err = EncodeSchema(nil, replaced); err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	plain, err := plainSchema(testSchema())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, payload []byte) {
		_, _, err := DecodeSchema(resealed(payload, KindSchema))
		known(t, err)
		// The same bytes as the plain part, which the compression would hide.
		in := schemaReader{reader: reader{b: payload, kind: KindSchema}}
		s := in.schema()
		if in.end() != nil || checkSchema(s) != nil {
			return
		}
		p, hash, err := EncodeSchema(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		again, hash2, err := DecodeSchema(p)
		if err != nil || hash != hash2 {
			t.Fatalf("DecodeSchema: %v, hash %v, want %v", err, hash2, hash)
		}
		if d := cmp.Diff(s, again); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzDecodeControl(f *testing.F) {
	for _, a := range testAcks() {
		p, err := EncodeAck(nil, &a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	p, err := EncodeGap(nil, &Gap{Pos{Epoch{Start: 1}, 7}, Pos{Epoch{Start: 2}, 3}, "evicted"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var a, a2 Ack
		if known(t, DecodeAck(resealed(payload, KindAck), &a)) {
			p, err := EncodeAck(nil, &a)
			if err != nil {
				t.Fatal(err)
			}
			if err := DecodeAck(p, &a2); err != nil || a != a2 {
				t.Fatalf("round trip: %v\n got %+v\nwant %+v", err, a2, a)
			}
		}
		var g, g2 Gap
		if known(t, DecodeGap(resealed(payload, KindGap), &g)) {
			p, err := EncodeGap(nil, &g)
			if err != nil {
				t.Fatal(err)
			}
			if err := DecodeGap(p, &g2); err != nil || g != g2 {
				t.Fatalf("round trip: %v\n got %+v\nwant %+v", err, g2, g)
			}
		}
		var h Hello
		known(t, DecodeHello(payload, &h))
		var s State
		known(t, DecodeState(payload, &s))
	})
}

func testAcks() []Ack {
	e1, e2 := Epoch{Instance{1}, 2, 3}, Epoch{Instance{1}, 4, 5}
	return []Ack{
		{},
		{Status: StatusHole, Instance: Instance{9}, Got: Pos{e2, 300}, Safe: Pos{e1, 7}, Credit: 1 << 20, HubTime: 1_760_000_000_000},
		{Got: Pos{e2, 300}, Safe: Pos{e2, 200}, Nonce: math.MaxUint64, Need: Hash{3}},
		{Status: StatusRefused, Credit: math.MaxUint32, Reason: "không rõ"},
	}
}
