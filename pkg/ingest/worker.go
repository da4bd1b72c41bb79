package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// message is what a worker's queue holds. Do, when it is not nil, is run with the
// edge instead of a payload.
type message struct {
	edge, kind string
	payload    []byte
	do         func(*worker, *edge)
}

// order is what the checkpointer asks of a worker: to hand in what changed, or to
// tell the edges what is safe.
type order struct {
	collect chan<- []collected
	safe    []collected
}

// collected is an edge's part of a checkpoint.
type collected struct {
	e       *edge
	lineage uint64
	pos     wire.Pos
	cp      Checkpoint
}

// worker owns some of the edges.
type worker struct {
	g      *Ingest
	queue  *queue
	orders chan order

	edges map[string]*edge
	app   Appender
	batch int // samples in the open batch
	due   []*edge
	dirty []*edge // changed since the last checkpoint

	*scratch
	other   *scratch // for messages that are taken in the middle of another one
	between bool     // it is in use
	labels  []telemetry.Label
	cuts    []cut
	late    []int64 // hours that late readings of the frame came to
	out     []byte
}

// scratch is where a worker unpacks a message.
type scratch struct {
	dec      *wire.Decoder
	frame    wire.Frame
	joined   wire.Joined
	snapshot wire.Snapshot
}

func newScratch() *scratch { return &scratch{dec: wire.NewDecoder()} }

const (
	maxBatch  = 4096                  // samples in a batch; its commit is a pause for all edges
	ackTick   = 25 * time.Millisecond // granularity of waiting acknowledgements
	helloPace = 50 * time.Millisecond // between two answers to one edge
	sternPace = time.Second           // between two refusals to one edge

	// backlogRest is how long a worker rests from backlogs, in times of what the
	// last message of one took.
	backlogRest = 3
)

func newWorker(g *Ingest) *worker {
	return &worker{
		g: g, orders: make(chan order, 1), edges: map[string]*edge{}, scratch: newScratch(), other: newScratch(),
		queue: newQueue(g.cfg.Queue, g.queueBytes, g.views.isBacklog),
	}
}

// run works until ctx ends. What is then in the queue is left there: it was not
// acknowledged.
//
// After a message of a backlog the worker rests from backlogs for three times as
// long as it took, while there are live edges: what they send is judged at once,
// and the rest of the hub, which tells people, has processors and the disk.
func (w *worker) run(ctx context.Context) (err error) {
	w.app = w.g.parts.Store.Appender()
	defer func() {
		if rerr := w.app.Rollback(); err == nil && rerr != nil {
			err = fmt.Errorf("ingest: %w", rerr)
		}
	}()
	for _, id := range w.g.cfg.Edges {
		if w.g.workerOf(id) == w {
			if _, err := w.edge(id); err != nil {
				return err
			}
		}
	}
	tick := time.NewTicker(ackTick)
	defer tick.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	resting := true // until rest
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
			resting = false
			w.queue.wake()
		case o := <-w.orders:
			if err := w.obey(o); err != nil {
				return err
			}
		case <-tick.C:
			w.sendDue()
		case <-w.queue.ready:
			m, past, ok := w.queue.take(resting)
			if ok {
				began := time.Now()
				if err := w.handle(m); err != nil {
					return err
				}
				if past && w.g.credit.anyLive() {
					resting = true
					rest.Reset(backlogRest * time.Since(began))
				}
			}
			if n, _ := w.queue.waiting(); n == 0 || !ok {
				if err := w.commit(); err != nil {
					return err
				}
			}
		}
	}
}

func (w *worker) commit() error {
	if w.batch == 0 {
		return nil
	}
	w.batch = 0
	if err := w.app.Commit(); err != nil {
		return fmt.Errorf("ingest: commit: %w", err)
	}
	return nil
}

func (w *worker) obey(o order) error {
	if o.collect == nil {
		for _, c := range o.safe {
			if c.e.safe != c.pos && c.e.lineage == c.lineage {
				c.e.safe = c.pos
				c.e.view.place(&c.e.durable, c.pos)
				w.tellSafe(c.e)
			}
		}
		return nil
	}
	if err := w.commit(); err != nil {
		return err
	}
	list := make([]collected, 0, len(w.dirty))
	for _, e := range w.dirty {
		list = append(list, collected{e, e.lineage, e.pos, e.checkpoint()})
	}
	w.dirty = w.dirty[:0]
	o.collect <- list
	return nil
}

