package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/history"
	"github.com/langbiang/langbiang/pkg/tsdb/influx"
	"github.com/langbiang/langbiang/pkg/tsdb/local"
	"github.com/langbiang/langbiang/pkg/tsdb/texts"
)

// lateWindow is added to what the edges keep: how far out of order the store
// takes samples.
const lateWindow = 15 * 24 * time.Hour

// inUse is what is said when another process has the data folder.
func (h *Hub) inUse() error {
	return fmt.Errorf("the data folder %s is in use by another process; stop it, or give this hub a data_dir of its own", h.plan.Config.DataDir)
}

// The kinds of stores.
const (
	storeLocal  = "local"
	storeInflux = "influx"
)

// What the embedded store's blocks are made of.
const (
	chunksPacked = "packed"
	chunksPlain  = "plain"
)

// openStore opens the store that hub.yaml chooses. The ledger is open.
func (h *Hub) openStore() error {
	open := h.openLocal
	if h.plan.Config.Store.Kind == storeInflux {
		open = h.openInflux
	}
	if err := open(); err != nil {
		return err
	}
	return h.openTexts()
}

// openTexts opens the log of the readings that no store of numbers keeps.
func (h *Hub) openTexts() error {
	c := &h.plan.Config.Store
	var err error
	h.texts, err = texts.Open(filepath.Join(h.plan.Config.DataDir, textsDir), texts.Options{MaxBytes: int64(c.Texts.MaxSize), Keep: c.Retention, Logger: h.logger})
	if errors.Is(err, tsdb.ErrLocked) {
		return h.inUse()
	}
	if err != nil {
		return err
	}
	need, err := h.texts.NeedRewind()
	if err != nil || !need {
		return err
	}
	if err := h.rewindAll("the log of texts was damaged", map[string]string{}); err != nil {
		return err
	}
	return h.texts.Rewound()
}

// openInflux makes the store on a server, which need not be up.
func (h *Hub) openInflux() error {
	c := &h.plan.Config.Store
	token := c.Influx.Token
	if c.Influx.TokenFile != "" {
		b, err := os.ReadFile(c.Influx.TokenFile)
		if err != nil {
			return fmt.Errorf("store.influx.token_file: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	delay := c.Influx.FlushDelay
	if delay == 0 {
		delay = -1
	}
	s, err := influx.Open(influx.Options{
		URL: c.Influx.URL, Org: c.Influx.Org, Bucket: c.Influx.Bucket, Token: token, QueryURL: c.QueryURL, FlushDelay: delay,
		Refused: filepath.Join(h.plan.Config.DataDir, "store-refused.ndjson"), Logger: h.logger, Metrics: h.metrics,
	})
	if err != nil {
		return err
	}
	h.store, h.storeStops = s, s.Stopping
	return nil
}

// queries lets the server of a store answer queries itself, where it has one, and
// everything else the API over the store.
func (h *Hub) queries(own http.Handler) (http.Handler, error) {
	c := &h.plan.Config.Store
	if c.Kind != storeInflux {
		return own, nil
	}
	to, err := url.Parse(c.QueryURL)
	if err != nil {
		return nil, fmt.Errorf("store.query_url: %w", err)
	}
	user := to.User
	to.User = nil
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header.Del("Cookie") // the hub's own
			r.Out.Header.Del("Authorization")
			if user != nil {
				password, _ := user.Password()
				r.Out.SetBasicAuth(user.Username(), password)
			}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			h.logger.Error("the store's server does not answer a query", "query", r.URL.RawQuery, "err", err)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(`{"status":"error","errorType":"internal","error":"the store's server does not answer; the hub's log says why"}`)) // a client that has gone needs no answer
		},
		ErrorLog: slog.NewLogLogger(h.logger.Handler(), slog.LevelDebug),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/query", "/api/v1/query_range":
			proxy.ServeHTTP(w, r)
		default:
			own.ServeHTTP(w, r)
		}
	}), nil
}

func (h *Hub) openLocal() error {
	cfg := &h.plan.Config
	var long *history.Options
	if l := &cfg.Store.Long; l.FiveMinutes > 0 {
		long = &history.Options{KeepFiveMinutes: l.FiveMinutes, KeepHours: l.Hours, Aggregate: history.Aggregations(h.plan.Quantities)}
	}
	s, err := local.Open(filepath.Join(cfg.DataDir, storeDir), local.Options{
		Retention: cfg.Store.Retention, MaxSize: int64(cfg.Store.MaxSize), OutOfOrder: cfg.Store.MaxAge + lateWindow,
		MinFree: int64(cfg.Store.MinFree), Plain: cfg.Store.Chunks == chunksPlain, Long: long, Logger: h.logger, Metrics: h.metrics,
	})
	if errors.Is(err, tsdb.ErrLocked) {
		return h.inUse()
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	h.store, h.local = s, s
	return h.rewind()
}

// rewind makes the edges send again what they keep, when the store has lost what
// had been durable.
func (h *Hub) rewind() error {
	r := h.local.Report()
	for _, d := range r.Damage {
		h.logger.Error("store damaged, part set aside", "path", d.Path, "reason", d.Reason, "folder", r.Folder)
	}
	if !r.NeedRewind {
		return nil
	}
	if err := h.rewindAll("the store lost what had been durable", map[string]string{"folder": r.Folder}); err != nil {
		return err
	}
	return h.local.Rewound()
}

// rewindAll forgets, durably, where the hub stands in the logs of all edges.
func (h *Hub) rewindAll(why string, detail map[string]string) error {
	edges, err := h.ledger.CheckpointedEdges()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	var list []ledger.Checkpoint
	for _, e := range edges {
		list = append(list, ledger.Checkpoint{Edge: e, Position: []byte{}, Rules: []byte{}})
	}
	if err := h.ledger.Checkpoint(list); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := h.ledger.RecordEvent(ledger.Event{Kind: "store_damaged", Text: why + "; all edges send again what they keep", Detail: detail}); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := h.ledger.Flush(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	h.logger.Warn("all edges are asked to send again what they keep", "edges", len(edges), "why", why)
	return nil
}
