// Package export streams samples out of the store, as CSV or as lines of JSON:
//
//	GET /api/v1/export?match[]=pm2_5{site="24848"}&from=2026-11-01T00:00:00Z&format=csv
//
// Memory does not grow with what is asked for: series come one after the other, each
// in order of time. An answer that was cut short ends without its last chunk, which
// HTTP clients tell from one that is whole. Lines of JSON are those that
// VictoriaMetrics exports and imports, at most a thousand samples in each:
//
//	{"metric":{"__name__":"pm2_5","site":"24848"},"values":[12.5,null],"timestamps":[1795780800000,1795780805000]}
//
// A staleness marker, which says that the series has no value from there on, is null
// and in CSV an empty value.
package export

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Options of a [Handler]. Only Queryable is needed.
type Options struct {
	Queryable   storage.Queryable
	Concurrency int           // exports at once; 2 when 0
	Patience    time.Duration // how long a client may take for what is written at once; 1 min when 0
	Now         func() time.Time
	Logger      *slog.Logger
}

// Handler serves exports. It is safe for concurrent use.
type Handler struct {
	o      Options
	parser parser.Parser
	slots  chan struct{}
}

// New makes the handler.
func New(o Options) *Handler {
	if o.Concurrency == 0 {
		o.Concurrency = 2
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handler{o: o, parser: parser.NewParser(parser.Options{}), slots: make(chan struct{}, o.Concurrency)}
}

// request is what is asked for.
type request struct {
	where    [][]*labels.Matcher
	from, to int64
	csv      bool
}

// parse reads the parameters. The error is for the client.
func (h *Handler) parse(r *http.Request) (q request, err error) {
	v := r.URL.Query()
	for name := range v {
		if !slices.Contains([]string{"match[]", "match", "from", "to", "format"}, name) {
			return q, fmt.Errorf("%q is not known here; known are match[], from, to, format", name)
		}
	}
	selectors := slices.Concat(v["match[]"], v["match"])
	if len(selectors) == 0 {
		return q, errors.New(`match[] is missing; write a selector, for example match[]=pm2_5{site="24848"}`)
	}
	for _, s := range selectors {
		m, err := h.parser.ParseMetricSelector(s)
		if err != nil {
			return q, fmt.Errorf("match[]: %w", err)
		}
		if !slices.ContainsFunc(m, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return q, fmt.Errorf("match[]: %s chooses every series; one condition at least must not be empty", s)
		}
		q.where = append(q.where, m)
	}
	q.to = h.o.Now().Add(10 * time.Minute).UnixMilli()
	for name, to := range map[string]*int64{"from": &q.from, "to": &q.to} {
		if s := v.Get(name); s != "" {
			if *to, err = readTime(s); err != nil {
				return q, fmt.Errorf("%s is %q; write it as 2026-11-23T08:00:00+07:00, or in seconds since 1970", name, s)
			}
		}
	}
	if q.to < q.from {
		return q, errors.New("to lies before from")
	}
	switch f := v.Get("format"); f {
	case "csv":
		q.csv = true
	case "", "ndjson", "jsonl":
	default:
		return q, fmt.Errorf("format is %q; csv or ndjson", f)
	}
	return q, nil
}

func readTime(s string) (int64, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) || math.Abs(f) > 1e12 {
			return 0, errors.New("no time")
		}
		return int64(math.Round(f * 1000)), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return t.UnixMilli(), err
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := h.parse(r)
	if err != nil {
		problem(w, r, http.StatusBadRequest, "bad parameter", err.Error())
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		w.Header().Set("Retry-After", "10")
		problem(w, r, http.StatusTooManyRequests, "too many exports", fmt.Sprintf("%d run already; come again", h.o.Concurrency))
		return
	}
	querier, err := h.o.Queryable.Querier(q.from, q.to)
	if err != nil {
		h.o.Logger.Error("export failed", "err", err)
		problem(w, r, http.StatusInternalServerError, "the hub could not answer", "its log says why")
		return
	}
	defer func() { _ = querier.Close() }() // nothing was written
	head := w.Header()
	head.Set("Content-Type", "application/x-ndjson")
	if q.csv {
		head.Set("Content-Type", "text/csv; charset=utf-8")
	}
	head.Set("Vary", "Accept-Encoding")
	deadlines := http.NewResponseController(w)
	out := io.Writer(&patient{w: w, c: deadlines, d: h.o.Patience})
	var z *gzip.Writer
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		head.Set("Content-Encoding", "gzip")
		z, _ = gzip.NewWriterLevel(out, gzip.BestSpeed)
		out = z
	}
	if err := stream(r.Context(), querier, &q, out); err != nil {
		if r.Context().Err() == nil {
			h.o.Logger.Error("export ended early", "err", err)
		}
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
	if z != nil {
		_ = z.Close() // a client that has gone
	}
	_ = deadlines.SetWriteDeadline(time.Now().Add(h.o.Patience)) // for what is still to be flushed
}

