package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const limit = time.Minute

type message struct {
	edge, kind string
	payload    []byte
}

func open(t testing.TB, cfg Config) *Bus {
	t.Helper()
	b, err := Open(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func listenTo(t testing.TB, b *Bus) <-chan message {
	t.Helper()
	got := make(chan message, 1000)
	if err := b.Subscribe(func(edge, kind string, payload []byte) { got <- message{edge, kind, payload} }); err != nil {
		t.Fatal(err)
	}
	return got
}

func receive(t testing.TB, from <-chan message) message {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(limit):
		t.Fatal("no message")
		return message{}
	}
}

func options(addr string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetOrderMatters(false).SetCleanSession(true).
		SetClientID(fmt.Sprintf("t-%d", time.Now().UnixNano())).SetWriteTimeout(5 * time.Second).
		SetMaxReconnectInterval(100 * time.Millisecond).SetConnectRetryInterval(50 * time.Millisecond)
}

func connect(t testing.TB, o *mqtt.ClientOptions) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(o)
	wait(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func wait(t testing.TB, tok mqtt.Token) {
	t.Helper()
	if !tok.WaitTimeout(limit) {
		t.Fatal("timed out")
	}
	if err := tok.Error(); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, c mqtt.Client, topic string) <-chan mqtt.Message {
	t.Helper()
	got := make(chan mqtt.Message, 1000)
	wait(t, c.Subscribe(topic, 0, func(_ mqtt.Client, m mqtt.Message) { got <- m }))
	return got
}

func TestAnEdgeAndTheHubReachEachOther(t *testing.T) {
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	got := listenTo(t, b)
	c := connect(t, options(b.Addr()))
	acks := subscribe(t, c, "langbiang/v1/lac-duong-01/ack")
	configs := subscribe(t, c, "langbiang/v1/lac-duong-01/config")
	asks := subscribe(t, c, "langbiang/v1/lac-duong-01/ask")

	for _, kind := range []string{KindHello, KindFrame, KindSnapshot, KindState, KindAnswer} {
		payload := []byte(kind + "\x00\xff payload")
		wait(t, c.Publish(TopicPrefix+"lac-duong-01/"+kind, 0, false, payload))
		m := receive(t, got)
		if m.edge != "lac-duong-01" || m.kind != kind || !bytes.Equal(m.payload, payload) {
			t.Errorf("sent %s %q, got %s %s %q", kind, payload, m.edge, m.kind, m.payload)
		}
	}
	for kind, ch := range map[string]<-chan mqtt.Message{KindAck: acks, KindConfig: configs, KindAsk: asks} {
		if err := b.Publish("lac-duong-01", kind, []byte{0, 1, 2}); err != nil {
			t.Fatal(err)
		}
		select {
		case m := <-ch:
			if m.Topic() != "langbiang/v1/lac-duong-01/"+kind || !bytes.Equal(m.Payload(), []byte{0, 1, 2}) {
				t.Errorf("%s: got %s %v", kind, m.Topic(), m.Payload())
			}
		case <-time.After(limit):
			t.Fatalf("no %s", kind)
		}
	}
	if len(got) != 0 {
		t.Errorf("the hub heard itself: %v", <-got)
	}
}

func TestWhatTheHubMayPublish(t *testing.T) {
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	for _, bad := range [][2]string{{"a", KindFrame}, {"", KindAck}, {"a.b", KindAck}, {"*", KindAck}, {"Ä", KindConfig}, {"a", KindAnswer}} {
		if err := b.Publish(bad[0], bad[1], nil); !errors.Is(err, ErrAddress) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := b.Publish("a", KindAck, make([]byte, 2<<20)); err == nil {
		t.Error("a payload of 2 MiB was accepted")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish("a", KindAck, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	if err := b.Subscribe(func(string, string, []byte) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestClientsMayNotSpeakAsTheHubNorListenToEdges(t *testing.T) {
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	got := listenTo(t, b)
	victim := connect(t, options(b.Addr()))
	acks := subscribe(t, victim, "langbiang/v1/victim/ack")

	c := connect(t, options(b.Addr()))
	for _, topic := range []string{"langbiang/v1/victim/ack", "langbiang/v1/victim/config", "langbiang/v1/victim/ask", "langbiang/v1/victim/other", "other", "$SYS/REQ/SERVER/PING", "$JS/API/STREAM/LIST"} {
		wait(t, c.Publish(topic, 0, true, []byte("forged")))
	}
	for _, topic := range []string{"#", "langbiang/v1/victim/frame", "langbiang/v1/victim/answer", "langbiang/v1/+/frame", "$MQTT/msgs/#"} {
		tok := c.Subscribe(topic, 0, nil)
		if !tok.WaitTimeout(limit) || tok.(*mqtt.SubscribeToken).Result()[topic] != 0x80 {
			t.Errorf("subscription to %s was granted", topic)
		}
	}
	// The client is still there, and what it may do works.
	wait(t, c.Publish("langbiang/v1/victim/state", 0, false, []byte("last")))
	if m := receive(t, got); string(m.payload) != "last" {
		t.Errorf("got %q before", m.payload)
	}
	if err := b.Publish("victim", KindAck, []byte("true")); err != nil {
		t.Fatal(err)
	}
	if m := <-acks; string(m.Payload()) != "true" {
		t.Errorf("the victim got %q", m.Payload())
	}
}

func TestTopicsThatNameNoEdgeAreRefusedAndCounted(t *testing.T) {
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	got := listenTo(t, b)
	c := connect(t, options(b.Addr()))
	for _, edge := range []string{"UPPER", "a.b", "đà-lạt", strings.Repeat("x", 64), "a_b"} {
		wait(t, c.Publish(TopicPrefix+edge+"/frame", 0, false, []byte("x")))
	}
	wait(t, c.Publish(TopicPrefix+"ok/frame", 0, false, []byte("x")))
	if m := receive(t, got); m.edge != "ok" {
		t.Errorf("edge %q came through", m.edge)
	}
}

type oneEdge struct{}

func (oneEdge) Authenticate(c Client) (string, bool) {
	return c.User, c.Password == "right" && c.TLS == nil && c.Remote != nil
}

func TestAnAuthenticatedEdgeKeepsToItsOwnSubtree(t *testing.T) {
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir(), Authenticator: oneEdge{}})
	got := listenTo(t, b)
	for _, o := range []*mqtt.ClientOptions{options(b.Addr()), options(b.Addr()).SetUsername("a").SetPassword("wrong"), options(b.Addr()).SetUsername("hub").SetPassword("")} {
		c := mqtt.NewClient(o)
		if tok := c.Connect(); tok.WaitTimeout(limit) && tok.Error() == nil {
			t.Error("let in without a right")
		}
	}
	c := connect(t, options(b.Addr()).SetUsername("a").SetPassword("right"))
	wait(t, c.Publish("langbiang/v1/b/frame", 0, false, []byte("x")))
	wait(t, c.Publish("langbiang/v1/a/frame", 0, false, []byte("x")))
	if m := receive(t, got); m.edge != "a" {
		t.Errorf("a spoke as %s", m.edge)
	}
	if tok := c.Subscribe("langbiang/v1/b/ack", 0, nil); tok.WaitTimeout(limit) && tok.Error() == nil && tok.(*mqtt.SubscribeToken).Result()["langbiang/v1/b/ack"] != 0x80 {
		t.Error("a listens to the acks of b")
	}
}

func TestStateIsRetainedAndTheWillIsPublished(t *testing.T) {
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	got := listenTo(t, b)
	const topic = "langbiang/v1/e1/state"
	// A connection of our own, so that it can be cut without a goodbye.
	var raw atomic.Pointer[net.TCPConn]
	o := options(b.Addr()).SetWill(topic, "gone", 0, true).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(customDial(b.Addr(), &raw))
	edge := connect(t, o)
	wait(t, edge.Publish(topic, 0, true, "here"))
	if m := receive(t, got); m.kind != KindState || string(m.payload) != "here" {
		t.Fatalf("got %s %q", m.kind, m.payload)
	}
	testutil.Eventually(t, limit, "a late subscriber gets the retained state", func() bool {
		c := connect(t, options(b.Addr()))
		defer c.Disconnect(0)
		states := subscribe(t, c, topic)
		select {
		case m := <-states:
			return m.Retained() && string(m.Payload()) == "here"
		case <-time.After(2 * time.Second):
			return false
		}
	})
	_ = raw.Load().SetLinger(0)
	_ = raw.Load().Close()
	if m := receive(t, got); m.kind != KindState || string(m.payload) != "gone" {
		t.Fatalf("instead of the will: %s %q", m.kind, m.payload)
	}
}

func TestAnOversizedMessageDisconnectsItsSenderOnly(t *testing.T) {
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir(), MaxPayload: 64 << 10})
	got := listenTo(t, b)
	lost := make(chan error, 1)
	bad := connect(t, options(b.Addr()).SetAutoReconnect(false).SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	good := connect(t, options(b.Addr()))
	bad.Publish("langbiang/v1/bad/frame", 0, false, make([]byte, 65<<10))
	select {
	case <-lost:
	case <-time.After(limit):
		t.Fatal("the sender stayed connected")
	}
	wait(t, good.Publish("langbiang/v1/good/frame", 0, false, make([]byte, 32<<10)))
	if m := receive(t, got); m.edge != "good" || len(m.payload) != 32<<10 {
		t.Fatalf("got %d bytes of %s", len(m.payload), m.edge)
	}
}

func TestClientsComeBackAfterARestartOnTheSamePort(t *testing.T) {
	addr, dir := testutil.FreeAddress(t), t.TempDir()
	cfg := Config{Listen: addr, DataDir: dir}
	b, err := Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := listenTo(t, b)
	connected := make(chan struct{}, 10)
	c := connect(t, options(addr).SetOnConnectHandler(func(c mqtt.Client) {
		c.Subscribe("langbiang/v1/e/ack", 0, nil)
		connected <- struct{}{}
	}))
	<-connected
	wait(t, c.Publish("langbiang/v1/e/frame", 0, false, "1"))
	receive(t, got)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(got) != 0 {
		t.Errorf("heard after close: %v", <-got)
	}
	b2 := open(t, cfg)
	got = listenTo(t, b2)
	select {
	case <-connected:
	case <-time.After(limit):
		t.Fatal("not reconnected")
	}
	wait(t, c.Publish("langbiang/v1/e/frame", 0, false, "2"))
	if m := receive(t, got); string(m.payload) != "2" {
		t.Errorf("got %q", m.payload)
	}
}

func TestWhatCannotBeOpenedSaysWhyInOneSentence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	used := t.TempDir()
	open(t, Config{Listen: "127.0.0.1:0", DataDir: used})
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		is   error
		says []string
	}{
		{"port taken", Config{Listen: l.Addr().String(), DataDir: t.TempDir()}, ErrListen, []string{l.Addr().String(), "address already in use"}},
		{"no such address", Config{Listen: "192.0.2.1:1883", DataDir: t.TempDir(), Insecure: true}, ErrListen, []string{"192.0.2.1:1883"}},
		{"no port", Config{Listen: "localhost", DataDir: t.TempDir()}, ErrListen, []string{`"localhost"`}},
		{"directory in use", Config{Listen: "127.0.0.1:0", DataDir: used}, ErrInUse, []string{used, "in use by another process"}},
		{"plaintext on all addresses", Config{Listen: ":1883", DataDir: t.TempDir()}, ErrPlaintext, []string{":1883"}},
		{"plaintext on a public address", Config{Listen: "10.0.0.1:1883", DataDir: t.TempDir()}, ErrPlaintext, []string{"10.0.0.1:1883"}},
		{"no directory", Config{Listen: "127.0.0.1:0"}, nil, []string{"data directory"}},
		{"a file for a directory", Config{Listen: "127.0.0.1:0", DataDir: file}, nil, []string{file}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := Open(tc.cfg, slog.New(slog.DiscardHandler), nil)
			if err == nil {
				_ = b.Close()
				t.Fatal("opened")
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is not %v", err, tc.is)
			}
			for _, s := range tc.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
			t.Log(err)
		})
	}
	// What failed left the directory free.
	open(t, Config{Listen: "0.0.0.0:0", DataDir: t.TempDir(), Insecure: true})
}

func TestTwoBusesInOneProcess(t *testing.T) {
	reg := prometheus.NewRegistry()
	a := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	b, err := Open(Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	fromA, fromB := listenTo(t, a), listenTo(t, b)
	wait(t, connect(t, options(a.Addr())).Publish("langbiang/v1/x/frame", 0, false, "to a"))
	wait(t, connect(t, options(b.Addr())).Publish("langbiang/v1/x/frame", 0, false, "to b"))
	if m := receive(t, fromA); string(m.payload) != "to a" {
		t.Errorf("a got %q", m.payload)
	}
	if m := receive(t, fromB); string(m.payload) != "to b" {
		t.Errorf("b got %q", m.payload)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if fams, err := reg.Gather(); err != nil || len(fams) != 0 {
		t.Errorf("metrics left behind: %v %v", fams, err)
	}
}

func TestASlowHandlerLosesMessagesAndNotMemory(t *testing.T) {
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir(), PendingBytes: 1 << 20})
	release := make(chan struct{})
	var once sync.Once
	stop := func() { once.Do(func() { close(release) }) }
	defer stop()
	var handled atomic.Int64
	if err := b.Subscribe(func(string, string, []byte) { <-release; handled.Add(1) }); err != nil {
		t.Fatal(err)
	}
	c := connect(t, options(b.Addr()))
	payload := make([]byte, 100<<10)
	for range 40 {
		wait(t, c.Publish("langbiang/v1/e/frame", 0, false, payload))
	}
	testutil.Eventually(t, limit, "drops are counted", func() bool { return b.Dropped() > 20 })
	stop()
	testutil.Eventually(t, limit, "the rest is handled", func() bool { return int(handled.Load())+b.Dropped() == 40 })
}

func TestManyClients(t *testing.T) {
	const n = 200
	b := open(t, Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	var seen sync.Map
	var count atomic.Int64
	if err := b.Subscribe(func(edge, _ string, payload []byte) {
		if _, twice := seen.LoadOrStore(edge, true); !twice && string(payload) == edge {
			count.Add(1)
		}
		if err := b.Publish(edge, KindAck, payload); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	var acked atomic.Int64
	gate := make(chan struct{}, 20)
	var wg sync.WaitGroup
	clients := make([]mqtt.Client, n)
	for i := range n {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			edge := fmt.Sprintf("edge-%03d", i)
			o := options(b.Addr()).SetClientID("client-" + edge)
			c := mqtt.NewClient(o)
			clients[i] = c
			for _, tok := range []func() mqtt.Token{
				c.Connect,
				func() mqtt.Token {
					return c.Subscribe("langbiang/v1/"+edge+"/ack", 0, func(_ mqtt.Client, m mqtt.Message) {
						if string(m.Payload()) == edge {
							acked.Add(1)
						}
					})
				},
				func() mqtt.Token { return c.Publish("langbiang/v1/"+edge+"/hello", 0, false, edge) },
			} {
				k := tok()
				if !k.WaitTimeout(limit) || k.Error() != nil {
					t.Errorf("%s: %v", edge, k.Error())
				}
			}
		})
	}
	wg.Wait()
	testutil.Eventually(t, limit, "every edge is heard and answered", func() bool { return count.Load() == n && acked.Load() == n })
	if got := b.Connections(); got != n {
		t.Errorf("%d connections", got)
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d clients connected, heard and answered in %v; heap and stacks of both sides %d kB each",
		n, time.Since(start).Round(time.Millisecond), (int64(after.HeapInuse+after.StackInuse)-int64(before.HeapInuse+before.StackInuse))/n/1024)
	for _, c := range clients {
		c.Disconnect(0)
	}
	testutil.Eventually(t, limit, "all are gone", func() bool { return b.Connections() == 0 })
}

func FuzzParseSubject(f *testing.F) {
	for _, s := range []string{"langbiang.v1.a.frame", "langbiang.v1..frame", "langbiang.v1.a.b.frame", "langbiang.v2.a.frame", "langbiang.v1.a.ack", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		edge, kind, ok := parseSubject(subject)
		if ok && !ValidEdge(edge) {
			t.Errorf("%q gave edge %q", subject, edge)
		}
		if ok && kind != kindNone && subjectPrefix+edge+"."+kindNames[kind] != subject {
			t.Errorf("%q does not round-trip", subject)
		}
	})
}
