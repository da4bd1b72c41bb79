package push

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
)

// series makes a series of a write request: labels and samples, times in seconds
// from noon.
func series(name string, labels []prompb.Label, samples ...float64) prompb.TimeSeries {
	s := prompb.TimeSeries{Labels: append([]prompb.Label{{Name: "__name__", Value: name}}, labels...)}
	for i := 0; i+1 < len(samples); i += 2 {
		s.Samples = append(s.Samples, prompb.Sample{Timestamp: noon.UnixMilli() + int64(samples[i]*1000), Value: samples[i+1]})
	}
	return s
}

func encode(t testing.TB, r *prompb.WriteRequest) []byte {
	t.Helper()
	raw, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (r *rig) push(w *prompb.WriteRequest) (int, problem) {
	r.t.Helper()
	return r.post("/api/v1/push", string(snappy.Encode(nil, encode(r.t, w))), "Content-Type", "application/x-protobuf", "Content-Encoding", "snappy")
}

func TestRemoteWriteBecomesSeries(t *testing.T) {
	r := newRig(t, Config{ID: "prom", Site: "24848", Device: "{instance}", Quantities: quantities, Map: []Mapping{
		{Metric: "node_hwmon_temp_celsius", Where: map[string]string{"sensor": "temp1"}, Quantity: "air_temperature", Point: "case"},
		{Metric: "go_*", Drop: true},
	}})
	node := []prompb.Label{{Name: "instance", Value: "pi:9100"}, {Name: "job", Value: "node"}}
	code, p := r.push(&prompb.WriteRequest{
		Metadata: []prompb.MetricMetadata{{MetricFamilyName: "up", Help: "help"}},
		Timeseries: []prompb.TimeSeries{
			series("up", node, 0, 1, 15, 0, 30, math.Float64frombits(value.StaleNaN)),
			series("node_hwmon_temp_celsius", append(node[:2:2], prompb.Label{Name: "sensor", Value: "temp1"}), 0, 41.5),
			series("go_goroutines", node, 0, 7),
			series("rpc:rate5m", append(node[:2:2], prompb.Label{Name: "site", Value: "x"}), 0, math.Inf(1)),
		},
	})
	if code != http.StatusNoContent {
		t.Fatalf("%d %+v", code, p)
	}
	got, _ := r.committed()
	at := noon.UnixMilli()
	want := []stored{
		{name: "air_temperature pi:9100/case {job=node,sensor=temp1}", t: at, v: 41.5},
		{name: "rpc:rate5m pi:9100/rpc:rate5m exported_site=x job=node {exported_site=x,job=node}", t: at, bad: true},
		{name: "up pi:9100/up job=node {job=node}", t: at, v: 1},
		{name: "up pi:9100/up job=node {job=node}", t: at + 15_000},
		{name: "up pi:9100/up job=node {job=node}", t: at + 30_000, bad: true},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(stored{})); d != "" {
		t.Error(d)
	}
}

func TestBadSamplesAreToldAndTheOthersTaken(t *testing.T) {
	r := newRig(t, Config{ID: "prom", Site: "1", Device: "{instance}", MaxValue: 50})
	code, p := r.push(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		series("good", nil, 0, 1, 3600, 2, 1, 3, -40*86400, 4),
		{Labels: []prompb.Label{{Name: "job", Value: "x"}}, Samples: []prompb.Sample{{Timestamp: noon.UnixMilli()}}},
		series("bomb", []prompb.Label{{Name: "path", Value: strings.Repeat("x", 100)}}, 0, 1, 1, 1),
		{Labels: []prompb.Label{{Name: "__name__", Value: "native"}}, Histograms: []prompb.Histogram{{Timestamp: noon.UnixMilli()}}},
	}})
	if code != http.StatusBadRequest || *p.Rows != 8 || *p.Taken != 2 || *p.Refused != 6 {
		t.Fatalf("%d %+v: %d rows, %d taken", code, p, *p.Rows, *p.Taken)
	}
	for i, want := range []string{
		"series 1, sample 2: good: its time 2026-11-27T13:00:00Z is 1h0m0s ahead", "series 1, sample 4: good: its time 2026-10-18T12:00:00Z is more than 30 days ago",
		"series 2: it has no name", "series 3: bomb: label path has a value of 100 bytes, at most 50", "series 4: native: native histograms are not taken",
	} {
		if got := p.Errors[i].String(); !strings.HasPrefix(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	if got, _ := r.committed(); len(got) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestBodiesThatAreNoWriteRequest(t *testing.T) {
	r := newRig(t, Config{})
	whole := encode(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series("a", nil, 0, 1), series("b", nil, 0, 1)}})
	zeros := snappy.Encode(nil, make([]byte, 32<<20))
	for name, c := range map[string]struct {
		body   []byte
		header []string
		code   int
		detail string
	}{
		"no snappy":        {[]byte("hello"), nil, 400, "the snappy block is damaged"},
		"cut off":          {snappy.Encode(nil, whole[:len(whole)-3]), nil, 400, "no Prometheus write request"},
		"another message":  {snappy.Encode(nil, []byte{0x0d, 1, 2, 3, 4, 0x0a, 3, 0x08, 1}), nil, 400, "no Prometheus write request"},
		"a lie":            {append([]byte{0xff, 0xff, 0xff, 0x0f}, "x"...), nil, 400, "unpacks to far more"},
		"a huge lie":       {append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, "x"...), nil, 413, "more than 64 MiB"},
		"nothing but zero": {zeros, nil, 400, "no Prometheus write request"},
		"damaged":          {append(snappy.Encode(nil, whole)[:20], 0xff, 0xff), nil, 400, "damaged"},
		"wrong type":       {whole, []string{"Content-Type", "text/plain"}, 415, "send application/x-protobuf"},
		"2.0":              {whole, []string{"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, 415, "use 1.0"},
		"gzip":             {whole, []string{"Content-Encoding", "gzip"}, 415, "snappy"},
		"too large":        {make([]byte, maxBody+1), nil, 413, "more than 16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, p := r.post("/api/v1/push", string(c.body), c.header...); code != c.code || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("%d %+v", code, p)
			}
		})
	}
	if got, _ := r.committed(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// What prompb makes of a body, this package does, too.
func FuzzRemote(f *testing.F) {
	f.Add(encode(f, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		series("up", []prompb.Label{{Name: "instance", Value: "i"}}, 0, 1, 1, math.NaN()), series("x", nil, 1e12, 1),
		{Labels: []prompb.Label{{Name: "__name__", Value: "h"}}, Histograms: []prompb.Histogram{{Timestamp: 1}}, Exemplars: []prompb.Exemplar{{Value: 1}}},
	}, Metadata: []prompb.MetricMetadata{{Help: "h"}}}))
	f.Add([]byte{0x0a, 0x00})
	f.Add([]byte{0x0a, 0x02, 0x12, 0x00})
	cfg := Config{ID: "s", Site: "1", Device: "{instance}", MaxSeries: 50}
	cfg.fill()
	f.Fuzz(func(t *testing.T, body []byte) {
		table, b := newTable(&cfg), newBatch(&cfg, noon)
		if readRemote(body, table, b) != nil {
			return
		}
		checkBatch(t, &cfg, table, b)
		var theirs prompb.WriteRequest
		if theirs.Unmarshal(body) != nil {
			return // stricter than we are about what is let go
		}
		rows := 0
		for _, s := range theirs.Timeseries {
			rows += len(s.Samples) + len(s.Histograms)
		}
		if rows != b.rows {
			t.Fatalf("%d rows, they have %d", b.rows, rows)
		}
	})
}

