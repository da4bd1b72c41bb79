package mqtt

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testutil.Eventually(t, time.Minute, what, ok)
}

// testBroker is an in-process broker that can be stopped and started on the
// same port.
type testBroker struct {
	t      testing.TB
	addr   string
	server *broker.Server
}

func newBroker(t testing.TB, hooks ...broker.Hook) *testBroker {
	b := idleBroker(t)
	b.start(hooks...)
	return b
}

// idleBroker is one that was not started yet.
func idleBroker(t testing.TB) *testBroker {
	b := &testBroker{t: t, addr: testutil.FreeAddress(t)}
	t.Cleanup(b.stop)
	return b
}

func (b *testBroker) start(hooks ...broker.Hook) {
	b.t.Helper()
	ln, err := net.Listen("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.startOn(ln, hooks...)
}

func (b *testBroker) startOn(ln net.Listener, hooks ...broker.Hook) {
	b.t.Helper()
	b.addr = ln.Addr().String()
	b.server = broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if len(hooks) == 0 {
		hooks = []broker.Hook{new(auth.AllowHook)}
	}
	for _, h := range hooks {
		if err := b.server.AddHook(h, nil); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := b.server.AddListener(listeners.NewNet("test", ln)); err != nil {
		b.t.Fatal(err)
	}
	if err := b.server.Serve(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *testBroker) stop() {
	if b.server != nil {
		_ = b.server.Close()
		b.server = nil
	}
}

func (b *testBroker) publish(topic, payload string, retain bool, qos byte) {
	b.t.Helper()
	if err := b.server.Publish(topic, []byte(payload), retain, qos); err != nil {
		b.t.Fatal(err)
	}
}

// inflight is how many messages the broker has sent to the client and not got
// acknowledged.
func (b *testBroker) inflight(client string) int {
	cl, ok := b.server.Clients.Get(client)
	if !ok {
		return -1
	}
	return cl.State.Inflight.Len()
}

// cut closes the client's connection as a lost network would.
func (b *testBroker) cut(client string) {
	b.t.Helper()
	cl, ok := b.server.Clients.Get(client)
	if !ok {
		b.t.Fatalf("the broker knows no client %s", client)
	}
	cl.Stop(io.ErrUnexpectedEOF)
}

// fakeSink records what a driver puts. Commits happen when the test says so.
type fakeSink struct {
	obeys bool          // commits when it is asked to
	gate  chan struct{} // when not nil, every Put waits for one receive

	mu         sync.Mutex
	puts       []put
	statuses   map[string][]status
	ticket     driver.Ticket
	waiting    map[driver.Ticket][]func()
	identities map[string][]driver.Identity
	auto       bool // everything is committed at once
}

type put struct {
	device  string
	at      time.Time
	samples []driver.Sample
}

func newSink(auto bool) *fakeSink {
	return &fakeSink{statuses: make(map[string][]status), waiting: make(map[driver.Ticket][]func()), auto: auto}
}

// hold makes every Put wait until the returned function is called, at the end
// of the test at the latest.
func (s *fakeSink) hold(t *testing.T) (release func()) {
	gate := make(chan struct{})
	s.mu.Lock()
	s.gate = gate
	s.mu.Unlock()
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return release
}

func (s *fakeSink) Put(d *driver.Device, at time.Time, samples []driver.Sample) driver.Ticket {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts = append(s.puts, put{d.ID, at, slices.Clone(samples)})
	s.ticket++
	return s.ticket
}

func (s *fakeSink) Status(d *driver.Device, up bool, reason telemetry.Reason, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[d.ID] = append(s.statuses[d.ID], status{true, up, reason, detail})
}

func (s *fakeSink) Identified(d *driver.Device, id driver.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identities == nil {
		s.identities = make(map[string][]driver.Identity)
	}
	s.identities[d.ID] = append(s.identities[d.ID], id)
}

// told returns what the device said of itself, oldest first.
func (s *fakeSink) told(device string) []driver.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.identities[device])
}

func (s *fakeSink) Committed(t driver.Ticket, f func()) {
	s.mu.Lock()
	if !s.auto {
		s.waiting[t] = append(s.waiting[t], f)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	f()
}

// Flush commits, if the sink does so when it is asked.
func (s *fakeSink) Flush() bool {
	s.mu.Lock()
	obeys := s.obeys
	s.mu.Unlock()
	if obeys {
		s.commit()
	}
	return s.auto || obeys
}

func (s *fakeSink) commit() {
	s.mu.Lock()
	w := s.waiting
	s.waiting = make(map[driver.Ticket][]func())
	s.mu.Unlock()
	for _, fs := range w {
		for _, f := range fs {
			f()
		}
	}
}

// all returns what was put, without the readings of devices that went down.
func (s *fakeSink) all() []put {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.puts), func(p put) bool {
		switch p.samples[0].Quality.Reason() {
		case telemetry.ReasonUnreachable, telemetry.ReasonOffline, telemetry.ReasonSilent:
			return true
		}
		return false
	})
}

func (s *fakeSink) last(device string) status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.statuses[device]; len(l) > 0 {
		return l[len(l)-1]
	}
	return status{}
}

// logLines is a logger's output.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(text))
}

// running is a driver at work.
type running struct {
	*mqttDriver
	stop func()
	log  *logLines
}

func start(t testing.TB, cfg Config, sink driver.Sink, devices ...*driver.Device) *running {
	t.Helper()
	return startKeeping(t, cfg, sink, nil, devices...)
}

// startKeeping is start with receipts that outlive the driver.
func startKeeping(t testing.TB, cfg Config, sink driver.Sink, kept driver.Receipts, devices ...*driver.Device) *running {
	t.Helper()
	cfg.MaxReconnect = 100 * time.Millisecond
	log := &logLines{}
	drv, err := cfg.New("local", devices, driver.Env{Sink: sink, Receipts: kept, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- drv.Run(ctx) }()
	var once sync.Once
	r := &running{mqttDriver: drv.(*mqttDriver), log: log, stop: func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}}
	t.Cleanup(r.stop)
	return r
}

func (r *running) connected(t *testing.T) {
	t.Helper()
	eventually(t, "connected", func() bool { return r.link.state().up })
}

func dev(id string, points ...profile.Point) *driver.Device {
	d := &driver.Device{ID: id, Interval: 50 * time.Millisecond, Points: points}
	for range points {
		d.Convert = append(d.Convert, driver.Linear{Factor: 1})
	}
	return d
}
