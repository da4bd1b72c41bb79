// Package promapi answers the part of Prometheus' HTTP API that dashboards use,
// in Prometheus' exact shape, over any storage.Queryable with Prometheus' own
// query engine: query, query_range, labels, label/NAME/values, series, metadata,
// rules, alerts, format_query, query_exemplars (there are none) and
// status/buildinfo. Grafana's Prometheus data source works with it.
//
//	api, err := promapi.New(promapi.Options{Queryable: store.Queryable(), Quantities: catalogue})
//	mux.Handle("/prometheus/", http.StripPrefix("/prometheus", api))
//
// Errors have Prometheus' shape too, not that of the hub's other API:
//
//	{"status":"error","errorType":"bad_data","error":"invalid parameter \"step\": ..."}
//
// What a query may cost is bounded: in samples held, points per series, series
// listed, time, and queries at once; one more than that waits, and gives up when
// its time is over. A query that is refused says which limit it has met. Answers are
// written as they are made: what is held of one is its samples, 16 bytes each, and not
// its text. Queries give way: after some thousand samples whoever else needs the
// processor has it, and of those that have read a million samples few run at once.
package promapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// Options of an [API]. Only Queryable is needed.
type Options struct {
	Queryable  storage.Queryable
	Quantities telemetry.Quantities // answers /metadata

	// Alerts returns what is active, Rules what watches; either may be nil.
	Alerts func() ([]alert.Alert, error)
	Rules  func() []Rule

	MaxSamples  int           // that one query holds in memory; 10 million when 0
	MaxPoints   int           // per series of a range query; 11,000 when 0
	MaxSeries   int           // that one answer of /series lists; 100,000 when 0
	Timeout     time.Duration // of a query, waiting included; 30 s when 0
	Concurrency int           // queries at once; twice the number of processors, at least 4, when 0
	Large       int           // of these, that have read a million samples; half the number of processors when 0
	Patience    time.Duration // that a client has to begin reading an answer; 30 s when 0
	Lookback    time.Duration // how long a sample stands for its series; 5 min when 0

	largeFrom int // see the constants; others in tests
	slowest   int64

	// Version of the hub, for /status/buildinfo.
	Version string
	// Now is the clock; the system's when nil.
	Now func() time.Time
	// Logger, silent when nil.
	Logger *slog.Logger
	// Metrics of the engine (prometheus_engine_*), none when nil. One API per
	// registry.
	Metrics prometheus.Registerer
}

// engineVersion is the Prometheus release that the engine is from: clients decide
// by it what they may ask.
const engineVersion = "3.16.0"

// maxBody bounds the form of a POST request in bytes.
const maxBody = 1 << 20

// API is the handler. It is safe for concurrent use.
type API struct {
	options Options
	engine  *promql.Engine
	store   storage.Queryable // the Queryable, with its errors marked
	parser  parser.Parser
	slots   chan struct{}
	mux     *http.ServeMux
}

