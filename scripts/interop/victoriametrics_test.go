//go:build interop

package interop

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/influx"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
)

// victoria starts a VictoriaMetrics of its own, as docs/store.md says.
func victoria(t *testing.T, dir string) (url string, s *server) {
	t.Helper()
	address := "127.0.0.1:" + freePort(t)
	s = serve(t, "started VictoriaMetrics", "/usr/bin/victoria-metrics",
		"-storageDataPath", filepath.Join(dir, "vm"), "-httpListenAddr", address, "-retentionPeriod", "100y",
		"-influxSkipSingleField", "-dedup.minScrapeInterval=1ms", "-search.latencyOffset=1s", "-loggerLevel=INFO")
	url = "http://" + address
	for deadline := time.After(drivertest.Limit); ; { // it listens a moment after it says so
		resp, err := http.Get(url + "/health")
		if err == nil {
			_ = resp.Body.Close()
			return url, s
		}
		select {
		case <-deadline:
			t.Fatalf("VictoriaMetrics does not answer: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

type onVictoria struct {
	*influx.Store
	url string
}

// Settle lets queries see what was written: usually a matter of a second.
func (o onVictoria) Settle(t *testing.T) {
	t.Helper()
	resp, err := http.Get(o.url + "/internal/force_flush")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	// A query that was answered before the flush may be answered from memory.
	if resp, err = http.Get(o.url + "/internal/resetRollupResultCache"); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

func TestVictoriaMetricsIsAStore(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	urls := map[string]string{}
	tsdbtest.Run(t, func(t *testing.T, dir string, now func() int64) tsdb.Store {
		if urls[dir] == "" {
			urls[dir], _ = victoria(t, dir)
		}
		s, err := influx.Open(influx.Options{
			URL: urls[dir], Bucket: "langbiang", QueryURL: urls[dir], FlushDelay: time.Millisecond, Now: now,
			Client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return onVictoria{s, urls[dir]}
	})
}

// What was safe outlives a server that is killed.
func TestWhatVictoriaMetricsHadTheTimeToFlushOutlivesIt(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	if _, err := exec.LookPath("/usr/bin/victoria-metrics"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	url, server := victoria(t, dir)
	open := func() *influx.Store {
		s, err := influx.Open(influx.Options{URL: url, Bucket: "langbiang", QueryURL: url, Client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	at := time.Now().Add(-time.Hour).UnixMilli()
	app := s.Appender()
	for i := range int64(1000) {
		if _, err := app.Append(0, tsdbtest.Labels("pm10", fmt.Sprint(i%10)), at+i*1000, float64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil { // after the default flush_delay
		t.Fatal(err)
	}
	server.stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	url, _ = victoria(t, dir)
	s = open()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	got, err := tsdb.ReadSamples(context.Background(), s.Queryable(), at-1, at+1000_000, tsdb.Match{Name: tsdb.NameLabel, Value: "pm10"})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, x := range got {
		n += len(x.Samples)
	}
	if n != 1000 {
		t.Errorf("%d of 1000 safe samples outlived the server", n)
	}
}
