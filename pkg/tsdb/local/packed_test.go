package local

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/packed"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
	"github.com/prometheus/prometheus/model/labels"
	promvalue "github.com/prometheus/prometheus/model/value"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

func plain(o *Options) { o.Plain = true }

// sorts are what values may be like.
var sorts = []func(r *rand.Rand, v float64) float64{
	func(r *rand.Rand, v float64) float64 { return math.Round(v*10+float64(r.IntN(9)-4)) / 10 },
	func(r *rand.Rand, _ float64) float64 { return float64(r.IntN(4096)) * 2053 / 10000 },
	func(_ *rand.Rand, v float64) float64 { return v + 417 },
	func(r *rand.Rand, v float64) float64 {
		if r.IntN(30) == 0 {
			return float64(r.IntN(3))
		}
		return v
	},
	func(r *rand.Rand, _ float64) float64 { return r.NormFloat64() },
	func(r *rand.Rand, v float64) float64 {
		if r.IntN(40) == 0 {
			return []float64{math.Copysign(0, -1), math.Inf(1), math.Float64frombits(promvalue.StaleNaN), math.NaN(), 1e300}[r.IntN(5)]
		}
		return math.Round(r.Float64()*1e6) / 1e3
	},
	func(r *rand.Rand, _ float64) float64 { return float64(r.Int64()) },
	func(r *rand.Rand, _ float64) float64 { return math.Round(r.Float64()*1e9) / math.Pow10(r.IntN(10)) },
}

// feedSorts gives each store the same series of every sort over hours, regular and
// irregular ones, a part of the samples late.
func feedSorts(t *testing.T, seed uint64, hours int64, stores ...*Store) {
	t.Helper()
	apps := make([]tsdb.Appender, len(stores))
	for i, s := range stores {
		apps[i] = s.Appender()
	}
	each := func(point string, at int64, v float64) {
		for _, app := range apps {
			_, err := app.Append(0, lset(point), at, v)
			check(t, err)
		}
	}
	commit := func() {
		for _, app := range apps {
			check(t, app.Commit())
		}
	}
	for i, sort := range sorts {
		for k, step := range []int64{10_000, 14_000} {
			r := rand.New(rand.NewPCG(seed, uint64(2*i+k)))
			point := fmt.Sprintf("%d-%d", i, k)
			v, late := 20.0, map[int64]float64{}
			for at := t0; at < t0+hours*hour; at += step {
				if v-v != 0 {
					v = 20
				}
				v = sort(r, v)
				when := at
				if k == 1 {
					when += r.Int64N(5000)
				}
				if r.IntN(50) == 0 {
					at += r.Int64N(hour / 2)
				}
				if r.IntN(9) == 0 {
					late[when] = v
					continue
				}
				each(point, when, v)
			}
			commit()
			for when, v := range late {
				each(point, when, v)
			}
			commit()
		}
	}
}

// compactAll compacts until nothing is left to do.
func compactAll(t testing.TB, s *Store) {
	t.Helper()
	check(t, s.db.Compact(context.Background()))
	check(t, s.db.CompactOOOHead(context.Background()))
	check(t, s.db.Compact(context.Background()))
}

func packedBlocks(s *Store) (n int) {
	for _, b := range s.db.Blocks() {
		if packed.Packed(b.Meta()) {
			n++
		}
	}
	return n
}

// bits is a sample that is equal to another only if it has the same bits.
type bits struct {
	t int64
	v uint64
}

// readBits reads all series from one time to another, through Next, or with Seek
// through steps.
func readBits(t testing.TB, s *Store, from, to, step int64) map[string][]bits {
	t.Helper()
	q, err := s.Queryable().Querier(from, to)
	check(t, err)
	defer func() { check(t, q.Close()) }()
	out := make(map[string][]bits)
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "point", ".+"))
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		name := series.Labels().Get("point")
		it = series.Iterator(it)
		next := it.Next
		if at := from; step > 0 {
			next = func() chunkenc.ValueType { at += step; return it.Seek(at) }
		}
		for next() == chunkenc.ValFloat {
			at, v := it.At()
			out[name] = append(out[name], bits{at, math.Float64bits(v)})
		}
		check(t, it.Err())
	}
	check(t, set.Err())
	return out
}

