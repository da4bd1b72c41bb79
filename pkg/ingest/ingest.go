package ingest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config holds what may be set. The zero value of every field is a good choice.
type Config struct {
	Workers         int           // GOMAXPROCS
	Queue           int           // messages waiting for one worker; 65,536
	Credit          int64         // bytes under way from all edges together; 32 MiB
	CheckpointEvery time.Duration // 1 s
	AckEvery        time.Duration // 200 ms
	MaxAhead        time.Duration // of the hub's clock, that a reading may be; 10 min
	CloneAfter      time.Duration // silence after which another instance may take over; 90 s
	MaxEdges        int           // 100,000
	MaxSeries       int           // of one edge; 20,000
	MaxSeriesAll    int           // of all edges together; 2,000,000
	MaxNewSeries    int           // that one edge may begin within a day; 4 times MaxSeries
	MaxLabelBytes   int           // names and values of the labels that an edge adds to a series; 1024
	RefusedDir      string        // where refused messages are kept; empty: nowhere
	// Pushed reports whether an edge is a source inside the hub, whose readings come
	// in no order: they are never late, and the rules take what is new to them. Nil:
	// none is.
	Pushed func(edge string) bool
	Edges  []string // edges to load at the start, to be shown before they are heard

	Now        func() time.Time // the hub's clock; time.Now
	Logger     *slog.Logger     // slog.Default
	Registerer prometheus.Registerer

	// SampleError reports whether an error of Append is about that sample alone:
	// it is counted, and ingest goes on.
	SampleError func(error) bool
	// OnLate is called by workers when readings came to times that were told to be
	// over: the hours, numbered from 1970, the first being the one that ends at its
	// number plus one. It must not block for long nor keep the slice. What it does
	// must be durable before the next Ledger.Checkpoint returns.
	OnLate func(edge string, hours []int64)
	// OnLive is called by workers when an edge has new values to show, with the
	// number of readings. It must not block.
	OnLive func(edge string, readings int)
	// OnHello is called by workers with the document that an edge sent. It must not
	// block for long nor keep the slice.
	OnHello func(edge string, document []byte)
	// OnUnobserved is called by workers with the event times between which an edge did
	// not look, after a replay again. It must not block for long.
	OnUnobserved func(edge string, from, to time.Time)
}

// Parts are what ingest works with. Rules, Bands and Registry may be nil.
type Parts struct {
	Store    Store
	Rules    Rules
	Bands    Bands
	Ledger   Ledger
	Registry Registry
	Bus      Bus
	Texts    Texts // nil: readings of text are shown and not kept
}

// Ingest takes in what the edges send. Make one with [New]; it serves one Run.
type Ingest struct {
	cfg        Config
	parts      Parts
	log        *slog.Logger
	now        func() time.Time
	metrics    *metrics
	views      *views
	credit     *credit
	aside      *aside
	workers    []*worker
	queueBytes int64
	seed       maphash.Seed
	closed     atomic.Bool
	series     atomic.Int64 // that are taken, of all edges
}

// ErrClosed says that the ingest does not run.
var ErrClosed = errors.New("ingest: not running")

