package push

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of requests.
const (
	maxBody    = 16 << 20 // bytes as they are sent
	maxText    = 64 << 20 // bytes once decompressed
	maxUploads = 32       // bodies of one source that are read at once: a sender may be slow
	maxParsing = 2        // bodies that are taken apart at once
	retryAfter = "5"      // seconds, when the hub has too much to do
)

// Handler takes what senders post:
//
//	POST /api/v2/write, /write     line protocol; ?precision=
//	POST /api/v1/push              Prometheus remote write 1.0
//	GET  /ping, /health            as InfluxDB clients ask
//
// It answers 204 once everything is on disk; 400 with a problem document when rows
// could not be taken, which names them, while the others were taken and are on disk;
// 401, 413 and 415 when nothing was read; 503 with Retry-After when nothing is
// promised and the sender should come again.
type Handler struct {
	// Known says of a token that is not one of push.sources whether it is one of the
	// hub's own, and the source that it pushes for: "" when it is for something else. Set
	// it before serving; may be nil.
	Known func(token string) (source string, known bool)

	sources []*Source
	version string
	logger  *slog.Logger
	mux     *http.ServeMux
	parsing chan struct{}
	metrics *metrics
}

// NewHandler serves the sources. Metrics may be nil.
func NewHandler(sources []*Source, version string, reg prometheus.Registerer, logger *slog.Logger) *Handler {
	h := &Handler{
		sources: sources, version: version, logger: logger, mux: http.NewServeMux(),
		parsing: make(chan struct{}, maxParsing),
		metrics: newMetrics(reg, sources),
	}
	h.mux.HandleFunc("POST /api/v2/write", func(w http.ResponseWriter, r *http.Request) { h.write(w, r, h.lines) })
	h.mux.HandleFunc("POST /write", func(w http.ResponseWriter, r *http.Request) { h.write(w, r, h.lines) })
	h.mux.HandleFunc("POST /api/v1/push", func(w http.ResponseWriter, r *http.Request) { h.write(w, r, h.remote) })
	h.mux.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) {
		// The version is that of the protocol, which clients decide by.
		w.Header().Set("X-Influxdb-Version", "2.7.0")
		w.Header().Set("X-Influxdb-Build", "Langbiang")
		w.WriteHeader(http.StatusNoContent)
	})
	h.mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{ // the client's loss
			"name": "influxdb", "message": "ready for queries and writes", "status": "pass", "checks": []any{}, "version": "2.7.0", "commit": "langbiang " + h.version,
		})
	})
	return h
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// fault is an answer that is no success.
type fault struct {
	status int
	code   string // as InfluxDB's clients know it
	title  string
	detail string
	retry  bool
}

func (f *fault) Error() string { return f.title + ": " + f.detail }

// reader reads the rows of a request into the batch.
type reader func(s *Source, r *http.Request, body []byte, b *batch) error

func (h *Handler) write(w http.ResponseWriter, r *http.Request, read reader) {
	s, err := h.source(r)
	if err != nil {
		h.answer(w, r, nil, err, nil)
		return
	}
	b := newBatch(&s.cfg, s.now())
	err = h.take(w, r, s, b, read)
	s.refused.Add(uint64(b.refused))
	h.answer(w, r, s, err, b)
}

func (h *Handler) take(w http.ResponseWriter, r *http.Request, s *Source, b *batch, read reader) error {
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	default:
		return &fault{http.StatusServiceUnavailable, "unavailable", "too many senders", fmt.Sprintf("%d requests of source %s are being read already", maxUploads, s.cfg.ID), true}
	}
	if r.ContentLength > maxBody {
		return tooLarge(maxBody, "")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(maxBody, "")
	case err != nil:
		return &fault{http.StatusBadRequest, "invalid", "body not read", "the connection ended, or the body took too long to come: " + err.Error(), false}
	}
	select {
	case h.parsing <- struct{}{}:
	case <-r.Context().Done():
		return r.Context().Err()
	}
	err = read(s, r, body, b)
	<-h.parsing
	if err != nil {
		return err
	}
	return s.Write(r.Context(), b.readings)
}

func tooLarge(most int, what string) error {
	return &fault{http.StatusRequestEntityTooLarge, "request too large", "body too large", fmt.Sprintf("more than %d MiB%s; send in smaller parts", most>>20, what), false}
}

func tooMany(b *batch) error {
	return &fault{http.StatusRequestEntityTooLarge, "request too large", "too many rows", fmt.Sprintf("more than %d rows in one request; nothing was taken, send in smaller parts", b.maxRows), false}
}

