package uplink

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// memLog is a log in memory that can evict, and forget a tail.
type memLog struct {
	mu      sync.Mutex
	entries []entry
	last    wire.Pos // survives eviction
	safe    wire.Pos
	schemas map[wire.Hash][]byte
	changed chan struct{}
}

func newMemLog() *memLog {
	return &memLog{schemas: map[wire.Hash][]byte{}, changed: make(chan struct{})}
}

func (l *memLog) Read(after wire.Pos, most int, fn func(Record) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := slices.ContainsFunc(l.entries, func(e entry) bool { return e.pos.Epoch == after.Epoch })
	given := 0
	for _, e := range l.entries {
		if known && e.pos.Compare(after) <= 0 {
			continue
		}
		if given > 0 && given+len(e.payload) > most {
			return nil
		}
		given += len(e.payload)
		if err := fn(Record{e.pos, e.payload, e.unsure}); err != nil {
			return err
		}
	}
	return nil
}

func (l *memLog) Oldest() (wire.Pos, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 {
		return wire.Pos{}, false
	}
	return l.entries[0].pos, true
}

func (l *memLog) Last() (wire.Pos, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, !l.last.IsZero()
}

func (l *memLog) Attachment(key [16]byte) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.schemas[key]
	return b, ok
}

func (l *memLog) SetSafe(p wire.Pos) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.safe = p
}

func (l *memLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *memLog) append(pos wire.Pos, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{pos: pos, payload: payload})
	l.last = pos
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *memLog) safePos() wire.Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.safe
}

// modelHub takes frames in order, once, as the hub does.
type modelHub struct {
	t          testing.TB
	pos, safe  wire.Pos
	frames     []wire.Pos // taken, in order
	gaps       []wire.Gap
	savedAt    int // lengths of the two at the last checkpoint
	savedGaps  int
	schemas    map[wire.Hash]bool
	instance   wire.Instance
	credit     uint32
	largest    uint32 // credit ever granted
	joined     int    // frames that came together with others
	violations []string
}

// take handles a message and returns the acknowledgement to send, if any.
func (h *modelHub) take(now time.Time, topic string, payload []byte) (wire.Ack, bool) {
	a := wire.Ack{Instance: h.instance, Credit: h.credit, HubTime: now.UnixMilli()}
	if topic == wire.TopicHello {
		var hello wire.Hello
		if err := wire.DecodeHello(payload, &hello); err != nil {
			h.violations = append(h.violations, err.Error())
			return a, false
		}
		a.Nonce = hello.Nonce
		return h.fill(a), true
	}
	kind, err := wire.Peek(payload)
	if err != nil {
		h.violations = append(h.violations, err.Error())
		return a, false
	}
	switch kind {
	case wire.KindSchema:
		if _, hash, err := wire.DecodeSchema(payload); err == nil {
			h.schemas[hash] = true
		}
		return a, false
	case wire.KindGap:
		var g wire.Gap
		if err := wire.DecodeGap(payload, &g); err != nil {
			h.violations = append(h.violations, err.Error())
			return a, false
		}
		switch {
		case g.After == h.pos:
			h.gaps = append(h.gaps, g)
			h.pos = g.Taken()
		case g.Taken().Compare(h.pos) > 0:
			a.Status = wire.StatusHole
		}
		return h.fill(a), true
	}
	var run wire.Joined
	if kind == wire.KindJoined {
		err = wire.PeekJoined(payload, &run)
		h.joined += len(run.Headers)
	} else {
		var f wire.Header
		f, err = wire.PeekFrame(payload)
		run.Headers = append(run.Headers, f)
	}
	if err != nil {
		h.violations = append(h.violations, err.Error())
		return a, false
	}
	if len(payload) > int(max(h.largest, h.credit)) && kind == wire.KindJoined {
		h.violations = append(h.violations, "joined frames that are larger than the credit")
	}
	for _, f := range run.Headers {
		if f.Untimed {
			h.violations = append(h.violations, "an untimed frame arrived")
		}
		switch {
		case f.Follows(h.pos):
			if !h.schemas[f.Schema] {
				a.Status, a.Need = wire.StatusHole, f.Schema
				return h.fill(a), true
			}
			h.pos = f.Pos()
			h.frames = append(h.frames, h.pos)
		case f.Pos().Compare(h.pos) > 0:
			a.Status = wire.StatusHole
			return h.fill(a), true
		}
	}
	return h.fill(a), true
}

func (h *modelHub) fill(a wire.Ack) wire.Ack {
	a.Got, a.Safe = h.pos, h.safe
	h.largest = max(h.largest, h.credit)
	return a
}

func (h *modelHub) checkpoint() {
	h.safe, h.savedAt, h.savedGaps = h.pos, len(h.frames), len(h.gaps)
}

func (h *modelHub) crash() {
	h.pos, h.frames, h.gaps = h.safe, h.frames[:h.savedAt], h.gaps[:h.savedGaps]
	h.schemas = map[wire.Hash]bool{}
}

