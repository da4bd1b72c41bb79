package export

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// store holds series in memory; it fails after the one named, and waits when it is
// told to.
type store struct {
	storage.Querier
	list []storage.Series
	err  error
	wait chan struct{}
}

type sample struct {
	t int64
	v float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Copy() chunks.Sample           { return s }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }

func (s *store) add(name string, from time.Time, values []float64, ls ...string) {
	var list []chunks.Sample
	for i, v := range values {
		list = append(list, sample{from.Add(time.Duration(i) * time.Second).UnixMilli(), v})
	}
	s.list = append(s.list, storage.NewListSeries(labels.FromStrings(append([]string{"__name__", name}, ls...)...), list))
}

func (s *store) open(int64, int64) (storage.Querier, error) { return s, nil }
func (s *store) Close() error                               { return nil }

func (s *store) Select(_ context.Context, _ bool, _ *storage.SelectHints, where ...*labels.Matcher) storage.SeriesSet {
	if s.wait != nil {
		<-s.wait
	}
	out := &set{err: s.err}
next:
	for _, x := range s.list {
		for _, m := range where {
			if !m.Matches(x.Labels().Get(m.Name)) {
				continue next
			}
		}
		out.list = append(out.list, x)
	}
	return out
}

type set struct {
	list []storage.Series
	at   storage.Series
	err  error
}

func (s *set) Next() bool {
	if len(s.list) == 0 {
		return false
	}
	s.at, s.list = s.list[0], s.list[1:]
	return true
}
func (s *set) At() storage.Series                { return s.at }
func (s *set) Err() error                        { return s.err }
func (s *set) Warnings() annotations.Annotations { return nil }

func serve(t *testing.T, s *store) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(New(Options{Queryable: storage.QueryableFunc(s.open), Now: func() time.Time { return noon }}))
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, server *httptest.Server, q url.Values) (int, string, error) {
	t.Helper()
	resp, err := server.Client().Get(server.URL + "/api/v1/export?" + q.Encode())
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestExports(t *testing.T) {
	s := &store{}
	s.add("pm2_5", noon.Add(-3*time.Second), []float64{1.5, math.Float64frombits(0x7ff0000000000002), 1e21}, "device", "d", "edge", "e", "late", "1", "point", "p,q", "site", "24848")
	s.add("up", noon.Add(-time.Hour), make([]float64, 1001), "edge", "e")
	server := serve(t, s)
	for name, c := range map[string]struct {
		q    url.Values
		want string
	}{
		"CSV": {url.Values{"match[]": {`pm2_5`}, "format": {"csv"}}, `time,quantity,site,edge,device,point,value,labels
2026-11-27T11:59:57.000Z,pm2_5,24848,e,d,"p,q",1.5,late=1
2026-11-27T11:59:58.000Z,pm2_5,24848,e,d,"p,q",,late=1
2026-11-27T11:59:59.000Z,pm2_5,24848,e,d,"p,q",1e+21,late=1
`},
		"lines of JSON": {url.Values{"match[]": {`{site="24848"}`}}, `{"metric":{"__name__":"pm2_5","device":"d","edge":"e","late":"1","point":"p,q","site":"24848"},"values":[1.5,null,1e+21],"timestamps":[1795780797000,1795780798000,1795780799000]}
`},
		"a span": {url.Values{"match[]": {`pm2_5`}, "from": {"2026-11-27T18:59:58+07:00"}, "to": {"1795780798"}}, `{"metric":{"__name__":"pm2_5","device":"d","edge":"e","late":"1","point":"p,q","site":"24848"},"values":[null],"timestamps":[1795780798000]}
`},
		"nothing": {url.Values{"match[]": {`nothing`}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, got, err := get(t, server, c.q)
			if err != nil || code != http.StatusOK || got != c.want {
				t.Errorf("%d %v\n%s\nwant\n%s", code, err, got, c.want)
			}
		})
	}
	_, got, _ := get(t, server, url.Values{"match[]": {"up", "pm2_5"}})
	if lines := strings.Count(got, "\n"); lines != 3 {
		t.Errorf("%d lines: a thousand samples stand in one at most, and two selectors are joined", lines)
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"?match[]=up", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || strings.Count(string(b), "\n") != 2 {
		t.Errorf("compressed: %v, %d bytes", err, len(b))
	}
}

func TestWhatCannotBeExported(t *testing.T) {
	server := serve(t, &store{})
	for name, c := range map[string]struct {
		q    url.Values
		want string
	}{
		"no selector":    {url.Values{}, "match[] is missing; write a selector"},
		"a bad selector": {url.Values{"match[]": {`pm{`}}, "1:4: parse error"},
		"everything":     {url.Values{"match[]": {`{site=~".*"}`}}, "chooses every series"},
		"a bad time":     {url.Values{"match[]": {`a`}, "from": {"yesterday"}}, "write it as 2026-11-23T08:00:00+07:00"},
		"backward":       {url.Values{"match[]": {`a`}, "from": {"20"}, "to": {"10"}}, "to lies before from"},
		"another format": {url.Values{"match[]": {`a`}, "format": {"xml"}}, "csv or ndjson"},
		"a typing error": {url.Values{"match[]": {`a`}, "form": {"1"}}, `"form" is not known here`},
		"a time too far": {url.Values{"match[]": {`a`}, "to": {"1e300"}}, "to is"},
	} {
		t.Run(name, func(t *testing.T) {
			code, got, _ := get(t, server, c.q)
			if code != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), c.want) {
				t.Errorf("%d %s", code, got)
			}
		})
	}
}

// An export that ends early cannot be taken for a whole one.
func TestAnExportThatFailsIsCutOff(t *testing.T) {
	s := &store{err: errors.New("a block cannot be read")}
	s.add("up", noon.Add(-time.Hour), make([]float64, 100_000))
	if code, _, err := get(t, serve(t, s), url.Values{"match[]": {"up"}}); err == nil {
		t.Errorf("%d, and no error", code)
	}
}

func TestExportsAreFewAtOnce(t *testing.T) {
	s := &store{wait: make(chan struct{})}
	server := serve(t, s)
	done := make(chan int, 3)
	for range 3 {
		go func() {
			code, _, _ := get(t, server, url.Values{"match[]": {"up"}})
			done <- code
		}()
	}
	if code := <-done; code != http.StatusTooManyRequests {
		t.Errorf("the third: %d", code)
	}
	close(s.wait)
	for range 2 {
		if code := <-done; code != http.StatusOK {
			t.Errorf("the others: %d", code)
		}
	}
}
