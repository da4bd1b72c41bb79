package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// documented returns a block of bytes of docs/uplink.md.
func documented(t *testing.T, name string) []byte {
	t.Helper()
	doc, err := os.ReadFile("../../../docs/uplink.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(doc), "```hex "+name+"\n")
	text, _, ok2 := strings.Cut(text, "```")
	if !ok || !ok2 {
		t.Fatalf("no block %q", name)
	}
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("block %q: %v", name, err)
	}
	return b
}

func documentedPlace(t *testing.T, start uint32, seq uint64) strangerPlace {
	t.Helper()
	b, err := hex.DecodeString("a1b2c3d4e5f60718" + "00000000" + "ed5eed5e")
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[8:], start)
	return strangerPlace{strangerEpoch(b), seq}
}

// TestStrangerWritesWhatTheDocumentShows has the sender that was written from
// docs/uplink.md make, and read, the bytes of its examples.
func TestStrangerWritesWhatTheDocumentShows(t *testing.T) {
	t.Parallel()
	const base = 1760000002000
	schema := documented(t, "schema")
	readings := []strangerReading{{time: base - 750, value: 21.5}, {series: 1, time: base - 750, value: 64}}
	simple := strangerFrame{place: documentedPlace(t, 12, 345), schema: strangerHash(schema)}
	simple.encode(base-1000, base, nil, readings)
	first := strangerFrame{place: documentedPlace(t, 13, 1), prev: documentedPlace(t, 12, 400), schema: strangerHash(schema)}
	first.encode(base+59_000, base+60_000, &strangerMark{1, base, base + 59_000}, []strangerReading{
		{time: base + 59_500, value: 21.5}, {time: base + 60_000, value: 21.75, quality: 0x47},
	})
	for name, got := range map[string][]byte{
		"simple":  simple.message,
		"first":   first.message,
		"gap":     strangerGap(documentedPlace(t, 12, 345), documentedPlace(t, 12, 400), "no longer in the edge's log"),
		"wrapped": strangerSchemaMessage(schema)[:len(documented(t, "wrapped"))],
	} {
		if want := documented(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s:\n%x, documented is\n%x", name, got, want)
		}
	}
	ack, err := strangerReadAck(documented(t, "ack"))
	if err != nil || ack.got != documentedPlace(t, 12, 345) || ack.safe != documentedPlace(t, 12, 340) || ack.credit != 65536 || ack.hubTime != base+100 || ack.status != 0 {
		t.Errorf("ack: %+v, %v", ack, err)
	}
	ack, err = strangerReadAck(documented(t, "answer"))
	if err != nil || ack.got != documentedPlace(t, 13, 1) || ack.safe != documentedPlace(t, 12, 400) || ack.nonce != 9223372036854775809 || ack.status != 0 {
		t.Errorf("answer: %+v, %v", ack, err)
	}
	ack, err = strangerReadAck(documented(t, "need"))
	if err != nil || ack.status != 1 || ack.got != documentedPlace(t, 12, 344) || ack.safe != (strangerPlace{}) || ack.need == nil || *ack.need != strangerHash(schema) {
		t.Errorf("need: %+v, %v", ack, err)
	}
}

// strangerHub is a hub as a process, and what is asked of it.
type strangerHub struct {
	t          *testing.T
	dir        string
	http, mqtt string
	*process
}

