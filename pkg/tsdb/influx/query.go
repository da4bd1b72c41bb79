package influx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/langbiang/langbiang/pkg/tsdb"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 512 << 20

var errNoQueries = errors.New("store.query_url is not set, so nothing can be read from the store")

type queryable struct{ s *Store }

// Querier implements storage.Queryable.
func (q queryable) Querier(from, to int64) (storage.Querier, error) {
	q.s.mu.Lock()
	closed := q.s.closed
	q.s.mu.Unlock()
	switch {
	case closed:
		return nil, tsdb.ErrClosed
	case q.s.o.QueryURL == "":
		return nil, errNoQueries
	}
	return &querier{s: q.s, from: from, to: to}, nil
}

// querier asks the server's query API. What it answers is held in memory.
type querier struct {
	s        *Store
	from, to int64
}

// bounded cuts a time to what a server may be asked for: from 1970 to what a sample
// may be ahead.
func (q *querier) bounded(from, to int64) (int64, int64) {
	return max(from, 0), min(to, q.s.o.Now()+2*tsdb.MaxAhead.Milliseconds())
}

// Select implements storage.Querier: the samples of a time are what an instant query
// of a range selector answers.
func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	from, to := q.from, q.to
	if hints != nil {
		from, to = hints.Start, hints.End
	}
	from, to = q.bounded(from, to)
	if from > to {
		return storage.EmptySeriesSet()
	}
	var found []storage.Series
	var err error
	if hints != nil && hints.Func == "series" {
		found, err = q.series(ctx, from, to, matchers)
	} else {
		found, err = q.samples(ctx, from, to, matchers)
	}
	if err != nil {
		return storage.ErrSeriesSet(fmt.Errorf("query the store's server: %w", err))
	}
	slices.SortFunc(found, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return &seriesSet{list: found}
}

func (q *querier) samples(ctx context.Context, from, to int64, matchers []*labels.Matcher) ([]storage.Series, error) {
	var answer struct {
		Result []struct {
			Metric map[string]string
			Values [][2]json.RawMessage
		}
	}
	// Selectors leave their beginning out, in one server, and not in another.
	params := url.Values{"query": {selector(matchers) + "[" + strconv.FormatInt(to-from+1, 10) + "ms]"}, "time": {seconds(to)}}
	if err := q.ask(ctx, "query", params, &answer); err != nil {
		return nil, err
	}
	var found []storage.Series
	for _, r := range answer.Result {
		list := make([]chunks.Sample, 0, len(r.Values))
		for _, pair := range r.Values {
			t, err := strconv.ParseFloat(string(pair[0]), 64)
			if err != nil {
				return nil, fmt.Errorf("a time is %.40q", pair[0])
			}
			v, err := strconv.ParseFloat(strings.Trim(string(pair[1]), `"`), 64)
			if err != nil {
				return nil, fmt.Errorf("a value is %.40q", pair[1])
			}
			if ms := int64(math.Round(t * 1000)); ms >= from && ms <= to {
				list = append(list, sample{ms, v})
			}
		}
		if len(list) > 0 {
			found = append(found, storage.NewListSeries(labels.FromMap(r.Metric), list))
		}
	}
	return found, nil
}

func (q *querier) series(ctx context.Context, from, to int64, matchers []*labels.Matcher) ([]storage.Series, error) {
	var answer []map[string]string
	if err := q.ask(ctx, "series", q.window(from, to, matchers), &answer); err != nil {
		return nil, err
	}
	var found []storage.Series
	for _, m := range answer {
		found = append(found, storage.NewListSeries(labels.FromMap(m), nil))
	}
	return found, nil
}

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, _ *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.list(ctx, "label/"+url.PathEscape(name)+"/values", matchers)
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, _ *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.list(ctx, "labels", matchers)
}

func (q *querier) list(ctx context.Context, path string, matchers []*labels.Matcher) ([]string, annotations.Annotations, error) {
	from, to := q.bounded(q.from, q.to)
	var out []string
	if err := q.ask(ctx, path, q.window(from, to, matchers), &out); err != nil {
		return nil, nil, fmt.Errorf("query the store's server: %w", err)
	}
	slices.Sort(out)
	return out, nil, nil
}

func (q *querier) window(from, to int64, matchers []*labels.Matcher) url.Values {
	v := url.Values{"start": {seconds(from)}, "end": {seconds(to)}}
	if len(matchers) > 0 {
		v.Set("match[]", selector(matchers))
	}
	return v
}

// Close implements storage.Querier.
func (q *querier) Close() error { return nil }

// ask asks one resource of the Prometheus query API and decodes its data.
func (q *querier) ask(ctx context.Context, path string, params url.Values, data any) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.s.ctx, cancel)()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(q.s.o.QueryURL, "/")+"/api/v1/"+path+"?"+params.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := q.s.o.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer is longer than %d MB; ask for less time or fewer series", maxAnswer>>20)
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%s answers %s: %.200q", q.s.o.QueryURL, resp.Status, body)
	}
	if answer.Status != "success" {
		return fmt.Errorf("it answers %s: %s", resp.Status, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

func selector(matchers []*labels.Matcher) string {
	parts := make([]string, len(matchers))
	for i, m := range matchers {
		parts[i] = m.String()
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func seconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }

type sample struct {
	t int64
	v float64
}

// The methods are those of chunks.Sample.

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// seriesSet is a list of series.
type seriesSet struct {
	list []storage.Series
	next int
}

func (s *seriesSet) Next() bool                        { s.next++; return s.next <= len(s.list) }
func (s *seriesSet) At() storage.Series                { return s.list[s.next-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }
