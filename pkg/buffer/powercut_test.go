package buffer

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/langbiang/langbiang/pkg/internal/powercut"
)

// powerEnv makes the test binary a writer in the folder that it names, to have its
// power cut.
const powerEnv = "LANGBIANG_BUFFER_TEST_POWER"

const framesPerStart = 60

// powerWriter is an agent's life: it starts, counts its starts, begins an epoch,
// commits frames, and stops, again and again.
func powerWriter(dir string) error {
	for start := 1; ; start++ {
		l, err := Open(dir, Options{SegmentSize: minSegment})
		if err != nil {
			return err
		}
		if err := l.SetMeta("starts", binary.BigEndian.AppendUint32(nil, uint32(start))); err != nil {
			return err
		}
		if err := l.Begin(tagOf(start)); err != nil {
			return err
		}
		r := rand.New(rand.NewPCG(1, uint64(start)))
		for seq := uint64(1); seq <= framesPerStart; {
			for n := 1 + r.IntN(4); n > 0 && seq <= framesPerStart; n-- {
				schema := Attachment{[16]byte{byte(seq / 25)}, []byte("schema")}
				if err := l.Append(seq, payloadOf(tagOf(start), seq, -3000), int64(seq), schema); err != nil {
					return err
				}
				seq++
			}
			l.SetSafe(at(start, seq/2))
			if err := l.Commit(); err != nil {
				return err
			}
			if err := powercut.Ack(dir, fmt.Sprint(start, " ", seq-1)); err != nil {
				return err
			}
			fmt.Println(start, seq-1)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
}

// TestPowerCutUnderTheLog cuts the power under the file system, wherever the log
// may be: within a commit, while a segment is made, sealed and renamed, while the
// small values are replaced. What Commit had returned for is there, nothing is
// damaged, and the log goes on.
func TestPowerCutUnderTheLog(t *testing.T) {
	powercut.Victim{
		Command: func(dir string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), powerEnv+"="+dir)
			return cmd
		},
		Lines: 160, Cuts: 60,
		Check: func(t *testing.T, dir, promise string) {
			var start int
			var seq uint64
			if promise != "" {
				if _, err := fmt.Sscan(promise, &start, &seq); err != nil {
					t.Fatal(err)
				}
			}
			l, err := Open(dir, Options{SegmentSize: minSegment, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
			must(t, err)
			defer func() { must(t, l.Close()) }()
			g := readAll(t, l, Pos{}, -3000)
			have := map[Epoch]uint64{}
			for _, p := range g.pos {
				have[p.Epoch] = p.Seq
			}
			for s := 1; s <= start; s++ {
				want := uint64(framesPerStart)
				if s == start {
					want = seq
				}
				if have[tagOf(s)] < want {
					t.Errorf("epoch %d ends at %d, %d were committed", s, have[tagOf(s)], want)
				}
			}
			if s := l.Stats(); len(g.missing) != 0 || s.Corrupt != 0 || s.CorruptFiles != 0 {
				t.Errorf("missing %v, %+v", g.missing, s)
			}
			b, ok := l.Meta("starts")
			if start > 0 && (!ok || binary.BigEndian.Uint32(b) < uint32(start)) {
				t.Errorf("the start counter is %v after start %d", b, start)
			}
			must(t, l.Begin(tagOf(1000)))
			appendN(t, l, 1000, 1, 5, -3000)
			must(t, l.Commit())
			if again := readAll(t, l, Pos{}, -3000); len(again.pos) != len(g.pos)+5 || len(again.missing) != 0 {
				t.Errorf("it does not go on: %d frames, then %d, missing %v", len(g.pos), len(again.pos), again.missing)
			}
		},
	}.Run(t, 2)
}