// delivery is a message under way.
type delivery struct {
	at      time.Time
	toHub   bool
	topic   string
	payload []byte
	ack     wire.Ack
}

// world runs a session against a model hub in virtual time.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	cfg     Config
	log     *memLog
	hub     *modelHub
	s       *session
	under   []delivery
	online  bool
	calm    bool // no more faults
	boot    bool // the clock of the current boot is known
	seq     uint64
	starts  uint32
	enc     *wire.Encoder
	schema  wire.Hash
	unsent  map[wire.Pos]bool // frames that can never be sent
	commits int               // entries that survive a power cut
	observe func(message)     // may be nil
	steps   int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.UnixMilli(1_760_000_000_000), log: newMemLog(), enc: wire.NewEncoder(nil), unsent: map[wire.Pos]bool{}}
	w.hub = &modelHub{t: t, schemas: map[wire.Hash]bool{}, instance: wire.Instance{1}, credit: 2000}
	w.start()
	return w
}

// start is a start of the agent: a new epoch and perhaps a new schema.
func (w *world) start() {
	w.starts++
	w.cfg = Config{URL: "mqtt://hub:1883", Edge: "a", Epoch: wire.Epoch{Instance: wire.Instance{1}, Start: w.starts, Random: w.rng.Uint32()}}
	w.cfg.Retime = func([16]byte) (int64, bool, bool) { return 1_000_000, false, w.boot || w.calm }
	if w.rng.IntN(3) == 0 {
		w.cfg.MaxRate = 20_000
	}
	if w.rng.IntN(3) == 0 {
		w.cfg.SendEvery, w.cfg.AckWithin = 20*time.Second, 5*time.Second
	}
	if w.rng.IntN(3) == 0 {
		w.cfg.JoinReadings = 10 + w.rng.IntN(200)
	}
	if err := w.cfg.check(); err != nil {
		w.t.Fatal(err)
	}
	w.boot = w.rng.IntN(2) == 0
	w.seq = 0
	schema := &telemetry.Schema{Devices: []telemetry.Device{{ID: fmt.Sprintf("d%d", w.rng.IntN(4))}}}
	payload, hash, err := wire.EncodeSchema(nil, schema)
	if err != nil {
		w.t.Fatal(err)
	}
	w.log.schemas[hash], w.schema = payload, hash
	w.s = newSession(&w.cfg, w.log, w.rng.Uint64())
	w.online = false
}

func (w *world) appendFrame() {
	w.seq++
	f := &wire.Frame{Header: wire.Header{Epoch: w.cfg.Epoch, Seq: w.seq, Schema: w.schema, PrevW: int64(w.seq) - 1, W: int64(w.seq), Untimed: !w.boot && w.rng.IntN(3) == 0}}
	if w.seq == 1 {
		f.Prev = w.log.last
	}
	for range w.rng.IntN(30) {
		f.Readings = append(f.Readings, telemetry.Reading{Value: w.rng.NormFloat64()})
	}
	payload, err := w.enc.Encode(nil, f)
	if err != nil {
		w.t.Fatal(err)
	}
	switch w.rng.IntN(150) {
	case 0:
		payload = make([]byte, wire.MaxFrame+1)
		w.unsent[f.Pos()] = true
	case 1:
		payload[len(payload)-1] ^= 1
		w.unsent[f.Pos()] = true
	}
	w.log.append(f.Pos(), payload)
}

func (w *world) post(d delivery) {
	if !w.calm && w.rng.IntN(10) == 0 {
		return // lost
	}
	d.payload = slices.Clone(d.payload)
	n := 1
	if !w.calm && w.rng.IntN(12) == 0 {
		n = 2
	}
	for range n {
		delay := 20 * time.Millisecond
		if !w.calm {
			delay = time.Duration(w.rng.IntN(400)) * time.Millisecond
			if w.rng.IntN(40) == 0 {
				delay = time.Duration(w.rng.IntN(20)) * time.Second
			}
		}
		d.at = w.now.Add(delay)
		w.under = append(w.under, d)
	}
}

// step lets everything happen that is due, and moves the time on, to limit at most.
func (w *world) step(limit time.Time) {
	w.steps++
	for i := 0; i < len(w.under); i++ {
		d := w.under[i]
		if d.at.After(w.now) {
			continue
		}
		w.under = slices.Delete(w.under, i, i+1)
		i--
		if !d.toHub {
			if w.online {
				w.s.ack(w.now, &d.ack)
			}
			continue
		}
		if a, ok := w.hub.take(w.now, d.topic, d.payload); ok {
			w.post(delivery{ack: a})
		}
	}
	next := limit
	for sent := 0; ; sent++ {
		m, wait, ok := w.s.next(w.now)
		if !ok {
			if at := w.now.Add(max(wait, time.Millisecond)); at.Before(next) {
				next = at
			}
			break
		}
		if sent > 100_000 {
			w.t.Fatal("the session never stops sending")
		}
		if w.observe != nil {
			w.observe(m)
		}
		if m.topic == wire.TopicSnapshot || m.topic == wire.TopicAnswer {
			continue
		}
		w.post(delivery{toHub: true, topic: m.topic, payload: m.payload})
	}
	for _, d := range w.under {
		if d.at.Before(next) {
			next = d.at
		}
	}
	if !next.After(w.now) {
		next = w.now.Add(time.Millisecond)
	}
	w.now = next
}

