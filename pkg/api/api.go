// Package api is the hub's HTTP interface for the IOC and for the page: lists of
// sites, edges, devices, series, rules and alerts, and the alert stream.
//
//	GET  /api/v1/alerts            ?state= &isa_state= &severity= &site= &rule= &test= &from= &to= &limit= &cursor=
//	GET  /api/v1/alerts/{id}, /alerts/{id}/entries
//	GET  /api/v1/alerts/stream     server-sent events or NDJSON, resumed by Last-Event-ID or ?after=
//	GET  /api/v1/alerts/events     the same as pages of NDJSON; ?wait= for a long poll
//	GET  /api/v1/alerts/counts, /groups, /statistics
//	POST /api/v1/alerts/{id}/ACT, /alerts/acts    what people do, see [Acts]
//	GET  /api/v1/holds; POST /api/v1/holds, /holds/{id}/end
//	GET  /api/v1/sites, /edges, /devices, /series, /rules, /rules/status
//	POST /api/v1/edges/{id}/ask    see [Asking]
//	GET, PUT, DELETE /api/v1/edges/{id}/config; GET .../config/history, /running; POST .../config/adopt
//	POST /api/v1/rules/{id}/backtest
//	POST /api/v1/rules/reload, /rules/{id}/test
//	GET  /api/v1/store             what is kept and for how long
//	GET  /api/v1/texts             ?site= &edge= &device= &point= &quantity= &from= &to= &limit= &cursor=
//	POST /api/v1/backup            see [Backups]
//	GET  /api/v1/page, /page/outlines             settings of the page
//	GET  /healthz, /readyz
//
// The filters severity, site and rule take several values with commas between them.
// Lists answer {"items": [...], "next": cursor}; next is absent on the last
// page. Errors are RFC 9457 problem documents. Times are RFC 3339 with offset.
//
// The package declares what it reads (see [Alerts], [Fleet]) and knows nothing
// of where it comes from. A [Handler] is safe for concurrent use.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// ErrBadCursor is what a reader answers to a cursor that it did not give out.
var ErrBadCursor = errors.New("bad cursor")

// Alerts is the alert log as the API reads it. All methods are safe for
// concurrent use and show only what is on disk.
type Alerts interface {
	feed.Log
	feed.Past
	Alert(id string) (alert.Alert, bool, error)
	// List returns alerts newest first, and the cursor of the next page or "".
	// A cursor that it did not give out is ErrBadCursor.
	List(f Filter, cursor string, limit int) ([]alert.Alert, string, error)
}

// Filter chooses alerts. A zero field chooses all; a list chooses those that
// equal any of its words; From and To choose the episodes that stood at some
// time in [From, To).
type Filter struct {
	State    alert.State
	ISA      []alert.ISAState
	Test     *bool // nil: tests and others
	Severity []alert.Severity
	Site     []string
	Rule     []string
	From, To time.Time
}

// Fleet is what the hub knows of sites, edges, devices and series. Each method
// returns a fresh slice, in any order; safe for concurrent use.
type Fleet interface {
	Sites() []Site
	Edges() []Edge
	Devices() []Device
	Series() []Series
	// Watched returns the series that a rule watches, and whether there is such a rule.
	Watched(rule string) ([]Series, bool)
	Rules() []Rule
}

// Site is a commune-level place with its present alerts.
type Site struct {
	ID       string         `json:"id"`
	Name     telemetry.Text `json:"name"`
	Province string         `json:"province,omitempty"`
	Lat      float64        `json:"lat"`
	Lon      float64        `json:"lon"`
	Former   []string       `json:"former,omitempty"`
	Edges    []string       `json:"edges"`
	Active   int            `json:"active_alerts"`
	Severity alert.Severity `json:"severity"` // worst active one, "" when none
}

