package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// recorder cuts what the collector holds into frames and writes them to the log.
// It belongs to the goroutine that calls run; its counters may be read from any.
type recorder struct {
	log     *buffer.Log
	collect *collector
	encoder *wire.Encoder
	logger  *slog.Logger
	framelog.Start
	prev    wire.Pos // goes into the first frame
	schema  atomic.Pointer[buffer.Attachment]
	boot    [16]byte
	seq     uint64
	frame   wire.Frame
	refused bool // the disk took no commit the last time
	values  *lastValues
	flush   func() // sends what is in the log; nil until there is an uplink
	totals  *totals
	held    []byte // which messages the next frame that is stored holds
	changes chan change

	receipts *receipts // nil: they are not kept

	frames, readings, lost, urgent atomic.Uint64
}

func newRecorder(log *buffer.Log, collect *collector, schema *telemetry.Schema, totals *totals, begun framelog.Start, prev wire.Pos, boot [16]byte, logger *slog.Logger) (*recorder, error) {
	r := &recorder{
		log: log, collect: collect, encoder: wire.NewEncoder(schema), logger: logger, totals: totals,
		Start: begun, prev: prev, boot: boot,
		values: newLastValues(schema), changes: make(chan change),
	}
	if err := r.describe(schema); err != nil {
		return nil, err
	}
	return r, nil
}

// describe makes frames name another schema; its series are those of the one
// before.
func (r *recorder) describe(schema *telemetry.Schema) error {
	data, hash, err := wire.EncodeSchema(nil, schema)
	if err != nil {
		return fmt.Errorf("%w: %w", errLayout, err)
	}
	r.schema.Store(&buffer.Attachment{Key: hash, Data: data})
	r.frame.Schema = hash
	return nil
}

// run cuts a frame every send and commits every commit, both at once for what is
// urgent, until ctx ends; then it cuts and commits once more. It keeps running
// while the disk refuses: the log holds the newest frames in memory meanwhile.
func (r *recorder) run(ctx context.Context, send, quiet, commit time.Duration, alive func()) error {
	sends, commits := time.NewTicker(send), time.NewTicker(commit)
	defer sends.Stop()
	defer commits.Stop()
	for {
		select {
		case <-sends.C:
			if err := r.cut(quiet); err != nil {
				return err
			}
			alive()
			if r.collect.owed() {
				r.hurry()
			}
		case <-r.collect.urgent:
			if err := r.cut(0); err != nil {
				return err
			}
			r.hurry()
		case <-r.collect.full:
			if err := r.cut(quiet); err != nil {
				return err
			}
		case <-commits.C:
			r.commit()
		case ch := <-r.changes:
			err := r.relay(ch.layout)
			ch.done <- err
			if err != nil && !errors.Is(err, errLayout) {
				return err
			}
		case <-ctx.Done():
			r.collect.close()
			if err := r.cut(0); err != nil {
				return err
			}
			r.totals.stage()
			r.commit()
			return nil
		}
	}
}

// change asks the recorder to change over to another layout.
type change struct {
	layout layout
	done   chan error // of capacity 1
}

// errLayout says that the devices cannot be described to the hub; the layout
// before stays.
var errLayout = errors.New("the devices cannot be described to the hub")

// relay ends the layout before with a frame of its own and begins the next one.
func (r *recorder) relay(next layout) error {
	if _, _, err := wire.EncodeSchema(nil, next.schema); err != nil {
		return fmt.Errorf("%w: %w", errLayout, err)
	}
	cut, old := r.collect.relay(next, &r.frame)
	if cut {
		if err := r.store(&r.frame); err != nil {
			return err
		}
	}
	r.encoder.SetSchema(next.schema)
	r.values.relay(next.schema, old)
	return r.describe(next.schema)
}

// hurry sends and commits what was cut.
func (r *recorder) hurry() {
	if r.flush != nil {
		r.flush()
	}
	r.commit()
	r.urgent.Add(1)
}

