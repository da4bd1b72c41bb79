package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// sampleKey names a sample in the fake store.
type sampleKey struct {
	series string
	t      int64
}

// crashStore is a store whose unsynced commits survive a crash or not, as the
// dice fall. It complains of a second value for a sample, and of a sample that is
// appended twice in one run.
type crashStore struct {
	t       testing.TB
	mu      sync.Mutex
	samples map[sampleKey]stored
	commits int
	run     int
	stop    bool
	syncErr func() error // before a sync
	appErr  func(sampleKey) error
}

type stored struct {
	v       uint64
	commit  int
	run     int
	durable bool
}

func newCrashStore(t testing.TB) *crashStore {
	return &crashStore{t: t, samples: map[sampleKey]stored{}}
}

// crashAppender forgets a series now and then.
type crashAppender struct {
	s     *crashStore
	batch map[sampleKey]uint64
	names []string // by reference, less 1; empty: forgotten
	calls int
}

func (s *crashStore) Appender() Appender { return &crashAppender{s: s, batch: map[sampleKey]uint64{}} }

func (s *crashStore) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.syncErr != nil {
		if err := s.syncErr(); err != nil {
			return err
		}
	}
	for k, v := range s.samples {
		v.durable = true
		s.samples[k] = v
	}
	return nil
}

// crash forgets about half of the commits that were not synced.
func (s *crashStore) crash(rnd *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := map[int]bool{}
	for k, v := range s.samples {
		if v.durable {
			continue
		}
		if _, ok := lost[v.commit]; !ok {
			lost[v.commit] = rnd.IntN(2) == 0
		}
		if lost[v.commit] {
			delete(s.samples, k)
		}
	}
	s.run++
}

func labelString(ls []telemetry.Label) string {
	var b strings.Builder
	for _, l := range ls {
		fmt.Fprintf(&b, "%s=%s,", l.Name, l.Value)
	}
	return b.String()
}

func (a *crashAppender) Append(ref uint64, lset []telemetry.Label, t int64, v float64) (uint64, error) {
	if a.calls++; ref != 0 && a.calls%37 == 0 {
		a.names[ref-1] = ""
	}
	if ref != 0 && lset != nil {
		a.s.t.Errorf("reference %d with labels %v", ref, lset)
	}
	if ref != 0 && a.names[ref-1] == "" {
		return 0, nil
	}
	if !slices.IsSortedFunc(lset, func(x, y telemetry.Label) int { return strings.Compare(x.Name, y.Name) }) {
		a.s.t.Errorf("labels are not sorted: %v", lset)
	}
	if ref == 0 {
		a.names = append(a.names, labelString(lset))
		ref = uint64(len(a.names))
	}
	k := sampleKey{a.names[ref-1], t}
	if a.s.appErr != nil {
		if err := a.s.appErr(k); err != nil {
			return 0, err
		}
	}
	if _, ok := a.batch[k]; ok {
		a.s.t.Errorf("%v twice in a batch", k)
	}
	a.batch[k] = math.Float64bits(v)
	return ref, nil
}

func (a *crashAppender) Commit() error {
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits++
	for k, v := range a.batch {
		if was, ok := s.samples[k]; ok {
			if was.v != v {
				s.t.Errorf("%v: %x, and then %x", k, was.v, v)
			}
			if was.run == s.run {
				s.t.Errorf("%v appended twice in a run", k)
			}
			was.run = s.run
			s.samples[k] = was
			continue
		}
		s.samples[k] = stored{v: v, commit: s.commits, run: s.run}
	}
	clear(a.batch)
	return nil
}

func (a *crashAppender) Rollback() error { clear(a.batch); return nil }

// get returns the samples of a quantity on an edge, and whether they are late.
func (s *crashStore) get(edge, quantity string, late bool) map[int64]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int64]float64{}
	for k, v := range s.samples {
		if strings.Contains(k.series, "edge="+edge+",") && strings.Contains(k.series, "__name__="+quantity+",") &&
			strings.Contains(k.series, "late=1") == late {
			out[k.t] = math.Float64frombits(v.v)
		}
	}
	return out
}

