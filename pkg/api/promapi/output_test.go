package promapi

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// ranged is the path of a query of all that a wide store has.
func ranged(w wide, more ...string) string {
	form := url.Values{"query": {"humidity"}, "step": {"1"}, "start": {fmt.Sprint(t0)}, "end": {fmt.Sprint(t0 + int64(w.samples) - 1)}}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return "/api/v1/query_range?" + form.Encode()
}

// An answer of many pieces is one document, in plain and compressed.
func TestALargeAnswerIsWhole(t *testing.T) {
	w := wide{10, 3000, ""}
	server := httptest.NewServer(newAPI(t, w))
	defer server.Close()
	for _, encoding := range []string{"identity", "gzip"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+ranged(w), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", encoding)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := io.Reader(resp.Body)
		if encoding == "gzip" {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		var answer struct {
			Status string
			Data   struct {
				Result []struct {
					Metric map[string]string
					Values [][2]any
				}
			}
		}
		if err := json.NewDecoder(body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if answer.Status != "success" || len(answer.Data.Result) != w.series {
			t.Fatalf("%s: %s, %d series", encoding, answer.Status, len(answer.Data.Result))
		}
		for i, s := range answer.Data.Result {
			if s.Metric["device"] != fmt.Sprintf("d-%04d", i+1) || len(s.Values) != w.samples || s.Values[2999][0] != float64(t0+2999) || s.Values[2999][1] != "60" {
				t.Fatalf("%s: series %d: %v, %d values, %v", encoding, i, s.Metric, len(s.Values), s.Values[len(s.Values)-1])
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// A client that asks and does not read loses its answer, and not the place of others.
func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	w := wide{10_000, 1, strings.Repeat("x", 1000)} // 11 MB, more than the system keeps on the way
	server := httptest.NewServer(newAPI(t, w, func(o *Options) { o.Concurrency, o.Patience, o.slowest = 1, 200*time.Millisecond, 1<<40 }))
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /api/v1/series?match[]=humidity HTTP/1.1\r\nHost: hub\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatal(line, err)
	}
	// It has the only place, until its time is over.
	resp, err := http.Get(server.URL + "/api/v1/query?query=1")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s %s %v", resp.Status, body, err)
	}
	rest, err := io.ReadAll(in)
	if strings.HasSuffix(string(rest), "\r\n0\r\n\r\n") {
		t.Errorf("the answer that was cut off ends as a whole one does (%d bytes, %v)", len(rest), err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// gate is a store whose queries stop in the middle, near their end.
type gate struct {
	wide
	at            int // sample of a series
	entered, free chan struct{}
}

func (g *gate) Querier(_, _ int64) (storage.Querier, error) { return g, nil }

func (g *gate) Select(_ context.Context, _ bool, _ *storage.SelectHints, _ ...*labels.Matcher) storage.SeriesSet {
	return &gateSet{wideSet{w: g.wide}, g}
}

type gateSet struct {
	wideSet
	g *gate
}

func (s *gateSet) At() storage.Series {
	if s.n < s.w.series {
		return s.wideSet.At()
	}
	return gateSeries{s.wideSet.At(), s.g} // the last one
}

type gateSeries struct {
	storage.Series
	g *gate
}

func (s gateSeries) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	return &gateIterator{s.Series.Iterator(it), s.g, 0}
}

type gateIterator struct {
	chunkenc.Iterator
	g *gate
	n int
}

func (it *gateIterator) Next() chunkenc.ValueType {
	if it.n++; it.n == it.g.at {
		select {
		case it.g.entered <- struct{}{}:
			<-it.g.free
		default: // nobody asks this one to stop
		}
	}
	return it.Iterator.Next()
}

// Of the queries that read millions of samples one runs at a time here: another one
// waits, says so when its time is over, and small ones pass.
func TestLargeQueriesGoOneByOne(t *testing.T) {
	g := &gate{wide{15, 1000, ""}, 900, make(chan struct{}), make(chan struct{})}
	api := newAPI(t, g, func(o *Options) { o.Concurrency, o.Large, o.largeFrom = 4, 1, 10_000 })
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	done := make(chan int)
	go func() {
		code, _ := ask(ranged(g.wide))
		done <- code
	}()
	<-g.entered
	code, body := ask(ranged(g.wide, "timeout", "3s"))
	if code != http.StatusServiceUnavailable || !strings.Contains(body, `"errorType":"timeout"`) || !strings.Contains(body, "1 queries that read more than 10,000 samples are running already, none has ended in time") {
		t.Errorf("a second large query: %d %.300s", code, body)
	}
	if code, body := ask(ranged(g.wide, "end", fmt.Sprint(t0+60))); code != http.StatusOK {
		t.Errorf("a small query: %d %.300s", code, body)
	}
	close(g.free)
	if code := <-done; code != http.StatusOK {
		t.Errorf("the first large query: %d", code)
	}
	if code, body := ask(ranged(g.wide)); code != http.StatusOK {
		t.Errorf("once it has ended: %d %.300s", code, body)
	}
}