// New prepares an ingest.
func New(cfg Config, parts Parts) (*Ingest, error) {
	if parts.Store == nil || parts.Ledger == nil || parts.Bus == nil {
		return nil, errors.New("ingest: a store, a ledger and a bus are needed")
	}
	setDefault(&cfg.Workers, runtime.GOMAXPROCS(0))
	setDefault(&cfg.Queue, 65_536)
	setDefault(&cfg.Credit, 32<<20)
	setDefault(&cfg.CheckpointEvery, time.Second)
	setDefault(&cfg.AckEvery, 200*time.Millisecond)
	setDefault(&cfg.MaxAhead, 10*time.Minute)
	setDefault(&cfg.CloneAfter, 90*time.Second)
	setDefault(&cfg.MaxEdges, 100_000)
	setDefault(&cfg.MaxSeries, 20_000)
	setDefault(&cfg.MaxSeriesAll, 2_000_000)
	setDefault(&cfg.MaxNewSeries, 4*cfg.MaxSeries)
	setDefault(&cfg.MaxLabelBytes, 1024)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	g := &Ingest{
		cfg: cfg, parts: parts, log: cfg.Logger, now: cfg.Now, seed: maphash.MakeSeed(),
		credit: newCredit(cfg.Credit), aside: newAside(cfg.RefusedDir, cfg.Logger),
	}
	g.views = newViews()
	// Edges may have their credit under way and send a little more; what all of
	// them may have fits, however it is spread, with room for one to spare.
	g.queueBytes = cfg.Credit*2/int64(cfg.Workers) + maxShare
	for range cfg.Workers {
		g.workers = append(g.workers, newWorker(g))
	}
	var err error
	if g.metrics, err = newMetrics(cfg.Registerer, g); err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	return g, nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func (g *Ingest) workerOf(edge string) *worker {
	return g.workers[maphash.String(g.seed, edge)%uint64(len(g.workers))]
}

// Receive takes a message from the bus: its edge, which must be a valid id, and
// its kind, the last part of the topic. It owns the payload from here on. It never
// blocks: what there is no room for is dropped and counted.
func (g *Ingest) Receive(edge, kind string, payload []byte) {
	if g.closed.Load() || !g.workerOf(edge).queue.offer(message{edge: edge, kind: kind, payload: payload}) {
		g.metrics.dropped.Inc()
	}
}

// Forget lets the hub forget where it stands in the log of an edge, so that the
// edge sends all that it still has: the way out of a fork, for an operator. What
// the store has already it keeps once. It fails with [ErrClosed], or when the
// queue is full.
func (g *Ingest) Forget(edge string) error {
	if g.closed.Load() {
		return ErrClosed
	}
	if !g.workerOf(edge).queue.offer(message{edge: edge, do: (*worker).forget}) {
		return errors.New("ingest: too busy, try again")
	}
	return nil
}

// BandsChanged tells that the rules watch other limits now: all edges are told. One
// whose worker is too busy hears of it with its next hello.
func (g *Ingest) BandsChanged() {
	g.views.each(func(v *view) {
		w := g.workerOf(v.id)
		_ = !g.closed.Load() && w.queue.offer(message{edge: v.id, do: func(w *worker, e *edge) {
			e.bands = nil
			w.tellBands(e, 0)
		}})
	})
}

// Run works until ctx ends, and then writes a last checkpoint; or until the store,
// the rules or the ledger fail, whose error it returns. It is called once. After an
// error nothing may be assumed of what was not under a checkpoint: begin again with
// a new Ingest, on a store and a ledger that were opened anew.
func (g *Ingest) Run(ctx context.Context) error {
	defer g.metrics.unregister()
	defer g.closed.Store(true)
	// Workers outlive ctx for the last checkpoint.
	wctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	failed := make(chan error, len(g.workers))
	for _, w := range g.workers {
		wg.Go(func() {
			if err := w.run(wctx); err != nil {
				failed <- err
			}
		})
	}
	err := g.checkpoints(ctx, failed)
	stop()
	wg.Wait()
	for err == nil && len(failed) > 0 {
		err = <-failed
	}
	return err
}

func (g *Ingest) checkpoints(ctx context.Context, failed <-chan error) error {
	tick := time.NewTicker(g.cfg.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			g.closed.Store(true)
			return g.checkpoint(failed)
		case <-tick.C:
			g.credit.divide(g.views, g.now(), g.cfg.CloneAfter)
			if err := g.checkpoint(failed); err != nil {
				return err
			}
		}
	}
}

// checkpoint makes everything up to here durable, and tells the edges.
func (g *Ingest) checkpoint(failed <-chan error) error {
	start := time.Now()
	answers := make(chan []collected, len(g.workers))
	for _, w := range g.workers {
		if err := give(w, order{collect: answers}, failed); err != nil {
			return err
		}
	}
	var list []Checkpoint
	safe := make([][]collected, 0, len(g.workers))
	for range g.workers {
		select {
		case part := <-answers:
			safe = append(safe, part)
			for _, c := range part {
				list = append(list, c.cp)
			}
		case err := <-failed:
			return err
		}
	}
	if len(list) == 0 {
		return nil
	}
	if err := g.parts.Store.Sync(); err != nil {
		return fmt.Errorf("ingest: sync the store: %w", err)
	}
	if err := g.parts.Ledger.Checkpoint(list); err != nil {
		return fmt.Errorf("ingest: write the checkpoint: %w", err)
	}
	g.metrics.checkpoint.Observe(time.Since(start).Seconds())
	for _, part := range safe {
		if len(part) == 0 {
			continue
		}
		if err := give(g.workerOf(part[0].e.id), order{safe: part}, failed); err != nil {
			return err
		}
	}
	return nil
}

func give(w *worker, o order, failed <-chan error) error {
	select {
	case w.orders <- o:
		return nil
	case err := <-failed:
		return err
	}
}
