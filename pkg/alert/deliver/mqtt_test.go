package deliver

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/bus"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// broker is one in this process that can be killed; it forgets everything then.
type broker struct {
	t      *testing.T
	addr   string
	server *mochi.Server
}

func newBroker(t *testing.T) *broker {
	b := &broker{t: t, addr: testutil.FreeAddress(t)}
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	b.server = mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := b.server.AddHook(new(auth.AllowHook), nil); err != nil {
		b.t.Fatal(err)
	}
	if err := b.server.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: b.addr})); err != nil {
		b.t.Fatal(err)
	}
	if err := b.server.Serve(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) kill() {
	if b.server != nil {
		_ = b.server.Close()
		b.server = nil
	}
}

// board is what a subscriber sees under a topic.
type board struct {
	mu       sync.Mutex
	events   []uint64
	states   map[string]string // by alert: its state, or "" once removed
	cleared  map[string]bool   // it saw the state cleared
	retained map[string]bool   // what came as retained
	hub      string
	client   paho.Client
}

func watch(t *testing.T, addr, topic string) *board {
	t.Helper()
	b := &board{states: map[string]string{}, cleared: map[string]bool{}, retained: map[string]bool{}}
	o := paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("watch-" + fmt.Sprint(time.Now().UnixNano())).SetAutoReconnect(false)
	b.client = paho.NewClient(o)
	for _, tok := range []func() paho.Token{
		b.client.Connect,
		func() paho.Token { return b.client.Subscribe(topic+"/#", 1, b.take) },
	} {
		if tk := tok(); !tk.WaitTimeout(patience) || tk.Error() != nil {
			t.Fatal("subscribe: ", tk.Error())
		}
	}
	t.Cleanup(func() { b.client.Disconnect(0) })
	return b
}

func (b *board) take(_ paho.Client, m paho.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := strings.LastIndexByte(m.Topic(), '/')
	switch name := m.Topic()[i+1:]; {
	case name == "events":
		var e feed.Event
		_ = json.Unmarshal(m.Payload(), &e)
		if entry, ok, _ := e.Entry(); ok {
			b.events = append(b.events, entry.Sequence)
		}
	case name == "hub":
		b.hub = string(m.Payload())
	case len(m.Payload()) == 0:
		delete(b.states, name)
	default:
		var a alert.Alert
		_ = json.Unmarshal(m.Payload(), &a)
		b.states[name] = string(a.State)
		b.retained[name] = m.Retained()
		b.cleared[name] = b.cleared[name] || a.State == alert.Cleared
	}
}

func (b *board) see(f func() bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f()
}

func TestABrokerHoldsTheStateOfEachActiveAlert(t *testing.T) {
	br := newBroker(t)
	r := newRig(t, Config{MQTT: []MQTTConfig{{Name: "city", Broker: "tcp://" + br.addr, Topic: "city/alerts", From: "oldest", Timeout: 2 * time.Second}}})
	r.begin()
	live := watch(t, br.addr, "city/alerts")
	one, two := r.raise(nil), r.raise(nil)
	r.step(alert.Ended, one)
	r.eventually("events and states are there", func() bool {
		return live.see(func() bool {
			return complete(live.events, 3) == nil && live.cleared[one.ID] && maps.Equal(live.states, map[string]string{two.ID: "active"}) && strings.Contains(live.hub, `"online":true`)
		})
	})
	// Who comes later sees what is active.
	late := watch(t, br.addr, "city/alerts")
	r.eventually("what is retained is the active one", func() bool {
		return late.see(func() bool {
			return maps.Equal(late.states, map[string]string{two.ID: "active"}) && late.retained[two.ID]
		})
	})
	// A broker that forgets everything is told again, and gets what came meanwhile.
	br.kill()
	r.raise(nil)
	r.eventually("it is tried again", func() bool { return r.delivery("city").State == feed.Retrying })
	br.start()
	again := watch(t, br.addr, "city/alerts")
	r.eventually("the new broker has both", func() bool {
		return again.see(func() bool {
			return maps.Equal(again.states, map[string]string{two.ID: "active", "a3": "active"})
		})
	})
	r.eventually("everything is given", func() bool { return r.delivery("city").Lag == 0 })
	r.end()
	r.eventually("the hub says goodbye", func() bool { return again.see(func() bool { return strings.Contains(again.hub, `"online":false`) }) })
}

func TestTheHubsOwnBusHasAlertsInTopicsOfTheirOwn(t *testing.T) {
	b, err := bus.Open(bus.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	r := newRig(t, Config{MQTT: []MQTTConfig{{Name: "bus", Broker: HubBus, From: "oldest"}}})
	r.change = func(p *Parts) {
		p.Bus = func() (string, string, string, *tls.Config, error) {
			addr, user, password := b.Speaker()
			return addr, user, password, nil, nil
		}
	}
	r.begin()
	one, two := r.raise(nil), r.raise(nil)
	r.step(alert.Ended, one)
	r.eventually("everything is given", func() bool { return r.delivery("bus").Lag == 0 })
	late := watch(t, b.Addr(), BusTopic)
	r.eventually("what is active is retained", func() bool {
		return late.see(func() bool {
			return maps.Equal(late.states, map[string]string{two.ID: "active"}) && strings.Contains(late.hub, `"online":true`)
		})
	})
	r.raise(nil)
	r.eventually("a new one comes", func() bool { return late.see(func() bool { return len(late.events) == 1 }) })
	// Its user may publish alerts, and nothing else.
	_, user, password := b.Speaker()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + b.Addr()).SetUsername(user).SetPassword(password).SetClientID("speaker").SetAutoReconnect(false))
	if tok := c.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(0) })
	if tok := c.Subscribe("langbiang/v1/e1/ack", 0, nil); tok.WaitTimeout(patience) && tok.(*paho.SubscribeToken).Result()["langbiang/v1/e1/ack"] != 0x80 {
		t.Error("it may hear")
	}
	heard := make(chan struct{}, 1)
	if err := b.Subscribe(func(string, string, []byte) { heard <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	c.Publish("langbiang/v1/e1/frame", 0, false, []byte("forged")).WaitTimeout(patience)
	c.Publish("langbiang/alerts/x", 1, false, []byte("x")).WaitTimeout(patience)
	select {
	case <-heard:
		t.Error("it spoke as an edge")
	default:
	}
	// Anybody else may not publish alerts.
	d := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + b.Addr()).SetClientID("forger").SetAutoReconnect(false))
	if tok := d.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { d.Disconnect(0) })
	d.Publish(BusTopic+"/state/forged", 1, true, []byte(`{"state":"active"}`)).WaitTimeout(time.Second)
	if check := watch(t, b.Addr(), BusTopic); check.see(func() bool { return check.states["forged"] != "" }) {
		t.Error("an alert was forged")
	}
}

func TestABrokerThatIsNotThereCostsOnlyItself(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	recv := newReceiver(t)
	r := newRig(t, Config{
		MQTT:     []MQTTConfig{{Name: "dead", Broker: "tcp://" + ln.Addr().String(), Timeout: 200 * time.Millisecond, From: "oldest"}},
		Webhooks: []WebhookConfig{hook("good", recv.URL)},
	})
	r.begin()
	r.raise(nil)
	r.eventually("the webhook has it and the broker does not", func() bool { return len(recv.taken()) == 1 && r.delivery("dead").State == feed.Retrying })
}
