package ingest

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// scenario runs f with a started rig and a source whose edge has said hello and
// sent its schema.
func scenario(t *testing.T, f func(t *testing.T, r *rig, s *source)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := newSource(t, 1, 1, time.Now().UnixMilli()-10_000)
		if a := r.send(wire.TopicHello, s.hello(41)); a.Status != wire.StatusOK || a.Nonce != 41 || !a.Got.IsZero() || a.Credit < minShare ||
			a.HubTime == 0 || a.Instance != s.epoch.Instance {
			t.Fatalf("hello was answered %+v", a)
		}
		r.send(wire.TopicFrame, s.raw)
		f(t, r, s)
		r.stop()
	})
}

func TestFramesAreGotAndThenSafe(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		for range 3 {
			r.send(wire.TopicFrame, s.frame())
		}
		if got := r.status().Position; got != s.last {
			t.Fatalf("got %v, sent %v", got, s.last)
		}
		advance(1500 * time.Millisecond)
		r.mu.Lock()
		a := r.acks[len(r.acks)-1]
		r.mu.Unlock()
		if a.Status != wire.StatusOK || a.Got != s.last || a.Safe != s.last {
			t.Errorf("%+v, want %v", a, s.last)
		}
		if n := len(r.store.get("e1", "air_temperature", false)); n != 3 {
			t.Errorf("%d samples", n)
		}
		want := map[string]bool{"__name__=air_temperature,device=d1,edge=e1,point=p0,site=24848,spot=market,": true}
		for k := range r.store.samples {
			delete(want, k.series)
		}
		if len(want) > 0 {
			t.Errorf("not in the store: %v, but %v", want, r.store.samples)
		}
		st := r.status()
		if st.Counters.Frames != 3 || st.Counters.Readings != 3 || st.Watermark != s.w || st.Hello.V != 1 || !st.ClockTrusted || st.Series != 6 || st.Devices != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAcknowledgementsAreCoalesced(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.mu.Lock()
		r.acks = nil
		r.mu.Unlock()
		for range 100 {
			r.g.Receive("e1", wire.TopicFrame, s.frame())
			advance(2 * time.Millisecond)
		}
		advance(200 * time.Millisecond)
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := len(r.acks); n < 1 || n > 3 {
			t.Errorf("%d acknowledgements for 100 frames in 200 ms", n)
		}
		if a := r.acks[len(r.acks)-1]; a.Got != s.last {
			t.Errorf("got %v, sent %v", a.Got, s.last)
		}
	})
}

func TestADuplicateIsDroppedAndAcknowledged(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		f1, f2 := s.frame(), s.frame()
		for _, f := range [][]byte{f1, f2, f1, f2, f2} {
			if a := r.send(wire.TopicFrame, f); a.Status != wire.StatusOK {
				t.Errorf("%+v", a)
			}
		}
		if st := r.status(); st.Counters.Frames != 2 || st.Counters.Duplicates != 3 {
			t.Errorf("%+v", st.Counters)
		}
	})
}

func TestAfterAHoleNothingIsTakenUntilItIsFilled(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		f1, f2, f3 := s.frame(), s.frame(), s.frame()
		r.send(wire.TopicFrame, f1)
		if a := r.send(wire.TopicFrame, f3); a.Status != wire.StatusHole || a.Got.Seq != 1 {
			t.Errorf("%+v", a)
		}
		// Many of them do not make many answers.
		r.mu.Lock()
		r.acks = nil
		r.mu.Unlock()
		for range 200 {
			r.g.Receive("e1", wire.TopicFrame, slices.Clone(f3))
		}
		advance(300 * time.Millisecond)
		r.mu.Lock()
		if n := len(r.acks); n < 1 || n > 8 {
			t.Errorf("%d answers", n)
		}
		r.mu.Unlock()
		r.send(wire.TopicFrame, f2)
		if a := r.send(wire.TopicFrame, f3); a.Status != wire.StatusOK || a.Got.Seq != 3 {
			t.Errorf("%+v", a)
		}
	})
}

