package uplink

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// quiet is a world without faults, connected, whose hub has taken what there was.
func quiet(t *testing.T, frames int) *world {
	w := newWorld(t, 1)
	w.calm, w.boot, w.hub.credit = true, true, 1<<20
	w.cfg.MaxRate, w.cfg.SendEvery, w.cfg.AckWithin, w.cfg.JoinReadings = 0, 0, 0, -1
	for range frames {
		w.plainFrame()
	}
	w.connect()
	w.run(5 * time.Second)
	return w
}

func (w *world) plainFrame() {
	w.seq++
	f := &wire.Frame{Header: wire.Header{Epoch: w.cfg.Epoch, Seq: w.seq, Schema: w.schema, PrevW: int64(w.seq) - 1, W: int64(w.seq)}}
	if w.seq == 1 {
		f.Prev = w.log.last
	}
	payload, err := w.enc.Encode(nil, f)
	if err != nil {
		w.t.Fatal(err)
	}
	w.log.append(f.Pos(), payload)
}

func (w *world) run(d time.Duration) {
	for limit := w.now.Add(d); w.now.Before(limit); {
		w.step(limit)
	}
}

func (w *world) at(seq uint64) wire.Pos { return wire.Pos{Epoch: w.cfg.Epoch, Seq: seq} }

func (w *world) wantHub(seq uint64) {
	w.t.Helper()
	if w.hub.pos != w.at(seq) {
		w.t.Fatalf("the hub stands at %v, want %d", w.hub.pos, seq)
	}
}

// say delivers an acknowledgement that the hub would not have sent by itself.
func (w *world) say(change func(*wire.Ack)) {
	a := w.hub.fill(wire.Ack{Instance: w.hub.instance, Credit: w.hub.credit, HubTime: w.now.UnixMilli()})
	change(&a)
	w.s.ack(w.now, &a)
}

func TestRefusalStopsSendingIsLoggedOnceAndEnds(t *testing.T) {
	for _, status := range []wire.Status{wire.StatusClock, wire.StatusFork, wire.StatusClone, wire.StatusVersion, wire.StatusRefused, 77} {
		t.Run(status.String(), func(t *testing.T) {
			w := quiet(t, 3)
			w.wantHub(3)
			var logged bytes.Buffer
			w.cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			for range 4 {
				w.say(func(a *wire.Ack) { a.Status = status })
			}
			w.plainFrame()
			w.run(15 * time.Second)
			w.wantHub(3)
			if n := strings.Count(logged.String(), "refuses"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, logged.String())
			}
			w.run(2 * time.Minute)
			w.wantHub(4)
			if w.s.status != wire.StatusOK {
				t.Errorf("status stays %v", w.s.status)
			}
		})
	}
}

func TestAckForAnotherInstanceOrAnOldHelloIsIgnored(t *testing.T) {
	w := quiet(t, 3)
	w.say(func(a *wire.Ack) { a.Instance, a.Status = wire.Instance{9}, wire.StatusFork })
	w.say(func(a *wire.Ack) { a.Nonce, a.Status = 5, wire.StatusFork })
	if w.s.state != streaming {
		t.Fatalf("state %d", w.s.state)
	}
}

func TestLateAckCausesAHelloNotARewind(t *testing.T) {
	w := quiet(t, 20)
	sent := w.s.counts.frames
	w.say(func(a *wire.Ack) { a.Got, a.Status = w.at(4), wire.StatusHole })
	if w.s.state != greeting {
		t.Fatalf("state %d, want greeting", w.s.state)
	}
	w.run(time.Second)
	if w.s.counts.frames != sent {
		t.Errorf("%d frames were sent again", w.s.counts.frames-sent)
	}
}

func TestRestoredHubIsSentWhatIsStillKept(t *testing.T) {
	w := quiet(t, 30)
	w.hub.checkpoint()
	w.run(time.Minute)
	// The hub comes back from a backup at 5; the edge has evicted up to 9.
	w.hub.pos, w.hub.safe = w.at(5), w.at(5)
	w.hub.frames = w.hub.frames[:5]
	w.log.entries = w.log.entries[9:]
	w.disconnect()
	w.connect()
	w.run(5 * time.Second)
	w.wantHub(30)
	if len(w.hub.gaps) != 1 || w.hub.gaps[0].After != w.at(5) || w.hub.gaps[0].Next != w.at(10) {
		t.Errorf("gaps %+v", w.hub.gaps)
	}
	if w.log.safe != w.at(5) {
		t.Errorf("safe place %v, want the hub's", w.log.safe)
	}
	w.check()
}

func TestHubThatLostItsTailSilentlyIsFoundOut(t *testing.T) {
	w := quiet(t, 10)
	w.hub.safe, w.hub.savedAt = w.at(6), 6
	w.hub.crash()
	w.run(10 * time.Minute)
	w.wantHub(10)
}

func TestHubAheadOfTheLogIsAFork(t *testing.T) {
	for name, pos := range map[string]func(w *world) wire.Pos{
		"beyond the newest":  func(w *world) wire.Pos { return w.at(11) },
		"in a later epoch":   func(w *world) wire.Pos { p := w.at(1); p.Epoch.Start += 3; return p },
		"in a sibling epoch": func(w *world) wire.Pos { p := w.at(1); p.Epoch.Random++; return p },
	} {
		t.Run(name, func(t *testing.T) {
			w := quiet(t, 10)
			w.disconnect()
			w.hub.pos = pos(w)
			w.connect()
			w.run(10 * time.Second)
			if w.s.status != wire.StatusFork || w.s.state != held {
				t.Errorf("status %v, state %d", w.s.status, w.s.state)
			}
			// The hub wants to hear it several times, and an operator soon.
			w.run(30 * time.Second)
			said := w.s.counts.hellos
			if said < 4 {
				t.Errorf("%d hellos in 40 s", said)
			}
			w.run(5 * time.Minute)
			if n := w.s.counts.hellos - said; n > 8 {
				t.Errorf("%d further hellos in 5 min: one a minute is enough", n)
			}
		})
	}
}

