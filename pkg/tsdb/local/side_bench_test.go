package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/history"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
)

// BenchmarkQueryBeside asks the same queries of this store's API, and of Prometheus
// and VictoriaMetrics where they are installed, over the same samples: 24 hours of
// series at 1 Hz.
func BenchmarkQueryBeside(b *testing.B) {
	const n, count = 24 * 3600, 20
	end := time.Now().Truncate(time.Hour).Add(-30 * time.Minute).UnixMilli()
	at := func(i int) int64 { return end - int64(n-1-i)*1000 }
	values := readings()
	var series []telemetry.Labels
	for i := range count {
		series = append(series, tsdbtest.Labels("air_temperature", strconv.Itoa(i)))
	}
	queries := []struct{ name, expr, step string }{
		{"24h of a series at 1m", `air_temperature{point="7"}`, "60"},
		{"24h mean of 5m of a series", `avg_over_time(air_temperature{point="7"}[5m])`, "300"},
		{"24h max of 20 series at 5m", `max by (site) (max_over_time(air_temperature[5m]))`, "300"},
	}
	for _, o := range []struct {
		name  string
		start func(b *testing.B) string
	}{
		{"langbiang", func(b *testing.B) string { return startOwn(b, series, at, values, n, false) }},
		{"prometheus", func(b *testing.B) string { return startPrometheus(b, series, at, values, n) }},
		{"victoria-metrics", func(b *testing.B) string { return startVictoria(b, series, at, values, n) }},
	} {
		b.Run(o.name, func(b *testing.B) {
			address := o.start(b)
			if address == "" {
				return
			}
			for _, q := range queries {
				b.Run(q.name, func(b *testing.B) {
					ask := address + "/api/v1/query_range?nocache=1&" + url.Values{
						"query": {q.expr}, "step": {q.step}, "start": {seconds(at(0))}, "end": {seconds(end)},
					}.Encode()
					points := 0
					b.ResetTimer()
					for range b.N {
						points = pointsOf(b, ask)
					}
					b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms")
					b.ReportMetric(float64(points), "points")
				})
			}
		})
	}
}

// startOwn serves a store of packed blocks, or of plain ones.
func startOwn(b *testing.B, series []telemetry.Labels, at func(int) int64, values []float64, n int, plain bool) string {
	s := mustOpen(b, b.TempDir(), func(o *Options) { o.SegmentSize = 0; o.Now = nil; o.Plain = plain })
	app := s.Appender()
	for _, lset := range series {
		var ref uint64
		for i := range n {
			var err error
			ref, err = app.Append(ref, lset, at(i), values[i%len(values)])
			check(b, err)
		}
		check(b, app.Commit())
	}
	check(b, s.db.Compact(context.Background()))
	handler, err := promapi.New(promapi.Options{Queryable: s.Queryable()})
	check(b, err)
	server := httptest.NewServer(handler)
	b.Cleanup(server.Close)
	return server.URL
}

