package ingest

import (
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// forkSuspicion is how many hellos in a row must look like a fork: a single one
// may be an old one that the broker repeats.
const forkSuspicion = 3

// maxAckWithin bounds what an edge may ask for.
const maxAckWithin = 2 * time.Minute

// admit says whether the hub listens to the instance, and puts it in force when it
// does. The instance that was heard last holds its place for CloneAfter; then
// another one takes over, with a log of its own.
func (w *worker) admit(e *edge, i wire.Instance) bool {
	now := w.g.now()
	switch {
	case i == wire.Instance{}:
		w.g.metrics.refused.Inc()
		return false
	case i == e.instance:
	case e.instance == wire.Instance{}:
		e.restart(i)
	case now.Sub(e.lastHeard) < w.g.cfg.CloneAfter:
		w.g.metrics.clones.Inc()
		e.view.count(func(c *Counters) { c.Clones++ })
		w.flag(e, EventClone, fmt.Sprintf("Two agents call themselves edge %s: %v is listened to, %v is not. Give one of them another id, or stop it.", e.id, e.instance, i), nil)
		if now.Sub(e.other) >= sternPace {
			e.other = now
			w.publish(e, &wire.Ack{Status: wire.StatusClone, Instance: i, HubTime: now.UnixMilli(), Reason: "another agent with this id is active"})
		}
		return false
	default:
		text := fmt.Sprintf("Edge %s was installed anew or replaced; its log begins anew.", e.id)
		w.event(Event{
			Edge: e.id, Kind: EventReinstall, Text: text,
			Detail: map[string]string{"before": e.instance.String(), "now": i.String(), "position": e.pos.String()},
		})
		e.restart(i)
		e.view.settle(EventClone, EventFork)
		e.view.flag(EventReinstall, text)
		e.flagged[EventReinstall] = now
		w.touch(e)
	}
	e.lastHeard = now
	e.view.heard(now, e.instance)
	return true
}

// forget is Ingest.Forget, at the worker.
func (w *worker) forget(e *edge) {
	w.event(Event{
		Edge: e.id, Kind: EventForgotten, Text: fmt.Sprintf("The hub forgot its position in the log of edge %s, which sends anew what it has.", e.id),
		Detail: map[string]string{"position": e.pos.String()},
	})
	i := e.instance
	e.restart(wire.Instance{})
	clear(e.flagged)
	e.view.settle(EventFork, EventClone)
	e.forgotten = true
	w.touch(e)
	// Told at once, so that the edge need not say hello first.
	e.restart(i)
	w.acknowledge(e, wire.StatusHole, "an operator let the hub forget its position", true)
}

func (w *worker) onHello(e *edge, payload []byte) {
	var h wire.Hello
	if err := wire.DecodeHello(payload, &h); err != nil {
		w.refuse(e, payload, err)
		return
	}
	if h.Epoch.Instance != h.Instance {
		w.refuse(e, payload, fmt.Errorf("%w: the epoch is not of the instance", wire.ErrCorrupt))
		return
	}
	if !w.admit(e, h.Instance) {
		return
	}
	if !e.hello || h.Epoch.Start >= e.epoch.Start {
		e.hello, e.epoch = true, h.Epoch
		e.ackWithin = min(time.Duration(h.AckWithin)*time.Millisecond, maxAckWithin)
		e.view.hello(&h, w.g.now())
		if w.g.cfg.OnHello != nil {
			w.g.cfg.OnHello(e.id, payload)
		}
		if claim := clip(h.Site, maxClaim); claim != e.claim {
			e.claim = claim
			w.touch(e)
		}
		if site := w.site(e.id, e.claim); site != e.site {
			e.site = site
			e.view.move(site)
		}
	}
	if h.Safe != nil && h.Safe.Epoch.Instance == e.instance && h.Safe.SameLine(e.safe) && h.Safe.Compare(e.safe) > 0 && !e.forgotten {
		w.flag(e, EventRestored, fmt.Sprintf("This hub stands at %v in the log of edge %s and had called %v safe: it was restored from a backup, or its disk lost what was written; the edge sends again what it keeps.", e.safe, e.id, *h.Safe), nil)
	}
	e.ack.nonce = h.Nonce
	// A running agent whose newest frame is below the place was put back in time.
	// So was one whose epoch cannot belong to the log, and one that has just begun
	// an epoch before that of the place.
	running := h.Epoch == e.pos.Epoch && h.Newest.Epoch == h.Epoch && h.Newest.Seq < e.pos.Seq
	past := !e.pos.IsZero() && h.Instance == e.pos.Epoch.Instance && h.Epoch.Start < e.pos.Epoch.Start
	if running || past || !e.pos.IsZero() && e.about(h.Epoch) == stranger {
		if e.suspects++; e.suspects >= forkSuspicion {
			w.forked(e, fmt.Sprintf("a hello with %v as its newest", h.Newest))
			return
		}
	} else {
		e.suspects = 0
	}
	w.acknowledge(e, wire.StatusOK, "", true)
	if e.cur != nil && e.cur.hash == h.Schema {
		w.tellBands(e, h.Bands)
	}
}

// tellBands tells the edge what the rules watch of its series, unless it has that
// already.
func (w *worker) tellBands(e *edge, has uint32) {
	if w.g.parts.Bands == nil || e.cur == nil {
		return
	}
	if e.bands == nil {
		b := wire.Bands{Schema: e.cur.hash}
		for i, limits := range w.g.parts.Bands.Limits(e.cur.bound) {
			if len(limits) > 0 {
				b.Bands = append(b.Bands, wire.Band{Series: uint32(i), Limits: limits[:min(len(limits), wire.MaxLimits)]})
			}
		}
		var err error
		if e.bands, err = wire.EncodeBands(nil, &b); err != nil {
			// Its readings only come with their period, as those of all others.
			w.g.log.Warn("an edge cannot be told what the rules watch", "edge", e.id, "error", err)
			e.bands = []byte{}
		}
	}
	if len(e.bands) == 0 || wire.BandsID(e.bands) == has {
		return
	}
	if err := w.g.parts.Bus.Publish(e.id, wire.TopicConfig, e.bands); err != nil {
		w.g.log.Debug("bands were not published", "edge", e.id, "error", err)
	}
}

func (w *worker) onSnapshot(e *edge, payload []byte) {
	s := &w.snapshot
	if err := w.dec.DecodeSnapshot(payload, s); err != nil {
		w.refuse(e, payload, err)
		return
	}
	if s.Epoch.Instance != e.instance {
		return // frames and hellos decide who is in force
	}
	if s.Epoch == e.snapshots.epoch && s.Counter <= e.snapshots.counter {
		return
	}
	if s.Epoch == e.pos.Epoch && s.Seq <= e.pos.Seq {
		return // the frames have told it already
	}
	if e.cur == nil || e.cur.hash != s.Schema {
		// Shown as soon as the backlog has come to this schema. Only the log decides
		// which schema is in force, or rules would see a change that is not in it.
		return
	}
	for i := range s.Readings {
		if int(s.Readings[i].Series) >= len(e.cur.series) {
			w.refuse(e, payload, errSeries)
			return
		}
	}
	e.snapshots = snapshotPlace{s.Epoch, s.Counter, s.Seq}
	now := w.g.now()
	e.lastHeard = now
	e.view.snapshot(s, now, w.g.cfg.MaxAhead)
	if w.g.cfg.OnLive != nil {
		w.g.cfg.OnLive(e.id, len(s.Readings))
	}
}

func (w *worker) onState(e *edge, payload []byte) {
	if len(payload) == 0 {
		return // a retained state was removed
	}
	var s wire.State
	if err := wire.DecodeState(payload, &s); err != nil {
		w.refuse(e, payload, err)
		return
	}
	// A will speaks of the connection that left it, and of no later one.
	if s.Online {
		if s.Epoch.Start < e.online.Epoch.Start && s.Epoch.Instance == e.online.Epoch.Instance {
			return
		}
		e.online = s
		w.disk(e, &s)
	} else if e.online.Epoch != s.Epoch || e.online.At != s.At {
		return
	}
	e.view.state(&s, w.g.now())
}

// disk shows that the edge's disk refuses its log, and that it takes it again.
func (w *worker) disk(e *edge, s *wire.State) {
	if s.Epoch.Instance != e.instance && e.instance != (wire.Instance{}) {
		return // of another installation
	}
	_, shown := e.flagged[EventDisk]
	switch {
	case s.Disk != "":
		w.flag(e, EventDisk, fmt.Sprintf("The disk of edge %s refuses its log (%s): its newest readings wait in its memory, and the oldest of them are given up when that is full.", e.id, clip(s.Disk, wire.MaxNote)), nil)
	case shown:
		delete(e.flagged, EventDisk)
		e.view.settle(EventDisk)
		w.event(Event{Edge: e.id, Kind: EventDisk, Text: fmt.Sprintf("The disk of edge %s takes its log again.", e.id)})
	}
}

// acknowledge arranges that the edge is told where the hub stands: soon, or at
// once when urgent, and never more often than helloPace (refusals: sternPace).
// What is asked for last is what is said.
func (w *worker) acknowledge(e *edge, status wire.Status, reason string, urgent bool) {
	now := w.g.now()
	a := &e.ack
	a.status, a.reason = status, reason
	at := now.Add(w.g.cfg.AckEvery)
	switch {
	case status == wire.StatusOK && !urgent:
		at = now.Add(max(w.g.cfg.AckEvery, e.ackWithin))
	case status == wire.StatusOK && urgent && a.nonce == 0:
		at = now // credit is used up: bounded by the bytes that came
	case urgent:
		at = later(now, a.last.Add(helloPace))
	case status != wire.StatusOK && status != wire.StatusHole:
		at = later(now, a.refused.Add(sternPace))
	}
	if !a.waiting || at.Before(a.at) {
		a.at = at
	}
	if !a.at.After(now) {
		w.sendAck(e, now)
		return
	}
	a.waiting = true
	if !a.listed {
		a.listed = true
		w.due = append(w.due, e)
	}
}

// tellSafe arranges that the edge hears of its safe place, beside whatever it is to
// hear.
func (w *worker) tellSafe(e *edge) {
	if e.ack.waiting {
		return
	}
	w.acknowledge(e, wire.StatusOK, "", false)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// sendDue sends the acknowledgements whose time has come.
func (w *worker) sendDue() {
	if len(w.due) == 0 {
		return
	}
	now := w.g.now()
	kept := w.due[:0]
	for _, e := range w.due {
		if e.ack.waiting && e.ack.at.After(now) {
			kept = append(kept, e)
			continue
		}
		if e.ack.waiting { // else it was sent meanwhile
			w.sendAck(e, now)
		}
		e.ack.listed = false
	}
	clear(w.due[len(kept):])
	w.due = kept
}

func (w *worker) sendAck(e *edge, now time.Time) {
	a := &e.ack
	a.waiting = false
	if e.instance == (wire.Instance{}) {
		return // nobody is known who would read it
	}
	out := wire.Ack{Status: a.status, Instance: e.instance, Nonce: a.nonce, HubTime: now.UnixMilli(), Need: e.missed, Reason: a.reason}
	switch a.status {
	case wire.StatusFork, wire.StatusVersion:
		// Nothing is acknowledged.
	default:
		out.Got, out.Safe = e.pos, e.safe
		out.Credit = w.g.credit.of(e.view)
	}
	if a.status != wire.StatusOK && a.status != wire.StatusHole {
		a.refused = now
	}
	a.nonce, a.bytes, a.last = 0, 0, now
	w.publish(e, &out)
}

func (w *worker) publish(e *edge, a *wire.Ack) {
	if len(a.Reason) > wire.MaxNote {
		a.Reason = clip(a.Reason, wire.MaxNote)
	}
	out, err := wire.EncodeAck(w.out[:0], a)
	if err != nil {
		w.g.log.Error("an acknowledgement cannot be encoded", "edge", e.id, "error", err)
		return
	}
	w.out = out
	w.g.metrics.acks.Inc()
	if err := w.g.parts.Bus.Publish(e.id, wire.TopicAck, out); err != nil {
		// Lost like any other message: the edge asks again.
		w.g.log.Debug("an acknowledgement was not published", "edge", e.id, "error", err)
	}
}
