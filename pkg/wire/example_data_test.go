package wire

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The examples of docs/uplink.md.

func exampleEpoch() Epoch {
	return Epoch{Instance: Instance{0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18}, Start: 12, Random: 0x5eed5eed}
}

func exampleSchema() *telemetry.Schema {
	return &telemetry.Schema{
		Devices: []telemetry.Device{{ID: "air-01", Profile: "renke/cwt-uwd", Connection: "cabinet", Address: "unit 1"}},
		Series: []telemetry.Series{
			{Point: "temperature", Quantity: "air_temperature", Unit: "Cel", Interval: 1000},
			{Point: "humidity", Quantity: "relative_humidity", Unit: "%", Interval: 1000},
		},
	}
}

func exampleFrame() *Frame {
	const w = 1_760_000_002_000
	hash, _ := SchemaHash(exampleSchema())
	return &Frame{
		Header: Header{Epoch: exampleEpoch(), Seq: 345, Schema: hash, PrevW: w - 1000, W: w},
		Readings: []telemetry.Reading{
			{Series: 0, Time: w - 750, Value: 21.5},
			{Series: 1, Time: w - 750, Value: 64.0},
		},
	}
}

func exampleAck() Ack {
	return Ack{
		Instance: exampleEpoch().Instance, Got: Pos{exampleEpoch(), 345}, Safe: Pos{exampleEpoch(), 340},
		Credit: 65536, HubTime: 1_760_000_002_100,
	}
}

func exampleGap() Gap {
	return Gap{After: Pos{exampleEpoch(), 345}, Next: Pos{exampleEpoch(), 400}, Reason: "no longer in the edge's log"}
}

// exampleFirst is the first frame of the next start.
func exampleFirst() *Frame {
	f := exampleFrame()
	before := f.W
	f.Epoch.Start, f.Seq, f.Prev = 13, 1, Pos{exampleEpoch(), 400}
	f.PrevW, f.W = before+59_000, before+60_000
	f.Marks = []Mark{{Kind: MarkStart, From: before, To: f.PrevW}}
	f.Readings = []telemetry.Reading{
		{Series: 0, Time: f.W - 500, Value: 21.5},
		{Series: 0, Time: f.W, Value: 21.75, Quality: telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonOutOfRange)},
	}
	return f
}

func TestExamplesOfTheDocumentationHold(t *testing.T) {
	doc, err := os.ReadFile("../../docs/uplink.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]byte{}
	for _, m := range regexp.MustCompile("(?s)```hex ([a-z]+)\n(.*?)```").FindAllSubmatch(doc, -1) {
		var digits strings.Builder
		for line := range strings.Lines(string(m[2])) {
			line, _, _ = strings.Cut(line, "#")
			digits.WriteString(strings.Join(strings.Fields(line), ""))
		}
		b, err := hex.DecodeString(digits.String())
		if err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		blocks[string(m[1])] = b
	}
	frame, err := NewEncoder(nil).Encode(nil, exampleFrame())
	if err != nil {
		t.Fatal(err)
	}
	a, g := exampleAck(), exampleGap()
	ack, err := EncodeAck(nil, &a)
	if err != nil {
		t.Fatal(err)
	}
	a.Got, a.Safe, a.Nonce = Pos{exampleFirst().Epoch, 1}, Pos{exampleEpoch(), 400}, 1<<63+1
	answer, err := EncodeAck(nil, &a)
	if err != nil {
		t.Fatal(err)
	}
	a = exampleAck()
	a.Status, a.Got.Seq, a.Safe, a.Need = StatusHole, 344, Pos{}, exampleFrame().Schema
	need, err := EncodeAck(nil, &a)
	if err != nil {
		t.Fatal(err)
	}
	gap, err := EncodeGap(nil, &g)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := plainSchema(exampleSchema())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"frame": frame, "ack": ack, "answer": answer, "need": need, "gap": gap, "schema": schema} {
		if !bytes.Equal(blocks[name], want) {
			t.Errorf("the %s of docs/uplink.md is\n%x, and should be\n%x", name, blocks[name], want)
		}
	}
	// The simplest frames that a sender may write: every value raw.
	for name, want := range map[string]*Frame{"simple": exampleFrame(), "first": exampleFirst()} {
		var f Frame
		if err := NewDecoder().DecodeFrame(blocks[name], &f); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !sameHeader(f.Header, want.Header) || !sameReadings(f.Readings, want.Readings) {
			t.Errorf("the %s frame decodes to %+v", name, f)
		}
	}
	// The simplest schema: not compressed at all.
	wrapped := append(blocks["wrapped"], blocks["schema"]...)
	if _, hash, err := DecodeSchema(wrapped); err != nil || hash != exampleFrame().Schema {
		t.Errorf("the wrapped schema: %v, %v", hash, err)
	}
}
