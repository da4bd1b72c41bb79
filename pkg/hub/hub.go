package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/langbiang/langbiang/pkg/alert/deliver"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/api/export"
	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/bus"
	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/derive"
	"github.com/langbiang/langbiang/pkg/fleet"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/push"
	"github.com/langbiang/langbiang/pkg/questions"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/local"
	"github.com/langbiang/langbiang/pkg/tsdb/texts"
	"github.com/langbiang/langbiang/pkg/web"
)

// Hub is an opened hub. Open, then Run once, then Close.
type Hub struct {
	plan       *Plan
	logger     *slog.Logger
	metrics    *prometheus.Registry
	ledger     *ledger.Ledger
	store      tsdb.Store
	local      *local.Store // the store when it is embedded, else nil
	texts      *texts.Log
	storeStops func() // lets a store on a server no longer wait for it; may be nil
	bus        *bus.Bus
	engine     *rules.Engine
	clock      *rules.ByClock // of the goroutine that settles
	failing    failing
	fired      map[string]time.Time // start of each rule's newest alert when the hub started
	cut        cutOff
	rules      ruleReloads
	ingest     *ingest.Ingest
	asker      *questions.Asker
	sources    sources
	derived    *derive.Deriver // nil: none
	registry   *registry
	configs    *fleet.Fleet
	access     *access
	backedUp   backedUp
	deliveries carriers
	delivered  deliver.Config // what deliveries were made of; of the goroutine that reloads
	listener   net.Listener
	server     *http.Server
	control    net.Listener  // for commands on this machine; nil: it could not be made
	restart    chan struct{} // of capacity 1; see [ErrRestart]
	streams    chan struct{} // closed when alert streams must end
}

// maxConnections bounds the connections of browsers and programs: those that say
// nothing must not take what gateways and the store need.
const maxConnections = 8192

// ErrRestart is what Run returns when the hub is to be opened anew, with the same plan.
var ErrRestart = errors.New("the hub starts anew")