// crashLedger loses what was not under a checkpoint.
type crashLedger struct {
	mu                 sync.Mutex
	entries            map[string]Checkpoint
	gaps, pendingGaps  []Gap
	events             []Event
	before, after, now func() error
	checkpoints        int
}

func newCrashLedger() *crashLedger { return &crashLedger{entries: map[string]Checkpoint{}} }

func (l *crashLedger) Load(edge string) (Checkpoint, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.entries[edge]
	return c, ok, nil
}

func (l *crashLedger) Checkpoint(list []Checkpoint) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before != nil {
		if err := l.before(); err != nil {
			return err
		}
	}
	for _, c := range list {
		was := l.entries[c.Edge]
		was.Edge = c.Edge
		if c.Position != nil {
			was.Position = c.Position
		}
		if c.Rules != nil {
			was.Rules = c.Rules
		}
		was.Rules = append(slices.Clone(was.Rules), c.Changes...)
		if c.Schema != nil {
			was.Schema = c.Schema
		}
		l.entries[c.Edge] = was
	}
	for _, g := range l.pendingGaps {
		if !slices.ContainsFunc(l.gaps, func(h Gap) bool { return h.Edge == g.Edge && h.After == g.After && h.Next == g.Next }) {
			l.gaps = append(l.gaps, g)
		}
	}
	l.pendingGaps = nil
	l.checkpoints++
	if l.after != nil {
		return l.after()
	}
	return nil
}

func (l *crashLedger) Gap(g Gap) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pendingGaps = append(l.pendingGaps, g)
	return nil
}

func (l *crashLedger) Event(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	return nil
}

func (l *crashLedger) crash() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pendingGaps = nil
}

func (l *crashLedger) kinds() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.events {
		out = append(out, e.Kind)
	}
	return out
}

// diary is a rule state that writes down all it is told, and saves that.
type diary struct {
	t     testing.TB
	Lines []string
	Begun bool
	last  map[string]int64
	bound []telemetry.BoundSeries
	dirty bool
	saved int // lines
	saves int
}

type diaries struct {
	t  testing.TB
	mu sync.Mutex
	m  map[string]*diary
}

func (d *diaries) Open(edge string, saved []byte) (Fold, error) {
	f := &diary{t: d.t, last: map[string]int64{}}
	for dec := json.NewDecoder(bytes.NewReader(saved)); dec.More(); {
		var part diary
		if err := dec.Decode(&part); err != nil {
			return nil, err
		}
		f.Lines, f.Begun = append(f.Lines, part.Lines...), part.Begun
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.m[edge] = f
	return f, nil
}

func (d *diaries) lines(edge string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.m[edge]; f != nil {
		return f.Lines
	}
	return nil
}

func (f *diary) Bind(s []telemetry.BoundSeries) { f.bound = s }

func (f *diary) Observe(series uint32, t int64, v float64, q telemetry.Quality) {
	b := f.bound[series]
	key := b.Device + "/" + b.Point
	if last, ok := f.last[key]; ok && t <= last {
		f.t.Errorf("%s/%s observed at %d after %d", b.Edge, key, t, last)
	}
	f.last[key] = t
	f.write("%s %d %g %v", key, t, v, q)
}

func (f *diary) ObserveText(uint32, int64, string, telemetry.Quality) {}

func (f *diary) Unobserved(from, to int64) {
	if to < from {
		clear(f.last)
	}
	f.write("unobserved %d %d", from, to)
}

// Advance leaves the first one out: it only says since when the edge looks.
func (f *diary) Advance(w int64) {
	if f.Begun {
		f.write("advance %d", w)
	}
	f.Begun = true
}

func (f *diary) write(format string, a ...any) {
	f.Lines = append(f.Lines, fmt.Sprintf(format, a...))
	f.dirty = true
}

// SaveChanges writes the lines that are new, most of the time.
func (f *diary) SaveChanges(dst []byte) (out []byte, whole bool) {
	part := *f
	if whole = f.saved == 0 || f.saves%5 == 0; !whole {
		part.Lines = f.Lines[f.saved:]
	}
	b, err := json.Marshal(part)
	if err != nil {
		f.t.Error(err)
	}
	f.dirty, f.saved = false, len(f.Lines)
	f.saves++
	return append(dst, b...), whole
}

func (f *diary) Dirty() bool { return f.dirty }