func TestManySeriesOfOneMetricNameTheLabel(t *testing.T) {
	r := newRig(t, Config{ID: "prom", Site: "1", Device: "{instance}", MaxSeries: 100})
	req := &prompb.WriteRequest{}
	for i := range 150 {
		req.Timeseries = append(req.Timeseries, series("http_requests_total", []prompb.Label{
			{Name: "code", Value: fmt.Sprint(200 + i%3)}, {Name: "path", Value: fmt.Sprintf("/%d", i)},
		}, 0, float64(i)))
	}
	req.Timeseries = append(req.Timeseries, series("up", nil, 0, 1))
	code, p := r.push(req)
	if code != http.StatusBadRequest || *p.Taken != 100 || *p.Refused != 51 {
		t.Fatalf("%d %+v", code, p)
	}
	if got := p.Errors[0].Message; !strings.Contains(got, "source prom has its limit of 100 series (max_series); of http_requests_total the label path has the most different values, 101") {
		t.Errorf("told %q", got)
	}
	// Those that are known go on, those that are not stay out.
	if code, _ := r.push(&prompb.WriteRequest{Timeseries: req.Timeseries[:100]}); code != http.StatusNoContent {
		t.Errorf("the others: %d", code)
	}
	st := r.Stats()
	if st.Series != 100 || st.Refused != 51 || st.Overflow[0].Metric != "http_requests_total" || st.Overflow[0].Rows != 50 {
		t.Errorf("%+v", st)
	}
	// After a day of silence they make room.
	r.clock.Add(25 * 3600 * 1000)
	fresh := series("up", nil, 25*3600, 1)
	if code, p := r.push(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{fresh}}); code != http.StatusNoContent {
		t.Fatalf("%d %+v", code, p)
	}
	if got, _ := r.committed(); got[len(got)-1].name != "up prom/up {}" {
		t.Errorf("%+v", got[len(got)-1])
	}
}