// patient gives the client a time for each write. No deadline stays behind: HTTP/2 ends
// a stream when one passes, also while nothing is written because the store is read.
type patient struct {
	w io.Writer
	c *http.ResponseController
	d time.Duration
}

func (p *patient) Write(b []byte) (int, error) {
	_ = p.c.SetWriteDeadline(time.Now().Add(p.d)) // not every writer can
	n, err := p.w.Write(b)
	_ = p.c.SetWriteDeadline(time.Time{})
	return n, err
}

// onlySamples as Func of hints keeps a store from answering with what it has made of
// samples that are gone (tsdb.OnlySamples).
const onlySamples = "samples"

// stream writes all that is asked for.
func stream(ctx context.Context, querier storage.Querier, q *request, out io.Writer) error {
	sets := make([]storage.SeriesSet, len(q.where))
	hints := &storage.SelectHints{Start: q.from, End: q.to, Func: onlySamples}
	for i, m := range q.where {
		sets[i] = querier.Select(ctx, true, hints, m...)
	}
	set := sets[0]
	if len(sets) > 1 {
		set = storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	}
	b := bufio.NewWriterSize(out, 64<<10)
	var w writer = &jsonWriter{out: b}
	if q.csv {
		w = newCSV(b)
	}
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		if err := w.series(s.Labels()); err != nil {
			return err
		}
		it = s.Iterator(it)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if kind != chunkenc.ValFloat {
				continue
			}
			t, v := it.At()
			if t < q.from || t > q.to {
				continue
			}
			if err := w.sample(t, v); err != nil {
				return err
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := set.Err(); err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	return b.Flush()
}

// writer writes a format.
type writer interface {
	series(ls labels.Labels) error
	sample(t int64, v float64) error
	end() error
}

// perLine is how many samples stand in a line of JSON at most.
const perLine = 1000

type jsonWriter struct {
	out    *bufio.Writer
	metric []byte
	values []byte
	times  []byte
	n      int
}

func (w *jsonWriter) series(ls labels.Labels) error {
	if err := w.end(); err != nil {
		return err
	}
	var err error
	w.metric, err = json.Marshal(ls.Map())
	return err
}

func (w *jsonWriter) sample(t int64, v float64) error {
	if w.n > 0 {
		w.values, w.times = append(w.values, ','), append(w.times, ',')
	}
	w.n++
	if v-v != 0 {
		w.values = append(w.values, "null"...)
	} else {
		w.values = strconv.AppendFloat(w.values, v, 'g', -1, 64)
	}
	w.times = strconv.AppendInt(w.times, t, 10)
	if w.n == perLine {
		return w.end()
	}
	return nil
}

func (w *jsonWriter) end() error {
	if w.n == 0 {
		return nil
	}
	for _, part := range [][]byte{[]byte(`{"metric":`), w.metric, []byte(`,"values":[`), w.values, []byte(`],"timestamps":[`), w.times, []byte("]}\n")} {
		if _, err := w.out.Write(part); err != nil {
			return err
		}
	}
	w.values, w.times, w.n = w.values[:0], w.times[:0], 0
	return nil
}

// columns of CSV before the further labels, which stand together in the last one as
// NAME=VALUE with a semicolon between.
var columns = []string{"time", "quantity", "site", "edge", "device", "point", "value", "labels"}

type csvWriter struct {
	out *csv.Writer
	row []string
}

func newCSV(b *bufio.Writer) *csvWriter {
	w := &csvWriter{out: csv.NewWriter(b), row: make([]string, len(columns))}
	_ = w.out.Write(columns) // buffered: the error comes with Flush
	return w
}

func (w *csvWriter) series(ls labels.Labels) error {
	w.out.Flush()
	for i, name := range columns {
		w.row[i] = ls.Get(name)
	}
	w.row[1] = ls.Get(model.MetricNameLabel)
	var rest []string
	ls.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel && (l.Name == "labels" || l.Name == "time" || l.Name == "value" || l.Name == "quantity" || !slices.Contains(columns, l.Name)) {
			rest = append(rest, l.Name+"="+l.Value)
		}
	})
	w.row[len(columns)-1] = strings.Join(rest, ";")
	return w.out.Error()
}

func (w *csvWriter) sample(t int64, v float64) error {
	w.row[0] = time.UnixMilli(t).UTC().Format("2006-01-02T15:04:05.000Z")
	w.row[6] = ""
	if v-v == 0 {
		w.row[6] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return w.out.Write(w.row)
}

func (w *csvWriter) end() error {
	w.out.Flush()
	return w.out.Error()
}

func problem(w http.ResponseWriter, r *http.Request, status int, title, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // a client that has gone needs no answer
		"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": r.URL.Path,
	})
}
