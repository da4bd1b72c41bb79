package powercut

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Victim runs a worker in a recorded folder and cuts its power. It is what tests
// of several packages share.
type Victim struct {
	// Command makes the worker, which works in the folder dir, calls [Ack] after
	// each promise, and prints a line after each, until it is killed.
	Command func(dir string) *exec.Cmd
	// Lines is after how many lines it is killed.
	Lines int
	// Cuts is how many cuts are made; LANGBIANG_TORTURE_CUTS is added to it.
	Cuts int
	// Check opens the folder as the cut left it. Promise is the last one before
	// the cut, "" if there was none.
	Check func(t *testing.T, dir, promise string)
}

// Run makes the cuts, at places that the seed chooses; with LANGBIANG_TORTURE_CUTS
// it is a new one each time. LANGBIANG_TORTURE_SEED repeats one. Where there is no FUSE it says so and does nothing; the tests
// that copy files do what they can there.
func (v Victim) Run(t *testing.T, seed uint64) {
	t.Helper()
	more := number(t, "LANGBIANG_TORTURE_CUTS", 0)
	if more > 0 {
		seed = uint64(time.Now().UnixNano()) >> 16 // new luck, and printed
	}
	seed = uint64(number(t, "LANGBIANG_TORTURE_SEED", int(seed)))
	cuts := v.Cuts + more
	rec, err := Mount(t.TempDir(), t.TempDir())
	if errors.Is(err, ErrUnsupported) {
		t.Logf("power cuts under the file system: none, %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	v.work(t, rec)
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cuts in %d operations, seed %d", cuts, rec.Len(), seed)
	for i := range cuts {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		cut := rng.IntN(rec.Len() + 1)
		dir := filepath.Join(t.TempDir(), "after")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := rec.Image(rng, cut, dir); err != nil {
			t.Fatal(err)
		}
		v.Check(t, dir, rec.Acked(cut))
		if t.Failed() {
			t.Fatalf("cut %d of seed %d, after operation %d", i, seed, cut)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func (v Victim) work(t *testing.T, rec *Recorder) {
	t.Helper()
	cmd := v.Command(rec.Dir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range v.Lines {
		if !lines.Scan() {
			t.Error("the worker has ended by itself")
			break
		}
	}
	_ = cmd.Process.Kill() // it may have ended
	for lines.Scan() {     // let it go
	}
	_ = cmd.Wait() // killed, as it was meant
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
