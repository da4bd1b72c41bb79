package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/identity/enrol"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/questions"
	"github.com/langbiang/langbiang/pkg/uplink"
	"github.com/langbiang/langbiang/pkg/wire"
)

// drainTime is how long a stopping agent tries to hand its last frames to the
// hub. They are on disk by then; the next start sends what is left.
const drainTime = time.Second

// Agent is an opened agent. Open, then Run once, then Close.
type Agent struct {
	plan        *Plan                // as it was opened; settings beside the devices hold until it is closed
	now         atomic.Pointer[Plan] // what it reads
	pace        pace
	logger      *slog.Logger
	metrics     *prometheus.Registry
	log         *buffer.Log
	clock       *clock.Clock
	boots       *bootTimes
	collect     *collector
	recorder    *recorder
	uplink      *uplink.Uplink
	identity    *enrol.Identity          // nil: not enrolled
	drivers     map[string]driver.Driver // by connection
	driversMu   sync.Mutex               // guards drivers once Run runs
	totals      *totals
	maintenance *maintenance
	hardware    *hardware
	receipts    *receipts
	reloads     chan reload
	changing    sync.Mutex    // held from reading a configuration until it runs
	fleet       *fleet        // nil: of simulated devices
	bands       atomic.Uint32 // id of the bands that the collector watches; 0: none
	ring        *logRing
	asked       *questions.Responder // nil: those at the hub may not ask
	http        net.Listener
	control     net.Listener // nil: the socket could not be made
	version     string
	started     time.Time
}

// Open prepares an agent: takes the data folder, begins an epoch, makes the
// drivers. Nothing is read and no connection is made before Run.
func Open(plan *Plan, version string, logger *slog.Logger) (a *Agent, err error) {
	cfg := &plan.Config
	ring := newLogRing()
	logger = slog.New(ring.handler(logger.Handler()))
	a = &Agent{plan: plan, pace: paceOf(cfg, plan.Devices), logger: logger, ring: ring, metrics: prometheus.NewRegistry(), version: version, started: time.Now(), drivers: map[string]driver.Driver{}, reloads: make(chan reload)}
	a.now.Store(plan)
	defer func() {
		if err != nil {
			_ = a.Close() // the first error is the one to tell
			a = nil
		}
	}()
	a.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
		return a, fmt.Errorf("data folder: %w", err)
	}
	dir := filepath.Join(cfg.DataDir, "log")
	a.log, err = buffer.Open(dir, buffer.Options{
		MaxSize: int64(cfg.Buffer.MaxSize), MaxAge: cfg.Buffer.MaxAge, Keep: cfg.Buffer.Keep,
		Logger: logger, Metrics: a.metrics,
		Now: func() int64 {
			if a.clock != nil {
				if t := a.clock.Now(); t.Trusted {
					return t.Ms
				}
			}
			return 0
		},
	})
	if errors.Is(err, buffer.ErrLocked) {
		return a, fmt.Errorf("the data folder %s is in use by another process; stop it, or give this agent a data_dir of its own", cfg.DataDir)
	}
	if err != nil {
		return a, fmt.Errorf("log %s: %w", dir, err)
	}
	if err := checkState(a.log); err != nil {
		return a, fmt.Errorf("log %s: %w", dir, err)
	}
	if err := settings.NoteUse(cfg.DataDir, program, version, time.Now()); err != nil {
		logger.Warn("which program uses the data folder cannot be noted", "err", err)
	}
	end := framelog.EndOf(a.log)
	if plan.with != nil {
		a.fleet = newFleet(a.fleetParts(), plan, logger)
	}
	a.receipts = newReceipts(a.log)
	source := plan.Clock
	if source == nil {
		if source, err = clock.System(); err != nil {
			return a, fmt.Errorf("clock: %w", err)
		}
	}
	a.clock = clock.New(source, clock.Options{TrustAlways: cfg.Clock.Trust == "always", Floor: end.Watermark})
	if a.boots, err = newBootTimes(a.log, a.clock, end); err != nil {
		return a, err
	}
	now := int64(0)
	if t := a.clock.Now(); t.Trusted {
		now = t.Ms
	}
	begun, err := framelog.Begin(a.log, now, logger)
	if err != nil {
		return a, err
	}
	a.hardware = newHardware(a.log, logger)
	first := newLayout(plan)
	first.equip(a.hardware)
	a.collect = newCollector(first, a.clock, logger)
	a.maintenance = newMaintenance(a.log, logger)
	a.collect.maintenance, a.collect.hardware = a.maintenance, a.hardware
	a.totals = newTotals(a.log, logger)
	a.recorder, err = newRecorder(a.log, a.collect, first.schema, a.totals, begun, end.Pos, a.clock.BootID(), logger)
	if err != nil {
		return a, err
	}
	a.recorder.receipts = a.receipts
	a.collect.begin(end.Watermark)
	for i := range plan.Connections {
		if err := a.open(&plan.Connections[i]); err != nil {
			return a, err
		}
	}
	a.registerMetrics()
	if cfg.Hub.Remote != remoteOff {
		a.asked = questions.NewResponder(questions.ResponderConfig{Tell: a.tell, Metered: cfg.Hub.Link == linkMetered, Logger: logger})
	}
	if a.uplink, err = a.newUplink(version); err != nil {
		return a, err
	}
	a.recorder.flush = a.uplink.Flush
	if cfg.HTTP.Listen != "" {
		if a.http, err = net.Listen("tcp", cfg.HTTP.Listen); err != nil {
			return a, fmt.Errorf("http.listen: %w; choose another address, or leave it out", err)
		}
	}
	a.control = settings.ListenControl(filepath.Join(cfg.DataDir, socketName), logger)
	return a, nil
}