// touch notes that the edge has something for the next checkpoint.
func (w *worker) touch(e *edge) {
	if !e.changed {
		e.changed = true
		w.dirty = append(w.dirty, e)
	}
}

// edge returns the edge, loaded when it was not heard of before; nil when there
// are too many.
func (w *worker) edge(id string) (*edge, error) {
	if e := w.edges[id]; e != nil {
		return e, nil
	}
	if w.g.views.len() >= w.g.cfg.MaxEdges {
		w.g.metrics.refused.Inc()
		return nil, nil
	}
	e, err := w.load(id)
	if err != nil {
		return nil, err
	}
	w.edges[id] = e
	return e, nil
}

// handle works on one message. An error ends everything.
func (w *worker) handle(m message) error {
	e, err := w.edge(m.edge)
	if e == nil || err != nil {
		return err
	}
	if m.do != nil {
		m.do(w, e)
		return nil
	}
	switch m.kind {
	case wire.TopicFrame:
		return w.onFrameTopic(e, m.payload)
	case wire.TopicHello:
		w.onHello(e, m.payload)
	case wire.TopicSnapshot:
		w.onSnapshot(e, m.payload)
	case wire.TopicState:
		w.onState(e, m.payload)
	}
	return nil
}

func (w *worker) onFrameTopic(e *edge, payload []byte) error {
	kind, err := wire.Peek(payload)
	if err != nil {
		w.refuse(e, payload, err)
		return nil
	}
	switch kind {
	case wire.KindFrame:
		return w.onFrame(e, payload)
	case wire.KindJoined:
		return w.onJoined(e, payload)
	case wire.KindGap:
		return w.onGap(e, payload)
	case wire.KindSchema:
		if e.hasSchema(payload) {
			return nil // sent with every connection: thousands at once after an outage
		}
		s, err := decodeSchema(payload)
		if err != nil {
			w.refuse(e, payload, err)
			return nil
		}
		e.addSchema(s)
	default:
		w.refuse(e, payload, fmt.Errorf("%w: a %v on the frame topic", wire.ErrCorrupt, kind))
	}
	return nil
}

func (w *worker) onFrame(e *edge, payload []byte) error {
	h, err := wire.PeekFrame(payload)
	if err != nil {
		w.refuse(e, payload, err)
		return nil
	}
	if !w.admit(e, h.Epoch.Instance) || !w.follows(e, &h) {
		return nil
	}
	s := w.schemaOf(e, h.Schema)
	if s == nil {
		return nil
	}
	f := &w.frame
	if err := w.dec.DecodeFrame(payload, f); err != nil {
		w.refuse(e, payload, err)
		return nil
	}
	_, err = w.take(e, f, s, payload, len(payload))
	return err
}

// onJoined takes consecutive frames one after the other, as if each had come alone.
func (w *worker) onJoined(e *edge, payload []byte) error {
	j := &w.joined
	if err := wire.PeekJoined(payload, j); err != nil {
		w.refuse(e, payload, err)
		return nil
	}
	if !w.admit(e, j.Headers[0].Epoch.Instance) {
		return nil
	}
	// What comes before the place is known already; only then the rest is read.
	known := 0
	for known < len(j.Headers) && e.line.frame(&j.Headers[known]) == duplicate {
		known++
	}
	if known == len(j.Headers) {
		known--
	}
	if !w.follows(e, &j.Headers[known]) {
		return nil
	}
	s := w.schemaOf(e, j.Headers[0].Schema)
	if s == nil {
		return nil
	}
	if err := w.dec.DecodeJoined(payload, j); err != nil {
		w.refuse(e, payload, err)
		return nil
	}
	var err error
	i, last := 0, len(j.Headers)-1
	j.Frames(func(f *wire.Frame) bool {
		ok := true
		if i >= known {
			size := 0
			if i == last {
				size = len(payload) // the message counts once
			}
			if ok, err = w.take(e, f, s, payload, size); ok && err == nil && i < last {
				err = w.takeLive(e)
			}
		}
		i++
		return ok && err == nil
	})
	return err
}