// Open prepares a hub: takes its data folder, opens ledger and store, listens.
// Nothing is received or served before Run.
func Open(plan *Plan, version string, logger *slog.Logger) (h *Hub, err error) {
	cfg := &plan.Config
	h = &Hub{plan: plan, logger: logger, metrics: prometheus.NewRegistry(), streams: make(chan struct{}), restart: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			_ = h.Close() // the first error is the one to tell
			h = nil
		}
	}()
	h.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
		return h, fmt.Errorf("data folder: %w", err)
	}
	if err := notRestoring(cfg.DataDir); err != nil {
		return h, err
	}
	h.ledger, err = ledger.Open(filepath.Join(cfg.DataDir, ledgerDir), ledger.Options{Logger: logger, Metrics: h.metrics})
	if errors.Is(err, ledger.ErrLocked) {
		return h, h.inUse()
	}
	if err != nil {
		return h, fmt.Errorf("ledger: %w", err)
	}
	if err := h.backedUp.open(h.ledger, h.metrics); err != nil {
		return h, err
	}
	// The folder is ours now; from here on commands and browsers wait for Run.
	h.control = settings.ListenControl(filepath.Join(cfg.DataDir, socketName), logger)
	if h.listener, err = net.Listen("tcp", cfg.HTTP.Listen); err != nil {
		return h, fmt.Errorf("http.listen: %w; stop the program that has this address, or choose another", err)
	}
	if err := h.openAccess(); err != nil {
		return h, err
	}
	if sites := h.access.withSites(plan.Sites); len(sites) > len(plan.Sites) {
		with := *plan
		with.Sites = sites
		plan, h.plan = &with, &with
	}
	if err := h.openStore(); err != nil {
		return h, err
	}
	if err := h.loadRules(); err != nil {
		return h, err
	}
	if err := h.recallAlerts(); err != nil {
		return h, err
	}
	if h.fired, err = h.ledger.LastStarts(); err != nil {
		return h, fmt.Errorf("ledger: %w", err)
	}
	if err := h.judgeByClock(); err != nil {
		return h, err
	}
	h.metrics.MustRegister(newRuleCollector(h))
	if err := h.openSources(version); err != nil {
		return h, err
	}
	if err := h.openDerived(version); err != nil {
		return h, err
	}
	if h.registry, err = newRegistry(h.ledger, plan, logger); err != nil {
		return h, err
	}
	h.bus, err = bus.Open(h.access.busConfig(bus.Config{Listen: cfg.MQTT.Listen, DataDir: filepath.Join(cfg.DataDir, "bus"), Insecure: cfg.MQTT.Insecure}), logger, h.metrics)
	switch {
	case errors.Is(err, bus.ErrInUse):
		return h, h.inUse()
	case errors.Is(err, bus.ErrListen):
		return h, fmt.Errorf("mqtt.listen: %w; stop the program that has this address, or choose another", err)
	case err != nil:
		return h, fmt.Errorf("bus: %w", err)
	}
	h.asker = questions.NewAsker(func(edge string, payload []byte) error { return h.bus.Publish(edge, bus.KindAsk, payload) })
	edges, err := h.ledger.CheckpointedEdges()
	if err != nil {
		return h, fmt.Errorf("ledger: %w", err)
	}
	h.ingest, err = ingest.New(ingest.Config{
		CheckpointEvery: cfg.Ingest.CheckpointEvery, MaxSeries: cfg.Ingest.MaxSeries, MaxSeriesAll: cfg.Ingest.MaxSeriesAll, MaxNewSeries: cfg.Ingest.MaxNewSeries, MaxLabelBytes: cfg.Ingest.MaxLabelBytes, RefusedDir: filepath.Join(cfg.DataDir, "refused"), Edges: edges,
		Logger: logger, Registerer: h.metrics, SampleError: sampleError, OnHello: h.hello, OnUnobserved: h.noteUnobserved, Pushed: h.sources.has, OnLate: h.late,
	}, ingest.Parts{
		Store: storePart{h.store, h.texts}, Texts: h.texts, Rules: rulesPart{h.engine}, Bands: h.engine, Ledger: ledgerPart{h.ledger, h.derived}, Registry: h.registry, Bus: carrier{h.bus, h.sources},
	})
	if err != nil {
		return h, fmt.Errorf("ingest: %w", err)
	}
	if err := h.openEdgeConfigs(); err != nil {
		return h, err
	}
	if err := h.openDeliveries(); err != nil {
		return h, err
	}
	if err := settings.NoteUse(cfg.DataDir, program, version, time.Now()); err != nil {
		logger.Warn("which program uses the data folder cannot be noted", "err", err)
	}
	return h, h.serve(version)
}

// sampleError tells the errors of a sample from those of the store.
func sampleError(err error) bool {
	return errors.Is(err, tsdb.ErrAhead) || errors.Is(err, tsdb.ErrInvalidSeries)
}

