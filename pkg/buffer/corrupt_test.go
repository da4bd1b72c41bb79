package buffer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// written makes a log of one full and one half-full segment, at least.
func written(t *testing.T) (dir string, frames uint64, o Options) {
	t.Helper()
	dir, o = t.TempDir(), Options{SegmentSize: 4 * minSegment}
	l := open(t, dir, o)
	must(t, l.Begin(tagOf(1)))
	for seq := uint64(1); l.Stats().Segments < 3 || l.segs[2].sum.frames < 20; seq++ {
		must(t, l.Append(seq, payloadOf(tagOf(1), seq, -3000), int64(seq), Attachment{[16]byte{1}, []byte("schema")}))
		if seq%3 == 0 {
			must(t, l.Commit())
		}
		frames = seq
	}
	l.SetSafe(at(1, frames-30))
	must(t, l.Close())
	return dir, frames, o
}

// check opens a damaged log: whatever it gives is true, whatever it does not
// is declared, and it goes on.
func check(t *testing.T, dir string, o Options, frames uint64) (lost uint64) {
	t.Helper()
	l, err := Open(dir, o)
	must(t, err)
	defer func() { must(t, l.Close()) }()
	first := readAll(t, l, Pos{}, -3000)
	g := readAll(t, l, Pos{}, -3000)
	if len(g.pos) < len(first.pos) {
		t.Fatalf("%d frames, then %d", len(first.pos), len(g.pos))
	}
	must(t, l.Begin(tagOf(2)))
	appendN(t, l, 2, 1, 2, -3000)
	must(t, l.Commit())
	g = readAll(t, l, Pos{}, -3000)
	declared := uint64(0)
	for _, m := range g.missing {
		if m.Next.Epoch == tagOf(1) {
			declared += m.Next.Seq - m.After.Seq - 1
			continue
		}
		declared += frames - m.After.Seq
	}
	have := uint64(len(g.pos) - 2)
	if have+declared != frames {
		t.Fatalf("%d frames and %d declared missing of %d: %v", have, declared, frames, g.missing)
	}
	if have < frames && l.Stats().Corrupt == 0 {
		t.Fatal("frames are lost and nothing was set aside")
	}
	return frames - have
}

func TestFlippedBitsCostTheirFramesAlone(t *testing.T) {
	dir, frames, o := written(t)
	r := rand.New(rand.NewPCG(5, 6))
	files := segmentFiles(t, dir)
	worst, total := uint64(0), uint64(0)
	const rounds = 40
	for i := range rounds {
		clone := copyDir(t, dir)
		path := filepath.Join(clone, filepath.Base(files[r.IntN(len(files))]))
		b, err := os.ReadFile(path)
		must(t, err)
		n := 1
		if i%5 == 4 {
			n = 1 + r.IntN(40)
		}
		for range n {
			at := r.IntN(len(b))
			if i%2 == 0 { // page headers and meta pages, where it hurts
				at = at/pageSize*pageSize + r.IntN(100)
			}
			b[min(at, len(b)-1)] ^= 1 << r.IntN(8)
		}
		must(t, os.WriteFile(path, b, 0o600))
		lost := check(t, clone, o, frames)
		worst, total = max(worst, lost), total+lost
		must(t, os.RemoveAll(clone))
	}
	t.Logf("%d rounds, %d frames each: %.1f frames lost on average, %d at worst", rounds, frames, float64(total)/rounds, worst)
}

func TestTruncatedSegments(t *testing.T) {
	dir, frames, o := written(t)
	for _, name := range segmentFiles(t, dir) {
		info, err := os.Stat(name)
		must(t, err)
		for _, size := range []int64{0, 1, 100, pageSize, 2*pageSize + 17, info.Size() / 2, info.Size() - pageSize} {
			t.Run(fmt.Sprintf("%s to %d", filepath.Base(name), size), func(t *testing.T) {
				clone := copyDir(t, dir)
				must(t, os.Truncate(filepath.Join(clone, filepath.Base(name)), size))
				check(t, clone, o, frames)
			})
		}
	}
}

