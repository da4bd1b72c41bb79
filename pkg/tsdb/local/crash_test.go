package local

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	promtsdb "github.com/prometheus/prometheus/tsdb"

	"github.com/langbiang/langbiang/pkg/internal/powercut"
)

const (
	victimDir  = "LANGBIANG_TEST_VICTIM_DIR"
	victimFrom = "LANGBIANG_TEST_VICTIM_FROM"
	victimAck  = "LANGBIANG_TEST_VICTIM_ACK"
)

// lateBy is far enough back to be out of order, and near enough that nothing is
// compacted while a test runs.
var lateBy = 100 * time.Minute.Milliseconds()

// day is far enough back to be out of order.
var day = 24 * time.Hour.Milliseconds()

// victim appends batches to the store in dir, each with samples in order and out
// of order, and prints how many batches are durable after each Sync, until
// somebody kills it.
func victim(dir string) {
	from, err := strconv.Atoi(os.Getenv(victimFrom))
	if err != nil {
		panic(err)
	}
	o := smallOptions
	o.Now = func() int64 { return t0 + 365*day }
	s, err := Open(dir, o)
	if err != nil {
		panic(err)
	}
	app := s.Appender()
	for batch := from; ; batch++ {
		for i := range victimBatch {
			at := int64(batch*victimBatch+i) * 1000
			for _, x := range victimSamples(batch, at) {
				if _, err := app.Append(0, lset(x.point), x.at, value(x.point, x.at)); err != nil {
					panic(err)
				}
			}
		}
		if err := app.Commit(); err != nil {
			panic(err)
		}
		if batch%7 == 0 {
			s.db.ForceHeadMMap()
		}
		if err := s.Sync(); err != nil {
			panic(err)
		}
		if ack := os.Getenv(victimAck); ack != "" {
			if err := powercut.Ack(ack, fmt.Sprint(batch+1)); err != nil {
				panic(err)
			}
		}
		fmt.Println(batch + 1)
	}
}

const victimBatch = 20

// victimSamples returns what a batch holds at the time at after t0: a sample in
// order, one out of order, and one in a series that is new with each batch.
func victimSamples(batch int, at int64) []victimSample {
	// The late series has recent samples too: the TSDB would otherwise take it
	// for one in order while it reads its log, and nothing would depend on the
	// out-of-order log.
	return []victimSample{{"now", t0 + at}, {"late", t0 + at}, {"late", t0 - lateBy + at}, {fmt.Sprint("new", batch), t0 + at}}
}

type victimSample struct {
	point string
	at    int64
}

func expectBatches(t *testing.T, s *Store, batches int) {
	t.Helper()
	expectRange(t, s, "now", t0, batches*victimBatch)
	expectRange(t, s, "late", t0-lateBy, batches*victimBatch)
	for b := range batches {
		expectRange(t, s, fmt.Sprint("new", b), t0+int64(b*victimBatch)*1000, victimBatch)
	}
}

func TestKilledProcessLosesNothingSynced(t *testing.T) {
	dir := t.TempDir()
	durable := 0
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victimDir+"="+dir, fmt.Sprintf("%s=%d", victimFrom, durable))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 10 + 7*round {
			if !lines.Scan() {
				t.Fatal("the victim has died by itself")
			}
			durable, err = strconv.Atoi(strings.TrimSpace(lines.Text()))
			check(t, err)
		}
		check(t, cmd.Process.Kill())
		for lines.Scan() { // what it said before the kill counts too
			if n, err := strconv.Atoi(strings.TrimSpace(lines.Text())); err == nil {
				durable = n
			}
		}
		_ = cmd.Wait()

		s := mustOpen(t, dir)
		expectBatches(t, s, durable)
		if r := s.Report(); r.NeedRewind {
			t.Fatalf("a kill is no damage: %+v", r)
		}
		check(t, s.Close())
	}
}

// copyStore copies a store's folder, but for the chunks of the head, whose files
// are 128 MB of holes: nobody reads them again.
func copyStore(t *testing.T, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	check(t, err)
	for _, e := range entries {
		source, target := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.Name() == headChunksDir:
		case e.IsDir():
			check(t, os.CopyFS(target, os.DirFS(source)))
		default:
			b, err := os.ReadFile(source)
			check(t, err)
			check(t, os.WriteFile(target, b, 0o644))
		}
	}
}