// serve prepares the HTTP side.
func (h *Hub) serve(version string) error {
	look := &h.plan.Config.Page
	page, err := web.Handler(web.Config{Frames: look.Frames, Images: look.images()})
	if err != nil {
		return err
	}
	prom, err := promapi.New(promapi.Options{
		Queryable: h.store.Queryable(), Quantities: h.plan.Quantities, Version: version, Logger: h.logger, Alerts: h.activeAlerts, Rules: h.promRules,
	})
	if err != nil {
		return fmt.Errorf("query API: %w", err)
	}
	queries, err := h.queries(prom)
	if err != nil {
		return err
	}
	pushed := push.NewHandler(h.sources.list(&h.plan.Config.Push), version, h.metrics, h.logger)
	pushed.Known = func(token string) (string, bool) {
		g, known := h.access.users.Token(token)
		return g.Source, known
	}
	login, err := web.Login(look.Frames)
	if err != nil {
		return err
	}
	identify := h.access.identify
	if h.plan.Config.HTTP.Auth == authOff {
		identify = nil
	}
	var handler http.Handler = api.New(api.Config{
		Identify: identify, Audit: h.access.audit, Accounts: accounts{h.access}, Enrolment: enrolment{h.access},
		Alerts: alertsPart{h.ledger}, Acts: h.ledger, Rules: ruleAdmin{h}, Fleet: &fleetPart{hub: h}, SiteGroups: h.siteGroups, Edges: &fleetPart{hub: h}, Asking: asking{h}, Configs: edgeConfigs{h}, Store: storeView{h}, Backups: &backups{hub: h, version: version, busy: make(chan struct{}, 1)},
		Deliveries: deliveriesPart{&h.deliveries, h.ledger}, CAP: h.capPart(), Source: h.plan.Config.Deliver.PublicURL, Ready: h.Ready,
		Export:     h.confined(export.New(export.Options{Queryable: promapi.Confine(promapi.GiveWay(h.store.Queryable())), Logger: h.logger})),
		Push:       pushed,
		Prometheus: h.confined(queries),
		Metrics:    promhttp.HandlerFor(h.metrics, promhttp.HandlerOpts{}),
		Login:      login, Page: page, Framed: len(look.Frames) > 0, Logger: h.logger, Done: h.streams,
		Backtests: &pastRules{h: h}, Outlines: h.plan.Outlines,
		PageSettings: api.PageSettings{Version: version, Tiles: look.Tiles, Attribution: look.Attribution},
	})
	if h.plan.Config.HTTP.Pprof {
		handler = profiles(handler)
	}
	h.server = &http.Server{
		Handler: handler,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if c.LocalAddr().Network() == "unix" {
				return api.WithWho(ctx, &api.Who{Name: "console", Role: api.Admin, Console: true})
			}
			return ctx
		},
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(h.logger.Handler(), slog.LevelDebug),
	}
	if h.plan.httpTLS() {
		if h.server.TLSConfig, err = h.access.httpTLS(); err != nil {
			return err
		}
	}
	return nil
}

// confined lets somebody of some sites query those alone.
func (h *Hub) confined(prom http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who := api.WhoOf(r); who != nil && who.Sees != nil {
			if h.plan.Config.Store.Kind == storeInflux {
				http.Error(w, "the store's own server answers queries, and cannot be confined to your sites", http.StatusForbidden)
				return
			}
			sites := []string{}
			for _, s := range (&fleetPart{hub: h}).Sites() {
				if who.Sees(s.ID) {
					sites = append(sites, s.ID)
				}
			}
			r = r.WithContext(promapi.WithSites(r.Context(), sites))
		}
		prom.ServeHTTP(w, r)
	})
}

// Addr is where the page is served: host:port.
func (h *Hub) Addr() string { return h.listener.Addr().String() }

// BusAddr is where edges connect: host:port.
func (h *Hub) BusAddr() string { return h.bus.Addr() }

// Ready says why the hub is not ready, nil when it is.
func (h *Hub) Ready() error {
	if err := h.ledger.Err(); err != nil {
		return err
	}
	if !h.plan.Config.Clock.RequireSync {
		return nil
	}
	switch ok, err := clock.Synchronised(); {
	case err != nil:
		return fmt.Errorf("the system cannot say whether its clock is synchronised (%w); set clock.require_sync: false if you know it is", err)
	case !ok:
		return errors.New("the system's clock is not synchronised; start a time service, or set clock.require_sync: false if the machine's host keeps the time")
	}
	return nil
}