func (r *recorder) cut(quiet time.Duration) error {
	if schema := r.collect.revision(); schema != nil {
		if err := r.describe(schema); err != nil {
			r.logger.Error("the hub does not learn the revisions of the devices", "err", err)
		}
	}
	if !r.collect.cut(&r.frame, quiet) {
		return nil
	}
	told := true // of all messages that the counters have counted
	if r.receipts != nil {
		told = r.held == nil
		if told {
			r.held, told = r.receipts.take(r.collect.newest())
		}
	}
	if told {
		r.totals.stage()
	}
	return r.store(&r.frame)
}

// store writes the frame to the log, in several parts when it is too large for
// one message.
func (r *recorder) store(f *wire.Frame) error {
	f.Epoch, f.Seq, f.Prev = r.Epoch, r.seq+1, wire.Pos{}
	if f.Seq == 1 {
		f.Prev = r.prev
	}
	f.Boot = [16]byte{}
	if f.Untimed {
		f.Boot = r.boot
	}
	payload, err := r.encoder.Encode(nil, f)
	switch {
	case errors.Is(err, wire.ErrTooLarge) && len(f.Readings) > 1:
		return r.split(f)
	case err != nil:
		// What cannot be encoded is our fault, and must not stop the rest.
		r.lost.Add(uint64(len(f.Readings)))
		r.logger.Error("readings lost: frame cannot be encoded", "readings", len(f.Readings), "err", err)
		return nil
	}
	at := f.W
	if f.Untimed {
		at = 0
	}
	attach := []buffer.Attachment{*r.schema.Load()}
	if r.held != nil {
		attach = append(attach, buffer.Attachment{Key: receiptKey(r.Epoch.Bytes(), f.Seq), Data: r.held})
	}
	if err := r.log.Append(f.Seq, payload, at, attach...); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	r.held = nil
	r.seq = f.Seq
	r.values.update(f)
	r.frames.Add(1)
	r.readings.Add(uint64(len(f.Readings)))
	return nil
}

// split cuts a frame at the median of its times. Readings that all belong to one
// millisecond are cut anywhere; the second part then comes late, but it comes.
func (r *recorder) split(f *wire.Frame) error {
	rs := f.Readings
	slices.SortStableFunc(rs, func(a, b telemetry.Reading) int {
		switch {
		case a.Time < b.Time:
			return -1
		case a.Time > b.Time:
			return 1
		}
		return 0
	})
	mid := len(rs) / 2
	for mid < len(rs)-1 && rs[mid].Time == rs[mid-1].Time {
		mid++
	}
	a, b := *f, *f
	a.Readings, b.Readings = rs[:mid], rs[mid:]
	a.W = max(f.PrevW, min(f.W, rs[mid-1].Time))
	b.PrevW, b.Marks = a.W, nil
	held := r.held
	r.held = nil // what it names may be in the second part
	if err := r.store(&a); err != nil {
		return err
	}
	r.held = held
	return r.store(&b)
}

// commit makes what was cut durable and tells those who wait for it.
func (r *recorder) commit() {
	upTo := r.collect.newest()
	if err := r.totals.flush(buffer.Epoch(r.Epoch.Bytes()), r.seq); err != nil && !r.refused {
		r.logger.Error("the counters cannot be kept over a restart", "err", err)
	}
	err := r.log.Commit()
	switch {
	case err != nil && !r.refused:
		r.logger.Error("the disk refuses the log; the newest frames wait in memory", "err", err)
	case err == nil && r.refused:
		r.logger.Info("the disk takes the log again")
	}
	r.refused = err != nil
	if err != nil {
		return
	}
	if r.Unsaved && r.Save(r.log) == nil {
		r.Unsaved = false
	}
	r.totals.commit()
	if r.receipts != nil {
		r.receipts.commit(upTo)
	}
	r.collect.commit(upTo)
}
