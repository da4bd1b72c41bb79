package edge

import (
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// writeLog is the script command "writelog FOLDER": the log of an agent that
// started twice, with three frames of ten seconds each time, of which the first two
// are safe, and one of which is missing.
func writeLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: writelog FOLDER")
	}
	l, err := buffer.Open(ts.MkAbs(args[0]), buffer.Options{})
	ts.Check(err)
	schema := &telemetry.Schema{
		Devices: []telemetry.Device{{ID: "air", Profile: "renke/cwt-uwd"}, {ID: "tank"}},
		Series: []telemetry.Series{
			{Device: 0, Point: "pm2_5", Quantity: "pm2_5", Unit: "ug/m3"},
			{Device: 1, Point: "level", Quantity: "water_level", Unit: "m"},
		},
	}
	raw, hash, err := wire.EncodeSchema(nil, schema)
	ts.Check(err)
	enc := wire.NewEncoder(schema)
	w := int64(1_795_800_000_000)
	var last wire.Pos
	for start := uint32(1); start <= 2; start++ {
		epoch := wire.Epoch{Instance: wire.Instance{0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 7, 0x18}, Start: start, Random: 0x5eed}
		ts.Check(l.Begin(epoch.Bytes()))
		for _, seq := range []uint64{1, 2, 4} {
			f := &wire.Frame{Header: wire.Header{Epoch: epoch, Seq: seq, Schema: hash, PrevW: w, W: w + 10_000}}
			if seq == 1 {
				f.Prev = last
				f.Marks = []wire.Mark{{Kind: wire.MarkStart, From: w, To: w + 100}}
			}
			f.Readings = []telemetry.Reading{
				{Series: 0, Time: w + 1000, Value: 12.5 + float64(seq)},
				{Series: 0, Time: w + 6000, Quality: telemetry.BadQuality(telemetry.ReasonNoAnswer)},
				{Series: 1, Time: w + 2000, Value: 1.204},
			}
			payload, err := enc.Encode(nil, f)
			ts.Check(err)
			ts.Check(l.Append(seq, payload, f.W, buffer.Attachment{Key: hash, Data: raw}))
			w += 10_000
			last = f.Pos()
		}
		if start == 1 {
			l.SetSafe(buffer.Pos{Epoch: epoch.Bytes(), Seq: 2})
		}
		ts.Check(l.Commit())
	}
	ts.Check(l.Close())
}

// damage is the script command "damage FILE": it turns bits over, a few on each page.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: damage FILE")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	if err != nil || len(files) == 0 {
		ts.Fatalf("no file %s", args[0])
	}
	b, err := os.ReadFile(files[0])
	ts.Check(err)
	used := len(b)
	for used > 0 && b[used-1] == 0 {
		used--
	}
	for i := 3000; i < used; i += 700 {
		b[i] ^= 0xFF
	}
	ts.Check(os.WriteFile(files[0], b, 0o600))
}
