package hub

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// runHub opens and runs a hub on files in a folder of its own, until the test ends.
func runHub(tb testing.TB, files map[string]string) *Hub {
	tb.Helper()
	return runLoggingHub(tb, files, slog.New(slog.DiscardHandler))
}

func runLoggingHub(tb testing.TB, files map[string]string, logger *slog.Logger) *Hub {
	tb.Helper()
	dir := tb.TempDir()
	files["hub.yaml"] += fmt.Sprintf("\nclock: {require_sync: false}\nhttp: {listen: %q, auth: off}\nmqtt: {listen: %q}\n", testutil.FreeAddress(tb), testutil.FreeAddress(tb))
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	plan, err := Load(filepath.Join(dir, "hub.yaml"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	h, err := Open(plan, "test", logger)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Run(ctx); err != nil {
			tb.Errorf("hub: %v", err)
		}
	})
	tb.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := h.Close(); err != nil {
			tb.Errorf("hub: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return h
}

// feeder is an edge that says what a test wants it to say.
type feeder struct {
	hub    *Hub
	id     string
	schema telemetry.Schema
	enc    *wire.Encoder
	frame  wire.Frame
}

func newFeeder(tb testing.TB, h *Hub, id string, schema telemetry.Schema) *feeder {
	tb.Helper()
	raw, hash, err := wire.EncodeSchema(nil, &schema)
	if err != nil {
		tb.Fatal(err)
	}
	f := &feeder{hub: h, id: id, schema: schema, enc: wire.NewEncoder(&schema)}
	f.frame.Schema = hash
	f.frame.Epoch = wire.Epoch{Start: 1, Random: 1}
	copy(f.frame.Epoch.Instance[:], id)
	binary.LittleEndian.PutUint16(f.frame.Epoch.Instance[len(f.frame.Epoch.Instance)-2:], uint16(len(id)))
	h.ingest.Receive(id, wire.TopicFrame, raw)
	return f
}

// cut encodes a frame up to w; the readings are in f.frame.
func (f *feeder) cut(tb testing.TB, w int64) []byte {
	f.frame.Seq++
	f.frame.PrevW, f.frame.W = f.frame.W, w
	if f.frame.Seq == 1 {
		f.frame.PrevW = w - 1000
	}
	out, err := f.enc.Encode(nil, &f.frame)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// BenchmarkFrameToStream is the time from a frame's arrival at the hub to the
// alert that it raises at a client of the stream, over HTTP, while 100 edges
// send 1,000 samples a second each. The goal is a p99 below 100 ms. What the
// machine itself does in the meantime stands beside it: how late a goroutine wakes
// up, and how long an fsync of 4 kB takes.
func BenchmarkFrameToStream(b *testing.B) {
	const edges, series = 100, 1000
	h := runHub(b, map[string]string{
		"hub.yaml": "data_dir: ./data\nrules: [./rules.yaml]\n",
		"rules.yaml": `
- {id: probe, watch: {quantity: water_level}, collapse: false, above: {critical: {limit: 5}}}
- {id: high, watch: {quantity: pm2_5}, above: {warning: {limit: 500, clear: 400, for: 5m}}}
`,
	})
	schema := telemetry.Schema{Devices: []telemetry.Device{{ID: "d", Connection: "c", Address: "unit 1"}}}
	for i := range series {
		s := telemetry.Series{Point: fmt.Sprintf("p%d", i), Quantity: "pm2_5", Unit: "ug/m3", Interval: 1000}
		if i == 0 {
			s.Quantity, s.Unit = "water_level", "m"
		}
		schema.Series = append(schema.Series, s)
	}
	type key struct {
		edge string
		time int64
	}
	var mu sync.Mutex
	sent := map[key]time.Time{}
	var took, judged []time.Duration // to the client, and to the commit that the entry is in
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Addr()+"/api/v1/alerts/stream", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			var event feed.Event
			if !ok || json.Unmarshal([]byte(data), &event) != nil {
				continue
			}
			e, ok, err := event.Entry()
			if !ok || err != nil {
				continue
			}
			now := time.Now()
			mu.Lock()
			if at, ok := sent[key{e.Alert.Edge, e.Time.UnixMilli()}]; ok {
				took = append(took, now.Sub(at))
				judged = append(judged, e.Recorded.Sub(at))
			}
			mu.Unlock()
		}
	})
	var feeders []*feeder
	for i := range edges {
		feeders = append(feeders, newFeeder(b, h, fmt.Sprintf("edge-%03d", i), schema))
	}
	n := 0
	send := func() {
		f := feeders[n%edges]
		w := time.Now().UnixMilli()
		f.frame.Readings = f.frame.Readings[:0]
		for i := range series {
			f.frame.Readings = append(f.frame.Readings, telemetry.Reading{Series: uint32(i), Time: w - int64(i%500), Value: 20 + float64((n+i)%64)/4})
		}
		f.frame.Readings[0].Value = float64((n / edges) % 2 * 9)
		payload := f.cut(b, w)
		if n >= edges {
			mu.Lock()
			sent[key{f.id, w}] = time.Now()
			mu.Unlock()
		}
		h.ingest.Receive(f.id, wire.TopicFrame, payload)
		n++
	}
	for range edges { // the first frames make 100,000 series in the store, which is not what is measured
		send()
	}
	testutil.Eventually(b, time.Minute, "the hub has the first frames", func() bool {
		for _, e := range h.agents() {
			if e.Position.Seq == 0 {
				return false
			}
		}
		return len(h.agents()) == edges
	})
	const while = 10 * time.Second
	var late, fsyncs []time.Duration
	wg.Go(func() {
		f, err := os.CreateTemp(b.TempDir(), "fsync")
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = f.Close() }()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for block := make([]byte, 4096); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			at := time.Now()
			if _, err := f.Write(block); err != nil {
				b.Error(err)
			}
			if err := f.Sync(); err != nil {
				b.Error(err)
			}
			fsyncs = append(fsyncs, time.Since(at))
		}
	})
	begin := time.Now()
	for b.Loop() {
		if n > edges {
			continue // one run is as long as it is
		}
		for due := begin; due.Sub(begin) < while; due = due.Add(time.Second / edges) {
			if wait := time.Until(due); wait > 0 {
				<-time.After(wait)
				late = append(late, time.Since(due))
			}
			send()
		}
	}
	testutil.Eventually(b, 5*time.Second, "the last alerts arrive", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(took) == len(sent)
	})
	cancel()
	wg.Wait()
	for _, d := range [][]time.Duration{took, judged, late, fsyncs} {
		slices.Sort(d)
	}
	ms := func(d []time.Duration, p float64) float64 {
		return float64(d[min(len(d)-1, int(p*float64(len(d))))].Microseconds()) / 1000
	}
	b.ReportMetric(ms(took, 0.5), "p50-ms")
	b.ReportMetric(ms(took, 0.99), "p99-ms")
	b.ReportMetric(ms(took, 1), "max-ms")
	b.ReportMetric(ms(judged, 0.5), "judged-p50-ms")
	b.ReportMetric(ms(judged, 0.99), "judged-p99-ms")
	b.ReportMetric(ms(late, 0.99), "wakeup-p99-ms")
	b.ReportMetric(ms(fsyncs, 0.5), "fsync-p50-ms")
	b.ReportMetric(ms(fsyncs, 0.99), "fsync-p99-ms")
	b.ReportMetric(float64((n-edges)*series)/while.Seconds(), "samples/s")
	b.ReportMetric(0, "ns/op")
}
