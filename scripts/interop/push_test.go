//go:build interop

package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	influx "github.com/influxdata/influxdb-client-go/v2"
	influxhttp "github.com/influxdata/influxdb-client-go/v2/api/http"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/hub"
)

const token = "a-token-of-thirty-two-characters"

// newHub runs a hub with a source called push and returns its address.
func newHub(t *testing.T, source string) string {
	t.Helper()
	return startHub(t, fmt.Sprintf("push: {sources: [{id: push, site: \"24848\", token_file: ./token, %s}]}\n", source), map[string]string{"token": token})
}

// startHub runs a hub with more in its hub.yaml and files beside it.
func startHub(t *testing.T, more string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["hub.yaml"] = fmt.Sprintf(`
http: {listen: %q, auth: "off"}
mqtt: {listen: %q}
clock: {require_sync: false}
`, "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)) + more
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := hub.Load(filepath.Join(dir, "hub.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.Open(plan, "interop", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, h.Close()); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	drivertest.Until(t, "the hub answers", func() bool {
		resp, err := http.Get("http://" + h.Addr() + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return "http://" + h.Addr()
}

// ask asks a Prometheus, or a hub at /prometheus.
func ask(t *testing.T, base, path string, q url.Values) (data any, kind string) {
	t.Helper()
	resp, err := http.PostForm(base+"/api/v1/"+path, q)
	if path == "series" || path == "labels" || strings.HasPrefix(path, "label/") || path == "metadata" {
		_ = resp.Body.Close()
		resp, err = http.Get(base + "/api/v1/" + path + "?" + q.Encode())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body struct {
		Data      any
		ErrorType string
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatalf("%s %v: %s: %v", path, q, resp.Status, err)
	}
	return body.Data, body.ErrorType
}

// count returns how many series an instant query finds.
func count(t *testing.T, hub, query string) int {
	t.Helper()
	data, _ := ask(t, hub+"/prometheus", "query", url.Values{"query": {query}})
	m, _ := data.(map[string]any)
	list, _ := m["result"].([]any)
	return len(list)
}

// The official client of InfluxDB 2: health, ping, both ways to write, and what it
// makes of rows that were refused.
func TestInfluxDBsOwnClient(t *testing.T) {
	h := newHub(t, `map: [{metric: bme280_temperature, quantity: air_temperature, point: temperature}]`)
	c := influx.NewClientWithOptions(h, token, influx.DefaultOptions().SetBatchSize(100).SetUseGZip(true).SetPrecision(time.Millisecond))
	defer c.Close()
	if ok, err := c.Ping(t.Context()); !ok || err != nil {
		t.Errorf("ping: %v %v", ok, err)
	}
	if health, err := c.Health(t.Context()); err != nil || health.Status != "pass" {
		t.Errorf("health: %+v %v", health, err)
	}
	now := time.Now()
	blocking := c.WriteAPIBlocking("org", "bucket")
	if err := blocking.WritePoint(t.Context(), influx.NewPoint("bme280", map[string]string{"host": "h1"}, map[string]any{"temperature": 21.5, "pressure": 900}, now)); err != nil {
		t.Fatal(err)
	}
	w := c.WriteAPI("org", "bucket")
	for i := range 250 {
		w.WritePoint(influx.NewPoint("many", map[string]string{"host": "h1"}, map[string]any{"value": i}, now.Add(-time.Duration(i)*time.Second)))
	}
	w.Flush()
	drivertest.Until(t, "the points are in the store", func() bool {
		data, _ := ask(t, h+"/prometheus", "query", url.Values{"query": {"count_over_time(many[10m])"}})
		return strings.Contains(fmt.Sprint(data), "250") && count(t, h, `air_temperature{site="24848",edge="push",device="h1",point="temperature"} == 21.5`) == 1
	})
	err := blocking.WriteRecord(t.Context(), fmt.Sprintf("good,host=h1 value=1 %d", now.UnixMilli()), "bad line", fmt.Sprintf("late,host=h1 value=1 %d", now.Add(time.Hour).UnixMilli()))
	var he *influxhttp.Error
	if !errors.As(err, &he) || he.StatusCode != http.StatusBadRequest || !strings.Contains(err.Error(), "1 rows were taken and are on disk, 2 were not: line 2, column") {
		t.Errorf("partial write: %v", err)
	}
	drivertest.Until(t, "the good row is in the store", func() bool { return count(t, h, "good") == 1 })
	other := influx.NewClient(h, "another")
	defer other.Close()
	if err := other.WriteAPIBlocking("o", "b").WriteRecord(t.Context(), "a v=1"); !errors.As(err, &he) || he.StatusCode != http.StatusUnauthorized {
		t.Errorf("another token: %v", err)
	}
}

// Debian's vmagent scrapes the hub and writes what it finds to it.
func TestVMAgentWrites(t *testing.T) {
	h := newHub(t, `device: "{instance}"`)
	dir, port := t.TempDir(), freePort(t)
	config := filepath.Join(dir, "scrape.yaml")
	text := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: hub\n  static_configs: [{targets: [%q]}]\n", strings.TrimPrefix(h, "http://"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, "started vmagent", "vmagent", "-httpListenAddr=127.0.0.1:"+port, "-promscrape.config="+config, "-remoteWrite.url="+h+"/api/v1/push",
		"-remoteWrite.bearerToken="+token, "-remoteWrite.tmpDataPath="+filepath.Join(dir, "queue"), "-remoteWrite.flushInterval=1s")
	drivertest.Until(t, "what vmagent scrapes is in the store", func() bool {
		return count(t, h, `up{job="hub",edge="push",site="24848"} == 1`) == 1 && count(t, h, `langbiang_push_rows_total{source="push"} > 10`) == 1
	})
}

// prometheus runs Debian's Prometheus and returns its address.
func prometheus(t *testing.T, config string) string {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, "Server is ready to receive web requests", "prometheus", "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:"+port, "--web.enable-remote-write-receiver", "--enable-feature=promql-at-modifier,promql-negative-offset")
	return "http://127.0.0.1:" + port
}

// Debian's Prometheus sends what it scrapes to the hub.
func TestPrometheusWrites(t *testing.T) {
	h := newHub(t, `device: "{instance}", map: [{metric: "go_*", drop: true}]`)
	prometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs:
- job_name: hub
  static_configs: [{targets: [%q]}]
remote_write:
- {url: %q, bearer_token: %s, queue_config: {batch_send_deadline: 1s}}
`, strings.TrimPrefix(h, "http://"), h+"/api/v1/push", token))
	drivertest.Until(t, "what Prometheus scrapes is in the store", func() bool {
		return count(t, h, `up{job="hub",edge="push"} == 1`) == 1
	})
	if n := count(t, h, `{__name__=~"go_.*"}`); n != 0 {
		t.Errorf("%d series that were to be dropped", n)
	}
}

// post sends a write request.
func post(t *testing.T, to string, req *prompb.WriteRequest) {
	t.Helper()
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, bytes.NewReader(snappy.Encode(nil, raw)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Fatalf("%s: %s %s", to, resp.Status, body)
	}
}

// The same data in both: every query has the same answer, wrong ones the same kind
// of error.
func TestQueriesAnswerAsPrometheusDoes(t *testing.T) {
	h := newHub(t, `device: "{instance}"`)
	p := prometheus(t, "global: {}")
	end := time.Now().Add(-time.Minute).Truncate(time.Minute)
	start := end.Add(-30 * time.Minute)
	var ours, theirs prompb.WriteRequest
	for i, name := range []string{"temperature", "temperature", "requests_total", "requests_total", "gaps", "lat_bucket", "lat_bucket", "lat_bucket"} {
		ls := []prompb.Label{{Name: "__name__", Value: name}}
		if strings.HasSuffix(name, "_bucket") {
			ls = append(ls, prompb.Label{Name: "le", Value: []string{"0.1", "1", "+Inf"}[i-5]})
		} else {
			ls = append(ls, prompb.Label{Name: "room", Value: fmt.Sprintf("r%d", i)})
		}
		var samples []prompb.Sample
		total := 1000.0 // far from zero, near which Prometheus 3 extrapolates in another way
		for k, at := 0, start; at.Before(end); k, at = k+1, at.Add(15*time.Second) {
			v := 20 + 5*math.Sin(float64(k)/10+float64(i))
			total += float64((k*7+i)%5) * float64(i+1)
			switch {
			case strings.HasSuffix(name, "_total"), strings.HasSuffix(name, "_bucket"):
				if v = total; k == 60 && name == "requests_total" {
					total = 500 // began anew
				}
			case name == "gaps" && k%20 == 10:
				v = math.Float64frombits(value.StaleNaN)
			case name == "gaps" && k%20 > 10:
				continue
			}
			// Not on the minute: a sample on the left edge of a range is in it for
			// Prometheus 2, and for Prometheus 3, whose engine the hub has, it is not.
			samples = append(samples, prompb.Sample{Timestamp: at.UnixMilli() + 7000, Value: v})
		}
		ours.Timeseries = append(ours.Timeseries, prompb.TimeSeries{Labels: append(ls, prompb.Label{Name: "instance", Value: "i"}), Samples: samples})
		// What the hub makes of the labels, see docs/api.md.
		point := name + " " + ls[1].Name + "=" + ls[1].Value
		full := append(slices.Clone(ls), prompb.Label{Name: "device", Value: "i"}, prompb.Label{Name: "edge", Value: "push"}, prompb.Label{Name: "point", Value: point}, prompb.Label{Name: "site", Value: "24848"})
		slices.SortFunc(full, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
		theirs.Timeseries = append(theirs.Timeseries, prompb.TimeSeries{Labels: full, Samples: samples})
	}
	post(t, h+"/api/v1/push", &ours)
	post(t, p+"/api/v1/write", &theirs)
	drivertest.Until(t, "the hub has it", func() bool { return count(t, h, "count({site=\"24848\"} offset 1m) >= 7") == 1 })
	instant := fmt.Sprint(end.Unix())
	compared := 0
	compare := func(path string, q url.Values) {
		t.Helper()
		a, ka := ask(t, h+"/prometheus", path, q)
		b, kb := ask(t, p, path, q)
		sorted(a)
		sorted(b)
		if compared++; ka != kb || !same(a, b) {
			t.Errorf("%s %v:\nhub        %q %v\nPrometheus %q %v", path, q, ka, a, kb, b)
		}
	}
	for _, query := range []string{
		"temperature", `temperature{room="r0"}`, `{__name__=~"temp.*|gaps"}`, `temperature{room!="r0"}`, `temperature{room=~"r[01]"} > 20`, "gaps", "gaps offset 5m", "temperature @ " + fmt.Sprint(start.Unix()+600),
		"rate(requests_total[5m])", "irate(requests_total[1m])", "increase(requests_total[10m])", "delta(temperature[5m])", "idelta(temperature[5m])", "deriv(temperature[5m])",
		"resets(requests_total[30m])", "changes(gaps[20m])", "predict_linear(temperature[10m], 3600)", "avg_over_time(temperature[5m])", "min_over_time(gaps[10m])", "max_over_time(temperature[10m])",
		"sum_over_time(temperature[1m])", "count_over_time(gaps[30m])", "quantile_over_time(0.9, temperature[10m])", "stddev_over_time(temperature[10m])", "stdvar_over_time(temperature[10m])",
		"last_over_time(gaps[10m])", "present_over_time(gaps[10m])", "absent_over_time(gaps[1m])", "absent(nothing)", "sum(temperature)", "sum by (room) (requests_total)", "avg without (point, room) (temperature)",
		"topk(1, temperature)", "bottomk(1, temperature)", "count_values(\"v\", round(temperature))", "quantile(0.5, temperature)", "stddev(temperature)", "group(temperature)", "min(temperature)", "max(temperature)", "count(temperature)",
		"temperature + on(room) group_left() temperature", "temperature * 2 ^ 2 % 7", "-temperature", "temperature > bool 20", "temperature and on(room) temperature > 20", "temperature unless temperature > 20", "temperature or gaps",
		"histogram_quantile(0.9, lat_bucket)", "histogram_quantile(0.5, sum by (le) (rate(lat_bucket[5m])))", "label_replace(temperature, \"x\", \"$1\", \"room\", \"r(.)\")", "label_join(temperature, \"x\", \"-\", \"room\", \"site\")",
		"abs(temperature - 20)", "ceil(temperature)", "floor(temperature)", "round(temperature, 0.5)", "clamp(temperature, 18, 22)", "clamp_min(temperature, 20)", "exp(temperature / 10)", "ln(temperature)", "log2(temperature)", "log10(temperature)",
		"sqrt(temperature)", "sgn(temperature - 20)", "sin(temperature)", "deg(temperature)", "time()", "timestamp(temperature)", "vector(1)", "scalar(sum(temperature))", "day_of_week()", "hour(timestamp(temperature))", "sort_desc(temperature)",
		"max_over_time(rate(requests_total[2m])[630s:1m])", "avg_over_time(temperature[10m] offset 5m)", "1 + 1", "\"text\"", "holt_winters(temperature[10m], 0.5, 0.5)",
		"temperature{", "sum(", "rate(temperature)", "unknown(temperature)", "temperature + on(x) gaps + temperature", "", "temperature{room=~\"[\"}",
	} {
		if strings.HasPrefix(query, "holt_winters") {
			continue // renamed in Prometheus 3, whose engine the hub has
		}
		compare("query", url.Values{"query": {query}, "time": {instant}})
		if !strings.HasPrefix(query, "\"") && !strings.HasPrefix(query, "sort_desc") {
			compare("query_range", url.Values{"query": {query}, "start": {fmt.Sprint(start.Unix())}, "end": {instant}, "step": {"60"}})
		}
	}
	span := url.Values{"start": {fmt.Sprint(start.Unix())}, "end": {instant}}
	with := func(match ...string) url.Values {
		v := url.Values{"match[]": match}
		for k, x := range span {
			v[k] = x
		}
		return v
	}
	compare("series", with("temperature", "gaps"))
	// The series reading_quality is the hub's own.
	compare("series", with(`{room=~"r.*",__name__!="reading_quality"}`))
	compare("series", with(`{room=~".*"}`))
	compare("labels", with(`{site="24848",__name__!="reading_quality"}`))
	compare("labels", with("temperature"))
	compare("label/room/values", span)
	compare("label/__name__/values", with(`{site="24848",__name__!="reading_quality"}`))
	compare("label/le/values", with("lat_bucket"))
	compare("query_range", url.Values{"query": {"temperature"}, "start": {"0"}, "end": {instant}, "step": {"1"}})
	compare("query_range", url.Values{"query": {"temperature"}, "start": {instant}, "end": {"0"}, "step": {"1"}})
	compare("query_range", url.Values{"query": {"temperature"}, "start": {"x"}, "end": {instant}, "step": {"1"}})
	compare("query", url.Values{"query": {"temperature"}, "time": {"yesterday"}})
	compare("query", url.Values{"query": {"temperature"}, "timeout": {"x"}})
	t.Logf("%d answers compared", compared)
}

// sorted puts lists whose order says nothing in one.
func sorted(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			sorted(x)
		}
	case []any:
		if len(v) == 2 {
			if _, point := v[0].(float64); point {
				return
			}
		}
		for _, x := range v {
			sorted(x)
		}
		if len(v) > 0 {
			if first, ok := v[0].([]any); ok && len(first) == 2 {
				return // samples, in order of time
			}
		}
		slices.SortFunc(v, func(a, b any) int {
			key := func(x any) string {
				if m, ok := x.(map[string]any); ok && m["metric"] != nil {
					x = m["metric"]
				}
				b, _ := json.Marshal(x)
				return string(b)
			}
			return strings.Compare(key(a), key(b))
		})
	}
}

// same compares answers; numbers may differ in their last digits, as the releases
// sum in another way.
func same(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k := range x {
			if !same(x[k], y[k]) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !same(x[i], y[i]) {
				return false
			}
		}
		return true
	case string:
		y, ok := b.(string)
		var f, g float64
		if _, err := fmt.Sscan(x, &f); ok && err == nil {
			if _, err := fmt.Sscan(y, &g); err == nil {
				return x == y || math.Abs(f-g) <= 1e-9*max(math.Abs(f), math.Abs(g), 1e-3)
			}
		}
		return ok && x == y
	}
	return reflect.DeepEqual(a, b)
}