func TestALackingSchemaIsAskedFor(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		s.use(testSchema(5))
		f := s.frame(telemetry.Reading{Series: firstPlain + 4, Time: s.w + 1000, Value: 5})
		if a := r.send(wire.TopicFrame, f); a.Status != wire.StatusHole || a.Need != s.hash {
			t.Errorf("%+v", a)
		}
		r.send(wire.TopicFrame, s.raw)
		if a := r.send(wire.TopicFrame, f); a.Status != wire.StatusOK || !a.Need.IsZero() || a.Got.Seq != 2 {
			t.Errorf("%+v", a)
		}
		// What was known of the series goes on.
		ss := r.g.Series("e1")
		if len(ss) != 8 || !ss[firstPlain].Known || ss[firstPlain].Value != 1 || ss[firstPlain+4].Value != 5 {
			t.Errorf("%+v", ss)
		}
	})
}

func TestAGapMovesThePlaceAndIsRecordedOnce(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		one := s.last
		w := s.w
		s.frame()
		s.frame()
		four := s.frame()
		// Too far ahead first.
		if a := r.send(wire.TopicFrame, s.gap(wire.Pos{Epoch: s.epoch, Seq: 2}, s.last)); a.Status != wire.StatusHole {
			t.Errorf("%+v", a)
		}
		for range 2 {
			if a := r.send(wire.TopicFrame, s.gap(one, s.last)); a.Status != wire.StatusOK || a.Got.Seq != 3 {
				t.Errorf("%+v", a)
			}
		}
		r.send(wire.TopicFrame, four)
		if got := r.status().Position; got != s.last {
			t.Errorf("at %v", got)
		}
		advance(time.Second)
		if g := r.ledger.gaps; len(g) != 1 || g[0].After != one.String() || g[0].Next != s.last.String() || g[0].From.UnixMilli() != w {
			t.Errorf("%+v", g)
		}
		if g := r.g.Gaps("e1"); len(g) != 1 || g[0].To.UnixMilli() != w+2000 {
			t.Errorf("%+v", g)
		}
		if !slices.Contains(r.rules.lines("e1"), formatUnobserved(w, w+2000)) {
			t.Errorf("the rules heard %q", r.rules.lines("e1"))
		}
	})
}

func TestAHubThatKnowsNothingTakesAGapFirst(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		s.seq, s.epoch.Start = 7, 3
		f := s.frame()
		if a := r.send(wire.TopicFrame, f); a.Status != wire.StatusHole || !a.Got.IsZero() {
			t.Errorf("%+v", a)
		}
		r.send(wire.TopicFrame, s.gap(wire.Pos{}, s.last))
		if a := r.send(wire.TopicFrame, f); a.Status != wire.StatusOK || a.Got != s.last {
			t.Errorf("%+v", a)
		}
	})
}

func TestAnEpochFollowsTheOneBefore(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		two := s.frame()
		s.restart()
		first := s.frame()
		if a := r.send(wire.TopicFrame, first); a.Status != wire.StatusHole {
			t.Errorf("before its turn: %+v", a)
		}
		r.send(wire.TopicFrame, two)
		if a := r.send(wire.TopicFrame, first); a.Status != wire.StatusOK || a.Got != s.last {
			t.Errorf("%+v", a)
		}
		// The agent loses the tail that the hub has, and starts anew.
		r.send(wire.TopicFrame, s.frame())
		s.last.Seq = 1
		s.restart()
		if a := r.send(wire.TopicFrame, s.frame()); a.Status != wire.StatusOK || a.Got != s.last {
			t.Errorf("after a lost tail: %+v", a)
		}
	})
}

func TestAForkIsSeenAndNothingIsAcknowledged(t *testing.T) {
	t.Run("another frame under the same number", func(t *testing.T) {
		scenario(t, func(t *testing.T, r *rig, s *source) {
			r.send(wire.TopicFrame, s.frame())
			s.seq--
			if a := r.send(wire.TopicFrame, s.frame(telemetry.Reading{Series: firstPlain, Time: s.w, Value: 99})); a.Status != wire.StatusFork || !a.Got.IsZero() {
				t.Errorf("%+v", a)
			}
			if !slices.Contains(r.ledger.kinds(), EventFork) {
				t.Error("no event")
			}
		})
	})
	t.Run("a restored disk image", func(t *testing.T) {
		scenario(t, func(t *testing.T, r *rig, s *source) {
			r.send(wire.TopicFrame, s.frame())
			image := *s
			s.restart()
			r.send(wire.TopicFrame, s.frame())
			s.restart()
			r.send(wire.TopicFrame, s.frame())
			// The copy starts as often as it likes.
			image.enc = wire.NewEncoder(image.schema)
			for i := range 3 {
				image.restart()
				image.epoch.Random += 1000
				a := r.send(wire.TopicFrame, image.frame())
				if a.Status != wire.StatusFork || !a.Got.IsZero() || !a.Safe.IsZero() {
					t.Errorf("start %d: %+v", i, a)
				}
				advance(time.Second)
			}
			if n := len(r.ledger.events); n != 1 || len(r.status().Problems) != 1 {
				t.Errorf("%d events: %v", n, r.ledger.events)
			}
			// The way out.
			if err := r.g.Forget("e1"); err != nil {
				t.Fatal(err)
			}
			advance(time.Second)
			r.send(wire.TopicFrame, image.gap(wire.Pos{}, wire.Pos{Epoch: image.epoch, Seq: 2}))
			if a := r.send(wire.TopicFrame, image.frame()); a.Status != wire.StatusOK || a.Got != image.last {
				t.Errorf("%+v", a)
			}
		})
	})
	t.Run("a running agent put back in time", func(t *testing.T) {
		scenario(t, func(t *testing.T, r *rig, s *source) {
			r.send(wire.TopicFrame, s.frame())
			early := s.hello(50)
			r.send(wire.TopicFrame, s.frame())
			r.send(wire.TopicFrame, s.frame())
			for i := range 3 {
				a := r.send(wire.TopicHello, early)
				if want := map[bool]wire.Status{true: wire.StatusFork, false: wire.StatusOK}[i == 2]; a.Status != want {
					t.Errorf("hello %d: %+v", i, a)
				}
				advance(time.Second)
			}
		})
	})
}

// After a gap the hub does not remember which epochs came before its place; that
// an agent runs in one of them now is enough.
func TestAnAgentThatRunsInAnEpochBeforeTheHubsPlaceIsAFork(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		image := *s
		s.restart()
		s.restart()
		s.restart()
		first := s.frame()
		r.send(wire.TopicFrame, s.gap(image.last, s.last))
		r.send(wire.TopicFrame, first)
		image.restart()
		image.epoch.Random ^= 0x77
		for i := range 3 {
			a := r.send(wire.TopicHello, image.hello(uint64(60+i)))
			if want := map[bool]wire.Status{true: wire.StatusFork, false: wire.StatusOK}[i == 2]; a.Status != want {
				t.Errorf("hello %d: %+v", i, a)
			}
			advance(time.Second)
		}
		if a := r.send(wire.TopicFrame, s.frame()); a.Status != wire.StatusOK || a.Got != s.last {
			t.Errorf("the right one: %+v", a)
		}
		if p := r.status().Problems; len(p) != 1 || p[0].Kind != EventFork {
			t.Errorf("problems %+v", p)
		}
		advance(2 * time.Minute)
		r.send(wire.TopicFrame, s.frame())
		if p := r.status().Problems; len(p) != 0 {
			t.Errorf("the right disk is back, and the hub still says %+v", p)
		}
	})
}

func TestACloneIsRefusedAndALaterInstanceTakesOver(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		other := newSource(t, 2, 1, s.w)
		for range 2 {
			if a := r.send(wire.TopicHello, other.hello(1)); a.Status != wire.StatusClone || a.Instance != other.epoch.Instance || !a.Got.IsZero() {
				t.Errorf("%+v", a)
			}
			advance(time.Second)
		}
		r.send(wire.TopicFrame, other.frame())
		if a := r.send(wire.TopicFrame, s.frame()); a.Status != wire.StatusOK || a.Got != s.last || a.Instance != s.epoch.Instance {
			t.Errorf("the first one: %+v", a)
		}
		if k := r.ledger.kinds(); len(k) != 1 || k[0] != EventClone {
			t.Errorf("events %v", k)
		}
		advance(2 * time.Minute)
		*other = *newSource(t, 2, 1, s.w)
		if a := r.send(wire.TopicHello, other.hello(9)); a.Status != wire.StatusOK || a.Nonce != 9 || !a.Got.IsZero() {
			t.Errorf("after a silence: %+v", a)
		}
		if a := r.send(wire.TopicFrame, other.frame()); a.Status != wire.StatusOK || a.Got != other.last {
			t.Errorf("%+v", a)
		}
		if k := r.ledger.kinds(); !slices.Contains(k, EventReinstall) {
			t.Errorf("events %v", k)
		}
	})
}

func TestAFrameFromTheFutureHarmsNobody(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		now := time.Now().UnixMilli()
		for _, f := range [][]byte{
			s.encode(s.header(s.w+1000), telemetry.Reading{Series: firstPlain, Time: now + 11*60_000, Value: 1}),
			func() []byte { s.seq--; s.w = now; return s.encode(s.header(now + 11*60_000)) }(),
		} {
			if a := r.send(wire.TopicFrame, f); a.Status != wire.StatusClock || !a.Got.IsZero() {
				t.Errorf("%+v", a)
			}
			advance(time.Second)
		}
		if len(r.store.samples) != 0 || r.status().Watermark != 0 || len(r.rules.lines("e1")) != 0 {
			t.Error("something was stored or evaluated")
		}
		if k := r.ledger.kinds(); len(k) != 1 || k[0] != EventClock || len(r.status().Problems) != 1 {
			t.Errorf("events %v, problems %v", k, r.status().Problems)
		}
		// The hub's time comes to it; the same frame is then taken.
		s.seq, s.w = 0, now
		f := s.encode(s.header(now + 11*60_000))
		advance(2 * time.Minute)
		if a := r.send(wire.TopicFrame, f); a.Status != wire.StatusOK || a.Got != s.last {
			t.Errorf("%+v", a)
		}
		if p := r.status().Problems; len(p) != 0 {
			t.Errorf("still %v", p)
		}
	})
}

func TestWhatCannotBeReadIsRefusedAndKeptAside(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		good := s.frame()
		corrupt := slices.Clone(good)
		corrupt[len(corrupt)/2] ^= 1
		newer := slices.Clone(good)
		newer[2] = 9
		resum(newer)
		for name, tc := range map[string]struct {
			payload []byte
			want    wire.Status
		}{
			"corrupt": {corrupt, wire.StatusRefused},
			"empty":   {nil, wire.StatusRefused},
			"version": {newer, wire.StatusVersion},
		} {
			if a := r.send(wire.TopicFrame, tc.payload); a.Status != tc.want || a.Reason == "" {
				t.Errorf("%s: %+v", name, a)
			}
			advance(time.Second)
		}
		r.send(wire.TopicHello, []byte("{"))
		r.send(wire.TopicState, []byte("[]"))
		list, err := os.ReadDir(r.dir + "/refused")
		if err != nil || len(list) != 5 {
			t.Errorf("%d files, %v", len(list), err)
		}
		if a := r.send(wire.TopicFrame, good); a.Status != wire.StatusOK {
			t.Errorf("%+v", a)
		}
		if st := r.status(); st.Counters.Refused != 5 {
			t.Errorf("%+v", st.Counters)
		}
		if k := r.ledger.kinds(); len(k) != 2 {
			t.Errorf("events %v", k)
		}
	})
}

