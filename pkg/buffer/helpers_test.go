package buffer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, writer(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(powerEnv); dir != "" {
		fmt.Fprintln(os.Stderr, powerWriter(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(backlogEnv); dir != "" {
		if err := backlogReader(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func tagOf(n int) Epoch {
	var e Epoch
	binary.BigEndian.PutUint32(e[12:], uint32(n))
	e[0] = 0xE0
	return e
}

func at(n int, seq uint64) Pos { return Pos{tagOf(n), seq} }

// payloadOf is the one content that frame seq of an epoch may have.
func payloadOf(tag Epoch, seq uint64, size int) []byte {
	r := rand.New(rand.NewPCG(binary.BigEndian.Uint64(tag[8:]), seq))
	n := size
	if size < 0 {
		n = 20 + r.IntN(-size)
	}
	b := make([]byte, 0, n+8)
	b = binary.BigEndian.AppendUint64(b, seq)
	for len(b) < n {
		b = binary.BigEndian.AppendUint64(b, r.Uint64())
	}
	return b
}

func open(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func appendN(t testing.TB, l *Log, n int, from, to uint64, size int) {
	t.Helper()
	for seq := from; seq <= to; seq++ {
		must(t, l.Append(seq, payloadOf(tagOf(n), seq, size), int64(seq)*1000))
	}
}

type got struct {
	pos     []Pos
	missing []Range
}

// readAll reads everything after p, compares each payload with the one it
// must have, and each position with the order.
func readAll(t testing.TB, l *Log, p Pos, size int) got {
	t.Helper()
	var g got
	last := p
	for {
		n := 0
		err := l.Read(last, 100_000, func(r Record) error {
			n++
			if !bytes.Equal(r.Payload, payloadOf(r.Pos.Epoch, r.Pos.Seq, size)) {
				t.Fatalf("%s: wrong payload", r.Pos)
			}
			if o, ok := l.Compare(last, r.Pos); ok && o >= 0 {
				t.Fatalf("%s after %s", r.Pos, last)
			}
			if r.Missing != nil {
				if r.Missing.After != last || r.Missing.Next != r.Pos {
					t.Fatalf("missing %v between %s and %s", r.Missing, last, r.Pos)
				}
				g.missing = append(g.missing, *r.Missing)
			} else if r.Pos.Epoch == last.Epoch && r.Pos.Seq != last.Seq+1 {
				t.Fatalf("%s after %s: the gap was not declared", r.Pos, last)
			}
			last = r.Pos
			g.pos = append(g.pos, r.Pos)
			return nil
		})
		must(t, err)
		if n == 0 {
			return g
		}
	}
}

func wantSeqs(t testing.TB, g got, n int, from, to uint64) {
	t.Helper()
	if len(g.pos) != int(to-from+1) || len(g.missing) != 0 {
		t.Fatalf("got %d frames, missing %v; want %d..%d", len(g.pos), g.missing, from, to)
	}
	for i, p := range g.pos {
		if p != at(n, from+uint64(i)) {
			t.Fatalf("frame %d is %s", i, p)
		}
	}
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	must(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if os.IsNotExist(err) {
			continue // renamed meanwhile, as a crash may see it
		}
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, e.Name()), b, 0o600))
	}
	return to
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, segPrefix+"*"+segSuffix))
	must(t, err)
	return files
}