func expectEqual(t testing.TB, what string, got, want map[string][]bits) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d series, want %d", what, len(got), len(want))
	}
	for name, w := range want {
		g := got[name]
		if len(g) != len(w) {
			t.Fatalf("%s: series %s has %d samples, want %d", what, name, len(g), len(w))
		}
		for i := range w {
			if g[i] != w[i] {
				t.Fatalf("%s: series %s, sample %d is %v, want %v", what, name, i, g[i], w[i])
			}
		}
	}
}

func TestPackedBlocksAnswerAsPlainOnesDo(t *testing.T) {
	a, b := mustOpen(t, t.TempDir(), plain), mustOpen(t, t.TempDir())
	feedSorts(t, 1, 14, a, b)
	all := readBits(t, a, t0, t0+14*hour, 0)
	for round := range 2 {
		compactAll(t, a)
		compactAll(t, b)
		if n := packedBlocks(b); n == 0 || n != b.Stats().Blocks || packedBlocks(a) != 0 {
			t.Fatalf("%d of %d blocks are packed, %d of the plain store", n, b.Stats().Blocks, packedBlocks(a))
		}
		expectEqual(t, "plain", readBits(t, a, t0, t0+14*hour, 0), all)
		expectEqual(t, "packed", readBits(t, b, t0, t0+14*hour, 0), all)
		r := rand.New(rand.NewPCG(uint64(round), 1))
		for range 20 {
			from := t0 + r.Int64N(14*hour)
			to := from + r.Int64N(3*hour)
			what := fmt.Sprintf("round %d, from %d to %d", round, from, to)
			expectEqual(t, what, readBits(t, b, from, to, 0), readBits(t, a, from, to, 0))
			step := 1 + r.Int64N(100_000)
			expectEqual(t, what+" in steps", readBits(t, b, from, to, step), readBits(t, a, from, to, step))
		}
		var na, nb uint64
		for _, x := range a.db.Blocks() {
			na += x.Meta().Stats.NumFloatSamples
		}
		for _, x := range b.db.Blocks() {
			nb += x.Meta().Stats.NumFloatSamples
		}
		if na != nb {
			t.Errorf("%d samples in packed blocks, %d in plain ones", nb, na)
		}
		// Late ones for blocks that stand: blocks overlap, and are joined again.
		for h := range int64(10) {
			for _, s := range []*Store{a, b} {
				add(t, s, "late", t0+(h+1)*hour+int64(round)*300_000, 100)
			}
		}
		all = readBits(t, a, t0, t0+14*hour, 0)
	}
	if x, y := a.Stats().BlockBytes, b.Stats().BlockBytes; y >= x {
		t.Errorf("packed blocks take %d bytes, plain ones %d", y, x)
	}
}

// readsAsPrometheus reports whether blocks can be read without this program.
func readsAsPrometheus(t *testing.T, dir string) error {
	t.Helper()
	b, err := promtsdb.OpenBlock(nil, dir, nil, nil)
	check(t, err)
	defer func() { check(t, b.Close()) }()
	q, err := promtsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	check(t, err)
	defer func() { check(t, q.Close()) }()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "point", ".+"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			it.At()
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	return set.Err()
}

