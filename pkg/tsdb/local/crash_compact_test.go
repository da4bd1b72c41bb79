package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/langbiang/langbiang/pkg/internal/powercut"
)

// victimCompacts makes the victim one that compacts: its value is where it acknowledges.
const victimCompacts = "LANGBIANG_TEST_VICTIM_COMPACTS"

// A minute of the victim that compacts is a sample in order and, every third minute, one
// of five hours ago, for which there is a block already.
const (
	compactBatch = 20
	compactEvery = 6 // batches: two hours
)

func compactSamples(minute int) []victimSample {
	at := t0 + int64(minute)*60_000
	out := []victimSample{{"now", at}, {"late", at}}
	if minute%3 == 0 {
		out = append(out, victimSample{"late", at - 5*hour + 7})
	}
	return out
}

// compactingVictim appends batches to the store in dir, and has it write blocks, join
// them and write them anew with other chunks every two hours, until somebody kills it.
func compactingVictim(dir, ack string) error {
	o := smallOptions
	o.Now = func() int64 { return t0 + 365*day }
	s, err := Open(dir, o)
	if err != nil {
		return err
	}
	s.db.DisableCompactions()
	app := s.Appender()
	for batch := 0; ; batch++ {
		for i := range compactBatch {
			for _, x := range compactSamples(batch*compactBatch + i) {
				if _, err := app.Append(0, lset(x.point), x.at, value(x.point, x.at)); err != nil {
					return err
				}
			}
		}
		if err := app.Commit(); err != nil {
			return err
		}
		if err := s.Sync(); err != nil {
			return err
		}
		if err := powercut.Ack(ack, fmt.Sprint(batch+1)); err != nil {
			return err
		}
		fmt.Println(batch + 1)
		if batch%compactEvery == compactEvery-1 {
			if err := s.db.Compact(context.Background()); err != nil {
				return err
			}
		}
	}
}

// TestPowerCutUnderACompaction cuts the power while blocks are written, replaced by
// others with the same samples, and deleted.
func TestPowerCutUnderACompaction(t *testing.T) {
	blocks := 0
	powercut.Victim{
		Command: func(dir string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), victimDir+"="+filepath.Join(dir, "store"), victimCompacts+"="+dir)
			return cmd
		},
		Lines: 32, Cuts: 3,
		Check: func(t *testing.T, dir, promise string) {
			durable := 0
			if promise != "" {
				var err error
				durable, err = strconv.Atoi(promise)
				check(t, err)
			}
			s := mustOpen(t, filepath.Join(dir, "store"))
			if r := s.Report(); r.NeedRewind || len(r.Damage) > 0 {
				t.Errorf("a power cut is no damage: %+v", r)
			}
			have := map[string]map[int64]bool{"now": times(t, s, "now"), "late": times(t, s, "late")}
			for minute := range durable * compactBatch {
				for _, x := range compactSamples(minute) {
					if !have[x.point][x.at] {
						t.Fatalf("%s lacks the sample at %d, of batch %d of %d", x.point, x.at, minute/compactBatch, durable)
					}
				}
			}
			blocks += packedBlocks(s)
			check(t, s.Close())
		},
	}.Run(t, 5)
	t.Logf("%d packed blocks were read", blocks)
}
