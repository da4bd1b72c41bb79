package buffer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// childEnv makes the test binary a writer in the folder that it names; it
// prints the number of each frame once it is committed.
const childEnv = "LANGBIANG_BUFFER_TEST_WRITER"

func writer(dir string) error {
	l, err := Open(dir, Options{SegmentSize: minSegment})
	if err != nil {
		return err
	}
	start := 1
	if p, ok := l.Last(); ok {
		start = int(binary.BigEndian.Uint32(p.Epoch[12:])) + 1
	}
	if err := l.Begin(tagOf(start)); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, uint64(start)))
	for seq := uint64(1); ; {
		for range 1 + r.IntN(4) {
			schema := Attachment{[16]byte{byte(seq / 50)}, []byte("schema")}
			if err := l.Append(seq, payloadOf(tagOf(start), seq, -3000), int64(seq), schema); err != nil {
				return err
			}
			seq++
		}
		if err := l.Commit(); err != nil {
			return err
		}
		fmt.Println(start, seq-1)
	}
}

// TestKillAtAnyMoment starts a writer as a process and kills it, again and
// again on the same folder: what it said was committed is there, once, with
// its content.
func TestKillAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	committed := map[Epoch]uint64{}
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := r.IntN(30); n >= 0 && lines.Scan(); n-- {
			if n == 0 {
				must(t, cmd.Process.Kill())
				n++ // what it still printed counts
			}
			var start int
			var seq uint64
			if _, err := fmt.Sscan(lines.Text(), &start, &seq); err == nil {
				committed[tagOf(start)] = seq
			}
		}
		_ = cmd.Wait()
		l := open(t, dir, Options{SegmentSize: minSegment})
		g := readAll(t, l, Pos{}, -3000)
		have := map[Epoch]uint64{}
		for _, p := range g.pos {
			have[p.Epoch] = max(have[p.Epoch], p.Seq)
		}
		for e, seq := range committed {
			if have[e] < seq {
				t.Fatalf("round %d: epoch %x ends at %d, %d were committed", round, e, have[e], seq)
			}
		}
		if len(g.missing) != 0 || l.Stats().Corrupt != 0 {
			t.Fatalf("round %d: missing %v, %+v", round, g.missing, l.Stats())
		}
		must(t, l.Close())
	}
}

// powerCut keeps what a file held at every fsync that a commit ended with.
// Between two of them a commit writes data pages, fsyncs, writes one meta
// page, fsyncs; so a power cut leaves any mixture of the data pages' sectors
// with the old meta page, or all data pages with a torn meta page.
type powerCut struct {
	t     *testing.T
	r     *rand.Rand
	dir   string
	path  string
	disk  []byte // what is surely on the disk
	cuts  int
	known uint64 // frames committed before the transaction under way
}

func (p *powerCut) synced(l *Log, seg *segment) {
	now, err := os.ReadFile(seg.path)
	must(p.t, err)
	if seg.path == p.path {
		for range 3 {
			p.cut(l, now)
		}
	}
	p.path, p.disk = seg.path, now
	p.known = seg.sum.last.seq
}

func (p *powerCut) cut(l *Log, now []byte) {
	const sector = 512
	state := make([]byte, len(now)) // the file's new length is synced first
	copy(state, p.disk)
	metaDone := p.r.IntN(3) == 0
	for at := 0; at < len(now); at += sector {
		inMeta := at < 2*pageSize
		take := p.r.IntN(2) == 0
		if metaDone {
			take = !inMeta || p.r.IntN(2) == 0
		} else if inMeta {
			take = false
		}
		if take {
			copy(state[at:at+sector], now[at:at+sector])
		}
	}
	if p.r.IntN(4) == 0 && !metaDone && bytes.Equal(state[:2*pageSize], p.disk[:2*pageSize]) {
		state = state[:max(len(p.disk), len(state)/2)] // not even the length
	}
	clone, err := os.MkdirTemp(p.dir+"/..", "cut")
	must(p.t, err)
	entries, err := os.ReadDir(p.dir)
	must(p.t, err)
	for _, e := range entries {
		if e.Name() == filepath.Base(p.path) || e.Name() == "lock" {
			continue
		}
		must(p.t, os.Link(filepath.Join(p.dir, e.Name()), filepath.Join(clone, e.Name())))
	}
	must(p.t, os.WriteFile(filepath.Join(clone, filepath.Base(p.path)), state, 0o600))
	c, err := Open(clone, Options{SegmentSize: minSegment})
	must(p.t, err)
	g := readAll(p.t, c, Pos{}, -3000)
	if len(g.missing) != 0 || uint64(len(g.pos)) < p.known || c.Stats().Corrupt != 0 {
		p.t.Fatalf("cut %d: %d frames, missing %v; %d were committed; %+v", p.cuts, len(g.pos), g.missing, p.known, c.Stats())
	}
	must(p.t, c.Close())
	must(p.t, os.RemoveAll(clone))
	p.cuts++
}