func TestBlocksOfOlderVersionsBecomeSmallAndPlainOnesCanBeHadAgain(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, plain)
	feedSorts(t, 2, 12, s)
	compactAll(t, s)
	all, size := readBits(t, s, t0, t0+12*hour, 0), s.Stats().BlockBytes
	check(t, s.Close())
	for round := range 2 {
		s = mustOpen(t, dir)
		expectEqual(t, "plain blocks", readBits(t, s, t0, t0+12*hour, 0), all)
		compactAll(t, s)
		if n := packedBlocks(s); n != s.Stats().Blocks {
			t.Fatalf("%d of %d blocks are packed", n, s.Stats().Blocks)
		}
		for _, b := range s.db.Blocks() {
			if err := readsAsPrometheus(t, b.Dir()); err == nil || !strings.Contains(err.Error(), "invalid chunk encoding") {
				t.Errorf("a packed block read without this package: %v", err)
			}
		}
		expectEqual(t, "packed blocks", readBits(t, s, t0, t0+12*hour, 0), all)
		check(t, s.Close())
		s = mustOpen(t, dir, plain)
		expectEqual(t, "packed blocks", readBits(t, s, t0, t0+12*hour, 0), all)
		compactAll(t, s)
		if n := packedBlocks(s); n != 0 {
			t.Fatalf("%d of %d blocks are packed", n, s.Stats().Blocks)
		}
		for _, b := range s.db.Blocks() {
			check(t, readsAsPrometheus(t, b.Dir()))
		}
		expectEqual(t, "plain blocks again", readBits(t, s, t0, t0+12*hour, 0), all)
		if now := s.Stats().BlockBytes; math.Abs(float64(now-size)) > float64(size)/20 {
			t.Errorf("round %d: %d bytes, were %d", round, now, size)
		}
		check(t, s.Close())
	}
}

func TestABlockOfALaterFormatIsNamedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	feedSorts(t, 3, 8, s)
	compactAll(t, s)
	block := s.db.Blocks()[0].Dir()
	check(t, s.Close())
	path := filepath.Join(block, "meta.json")
	b, err := os.ReadFile(path)
	check(t, err)
	var m map[string]any
	check(t, json.Unmarshal(b, &m))
	m["compaction"].(map[string]any)["hints"] = []string{"langbiang-packed-2"}
	b, err = json.Marshal(m)
	check(t, err)
	check(t, os.WriteFile(path, b, 0o644))
	_, err = Open(dir, smallOptions)
	if err == nil || !strings.Contains(err.Error(), filepath.Base(block)) || !strings.Contains(err.Error(), "newer version") {
		t.Fatalf("error %v", err)
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, ".corrupt-*")); len(aside) > 0 {
		t.Errorf("set aside: %v", aside)
	}
}

func TestADamagedPackedChunkIsAnErrorOfItsQueriesAlone(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	feedSorts(t, 4, 9, s)
	compactAll(t, s)
	block := s.db.Blocks()[0]
	path := filepath.Join(block.Dir(), "chunks", "000001")
	st, err := os.Stat(path)
	check(t, err)
	from := block.Meta().MaxTime
	check(t, s.Close())
	for at := int64(8); at < st.Size(); at += st.Size() / 7 {
		flip(t, path, at)
	}
	s = mustOpen(t, dir)
	q, err := s.Queryable().Querier(t0, t0+9*hour)
	check(t, err)
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "point", ".+"))
	failed := 0
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			it.At()
		}
		if it.Err() != nil {
			failed++
		}
	}
	check(t, set.Err())
	check(t, q.Close())
	if failed == 0 || failed == 2*len(sorts) {
		t.Errorf("%d series of %d cannot be read", failed, 2*len(sorts))
	}
	if got := readBits(t, s, from, t0+9*hour, 0); len(got) == 0 {
		t.Error("nothing is left of the other blocks")
	}
}