// Close releases the data folder. It commits what is still pending.
func (a *Agent) Close() error {
	var err error
	if a.http != nil {
		_ = a.http.Close() // closed already when the server ran
	}
	if a.control != nil {
		_ = a.control.Close() // closed already when it was served
	}
	if a.log != nil {
		err = a.log.Close()
	}
	return err
}

// Run reads devices, keeps the log and feeds the uplink until ctx ends. Then it
// stops in the order of the data: drivers first, a last frame and commit, a
// moment for the uplink to send it.
func (a *Agent) Run(ctx context.Context) error {
	a.logger.Info("agent starts", "edge", a.plan.Config.Edge.ID, "devices", len(a.plan.Devices),
		"connections", len(a.drivers), "epoch", a.recorder.Epoch.String())
	for _, id := range slices.Sorted(maps.Keys(a.plan.Disabled)) {
		a.logger.Warn("device disabled", "device", id, "err", a.plan.Disabled[id].Error())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	background := context.WithoutCancel(ctx)
	linkCtx, stopLink := context.WithCancel(background)
	defer stopLink()
	recordCtx, stopRecord := context.WithCancel(background)
	defer stopRecord()
	var link, record, others sync.WaitGroup
	start := func(wg *sync.WaitGroup, what string, ctx context.Context, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	start(&others, "clock", ctx, a.clock.Run)
	if a.fleet != nil {
		start(&others, "fleet", ctx, a.fleet.run)
	}
	if a.plan.Config.Hub.URL != "" {
		start(&link, "uplink", linkCtx, a.uplink.Run)
	}
	start(&record, "log", recordCtx, func(ctx context.Context) error {
		return a.recorder.run(ctx, a.pace.cut, a.plan.Config.Hub.Heartbeat, a.plan.Config.Buffer.CommitEvery, func() { a.alive() })
	})
	drivers := newDriverSet(ctx, cancel)
	for _, id := range slices.Sorted(maps.Keys(a.drivers)) {
		drivers.start(id, a.drivers[id])
	}
	if a.http != nil {
		start(&others, "http", ctx, a.serve)
	}
	if a.asked != nil {
		start(&others, "questions", ctx, a.asked.Run)
	}
	if a.identity != nil {
		start(&others, "identity", ctx, a.keepIdentity)
	}
	if a.control != nil {
		start(&others, "control", ctx, a.serveControl)
	}
	a.notify(daemon.SdNotifyReady)
	a.follow(ctx, drivers)
	a.notify(daemon.SdNotifyStopping)
	drivers.wait()
	stopRecord()
	record.Wait()
	a.drain()
	stopLink()
	link.Wait()
	others.Wait()
	a.logger.Info("agent stopped", "edge", a.plan.Config.Edge.ID)
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// drain waits until everything is sent, as long as the hub takes frames at all and
// drainTime has not passed.
func (a *Agent) drain() {
	a.uplink.Flush()
	limit := time.NewTimer(drainTime)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		st := a.uplink.Status()
		last, ok := a.log.Last()
		if !ok || !st.Connected || st.Refusal != wire.StatusOK || st.Sent == framelog.ToWire(last) {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return
		}
	}
}

// alive is called with every frame that is cut. It tells the service manager that
// the heart of the agent beats.
func (a *Agent) alive() {
	a.notify(daemon.SdNotifyWatchdog)
	if err := a.boots.settle(); err != nil {
		a.logger.Debug("times of earlier boots not kept, tried again", "err", err)
	}
	if err := a.hardware.flush(); err != nil {
		a.logger.Debug("the date of a replacement is not kept, tried again", "err", err)
	}
}

func (a *Agent) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.logger.Debug("service manager not told", "err", err)
	}
}

func (a *Agent) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok") // a client that has gone needs no answer
	})
	return serveUntil(ctx, a.http, mux)
}

// serveUntil serves HTTP until ctx ends.
func serveUntil(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stopped()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
