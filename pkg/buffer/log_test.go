package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/prometheus/client_golang/prometheus"
)

func TestFramesAreReadableAtOnceAndOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	if _, ok := l.Last(); ok {
		t.Fatal("an empty log has a last frame")
	}
	if err := l.Append(1, nil, 0); !errors.Is(err, ErrNoEpoch) {
		t.Fatalf("append before Begin: %v", err)
	}
	must(t, l.Begin(tagOf(1)))
	changed := l.Changed()
	appendN(t, l, 1, 1, 5, -3000)
	select {
	case <-changed:
	default:
		t.Fatal("Changed was not closed")
	}
	wantSeqs(t, readAll(t, l, Pos{}, -3000), 1, 1, 5)
	if _, ok := l.Committed(); ok {
		t.Fatal("committed before Commit")
	}
	must(t, l.Commit())
	appendN(t, l, 1, 6, 9, -3000)
	wantSeqs(t, readAll(t, l, Pos{}, -3000), 1, 1, 9)
	wantSeqs(t, readAll(t, l, at(1, 3), -3000), 1, 4, 9)
	if p, _ := l.Committed(); p != at(1, 5) {
		t.Fatalf("committed %s", p)
	}
	must(t, l.Close())
	if err := l.Append(10, nil, 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after Close: %v", err)
	}

	l = open(t, dir, Options{})
	wantSeqs(t, readAll(t, l, Pos{}, -3000), 1, 1, 9)
	if err := l.Append(10, nil, 0); !errors.Is(err, ErrNoEpoch) {
		t.Fatalf("append before this start's Begin: %v", err)
	}
	if err := l.Begin(tagOf(1)); err == nil {
		t.Fatal("an epoch began twice")
	}
	must(t, l.Begin(tagOf(2)))
	appendN(t, l, 2, 1, 3, -3000)
	must(t, l.Commit())
	g := readAll(t, l, at(1, 8), -3000)
	if len(g.pos) != 4 || len(g.missing) != 0 || g.pos[1] != at(2, 1) {
		t.Fatalf("over the epochs' border: %+v", g)
	}
	if err := l.Append(3, nil, 0); !errors.Is(err, ErrOrder) {
		t.Fatalf("a number used twice: %v", err)
	}
	if o, ok := l.Compare(at(1, 9), at(2, 1)); !ok || o >= 0 {
		t.Fatalf("compare %d %v", o, ok)
	}
	if _, ok := l.Compare(at(7, 9), at(2, 1)); ok {
		t.Fatal("an unknown epoch was compared")
	}
}

func TestMissingFramesAreFoundByAbsence(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	must(t, l.Begin(tagOf(1)))
	for _, seq := range []uint64{2, 3, 7} {
		appendN(t, l, 1, seq, seq, 100)
	}
	want := []Range{{Pos{}, at(1, 2)}, {at(1, 3), at(1, 7)}}
	if g := readAll(t, l, Pos{}, 100); !slices.Equal(g.missing, want) {
		t.Fatalf("missing %v", g.missing)
	}
	must(t, l.Commit())
	if g := readAll(t, l, Pos{}, 100); !slices.Equal(g.missing, want) {
		t.Fatalf("missing %v", g.missing)
	}
	must(t, l.Begin(tagOf(2)))
	appendN(t, l, 2, 1, 1, 100)
	// The end of epoch 1 is known, so a reader that has it misses nothing ...
	if g := readAll(t, l, at(1, 7), 100); len(g.missing) != 0 || len(g.pos) != 1 {
		t.Fatalf("%+v", g)
	}
	// ... nor does one that has more than this log (the log was restored).
	if g := readAll(t, l, at(1, 9), 100); len(g.missing) != 0 || len(g.pos) != 1 {
		t.Fatalf("%+v", g)
	}
	// A position of an unknown epoch: from the beginning, with the gap named.
	g := readAll(t, l, at(9, 4), 100)
	if len(g.pos) != 4 || g.missing[0] != (Range{at(9, 4), at(1, 2)}) {
		t.Fatalf("%+v", g)
	}
}