func (w *world) connect() {
	if !w.online {
		w.online = true
		w.s.connected(w.now)
	}
}

func (w *world) disconnect() {
	w.online = false
	w.s.disconnected()
}

// fault is one thing that goes wrong, or right.
func (w *world) fault() {
	switch w.rng.IntN(15) {
	case 0:
		w.disconnect()
	case 1: // the agent restarts
		w.commits = len(w.log.entries)
		w.start()
	case 2: // a power cut: what was not committed is lost
		w.commits = min(w.commits, len(w.log.entries))
		w.log.entries = w.log.entries[:w.commits]
		w.log.last = wire.Pos{}
		if n := len(w.log.entries); n > 0 {
			w.log.last = w.log.entries[n-1].pos
		} else {
			w.log.last = w.log.safe // what the log remembers of evicted frames
		}
		w.start()
	case 3:
		w.hub.crash()
		if w.rng.IntN(2) == 0 {
			w.disconnect()
		}
	case 4: // retention
		if n := len(w.log.entries); n > 40 {
			cut := w.rng.IntN(n - 20)
			w.log.entries = slices.Delete(w.log.entries, 0, cut)
			w.commits = max(0, w.commits-cut)
		}
	case 5:
		w.boot = true
	case 6, 7, 8:
		w.hub.checkpoint()
	case 9:
		w.hub.credit = uint32(w.rng.IntN(8000))
	case 10:
		w.s.flush()
	default:
		w.connect()
		w.commits = len(w.log.entries)
	}
}

// check compares the hub's history with the log.
func (w *world) check() {
	w.t.Helper()
	for _, v := range w.hub.violations {
		w.t.Error(v)
	}
	for i := 1; i < len(w.hub.frames); i++ {
		if w.hub.frames[i-1].Compare(w.hub.frames[i]) >= 0 {
			w.t.Errorf("frame %v after %v", w.hub.frames[i], w.hub.frames[i-1])
		}
	}
	taken := map[wire.Pos]bool{}
	for _, p := range w.hub.frames {
		taken[p] = true
	}
	for _, e := range w.log.entries {
		inGap := slices.ContainsFunc(w.hub.gaps, func(g wire.Gap) bool {
			return e.pos.Compare(g.After) > 0 && e.pos.Compare(g.Next) < 0
		})
		if can := !w.unsent[e.pos]; taken[e.pos] != can || inGap == can {
			w.t.Errorf("frame %v: sendable %v, at the hub %v, in a gap %v", e.pos, can, taken[e.pos], inGap)
		}
	}
}

func TestEveryFrameOrItsGapArrivesOnceWhateverHappens(t *testing.T) {
	for range 10 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { torture(t, seed) })
	}
}

func torture(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	end := w.now.Add(10 * time.Minute)
	nextFrame, nextFault := w.now, w.now
	for w.now.Before(end) {
		if !w.now.Before(nextFrame) {
			w.appendFrame()
			nextFrame = w.now.Add(time.Duration(200+w.rng.IntN(1000)) * time.Millisecond)
		}
		if !w.now.Before(nextFault) {
			w.fault()
			nextFault = w.now.Add(time.Duration(w.rng.IntN(10_000)) * time.Millisecond)
		}
		limit := nextFrame
		if nextFault.Before(limit) {
			limit = nextFault
		}
		w.step(limit)
	}
	w.calm, w.hub.credit = true, 4000
	w.connect()
	for range 5 {
		w.appendFrame()
	}
	for limit := w.now.Add(2 * time.Hour); ; {
		if last, _ := w.log.Last(); w.log.safe == last && w.hub.pos == last {
			break
		}
		if w.now.After(limit) || w.steps > 2_000_000 {
			last, _ := w.log.Last()
			t.Fatalf("stuck: hub at %v, safe %v, edge at %v, newest %v, state %d, credit %d", w.hub.pos, w.log.safe, w.s.cursor, last, w.s.state, w.s.credit)
		}
		w.hub.checkpoint()
		w.step(w.now.Add(time.Second))
		if w.rng.IntN(3) == 0 {
			w.post(delivery{ack: w.hub.fill(wire.Ack{Instance: w.hub.instance, Credit: w.hub.credit, HubTime: w.now.UnixMilli()})})
		}
	}
	w.check()
}

func FuzzSessionSchedule(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(torture)
}
