package e2e

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// facts is what is known of an edge's log from outside: the frames that stood in
// it, committed, whenever the agent was down, and the frames that went over the
// wire. From these it is judged what the hub must have and may have.
type facts struct {
	t    *testing.T
	edge string

	mu       sync.Mutex
	accepted map[wire.Pos][]byte      // as they stand in the log
	sent     map[wire.Pos]*wire.Frame // as they were sent, with their true times
	dec      *wire.Decoder
	schemas  map[wire.Hash]*telemetry.Schema
	present  map[wire.Pos]bool   // in the log at the last audit
	excluded map[wire.Epoch]bool // of a disk image that was taken out again
	harmed   bool                // the disk was damaged or full since the last audit
	last     wire.Pos
}

func newFacts(t *testing.T, edge string) *facts {
	return &facts{
		t: t, edge: edge, accepted: map[wire.Pos][]byte{}, sent: map[wire.Pos]*wire.Frame{}, dec: wire.NewDecoder(),
		schemas: map[wire.Hash]*telemetry.Schema{}, excluded: map[wire.Epoch]bool{},
	}
}

// send takes down a publication of the edge.
func (f *facts) send(topic string, payload []byte) {
	if !strings.HasSuffix(topic, "/"+wire.TopicFrame) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	kind, err := wire.Peek(payload)
	if err != nil {
		f.t.Errorf("%s sent what cannot be read: %v", f.edge, err)
		return
	}
	switch kind {
	case wire.KindSchema:
		f.schema(payload)
	case wire.KindFrame:
		var fr wire.Frame
		if err := f.dec.DecodeFrame(payload, &fr); err != nil {
			f.t.Errorf("%s sent what cannot be read: %v", f.edge, err)
			return
		}
		f.sentFrame(&fr)
	case wire.KindJoined:
		var run wire.Joined
		if err := f.dec.DecodeJoined(payload, &run); err != nil {
			f.t.Errorf("%s sent what cannot be read: %v", f.edge, err)
			return
		}
		run.Frames(func(fr *wire.Frame) bool { f.sentFrame(fr); return true })
	}
}

// sentFrame takes down a frame, alone or out of a run: it must be the same each
// time that it is sent.
func (f *facts) sentFrame(fr *wire.Frame) {
	own := *fr
	own.Readings = slices.Clone(fr.Readings)
	if was, ok := f.sent[fr.Pos()]; !ok {
		f.sent[fr.Pos()] = &own
	} else if err := same(was, &own, 0); err != nil {
		f.t.Errorf("%s sent two different frames %v: %v", f.edge, fr.Pos(), err)
	}
}

func (f *facts) schema(raw []byte) {
	s, hash, err := wire.DecodeSchema(raw)
	if err != nil {
		f.t.Errorf("%s: schema: %v", f.edge, err)
		return
	}
	f.schemas[hash] = s
}

