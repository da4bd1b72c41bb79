package promapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// wide is a store of so many series with a sample each second, which it makes up: it
// takes no memory itself.
type wide struct {
	series, samples int
	note            string // a label of each
}

func (w wide) Querier(_, _ int64) (storage.Querier, error) { return w, nil }

func (w wide) Select(context.Context, bool, *storage.SelectHints, ...*labels.Matcher) storage.SeriesSet {
	return &wideSet{w: w}
}

func (wide) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (wide) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (wide) Close() error { return nil }

type wideSet struct {
	w wide
	n int
}

func (s *wideSet) Next() bool                      { s.n++; return s.n <= s.w.series }
func (*wideSet) Err() error                        { return nil }
func (*wideSet) Warnings() annotations.Annotations { return nil }
func (s *wideSet) At() storage.Series              { return wideSeries{s.w, s.n} }

type wideSeries struct {
	w wide
	n int
}

func (s wideSeries) Labels() labels.Labels {
	return labels.FromStrings("__name__", "humidity", "edge", "lac-duong-01", "device", fmt.Sprintf("d-%04d", s.n), "point", "humidity", "site", "24848", "note", s.w.note)
}

func (s wideSeries) Iterator(chunkenc.Iterator) chunkenc.Iterator { return &wideIterator{w: s.w} }

type wideIterator struct {
	w wide
	i int
}

func (it *wideIterator) Next() chunkenc.ValueType {
	if it.i >= it.w.samples {
		return chunkenc.ValNone
	}
	it.i++
	return chunkenc.ValFloat
}

func (it *wideIterator) Seek(t milliseconds) chunkenc.ValueType {
	if it.i > 0 && it.AtT() >= t {
		return chunkenc.ValFloat
	}
	it.i = max(it.i, int(t/1000-t0))
	return it.Next()
}

func (it *wideIterator) At() (int64, float64) {
	return (t0 + int64(it.i-1)) * 1000, 50 + float64(it.i*7919%2000)/100
}

func (it *wideIterator) AtT() int64 { return (t0 + int64(it.i-1)) * 1000 }
func (*wideIterator) AtST() int64   { return 0 }
func (*wideIterator) Err() error    { return nil }
func (*wideIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("there are numbers only")
}

func (*wideIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	panic("there are numbers only")
}

// BenchmarkLargestAnswer asks for nearly as many samples as a query may hold, 900 series
// of 11,000, and prints the most memory that the process had meanwhile, beyond what it
// had before, with the hub's setting of the collector.
func BenchmarkLargestAnswer(b *testing.B) {
	const points = 11_000
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	server := httptest.NewServer(newAPI(b, wide{900, points, ""}))
	defer server.Close()
	ask := server.URL + "/api/v1/query_range?" + url.Values{"query": {"humidity"}, "step": {"1"}, "start": {fmt.Sprint(t0)}, "end": {fmt.Sprint(t0 + points - 1)}}.Encode()
	runtime.GC()
	debug.FreeOSMemory()
	before := held()
	peak := make(chan uint64)
	done := make(chan struct{})
	go func() {
		most := before
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, held())
			case <-done:
				peak <- most
				return
			}
		}
	}()
	var size int64
	for range b.N {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, ask, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		size, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status, err)
		}
	}
	close(done)
	b.ReportMetric(float64(<-peak-before)/1e6, "peak-MB")
	b.ReportMetric(float64(size)/1e6, "answer-MB")
}

// held is the memory that the runtime has of the system.
func held() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
