package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// line is a hub, an edge and a field, from device to alert.
type line struct {
	t                *testing.T
	dir              string
	hub, edge, field *process
	http, control    string // base addresses
	hubArgs          []string
	edgeArgs         []string
}

const edgeID = "test-01"

// newLine writes the configuration and starts the field. rules is the rule file.
// Devices that answer are waited for long: a busy machine makes none of them silent.
func newLine(t *testing.T, rules string) *line {
	t.Helper()
	l := &line{t: t, dir: t.TempDir()}
	httpAddr, mqtt, modbus, broker, control := testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t)
	l.http, l.control = "http://"+httpAddr, "http://"+control
	pty := filepath.Join(l.dir, "ttyBUS1")
	l.write("hub.yaml", fmt.Sprintf(`
data_dir: ./hub
http: {listen: %q, auth: off}
mqtt: {listen: %q}
clock: {require_sync: false}
ingest: {checkpoint_every: 300ms}
sites: ./sites.yaml
rules: [./rules.yaml]
`, httpAddr, mqtt))
	l.write("sites.yaml", `
sites:
  - {id: "24848", name: {vi: Xã Lạc Dương, en: Lac Duong commune}, lat: 12.1288, lon: 108.596}
`)
	l.write("rules.yaml", rules)
	l.write("edge.yaml", fmt.Sprintf(`
edge: {id: %[1]s, site: "24848"}
data_dir: ./edge
hub: {url: "mqtt://%[2]s", send_every: 200ms, heartbeat: 1s}
buffer: {commit_every: 400ms}
clock: {trust: always}
connections:
  - {id: cabinet, modbus: {transport: tcp, address: %[3]q, timeout: 5s}}
  - {id: annex, modbus: {transport: tcp, address: %[3]q, timeout: 300ms}}
  - {id: bus-1, modbus: {transport: rtu, port: %[4]q, baud: 9600, timeout: 5s}}
  - {id: local, mqtt: {url: "tcp://%[5]s"}}
devices:
  - {id: air, profile: renke/cwt-uwd, connection: cabinet, unit: 1, interval: 200ms}
  - {id: tank, connection: cabinet, unit: 7, interval: 200ms, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}]}
  - {id: ghost, connection: annex, unit: 99, interval: 1s, points: [{id: level, quantity: water_level, holding: 4}]}
  - {id: cabinet-air, profile: generic/xy-md02, connection: bus-1, unit: 1, interval: 500ms}
  - {id: gate-cam, profile: frigate/camera, connection: local, with: {camera: gate}}
`, edgeID, mqtt, modbus, pty, broker))
	l.hubArgs = []string{"run", "--config", filepath.Join(l.dir, "hub.yaml")}
	l.edgeArgs = []string{"run", "--config", filepath.Join(l.dir, "edge.yaml")}
	l.field = start(t, "fieldsim", "--modbus-tcp", modbus, "--mqtt", broker, "--control", control, "--pty", pty,
		"--steady", "--record", filepath.Join(l.dir, "served.ndjson"))
	l.eventually(time.Minute, "the field serves", func() bool {
		resp, err := http.Get(l.control + "/state")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return l
}

func (l *line) write(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(strings.TrimLeft(text, "\n")), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) startHub() {
	l.t.Helper()
	l.hub = start(l.t, "langbiang-hub", l.hubArgs...)
	l.eventually(time.Minute, "the hub is ready", func() bool {
		resp, err := http.Get(l.http + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (l *line) startEdge() { l.edge = start(l.t, "langbiang-edge", l.edgeArgs...) }

// get reads a resource of the hub into out.
func (l *line) get(path string, out any) {
	l.t.Helper()
	if err := getJSON(l.http+path, out); err != nil {
		l.t.Fatal(err)
	}
}

// getJSON reads a resource into out.
func getJSON(url string, out any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %w\n%s", url, resp.Status, err, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s: %w\n%s", url, err, body)
	}
	return nil
}

// set makes a register of the weather station hold a value.
func (l *line) set(register, v int) {
	l.t.Helper()
	resp, err := http.Post(fmt.Sprintf("%s/set?unit=1&register=%d&value=%d", l.control, register, v), "", http.NoBody)
	if err != nil {
		l.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		l.t.Fatalf("set: %s", resp.Status)
	}
}

const pm25Register = 507

type sample struct {
	t int64
	v float64
}

// key names a series across the edge's log and the store.
type key struct{ device, point string }

// stored reads all samples of the edge from the store: on-time and late ones.
func (l *line) stored() (onTime, late map[key]map[int64]float64) {
	l.t.Helper()
	return storedOf(l.t, l.http, edgeID)
}

// storedOf reads all samples of an edge from a hub's store.
func storedOf(t *testing.T, hub, edge string) (onTime, late map[key]map[int64]float64) {
	t.Helper()
	var body struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	// Clocks may be minutes ahead.
	q := url.Values{"query": {fmt.Sprintf(`{edge=%q,__name__!="reading_quality"}[3h]`, edge)}, "time": {fmt.Sprint(time.Now().Add(15 * time.Minute).Unix())}}
	if err := getJSON(hub+"/prometheus/api/v1/query?"+q.Encode(), &body); err != nil {
		t.Fatal(err)
	}
	onTime, late = map[key]map[int64]float64{}, map[key]map[int64]float64{}
	for _, r := range body.Data.Result {
		to := onTime
		if r.Metric["late"] == "1" {
			to = late
		}
		k := key{r.Metric["device"], r.Metric["point"]}
		if to[k] == nil {
			to[k] = map[int64]float64{}
		}
		for _, v := range r.Values {
			seconds, ok := v[0].(float64)
			text, ok2 := v[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if !ok || !ok2 || err != nil {
				t.Fatalf("sample %v", v)
			}
			at := int64(math.Round(seconds * 1000))
			if _, twice := to[k][at]; twice {
				t.Errorf("%v has two samples at %d", k, at)
			}
			to[k][at] = value
		}
	}
	return onTime, late
}

// eachFrame reads the edge's own log, in its order. The edge must be down.
func (l *line) eachFrame(look func(pos wire.Pos, f *wire.Frame, schema *telemetry.Schema)) {
	l.t.Helper()
	log, err := buffer.Open(filepath.Join(l.dir, "edge", "log"), buffer.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	dec := wire.NewDecoder()
	var f wire.Frame
	for after, n := (buffer.Pos{}), 1; n > 0; {
		n = 0
		err := log.Read(after, 1<<20, func(r buffer.Record) error {
			n++
			after = r.Pos
			if r.Missing != nil {
				l.t.Errorf("the log has lost frames: %v", r.Missing)
			}
			if err := dec.DecodeFrame(r.Payload, &f); err != nil {
				return err
			}
			raw, ok := log.Attachment(f.Schema)
			if !ok {
				return fmt.Errorf("no schema for %v", r.Pos)
			}
			schema, _, err := wire.DecodeSchema(raw)
			if err != nil {
				return err
			}
			look(wire.Pos{Epoch: wire.EpochFrom(r.Pos.Epoch), Seq: r.Pos.Seq}, &f, schema)
			return nil
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
}

// accepted reads what is committed in the edge's own log. The edge must be down.
func (l *line) accepted() (readings map[key]map[int64]float64, last wire.Pos) {
	l.t.Helper()
	readings = map[key]map[int64]float64{}
	l.eachFrame(func(pos wire.Pos, f *wire.Frame, schema *telemetry.Schema) {
		last = pos
		for _, x := range f.Readings {
			s := schema.Series[x.Series]
			if x.Quality.IsBad() || s.Kind == telemetry.KindText {
				continue
			}
			k := key{schema.Devices[s.Device].ID, s.Point}
			if readings[k] == nil {
				readings[k] = map[int64]float64{}
			}
			readings[k][x.Time] = x.Value
		}
	})
	return readings, last
}

// place is where the hub stands in the log of the edge.
type place struct {
	Epoch    string `json:"epoch"`
	Sequence uint64 `json:"sequence"`
}

func (l *line) position() place {
	l.t.Helper()
	var edges struct{ Items []place }
	l.get("/api/v1/edges", &edges)
	if len(edges.Items) != 1 {
		return place{}
	}
	return edges.Items[0]
}

// has waits for a while until the hub stands at a place, and says whether it does.
func (l *line) has(last wire.Pos, limit time.Duration) bool {
	l.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for l.position() != (place{last.Epoch.String(), last.Seq}) {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// entries reads the whole alert log through the stream.
func (l *line) entries() []alert.Entry {
	l.t.Helper()
	return alertEntries(l.t, l.http)
}

// alertEntries reads the whole alert log of a hub through the stream.
func alertEntries(t *testing.T, hub string) []alert.Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, hub+"/api/v1/alerts/stream?after=0", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	newest := newestEntry(t, hub)
	var all []alert.Entry
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for uint64(len(all)) < newest && lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var event feed.Event
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			t.Fatal(err)
		}
		e, _, err := event.Entry()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
		if e.Sequence != uint64(len(all)) {
			t.Fatalf("entry %d comes as number %d of the stream", e.Sequence, len(all))
		}
	}
	return all
}

// newestEntry is the sequence of the newest entry: what a stream that starts now says.
func newestEntry(t *testing.T, hub string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, hub+"/api/v1/alerts/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var hello struct{ Data feed.Told }
			if err := json.Unmarshal([]byte(data), &hello); err != nil {
				t.Fatal(err)
			}
			return hello.Data.Sequence
		}
	}
	t.Fatal("the stream said nothing")
	return 0
}

// episode is what a rule without delays makes of samples.
type episode struct {
	start, end int64 // end 0: active
	severity   string
}

// judged is a second, plain evaluation of "above 50 (clear 45) is a warning, above
// 150 (clear 140) is critical".
type judged struct{ warn, crit bool }

func (j *judged) look(v float64) {
	j.crit = v > 150 || j.crit && v > 140
	j.warn = v > 50 || j.warn && v > 45
}

func (j judged) severity() string {
	switch {
	case j.crit:
		return "critical"
	case j.warn:
		return "warning"
	}
	return ""
}

// judge says which episodes the samples of one series make.
func judge(samples map[int64]float64) (eps []episode) {
	var j judged
	active := false
	for _, t := range sorted(maps.Keys(samples)) {
		j.look(samples[t])
		severity := j.severity()
		switch {
		case !active && severity != "":
			eps = append(eps, episode{start: t, severity: severity})
		case active && severity == "":
			eps[len(eps)-1].end = t
		case active:
			eps[len(eps)-1].severity = severity
		}
		active = severity != ""
	}
	return eps
}