// run starts the hub; durable says how often the store is made so.
func (h *strangerHub) run(durable time.Duration) {
	h.t.Helper()
	for name, text := range map[string]string{
		"hub.yaml": fmt.Sprintf("data_dir: ./hub\nhttp: {listen: %q, auth: off}\nmqtt: {listen: %q}\nclock: {require_sync: false}\n"+
			"ingest: {checkpoint_every: %v}\nsites: ./sites.yaml\n", strings.TrimPrefix(h.http, "http://"), h.mqtt, durable),
		"sites.yaml": "sites:\n  - {id: \"24848\", name: {vi: Xã Lạc Dương, en: Lac Duong commune}, lat: 12.1288, lon: 108.596}\n",
	} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
	h.process = start(h.t, "langbiang-hub", "run", "--config", filepath.Join(h.dir, "hub.yaml"))
	h.eventually("the hub is ready", func() bool {
		resp, err := http.Get(h.http + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (h *strangerHub) eventually(what string, cond func() bool) {
	h.t.Helper()
	testutil.Eventually(h.t, time.Minute, what, func() bool {
		if !h.alive() {
			h.t.Fatalf("the hub died (%v) while waiting: %s", h.err, what)
		}
		return cond()
	})
}

// strangerEdge is what the hub shows of an edge.
type strangerEdge struct {
	ID, Site, Epoch, Status, Detail string
	Connected                       bool
	Sequence, Readings, Late        uint64
	Gaps                            []struct{ Reason string }
}

func (h *strangerHub) edge() (e strangerEdge) {
	h.t.Helper()
	var edges struct{ Items []strangerEdge }
	if err := getJSON(h.http+"/api/v1/edges", &edges); err != nil {
		h.t.Fatal(err)
	}
	if len(edges.Items) != 1 {
		return e
	}
	return edges.Items[0]
}

// TestStrangerSendsToTheHub runs the sender that was written from docs/uplink.md
// against a hub: what it accepted stands in the store once, through a lost frame, a
// dead link, a hub that is killed before anything is on its disk, a new start and a
// damaged log.
func TestStrangerSendsToTheHub(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, before)
	})
	h := &strangerHub{t: t, dir: t.TempDir(), http: "http://" + testutil.FreeAddress(t), mqtt: testutil.FreeAddress(t)}
	link := newProxy(t, "127.0.0.1", h.mqtt, 1, func(string, []byte) {})

	s := newStranger(link.addr(), "stranger-01")
	schema := strangerSchema(
		[]strangerDevice{{"gauge", "other/gauge", "loop", "4"}, {"pump", "", "loop", ""}},
		[][2]string{{"street", "Lý Tự Trọng"}},
		[]strangerSeries{
			{device: 0, point: "level", quantity: "water_level", unit: "m", interval: 500},
			{device: 0, point: "rain", quantity: "rainfall", unit: "mm", interval: 500},
			{device: 1, point: "power", quantity: "power", unit: "kW", interval: 1000},
			{device: 1, point: "mode", quantity: "mode", interval: 1000, text: true},
			{device: 1, point: "device_up", quantity: "device_up", interval: 1000},
		})
	s.schema, s.series, s.devices = strangerHash(schema), 5, 2
	s.schemas[s.schema] = strangerSchemaMessage(schema)

	var stop context.CancelFunc
	var ended chan error
	begin := func() {
		var ctx context.Context
		ctx, stop = context.WithCancel(t.Context())
		ended = make(chan error, 1)
		s.begin()
		go func() { ended <- s.run(ctx) }()
	}
	end := func() {
		t.Helper()
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	// sees waits until something holds of the sender, whose state it may read.
	sees := func(what string, cond func() bool) {
		t.Helper()
		h.eventually(what, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.refusal != "" {
				t.Fatalf("the hub refuses: %s", s.refusal)
			}
			return cond()
		})
	}

	// What is accepted, and not lost afterwards, is to be in the store.
	want := map[key]map[int64]float64{{"gauge", "level"}: {}, {"gauge", "rain"}: {}, {"pump", "power"}: {}, {"pump", "device_up"}: {}}
	clock := time.Now().Add(-time.Minute).UnixMilli()
	accept := func(lost bool) strangerPlace {
		prev := clock
		clock += 1000
		n := float64(clock % 100_000)
		readings := []strangerReading{
			{series: 0, time: prev + 400, value: n / 7},
			{series: 1, time: prev + 400, value: 0.25},
			{series: 0, time: prev + 900, value: -n / 7, quality: 0x47}, // uncertain, out of range
			{series: 2, time: clock, value: n},
			{series: 3, time: clock, text: fmt.Sprintf("bơm %v", n)},
			{series: 4, time: clock, value: 1},
		}
		if !lost {
			for k, i := range map[key]int{{"gauge", "level"}: 0, {"gauge", "rain"}: 1, {"pump", "power"}: 2, {"pump", "device_up"}: 4} {
				for _, r := range readings {
					if r.series == i {
						want[k][r.time] = r.value
					}
				}
			}
		}
		return s.append(prev, clock, readings...)
	}

	// A hub that makes nothing durable by itself for a long time takes four frames,
	// asking for the schema that was lost on its way, and is killed. It is told again
	// what it has forgotten.
	h.run(time.Hour)
	begin()
	s.mu.Lock()
	s.told[s.schema] = true
	s.mu.Unlock()
	sees("the hello of an empty log is answered", func() bool { return len(s.answers) == 1 })
	var last strangerPlace
	for range 4 {
		last = accept(false)
	}
	sees("four frames are got", func() bool { return s.got == last && s.needs > 0 })
	s.mu.Lock()
	if s.safe != (strangerPlace{}) {
		t.Errorf("safe is %v before anything is on the disk", s.safe)
	}
	s.mu.Unlock()
	h.kill()
	last = accept(false)
	h.run(100 * time.Millisecond)
	sees("the frames are safe in the hub that was killed", func() bool { return s.safe == last })
	s.mu.Lock()
	if at := s.answers[len(s.answers)-1]; !at.before(strangerPlace{s.epoch, 4}) {
		t.Errorf("the killed hub goes on from %v: nothing had to be sent again", at)
	}
	s.losing = 1
	holes := s.holes
	s.mu.Unlock()

	// A frame is lost between two that arrive.
	accept(false)
	last = accept(false)
	sees("the hole is filled", func() bool { return s.got == last && s.holes > holes })

	// Frames go into a link that is dead, and is cut.
	link.set(trick{frozen: true})
	last = accept(false)
	sees("frames are on their way into nothing", func() bool { return s.sent == last })
	link.set(trick{})
	link.cut()
	sees("they are sent again", func() bool { return s.safe == last })
	end()
	h.eventually("the hub shows that the edge has gone", func() bool { return h.edge().ID == s.edge && !h.edge().Connected })

	// The second start. Of its log two frames are damaged before they were sent.
	clock += 5000
	link.set(trick{down: true})
	begin()
	for i := range 6 {
		last = accept(i == 2 || i == 3)
	}
	s.damage(func(p strangerPlace) bool { return p.epoch == s.epoch && (p.seq == 3 || p.seq == 4) })
	link.set(trick{})
	sees("the second start is safe", func() bool { return s.safe == last })

	onTime, late := storedOf(t, h.http, s.edge)
	if len(late) > 0 {
		t.Errorf("late: %v", late)
	}
	if !maps.EqualFunc(onTime, want, maps.Equal[map[int64]float64]) {
		t.Errorf("the store has\n%v, accepted was\n%v", onTime, want)
	}
	edge := h.edge()
	if edge.Site != "24848" || !edge.Connected || edge.Status != "ok" || edge.Epoch != s.epoch.String() || edge.Sequence != last.seq {
		t.Errorf("the hub shows %+v, the sender is at %v", edge, last)
	}
	if len(edge.Gaps) != 1 || edge.Gaps[0].Reason != "the file was damaged" {
		t.Errorf("gaps: %+v", edge.Gaps)
	}
	var series struct {
		Items []struct {
			Device, Point, Quantity, Unit, Quality, Text string
			Labels                                       map[string]string
		}
	}
	if err := getJSON(h.http+"/api/v1/series?edge="+s.edge, &series); err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	for _, x := range series.Items {
		fmt.Fprintf(&shown, "%s/%s %s [%s] %s %q %s\n", x.Device, x.Point, x.Quantity, x.Unit, x.Quality, x.Text, x.Labels["street"])
	}
	if want := fmt.Sprintf(`gauge/level water_level [m] uncertain: out_of_range "" Lý Tự Trọng
gauge/rain rainfall [mm] good "" Lý Tự Trọng
pump/device_up device_up [] good "" Lý Tự Trọng
pump/mode mode [] good "bơm %v" Lý Tự Trọng
pump/power power [kW] good "" Lý Tự Trọng
`, float64(clock%100_000)); shown.String() != want {
		t.Errorf("the hub shows the series\n%s, and should\n%s", shown.String(), want)
	}
	end()
	h.stop()
}