// readLog hands out what is committed in a copy of an edge's log, which so stays
// as it is.
func readLog(t *testing.T, dir string, frame func(pos wire.Pos, payload []byte, log *buffer.Log)) (last wire.Pos) {
	t.Helper()
	copied := clone(t, dir, filepath.Join(t.TempDir(), "log"))
	defer func() { _ = os.RemoveAll(copied) }()
	log, err := buffer.Open(copied, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	place := func(p buffer.Pos) wire.Pos {
		if p.IsZero() {
			return wire.Pos{}
		}
		return wire.Pos{Epoch: wire.EpochFrom(p.Epoch), Seq: p.Seq}
	}
	after := buffer.Pos{}
	for n := 1; n > 0; {
		n = 0
		err := log.Read(after, 1<<20, func(r buffer.Record) error {
			n++
			after = r.Pos
			frame(place(r.Pos), r.Payload, log)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if p, ok := log.Last(); ok {
		last = place(p)
	}
	return last
}

// audit takes down what the log holds now. The agent must be down.
func (f *facts) audit(dir string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	here := map[wire.Pos]bool{}
	f.last = readLog(f.t, dir, func(pos wire.Pos, payload []byte, log *buffer.Log) {
		here[pos] = true
		if was, ok := f.accepted[pos]; ok && !bytes.Equal(was, payload) {
			f.t.Errorf("%s: frame %v was another one before", f.edge, pos)
		}
		f.accepted[pos] = bytes.Clone(payload)
		h, err := wire.PeekFrame(payload)
		if err != nil {
			f.t.Errorf("%s: frame %v: %v", f.edge, pos, err)
			return
		}
		if f.schemas[h.Schema] == nil {
			if raw, ok := log.Attachment(h.Schema); ok {
				f.schema(raw)
			} else {
				f.t.Errorf("%s: frame %v lies in the log without its schema", f.edge, pos)
			}
		}
	})
	if !f.harmed {
		for pos := range f.present {
			if !here[pos] {
				f.t.Errorf("%s: frame %v was accepted, nothing happened to the disk, and it is gone", f.edge, pos)
			}
		}
	}
	f.harmed, f.present = false, here
}

// fact is a reading of a frame.
type fact struct {
	key key
	at  int64
}

// readings gives the samples that the store must have of a frame.
func (f *facts) readings(fr *wire.Frame, give func(fact, float64)) error {
	s := f.schemas[fr.Schema]
	if s == nil {
		return errors.New("its schema was never seen")
	}
	for _, r := range fr.Readings {
		d := s.Series[r.Series]
		if r.Quality.IsBad() || d.Kind == telemetry.KindText {
			continue
		}
		give(fact{key{s.Devices[d.Device].ID, d.Point}, r.Time}, r.Value)
	}
	return nil
}

// samples are the accepted ones of a series.
func (f *facts) samples(k key) map[int64]float64 {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[int64]float64{}
	for pos, payload := range f.accepted {
		fr := f.sent[pos] // with its true times
		if fr == nil {
			fr = &wire.Frame{}
			if err := f.dec.DecodeFrame(payload, fr); err != nil {
				f.t.Errorf("%s: frame %v: %v", f.edge, pos, err)
				continue
			}
		}
		err := f.readings(fr, func(x fact, value float64) {
			if x.key == k {
				out[x.at] = value
			}
		})
		if err != nil {
			f.t.Errorf("%s: frame %v: %v", f.edge, pos, err)
		}
	}
	return out
}

// gap is a range that was declared at the hub.
type gap struct {
	after, next string
	reason      string
}

// declared reads the gaps that the hub has taken down. The hub must be down.
func declared(t *testing.T, dir, edge string) (gaps []gap) {
	t.Helper()
	l, err := ledger.Open(clone(t, dir, filepath.Join(t.TempDir(), "ledger")), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	list, err := l.Gaps(edge)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range list {
		gaps = append(gaps, gap{g.After, g.Next, g.Reason})
	}
	return gaps
}

// covers reports whether a place lies within the gap.
func (g gap) covers(p wire.Pos) bool {
	return before(g.after, p) && !before(g.next, p) && g.next != p.String()
}

// before reports whether a place as it is written lies before another.
func before(text string, p wire.Pos) bool {
	if text == (wire.Pos{}).String() {
		return true
	}
	i, j := strings.IndexByte(text, '/'), strings.IndexByte(text, ':')
	var start uint32
	var seq uint64
	if _, err := fmt.Sscanf(text[max(0, i):], "/%d:%d", &start, &seq); err != nil || j < i {
		return false
	}
	return start < p.Epoch.Start || start == p.Epoch.Start && seq < p.Seq
}

// verdict compares what the hub has with what it must and may have.
type verdict struct {
	frames, readings, missing, declared, surplus, collisions, needless int
}

// judge checks promise 1 for the edge: what was accepted and is not declared
// missing stands in the store once, with its value; what stands there was sent;
// what is declared missing is not in the log. kept are the places that the log
// still holds.
func (f *facts) judge(onTime, late map[key]map[int64]float64, gaps []gap, kept map[wire.Pos]bool) (v verdict) {
	f.t.Helper()
	must := map[fact][]float64{}  // accepted and not declared missing
	in := map[fact]wire.Pos{}     // by which frame
	given := map[fact][]float64{} // everything that was ever sent or accepted
	for pos, payload := range f.accepted {
		if f.excluded[pos.Epoch] {
			continue
		}
		fr := &wire.Frame{}
		if err := f.dec.DecodeFrame(payload, fr); err != nil {
			f.t.Errorf("%s: frame %v: %v", f.edge, pos, err)
			continue
		}
		if was := f.sent[pos]; was != nil {
			shift := int64(0)
			if fr.Untimed { // it stands in the log with the time since boot
				shift = was.W - fr.W
			}
			if err := same(fr, was, shift); err != nil {
				f.t.Errorf("%s: frame %v was sent with other content than it has in the log: %v", f.edge, pos, err)
			}
			fr = was
		}
		v.frames++
		covered := slices.ContainsFunc(gaps, func(g gap) bool { return g.covers(pos) })
		if covered {
			v.declared++
			if kept[pos] {
				v.needless++
				f.t.Errorf("%s: frame %v is declared missing, and the edge has it", f.edge, pos)
			}
		}
		err := f.readings(fr, func(x fact, value float64) {
			given[x] = append(given[x], value)
			if !covered {
				v.readings++
				must[x] = append(must[x], value)
				in[x] = pos
			}
		})
		if err != nil {
			f.t.Errorf("%s: frame %v: %v", f.edge, pos, err)
		}
	}
	for pos, fr := range f.sent {
		if _, ok := f.accepted[pos]; ok || f.excluded[pos.Epoch] {
			continue
		}
		if err := f.readings(fr, func(x fact, value float64) { given[x] = append(given[x], value) }); err != nil {
			f.t.Errorf("%s: sent frame %v: %v", f.edge, pos, err)
		}
	}
	for x, values := range must {
		a, okA := onTime[x.key][x.at]
		b, okB := late[x.key][x.at]
		switch {
		case !okA && !okB:
			if v.missing++; v.missing < 10 {
				f.t.Errorf("%s: accepted and not stored: %v at %d = %v, of frame %v; in the log now: %v", f.edge, x.key, x.at, values, in[x], kept[in[x]])
			}
			continue
		case okA && !slices.Contains(given[x], a), okB && !slices.Contains(given[x], b):
			f.t.Errorf("%s: %v at %d is %v, stored as %v %v", f.edge, x.key, x.at, values, a, b)
		case okA && okB && len(given[x]) == 1:
			f.t.Errorf("%s: %v at %d stands in the store twice", f.edge, x.key, x.at)
		}
		if len(given[x]) > 1 {
			v.collisions++ // two eras of a clock that stepped back share the millisecond
		}
	}
	for _, samples := range []map[key]map[int64]float64{onTime, late} {
		for k := range samples {
			for at, value := range samples[k] {
				x := fact{k, at}
				if _, ok := must[x]; ok {
					continue
				}
				if !slices.Contains(given[x], value) {
					f.t.Errorf("%s: %v at %d = %v stands in the store, and no frame ever said so", f.edge, k, at, value)
				}
				v.surplus++
			}
		}
	}
	return v
}

// same compares the readings of two frames, the times of the second being so much
// later.
func same(x, y *wire.Frame, shift int64) error {
	if len(x.Readings) != len(y.Readings) {
		return fmt.Errorf("%d and %d readings", len(x.Readings), len(y.Readings))
	}
	// The order of series is the encoder's choice.
	order := func(rs []telemetry.Reading) []telemetry.Reading {
		rs = slices.Clone(rs)
		slices.SortFunc(rs, func(a, b telemetry.Reading) int {
			return cmp.Or(cmp.Compare(a.Series, b.Series), cmp.Compare(a.Time, b.Time))
		})
		return rs
	}
	xs, ys := order(x.Readings), order(y.Readings)
	for i := range xs {
		p, q := xs[i], ys[i]
		if p.Series != q.Series || math.Float64bits(p.Value) != math.Float64bits(q.Value) || p.Text != q.Text || p.Quality != q.Quality || q.Time-p.Time != shift {
			return fmt.Errorf("reading %d is %+v and %+v", i, p, q)
		}
	}
	return nil
}

func countSamples(m map[key]map[int64]float64) (n int) {
	for samples := range maps.Values(m) {
		n += len(samples)
	}
	return n
}

// epochs are those that were seen, in the log or on the wire.
func (f *facts) epochs() map[wire.Epoch]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := map[wire.Epoch]bool{}
	for pos := range f.accepted {
		known[pos.Epoch] = true
	}
	for pos := range f.sent {
		known[pos.Epoch] = true
	}
	return known
}

// exclude leaves out the epochs of a disk that is to be taken out again, but for
// those that were known before.
func (f *facts) exclude(dir string, known map[wire.Epoch]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	readLog(f.t, dir, func(pos wire.Pos, _ []byte, _ *buffer.Log) {
		if !known[pos.Epoch] {
			f.excluded[pos.Epoch] = true
		}
	})
	for pos := range f.sent {
		if !known[pos.Epoch] {
			f.excluded[pos.Epoch] = true
		}
	}
}
