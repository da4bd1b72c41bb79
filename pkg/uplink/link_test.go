package uplink

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// said is a message that a session wanted published.
type said struct {
	at    time.Time
	topic string
	size  int
	kind  wire.Kind
}

// record notes all messages from here on.
func (w *world) record() *[]said {
	var list []said
	w.observe = func(m message) {
		kind, _ := wire.Peek(m.payload)
		list = append(list, said{w.now, m.topic, len(m.payload), kind})
	}
	return &list
}

// sensors are n frames of 20 readings a second apart.
func (w *world) sensors(n int) {
	for range n {
		w.seq++
		f := &wire.Frame{Header: wire.Header{Epoch: w.cfg.Epoch, Seq: w.seq, Schema: w.schema, PrevW: int64(w.seq-1) * 1000, W: int64(w.seq) * 1000}}
		if w.seq == 1 {
			f.Prev = w.log.last
		}
		for i := range 20 {
			f.Readings = append(f.Readings, telemetry.Reading{Series: uint32(i), Time: f.W - 500, Value: float64(w.rng.IntN(40)+200) / 10})
		}
		payload, err := w.enc.Encode(nil, f)
		if err != nil {
			w.t.Fatal(err)
		}
		w.log.append(f.Pos(), payload)
	}
}

func sum(list []said, keep func(said) bool) (n, bytes int) {
	for _, m := range list {
		if keep(m) {
			n++
			bytes += m.size
		}
	}
	return n, bytes
}

func TestABacklogIsSentJoinedAndComesWhole(t *testing.T) {
	w := quiet(t, 0)
	w.cfg.JoinReadings, w.hub.credit = 30_000, 64<<10
	w.sensors(2000)
	alone := 0
	for _, e := range w.log.entries {
		alone += len(e.payload) + overhead
	}
	list := w.record()
	w.disconnect()
	w.connect()
	w.run(time.Minute)
	w.wantHub(2000)
	w.check()
	n, bytes := sum(*list, func(m said) bool { return m.topic == wire.TopicFrame && m.kind != wire.KindSchema })
	if bytes += n * overhead; bytes > alone/3 || w.hub.joined < 1900 {
		t.Errorf("%d messages, %d bytes with their headers, alone %d; %d frames were joined", n, bytes, alone, w.hub.joined)
	}
	for _, m := range *list {
		if m.kind == wire.KindJoined && m.size > 32<<10 {
			t.Errorf("a message of %d bytes with a credit of %d", m.size, w.hub.credit)
		}
	}
	if w.s.join.joinerState != nil {
		t.Error("the memory of the joiner is kept when there is no backlog")
	}
	w.sensors(1)
	w.run(time.Second)
	if m := (*list)[len(*list)-1]; m.kind != wire.KindFrame {
		t.Errorf("a live frame was sent as %v", m.kind)
	}
}

func TestFramesAreSentTogetherOnceAPeriod(t *testing.T) {
	w := quiet(t, 0)
	w.cfg.JoinReadings, w.cfg.SendEvery, w.cfg.AckWithin = 30_000, time.Minute, 5*time.Second
	list := w.record()
	start := w.now
	for range 10 * 12 {
		w.sensors(1)
		w.run(5 * time.Second)
		w.hub.checkpoint()
		w.say(func(*wire.Ack) {})
	}
	frames := func(m said) bool { return m.topic == wire.TopicFrame && m.kind != wire.KindSchema }
	if n, _ := sum(*list, frames); n < 10 || n > 11 {
		t.Errorf("%d messages in %v, want one a minute", n, w.now.Sub(start))
	}
	if hellos, _ := sum(*list, func(m said) bool { return m.topic == wire.TopicHello }); hellos > 1 {
		t.Errorf("%d hellos: waiting was taken for silence", hellos)
	}
	// What is urgent does not wait.
	w.s.periodAt = w.now.Add(time.Minute)
	w.sensors(1)
	w.run(time.Second)
	before, _ := sum(*list, frames)
	w.s.flush()
	w.run(time.Second)
	if n, _ := sum(*list, frames); n != before+1 || w.hub.pos != w.log.last {
		t.Errorf("%d messages, hub at %v", n-before, w.hub.pos)
	}
	// A whole message does not wait either.
	w.sensors(2000)
	w.run(2 * time.Second)
	if w.hub.pos.Seq < w.log.last.Seq-600 {
		t.Errorf("hub at %v of %v", w.hub.pos, w.log.last)
	}
}

