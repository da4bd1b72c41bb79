package mqtt

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
)

func TestMessageIsAcknowledgedOnceCommitted(t *testing.T) {
	b := newBroker(t)
	s := newSink(false)
	start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, s, dev("d", profile.Point{ID: "n", Topic: "n"})).connected(t)
	for i := range 5 {
		b.publish("n", fmt.Sprint(i), false, 1)
	}
	eventually(t, "five puts", func() bool { return len(s.all()) == 5 })
	if n := b.inflight("edge"); n != 5 {
		t.Fatalf("%d messages are unacknowledged before the commit, want 5", n)
	}
	s.commit()
	eventually(t, "acknowledged", func() bool { return b.inflight("edge") == 0 })
}

func TestRedeliveredMessageIsNotReadTwice(t *testing.T) {
	b := newBroker(t)
	s := newSink(false)
	d := start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, s, dev("d", profile.Point{ID: "n", Topic: "n"}))
	d.connected(t)
	b.publish("n", "1", false, 1)
	b.publish("n", "2", false, 1)
	eventually(t, "two puts", func() bool { return len(s.all()) == 2 })
	for i := range 3 {
		b.cut("edge")
		eventually(t, "redelivered", func() bool { return testutil.ToFloat64(d.metrics.repeated) >= float64(2*(i+1)) })
	}
	s.commit()
	eventually(t, "acknowledged on the newest connection", func() bool { return b.inflight("edge") == 0 })
	b.publish("n", "3", false, 1)
	eventually(t, "the next is read", func() bool { return len(s.all()) == 3 })
	for i, p := range s.all() {
		if p.samples[0].Value != float64(i+1) {
			t.Errorf("put %d: %v", i, p)
		}
	}
}

func TestUncommittedMessageComesAgainAfterACrash(t *testing.T) {
	b := newBroker(t)
	first := newSink(false)
	d := start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, first, dev("d", profile.Point{ID: "n", Topic: "n"}))
	d.connected(t)
	b.publish("n", "1", false, 1)
	eventually(t, "put", func() bool { return len(first.all()) == 1 })
	d.stop() // without a commit
	b.publish("n", "2", false, 1)

	second := newSink(true)
	start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, second, dev("d", profile.Point{ID: "n", Topic: "n"}))
	eventually(t, "both", func() bool { return len(second.all()) == 2 })
	eventually(t, "acknowledged", func() bool { return b.inflight("edge") == 0 })
}

// A driver that ends has everything that it read committed and acknowledged, or
// the broker would give it to the next one again: an event counted twice.
func TestAStoppedDriverLeavesNothingToBeReadTwice(t *testing.T) {
	b := newBroker(t)
	first := newSink(false)
	first.obeys = true
	d := start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, first, dev("d", profile.Point{ID: "n", Topic: "n"}))
	d.connected(t)
	const n = 200
	for i := range n {
		b.publish("n", fmt.Sprint(i), false, 1)
	}
	eventually(t, "some are read", func() bool { return len(first.all()) > n/4 })
	d.stop()
	eventually(t, "the broker has the acknowledgements", func() bool { return b.inflight("edge") <= n-len(first.all()) })
	second := newSink(true)
	start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, second, dev("d", profile.Point{ID: "n", Topic: "n"}))
	eventually(t, "the rest is read", func() bool { return len(first.all())+len(second.all()) >= n && b.inflight("edge") == 0 })
	seen := map[float64]int{}
	for _, p := range append(first.all(), second.all()...) {
		seen[p.samples[0].Value]++
	}
	for i := range n {
		if seen[float64(i)] != 1 {
			t.Errorf("message %d was read %d times", i, seen[float64(i)])
		}
	}
}

func TestMessagesOfAnOldSessionAreLetGo(t *testing.T) {
	b := newBroker(t)
	d := start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, newSink(true), dev("d", profile.Point{ID: "n", Topic: "before"}))
	d.connected(t)
	d.stop()
	b.publish("before", "1", false, 1)
	d = start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, newSink(true), dev("d", profile.Point{ID: "n", Topic: "after"}))
	eventually(t, "stray", func() bool { return testutil.ToFloat64(d.metrics.stray) == 1 })
	eventually(t, "acknowledged", func() bool { return b.inflight("edge") == 0 })
}

func TestFloodIsBoundedAndSparesTheNeighbour(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	d := start(t, Config{URL: "tcp://" + b.addr, Queue: 64}, s,
		dev("loud", profile.Point{ID: "n", Topic: "loud/#"}), dev("quiet", profile.Point{ID: "n", Topic: "quiet"}))
	release := s.hold(t)
	d.connected(t)
	const n = 5000
	for i := range n {
		b.publish("loud/x", fmt.Sprint(i), false, 0)
	}
	b.publish("quiet", "7", false, 0)
	eventually(t, "the flood was received", func() bool {
		return testutil.ToFloat64(d.metrics.dropped) >= n-64/4-2*64
	})
	if l := d.queue.length(); l > 64 {
		t.Errorf("%d messages wait, the bound is 64", l)
	}
	release()
	eventually(t, "the neighbour's message is read", func() bool {
		for _, p := range s.all() {
			if p.device == "quiet" {
				return true
			}
		}
		return false
	})
	read, dropped := len(s.all())-1, int(testutil.ToFloat64(d.metrics.dropped))
	if read+dropped != n {
		t.Errorf("%d read and %d dropped of %d: some are not accounted for", read, dropped, n)
	}
}