// New makes the handler, which serves /api/v1/...
func New(o Options) (*API, error) {
	if o.Queryable == nil {
		return nil, errors.New("promapi: no Queryable")
	}
	setDefault(&o.MaxSamples, 10_000_000)
	setDefault(&o.MaxPoints, 11_000)
	setDefault(&o.MaxSeries, 100_000)
	setDefault(&o.Timeout, 30*time.Second)
	setDefault(&o.Concurrency, max(4, 2*runtime.GOMAXPROCS(0)))
	setDefault(&o.Large, max(1, runtime.GOMAXPROCS(0)/2))
	setDefault(&o.largeFrom, largeFrom)
	setDefault(&o.slowest, slowestClient)
	setDefault(&o.Patience, 30*time.Second)
	setDefault(&o.Lookback, 5*time.Minute)
	if o.MaxSamples < 0 || o.MaxPoints < 0 || o.MaxSeries < 0 || o.Timeout < 0 || o.Patience < 0 || o.Concurrency < 0 || o.Large < 0 || o.Lookback < 0 {
		return nil, errors.New("promapi: a limit is negative")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{
		options: o,
		store:   marked{patientQueryable{o.Queryable, make(chan struct{}, o.Large), o.largeFrom}},
		parser:  parser.NewParser(parser.Options{}),
		slots:   make(chan struct{}, o.Concurrency),
		mux:     http.NewServeMux(),
	}
	a.engine = promql.NewEngine(promql.EngineOpts{
		Logger: o.Logger, Reg: o.Metrics, MaxSamples: o.MaxSamples, Timeout: o.Timeout, LookbackDelta: o.Lookback,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: a.parser,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
	for path, h := range map[string]func(context.Context, *http.Request) (answer, error){
		"/api/v1/query":       a.query,
		"/api/v1/query_range": a.queryRange,
		"/api/v1/labels":      a.labelNames,
		"/api/v1/series":      a.series,
	} {
		a.mux.Handle("GET "+path, a.limited(h))
		a.mux.Handle("POST "+path, a.limited(h))
	}
	a.mux.Handle("GET /api/v1/label/{name}/values", a.limited(a.labelValues))
	for path, h := range map[string]func(context.Context, *http.Request) (answer, error){
		"/api/v1/query_exemplars": a.nothing,
		"/api/v1/format_query":    a.formatQuery,
	} {
		a.mux.Handle("GET "+path, a.plain(h))
		a.mux.Handle("POST "+path, a.plain(h))
	}
	a.mux.Handle("GET /api/v1/rules", a.plain(a.rules))
	a.mux.Handle("GET /api/v1/alerts", a.plain(a.alerts))
	a.mux.Handle("GET /api/v1/metadata", a.plain(a.metadata))
	a.mux.Handle("GET /api/v1/status/buildinfo", a.plain(a.buildInfo))
	a.mux.Handle("/", a.plain(func(_ context.Context, r *http.Request) (answer, error) {
		return answer{}, failure{notFound, fmt.Errorf("there is no %s %s here", r.Method, r.URL.Path)}
	}))
	return a, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// answer is what an endpoint found. The finish, if any, is called when it has
// been written.
type answer struct {
	data     func(o *output) // writes it in JSON
	warnings []string
	infos    []string
	finish   func()
}

// errorType is a kind of failure, as Prometheus calls it, with its status.
type errorType struct {
	name string
	code int
}

var (
	badData  = errorType{"bad_data", http.StatusBadRequest}
	failed   = errorType{"execution", http.StatusUnprocessableEntity}
	timedOut = errorType{"timeout", http.StatusServiceUnavailable}
	canceled = errorType{"canceled", 499} // the client has gone
	internal = errorType{"internal", http.StatusInternalServerError}
	notFound = errorType{"not_found", http.StatusNotFound}
)

// failure is an error with its kind.
type failure struct {
	kind errorType
	err  error
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// invalid is what a parameter that cannot be used is answered with.
func invalid(parameter string, err error) error {
	return failure{badData, fmt.Errorf("invalid parameter %q: %w", parameter, err)}
}

// classify finds the kind of an error of the engine or of the store.
func classify(err error) failure {
	var f failure
	var queryTimeout promql.ErrQueryTimeout
	var queryCanceled promql.ErrQueryCanceled
	var store promql.ErrStorage
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &queryTimeout), errors.Is(err, context.DeadlineExceeded):
		return failure{timedOut, err}
	case errors.As(err, &queryCanceled), errors.Is(err, context.Canceled):
		return failure{canceled, err}
	case errors.As(err, &store), errors.Is(err, errStore):
		return failure{internal, err}
	}
	return failure{failed, err}
}

// plain serves what costs nothing.
func (a *API) plain(h func(context.Context, *http.Request) (answer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			a.fail(w, r, failure{badData, fmt.Errorf("cannot read the form: %w", err)})
			return
		}
		got, err := h(r.Context(), r)
		if got.finish != nil {
			defer got.finish()
		}
		if err != nil {
			a.fail(w, r, classify(err))
			return
		}
		o := a.newOutput(w, r, http.StatusOK)
		o.success(got)
		o.close()
	})
}

// limited serves what reads the store: at most so many at once, each for at most
// so long.
func (a *API) limited(h func(context.Context, *http.Request) (answer, error)) http.Handler {
	return a.plain(func(ctx context.Context, r *http.Request) (answer, error) {
		timeout := a.options.Timeout
		if s := r.FormValue("timeout"); s != "" {
			d, err := parseDuration(s)
			if err == nil && d <= 0 {
				err = fmt.Errorf("%q is not positive", s)
			}
			if err != nil {
				return answer{}, invalid("timeout", err)
			}
			timeout = min(timeout, d)
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		select {
		case a.slots <- struct{}{}:
		case <-ctx.Done():
			cancel()
			return answer{}, fmt.Errorf("%d queries are running already, none has ended in time: %w", a.options.Concurrency, ctx.Err())
		}
		var crowded atomic.Bool
		got, err := h(context.WithValue(ctx, crowdedKey{}, &crowded), r)
		if err != nil && crowded.Load() {
			err = failure{timedOut, fmt.Errorf("%d queries that read more than %s samples are running already, none has ended in time: %w", a.options.Large, thousands(a.options.largeFrom), err)}
		}
		finish := got.finish
		got.finish = func() {
			if finish != nil {
				finish()
			}
			<-a.slots
			cancel()
		}
		return got, err
	})
}

func (a *API) fail(w http.ResponseWriter, r *http.Request, f failure) {
	text := f.Error()
	if f.kind == internal {
		a.options.Logger.Error("query failed", "path", r.URL.Path, "query", r.FormValue("query"), "err", f.err)
		text = "the store could not be read"
	}
	o := a.newOutput(w, r, f.kind.code)
	o.b = appendFailure(o.b, f.kind.name, text)
	o.close()
}

// errStore marks that an error came from the store, which the engine does not
// tell in all cases from one of the query.
var errStore = errors.New("store")
