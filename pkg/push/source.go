package push

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

// The errors that callers branch on.
var (
	// ErrStopped says that the hub stops: send again, to the next start.
	ErrStopped = errors.New("the hub is stopping")
	// ErrBusy says that the source's log holds too much that the store has not yet;
	// or that too many wait. Send again later.
	ErrBusy = errors.New("the hub is behind with what it has taken")
	// ErrDisk says that the disk refuses the source's log. Nothing was promised.
	ErrDisk = errors.New("the hub's disk refuses the log")
	// ErrFull says that rows of new series were not taken, because the table of the
	// source's series no longer fits into a message; all others were.
	ErrFull = errors.New("there is no room for more series in the source's schema; rows of new ones were not taken, the others were")
)

// Source is an edge inside the hub, fed over HTTP. Open, then Run once, beside an
// uplink over [Source.Log]; the log stays the caller's to close afterwards.
type Source struct {
	cfg    Config
	log    *buffer.Log
	logger *slog.Logger
	now    func() time.Time
	table  *table

	begun   framelog.Start
	prev    wire.Pos // goes into the first frame
	encoder *wire.Encoder
	frame   wire.Frame
	schema  atomic.Pointer[buffer.Attachment]
	seq     uint64
	w       int64

	in      chan *write
	uploads chan struct{} // bodies that are being read
	done    chan struct{} // closed when Run has ended

	rows, refused, replaced, requests atomic.Uint64
	last                              atomic.Int64 // hub's clock at the newest write, ms
}

// write is what waits for a frame.
type write struct {
	readings []telemetry.Reading
	done     chan error // of capacity 1
}

// Open prepares a source over its log, which nobody else writes to. Now is the
// hub's clock.
func Open(cfg Config, log *buffer.Log, now func() time.Time, logger *slog.Logger) (*Source, error) {
	cfg.fill()
	s := &Source{cfg: cfg, log: log, logger: logger.With("source", cfg.ID), now: now, in: make(chan *write, 256), uploads: make(chan struct{}, maxUploads), done: make(chan struct{})}
	s.table = newTable(&s.cfg)
	end := framelog.EndOf(log)
	s.prev, s.w = end.Pos, end.Watermark
	schema := &telemetry.Schema{}
	if raw, read, ok := newestSchema(log, end.Pos); ok {
		s.table.restore(read, now().UnixMilli())
		schema = read
		s.schema.Store(raw)
		s.frame.Schema = raw.Key
	} else {
		s.table.changed = true
	}
	s.encoder = wire.NewEncoder(schema)
	var err error
	if s.begun, err = framelog.Begin(log, now().UnixMilli(), s.logger); err != nil {
		return nil, fmt.Errorf("source %s: %w", cfg.ID, err)
	}
	// The first frame says since when nobody has looked.
	t := max(now().UnixMilli(), s.w)
	from := s.w
	if from == 0 {
		from = t
	}
	s.frame.Marks = []wire.Mark{{Kind: wire.MarkStart, From: from, To: t}}
	s.w = t
	return s, nil
}

// newestSchema returns the schema of the newest frame of the log.
func newestSchema(log *buffer.Log, last wire.Pos) (*buffer.Attachment, *telemetry.Schema, bool) {
	if last.IsZero() {
		return nil, nil, false
	}
	var hash wire.Hash
	stop := errors.New("found")
	before := framelog.FromWire(last)
	before.Seq--
	_ = log.Read(before, 1, func(r buffer.Record) error { // an error is "found"
		if h, err := wire.PeekFrame(r.Payload); err == nil {
			hash = h.Schema
		}
		return stop
	})
	raw, ok := log.Attachment(hash)
	if !ok {
		return nil, nil, false
	}
	read, got, err := wire.DecodeSchema(raw)
	if err != nil || got != hash {
		return nil, nil, false
	}
	return &buffer.Attachment{Key: hash, Data: raw}, read, true
}

