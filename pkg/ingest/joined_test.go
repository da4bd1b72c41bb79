package ingest

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// join puts encoded frames into one message.
func join(t *testing.T, payloads ...[]byte) []byte {
	t.Helper()
	var j wire.Joined
	dec := wire.NewDecoder()
	for _, p := range payloads {
		if err := dec.AppendFrame(p, &j); err != nil {
			t.Fatal(err)
		}
	}
	b, err := wire.NewEncoder(nil).EncodeJoined(nil, &j)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// frames are n frames with late readings, readings ahead and marks among them.
func (s *source) frames(n int) (out [][]byte) {
	for i := range n {
		p, w := s.w, s.w+1000
		h := s.header(w)
		if i%4 == 3 {
			h.Marks = []wire.Mark{{Kind: wire.MarkStall, From: p + 100, To: p + 300}}
		}
		out = append(out, s.encode(h,
			telemetry.Reading{Series: firstPlain, Time: p - 500, Value: float64(i)},
			telemetry.Reading{Series: firstPlain, Time: p + 400, Value: float64(i)},
			telemetry.Reading{Series: firstPlain + 1, Time: w, Value: float64(2 * i), Quality: telemetry.Quality(i % 2 << 6)},
			telemetry.Reading{Series: firstPlain + 2, Time: w + 300, Value: 1},
			telemetry.Reading{Series: 1, Time: p - 4000, Value: float64(i)}))
	}
	return out
}

func TestJoinedFramesAreTakenAsIfEachHadComeAlone(t *testing.T) {
	type result struct {
		lines   []string
		samples map[string]map[int64]float64
		count   Counters
		pos     wire.Pos
	}
	feed := func(send func(t *testing.T, r *rig, frames [][]byte)) (out result) {
		scenario(t, func(t *testing.T, r *rig, s *source) {
			send(t, r, s.frames(12))
			out.lines, out.samples = inOrder(r.rules.lines("e1")), map[string]map[int64]float64{}
			for _, q := range []string{"air_temperature", "water_level", telemetry.QuantityReadingQuality} {
				for _, late := range []bool{false, true} {
					out.samples[q+map[bool]string{true: " late"}[late]] = r.store.get("e1", q, late)
				}
			}
			out.count, out.pos = r.status().Counters, r.status().Position
		})
		return out
	}
	alone := feed(func(_ *testing.T, r *rig, frames [][]byte) {
		for _, p := range frames {
			r.send(wire.TopicFrame, p)
		}
	})
	for name, send := range map[string]func(t *testing.T, r *rig, frames [][]byte){
		"all at once": func(t *testing.T, r *rig, frames [][]byte) { r.send(wire.TopicFrame, join(t, frames...)) },
		"again and again, overlapping": func(t *testing.T, r *rig, frames [][]byte) {
			r.send(wire.TopicFrame, frames[0])
			r.send(wire.TopicFrame, join(t, frames[:5]...))
			r.send(wire.TopicFrame, join(t, frames[1:4]...))
			r.send(wire.TopicFrame, join(t, frames[3:9]...))
			if a := r.send(wire.TopicFrame, join(t, frames[10:]...)); a.Status != wire.StatusHole {
				t.Errorf("%+v", a)
			}
			r.send(wire.TopicFrame, join(t, frames[2:]...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := feed(send)
			if !slices.Equal(got.lines, alone.lines) {
				t.Errorf("the rules heard\n%q, want\n%q", got.lines, alone.lines)
			}
			for k, want := range alone.samples {
				if !maps.Equal(got.samples[k], want) {
					t.Errorf("%s: stored\n%v, want\n%v", k, got.samples[k], want)
				}
			}
			if got.pos != alone.pos || got.count.Readings != alone.count.Readings || got.count.Frames != alone.count.Frames || got.count.Late != alone.count.Late {
				t.Errorf("%v %+v, want %v %+v", got.pos, got.count, alone.pos, alone.count)
			}
		})
	}
}

func TestAForkIsSeenWithinJoinedFrames(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		frames := s.frames(4)
		r.send(wire.TopicFrame, join(t, frames[:3]...))
		other := newSource(t, 1, 1, s.w-4000)
		other.epoch = s.epoch
		twin := other.frames(2)
		twin = append(twin, other.encode(other.header(other.w+1000), telemetry.Reading{Series: firstPlain, Time: other.w, Value: 99}), other.frame())
		a := r.send(wire.TopicFrame, join(t, twin...))
		if a.Status != wire.StatusFork || !a.Got.IsZero() {
			t.Errorf("%+v", a)
		}
		if a := r.send(wire.TopicFrame, join(t, frames[2:]...)); a.Status != wire.StatusOK {
			t.Errorf("the true log is not taken: %+v", a)
		}
	})
}

func TestAFrameFromTheFutureStopsTheRestOfItsRun(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		frames := s.frames(2)
		p := s.w
		s.w += int64(time.Hour / time.Millisecond)
		h := s.header(s.w)
		h.PrevW = p
		a := r.send(wire.TopicFrame, join(t, append(frames, s.encode(h))...))
		if a.Status != wire.StatusClock || a.Got.Seq != 2 {
			t.Errorf("%+v", a)
		}
	})
}