func TestTailThatTheEdgeLostIsNoGap(t *testing.T) {
	w := quiet(t, 10)
	w.log.entries = w.log.entries[:7]
	w.log.last = w.at(7)
	w.start()
	w.calm, w.boot = true, true
	for range 3 {
		w.plainFrame()
	}
	w.connect()
	w.run(5 * time.Second)
	w.wantHub(3)
	if len(w.hub.gaps) != 0 || len(w.hub.frames) != 13 {
		t.Errorf("%d frames, gaps %+v", len(w.hub.frames), w.hub.gaps)
	}
}

// A corrupt segment took the end of an epoch: the numbers fit, and the log knows
// that they may not tell.
func TestTailThatMayBeLostIsDeclared(t *testing.T) {
	for _, has := range []uint64{5, 7, 10} {
		t.Run(fmt.Sprintf("hub has %d", has), func(t *testing.T) {
			w := quiet(t, 10)
			w.hub.pos = w.at(has)
			end := w.at(has)
			w.log.entries = w.log.entries[:7]
			w.log.last = w.at(7)
			w.start()
			w.calm, w.boot = true, true
			for range 3 {
				w.plainFrame()
			}
			w.log.entries[7].unsure = true
			w.connect()
			w.run(5 * time.Second)
			w.wantHub(3)
			if end.Seq < 7 {
				end.Seq = 7
			}
			if len(w.hub.gaps) != 1 || w.hub.gaps[0].After != end || w.hub.gaps[0].Next != w.at(1) {
				t.Errorf("gaps %+v", w.hub.gaps)
			}
			w.hub.crash()
			w.run(2 * time.Minute) // it asks after one, a quarter more or less
			w.wantHub(3)
		})
	}
}

func TestWindowStaysWithinCreditButOneFrameAlwaysFits(t *testing.T) {
	w := quiet(t, 0)
	for range 50 {
		w.plainFrame()
	}
	size := len(w.log.entries[0].payload)
	for _, c := range []struct{ credit, want int }{{0, 0}, {1, 1}, {3*size + 10, 3}} {
		w.s.rewind(wire.Pos{})
		w.s.acked = wire.Pos{}
		w.s.credit = c.credit
		n := 0
		for {
			m, _, ok := w.s.poll(w.now)
			if !ok {
				break
			}
			if kind, _ := wire.Peek(m.payload); kind == wire.KindFrame {
				n++
			}
		}
		if n < c.want || n > c.want+1 {
			t.Errorf("credit %d: %d frames under way, want %d", c.credit, n, c.want)
		}
	}
}

func TestRateIsKept(t *testing.T) {
	w := newWorld(t, 3)
	w.calm, w.boot, w.hub.credit = true, true, 1<<20
	w.cfg.MaxRate, w.cfg.SendEvery, w.cfg.JoinReadings = 1000, 0, -1
	for range 400 {
		w.plainFrame()
	}
	w.connect()
	w.run(time.Second)
	before := w.s.counts
	w.run(20 * time.Second)
	now := w.s.counts
	sent := float64(now.frameBytes-before.frameBytes) + overhead*float64(now.frames-before.frames)
	if rate := sent / 20; rate < 900 || rate > 1100 {
		t.Errorf("%.0f bytes per second on the link, want about 1000", rate)
	}
}

func TestUntimedFramesWaitForTheClock(t *testing.T) {
	w := quiet(t, 2)
	known := false
	w.cfg.Retime = func([16]byte) (int64, bool, bool) { return 5000, false, known }
	w.seq++
	payload, err := w.enc.Encode(nil, &wire.Frame{Header: wire.Header{Epoch: w.cfg.Epoch, Seq: w.seq, Schema: w.schema, W: 77, Untimed: true}})
	if err != nil {
		t.Fatal(err)
	}
	w.log.append(w.at(w.seq), payload)
	w.plainFrame()
	w.run(30 * time.Second)
	w.wantHub(2)
	known = true
	w.run(5 * time.Second)
	w.wantHub(4)
	if h, err := wire.PeekFrame(payload); err != nil || !h.Untimed {
		t.Errorf("the log's own bytes were changed: %v, %v", h.Untimed, err)
	}
}

func TestAnswerToTheHelloTellsTheHubsTime(t *testing.T) {
	w := newWorld(t, 1)
	w.calm = true
	var offset, rtt time.Duration
	w.cfg.ObserveHub = func(o, r time.Duration) { offset, rtt = o, r }
	w.connect()
	m, _, ok := w.s.poll(w.now)
	if !ok || m.topic != wire.TopicHello {
		t.Fatalf("got %q, want a hello", m.topic)
	}
	a, _ := w.hub.take(w.now.Add(time.Hour+40*time.Millisecond), m.topic, m.payload)
	w.s.ack(w.now.Add(80*time.Millisecond), &a)
	if offset != time.Hour || rtt != 80*time.Millisecond {
		t.Errorf("offset %v, rtt %v", offset, rtt)
	}
}

func TestLostSchemaCostsItsFramesAlone(t *testing.T) {
	w := quiet(t, 2)
	w.schema = wire.Hash{5}
	w.plainFrame()
	w.plainFrame()
	w.run(time.Minute)
	w.wantHub(4)
	if len(w.hub.frames) != 2 || len(w.hub.gaps) == 0 {
		t.Errorf("%d frames, gaps %+v", len(w.hub.frames), w.hub.gaps)
	}
}
