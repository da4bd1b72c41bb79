package push

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/langbiang/langbiang/pkg/buffer"
)

// benchRows is how many rows one request of the benchmarks has, of as many series.
const benchRows = 5000

// benchSource runs a source whose clock follows the test's.
func benchSource(b *testing.B) *Source {
	b.Helper()
	log, err := buffer.Open(b.TempDir(), buffer.Options{MaxSize: 64 << 20, Now: func() int64 { return time.Now().UnixMilli() }})
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(Config{ID: "bench", Site: "1", Device: "{host}", MaxSeries: 10_000}, log, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := log.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func benchPush(b *testing.B, body func(at time.Time) []byte, read func(body []byte, s *Source, batch *batch) error) {
	s := benchSource(b)
	began := time.Now().Add(-time.Hour)
	var bodies [][]byte
	for i := range 16 {
		bodies = append(bodies, body(began.Add(time.Duration(i)*time.Second)))
	}
	n := 0
	for b.Loop() {
		batch := newBatch(&s.cfg, time.Now())
		if err := read(bodies[n%len(bodies)], s, batch); err != nil || batch.refused > 0 {
			b.Fatal(err, batch.problems)
		}
		if err := s.Write(b.Context(), batch.readings); err != nil {
			b.Fatal(err)
		}
		n++
		s.log.SetSafe(lastOf(s.log)) // as the hub would
	}
	b.ReportMetric(float64(n*benchRows)/b.Elapsed().Seconds(), "samples/s")
}

func lastOf(l *buffer.Log) buffer.Pos { p, _ := l.Last(); return p }

// A request of line protocol: read, mapped, in the log with its fsync.
func BenchmarkLineProtocol(b *testing.B) {
	benchPush(b, func(at time.Time) []byte {
		var t strings.Builder
		for i := range benchRows / 5 {
			fmt.Fprintf(&t, "weather,host=h%d,zone=z%d a=%d.5,b=%d,c=%di,d=0.25,e=true %d\n", i, i%7, 20+i%9, i%13, i%5, at.UnixNano())
		}
		return []byte(t.String())
	}, func(body []byte, s *Source, batch *batch) error { return readLines(body, 0, s.table, batch) })
}

// The same of Prometheus remote write, a sample for each series.
func BenchmarkRemoteWrite(b *testing.B) {
	benchPush(b, func(at time.Time) []byte {
		w := &prompb.WriteRequest{}
		for i := range benchRows {
			w.Timeseries = append(w.Timeseries, prompb.TimeSeries{
				Labels:  []prompb.Label{{Name: "__name__", Value: "m"}, {Name: "host", Value: fmt.Sprintf("h%d", i/5)}, {Name: "k", Value: fmt.Sprint(i % 5)}},
				Samples: []prompb.Sample{{Timestamp: at.UnixMilli(), Value: float64(i % 17)}},
			})
		}
		return snappy.Encode(nil, encode(b, w))
	}, func(body []byte, s *Source, batch *batch) error {
		raw, err := snappy.Decode(nil, body)
		if err != nil {
			return err
		}
		return readRemote(raw, s.table, batch)
	})
}
