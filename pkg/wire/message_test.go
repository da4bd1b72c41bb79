package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestAckAndGapSurvive(t *testing.T) {
	for _, want := range testAcks() {
		p, err := EncodeAck(nil, &want)
		if err != nil {
			t.Fatal(err)
		}
		var got Ack
		if err := DecodeAck(p, &got); err != nil || got != want {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	want := Gap{Pos{}, Pos{Epoch{Instance{2}, 3, 4}, 17}, strings.Repeat("é", 200)}
	p, err := EncodeGap(nil, &want)
	if err != nil {
		t.Fatal(err)
	}
	want.Reason = strings.Repeat("é", 128)
	var got Gap
	if err := DecodeGap(p, &got); err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if taken := got.Taken(); taken != (Pos{want.Next.Epoch, 16}) {
		t.Errorf("Taken() = %v", taken)
	}
	if _, err := EncodeGap(nil, &Gap{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("gap without a next frame: %v", err)
	}
}

func TestDocumentsSurvive(t *testing.T) {
	hello := Hello{
		V: Version, Instance: Instance{1, 2}, Epoch: Epoch{Instance{1, 2}, 3, 4}, Newest: Pos{Epoch{Instance{1, 2}, 3, 4}, 9},
		Site: "24848", Version: "0.1.0", Nonce: math.MaxUint64, Clock: Clock{Now: 5, Trusted: true, Source: "hub"}, Series: 3,
	}
	p, err := EncodeHello(&hello)
	if err != nil {
		t.Fatal(err)
	}
	var got Hello
	if err := DecodeHello(p, &got); err != nil || got != hello {
		t.Errorf("got %+v, %v\nwant %+v", got, err, hello)
	}
	state := State{V: Version, Epoch: hello.Epoch, Online: true, At: 12}
	if p, err = EncodeState(&state); err != nil {
		t.Fatal(err)
	}
	var s State
	if err := DecodeState(p, &s); err != nil || s != state {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := DecodeState([]byte(`{"v":2}`), &s); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v, want ErrVersion", err)
	}
	for _, bad := range []string{"", "null", "[]", `{"v":"1"}`, `{"v":1,"epoch":"xyz"}`, strings.Repeat(" ", MaxJSON+1)} {
		if err := DecodeState([]byte(bad), &s); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Errorf("DecodeState(%.20q) = %v", bad, err)
		}
	}
}

func TestSchemaSurvivesAndKeepsItsHash(t *testing.T) {
	want := testSchema()
	p, hash, err := EncodeSchema(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	got, hash2, err := DecodeSchema(p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	hash3, err := SchemaHash(want)
	if err != nil || hash != hash2 || hash != hash3 {
		t.Errorf("hashes %v, %v, %v, %v", hash, hash2, hash3, err)
	}
	want.Series[0].Labels = telemetry.Labels{{Name: "spot", Value: "square"}}
	if other, err := SchemaHash(want); err != nil || other == hash {
		t.Errorf("another schema has hash %v, %v", other, err)
	}
	// The hash is published: it must never change for the same schema.
	if got, want := hash.String(), goldenSchemaHash; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

const goldenSchemaHash = "7743fca1ab33cd55cba4f49e4c9eb9de"

func TestHardwareTravelsAndIsNothingWhereThereIsNone(t *testing.T) {
	s := testSchema()
	plain, err := SchemaHash(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Devices[1].Hardware = []telemetry.Hardware{{Serial: "SN-1"}, {Serial: "SN-2", Note: "lightning, thay mới", Since: 1_790_000_000_000}}
	p, hash, err := EncodeSchema(nil, s)
	if err != nil {
		t.Fatal(err)
	}
	got, again, err := DecodeSchema(p)
	if err != nil || again != hash || hash == plain {
		t.Fatalf("%v: hash %v, %v, without hardware %v", err, again, hash, plain)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Error(diff)
	}
	s.Devices[1].Hardware = []telemetry.Hardware{}
	if hash, err := SchemaHash(s); err != nil || hash != plain {
		t.Errorf("a schema without hardware has another hash: %v, %v", hash, err)
	}
}

func TestLargeSchemaFitsAMessage(t *testing.T) {
	s := &telemetry.Schema{}
	for d := range 2000 {
		s.Devices = append(s.Devices, telemetry.Device{ID: fmt.Sprintf("dev-%04d", d), Profile: "a/b", Connection: "bus", Address: fmt.Sprintf("unit %d", d)})
		for p := range 10 {
			s.Series = append(s.Series, telemetry.Series{Device: uint32(d), Point: fmt.Sprintf("p%d", p), Quantity: "x", Interval: 1000})
		}
	}
	p, _, err := EncodeSchema(nil, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d series in %d bytes", len(s.Series), len(p))
	if _, _, err := DecodeSchema(p); err != nil {
		t.Fatal(err)
	}
}

func TestSchemaThatBreaksALimitIsRefusedOnBothSides(t *testing.T) {
	for name, change := range map[string]func(*telemetry.Schema){
		"no device":            func(s *telemetry.Schema) { s.Series[0].Device = 9 },
		"device twice":         func(s *telemetry.Schema) { s.Devices[1].ID = "air-01" },
		"device without id":    func(s *telemetry.Schema) { s.Devices[1].ID = "" },
		"point twice":          func(s *telemetry.Schema) { s.Series[1].Point = "temp" },
		"no quantity":          func(s *telemetry.Schema) { s.Series[1].Quantity = "" },
		"not UTF-8":            func(s *telemetry.Schema) { s.Series[1].Unit = "\xff" },
		"long point":           func(s *telemetry.Schema) { s.Series[1].Point = strings.Repeat("x", 129) },
		"long id":              func(s *telemetry.Schema) { s.Devices[0].ID = strings.Repeat("x", 129) },
		"long value":           func(s *telemetry.Schema) { s.Devices[0].Address = strings.Repeat("x", 257) },
		"negative interval":    func(s *telemetry.Schema) { s.Series[1].Interval = -1 },
		"unknown kind":         func(s *telemetry.Schema) { s.Series[1].Kind = 7 },
		"the hub's label":      func(s *telemetry.Schema) { s.Series[1].Labels = telemetry.Labels{{Name: "edge", Value: "x"}} },
		"reserved label":       func(s *telemetry.Schema) { s.Series[1].Labels = telemetry.Labels{{Name: "__x", Value: "x"}} },
		"labels not in order":  func(s *telemetry.Schema) { s.Series[1].Labels = telemetry.Labels{{Name: "b"}, {Name: "a"}} },
		"more labels than fit": func(s *telemetry.Schema) { s.Series[1].Labels = make(telemetry.Labels, 17) },
		"more hardware than fits": func(s *telemetry.Schema) {
			s.Devices[1].Hardware = make([]telemetry.Hardware, telemetry.MaxHardware+1)
		},
		"long serial": func(s *telemetry.Schema) {
			s.Devices[1].Hardware = []telemetry.Hardware{{Serial: strings.Repeat("x", 129)}}
		},
		"more devices than fit": func(s *telemetry.Schema) { s.Devices = make([]telemetry.Device, telemetry.MaxDevices+1) },
	} {
		t.Run(name, func(t *testing.T) {
			s := testSchema()
			change(s)
			if _, _, err := EncodeSchema(nil, s); !errors.Is(err, ErrInvalid) {
				t.Errorf("EncodeSchema: %v, want ErrInvalid", err)
			}
		})
	}
}

func TestVersionIsToldApartFromCorruption(t *testing.T) {
	frame, err := NewEncoder(nil).Encode(nil, &Frame{Header: testHeader(), Readings: []telemetry.Reading{{Value: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	renew := func(p []byte) { binary.LittleEndian.PutUint32(p[4:], checksum(p)) }
	for name, c := range map[string]struct {
		change func(p []byte) []byte
		want   error
	}{
		"newer version":         {func(p []byte) []byte { p[2] = 2; renew(p); return p }, ErrVersion},
		"a later kind":          {func(p []byte) []byte { p[3] = 99; renew(p); return p }, ErrVersion},
		"unknown flag":          {func(p []byte) []byte { p[envelopeSize+frameFlags] |= 0x80; renew(p); return p }, ErrVersion},
		"version bit flipped":   {func(p []byte) []byte { p[2] ^= 4; return p }, ErrCorrupt},
		"flipped bit":           {func(p []byte) []byte { p[30] ^= 1; return p }, ErrCorrupt},
		"cut":                   {func(p []byte) []byte { return p[:len(p)-1] }, ErrCorrupt},
		"cut, checksum renewed": {func(p []byte) []byte { p = p[:len(p)-1]; renew(p); return p }, ErrCorrupt},
		"a byte too many":       {func(p []byte) []byte { p = append(p, 0); renew(p); return p }, ErrCorrupt},
		"empty":                 {func([]byte) []byte { return nil }, ErrCorrupt},
		"other magic":           {func(p []byte) []byte { p[0] = 'X'; return p }, ErrCorrupt},
		"another kind":          {func(p []byte) []byte { p[3] = byte(KindAck); renew(p); return p }, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			var f Frame
			err := NewDecoder().DecodeFrame(c.change(append([]byte(nil), frame...)), &f)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	p, err := NewEncoder(nil).Encode(nil, &Frame{Header: testHeader(), Readings: []telemetry.Reading{{Value: 1}, {Series: 2, Value: 2.5}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(p) * 8 {
		p[i/8] ^= 1 << (i % 8)
		if _, err := PeekFrame(p); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d: %v", i, err)
		}
		p[i/8] ^= 1 << (i % 8)
	}
}

func TestZipBombIsRefusedWithoutTheMemory(t *testing.T) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = z.Close() }()
	bomb := z.EncodeAll(make([]byte, 512<<20), nil)
	build := func(declared uint64) []byte {
		p := begin(nil, KindFrame)
		p = append(p, make([]byte, frameFixed)...)
		p[envelopeSize] = 1
		p[envelopeSize+frameFlags] = flagPacked
		p = append(p, 1, 0, 0, 0) // seq, era, W, PrevW
		p = appendUvarint(p, 1000)
		p = appendUvarint(p, declared)
		p, err := seal(append(p, bomb...), 0)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, declared := range []uint64{1, 1000, MaxBlock, MaxBlock + 1, 512 << 20, math.MaxUint64} {
		var f Frame
		if err := NewDecoder().DecodeFrame(build(declared), &f); !errors.Is(err, ErrCorrupt) {
			t.Errorf("declared %d: %v, want ErrCorrupt", declared, err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
		t.Errorf("allocated %d MiB", got>>20)
	}
}

func TestSteadyFramesAllocateNothing(t *testing.T) {
	f := newFleet(t, true)
	frames := f.frames(20, 1)
	enc, dec := NewEncoder(&f.schema), NewDecoder()
	var dst []byte
	var out Frame
	i := 0
	run := func() {
		var err error
		if dst, err = enc.Encode(dst[:0], frames[i%len(frames)]); err != nil {
			t.Fatal(err)
		}
		if err = dec.DecodeFrame(dst, &out); err != nil {
			t.Fatal(err)
		}
		i++
	}
	for range 40 {
		run()
	}
	if n := testing.AllocsPerRun(100, run); n > 2 {
		t.Errorf("%v allocations per frame", n)
	}
}

func TestFollows(t *testing.T) {
	inst, other := Instance{1}, Instance{2}
	e := func(n uint32) Epoch { return Epoch{inst, n, n * 10} }
	for _, c := range []struct {
		name string
		h    Header
		at   Pos
		want bool
	}{
		{"next number", Header{Epoch: e(3), Seq: 5}, Pos{e(3), 4}, true},
		{"same number", Header{Epoch: e(3), Seq: 5}, Pos{e(3), 5}, false},
		{"one missing", Header{Epoch: e(3), Seq: 5}, Pos{e(3), 3}, false},
		{"after a gap to the epoch's start", Header{Epoch: e(3), Seq: 1, Prev: Pos{e(2), 9}}, Pos{e(3), 0}, true},
		{"very first", Header{Epoch: e(1), Seq: 1}, Pos{}, true},
		{"not the first", Header{Epoch: e(1), Seq: 2}, Pos{}, false},
		{"first, hub new", Header{Epoch: e(2), Seq: 1, Prev: Pos{e(1), 9}}, Pos{}, false},
		{"epoch goes on", Header{Epoch: e(2), Seq: 1, Prev: Pos{e(1), 9}}, Pos{e(1), 9}, true},
		{"hub has a lost tail", Header{Epoch: e(2), Seq: 1, Prev: Pos{e(1), 9}}, Pos{e(1), 12}, true},
		{"hub has a lost epoch", Header{Epoch: e(3), Seq: 1, Prev: Pos{e(1), 9}}, Pos{e(2), 4}, true},
		{"hub behind", Header{Epoch: e(2), Seq: 1, Prev: Pos{e(1), 9}}, Pos{e(1), 8}, false},
		{"another instance", Header{Epoch: Epoch{other, 2, 1}, Seq: 1}, Pos{e(1), 8}, false},
		{"fork", Header{Epoch: e(2), Seq: 1, Prev: Pos{e(1), 9}}, Pos{Epoch{inst, 2, 99}, 3}, false},
		{"from the future", Header{Epoch: e(2), Seq: 1, Prev: Pos{e(1), 9}}, Pos{e(3), 3}, false},
	} {
		if got := c.h.Follows(c.at); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestTopics(t *testing.T) {
	for _, c := range []struct {
		topic, edge, kind string
		ok                bool
	}{
		{FrameTopic("lac-duong-01"), "lac-duong-01", "frame", true},
		{AckTopic("a"), "a", "ack", true},
		{"langbiang/v1/A/frame", "", "", false},
		{"langbiang/v1/a/b/frame", "", "", false},
		{"langbiang/v1/a", "", "", false},
		{"langbiang/v1//frame", "", "", false},
		{"langbiang/v2/a/frame", "", "", false},
		{"langbiang/v1/" + strings.Repeat("a", 64) + "/frame", "", "", false},
	} {
		if edge, kind, ok := ParseTopic(c.topic); edge != c.edge || kind != c.kind || ok != c.ok {
			t.Errorf("ParseTopic(%q) = %q, %q, %v", c.topic, edge, kind, ok)
		}
	}
}