// Run receives and serves until ctx ends, or until store or ledger fail: then the
// process must end, and the next start goes on from the last checkpoint.
func (h *Hub) Run(ctx context.Context) error {
	if err := h.Ready(); err != nil {
		h.logger.Warn("not ready", "reason", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	start := func(what string, run func() error) {
		wg.Go(func() {
			if err := run(); err != nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	start("ingest", func() error { return h.ingest.Run(ctx) })
	start("alerts", func() error { return h.keepAlerts(ctx) })
	start("configurations", func() error { return h.configs.Run(ctx) })
	start("rules", func() error { return h.settle(ctx) })
	start("deliveries", func() error { return h.deliveries.Run(ctx) })
	serve := func(l net.Listener, encrypted bool) func() error {
		return func() error {
			run := func() error { return h.server.Serve(l) }
			if encrypted {
				run = func() error { return h.server.ServeTLS(l, "", "") }
			}
			if err := run(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		}
	}
	start("http", serve(netutil.LimitListener(h.listener, maxConnections), h.server.TLSConfig != nil))
	if h.control != nil {
		start("control", serve(h.control, false))
	}
	wg.Go(func() {
		select {
		case <-h.restart:
			cancel(ErrRestart)
		case <-ctx.Done():
		}
	})
	sctx, stopSources := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSources()
	sourcesDone := h.sources.run(sctx, func(err error) { cancel(fmt.Errorf("push: %w", err)) })
	if h.derived != nil {
		start("derived series", func() error { return h.derived.Run(ctx) })
	}
	if err := h.bus.Subscribe(h.receive); err != nil {
		cancel(fmt.Errorf("bus: %w", err))
	}
	h.logger.Info("hub runs", "page", h.access.url()+"/", "mqtt", h.BusAddr(), "sites", len(h.plan.Sites), "rules", h.plan.Set.Written().Len())
	if link := h.access.setupLink(); link != "" {
		h.logger.Warn("nobody can sign in yet: open this link to make the administrator; it works once", "link", link)
	}
	h.notify(daemon.SdNotifyReady)
	h.watchdog(ctx, &wg)
	wg.Go(func() { trimStacks(ctx) })
	<-ctx.Done()
	if errors.Is(context.Cause(ctx), ErrRestart) {
		h.notify(daemon.SdNotifyReloading) // a service that says it stops is killed a little later
	} else {
		h.notify(daemon.SdNotifyStopping)
	}
	if h.storeStops != nil {
		h.storeStops()
	}
	close(h.streams)
	shut, done := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer done()
	if err := h.server.Shutdown(shut); err != nil {
		_ = h.server.Close() // requests that would not end
	}
	stopSources() // nobody writes any more
	sourcesDone()
	wg.Wait()
	if err := h.bus.Flush(shut); err != nil {
		h.logger.Debug("last acknowledgements not delivered", "err", err)
	}
	h.logger.Info("hub stopped")
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// watchdog tells the service manager that the hub lives, as long as its ledger
// can be written.
func (h *Hub) watchdog(ctx context.Context, wg *sync.WaitGroup) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	wg.Go(func() {
		tick := time.NewTicker(every / 2)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if h.ledger.Err() == nil {
					h.notify(daemon.SdNotifyWatchdog)
				}
			case <-ctx.Done():
				return
			}
		}
	})
}

func (h *Hub) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		h.logger.Debug("service manager not told", "err", err)
	}
}

// Close releases everything that Open took, in the order of the data: the bus
// first, the ledger last.
func (h *Hub) Close() error {
	var errs []error
	if h.listener != nil {
		_ = h.listener.Close() // closed already when the server ran
	}
	if h.control != nil {
		_ = h.control.Close() // likewise
	}
	if h.bus != nil {
		errs = append(errs, h.bus.Close())
	}
	errs = append(errs, h.sources.close())
	if h.store != nil {
		errs = append(errs, h.store.Close())
	}
	if h.texts != nil {
		errs = append(errs, h.texts.Close())
	}
	if h.ledger != nil {
		errs = append(errs, h.ledger.Close())
	}
	return errors.Join(errs...)
}