func TestWhatIsIsSentOnTimeBehindABacklogUnderALowRate(t *testing.T) {
	w := quiet(t, 0)
	const rate = 3000
	w.cfg.JoinReadings, w.cfg.MaxRate = 30_000, rate
	w.cfg.Snapshot = func(dst []byte) ([]byte, bool) { return append(dst, make([]byte, 800)...), true }
	w.disconnect()
	w.sensors(20_000)
	list := w.record()
	w.connect()
	start := w.now
	var late time.Duration
	for range 120 {
		w.sensors(1) // live data goes on
		w.run(time.Second)
	}
	last := start
	for _, m := range *list {
		if m.topic == wire.TopicSnapshot {
			late = max(late, m.at.Sub(last))
			last = m.at
		}
	}
	if late > 11*time.Second || w.now.Sub(last) > 11*time.Second {
		t.Errorf("%v without a snapshot", max(late, w.now.Sub(last)))
	}
	n, bytes := sum(*list, func(m said) bool { return m.topic != wire.TopicHello })
	if got := float64(bytes+n*overhead) / w.now.Sub(start).Seconds(); got > rate*1.1 || got < rate*0.8 {
		t.Errorf("%.0f bytes per second, want %d", got, rate)
	}
	for _, m := range *list {
		if m.size > 4<<10 {
			t.Errorf("a message of %d bytes keeps others waiting", m.size)
		}
	}
	w.cfg.MaxRate = 0
	w.run(2 * time.Minute)
	if w.hub.pos != w.log.last {
		t.Fatalf("hub at %v", w.hub.pos)
	}
	n, _ = sum(*list, func(m said) bool { return m.topic == wire.TopicSnapshot })
	w.run(time.Minute)
	if again, _ := sum(*list, func(m said) bool { return m.topic == wire.TopicSnapshot }); again != n {
		t.Errorf("%d snapshots without a backlog", again-n)
	}
}

func TestAConnectionOverWhichNobodyAnswersIsGivenUp(t *testing.T) {
	w := quiet(t, 3)
	w.hub.instance = wire.Instance{9} // its answers are for somebody else
	w.disconnect()
	w.connect()
	w.run(deafAfter - time.Second)
	if w.s.deaf(w.now) {
		t.Error("given up too early")
	}
	w.run(2 * time.Second)
	if !w.s.deaf(w.now) {
		t.Error("kept for ever")
	}
	w.disconnect()
	w.hub.instance = w.cfg.Epoch.Instance
	w.connect()
	w.run(2 * time.Minute)
	if w.s.deaf(w.now) {
		t.Error("given up although the hub answers")
	}
}

func TestASchemaTravelsOnceAndAgainWhenItIsAskedFor(t *testing.T) {
	w := quiet(t, 3)
	list := w.record()
	schemas := func() int {
		n, _ := sum(*list, func(m said) bool { return m.kind == wire.KindSchema })
		return n
	}
	for range 5 {
		w.disconnect()
		w.connect()
		w.plainFrame()
		w.run(5 * time.Second)
	}
	if n := schemas(); n != 0 {
		t.Errorf("%d schemas for a hub that has them", n)
	}
	clear(w.hub.schemas) // a hub that was restored
	w.plainFrame()
	w.run(5 * time.Second)
	w.wantHub(9)
	if n := schemas(); n != 1 {
		t.Errorf("%d schemas for a hub that asked", n)
	}
}

// TestThousandsOfEdgesComeBackSpreadOut restarts a hub that has ten thousand edges
// and takes 400 connections a second, with a clock of its own.
func TestThousandsOfEdgesComeBackSpreadOut(t *testing.T) {
	const edges, capacity = 10_000, 400
	for _, down := range []time.Duration{2 * time.Second, 30 * time.Second, 10 * time.Minute} {
		rng := rand.New(rand.NewPCG(7, uint64(down)))
		type attempt struct {
			at   time.Duration
			edge int
		}
		pauses := make([]backoff, edges)
		var next []attempt
		for i := range edges {
			pauses[i] = newBackoff(time.Minute)
			next = append(next, attempt{pauses[i].pause(rng), i})
		}
		tries := map[int]int{} // by second
		back := map[int]int{}
		connected, last := 0, time.Duration(0)
		for len(next) > 0 {
			slices.SortFunc(next, func(a, b attempt) int { return int(a.at - b.at) })
			var later []attempt
			for _, a := range next {
				second := int(a.at / time.Second)
				tries[second]++
				if a.at >= down && back[second] < capacity {
					back[second]++
					connected++
					last = max(last, a.at)
					continue
				}
				later = append(later, attempt{a.at + pauses[a.edge].pause(rng), a.edge})
			}
			next = later
		}
		most := 0
		for second, n := range tries {
			if second > 5 { // once, at the very beginning, all are there
				most = max(most, n)
			}
		}
		t.Logf("hub down for %v: %d edges back within %v of its return, at most %d attempts a second after the first", down, connected, (last - down).Round(time.Second), most)
		if first := tries[0] + tries[1]; first > edges/2 {
			t.Errorf("hub down for %v: %d attempts in the first two seconds", down, first)
		}
		if connected != edges || most > edges/4 || last-down > 3*time.Minute {
			t.Errorf("hub down for %v: %d back, the last after %v; %d attempts in one second", down, connected, last-down, most)
		}
	}
}