func TestReadKeepsToItsLimitAndStopsOnError(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	must(t, l.Begin(tagOf(1)))
	appendN(t, l, 1, 1, 100, 1000)
	must(t, l.Commit())
	n := 0
	must(t, l.Read(Pos{}, 10_000, func(Record) error { n++; return nil }))
	if n < 9 || n > 11 {
		t.Fatalf("%d records of 1,000 bytes for 10,000", n)
	}
	stop := errors.New("stop")
	if err := l.Read(Pos{}, 1, func(Record) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second Open: %v", err)
	}
}

func TestTooLargeFrameIsRefused(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	must(t, l.Begin(tagOf(1)))
	if err := l.Append(1, make([]byte, MaxFrame+1), 0); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= 10; seq++ { // the largest allowed, over several segments
		must(t, l.Append(seq, payloadOf(tagOf(1), seq, MaxFrame-8), 0, Attachment{[16]byte{byte(seq)}, make([]byte, MaxFrame-8)}))
		must(t, l.Commit())
	}
	wantSeqs(t, readAll(t, l, Pos{}, MaxFrame-8), 1, 1, 10)
}

func TestSafeCursorRidesAlong(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	must(t, l.Begin(tagOf(1)))
	appendN(t, l, 1, 1, 10, 100)
	must(t, l.Commit())
	l.SetSafe(at(1, 4))
	l.SetSafe(at(99, 1)) // unknown: ignored
	if s := l.Stats(); s.UnsafeFrames != 6 || s.Frames != 10 || s.UnsafeTime < 4000 || s.UnsafeTime > 6000 || s.CommitTime <= 0 {
		t.Fatalf("%+v, want frame 5 of 5000 ms as the oldest unsafe one, about", s)
	}
	clone := copyDir(t, dir)
	if c := open(t, clone, Options{}); !c.Safe().IsZero() {
		t.Fatal("the cursor was written before a commit")
	}
	appendN(t, l, 1, 11, 11, 100)
	must(t, l.Commit())
	if c := open(t, copyDir(t, dir), Options{}); c.Safe() != at(1, 4) {
		t.Fatalf("safe %s after the commit", c.Safe())
	}
	l.SetSafe(at(1, 2)) // a rewind
	must(t, l.Close())
	if c := open(t, dir, Options{}); c.Safe() != at(1, 2) {
		t.Fatalf("safe %s after Close", c.Safe())
	}
}

func TestAttachmentsFollowTheirFrames(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentSize: minSegment})
	must(t, l.Begin(tagOf(1)))
	a, b := Attachment{[16]byte{1}, []byte("schema a")}, Attachment{[16]byte{2}, []byte("schema b")}
	for seq := uint64(1); seq <= 400; seq++ {
		att := a
		if seq > 380 {
			att = b
		}
		must(t, l.Append(seq, payloadOf(tagOf(1), seq, 1000), 0, att))
		if seq == 1 {
			if d, ok := l.Attachment(a.Key); !ok || string(d) != "schema a" {
				t.Fatal("a pending attachment is not found")
			}
		}
		if seq%5 == 0 {
			must(t, l.Commit())
		}
	}
	must(t, l.Close())
	l = open(t, dir, Options{SegmentSize: minSegment})
	if n := l.Stats().Segments; n < 6 {
		t.Fatalf("%d segments", n)
	}
	// Every segment has what its frames use.
	for _, p := range []uint64{0, 100, 200, 300, 379} {
		must(t, l.Read(at(1, p), 1, func(Record) error { return nil }))
		if d, ok := l.Attachment(a.Key); !ok || string(d) != "schema a" {
			t.Fatalf("after frame %d the attachment is not found", p)
		}
	}
	if d, ok := l.Attachment(b.Key); !ok || string(d) != "schema b" {
		t.Fatal("the newest segment's attachment is not found")
	}
	if _, ok := l.Attachment([16]byte{9}); ok {
		t.Fatal("found what was never there")
	}
}