func TestBothMetaPagesInvalid(t *testing.T) {
	dir, frames, o := written(t)
	for _, name := range segmentFiles(t, dir) {
		clone := copyDir(t, dir)
		path := filepath.Join(clone, filepath.Base(name))
		b, err := os.ReadFile(path)
		must(t, err)
		clear(b[:2*pageSize])
		must(t, os.WriteFile(path, b, 0o600))
		if lost := check(t, clone, o, frames); lost > 0 {
			t.Fatalf("%s: %d frames lost, though all their pages are sound", filepath.Base(name), lost)
		}
		if m, _ := filepath.Glob(filepath.Join(clone, "*"+corruptSuffix)); len(m) != 1 {
			t.Fatalf("set aside: %v", m)
		}
	}
}

// When the newest segment loses its end nobody knows how far the epoch went. The
// next epoch's first frame says so, whatever the reader has, and after restarts.
func TestLostEndIsToldAtTheNextEpoch(t *testing.T) {
	dir, frames, o := written(t)
	files := segmentFiles(t, dir)
	newest := files[len(files)-1]
	b, err := os.ReadFile(newest)
	must(t, err)
	clear(b[2*pageSize:]) // every frame of it
	must(t, os.WriteFile(newest, b, 0o600))
	unsure := func(l *Log, after Pos) (n int, at Pos) {
		must(t, l.Read(after, 1<<30, func(r Record) error {
			if r.Unsure {
				n, at = n+1, r.Pos
			}
			return nil
		}))
		return n, at
	}
	l := open(t, dir, o)
	last, _ := l.Last()
	if last.Seq >= frames {
		t.Fatalf("the log believes to have %s", last)
	}
	must(t, l.Begin(tagOf(2))) // never gets a frame
	must(t, l.Close())
	l = open(t, dir, o)
	must(t, l.Begin(tagOf(3)))
	appendN(t, l, 3, 1, 3, 1000)
	must(t, l.Close())
	l = open(t, dir, o)
	must(t, l.Begin(tagOf(4)))
	appendN(t, l, 4, 1, 3, 1000)
	for _, after := range []Pos{{}, last, at(1, frames)} {
		if n, where := unsure(l, after); n != 1 || where != at(3, 1) {
			t.Errorf("after %s: told %d times, at %s", after, n, where)
		}
	}
	if n, _ := unsure(l, at(3, 1)); n != 0 {
		t.Error("told to who has it")
	}
}

func TestSegmentIsTruncatedWhileItIsRead(t *testing.T) {
	dir, frames, o := written(t)
	l := open(t, dir, o)
	must(t, l.Read(Pos{}, 1, func(Record) error { return nil })) // open and mapped
	must(t, os.Truncate(segmentFiles(t, dir)[0], 3*pageSize))    // now reading is a SIGBUS
	g := readAll(t, l, Pos{}, -3000)
	if len(g.missing) == 0 || uint64(len(g.pos)) >= frames || l.Stats().Corrupt != 1 {
		t.Fatalf("%d frames, missing %v, %+v", len(g.pos), g.missing, l.Stats())
	}
	// The same under a writer.
	must(t, l.Begin(tagOf(2)))
	appendN(t, l, 2, 1, 5, -3000)
	must(t, l.Commit())
	must(t, os.Truncate(filepath.Join(dir, activeName(l.segs[len(l.segs)-1].id)), 2*pageSize))
	appendN(t, l, 2, 6, 9, -3000)
	must(t, l.Commit())
	appendN(t, l, 2, 10, 12, -3000)
	must(t, l.Commit())
	g = readAll(t, l, Pos{}, -3000)
	if last := g.pos[len(g.pos)-1]; last != at(2, 12) {
		t.Fatalf("ends at %s", last)
	}
	if l.Stats().Corrupt != 2 {
		t.Fatalf("%+v", l.Stats())
	}
}

