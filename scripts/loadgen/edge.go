package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/langbiang/langbiang/pkg/uplink"
	"github.com/langbiang/langbiang/pkg/wire"
)

// counters add up what all edges of a group did.
type counters struct {
	made, got, safe atomic.Int64 // readings
	bytes           atomic.Int64 // of the frames that were made
	frames          atomic.Int64
}

// pace says when an edge cuts its frames.
type pace struct {
	// every is the time between two frames; 0: as fast as the hub takes them.
	every time.Duration
	// step is the event time of a frame when every is 0, counted from begin, in
	// milliseconds; event time stays behind the clock.
	step  int64
	begin int64
	// window is how many bytes it makes before the hub has them on its disk, when
	// every is 0.
	window int
	// alarm is the time between two alarms of the probe; 0: none.
	alarm time.Duration
}

// The windows of a run flat out: what keeps a hub busy between two checkpoints and
// no more, or the times taken would be those of the generator's own queue. A
// backlog is on the edge's disk already, so nothing but the hub bounds it.
const (
	liveWindow  = 256 << 10
	drainWindow = 16 << 20
)

// commitBytes is what a buffered edge appends between two commits at most.
const commitBytes = 1 << 20

// loadEdge is one edge: the real encoder, log and uplink, and made-up devices.
type loadEdge struct {
	id     string
	pace   pace
	epoch  wire.Epoch
	hash   wire.Hash
	replay *replay
	enc    *wire.Encoder
	frame  wire.Frame
	out    []byte
	log    frameLog
	link   *uplink.Uplink
	counts *counters
	alerts *alertWatch // nil: not watched

	uncommitted int
	alarmAt     time.Time

	mu       sync.Mutex
	sent     []sentFrame // not yet safe, oldest first
	got      uint64      // newest frame that the hub has got
	unsafe   int
	room     chan struct{} // holds a token when there is room again
	gotTook  []float32     // milliseconds from the append
	safeTook []float32
}

// sentFrame is a frame that the hub does not have on its disk yet.
type sentFrame struct {
	seq            uint64
	size, readings int
	at             time.Time
}

// newEdge makes an edge; dir is the folder of its buffer, empty for a log in
// memory.
func newEdge(id, hub, dir string, s *station, p pace, c *counters, alerts *alertWatch) (*loadEdge, error) {
	raw, hash, err := wire.EncodeSchema(nil, &s.schema)
	if err != nil {
		return nil, err
	}
	e := &loadEdge{
		id: id, pace: p, hash: hash, replay: newReplay(s, rand.Uint64()), enc: wire.NewEncoder(&s.schema), counts: c, alerts: alerts,
		epoch: wire.Epoch{Start: 1, Random: rand.Uint32()}, room: make(chan struct{}, 1),
	}
	binary.LittleEndian.PutUint64(e.epoch.Instance[:], rand.Uint64())
	if dir == "" {
		e.log = newMemLog(e.epoch, hash, raw)
	} else if e.log, err = openBufferLog(filepath.Join(dir, id), e.epoch, hash, raw); err != nil {
		return nil, fmt.Errorf("edge %s: %w", id, err)
	}
	e.link, err = uplink.New(uplink.Config{
		URL: hub, Edge: id, Epoch: e.epoch, Logger: slog.New(slog.DiscardHandler), Acked: e.acked,
		JoinReadings: -1, // the hub is measured by live frames, not by how well a backlog is joined
		Hello: func(h *wire.Hello) {
			h.Site, h.Version, h.Platform = "load", "loadgen", "load"
			h.Schema, h.Series, h.Devices = hash, len(s.schema.Series), len(s.schema.Devices)
			h.Clock = wire.Clock{Now: time.Now().UnixMilli(), Trusted: true}
		},
	}, e.log)
	return e, err
}

// run sends until send ends, then lets the uplink go on until ctx ends.
func (e *loadEdge) run(ctx, send context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.link.Run(ctx) }) // ends with ctx, without an error
	err := e.produce(send)
	if cerr := e.log.commit(); err == nil {
		err = cerr
	}
	wg.Wait()
	return errors.Join(err, e.log.close())
}