// takeLive works on what live edges have sent while the joined frames of another
// one are taken: hours of one edge must not stand before the present of all.
func (w *worker) takeLive(not *edge) error {
	if w.between {
		return nil
	}
	w.between = true
	w.scratch, w.other = w.other, w.scratch
	defer func() {
		w.scratch, w.other = w.other, w.scratch
		w.between = false
	}()
	for range liveRun {
		m, ok := w.queue.takeLive(not.id)
		if !ok {
			return nil
		}
		if err := w.handle(m); err != nil {
			return err
		}
	}
	return nil
}

// follows judges a frame by its place, and says so to the edge when it is not the
// next one.
func (w *worker) follows(e *edge, h *wire.Header) bool {
	switch e.line.frame(h) {
	case duplicate:
		w.g.metrics.duplicates.Inc()
		e.view.count(func(c *Counters) { c.Duplicates++ })
		w.acknowledge(e, wire.StatusOK, "", false)
	case hole:
		w.missing(e)
	case fork:
		w.forked(e, fmt.Sprintf("frame %v", h.Pos()))
	case next:
		return true
	}
	return false
}

// schemaOf returns the schema, or asks for it.
func (w *worker) schemaOf(e *edge, h wire.Hash) *schema {
	s := e.findSchema(h)
	if s == nil {
		e.missed = h
		w.missing(e)
	}
	return s
}

// take folds a frame that follows, and moves the place. It reports false when it
// did not take it. Size is what the frame took on the link.
func (w *worker) take(e *edge, f *wire.Frame, s *schema, payload []byte, size int) (bool, error) {
	if err := e.check(f, s); err != nil {
		w.refuse(e, payload, err)
		return false, nil
	}
	now := w.g.now()
	if t := ahead(f); t > now.UnixMilli()+w.g.cfg.MaxAhead.Milliseconds() {
		w.tooEarly(e, t, now)
		return false, nil
	}
	if e.cur == nil || e.cur.hash != f.Schema || e.cur.site != e.site {
		b, err := bind(s, e.site, e.id, e.pushed)
		if err != nil {
			return false, err
		}
		w.admitSeries(e, b)
		e.use(b)
		w.tellBands(e, 0)
	}
	n, err := w.fold(e, f)
	if err != nil {
		return false, err
	}
	if len(w.late) > 0 && w.g.cfg.OnLate != nil {
		w.g.cfg.OnLate(e.id, w.late)
	}
	e.line.take(&f.Header)
	if w.batch >= maxBatch {
		if err := w.commit(); err != nil {
			return false, err
		}
	}
	w.settle(e, now)
	e.suspects, e.forgotten = 0, false
	w.touch(e)
	w.g.metrics.took(n)
	e.view.frame(e, f, n, size, now)
	e.caughtUp()
	e.ack.bytes += uint64(size)
	w.acknowledge(e, wire.StatusOK, "", e.ack.bytes > uint64(w.g.credit.of(e.view))/2)
	if w.g.cfg.OnLive != nil {
		w.g.cfg.OnLive(e.id, n.readings)
	}
	return true, nil
}

func (w *worker) onGap(e *edge, payload []byte) error {
	var g wire.Gap
	if err := wire.DecodeGap(payload, &g); err != nil {
		w.refuse(e, payload, err)
		return nil
	}
	if !w.admit(e, g.Next.Epoch.Instance) {
		return nil
	}
	switch e.line.gap(&g) {
	case duplicate:
		w.acknowledge(e, wire.StatusOK, "", false)
		return nil
	case hole:
		w.missing(e)
		return nil
	case fork:
		w.forked(e, fmt.Sprintf("gap before %v", g.Next))
		return nil
	case next:
	}
	gap := Gap{Edge: e.id, After: e.pos.String(), Next: g.Next.String(), Reason: g.Reason}
	if e.hasW {
		gap.From = time.UnixMilli(e.w).UTC()
	}
	if err := w.g.parts.Ledger.Gap(gap); err != nil {
		return fmt.Errorf("ingest: record a gap of edge %s: %w", e.id, err)
	}
	w.g.metrics.gaps.Inc()
	w.g.log.Warn("an edge gave up a part of its log", "edge", e.id, "after", gap.After, "next", gap.Next, "reason", gap.Reason)
	e.line.skip(g.Taken())
	w.touch(e)
	e.view.gap(gap, &e.durable)
	e.caughtUp()
	w.acknowledge(e, wire.StatusOK, "", true)
	return nil
}