// lines reads line protocol, compressed or not.
func (h *Handler) lines(s *Source, r *http.Request, body []byte, b *batch) error {
	switch t := mediaType(r); t {
	case "", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "application/vnd.influx.arrow":
		// Clients of every kind leave what their library thinks of.
	default:
		return &fault{http.StatusUnsupportedMediaType, "invalid", "wrong content type", fmt.Sprintf("%.60s is not line protocol; send text/plain", t), false}
	}
	prec, ok := precision(r.URL.Query().Get("precision"))
	if !ok {
		return &fault{http.StatusBadRequest, "invalid", "wrong precision", fmt.Sprintf("%.20q is none; write ns, us, ms or s", r.URL.Query().Get("precision")), false}
	}
	text := body
	switch enc := r.Header.Get("Content-Encoding"); enc {
	case "", "identity":
	case "gzip":
		var err error
		if text, err = gunzip(body); err != nil {
			return err
		}
	default:
		return &fault{http.StatusUnsupportedMediaType, "invalid", "wrong content encoding", fmt.Sprintf("%.40s is not known; send gzip or none", enc), false}
	}
	err := readLines(text, prec, s.table, b)
	if errors.Is(err, errRows) {
		return tooMany(b)
	}
	return err
}

func gunzip(body []byte) ([]byte, error) {
	z, err := gzip.NewReader(strings.NewReader(string(body)))
	if err != nil {
		return nil, &fault{http.StatusBadRequest, "invalid", "body not readable", "the header says gzip, and it is not: " + err.Error(), false}
	}
	text, err := io.ReadAll(io.LimitReader(z, maxText+1))
	if err != nil {
		return nil, &fault{http.StatusBadRequest, "invalid", "body not readable", "the gzip stream is damaged: " + err.Error(), false}
	}
	if len(text) > maxText {
		return nil, tooLarge(maxText, " once decompressed")
	}
	return text, nil
}

// remote reads Prometheus remote write.
func (h *Handler) remote(s *Source, r *http.Request, body []byte, b *batch) error {
	if t := mediaType(r); t != "" && t != "application/x-protobuf" {
		return &fault{http.StatusUnsupportedMediaType, "invalid", "wrong content type", fmt.Sprintf("%.60s is not remote write; send application/x-protobuf", t), false}
	}
	if p := r.Header.Get("Content-Type"); strings.Contains(p, "io.prometheus.write.v2") {
		return &fault{http.StatusUnsupportedMediaType, "invalid", "wrong protocol", "remote write 2.0 is not taken; use 1.0 (prometheus.WriteRequest)", false}
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "snappy" {
		return &fault{http.StatusUnsupportedMediaType, "invalid", "wrong content encoding", fmt.Sprintf("%.40s is not known; remote write is snappy", enc), false}
	}
	n, err := snappy.DecodedLen(body)
	if err != nil {
		return &fault{http.StatusBadRequest, "invalid", "body not readable", "it is not a snappy block", false}
	}
	if n > maxText {
		return tooLarge(maxText, " once decompressed")
	}
	// What a few bytes promise is not believed: snappy shrinks by 21 at most, but for
	// long runs of one byte.
	if n > 1<<20 && n/64 > len(body) {
		return &fault{http.StatusBadRequest, "invalid", "body not readable", "it unpacks to far more than such a request can", false}
	}
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return &fault{http.StatusBadRequest, "invalid", "body not readable", "the snappy block is damaged", false}
	}
	err = readRemote(raw, s.table, b)
	switch {
	case errors.Is(err, errRows):
		return tooMany(b)
	case err != nil:
		return &fault{http.StatusBadRequest, "invalid", "body not readable", err.Error(), false}
	}
	return nil
}