func TestSegmentThatVanishes(t *testing.T) {
	dir, frames, o := written(t)
	l := open(t, dir, o)
	must(t, os.Remove(segmentFiles(t, dir)[1]))
	g := readAll(t, l, Pos{}, -3000)
	if len(g.missing) != 1 || uint64(len(g.pos)) >= frames {
		t.Fatalf("%d frames, missing %v", len(g.pos), g.missing)
	}
}

func FuzzSegmentFile(f *testing.F) {
	dir := f.TempDir()
	l, err := Open(dir, Options{SegmentSize: minSegment})
	must(f, err)
	must(f, l.Begin(tagOf(1)))
	for seq := uint64(1); seq <= 6; seq++ {
		must(f, l.Append(seq, payloadOf(tagOf(1), seq, 700), 1, Attachment{[16]byte{1}, []byte("schema")}))
		must(f, l.Commit())
	}
	must(f, l.Close())
	b, err := os.ReadFile(segmentFiles(f, dir)[0])
	must(f, err)
	seed := b[:12*pageSize]
	f.Add(uint32(5*pageSize+16), uint64(0xFFFFFFFF))
	f.Add(uint32(8), uint64(1))
	f.Add(uint32(4*pageSize), uint64(1)<<40)
	f.Fuzz(func(t *testing.T, at uint32, flip uint64) {
		b := append([]byte(nil), seed...)
		for i := range 8 {
			b[(int(at)+i)%len(b)] ^= byte(flip >> (8 * i))
		}
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, activeName(0)), b, 0o600))
		l, err := Open(dir, Options{SegmentSize: minSegment})
		if errors.Is(err, ErrVersion) {
			return
		}
		must(t, err)
		readAll(t, l, Pos{}, 700)
		must(t, l.Close())
	})
}

func FuzzDecoders(f *testing.F) {
	k := frameKey(nil, pos{1, 2})
	f.Add(k, appendFrame(nil, tagOf(1), pos{1, 2}, 3, []byte("payload")))
	f.Add(epochKey(1), epoch{ord: 1, tag: tagOf(1), prev: pos{1, 9}, lost: true}.encode())
	f.Add(keyHeader, header{7, pos{1, 2}}.encode())
	f.Add(keyState, state{safe: pos{1, 2}}.encode())
	f.Add(keyFormat, formatValue())
	f.Add([]byte("m"), encodeMeta(map[string][]byte{"a": {1}, "bc": nil}))
	f.Fuzz(func(t *testing.T, k, v []byte) {
		if p, err := parseFrameKey(k); err == nil {
			if ts, payload, err := parseFrame(tagOf(1), p, v); err == nil {
				if string(appendFrame(nil, tagOf(1), p, ts, payload)) != string(v) {
					t.Fatal("a frame that is not its own encoding")
				}
			}
		}
		if e, err := parseEpoch(k, v); err == nil && string(e.encode()[:28]) != string(v[:28]) {
			t.Fatal("an epoch that is not its own encoding")
		}
		if h, err := parseHeader(v); err == nil && string(h.encode()) != string(v) {
			t.Fatal("a header that is not its own encoding")
		}
		if s, err := parseState(v); err == nil && string(s.encode()) != string(v) {
			t.Fatal("a state that is not its own encoding")
		}
		if vals, err := decodeMeta(v); err == nil {
			if again, err := decodeMeta(encodeMeta(vals)); err != nil || len(again) != len(vals) {
				t.Fatal("meta values do not come back")
			}
		}
		_ = checkFormat(v, nil)
		_ = checkFormat(v, k)
		_ = leafPage(v, func(uint32, []byte, []byte) error { return nil })
	})
}

func FuzzName(f *testing.F) {
	f.Add(activeName(3))
	f.Add(sealedName(3, summary{pos{1, 2}, pos{1, 9}, 8, 5, 6}))
	f.Fuzz(func(t *testing.T, name string) {
		id, s, sealed, ok := parseName(name)
		if ok && sealed && sealedName(id, s) != name || ok && !sealed && activeName(id) != name {
			t.Fatalf("%q is read as %d %+v", name, id, s)
		}
	})
}
