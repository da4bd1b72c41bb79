package ledger

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/powercut"
)

// powerEnv makes the test binary a hub's ledger in the folder that it names, to
// have its power cut.
const powerEnv = "LANGBIANG_LEDGER_TEST_POWER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(powerEnv); dir != "" {
		fmt.Fprintln(os.Stderr, powerWriter(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// powerTurn is what the ledger is given between two checkpoints: alert n is
// raised, alert n-1 ends, a gap is taken down.
func powerTurn(l *Ledger, n int) error {
	at := int64(n * 10)
	if err := l.Append(step(fmt.Sprint("a", n), alert.Raised, at, at, alert.Warning)); err != nil {
		return err
	}
	if n > 0 {
		if err := l.Append(step(fmt.Sprint("a", n-1), alert.Ended, at-10, at+5, alert.Warning)); err != nil {
			return err
		}
	}
	if err := l.RecordGap(Gap{Edge: "e1", After: fmt.Sprint(n), Next: fmt.Sprint(n + 1), Reason: "test"}); err != nil {
		return err
	}
	return l.Checkpoint([]Checkpoint{{Edge: "e1", Position: binary.BigEndian.AppendUint32(nil, uint32(n)), Rules: make([]byte, 100*(n%40))}})
}

func powerWriter(dir string) error {
	for n := 0; ; {
		l, err := Open(dir, Options{})
		if err != nil {
			return err
		}
		for range 30 {
			if err := powerTurn(l, n); err != nil {
				return err
			}
			if err := powercut.Ack(dir, fmt.Sprint(n)); err != nil {
				return err
			}
			fmt.Println(n)
			n++
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
}

// TestPowerCutUnderTheLedger cuts the power under the file system. What Checkpoint
// had returned for is there, all of it. Of the turn after it some writes may be
// there too, the first ones, since the window of the log passes without waiting for
// the checkpoint; and what a replay brings again gets no second entry.
func TestPowerCutUnderTheLedger(t *testing.T) {
	powercut.Victim{
		Command: func(dir string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), powerEnv+"="+dir)
			return cmd
		},
		Lines: 100, Cuts: 60,
		Check: func(t *testing.T, dir, promise string) {
			promised := -1
			if promise != "" {
				if _, err := fmt.Sscan(promise, &promised); err != nil {
					t.Fatal(err)
				}
			}
			l, err := Open(dir, Options{})
			if err != nil {
				t.Errorf("after promise %d: %v", promised, err)
				return
			}
			defer func() { check(t, l.Close()) }()
			// state checks what the ledger holds: what belongs to its position, and at
			// most ahead of the turn after it, in the order in which they were written.
			state := func(ahead int) int {
				cp, ok, err := l.Load("e1")
				check(t, err)
				n := -1
				if ok {
					n = int(binary.BigEndian.Uint32(cp.Position))
					if len(cp.Rules) != 100*(n%40) {
						t.Errorf("position %d with %d bytes of rule state", n, len(cp.Rules))
					}
				}
				entries, err := l.Entries(0, 100_000)
				check(t, err)
				for i, e := range entries {
					if e.Sequence != uint64(i+1) {
						t.Errorf("entry %d has the number %d", i, e.Sequence)
					}
				}
				gaps, err := l.Gaps("e1")
				check(t, err)
				turn := []int{0, 1, 2} // entries of the turn after position n
				if n < 0 {
					turn = []int{0, 1} // nothing ends in the first one
				}
				extra, gap := len(entries)-max(0, 2*n+1), len(gaps)-(n+1)
				if l.LastSequence() != uint64(len(entries)) || !slices.Contains(turn, extra) || gap < 0 || gap > 1 || gap == 1 && extra != turn[len(turn)-1] || extra+gap > ahead {
					t.Errorf("%d entries, the last is %d, and %d gaps at position %d", len(entries), l.LastSequence(), len(gaps), n)
				}
				return n
			}
			n := state(3)
			if n < promised {
				t.Errorf("position %d, promised was %d", n, promised)
			}
			for i := max(0, n-3); i < n+3; i++ { // the replay
				check(t, powerTurn(l, i))
			}
			state(0)
		},
	}.Run(t, 3)
}