func TestWhatIsDeletedStaysDeletedInPackedBlocks(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	feedSorts(t, 5, 20, s)
	compactAll(t, s)
	from, to := t0+90*60_000, t0+4*hour+1234
	check(t, s.db.Delete(context.Background(), from, to, labels.MustNewMatcher(labels.MatchRegexp, "point", ".+-0")))
	want := readBits(t, s, t0, t0+20*hour, 0)
	for _, b := range want["0-0"] {
		if b.t >= from && b.t <= to {
			t.Fatal("nothing was deleted")
		}
	}
	expectEqual(t, "before", readBits(t, s, t0, t0+20*hour, 0), want)
	add(t, s, "late", t0+100*60_000, 10) // overlaps, so that the block is written anew
	compactAll(t, s)
	for _, b := range s.db.Blocks() {
		if n := b.Meta().Stats.NumTombstones; n > 0 && b.MinTime() < to {
			t.Errorf("a block has %d tombstones", n)
		}
	}
	got := readBits(t, s, t0, t0+20*hour, 0)
	delete(got, "late")
	expectEqual(t, "after", got, want)
}

// Blocks are replaced under those who read them.
func TestQueriesGoOnWhileBlocksAreReplaced(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	feedSorts(t, 6, 8, s)
	want := readBits(t, s, t0, t0+8*hour, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				got := readBits(t, s, t0, t0+8*hour, 0)
				delete(got, "late")
				expectEqual(t, "meanwhile", got, want)
			}
		})
	}
	for round := range int64(2) {
		compactAll(t, s)
		for h := range int64(5) {
			add(t, s, "late", t0+h*hour+round*1000_000, 100)
		}
	}
	cancel()
	wg.Wait()
	maps := mapped(t, s.dir)
	for _, b := range s.db.Blocks() {
		for path := range maps {
			if strings.Contains(path, b.Meta().ULID.String()) {
				delete(maps, path)
			}
		}
	}
	for path := range maps {
		if strings.Contains(path, "chunks/") {
			t.Errorf("%s is mapped and its block is gone", path)
		}
	}
	check(t, s.Close())
	if left := mapped(t, s.dir); len(left) > 0 {
		t.Errorf("mapped after Close: %v", left)
	}
}

// mapped returns the files below dir that are mapped into memory.
func mapped(t *testing.T, dir string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	check(t, err)
	out := make(map[string]bool)
	for line := range strings.Lines(string(b)) {
		if i := strings.Index(line, dir+"/"); i >= 0 {
			out[strings.TrimSpace(line[i:])] = true
		}
	}
	return out
}

func TestNewestBlocksAreSmallAtOnce(t *testing.T) {
	s := mustOpen(t, t.TempDir(), func(o *Options) {
		o.Retention = 10 * minBlock // blocks are never joined
		o.Now = func() int64 { return t0 + 5*hour }
	})
	app := s.Appender()
	for i := range 5 * 3600 {
		_, err := app.Append(0, tsdbtest.Labels("air_temperature", "a"), t0+int64(i)*1000, float64(200+i%37)/10)
		check(t, err)
		_, err = app.Append(0, tsdbtest.Labels("air_temperature", strconv.Itoa(i%50)), t0+int64(i)*1000, float64(i))
		check(t, err)
	}
	check(t, app.Commit())
	check(t, s.db.Compact(context.Background()))
	if n := s.Stats().Blocks; n == 0 || n != packedBlocks(s) {
		t.Errorf("%d of %d blocks are packed", packedBlocks(s), n)
	}
}

func TestNoBlockIsWrittenAnewWithoutRoomForIt(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, plain)
	feedSorts(t, 7, 8, s)
	compactAll(t, s)
	want := readBits(t, s, t0, t0+8*hour, 0)
	check(t, s.Close())
	var free atomic.Int64
	free.Store(1000)
	s = mustOpen(t, dir, func(o *Options) { o.FreeSpace = func(string) (int64, error) { return free.Load(), nil } })
	check(t, s.db.Compact(context.Background()))
	if n := packedBlocks(s); n != 0 {
		t.Errorf("%d blocks were written anew", n)
	}
	free.Store(1 << 40)
	check(t, s.db.Compact(context.Background()))
	if n := packedBlocks(s); n != s.Stats().Blocks {
		t.Errorf("%d of %d blocks are packed once there is room", n, s.Stats().Blocks)
	}
	expectEqual(t, "packed", readBits(t, s, t0, t0+8*hour, 0), want)
}