func (w *worker) missing(e *edge) {
	w.g.metrics.holes.Inc()
	e.view.count(func(c *Counters) { c.Holes++ })
	w.acknowledge(e, wire.StatusHole, "", true)
}

// refuse sets a message aside that cannot be read or must not be taken.
func (w *worker) refuse(e *edge, payload []byte, why error) {
	w.g.metrics.refused.Inc()
	e.view.count(func(c *Counters) { c.Refused++ })
	w.g.aside.keep(e.id, payload, w.g.now())
	if errors.Is(why, wire.ErrVersion) {
		w.flag(e, EventVersion, fmt.Sprintf("Edge %s speaks a newer format than this hub: update the hub.", e.id), why)
		w.acknowledge(e, wire.StatusVersion, why.Error(), false)
		return
	}
	w.flag(e, EventRefused, fmt.Sprintf("A message of edge %s was refused: %.300v.", e.id, why), why)
	w.acknowledge(e, wire.StatusRefused, why.Error(), false)
}

func (w *worker) tooEarly(e *edge, t int64, now time.Time) {
	w.g.metrics.clock.Inc()
	e.view.count(func(c *Counters) { c.Clock++ })
	by := time.UnixMilli(t).Sub(now).Round(time.Second)
	w.flag(e, EventClock, fmt.Sprintf("The clock of edge %s is %v ahead of the hub's; its readings are not taken until one of the two is set right.", e.id, by), nil)
	w.acknowledge(e, wire.StatusClock, fmt.Sprintf("%v ahead of the hub", by), false)
}

func (w *worker) forked(e *edge, what string) {
	w.g.metrics.forks.Inc()
	e.view.count(func(c *Counters) { c.Forks++ })
	w.flag(e, EventFork, fmt.Sprintf("Edge %s runs from an old copy of its disk: the hub stands at %v, and the edge sent %s. Nothing more is taken until its right disk is back, or an operator runs langbiang-hub edges forget %s, which takes what this copy has.", e.id, e.pos, what, e.id), nil)
	w.acknowledge(e, wire.StatusFork, "the hub has another log under this id", false)
}

// quietTime is how long a state must not have been found before it is told anew.
const quietTime = 10 * time.Minute

// flag shows a state of the edge, and tells an operator and the log when it is a
// new one.
func (w *worker) flag(e *edge, kind, text string, why error) {
	now := w.g.now()
	was, known := e.flagged[kind]
	e.flagged[kind] = now
	e.view.flag(kind, text)
	if known && now.Sub(was) < quietTime {
		return
	}
	ev := Event{Edge: e.id, Kind: kind, Text: text}
	if why != nil {
		ev.Detail = map[string]string{"reason": why.Error()}
	}
	w.event(ev)
}

// settle ends what is over, now that a frame was taken.
func (w *worker) settle(e *edge, now time.Time) {
	for kind, at := range e.flagged {
		limit := quietTime
		switch kind {
		case EventDisk, EventLimit:
			continue // it is said when it is over
		case EventClock:
			limit = 0
		case EventFork, EventClone:
			// Frames are taken: this is the right one. The other, if it still runs,
			// says hello more often than that.
			limit = w.g.cfg.CloneAfter
		}
		if now.Sub(at) >= limit {
			e.view.settle(kind)
		}
		if now.Sub(at) >= quietTime {
			delete(e.flagged, kind)
		}
	}
}

func (w *worker) event(ev Event) {
	w.g.log.Warn(ev.Text, "edge", ev.Edge, "event", ev.Kind, "reason", ev.Detail["reason"])
	if err := w.g.parts.Ledger.Event(ev); err != nil {
		w.g.log.Error("an event could not be recorded", "edge", ev.Edge, "event", ev.Kind, "error", err)
	}
}