func (e *loadEdge) produce(ctx context.Context) error {
	e.frame.Schema, e.frame.Epoch = e.hash, e.epoch
	if e.pace.every > 0 {
		return e.paced(ctx)
	}
	e.frame.W = e.pace.begin
	for {
		for e.full() {
			if err := e.commit(); err != nil {
				return err
			}
			select {
			case <-e.room:
			case <-ctx.Done():
				return nil
			}
		}
		w := e.frame.W + e.pace.step
		if ahead := time.Until(time.UnixMilli(w)); ahead > 0 {
			select {
			case <-time.After(ahead):
			case <-ctx.Done():
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how it should end
		}
		if err := e.cut(w); err != nil {
			return err
		}
	}
}

// paced cuts a frame every so often, edges spread over the interval.
func (e *loadEdge) paced(ctx context.Context) error {
	start := time.Now().Add(time.Duration(rand.Int64N(int64(e.pace.every))))
	e.frame.W = start.Add(-e.pace.every).UnixMilli()
	if e.pace.alarm > 0 {
		e.alarmAt = start.Add(time.Duration(rand.Int64N(int64(e.pace.alarm))))
	}
	for n := 0; ; n++ {
		at := start.Add(time.Duration(n) * e.pace.every)
		select {
		case <-time.After(time.Until(at)):
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		e.replay.alarm = !e.alarmAt.IsZero() && !now.Before(e.alarmAt)
		if e.replay.alarm {
			e.alarmAt = e.alarmAt.Add(e.pace.alarm)
		}
		if err := e.cut(max(now.UnixMilli(), e.frame.W+1)); err != nil {
			return err
		}
		if err := e.commit(); err != nil {
			return err
		}
	}
}

// cut appends a frame with one reading of every series, up to the watermark w.
func (e *loadEdge) cut(w int64) error {
	f := &e.frame
	f.Seq++
	f.PrevW, f.W = f.W, w
	f.Readings = e.replay.next(f.Readings[:0], f.PrevW, w)
	out, err := e.enc.Encode(e.out[:0], f)
	if err != nil {
		return fmt.Errorf("edge %s: %w", e.id, err)
	}
	e.out = out
	now := time.Now()
	if e.alerts != nil && e.replay.probe >= 0 {
		e.alerts.sent(e.id, e.replay.probeTime(), e.replay.alarm, now)
	}
	e.mu.Lock()
	e.sent = append(e.sent, sentFrame{f.Seq, len(out), len(f.Readings), now})
	e.unsafe += len(out)
	e.mu.Unlock()
	e.counts.frames.Add(1)
	e.counts.made.Add(int64(len(f.Readings)))
	e.counts.bytes.Add(int64(len(out)))
	if err := e.log.append(f.Seq, out, w); err != nil {
		return fmt.Errorf("edge %s: %w", e.id, err)
	}
	if e.uncommitted += len(out); e.uncommitted >= commitBytes {
		return e.commit()
	}
	return nil
}

func (e *loadEdge) commit() error {
	e.uncommitted = 0
	return e.log.commit()
}

func (e *loadEdge) full() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unsafe >= e.pace.window
}

// acked counts what the hub has told the uplink.
func (e *loadEdge) acked(got, safe wire.Pos) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	took := func(f *sentFrame) float32 { return float32(now.Sub(f.at).Seconds() * 1000) }
	done := 0
	for i := range e.sent {
		f := &e.sent[i]
		if got.Epoch == e.epoch && f.seq > e.got && f.seq <= got.Seq {
			e.got = f.seq
			e.counts.got.Add(int64(f.readings))
			e.gotTook = append(e.gotTook, took(f))
		}
		if safe.Epoch == e.epoch && f.seq <= safe.Seq {
			e.counts.safe.Add(int64(f.readings))
			e.safeTook = append(e.safeTook, took(f))
			e.unsafe -= f.size
			done = i + 1
		} else if f.seq > got.Seq {
			break
		}
	}
	if done > 0 {
		e.sent = append(e.sent[:0], e.sent[done:]...)
		select {
		case e.room <- struct{}{}:
		default:
		}
	}
}

// forget drops the times taken so far: what came before the measurement.
func (e *loadEdge) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gotTook, e.safeTook = e.gotTook[:0], e.safeTook[:0]
}

// times returns the times taken since forget.
func (e *loadEdge) times() (got, safe []float32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]float32(nil), e.gotTook...), append([]float32(nil), e.safeTook...)
}