func TestSafeFramesGoFirstThenTheOldestUnsafe(t *testing.T) {
	now := int64(0)
	o := Options{SegmentSize: minSegment, MaxSize: 8 * minSegment, Now: func() int64 { return now }}
	dir := t.TempDir()
	l := open(t, dir, o)
	must(t, l.Begin(tagOf(1)))
	seq := uint64(0)
	fill := func(n int) {
		for range n {
			seq++
			appendN(t, l, 1, seq, seq, 1000)
			if seq%5 == 0 {
				must(t, l.Commit())
			}
		}
	}
	fill(100)
	l.SetSafe(at(1, 100))
	fill(200)
	s := l.Stats()
	if s.Evicted == 0 || s.GivenUp != 0 || s.Bytes > o.MaxSize {
		t.Fatalf("safe frames first: %+v", s)
	}
	for l.Stats().GivenUp == 0 {
		fill(20)
	}
	fill(200)
	s = l.Stats()
	if s.Bytes > o.MaxSize {
		t.Fatalf("%d bytes", s.Bytes)
	}
	first, _ := l.Oldest()
	if first.Seq != 100+s.GivenUp+1 {
		t.Fatalf("oldest %d, given up %d", first.Seq, s.GivenUp)
	}
	g := readAll(t, l, at(1, 100), 1000)
	if len(g.missing) != 1 || g.missing[0] != (Range{at(1, 100), first}) {
		t.Fatalf("missing %v", g.missing)
	}
	must(t, l.Close())
	if n := len(segmentFiles(t, dir)); n != s.Segments {
		t.Fatalf("%d files, %d segments", n, s.Segments)
	}
}

func TestAgeIsJudgedOnlyByATrustedClock(t *testing.T) {
	now := int64(0)
	o := Options{SegmentSize: minSegment, MaxAge: 1000e9, Keep: 100e9, Now: func() int64 { return now }}
	l := open(t, t.TempDir(), o)
	must(t, l.Begin(tagOf(1)))
	for seq := uint64(1); seq <= 600; seq++ {
		appendN(t, l, 1, seq, seq, 1000) // frame n at second n
		if seq%10 == 0 {
			must(t, l.Commit())
		}
	}
	if s := l.Stats(); s.Evicted != 0 {
		t.Fatalf("evicted with no clock: %+v", s)
	}
	evict := func(at int64) Stats {
		now = at
		must(t, l.Append(l.lastSeq()+1, []byte("x"), 0))
		must(t, l.Commit())
		return l.Stats()
	}
	if s := evict(600_000); s.Evicted != 0 {
		t.Fatalf("unsafe frames were evicted before max_age: %+v", s)
	}
	l.SetSafe(at(1, 300))
	s := evict(600_001)
	if s.Evicted == 0 || s.GivenUp != 0 {
		t.Fatalf("keep: %+v", s)
	}
	if first, _ := l.Oldest(); first.Seq > 301 {
		t.Fatalf("oldest %s: unsafe frames went with keep", first)
	}
	s = evict(1_500_000)
	if s.GivenUp == 0 {
		t.Fatalf("max_age: %+v", s)
	}
	if first, _ := l.Oldest(); first.Seq > 501 {
		t.Fatalf("oldest %s: too young for max_age", first)
	}
}

func (l *Log) lastSeq() uint64 { p, _ := l.Last(); return p.Seq }