func TestAStaleWillIsIgnored(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		state := func(online bool, at int64) []byte {
			b, err := wire.EncodeState(&wire.State{V: wire.Version, Epoch: s.epoch, Online: online, At: at})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for i, step := range []struct {
			doc  []byte
			want bool
		}{{state(true, 1), true}, {state(true, 2), true}, {state(false, 1), true}, {state(false, 2), false}, {state(true, 3), true}, {nil, true}} {
			r.send(wire.TopicState, step.doc)
			if got := r.status().Connected; got != step.want {
				t.Errorf("step %d: connected %v", i, got)
			}
		}
	})
}

// The state says what an edge's disk refuses; frames go on meanwhile.
func TestADiskThatRefusesIsShownUntilItTakesTheLogAgain(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		state := func(disk string) {
			b, err := wire.EncodeState(&wire.State{V: wire.Version, Epoch: s.epoch, Online: true, At: 1, Disk: disk})
			if err != nil {
				t.Fatal(err)
			}
			r.send(wire.TopicState, b)
		}
		r.send(wire.TopicFrame, s.frame())
		state("")
		state("new segment: no space left on device")
		for range 2 {
			if a := r.send(wire.TopicFrame, s.frame()); a.Status != wire.StatusOK || a.Got != s.last {
				t.Errorf("%+v", a)
			}
		}
		p := r.status().Problems
		if len(p) != 1 || p[0].Kind != EventDisk || !strings.Contains(p[0].Text, "no space left on device") {
			t.Errorf("problems %+v", p)
		}
		state("new segment: input/output error")
		state("")
		state("")
		if p := r.status().Problems; len(p) != 0 {
			t.Errorf("problems %+v", p)
		}
		if k := r.ledger.kinds(); !slices.Equal(k, []string{EventDisk, EventDisk}) {
			t.Errorf("events %v", k)
		}
	})
}

func TestARestartGoesOnFromTheCheckpoint(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		for range 3 {
			r.send(wire.TopicFrame, s.frame())
		}
		r.stop()
		r.cfg.Edges = []string{"e1", "e2"}
		r.start()
		if st := r.status(); st.Position != s.last || st.Safe != s.last || st.Watermark != s.w || st.Series != 6 || !st.LastSeen.IsZero() {
			t.Errorf("%+v", st)
		}
		if n := len(r.g.Edges()); n != 2 {
			t.Errorf("%d edges", n)
		}
		if a := r.send(wire.TopicHello, s.hello(5)); a.Got != s.last || a.Safe != s.last || a.Nonce != 5 {
			t.Errorf("%+v", a)
		}
		// The schema is known from the checkpoint.
		if a := r.send(wire.TopicFrame, s.frame()); a.Status != wire.StatusOK || a.Got != s.last {
			t.Errorf("%+v", a)
		}
		if n := len(r.rules.lines("e1")); n != 8 {
			t.Errorf("the rules heard %d things", n)
		}
	})
}

func TestAGapIntoAnEpochWhoseClockStandsLower(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		one, w := s.last, s.w
		s.frame()
		s.restart()
		s.w = w - 5000
		f := s.frame()
		r.send(wire.TopicFrame, s.gap(one, s.last))
		if a := r.send(wire.TopicFrame, f); a.Status != wire.StatusOK || a.Got != s.last {
			t.Errorf("%+v", a)
		}
		if got := r.store.get("e1", "air_temperature", false); len(got) != 2 {
			t.Errorf("%v", got)
		}
		if lines := r.rules.lines("e1"); !slices.Contains(lines, formatUnobserved(w, w-5000)) {
			t.Errorf("%q", lines)
		}
	})
}

func TestTheSiteOutlivesARestart(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		r.stop()
		r.cfg.Edges = []string{"e1"}
		r.start()
		if got := r.g.Series("e1")[firstPlain].Site; got != "24848" {
			t.Errorf("site %q before the hello", got)
		}
	})
}