func TestFloodOfQoS1StaysWithTheBroker(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	d := start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge", Queue: 64}, s, dev("d", profile.Point{ID: "n", Topic: "n"}))
	release := s.hold(t)
	d.connected(t)
	const n = 500
	for i := range n {
		b.publish("n", fmt.Sprint(i), false, 1)
	}
	eventually(t, "most are left with the broker", func() bool { return testutil.ToFloat64(d.metrics.held) > 300 })
	release()
	eventually(t, "all are read in the end", func() bool { return len(s.all()) == n })
	eventually(t, "and acknowledged", func() bool { return b.inflight("edge") == 0 })
	seen := make(map[float64]int)
	for _, p := range s.all() {
		seen[p.samples[0].Value]++
	}
	if len(seen) != n {
		t.Errorf("%d different messages of %d", len(seen), n)
	}
	if testutil.ToFloat64(d.metrics.dropped) != 0 {
		t.Error("a QoS 1 message was dropped")
	}
}

func BenchmarkHandle(b *testing.B) {
	s := newSink(true)
	cfg := Config{URL: "tcp://127.0.0.1:1"}
	drv, err := cfg.New("local", nil, env(s))
	if err != nil {
		b.Fatal(err)
	}
	d := drv.(*mqttDriver)
	dd := &device{spec: dev("air",
		profile.Point{ID: "pm2_5", Topic: "airgradient/readings/+", Path: "pm02"},
		profile.Point{ID: "co2", Topic: "airgradient/readings/+", Path: "rco2"},
		profile.Point{ID: "t", Topic: "airgradient/readings/+", Path: "atmp"})}
	r, err := newRoutes([]*device{dd})
	if err != nil {
		b.Fatal(err)
	}
	payload := []byte(`{"wifi":-46,"serialno":"ecda3b1eaaaf","rco2":447,"pm01":3,"pm02":7,"pm10":8,"pm003Count":442,"atmp":25.87,"atmpCompensated":24.47,"rhum":43,"tvocIndex":100,"boot":6,"firmware":"3.1.3","model":"I-9PSL"}`)
	b.ReportAllocs()
	for b.Loop() {
		doc := &document{raw: payload}
		for _, t := range r.match("airgradient/readings/ecda3b1eaaaf") {
			d.samples, _ = read(d.samples[:0], t.points, doc, false, dd.counts, 0)
		}
	}
	runtime.KeepAlive(d.samples)
}

// lasting are receipts that outlive a driver; what is noted counts as committed.
type lasting struct {
	mu    sync.Mutex
	known []driver.Receipt
}

func (l *lasting) Known(string) []driver.Receipt {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.known)
}

func (l *lasting) Note(_ string, r driver.Receipt, _ driver.Ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = append(l.known, r)
}

// A crash between the commit of a message and its acknowledgement: the broker gives
// the message again, and it is known.
func TestACommittedMessageIsKnownAfterACrash(t *testing.T) {
	b := newBroker(t)
	kept := &lasting{}
	cfg := Config{URL: "tcp://" + b.addr, ClientID: "edge"}
	first := newSink(false)
	d := startKeeping(t, cfg, first, kept, dev("d", profile.Point{ID: "n", Topic: "n"}))
	d.connected(t)
	b.publish("n", "1", false, 1)
	eventually(t, "the first put", func() bool { return len(first.all()) == 1 })
	first.commit()
	eventually(t, "acknowledged", func() bool { return b.inflight("edge") == 0 })
	if n := len(kept.Known("")); n != 0 {
		t.Errorf("%d messages are kept of a broker of which nobody knows whether it counts", n)
	}
	b.publish("n", "2", false, 1)
	b.publish("n", "2", false, 1) // one that is alike is another one
	eventually(t, "two more", func() bool { return len(first.all()) == 3 })
	d.stop() // committed, and not acknowledged
	if n := len(kept.Known("")); n != 2 {
		t.Fatalf("%d messages are kept, want 2", n)
	}
	b.publish("n", "2", false, 1)
	second := newSink(true)
	d = startKeeping(t, cfg, second, kept, dev("d", profile.Point{ID: "n", Topic: "n"}))
	eventually(t, "only the new one is read", func() bool { return len(second.all()) == 1 && b.inflight("edge") == 0 })
	if n := testutil.ToFloat64(d.metrics.repeated); n != 2 {
		t.Errorf("%v messages were known, want 2", n)
	}
}

func TestNothingIsKeptOfABrokerThatUsesItsNumbersAgain(t *testing.T) {
	r := newReceipts(10)
	deliver := func(id uint16, payload string) *receipt {
		e, v := r.receive(fakeMessage{id: id, payload: payload})
		if v != verdictNew {
			t.Fatalf("message %d: %v", id, v)
		}
		return e
	}
	r.settle(deliver(1, "a"))
	e := deliver(2, "a")
	if !r.lasting() {
		t.Error("a broker that counts is not known for it")
	}
	r.settle(e)
	r.settle(deliver(1, "a")) // the lowest that is free
	if r.lasting() {
		t.Error("an identifier came back at once, and still messages are told by it")
	}
}

// fakeMessage is one of QoS 1, delivered for the first time.
type fakeMessage struct {
	paho.Message
	id      uint16
	payload string
}

func (m fakeMessage) Topic() string     { return "n" }
func (m fakeMessage) Payload() []byte   { return []byte(m.payload) }
func (m fakeMessage) MessageID() uint16 { return m.id }
func (m fakeMessage) Duplicate() bool   { return false }
func (m fakeMessage) Ack()              {}