func TestPowerCutWithinACommit(t *testing.T) {
	p := &powerCut{t: t, r: rand.New(rand.NewPCG(3, 4)), dir: t.TempDir()}
	var l *Log
	o := Options{SegmentSize: minSegment}
	o.files.synced = func(s *segment) { p.synced(l, s) }
	var err error
	l, err = Open(p.dir, o)
	must(t, err)
	must(t, l.Begin(tagOf(1)))
	for seq := uint64(1); seq <= 180; {
		for range 1 + p.r.IntN(4) {
			appendN(t, l, 1, seq, seq, -3000)
			seq++
		}
		must(t, l.Commit())
	}
	must(t, l.Close())
	if p.cuts < 100 {
		t.Fatalf("only %d cuts", p.cuts)
	}
}

// A segment's creation that is cut short leaves a temporary, or the renamed
// file beside the full one.
func TestPowerCutWhileASegmentIsMade(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentSize: minSegment}
	var clones []string
	o.files.rename = func(from, to string) error {
		clones = append(clones, copyDir(t, dir))
		err := os.Rename(from, to)
		clones = append(clones, copyDir(t, dir))
		return err
	}
	l := open(t, dir, o)
	must(t, l.Begin(tagOf(1)))
	for seq := uint64(1); seq <= 120; seq++ {
		appendN(t, l, 1, seq, seq, 1000)
		must(t, l.Commit())
	}
	for i, clone := range clones {
		c := open(t, clone, Options{SegmentSize: minSegment})
		g := readAll(t, c, Pos{}, 1000)
		if len(g.missing) != 0 || c.Stats().Corrupt != 0 {
			t.Fatalf("clone %d: %v %+v", i, g.missing, c.Stats())
		}
		must(t, c.Begin(tagOf(2)))
		appendN(t, c, 2, 1, 60, 1000)
		must(t, c.Commit())
		if g2 := readAll(t, c, Pos{}, 1000); len(g2.pos) != len(g.pos)+60 || len(g2.missing) != 0 {
			t.Fatalf("clone %d: it does not go on: %d, %v", i, len(g2.pos), g2.missing)
		}
		must(t, c.Close())
	}
	if len(clones) < 8 {
		t.Fatalf("%d clones", len(clones))
	}
}

func TestReaderAndWriterAtOnce(t *testing.T) {
	l := open(t, t.TempDir(), Options{SegmentSize: minSegment, MaxSize: 6 * minSegment})
	must(t, l.Begin(tagOf(1)))
	const total = 1500
	var wg sync.WaitGroup
	wg.Go(func() {
		for seq := uint64(1); seq <= total; seq++ {
			if err := l.Append(seq, payloadOf(tagOf(1), seq, 300), int64(seq)); err != nil {
				t.Error(err)
			}
			if seq%20 == 0 {
				if err := l.Commit(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			last := Pos{}
			for last.Seq < total {
				changed := l.Changed()
				n := 0
				err := l.Read(last, 10_000, func(r Record) error {
					n++
					if r.Missing == nil && r.Pos.Seq != last.Seq+1 {
						t.Errorf("%d after %d", r.Pos.Seq, last.Seq)
					}
					if !bytes.Equal(r.Payload, payloadOf(tagOf(1), r.Pos.Seq, 300)) {
						t.Error("wrong payload")
					}
					last = r.Pos
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				l.SetSafe(last)
				_ = l.Stats()
				if n == 0 {
					<-changed
				}
			}
		})
	}
	wg.Wait()
}
