package uplink

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// brokerHub is a real MQTT broker with the model hub behind it.
type brokerHub struct {
	t      *testing.T
	addr   string
	server *mochi.Server
	mu     sync.Mutex
	hub    *modelHub
	states []wire.State
}

func (b *brokerHub) open() {
	b.t.Helper()
	b.server = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := b.server.AddHook(new(auth.AllowHook), nil); err != nil {
		b.t.Fatal(err)
	}
	if err := b.server.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: b.addr})); err != nil {
		b.t.Fatal(err)
	}
	if err := b.server.Serve(); err != nil {
		b.t.Fatal(err)
	}
	server := b.server
	err := server.Subscribe(wire.TopicPrefix+"#", 1, func(_ *mochi.Client, _ packets.Subscription, p packets.Packet) {
		edge, kind, ok := wire.ParseTopic(p.TopicName)
		if !ok || kind == wire.TopicAck {
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if kind == wire.TopicState {
			var s wire.State
			if wire.DecodeState(p.Payload, &s) == nil {
				b.states = append(b.states, s)
			}
			return
		}
		a, ok := b.hub.take(time.Now(), kind, p.Payload)
		if !ok {
			return
		}
		b.hub.checkpoint()
		a = b.hub.fill(a)
		payload, err := wire.EncodeAck(nil, &a)
		if err == nil {
			err = server.Publish(wire.AckTopic(edge), payload, false, 0)
		}
		if err != nil {
			b.t.Error(err)
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestFramesBecomeSafeThroughABrokerThatRestarts(t *testing.T) {
	epoch := wire.Epoch{Instance: wire.Instance{1}, Start: 1, Random: 2}
	log := newMemLog()
	payload, schema, err := wire.EncodeSchema(nil, &telemetry.Schema{Devices: []telemetry.Device{{ID: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	log.schemas[schema] = payload
	enc := wire.NewEncoder(nil)
	add := func(from, to uint64) wire.Pos {
		for seq := from; seq <= to; seq++ {
			p, err := enc.Encode(nil, &wire.Frame{
				Header:   wire.Header{Epoch: epoch, Seq: seq, Schema: schema, W: int64(seq)},
				Readings: []telemetry.Reading{{Time: int64(seq), Value: float64(seq)}},
			})
			if err != nil {
				t.Fatal(err)
			}
			log.append(wire.Pos{Epoch: epoch, Seq: seq}, p)
		}
		return wire.Pos{Epoch: epoch, Seq: to}
	}
	b := &brokerHub{t: t, addr: testutil.FreeAddress(t), hub: &modelHub{t: t, schemas: map[wire.Hash]bool{}, instance: epoch.Instance, credit: 32 << 10}}
	snapshots := 0
	u, err := New(Config{
		URL: "mqtt://" + b.addr, Edge: "lac-duong-01", Epoch: epoch, MaxBackoff: 200 * time.Millisecond, AnswerTimeout: time.Second,
		Metrics: prometheus.NewRegistry(), Snapshot: func([]byte) ([]byte, bool) { snapshots++; return nil, false }, SnapshotEvery: time.Millisecond,
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	// The agent starts while there is no hub, with a backlog.
	last := add(1, 500)
	go func() { done <- u.Run(ctx) }()
	testutil.Eventually(t, time.Minute, "the failed connection is shown", func() bool { return u.Status().Reason != "" })
	b.open()
	testutil.Eventually(t, time.Minute, "the backlog is safe", func() bool { return log.safePos() == last })
	last = add(501, 510)
	testutil.Eventually(t, time.Minute, "a live frame is safe", func() bool { return log.safePos() == last })
	if err := b.server.Close(); err != nil {
		t.Fatal(err)
	}
	last = add(511, 700)
	testutil.Eventually(t, time.Minute, "the loss is noticed", func() bool { return !u.Status().Connected })
	b.open()
	testutil.Eventually(t, time.Minute, "what piled up is safe", func() bool { return log.safePos() == last })
	testutil.Eventually(t, time.Minute, "the status says so", func() bool { s := u.Status(); return s.Connected && s.Got == last })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	testutil.Eventually(t, time.Minute, "the good-bye arrives", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		n := len(b.states)
		return n > 0 && !b.states[n-1].Online && b.states[n-1].Epoch == epoch
	})
	if err := b.server.Close(); err != nil {
		t.Fatal(err)
	}
	if len(b.hub.frames) != 700 || len(b.hub.gaps) != 0 || len(b.hub.violations) != 0 {
		t.Errorf("%d frames, gaps %v, violations %v", len(b.hub.frames), b.hub.gaps, b.hub.violations)
	}
	if snapshots == 0 {
		t.Error("no snapshot during the backlog")
	}
}

func TestNewNamesWhatIsWrongInTheConfiguration(t *testing.T) {
	good := Config{URL: "mqtt://h:1883", Edge: "a", Epoch: wire.Epoch{Start: 1}}
	if _, err := New(good, newMemLog()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no address":  func(c *Config) { c.URL = "" },
		"not MQTT":    func(c *Config) { c.URL = "http://h" },
		"bad edge id": func(c *Config) { c.Edge = "Lạc Dương" },
		"no epoch":    func(c *Config) { c.Epoch = wire.Epoch{} },
	} {
		c := good
		change(&c)
		if _, err := New(c, newMemLog()); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