// Edge is one agent as the hub sees it.
type Edge struct {
	ID            string     `json:"id"`
	Site          string     `json:"site"`
	Connected     bool       `json:"connected"`
	LastSeen      *time.Time `json:"last_seen"`
	Version       string     `json:"version,omitempty"`
	Epoch         string     `json:"epoch,omitempty"`
	Sequence      uint64     `json:"sequence"`
	Watermark     *time.Time `json:"watermark"`
	ClockOffsetMS *int64     `json:"clock_offset_ms"`
	Backlog       bool       `json:"backlog"` // its watermark is far behind
	Status        string     `json:"status"`  // ok; or why nothing is acknowledged: fork, clone, clock, refused, version; or disk: the edge's disk refuses its log; limit: some of its series are refused; or, for ten minutes, reinstalled or restored (the hub)
	Detail        string     `json:"detail,omitempty"`
	Frames        uint64     `json:"frames"`
	Readings      uint64     `json:"readings"`
	Late          uint64     `json:"late_readings"`
	Series        int        `json:"series"`
	// SeriesRefused are those that there is no room for (ingest.max_series), and
	// ReadingsRefused what they brought since the hub started.
	SeriesRefused   int     `json:"series_refused"`
	ReadingsRefused uint64  `json:"readings_refused"`
	Pushed          bool    `json:"pushed"` // a source inside the hub, see push.sources
	Gaps            []Gap   `json:"gaps"`
	Unobserved      []Gap   `json:"unobserved"`         // times in which the edge did not look
	Unsent          *uint64 `json:"log_unsent_bytes"`   // of its log, when it last said hello
	Platform        string  `json:"platform,omitempty"` // such as linux/arm64
	ClockTrusted    bool    `json:"clock_trusted"`      // the edge's own opinion
	Ask             string  `json:"ask,omitempty"`      // on: it can be asked, see [Asking]; off: its owner does not want that; absent: it cannot
	// Configuration is null where none is kept: of sources of pushed data.
	Configuration *ConfigStatus `json:"configuration"`
}

// Gap is a range of readings that an edge had and cannot give.
type Gap struct {
	From     *time.Time `json:"from"` // event time, as far as known
	To       *time.Time `json:"to"`
	Reason   string     `json:"reason"`
	Recorded time.Time  `json:"recorded"`
}

// Device is one sensor or camera.
type Device struct {
	ID         string     `json:"id"`
	Site       string     `json:"site"`
	Edge       string     `json:"edge"`
	Profile    string     `json:"profile,omitempty"`
	Revision   string     `json:"revision,omitempty"`
	Connection string     `json:"connection"`
	Address    string     `json:"address"`
	Up         *bool      `json:"up"` // null: never heard of
	Reason     string     `json:"reason,omitempty"`
	Since      *time.Time `json:"since"`
	Hardware   []Hardware `json:"hardware,omitempty"` // oldest first; the last is what stands there now
}

// Hardware is one piece of hardware that a device has been, as a technician noted it.
type Hardware struct {
	Serial string     `json:"serial"`
	Note   string     `json:"note,omitempty"`
	Since  *time.Time `json:"since"` // null: not known
}

// Series is one series with its newest value.
type Series struct {
	Site     string            `json:"site"`
	Edge     string            `json:"edge"`
	Device   string            `json:"device"`
	Point    string            `json:"point"`
	Quantity string            `json:"quantity"`
	Label    telemetry.Text    `json:"label"`
	Unit     string            `json:"unit"`
	Decimals int               `json:"decimals"`
	Labels   map[string]string `json:"labels,omitempty"`
	Value    *float64          `json:"value"`
	Text     string            `json:"text,omitempty"`
	Time     *time.Time        `json:"time"`
	Quality  string            `json:"quality"`
}