func mediaType(r *http.Request) string {
	t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// source returns the source that a request is for: by its token, of push.sources or of
// the hub; or, from the hub's
// own machine, one without a token, by the bucket, database or source that it names,
// or the only one.
func (h *Handler) source(r *http.Request) (*Source, error) {
	q := r.URL.Query()
	token := tokenOf(r)
	for _, s := range h.sources {
		if token != "" && s.cfg.Token != "" && same(s.cfg.Token, token) {
			return s, nil
		}
	}
	if token != "" && h.Known != nil {
		if id, known := h.Known(token); known {
			return h.sourceOf(id)
		}
	}
	open := slices.DeleteFunc(slices.Clone(h.sources), func(s *Source) bool { return s.cfg.Token != "" })
	if !local(r) {
		open = nil
	}
	names := slices.DeleteFunc([]string{q.Get("source"), q.Get("bucket"), q.Get("db")}, func(s string) bool { return s == "" })
	for _, s := range open {
		if slices.Contains(names, s.cfg.ID) {
			return s, nil
		}
	}
	switch {
	case len(open) == 1 && token == "":
		return open[0], nil
	case len(h.sources) == 0:
		return nil, &fault{http.StatusNotFound, "not found", "no sources", "this hub takes nothing over HTTP: add push.sources to hub.yaml", false}
	case len(open) > 1:
		return nil, &fault{http.StatusNotFound, "not found", "no such source", "name one with ?bucket= or ?source=; push.sources of hub.yaml has them", false}
	}
	return nil, &fault{http.StatusUnauthorized, "unauthorized", "no such token", "show the token of a source: Authorization: Token TOKEN, or Bearer", false}
}

// sourceOf returns the source that a token of the hub is for; also on the hub's own
// machine it pushes for no other.
func (h *Handler) sourceOf(id string) (*Source, error) {
	if id == "" {
		return nil, &fault{http.StatusForbidden, "forbidden", "this token does not push", "its role is another; langbiang-hub tokens new NAME --role source --source ID makes one that does", false}
	}
	for _, s := range h.sources {
		if s.cfg.ID == id {
			return s, nil
		}
	}
	return nil, &fault{http.StatusNotFound, "not found", "no such source", fmt.Sprintf("the token is for source %s, which push.sources of hub.yaml does not have", id), false}
}

// tokenOf returns what the sender shows, in any of the ways that clients have.
func tokenOf(r *http.Request) string {
	kind, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch strings.ToLower(kind) {
	case "token":
		if _, p, ok := strings.Cut(value, ":"); ok {
			return p // user:password, of 1.x clients
		}
		return strings.TrimSpace(value)
	case "bearer":
		return strings.TrimSpace(value)
	}
	if _, p, ok := r.BasicAuth(); ok {
		return p
	}
	return r.URL.Query().Get("p")
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	// A proxy on this machine is no proof of that.
	return err == nil && ip != nil && ip.IsLoopback() && r.Header.Get("Forwarded") == "" && r.Header.Get("X-Forwarded-For") == ""
}

// problem is the document: RFC 9457, with what InfluxDB's clients look for.
type problem struct {
	Type    string    `json:"type"`
	Title   string    `json:"title"`
	Status  int       `json:"status"`
	Detail  string    `json:"detail"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Rows    *int      `json:"rows,omitempty"`
	Taken   *int      `json:"taken,omitempty"`
	Refused *int      `json:"refused,omitempty"`
	Errors  []Problem `json:"errors,omitempty"`
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, s *Source, err error, b *batch) {
	var f *fault
	switch {
	case errors.As(err, &f):
	case errors.Is(err, ErrFull):
		f = &fault{http.StatusBadRequest, "invalid", "partial write", err.Error(), false}
	case errors.Is(err, ErrBusy), errors.Is(err, ErrDisk), errors.Is(err, ErrStopped):
		f = &fault{http.StatusServiceUnavailable, "unavailable", "not taken", err.Error() + "; send again", true}
	case err != nil && r.Context().Err() != nil:
		return // the sender is gone
	case err != nil:
		h.logger.Error("a write failed", "source", s.cfg.ID, "err", err)
		f = &fault{http.StatusServiceUnavailable, "unavailable", "not taken", "the hub's log says why; send again", true}
	case b.refused > 0:
		f = &fault{http.StatusBadRequest, "invalid", "partial write", "", false}
	default:
		h.metrics.count(s, http.StatusNoContent)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	p := problem{Type: "about:blank", Title: f.title, Status: f.status, Detail: f.detail, Code: f.code}
	if b != nil && (f.title == "partial write") {
		taken := max(0, b.rows-b.refused)
		p.Rows, p.Taken, p.Refused, p.Errors = &b.rows, &taken, &b.refused, b.problems
		if p.Detail == "" {
			p.Detail = fmt.Sprintf("%d rows were taken and are on disk, %d were not", taken, b.refused)
			if len(b.problems) > 0 {
				p.Detail += ": " + b.problems[0].String()
			}
		}
	}
	p.Message = p.Title + ": " + p.Detail
	h.metrics.count(s, f.status)
	if f.retry {
		w.Header().Set("Retry-After", retryAfter)
	}
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Token realm="langbiang"`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(p) // the sender's loss
}