func TestAcknowledgementsWaitAsLongAsTheEdgeAllows(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		b, err := wire.EncodeHello(&wire.Hello{V: wire.Version, Instance: s.epoch.Instance, Epoch: s.epoch, Newest: s.last, Nonce: 5, AckWithin: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		if a := r.send(wire.TopicHello, b); a.Nonce != 5 {
			t.Fatalf("the answer must not wait: %+v", a)
		}
		advance(15 * time.Second)
		r.mu.Lock()
		r.acks = nil
		r.mu.Unlock()
		for range 60 {
			r.g.Receive("e1", wire.TopicFrame, s.frame())
			advance(time.Second)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := len(r.acks); n < 5 || n > 7 {
			t.Errorf("%d acknowledgements in a minute", n)
		}
		if a := r.acks[len(r.acks)-1]; a.Got.Seq < s.seq-11 || a.Safe.Seq < a.Got.Seq-2 {
			t.Errorf("%+v at frame %d", a, s.seq)
		}
	})
}

// limitsOf gives every series of a quantity the same limits.
type limitsOf map[string][]float64

func (l limitsOf) Limits(series []telemetry.BoundSeries) [][]float64 {
	out := make([][]float64, len(series))
	for i := range series {
		out[i] = l[series[i].Quantity]
	}
	return out
}

func TestAnEdgeIsToldWhatTheRulesWatch(t *testing.T) {
	limits := limitsOf{"air_temperature": {35, 40}}
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.stop()
		r.limits = limits
		r.start()
		told := func() []wire.Bands {
			r.mu.Lock()
			defer r.mu.Unlock()
			out := r.bands
			r.bands = nil
			return out
		}
		r.send(wire.TopicHello, s.hello(1))
		if b := told(); b != nil {
			t.Errorf("told of series that are not known yet: %+v", b)
		}
		r.send(wire.TopicFrame, s.raw)
		r.send(wire.TopicFrame, s.frame())
		b := told()
		if len(b) != 1 || b[0].Schema != s.hash || len(b[0].Bands) != 3 || b[0].Bands[0].Series != firstPlain || !slices.Equal(b[0].Bands[0].Limits, []float64{35, 40}) {
			t.Fatalf("%+v", b)
		}
		// An edge that has it is not told again, one that has not is.
		enc, err := wire.EncodeBands(nil, &b[0])
		if err != nil {
			t.Fatal(err)
		}
		hello := func(has uint32) {
			h, err := wire.EncodeHello(&wire.Hello{V: wire.Version, Instance: s.epoch.Instance, Epoch: s.epoch, Newest: s.last, Nonce: 5, Schema: s.hash, Bands: has})
			if err != nil {
				t.Fatal(err)
			}
			r.send(wire.TopicHello, h)
		}
		hello(wire.BandsID(enc))
		if b := told(); b != nil {
			t.Errorf("told again: %+v", b)
		}
		hello(77)
		if b := told(); len(b) != 1 {
			t.Errorf("not told: %+v", b)
		}
		limits["air_temperature"] = []float64{38}
		r.g.BandsChanged()
		advance(time.Second)
		if b := told(); len(b) != 1 || !slices.Equal(b[0].Bands[2].Limits, []float64{38}) {
			t.Errorf("not told of the change: %+v", b)
		}
	})
}

func TestLiveEdgesAreHeardInTheMiddleOfABacklog(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var order []string
	w := handWorker(t, Config{
		Now: func() time.Time { return start }, OnLive: func(edge string, _ int) { order = append(order, edge) },
	}, countingRules{}, func(string, wire.Ack) {})
	old, live := newSource(t, 1, 1, start.Add(-7*24*time.Hour).UnixMilli()), newSource(t, 2, 1, start.UnixMilli()-10_000)
	greet := func(id string, s *source) {
		for _, m := range []message{{edge: id, kind: wire.TopicFrame, payload: s.raw}, {edge: id, kind: wire.TopicHello, payload: s.hello(1)}} {
			if err := w.handle(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	greet("old", old)
	greet("live", live)
	frames := old.frames(6)
	// A joined message of the live edge, too: each has its own memory.
	for _, p := range [][]byte{join(t, live.frames(3)...), live.frame()} {
		w.queue.offer(message{edge: "live", kind: wire.TopicFrame, payload: p})
	}
	w.queue.offer(message{edge: "old", kind: wire.TopicFrame, payload: old.frame()})
	if err := w.handle(message{edge: "old", kind: wire.TopicFrame, payload: join(t, frames...)}); err != nil {
		t.Fatal(err)
	}
	want := []string{"old", "live", "live", "live", "live", "old", "old", "old", "old", "old"}
	if !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
	for id, seq := range map[string]uint64{"old": 6, "live": 4} {
		if c := w.edges[id].view.edgeStatus(); c.Position.Seq != seq || c.Counters.Holes != 0 || c.Counters.Refused != 0 {
			t.Errorf("%s: %+v", id, c)
		}
	}
	if n, _ := w.queue.waiting(); n != 1 {
		t.Errorf("%d messages wait, want the one of the edge itself", n)
	}
}