// Rule is one rule in force, what it watches, and what it has done.
type Rule struct {
	ID          string            `json:"id"`
	Version     string            `json:"version"` // names how it judges; part of its alerts' identity
	Kind        string            `json:"kind"`
	Title       telemetry.Text    `json:"title"`
	JudgedBy    string            `json:"judged_by"` // event time, or hub clock
	Quantity    string            `json:"quantity"`
	Unit        string            `json:"unit"`               // of what it judges
	Where       string            `json:"where,omitempty"`    // which of the quantity's series; all when absent
	Judges      string            `json:"judges,omitempty"`   // what of a series; the reading itself when absent
	Compares    string            `json:"compares,omitempty"` // above, below, outside or inside; absent where the kind says it
	Severities  []Limit           `json:"severities"`
	Overrides   int               `json:"overrides,omitempty"`   // groups of series with limits of their own
	Schedule    string            `json:"schedule,omitempty"`    // when; always when absent
	Bad         string            `json:"bad,omitempty"`         // what bad readings do
	Maintenance string            `json:"maintenance,omitempty"` // what readings with the reason maintenance do
	Query       string            `json:"query,omitempty"`       // of kind expression
	Every       string            `json:"every,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Procedure   string            `json:"procedure,omitempty"` // what to do (SOP)
	Links       map[string]string `json:"links,omitempty"`     // addresses by name, procedure among them
	Citation    string            `json:"source,omitempty"`    // where the limits come from
	Position    string            `json:"position"`            // file:line:col
	BuiltIn     bool              `json:"built_in"`

	// State is how it is with the rule: firing, ok, no_series (it matches none: it never
	// fires), no_data (none of its series has had a reading since the hub started), or
	// failing (its expression could not be evaluated the last time).
	State      string     `json:"state"`
	Matched    int        `json:"matched_series"`                 // of kind expression: of the newest result; of edge_offline: edges
	WithData   int        `json:"series_with_data"`               // those that have had a reading since the hub started
	NewestData *time.Time `json:"newest_data"`                    // event time
	Filling    *time.Time `json:"window_filling_until,omitempty"` // its windows began empty and are full then, in event time
	Active     int        `json:"active"`                         // alerts
	LastFired  *time.Time `json:"last_fired"`                     // start of its newest alert

	Evaluations *Evaluations `json:"evaluations,omitempty"` // of kind expression
}

// Evaluations is what became of an expression since the hub started.
type Evaluations struct {
	Count     uint64     `json:"count"`
	Failures  uint64     `json:"failures"`
	Newest    *time.Time `json:"newest"`
	TookMS    int64      `json:"took_ms"`
	Error     string     `json:"error"` // of the newest; empty when it succeeded
	LastError *time.Time `json:"last_error"`
}

// Limit is one step of a rule's ladder.
type Limit struct {
	Severity alert.Severity `json:"severity"`
	Level    *alert.Level   `json:"level,omitempty"` // of a national ladder
	Limit    float64        `json:"limit"`
	Clear    float64        `json:"clear"`
	Low      *float64       `json:"low,omitempty"`       // of a band, whose upper end is Limit
	ClearLow *float64       `json:"clear_low,omitempty"` // of the band by which it is back, whose upper end is Clear
	Is       []string       `json:"is,omitempty"`        // of kind state, in place of Limit
	For      string         `json:"for"`
	ClearFor string         `json:"clear_for"`
}

// Config makes a [Handler].
type Config struct {
	Alerts Alerts
	Acts   Acts      // nil: alerts can be read only
	Rules  RuleAdmin // nil: rules can be read only
	// Identify says who makes a request. Nil: nobody signs in, and the hub's own
	// machine may do everything.
	Identify   Identify
	Audit      Audit     // may be nil
	Accounts   Accounts  // nil: nobody can sign in
	Enrolment  Enrolment // nil: no gateway can be let in
	Framed     bool      // pages of other sites may show the hub's in a frame
	Fleet      Fleet
	SiteGroups func(site string) []string // the groups of a site; nil: there are none
	Source     string                     // of events, see [feed.Event]; [feed.DefaultSource] when empty
	Edges      EdgeAdmin                  // may be nil
	Asking     Asking                     // nil: agents cannot be asked
	Configs    EdgeConfigs                // nil: edges are not configured from here
	Backups    Backups                    // may be nil
	Store      Store                      // may be nil
	Deliveries Deliveries                 // may be nil
	CAP        *CAP                       // nil: no CAP documents
	Ready      func() error               // nil: ready; an error says why not
	Push       http.Handler               // takes pushed data; may be nil
	Export     http.Handler               // streams samples; may be nil
	Prometheus http.Handler               // mounted at /prometheus/api/v1/
	Metrics    http.Handler               // mounted at /metrics
	Login      http.Handler               // mounted at /login, for everybody; may be nil
	Page       http.Handler               // everything else
	Backtests  Backtests                  // may be nil
	// PageSettings and Outlines (a GeoJSON document; may be nil) are for the page.
	PageSettings PageSettings
	Outlines     []byte
	Logger       *slog.Logger
	// Done ends the streams when it is closed, so that a shutdown need not wait for them.
	Done <-chan struct{}
	// Heartbeat is the time between comments on an idle stream; 15 s when zero.
	Heartbeat time.Duration
	// MaxStreams bounds the streams that are open at once; 1,000 when zero.
	MaxStreams int
}

// Handler serves the API.
type Handler struct {
	cfg     Config
	mux     *http.ServeMux // see mount
	mounted []string       // all patterns of it
	routes  []string       // those that openapi.yaml describes
	guarded http.Handler   // mux, for browsers only from our own pages
	streams chan struct{}
}

// New makes the handler.
func New(cfg Config) *Handler {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 15 * time.Second
	}
	if cfg.Source == "" {
		cfg.Source = feed.DefaultSource
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 1000
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux(), streams: make(chan struct{}, cfg.MaxStreams)}
	h.handle("GET /api/v1/alerts", h.listAlerts)
	h.handle("GET /api/v1/alerts/{id}", h.getAlert)
	h.handle("GET /api/v1/alerts/stream", h.stream)
	h.handle("GET /api/v1/alerts/events", h.listEvents)
	h.handle("GET /api/v1/sites", h.listSites)
	h.handle("GET /api/v1/edges", h.listEdges)
	h.handle("GET /api/v1/devices", h.listDevices)
	h.handle("GET /api/v1/series", h.listSeries)
	h.handle("GET /api/v1/rules", h.listRules)
	h.mountActs()
	h.mountRules()
	h.mountEdges()
	h.mountEdgeConfigs()
	h.mountBackups()
	h.mountStore()
	h.mountDeliveries()
	h.mountCAP()
	h.mountPage()
	h.mountAccounts()
	h.mountEnrolment()
	h.handle("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	h.handle("GET /readyz", h.ready)
	h.mountOpenAPI()
	h.mount("/api/", func(w http.ResponseWriter, r *http.Request) {
		h.problem(w, r, http.StatusNotFound, "no such resource", "the paths are listed at /api")
	})
	if cfg.Metrics != nil {
		h.handle("GET /metrics", cfg.Metrics.ServeHTTP)
	}
	if cfg.Export != nil {
		h.handle("GET /api/v1/export", cfg.Export.ServeHTTP)
	}
	if cfg.Push != nil {
		for _, path := range []string{"POST /api/v2/write", "POST /write", "POST /api/v1/push", "GET /ping", "GET /health"} {
			h.handle(path, cfg.Push.ServeHTTP)
		}
	}
	if cfg.Prometheus != nil {
		h.mount("/prometheus/", http.StripPrefix("/prometheus", cfg.Prometheus).ServeHTTP)
	}
	if cfg.Login != nil {
		h.mount("GET /login", cfg.Login.ServeHTTP)
		h.mount("GET /login/", cfg.Login.ServeHTTP)
	}
	if cfg.Page != nil {
		h.mount("/", cfg.Page.ServeHTTP)
	}
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cfg.Audit != nil {
			cfg.Audit(r, nil, "request", r.URL.Path, "refused: a page of another site sent it")
		}
		h.problem(w, r, http.StatusForbidden, "from another site", "a browser sent this for a page that is not the hub's own")
	}))
	h.guarded = guard.Handler(h.mux)
	return h
}

// handle mounts a resource of the API. Its pattern is METHOD PATH; what is mounted
// this way must stand in [operations], see TestEveryRouteIsDescribed.
func (h *Handler) handle(pattern string, f http.HandlerFunc) {
	h.routes = append(h.routes, pattern)
	h.mount(pattern, f)
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hd := w.Header()
	hd.Set("X-Content-Type-Options", "nosniff")
	hd.Set("Referrer-Policy", "same-origin")
	hd.Set("Cross-Origin-Opener-Policy", "same-origin")
	// Of what is no page; the page has a policy of its own.
	hd.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if r.TLS != nil {
		hd.Set("Strict-Transport-Security", "max-age=31536000")
	}
	h.guarded.ServeHTTP(w, r)
}

func (h *Handler) ready(w http.ResponseWriter, _ *http.Request) {
	if h.cfg.Ready != nil {
		if err := h.cfg.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
	}
	plain(w, http.StatusOK, "ready")
}

// internal answers an error of ours: the client learns that it failed, the log why.
func (h *Handler) internal(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	h.cfg.Logger.Error("request failed", "path", r.URL.Path, "err", err)
	h.problem(w, r, http.StatusInternalServerError, "the hub could not answer", "its log says why")
}
