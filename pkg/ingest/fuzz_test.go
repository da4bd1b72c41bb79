package ingest

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// nullStore takes everything and keeps nothing.
type nullStore struct{}

func (nullStore) Appender() Appender { return &nullAppender{} }
func (nullStore) Sync() error        { return nil }

type nullAppender struct{ n uint64 }

func (a *nullAppender) Append(ref uint64, _ []telemetry.Label, _ int64, _ float64) (uint64, error) {
	if ref == 0 {
		a.n++
		ref = a.n
	}
	return ref, nil
}
func (*nullAppender) Commit() error   { return nil }
func (*nullAppender) Rollback() error { return nil }

// handWorker is a worker that a test drives by hand.
func handWorker(t testing.TB, cfg Config, rules Rules, publish func(string, wire.Ack)) *worker {
	cfg.Workers = 1
	cfg.Logger = slog.New(slog.DiscardHandler)
	g, err := New(cfg, Parts{Store: nullStore{}, Rules: rules, Ledger: newCrashLedger(), Bus: fakeBus{ack: publish}})
	if err != nil {
		t.Fatal(err)
	}
	w := g.workers[0]
	w.app = nullStore{}.Appender()
	return w
}

// FuzzMessage gives a worker an arbitrary message between good ones. Nothing may
// break, and the good ones after it must still be taken, unless it was taken for
// one of the edge's own.
func FuzzMessage(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	s := newSource(f, 1, 1, now.UnixMilli()-60_000)
	hello, one, two := s.hello(1), s.frame(), s.frame()
	snapshot, err := s.enc.EncodeSnapshot(nil, &wire.Snapshot{Epoch: s.epoch, Seq: 9, Counter: 1, Schema: s.hash, Readings: []telemetry.Reading{{Series: 4, Time: s.w, Value: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	state, err := wire.EncodeState(&wire.State{V: 1, Epoch: s.epoch, Online: true, At: 5})
	if err != nil {
		f.Fatal(err)
	}
	kinds := []string{wire.TopicFrame, wire.TopicHello, wire.TopicSnapshot, wire.TopicState, wire.TopicAck}
	for kind, payload := range map[uint8][]byte{0: two, 1: hello, 2: snapshot, 3: state} {
		f.Add(kind, payload, false)
		f.Add(kind, payload, true)
	}
	f.Add(uint8(0), s.raw, true)
	f.Add(uint8(0), s.gap(wire.Pos{Epoch: s.epoch, Seq: 1}, wire.Pos{Epoch: s.epoch, Seq: 2}), true)
	f.Add(uint8(0), s.gap(wire.Pos{}, wire.Pos{Epoch: wire.Epoch{Instance: s.epoch.Instance, Start: 9}, Seq: 1}), true)
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte, fix bool) {
		rules := &diaries{t: t, m: map[string]*diary{}}
		w := handWorker(t, Config{Now: func() time.Time { return now }}, rules, func(string, wire.Ack) {})
		give := func(kind string, payload []byte) {
			if err := w.handle(message{edge: "e1", kind: kind, payload: slices.Clone(payload)}); err != nil {
				t.Fatal(err)
			}
		}
		give(wire.TopicHello, hello)
		give(wire.TopicFrame, s.raw)
		give(wire.TopicFrame, one)
		if payload = slices.Clone(payload); fix && len(payload) > 8 {
			resum(payload)
		}
		give(kinds[int(kind)%len(kinds)], payload)
		e := w.edges["e1"]
		before := e.pos
		give(wire.TopicFrame, two)
		if before == (wire.Pos{Epoch: s.epoch, Seq: 1}) && e.pos.Seq != 2 {
			t.Errorf("the next frame was not taken: at %v", e.pos)
		}
		w.sendDue()
		var d durable
		if err := d.decode(e.checkpoint().Position); err != nil {
			t.Error(err)
		}
		w.g.Series("e1")
		w.g.Devices("e1")
	})
}