// ID is the id of the edge that the source is counted as.
func (s *Source) ID() string { return s.cfg.ID }

// Config returns the source's configuration.
func (s *Source) Config() *Config { return &s.cfg }

// Epoch is that of this start.
func (s *Source) Epoch() wire.Epoch { return s.begun.Epoch }

// Hello fills in what the hub is shown of the source.
func (s *Source) Hello(h *wire.Hello) {
	h.Site = s.cfg.Site
	if a := s.schema.Load(); a != nil {
		h.Schema = a.Key
	}
	h.Devices, h.Series, _, _, _ = s.table.stats()
	h.Clock = wire.Clock{Now: s.now().UnixMilli(), Trusted: true, Source: "hub"}
}

// Write takes readings, which are of this source's table, and returns once they are
// on disk; then they survive whatever happens to the hub. It owns the slice.
func (s *Source) Write(ctx context.Context, readings []telemetry.Reading) error {
	if len(readings) == 0 {
		return nil
	}
	if st := s.log.Stats(); st.Bytes > st.MaxBytes/2 && st.UnsafeFrames > st.Frames/2 {
		return ErrBusy // what is evicted must be safe
	}
	w := &write{readings: readings, done: make(chan error, 1)}
	select {
	case s.in <- w:
	case <-s.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return err
	case <-s.done:
		return ErrStopped
	}
}

// Row is a value that the hub itself makes.
type Row struct {
	Metric string
	Tags   []telemetry.Label // sorted by name
	Time   int64             // ms
	Value  float64
}

// Put takes rows as [Source.Write] does.
func (s *Source) Put(ctx context.Context, rows []Row) error {
	readings := make([]telemetry.Reading, 0, len(rows))
	var key []byte
	for i := range rows {
		r := &rows[i]
		key = append(append(key[:0], 'p', 0), r.Metric...)
		for _, l := range r.Tags {
			key = append(append(append(append(key, 0), l.Name...), '='), l.Value...)
		}
		index, scale, add, drop, err := s.table.lookup(key, telemetry.KindNumber, s.now().UnixMilli(), func() (string, []telemetry.Label) { return r.Metric, r.Tags })
		switch {
		case err != nil:
			s.refused.Add(1)
			s.logger.Warn("a row of the hub's own was refused", "metric", r.Metric, "err", err)
		case !drop:
			readings = append(readings, number(index, r.Time, r.Value*scale+add))
		}
	}
	return s.Write(ctx, readings)
}

// Run cuts frames until ctx ends, and then answers nobody any more. An error means
// that the log is closed.
func (s *Source) Run(ctx context.Context) error {
	defer close(s.done)
	if err := s.cut(nil); err != nil {
		return err
	}
	if err := s.log.Commit(); err != nil {
		s.logger.Error("the disk refuses the log of the source", "err", err)
	}
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	var group []*write
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			if err := s.cut(nil); err != nil {
				return err
			}
			if err := s.log.Commit(); err != nil {
				s.logger.Error("the disk refuses the log of the source", "err", err)
			}
		case w := <-s.in:
			group = s.gather(append(group[:0], w))
			err := s.take(group)
			for i, w := range group {
				w.done <- err
				group[i] = nil
			}
			if errors.Is(err, buffer.ErrClosed) {
				return err
			}
		}
	}
}

// gather adds what waits already, as much as one frame should hold.
func (s *Source) gather(group []*write) []*write {
	n := len(group[0].readings)
	for n < wire.MaxReadings/2 {
		select {
		case w := <-s.in:
			group = append(group, w)
			n += len(w.readings)
		default:
			return group
		}
	}
	return group
}

// take puts the rows of a group into the log.
func (s *Source) take(group []*write) error {
	all := group[0].readings
	for _, w := range group[1:] {
		all = append(all, w.readings...)
	}
	full := s.cut(all)
	if full != nil && !errors.Is(full, ErrFull) {
		return full
	}
	if err := s.log.Commit(); err != nil {
		s.logger.Error("the disk refuses the log of the source", "err", err)
		return ErrDisk
	}
	s.last.Store(s.now().UnixMilli())
	s.requests.Add(uint64(len(group)))
	s.rows.Add(uint64(len(all)))
	return full
}

