package promapi

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// t0 is 2026-01-01T00:00:00Z.
const t0 = int64(1_767_225_600)

// filled returns a store with two stations: air_temperature every 10 s for ten
// minutes, rising by 0.1, from 20 and from 30; and odd numbers in one more.
func filled(t testing.TB) storage.Queryable {
	t.Helper()
	db, err := promtsdb.Open(t.TempDir(), nil, nil, promtsdb.DefaultOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	app := db.Appender(context.Background())
	add := func(at int64, v float64, ls ...string) {
		if _, err := app.Append(0, labels.FromStrings(ls...), at*1000, v); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int64(61) {
		add(t0+i*10, 20+float64(i)/10, "__name__", "air_temperature", "site", "24848", "edge", "a")
		add(t0+i*10, 30+float64(i)/10, "__name__", "air_temperature", "site", "24875", "edge", "b")
	}
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e-9, 1e300, -0.5} {
		add(t0, v, "__name__", "odd", "n", string(rune('a'+i)), "text", "Đà Lạt \"1\"\n")
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	return db
}

var quantities = telemetry.Quantities{
	"air_temperature": {ID: "air_temperature", Unit: "Cel", Label: telemetry.Text{VI: "Nhiệt độ không khí", EN: "Air temperature"}},
	"rain_total":      {ID: "rain_total", Unit: "mm", Label: telemetry.Text{VI: "Lượng mưa", EN: "Rain"}},
}

func newAPI(t testing.TB, q storage.Queryable, change ...func(*Options)) *API {
	t.Helper()
	o := Options{Queryable: q, Quantities: quantities, Version: "1.2.3", Now: func() time.Time { return time.Unix(t0+600, 0) }}
	for _, c := range change {
		c(&o)
	}
	api, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func get(t testing.TB, h http.Handler, path string, params ...string) (int, string) {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(params); i += 2 {
		form.Add(params[i], params[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path+"?"+form.Encode(), nil))
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: content type %q", path, got)
	}
	if !json.Valid(w.Body.Bytes()) {
		t.Errorf("%s: not JSON: %s", path, w.Body)
	}
	return w.Code, w.Body.String()
}

func TestAnswersHavePrometheusShape(t *testing.T) {
	api := newAPI(t, filled(t))
	for _, c := range []struct {
		name, path string
		params     []string
		want       string
	}{
		{
			"instant vector", "/api/v1/query",
			[]string{"query", `air_temperature{site="24848"}`, "time", "1767225605.5"},
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"air_temperature","edge":"a","site":"24848"},"value":[1767225605.500,"20"]}]}}`,
		},
		{
			"now is the default", "/api/v1/query",
			[]string{"query", `sum(air_temperature)`},
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1767226200,"62"]}]}}`,
		},
		{
			"range", "/api/v1/query_range",
			[]string{"query", `max by (edge) (air_temperature)`, "start", "2026-01-01T00:00:00Z", "end", "1767225720", "step", "1m"},
			`{"status":"success","data":{"resultType":"matrix","result":[` +
				`{"metric":{"edge":"a"},"values":[[1767225600,"20"],[1767225660,"20.6"],[1767225720,"21.2"]]},` +
				`{"metric":{"edge":"b"},"values":[[1767225600,"30"],[1767225660,"30.6"],[1767225720,"31.2"]]}]}}`,
		},
		{
			"a step in seconds", "/api/v1/query_range",
			[]string{"query", `count(air_temperature)`, "start", "1767225600", "end", "1767225601", "step", "0.5"},
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1767225600,"2"],[1767225600.500,"2"],[1767225601,"2"]]}]}}`,
		},
		{
			"numbers that JSON does not have", "/api/v1/query",
			[]string{"query", `odd{n=~"[a-e]"}`, "time", "1767225600"},
			`{"status":"success","data":{"resultType":"vector","result":[` + strings.Join([]string{
				odd("a", "NaN"), odd("b", "+Inf"), odd("c", "-Inf"), odd("d", "1e-09"), odd("e", "1e+300"),
			}, ",") + `]}}`,
		},
		{"scalar", "/api/v1/query", []string{"query", "1+1", "time", "0.001"}, `{"status":"success","data":{"resultType":"scalar","result":[0.001,"2"]}}`},
		{"string", "/api/v1/query", []string{"query", `"a\tb"`, "time", "-1.5"}, `{"status":"success","data":{"resultType":"string","result":[-1.500,"a\tb"]}}`},
		{"nothing", "/api/v1/query", []string{"query", "nothing"}, `{"status":"success","data":{"resultType":"vector","result":[]}}`},
		{
			"truncated", "/api/v1/query",
			[]string{"query", `air_temperature * 0`, "limit", "1", "time", "1767225600"},
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"edge":"a","site":"24848"},"value":[1767225600,"0"]}]},"warnings":["results truncated due to limit"]}`,
		},
		{"labels", "/api/v1/labels", nil, `{"status":"success","data":["__name__","edge","n","site","text"]}`},
		{
			"labels of two selectors", "/api/v1/labels",
			[]string{"match[]", `air_temperature{edge="a"}`, "match[]", `odd{n="a"}`, "limit", "4"},
			`{"status":"success","data":["__name__","edge","n","site"],"warnings":["results truncated due to limit"]}`,
		},
		{"label values", "/api/v1/label/site/values", nil, `{"status":"success","data":["24848","24875"]}`},
		{"label values of a selector", "/api/v1/label/site/values", []string{"match[]", `{edge="b"}`}, `{"status":"success","data":["24875"]}`},
		{"label values of no label", "/api/v1/label/nothing/values", nil, `{"status":"success","data":[]}`},
		{"an escaped label", "/api/v1/label/U__si_74_e/values", nil, `{"status":"success","data":["24848","24875"]}`},
		{
			"series", "/api/v1/series",
			[]string{"match[]", `air_temperature{edge="b"}`, "match[]", `{edge=~"a|b"}`, "start", "1767225600", "end", "1767225700"},
			`{"status":"success","data":[{"__name__":"air_temperature","edge":"a","site":"24848"},{"__name__":"air_temperature","edge":"b","site":"24875"}]}`,
		},
		{
			"series, truncated", "/api/v1/series",
			[]string{"match[]", `air_temperature`, "limit", "1"},
			`{"status":"success","data":[{"__name__":"air_temperature","edge":"a","site":"24848"}],"warnings":["results truncated due to limit"]}`,
		},
		{"series before there was anything", "/api/v1/series", []string{"match[]", `air_temperature`, "end", "1000"}, `{"status":"success","data":[]}`},
		{
			"metadata", "/api/v1/metadata", nil,
			`{"status":"success","data":{"air_temperature":[{"type":"gauge","help":"Air temperature / Nhiệt độ không khí","unit":"Cel"}],"rain_total":[{"type":"counter","help":"Rain / Lượng mưa","unit":"mm"}]}}`,
		},
		{"metadata of one", "/api/v1/metadata", []string{"metric", "nothing"}, `{"status":"success","data":{}}`},
		{"metadata, limited", "/api/v1/metadata", []string{"limit", "0"}, `{"status":"success","data":{}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, body := get(t, api, c.path, c.params...)
			if code != http.StatusOK {
				t.Errorf("status %d", code)
			}
			if diff := cmp.Diff(c.want, body); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

func odd(n, v string) string {
	return `{"metric":{"__name__":"odd","n":"` + n + `","text":"Đà Lạt \"1\"\n"},"value":[1767225600,"` + v + `"]}`
}

func TestMistakesAreNamed(t *testing.T) {
	api := newAPI(t, filled(t), func(o *Options) { o.MaxSamples = 100; o.MaxSeries = 3 })
	rng := func(more ...string) []string {
		return append([]string{"query", "1", "start", "0", "end", "10", "step", "1"}, more...)
	}
	set := func(params []string, name, value string) []string {
		for i := 0; i < len(params); i += 2 {
			if params[i] == name {
				params[i+1] = value
			}
		}
		return params
	}
	for _, c := range []struct {
		name, path string
		params     []string
		code       int
		kind, text string
	}{
		{"no query", "/api/v1/query", nil, 400, "bad_data", `invalid parameter "query"`},
		{"broken query", "/api/v1/query", []string{"query", "sum("}, 400, "bad_data", "1:5: parse error"},
		{"bad time", "/api/v1/query", []string{"query", "1", "time", "yesterday"}, 400, "bad_data", `invalid parameter "time": cannot parse "yesterday"`},
		{"time that is no number", "/api/v1/query", []string{"query", "1", "time", "NaN"}, 400, "bad_data", `invalid parameter "time"`},
		{"bad limit", "/api/v1/query", []string{"query", "1", "limit", "-1"}, 400, "bad_data", `invalid parameter "limit"`},
		{"bad timeout", "/api/v1/query", []string{"query", "1", "timeout", "0"}, 400, "bad_data", `invalid parameter "timeout"`},
		{"bad lookback", "/api/v1/query", []string{"query", "1", "lookback_delta", "x"}, 400, "bad_data", `invalid parameter "lookback_delta"`},
		{"no start", "/api/v1/query_range", set(rng(), "start", ""), 400, "bad_data", `invalid parameter "start"`},
		{"bad end", "/api/v1/query_range", set(rng(), "end", "x"), 400, "bad_data", `invalid parameter "end"`},
		{"end before start", "/api/v1/query_range", set(rng(), "end", "-1"), 400, "bad_data", "must not be before"},
		{"bad step", "/api/v1/query_range", set(rng(), "step", "often"), 400, "bad_data", `invalid parameter "step"`},
		{"no step", "/api/v1/query_range", set(rng(), "step", "0"), 400, "bad_data", "zero or negative"},
		{"step of nothing", "/api/v1/query_range", set(rng(), "step", "0.0001"), 400, "bad_data", "zero or negative"},
		{"too many points", "/api/v1/query_range", set(rng(), "end", "11001"), 400, "bad_data", "11,000 points"},
		{"too many points for an int", "/api/v1/query_range", set(rng(), "end", "1e300"), 400, "bad_data", "points"},
		{"too many samples", "/api/v1/query", []string{"query", "air_temperature[10m]"}, 422, "execution", "too many samples"},
		{"not to be joined", "/api/v1/query", []string{"query", "air_temperature + on() air_temperature"}, 422, "execution", "duplicate series"},
		{"no selector", "/api/v1/series", nil, 400, "bad_data", "no match[] parameter"},
		{"empty selector", "/api/v1/series", []string{"match[]", "{}"}, 400, "bad_data", "match[]"},
		{"selector of everything", "/api/v1/labels", []string{"match[]", `{a=~".*"}`}, 400, "bad_data", "match[]"},
		{"too many series", "/api/v1/series", []string{"match[]", `{__name__=~".+"}`}, 422, "execution", "more than 3 series"},
		{"bad metadata limit", "/api/v1/metadata", []string{"limit", "x"}, 400, "bad_data", "limit must be a number"},
		{"no such path", "/api/v1/targets", nil, 404, "not_found", "/api/v1/targets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, body := get(t, api, c.path, c.params...)
			var got struct{ Status, ErrorType, Error string }
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			if code != c.code || got.Status != "error" || got.ErrorType != c.kind || !strings.Contains(got.Error, c.text) {
				t.Errorf("got %d %+v, want %d %s ... %s", code, got, c.code, c.kind, c.text)
			}
		})
	}
}

func TestFormsMayBePosted(t *testing.T) {
	api := newAPI(t, filled(t))
	post := func(form string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/query", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if code, body := post("query=1%2B1&time=5"); code != 200 || !strings.Contains(body, `[5,"2"]`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := post("query=" + strings.Repeat("1", maxBody)); code != 400 || !strings.Contains(body, "bad_data") {
		t.Errorf("%d %.200s", code, body)
	}
}

func TestLargeAnswersAreCompressedWhenWanted(t *testing.T) {
	api := newAPI(t, filled(t))
	r := httptest.NewRequest(http.MethodGet, "/api/v1/query_range?query=air_temperature&start=1767225600&end=1767226200&step=1", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil || !json.Valid(body) || len(body) < 10_000 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestBuildInfoNamesAPrometheusVersion(t *testing.T) {
	_, body := get(t, newAPI(t, filled(t)), "/api/v1/status/buildinfo")
	var got struct {
		Data struct{ Version, Revision, GoVersion string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Data.Version != engineVersion || got.Data.Revision != "langbiang 1.2.3" {
		t.Errorf("%s: %v", body, err)
	}
}

// stuck is a store that answers when it is let go, or the query is given up.
type stuck struct {
	storage.Queryable
	entered chan struct{}
}

func (s stuck) Querier(from, to int64) (storage.Querier, error) {
	q, err := s.Queryable.Querier(from, to)
	return stuckQuerier{q, s}, err
}

type stuckQuerier struct {
	storage.Querier
	s stuck
}

func (q stuckQuerier) Select(ctx context.Context, _ bool, _ *storage.SelectHints, _ ...*labels.Matcher) storage.SeriesSet {
	q.s.entered <- struct{}{}
	<-ctx.Done()
	return storage.ErrSeriesSet(ctx.Err())
}

func TestOneQueryTooManyWaitsAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuck{storage.QueryableFunc(func(int64, int64) (storage.Querier, error) { return storage.NoopQuerier(), nil }), make(chan struct{})}
		api := newAPI(t, s, func(o *Options) { o.Concurrency = 1; o.Timeout = 10 * time.Second })
		first := make(chan string)
		go func() {
			_, body := get(t, api, "/api/v1/query", "query", "air_temperature")
			first <- body
		}()
		<-s.entered
		code, body := get(t, api, "/api/v1/query", "query", "1", "timeout", "2s")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "1 queries are running") {
			t.Errorf("%d %s", code, body)
		}
		if body := <-first; !strings.Contains(body, `"errorType":"timeout"`) {
			t.Errorf("the first query: %s", body)
		}
		if code, _ := get(t, api, "/api/v1/query", "query", "1"); code != http.StatusOK {
			t.Errorf("%d once there is room again", code)
		}
	})
}

func TestTheStoresErrorsStayInside(t *testing.T) {
	broken := storage.QueryableFunc(func(int64, int64) (storage.Querier, error) { return nil, errors.New("secret path") })
	api := newAPI(t, broken)
	for _, path := range []string{"/api/v1/query?query=up", "/api/v1/labels"} {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no Queryable, no error")
	}
	if _, err := New(Options{Queryable: filled(t), MaxPoints: -1}); err == nil {
		t.Error("a negative limit, no error")
	}
}

func FuzzParameters(f *testing.F) {
	f.Add("1767225600", "1h30m", "a\"\n\xff")
	f.Add("2026-01-01T00:00:00+07:00", "1e400", "")
	f.Add("-1e300", "NaN", "\u2028")
	f.Fuzz(func(t *testing.T, at, d, s string) {
		if v, err := parseTime(at); err == nil && (v.Before(minTime) || v.After(maxTime)) {
			t.Errorf("%q is %v", at, v)
		}
		_, _ = parseDuration(d)
		if b := appendString(nil, s); !json.Valid(b) {
			t.Errorf("%q becomes %s", s, b)
		}
	})
}