func TestMetaValuesAreDurable(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	if _, ok := l.Meta("instance"); ok {
		t.Fatal("a value from nowhere")
	}
	must(t, l.SetMeta("instance", []byte("12345678")))
	must(t, l.SetMeta("starts", []byte{1}))
	must(t, l.SetMeta("starts", []byte{2}))
	must(t, l.SetMeta("gone", []byte{2}))
	must(t, l.SetMeta("gone", nil))
	if err := l.SetMeta("huge", make([]byte, metaMaxSize)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	c := open(t, copyDir(t, dir), Options{})
	if v, ok := c.Meta("instance"); !ok || string(v) != "12345678" {
		t.Fatalf("%q %v", v, ok)
	}
	if v, _ := c.Meta("starts"); len(v) != 1 || v[0] != 2 {
		t.Fatalf("%v", v)
	}
	if _, ok := c.Meta("gone"); ok {
		t.Fatal("a removed value came back")
	}
	must(t, l.Close())

	path := filepath.Join(dir, metaName)
	b, err := os.ReadFile(path)
	must(t, err)
	binary.LittleEndian.PutUint16(b[6:], formatVersion+1)
	must(t, os.WriteFile(path, b, 0o600))
	damaged := open(t, copyDir(t, dir), Options{})
	if v, ok := damaged.Meta("starts"); !ok || v[0] != 2 || damaged.Stats().Corrupt != 1 {
		t.Fatalf("a damaged version beside a sound copy: %v %v", v, ok)
	}
	must(t, os.WriteFile(filepath.Join(dir, metaCopy), b, 0o600))
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrVersion) {
		t.Fatalf("newer meta files: %v", err)
	}
	b2 := append([]byte(nil), b...)
	binary.LittleEndian.PutUint16(b2[6:], formatVersion)
	must(t, os.WriteFile(filepath.Join(dir, metaCopy), b2, 0o600))
	binary.LittleEndian.PutUint16(b[6:], formatVersion)
	b[len(b)-1] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
	l = open(t, dir, Options{})
	if v, ok := l.Meta("starts"); !ok || v[0] != 2 || l.Stats().Corrupt != 1 {
		t.Fatalf("a corrupt meta file has a copy: %v %v", v, ok)
	}
	if _, err := os.Stat(path + corruptSuffix); err != nil {
		t.Fatal(err)
	}
	must(t, l.SetMeta("starts", []byte{3}))
	must(t, l.Close())
	for _, name := range []string{metaName, metaCopy} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		b[len(b)-1] ^= 1
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	l = open(t, dir, Options{})
	if _, ok := l.Meta("instance"); ok || l.Stats().Corrupt != 1 {
		t.Fatal("corrupt meta files were believed")
	}
}

// reformat puts other values into a segment's file.
func reformat(t *testing.T, path string, format, check []byte) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketAbout)
		if check == nil {
			must(t, b.Delete(keyCheck))
		} else {
			must(t, b.Put(keyCheck, check))
		}
		return b.Put(keyFormat, format)
	}))
	must(t, db.Close())
}

func TestANewerSegmentIsRefusedAndLeftAloneAndADamagedVersionIsDamage(t *testing.T) {
	newer := append(binary.LittleEndian.AppendUint32([]byte(formatMagic), formatVersion+1), "whatever follows"...)
	flipped := formatValue()
	flipped[len(flipped)-4] ^= 4
	for name, c := range map[string]struct {
		format, check []byte
		newer         bool
		corrupt       int
	}{
		"newer":                               {newer, formatCheck(newer), true, 0},
		"a bit of the version":                {flipped, formatCheck(formatValue()), false, 1},
		"a bit of the checksum":               {formatValue(), formatCheck(newer), false, 1},
		"of a program that wrote no checksum": {formatValue(), nil, false, 0},
		"of such a one, with a flipped bit":   {flipped, nil, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir, Options{})
			must(t, l.Begin(tagOf(1)))
			appendN(t, l, 1, 1, 5, 300)
			must(t, l.Close())
			reformat(t, segmentFiles(t, dir)[0], c.format, c.check)
			before, err := os.ReadFile(segmentFiles(t, dir)[0])
			must(t, err)
			l, err = Open(dir, Options{})
			if c.newer {
				if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "format 2, this one knows up to 1") || !strings.Contains(err.Error(), "seg-0000000000.db") {
					t.Fatalf("a newer segment: %v", err)
				}
				if after, err := os.ReadFile(segmentFiles(t, dir)[0]); err != nil || !bytes.Equal(before, after) {
					t.Fatalf("the newer segment was touched: %v", err)
				}
				return
			}
			must(t, err)
			defer func() { must(t, l.Close()) }()
			if n := len(readAll(t, l, Pos{}, 300).pos); n != 5 || l.Stats().Corrupt != c.corrupt {
				t.Fatalf("%d of 5 frames, %d corrupt files, want %d", n, l.Stats().Corrupt, c.corrupt)
			}
		})
	}
}

func TestMetricsComeAndGo(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	l, err := Open(t.TempDir(), Options{Metrics: reg})
	must(t, err)
	must(t, l.Begin(tagOf(1)))
	m, err := reg.Gather()
	must(t, err)
	if len(m) < 14 {
		t.Fatalf("%d metrics", len(m))
	}
	must(t, l.Close())
	if m, _ := reg.Gather(); len(m) != 0 {
		t.Fatal("metrics outlive the log")
	}
}