// powerCut copies the store's folder as a power cut could leave it: both logs end
// somewhere behind the last Sync, independently of each other, with anything in
// the pages that were not synced.
func powerCut(t *testing.T, rng *rand.Rand, s *Store) string {
	t.Helper()
	s.syncs.Lock()
	defer s.syncs.Unlock()
	durable := map[string]position{walDir: s.wal.end(), wblDir: s.wbl.end()}
	to := t.TempDir()
	copyStore(t, s.dir, to)
	for dir, from := range durable {
		segs, err := listSegments(filepath.Join(to, dir))
		check(t, err)
		for _, n := range segs {
			if n < from.Segment {
				continue
			}
			path := filepath.Join(to, dir, segmentName(n))
			st, err := os.Stat(path)
			check(t, err)
			keep := int64(0)
			if n == from.Segment {
				keep = from.Offset
			}
			tail := st.Size() - keep
			if tail <= 0 {
				continue
			}
			cut := keep + rng.Int64N(tail+1)
			check(t, os.Truncate(path, cut))
			if rng.IntN(2) == 0 { // the size was written, the data was not, or other data was
				b := make([]byte, rng.IntN(2*pageSize))
				if rng.IntN(2) == 0 {
					for i := range b {
						b[i] = byte(rng.Uint32())
					}
				}
				f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
				check(t, err)
				_, err = f.Write(b)
				check(t, err)
				check(t, f.Close())
			}
			if n == from.Segment && cut < st.Size() { // later segments would not have been begun
				for _, later := range segs {
					if later > n {
						check(t, os.Remove(filepath.Join(to, dir, segmentName(later))))
					}
				}
				break
			}
		}
	}
	return to
}

func TestPowerCutLosesNothingSynced(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			dir, durable := t.TempDir(), 0
			for range 3 {
				s := mustOpen(t, dir)
				expectBatches(t, s, durable)
				if r := s.Report(); r.NeedRewind {
					t.Fatalf("a power cut is no damage: %+v", r)
				}
				app := s.Appender()
				ahead := durable
				appendBatches := func(n int) {
					for range n {
						for i := range victimBatch {
							at := int64(ahead*victimBatch+i) * 1000
							for _, x := range victimSamples(ahead, at) {
								_, err := app.Append(0, lset(x.point), x.at, value(x.point, x.at))
								check(t, err)
							}
						}
						check(t, app.Commit())
						ahead++
						if rng.IntN(8) == 0 {
							s.db.ForceHeadMMap()
						}
					}
				}
				appendBatches(rng.IntN(40))
				check(t, s.Sync())
				durable = ahead
				appendBatches(rng.IntN(40))
				dir = powerCut(t, rng, s)
				check(t, s.Close())
			}
		})
	}
}

// TestPowerCutUnderTheStore cuts the power under the file system: whatever the
// TSDB and this package write, rename and fsync, and in whatever order.
func TestPowerCutUnderTheStore(t *testing.T) {
	powercut.Victim{
		Command: func(dir string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), victimDir+"="+filepath.Join(dir, "store"), victimFrom+"=0", victimAck+"="+dir)
			return cmd
		},
		Lines: 40, Cuts: 25,
		Check: func(t *testing.T, dir, promise string) {
			durable := 0
			if promise != "" {
				var err error
				durable, err = strconv.Atoi(promise)
				check(t, err)
			}
			s := mustOpen(t, filepath.Join(dir, "store"))
			expectBatches(t, s, durable)
			if r := s.Report(); r.NeedRewind || len(r.Damage) > 0 {
				t.Errorf("a power cut is no damage: %+v", r)
			}
			check(t, s.Close())
		},
	}.Run(t, 4)
}

// TestCrashInACompactionOfTheOutOfOrderHead shows what made repair drop markers:
// the compaction takes the chunk that is being filled, samples that follow begin
// a new one, and the process dies before the block is there.
func TestCrashInACompactionOfTheOutOfOrderHead(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	add(t, s, "late", t0, 10)
	add(t, s, "late", t0-lateBy, 100)
	_, err := promtsdb.NewOOOCompactionHead(t.Context(), s.db.Head())
	check(t, err)
	add(t, s, "late", t0-lateBy+100_000, 100)
	check(t, s.Sync())
	crashed := t.TempDir()
	copyStore(t, s.dir, crashed)
	for range 3 {
		s = mustOpen(t, crashed)
		expectRange(t, s, "late", t0-lateBy, 200)
		if r := s.Report(); r.NeedRewind || len(r.Damage) > 0 {
			t.Fatalf("report %+v", r)
		}
		again := t.TempDir()
		copyStore(t, crashed, again)
		crashed = again
	}
}
