package ingest

import (
	"bytes"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// helloSafe is a hello of an edge that was told that so much is safe.
func (s *source) helloSafe(nonce uint64, safe wire.Pos) []byte {
	var h wire.Hello
	if err := wire.DecodeHello(s.hello(nonce), &h); err != nil {
		s.t.Fatal(err)
	}
	h.Safe = &safe
	b, err := wire.EncodeHello(&h)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// Each accident is recognised, named in one sentence in the state of the edge, the
// log and the events, and harms no other edge.
func TestEachAccidentIsNamedInOneSentenceAndHarmsNobodyElse(t *testing.T) {
	for kind, happen := range map[string]func(r *rig, s *source){
		EventFork: func(r *rig, s *source) {
			copied := *s
			r.send(wire.TopicFrame, s.frame())
			r.send(wire.TopicFrame, copied.frame(telemetry.Reading{Series: firstPlain, Time: copied.w + 500, Value: 77}))
		},
		EventClone: func(r *rig, s *source) {
			r.send(wire.TopicHello, newSource(r.t, 9, 1, s.w).hello(1))
		},
		EventClock: func(r *rig, s *source) {
			s.w = time.Now().Add(time.Hour).UnixMilli()
			r.send(wire.TopicFrame, s.frame())
		},
		EventReinstall: func(r *rig, s *source) {
			advance(2 * time.Minute)
			other := newSource(r.t, 9, 1, s.w)
			r.send(wire.TopicHello, other.hello(1))
			r.send(wire.TopicFrame, other.raw)
			r.send(wire.TopicFrame, other.frame())
		},
		EventRestored: func(r *rig, s *source) {
			backup := maps.Clone(r.ledger.entries)
			r.send(wire.TopicFrame, s.frame())
			advance(3 * time.Second)
			safe := r.status().Safe
			if safe != s.last {
				r.t.Fatalf("%v is safe, want %v", safe, s.last)
			}
			r.stop()
			r.ledger.entries = backup
			r.store.run++ // it takes again what it has
			r.start()
			if a := r.send(wire.TopicHello, s.helloSafe(5, safe)); a.Status != wire.StatusOK || a.Got == safe {
				r.t.Errorf("%+v", a)
			}
		},
		EventVersion: func(r *rig, s *source) {
			b := s.frame()
			b[2] = wire.Version + 1
			resum(b)
			r.send(wire.TopicFrame, b)
		},
		EventRefused: func(r *rig, s *source) {
			b := s.frame()
			b[len(b)-1]++
			r.send(wire.TopicFrame, b)
		},
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				r := newRig(t)
				r.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				r.start()
				now := time.Now().UnixMilli() - 10_000
				s, neighbour := newSource(t, 1, 1, now), newSource(t, 2, 1, now)
				for id, src := range map[string]*source{"e1": s, "e2": neighbour} {
					for topic, p := range map[string][]byte{wire.TopicHello: src.hello(1), wire.TopicFrame: src.raw} {
						r.g.Receive(id, topic, p)
					}
					advance(100 * time.Millisecond)
					r.g.Receive(id, wire.TopicFrame, src.frame())
				}
				advance(2 * time.Second)
				happen(r, s)
				e := r.status()
				if len(e.Problems) != 1 || e.Problems[0].Kind != kind {
					t.Fatalf("problems %+v", e.Problems)
				}
				text := e.Problems[0].Text
				if !regexp.MustCompile(`^(Edge|The clock of edge|A message of edge|Two agents call themselves edge|This hub).*e1.*[^.]\.$`).MatchString(text) {
					t.Errorf("not a sentence about the edge: %q", text)
				}
				if !slices.Contains(r.ledger.kinds(), kind) {
					t.Errorf("events %v", r.ledger.kinds())
				}
				if n := strings.Count(log.String(), "event="+kind); n != 1 || !strings.Contains(log.String(), text) {
					t.Errorf("%d lines in the log:\n%s", n, log.String())
				}
				// The neighbour goes on.
				r.g.Receive("e2", wire.TopicFrame, neighbour.frame())
				advance(3 * time.Second)
				if n, _ := r.g.Edge("e2"); n.Position != neighbour.last || n.Safe != neighbour.last || len(n.Problems) != 0 {
					t.Errorf("the neighbour: %+v", n)
				}
				r.stop()
			})
		})
	}
}

func TestAnOperatorsForgettingIsNoRestore(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		advance(3 * time.Second)
		safe := r.status().Safe
		if err := r.g.Forget("e1"); err != nil {
			t.Fatal(err)
		}
		advance(time.Second)
		r.send(wire.TopicHello, s.helloSafe(3, safe))
		if p := r.status().Problems; len(p) != 0 || safe.IsZero() {
			t.Errorf("%+v", p)
		}
	})
}