// BenchmarkQueryBlocks asks the same query of packed blocks and of plain ones in turns,
// 15 times each, and reports the medians; b.N is ignored. So whatever else the machine
// does falls on both.
func BenchmarkQueryBlocks(b *testing.B) {
	const n, count, turns = 24 * 3600, 20, 15
	end := time.Now().Truncate(time.Hour).Add(-30 * time.Minute).UnixMilli()
	at := func(i int) int64 { return end - int64(n-1-i)*1000 }
	var series []telemetry.Labels
	for i := range count {
		series = append(series, tsdbtest.Labels("air_temperature", strconv.Itoa(i)))
	}
	addresses := []string{startOwn(b, series, at, readings(), n, false), startOwn(b, series, at, readings(), n, true)}
	for _, q := range []struct {
		name, expr, step string
		from, to         int64
	}{
		{"24h of a series at 1m", `air_temperature{point="7"}`, "60", at(0), end},
		{"24h max of 20 series at 5m", `max by (site) (max_over_time(air_temperature[5m]))`, "300", at(0), end},
		{"an hour of 20 series at 15s", `air_temperature`, "15", end - 12*hour, end - 11*hour},
		{"20 series at a time", `air_temperature`, "15", end - 12*hour, end - 12*hour},
	} {
		b.Run(q.name, func(b *testing.B) {
			took := [2][]time.Duration{}
			for range turns {
				for i, address := range addresses {
					ask := address + "/api/v1/query_range?" + url.Values{
						"query": {q.expr}, "step": {q.step}, "start": {seconds(q.from)}, "end": {seconds(q.to)},
					}.Encode()
					began := time.Now()
					pointsOf(b, ask)
					took[i] = append(took[i], time.Since(began))
				}
			}
			for i, name := range []string{"packed-ms", "plain-ms"} {
				slices.Sort(took[i])
				b.ReportMetric(float64(took[i][turns/2].Microseconds())/1000, name)
			}
			b.ReportMetric(float64(took[0][turns/2])/float64(took[1][turns/2]), "packed/plain")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func seconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }

func pointsOf(b *testing.B, address string) (n int) {
	b.Helper()
	resp, err := http.Get(address)
	check(b, err)
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status string
		Data   struct {
			Result []struct{ Values []json.RawMessage }
		}
	}
	body, err := io.ReadAll(resp.Body)
	check(b, err)
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		b.Fatalf("%s: %s %.300s", address, resp.Status, body)
	}
	for _, r := range answer.Data.Result {
		n += len(r.Values)
	}
	return n
}

// startOther starts a server and waits until it answers at path; "" when it is not
// installed.
func startOther(b *testing.B, program, address, path string, args ...string) string {
	b.Helper()
	name, err := exec.LookPath(program)
	if err != nil {
		b.Logf("no row for %s: it is not installed", program)
		return ""
	}
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	check(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		http.DefaultClient.CloseIdleConnections()
	})
	testutil.Eventually(b, 30*time.Second, program+" answers", func() bool {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return "http://" + address
}

// startPrometheus gives Prometheus the samples by remote write.
func startPrometheus(b *testing.B, series []telemetry.Labels, at func(int) int64, values []float64, n int) string {
	dir, address := b.TempDir(), testutil.FreeAddress(b)
	config := filepath.Join(dir, "prometheus.yml")
	check(b, os.WriteFile(config, []byte("global: {}\n"), 0o600))
	base := startOther(b, "prometheus", address, "/-/ready", "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", address, "--web.enable-remote-write-receiver")
	if base == "" {
		return ""
	}
	// All series advance together: what is far behind the newest sample it refuses.
	const piece = 2000
	for from := 0; from < n; from += piece {
		var req prompb.WriteRequest
		for _, lset := range series {
			var ts prompb.TimeSeries
			for _, l := range lset {
				ts.Labels = append(ts.Labels, prompb.Label{Name: l.Name, Value: l.Value})
			}
			for i := from; i < min(n, from+piece); i++ {
				ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: at(i), Value: values[i%len(values)]})
			}
			req.Timeseries = append(req.Timeseries, ts)
		}
		raw, err := req.Marshal()
		check(b, err)
		resp, err := http.Post(base+"/api/v1/write", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, raw)))
		check(b, err)
		body, err := io.ReadAll(resp.Body)
		check(b, err)
		_ = resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			b.Fatalf("remote write: %s %s", resp.Status, body)
		}
	}
	return base
}

// startVictoria gives VictoriaMetrics the samples by line protocol.
func startVictoria(b *testing.B, series []telemetry.Labels, at func(int) int64, values []float64, n int) string {
	dir, address := b.TempDir(), testutil.FreeAddress(b)
	base := startOther(b, "victoria-metrics", address, "/health", "-storageDataPath", dir, "-httpListenAddr", address, "-influxSkipSingleField", "-retentionPeriod", "100y", "-search.latencyOffset=1s")
	if base == "" {
		return ""
	}
	for _, lset := range series {
		var body bytes.Buffer
		for i := range n {
			fmt.Fprintf(&body, "%s,device=%s,edge=%s,point=%s,site=%s value=%g %d\n", lset.Get(tsdb.NameLabel), lset.Get("device"), lset.Get("edge"), lset.Get("point"), lset.Get("site"), values[i%len(values)], at(i))
		}
		resp, err := http.Post(base+"/api/v2/write?precision=ms", "text/plain", &body)
		check(b, err)
		_ = resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			b.Fatalf("write: %s", resp.Status)
		}
	}
	resp, err := http.Get(base + "/internal/force_flush")
	check(b, err)
	_ = resp.Body.Close()
	return base
}

// BenchmarkLongHistory computes a day of 200 series at 1 Hz, and asks a year of
// hours and a month of five minutes; b.N is ignored by the first.
func BenchmarkLongHistory(b *testing.B) {
	const count = 200
	s := mustOpen(b, b.TempDir(), func(o *Options) {
		o.SegmentSize = 0
		o.Now = func() int64 { return t0 + day + 2*hour }
		o.Long = &history.Options{Duty: 1}
	})
	s.stop()
	<-s.done
	app := s.Appender()
	values := readings()
	for c := range count {
		lset := tsdbtest.Labels("air_temperature", strconv.Itoa(c))
		var ref uint64
		for i := range int(day / 1000) {
			var err error
			ref, err = app.Append(ref, lset, t0+1+int64(i)*1000, values[(i+c)%len(values)])
			check(b, err)
		}
		check(b, app.Commit())
	}
	check(b, s.db.Compact(context.Background()))
	start := time.Now()
	check(b, s.long.Catch(context.Background(), samples{s}))
	took := time.Since(start)
	st := s.long.Stats()
	if st.Sets != 1 {
		b.Fatalf("%+v", st)
	}
	b.ReportMetric(float64(count*day/1000)/took.Seconds()/1e6, "Msamples/s")
	b.ReportMetric(float64(st.Bytes)/float64(count*288), "B/bucket")
	b.ReportMetric(0, "ns/op")
}
