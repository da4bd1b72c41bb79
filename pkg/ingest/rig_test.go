package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// advance lets the bubble's time pass.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

type sitesOf map[string]string

func (s sitesOf) Site(edge, claim string) string {
	if v, ok := s[edge]; ok {
		return v
	}
	return claim
}

// fakeBus hands out decoded acknowledgements and bands.
type fakeBus struct {
	ack   func(edge string, a wire.Ack)
	bands func(b wire.Bands)
}

func (f fakeBus) Publish(edge, kind string, payload []byte) error {
	var a wire.Ack
	var b wire.Bands
	switch kind {
	case wire.TopicAck:
		if err := wire.DecodeAck(payload, &a); err != nil {
			return err
		}
		f.ack(edge, a)
	case wire.TopicConfig:
		if err := wire.DecodeBands(payload, &b); err != nil {
			return err
		}
		f.bands(b)
	default:
		return errors.New("unexpected kind " + kind)
	}
	return nil
}

// rig is an ingest with fakes around it, inside a synctest bubble.
type rig struct {
	t      *testing.T
	store  *crashStore
	ledger *crashLedger
	rules  *diaries
	cfg    Config
	dir    string

	g      *Ingest
	cancel context.CancelFunc
	done   chan error

	limits Bands // may be nil

	mu    sync.Mutex
	acks  []wire.Ack
	bands []wire.Bands
	texts []string
}

// Append implements [Texts].
func (r *rig) Append(lset []telemetry.Label, t int64, text string, q telemetry.Quality) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, fmt.Sprintf("%v %d %s %s", telemetry.Labels(lset).Map(), t, text, q))
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, store: newCrashStore(t), ledger: newCrashLedger(), rules: &diaries{t: t, m: map[string]*diary{}}, dir: t.TempDir()}
	r.cfg = Config{Workers: 2, RefusedDir: r.dir + "/refused", Logger: slog.New(slog.DiscardHandler)}
	if os.Getenv("INGEST_LOG") != "" {
		r.cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return r
}

func (r *rig) start() {
	r.t.Helper()
	g, err := New(r.cfg, Parts{Store: r.store, Texts: r, Ledger: r.ledger, Rules: r.rules, Bands: r.limits, Registry: sitesOf{}, Bus: fakeBus{
		ack: func(_ string, a wire.Ack) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.acks = append(r.acks, a)
		},
		bands: func(b wire.Bands) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.bands = append(r.bands, b)
		},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.g, r.cancel, r.done = g, cancel, make(chan error, 1)
	go func() { r.done <- g.Run(ctx) }()
	synctest.Wait()
}

func (r *rig) stop() {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Error(err)
	}
}

// send gives a payload to the ingest and returns the newest acknowledgement that
// came within 300 ms, or the newest that was not ok.
func (r *rig) send(kind string, payload []byte) wire.Ack {
	r.t.Helper()
	r.mu.Lock()
	r.acks = nil
	r.mu.Unlock()
	r.g.Receive("e1", kind, slices.Clone(payload))
	advance(300 * time.Millisecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.acks) == 0 {
		return wire.Ack{Status: 99}
	}
	for _, a := range slices.Backward(r.acks) {
		if a.Status != wire.StatusOK {
			return a
		}
	}
	return r.acks[len(r.acks)-1]
}

func (r *rig) status() EdgeStatus {
	s, ok := r.g.Edge("e1")
	if !ok {
		r.t.Fatal("the edge is not known")
	}
	return s
}

// source makes the messages of one instance, encoded.
type source struct {
	t      testing.TB
	epoch  wire.Epoch
	seq    uint64
	prev   wire.Pos
	last   wire.Pos
	w      int64
	schema *telemetry.Schema
	raw    []byte
	hash   wire.Hash
	enc    *wire.Encoder
}

func testSchema(n int) *telemetry.Schema {
	s := &telemetry.Schema{Devices: []telemetry.Device{{ID: "d0", Profile: "p/m"}, {ID: "d1"}}}
	s.Series = append(s.Series,
		telemetry.Series{Device: 0, Point: "device_up", Quantity: telemetry.QuantityDeviceUp},
		telemetry.Series{Device: 0, Point: "lagging", Quantity: "water_level", MaxLag: 5000},
		telemetry.Series{Device: 1, Point: "plate", Quantity: "plate", Kind: telemetry.KindText})
	for i := range n {
		s.Series = append(s.Series, telemetry.Series{
			Device: 1, Point: fmt.Sprintf("p%d", i), Quantity: "air_temperature", Unit: "Cel",
			Labels: telemetry.NewLabels(map[string]string{"spot": "market"}),
		})
	}
	return s
}

// firstPlain is the first series of testSchema that is a plain number.
const firstPlain = 3

func newSource(t testing.TB, instance byte, start uint32, w int64) *source {
	s := &source{t: t, w: w}
	s.epoch = wire.Epoch{Instance: wire.Instance{instance, 1}, Start: start, Random: 7}
	s.use(testSchema(3))
	return s
}

func (s *source) use(schema *telemetry.Schema) {
	s.schema = schema
	var err error
	if s.raw, s.hash, err = wire.EncodeSchema(nil, schema); err != nil {
		s.t.Fatal(err)
	}
	s.enc = wire.NewEncoder(schema)
}

// restart begins the next epoch.
func (s *source) restart() {
	s.prev = s.last
	s.epoch.Start++
	s.epoch.Random = s.epoch.Random*31 + 1
	s.seq = 0
}

func (s *source) header(w int64) wire.Header {
	s.seq++
	h := wire.Header{Epoch: s.epoch, Seq: s.seq, Schema: s.hash, PrevW: s.w, W: w}
	if s.seq == 1 {
		h.Prev = s.prev
	}
	s.w, s.last = w, h.Pos()
	return h
}

func (s *source) encode(h wire.Header, rs ...telemetry.Reading) []byte {
	b, err := s.enc.Encode(nil, &wire.Frame{Header: h, Readings: rs})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// frame is the next frame, a second long, with a reading at its end.
func (s *source) frame(rs ...telemetry.Reading) []byte {
	w := s.w + 1000
	if rs == nil {
		rs = []telemetry.Reading{{Series: firstPlain, Time: w, Value: float64(s.seq + 1)}}
	}
	return s.encode(s.header(w), rs...)
}

func (s *source) hello(nonce uint64) []byte {
	b, err := wire.EncodeHello(&wire.Hello{
		V: wire.Version, Instance: s.epoch.Instance, Epoch: s.epoch, Newest: s.last, Nonce: nonce,
		Site: "24848", Schema: s.hash, Clock: wire.Clock{Now: s.w, Trusted: true},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *source) gap(after, next wire.Pos) []byte {
	b, err := wire.EncodeGap(nil, &wire.Gap{After: after, Next: next, Reason: "disk full"})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}