// cut makes a frame of the readings; without any it moves the watermark.
func (s *Source) cut(rs []telemetry.Reading) error {
	n, err := s.describe()
	if err != nil {
		return err
	}
	slices.SortStableFunc(rs, func(a, b telemetry.Reading) int {
		switch {
		case a.Series != b.Series:
			return int(a.Series) - int(b.Series)
		case a.Time < b.Time:
			return -1
		case a.Time > b.Time:
			return 1
		}
		return 0
	})
	// One reading per series and millisecond: the last that was sent.
	kept := rs[:0]
	for i := range rs {
		if i+1 < len(rs) && rs[i].Series == rs[i+1].Series && rs[i].Time == rs[i+1].Time {
			s.replaced.Add(1)
			continue
		}
		if int(rs[i].Series) >= n {
			s.refused.Add(1)
			err = ErrFull
			continue
		}
		kept = append(kept, rs[i])
	}
	f := &s.frame
	f.PrevW, f.Readings = s.w, kept
	f.W = max(s.w, s.now().UnixMilli())
	if err := s.append(f); err != nil {
		return err
	}
	s.w = f.W
	f.Marks, f.Readings = nil, nil
	return err
}

// describe makes the frames to come name the series that there are now.
// It returns how many.
func (s *Source) describe() (int, error) {
	read, raw, hash, n, err := s.table.schema()
	if err != nil {
		return 0, fmt.Errorf("source %s: %w", s.cfg.ID, err)
	}
	if read != nil {
		s.encoder.SetSchema(read)
		s.schema.Store(&buffer.Attachment{Key: hash, Data: raw})
		s.frame.Schema = hash
	}
	return n, nil
}

// append writes the frame to the log, in several parts when it is too large.
func (s *Source) append(f *wire.Frame) error {
	f.Epoch, f.Seq, f.Prev = s.begun.Epoch, s.seq+1, wire.Pos{}
	if f.Seq == 1 {
		f.Prev = s.prev
	}
	payload, err := s.encoder.Encode(nil, f)
	if errors.Is(err, wire.ErrTooLarge) && len(f.Readings) > 1 {
		a, b := *f, *f
		mid := len(f.Readings) / 2
		a.Readings, b.Readings = f.Readings[:mid], f.Readings[mid:]
		a.W, b.Marks = f.PrevW, nil // the watermark comes with the last part
		if err := s.append(&a); err != nil {
			return err
		}
		return s.append(&b)
	}
	if err != nil {
		return fmt.Errorf("source %s: %w", s.cfg.ID, err)
	}
	if err := s.log.Append(f.Seq, payload, f.W, *s.schema.Load()); err != nil {
		return fmt.Errorf("source %s: log: %w", s.cfg.ID, err)
	}
	s.seq = f.Seq
	return nil
}

// Stats are numbers for people, since the start.
type Stats struct {
	Requests uint64 // taken
	Rows     uint64 // taken
	Refused  uint64 // rows that could not be taken
	Replaced uint64 // rows with the series and millisecond of a later one in the same frame
	Devices  int
	Series   int
	Limit    int
	Overflow []Overflow // what there was no room for, the most first
	LastRow  time.Time  // the hub's clock; zero: none since the start
}

// Stats may be called at any time.
func (s *Source) Stats() Stats {
	st := Stats{Requests: s.requests.Load(), Rows: s.rows.Load(), Refused: s.refused.Load(), Replaced: s.replaced.Load()}
	st.Devices, st.Series, st.Limit, _, st.Overflow = s.table.stats()
	st.LastRow = s.LastRow()
	return st
}

// LastRow is the hub's clock at the newest row; zero: none since the start.
func (s *Source) LastRow() time.Time {
	if ms := s.last.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}
