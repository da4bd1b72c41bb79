package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Options of a [History]. Durations that are 0 take the default, unless said.
type Options struct {
	// KeepFiveMinutes and KeepHours are how long buckets are kept: 3 and 10 years.
	KeepFiveMinutes, KeepHours time.Duration
	// OutOfOrder is how far behind the clock samples may still come; 45 days.
	OutOfOrder time.Duration
	// Settle is how long after its end a day is computed; 1 hour. It is more than
	// what Mark may miss, see History.Mark.
	Settle time.Duration
	// CorrectEvery is the shortest time between two corrections of one period; 10
	// minutes.
	CorrectEvery time.Duration
	// Duty is the share of a core that computing takes; a quarter. 1 is all of it.
	Duty float64
	// Aggregate says how the samples of a metric are joined; nil: by their mean.
	Aggregate func(metric string) telemetry.Aggregation
	// Room says why nothing may be written now, nil when it may; nil: always.
	Room func() error
	// Now is the hub's clock in milliseconds; nil: the system's.
	Now func() int64
	// Logger may be nil.
	Logger *slog.Logger
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&o.KeepFiveMinutes, 3 * 365 * 24 * time.Hour},
		{&o.KeepHours, 10 * 365 * 24 * time.Hour},
		{&o.OutOfOrder, 45 * 24 * time.Hour},
		{&o.Settle, time.Hour},
		{&o.CorrectEvery, 10 * time.Minute},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.Duty == 0 {
		o.Duty = 0.25
	}
	if o.Aggregate == nil {
		o.Aggregate = Aggregations(nil)
	}
	if o.Room == nil {
		o.Room = func() error { return nil }
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	if o.Logger == nil {
		o.Logger = noLogs
	}
}

var noLogs = slog.New(slog.DiscardHandler)

// Raw is where the samples are.
type Raw interface {
	Queryable() storage.Queryable
	// Oldest returns the time of the oldest sample, math.MaxInt64 when there is none.
	Oldest() int64
}

// History is open history. See the package comment.
type History struct {
	dir string
	o   Options

	mu   sync.RWMutex
	sets []*set // by width, then by start; see place

	// computed is the time up to which periods may have been computed.
	computed atomic.Int64

	marks marks

	catching  sync.Mutex      // held by Catch; guards what follows
	empty     map[period]bool // days that had no samples
	corrected map[period]int64
}

// Open opens the history in dir, which is made when it does not exist. A set that
// cannot be read is set aside under the name .corrupt-NAME, and computed anew from
// what samples there are.
func Open(dir string, o Options) (h *History, err error) {
	o.setDefaults()
	h = &History{dir: dir, o: o, empty: map[period]bool{}, corrected: map[period]int64{}}
	if err := h.marks.open(dir); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	for width, name := range widthNames {
		if err := h.load(filepath.Join(dir, name), width); err != nil {
			return nil, errors.Join(fmt.Errorf("history: %w", err), h.Close())
		}
	}
	h.dropReplaced()
	h.computed.Store(math.MinInt64)
	for _, s := range h.sets {
		if s.width == FiveMinutes {
			h.raise(s.end)
		}
	}
	return h, nil
}

// load opens the sets of a width.
func (h *History) load(dir string, width int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasSuffix(e.Name(), tmpSuffix) { // of a computation that was broken off
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		if _, _, err := parseName(e.Name()); err != nil {
			continue
		}
		s, err := openSet(path, width)
		if err == nil {
			h.place(s)
			continue
		}
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		h.o.Logger.Error("a set of long history is damaged and set aside; it is computed anew as far as the readings are still there", "set", path, "err", err)
		if err := os.Rename(path, filepath.Join(dir, ".corrupt-"+e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// place takes a set into the list, which stays in order.
func (h *History) place(s *set) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sets = append(h.sets, s)
	slices.SortFunc(h.sets, func(a, b *set) int {
		switch {
		case a.width != b.width:
			return int(a.width - b.width)
		case a.start != b.start:
			return int((a.start - b.start) / Hour)
		}
		return a.id.Compare(b.id)
	})
}

// drop takes sets out of the list and off the disk.
func (h *History) drop(gone []*set) {
	h.mu.Lock()
	h.sets = slices.DeleteFunc(h.sets, func(s *set) bool { return slices.Contains(gone, s) })
	h.mu.Unlock()
	for _, s := range gone {
		if err := errors.Join(s.close(), os.RemoveAll(s.dir)); err != nil {
			h.o.Logger.Error("an old set of long history stays on disk", "set", s.dir, "err", err)
		}
	}
}

// dropReplaced removes the sets that a newer one covers.
func (h *History) dropReplaced() {
	var gone []*set
	for _, a := range h.sets {
		if slices.ContainsFunc(h.sets, func(b *set) bool {
			return a != b && a.width == b.width && b.covers(a.period) && (a.period != b.period || b.id.Compare(a.id) > 0)
		}) {
			gone = append(gone, a)
		}
	}
	h.drop(gone)
}

// within returns the sets of a width that lie in a period.
func (h *History) within(p period, width int64) (out []*set) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.sets {
		if s.width == width && p.covers(s.period) {
			out = append(out, s)
		}
	}
	return out
}

// covering returns the set of a width that holds all of a period.
func (h *History) covering(p period, width int64) *set {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.sets {
		if s.width == width && s.covers(p) {
			return s
		}
	}
	return nil
}

// raise moves the time forward up to which periods may be computed.
func (h *History) raise(t int64) {
	for {
		was := h.computed.Load()
		if t <= was || h.computed.CompareAndSwap(was, t) {
			return
		}
	}
}

// Run computes until ctx ends. What cannot be done is logged and tried again.
func (h *History) Run(ctx context.Context, raw Raw) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := h.Catch(ctx, raw); err != nil && ctx.Err() == nil {
			h.o.Logger.Error("long history is not computed, tried again in a minute", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Catch does all that can be done now: it computes the days that are settled,
// corrects, joins months, and drops what is too old. Run does so every minute.
func (h *History) Catch(ctx context.Context, raw Raw) error {
	h.catching.Lock()
	defer h.catching.Unlock()
	now := h.o.Now()
	if err := h.days(ctx, raw, now); err != nil {
		return err
	}
	if err := h.correct(ctx, raw, now); err != nil {
		return err
	}
	if err := h.months(ctx, now); err != nil {
		return err
	}
	h.expire(now)
	return nil
}

// days computes the days that have none yet, oldest first.
func (h *History) days(ctx context.Context, raw Raw, now int64) error {
	first := raw.Oldest()
	if first == math.MaxInt64 {
		return nil
	}
	first = max(first, now-h.o.KeepFiveMinutes.Milliseconds())
	for d := dayOf(first); d.end+h.o.Settle.Milliseconds() <= now; d = (period{d.end, d.end + day}) {
		if h.empty[d] || h.covering(d, FiveMinutes) != nil {
			continue
		}
		if err := h.replace(ctx, d, nil, raw.Queryable(), d.start, d.end); err != nil {
			return err
		}
		if h.covering(d, FiveMinutes) == nil {
			h.empty[d] = true // what comes late marks it
		}
	}
	return nil
}

// replace computes the five-minute set of a period and puts it in the place of older
// ones.
func (h *History) replace(ctx context.Context, p period, old []*set, raw storage.Queryable, from, to int64) error {
	if err := h.o.Room(); err != nil {
		return err
	}
	h.raise(p.end) // before the samples are read: what comes from now on is marked
	start := time.Now()
	s, err := h.compute(ctx, p, FiveMinutes, old, raw, from, to)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name(), err)
	}
	if s == nil {
		return nil
	}
	h.place(s)
	h.drop(old)
	h.o.Logger.Info("long history computed", "period", p.name(), "corrected", len(old) > 0, "series", s.blocks[0].Meta().Stats.NumSeries, "bytes", s.size(), "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// correct computes what late samples have changed.
func (h *History) correct(ctx context.Context, raw Raw, now int64) error {
	late := h.marks.all()
	byPeriod := map[period]map[int64]uint64{}
	for slice, n := range late {
		p := dayOf(slice + 1)
		if s := h.covering(p, FiveMinutes); s != nil {
			p = s.period
		}
		if p.end+h.o.Settle.Milliseconds() > now {
			continue // it is computed when it is over
		}
		if byPeriod[p] == nil {
			byPeriod[p] = map[int64]uint64{}
		}
		byPeriod[p][slice] = n
	}
	for p, slices := range byPeriod {
		if last, ok := h.corrected[p]; ok && now-last < h.o.CorrectEvery.Milliseconds() {
			continue
		}
		from, to := int64(math.MaxInt64), int64(math.MinInt64)
		for s := range slices {
			from, to = min(from, s), max(to, s+Slice)
		}
		var old []*set
		if s := h.covering(p, FiveMinutes); s != nil {
			old = []*set{s}
		}
		if err := h.replace(ctx, p, old, raw.Queryable(), max(from, p.start), min(to, p.end)); err != nil {
			return err
		}
		if hours := h.within(p, Hour); len(hours) > 0 {
			if err := h.hours(ctx, p, hours); err != nil {
				return err
			}
		}
		h.corrected[p] = now
		delete(h.empty, p)
		if err := h.marks.done(slices); err != nil {
			return err
		}
	}
	maps.DeleteFunc(h.corrected, func(_ period, at int64) bool { return now-at > h.o.CorrectEvery.Milliseconds() })
	return nil
}

// months joins the days of the months that nothing can come late to any more, and
// makes their hours.
func (h *History) months(ctx context.Context, now int64) error {
	done := map[period]bool{}
	for _, d := range h.within(period{math.MinInt64, now - h.o.OutOfOrder.Milliseconds() - h.o.Settle.Milliseconds()}, FiveMinutes) {
		m := monthOf(d.end)
		if d.isMonth() || done[m] || m.end > now-h.o.OutOfOrder.Milliseconds()-h.o.Settle.Milliseconds() || h.marked(m) {
			continue
		}
		done[m] = true
		if err := h.replace(ctx, m, h.within(m, FiveMinutes), nil, 0, 0); err != nil {
			return err
		}
	}
	for _, m := range h.within(period{math.MinInt64, now}, FiveMinutes) {
		if m.isMonth() && h.covering(m.period, Hour) == nil {
			if err := h.hours(ctx, m.period, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// marked reports whether late samples have changed a period.
func (h *History) marked(p period) bool {
	for s := range h.marks.all() {
		if p.start <= s && s < p.end {
			return true
		}
	}
	return false
}

// hours makes the hours of a month, in the place of older ones.
func (h *History) hours(ctx context.Context, m period, old []*set) error {
	if err := h.o.Room(); err != nil {
		return err
	}
	s, err := h.compute(ctx, m, Hour, h.within(m, FiveMinutes), nil, 0, 0)
	if err != nil {
		return fmt.Errorf("hours of %s: %w", m.name(), err)
	}
	if s != nil {
		h.place(s)
		h.drop(old)
	}
	return nil
}

// expire drops the sets whose newest bucket is too old. Five minutes whose hours
// are not made yet stay.
func (h *History) expire(now int64) {
	var gone []*set
	for _, s := range h.within(period{math.MinInt64, math.MaxInt64}, FiveMinutes) {
		if s.end <= now-h.o.KeepFiveMinutes.Milliseconds() && h.covering(s.period, Hour) != nil {
			gone = append(gone, s)
		}
	}
	for _, s := range h.within(period{math.MinInt64, math.MaxInt64}, Hour) {
		if s.end <= now-h.o.KeepHours.Milliseconds() {
			gone = append(gone, s)
		}
	}
	h.drop(gone)
}

// Computed returns the time up to which samples are to be marked, as [History.Mark]
// says.
func (h *History) Computed() int64 { return h.computed.Load() }

// Mark notes that samples were added to the slices that begin at these times. It is
// called after the samples can be queried, for samples at or before Computed at
// that moment; and at least for those that are more than half of Options.Settle
// old.
func (h *History) Mark(slices ...int64) { h.marks.add(slices) }

// Save makes the marks durable, if there are new ones. Samples may be called safe
// once it has returned nil.
func (h *History) Save() error { return h.marks.save() }

// Gone notes that the store has dropped samples up to a time.
func (h *History) Gone(t int64) { h.marks.gone(t) }

// Stats are numbers of a history. Times are in milliseconds, 0 when there is none.
type Stats struct {
	Sets        int
	Bytes       int64
	FiveMinutes int64 // start of the oldest set
	Hours       int64
	Late        int // slices that wait for their correction
}

// Stats returns numbers for people.
func (h *History) Stats() Stats {
	st := Stats{Late: len(h.marks.all())}
	h.mu.RLock()
	defer h.mu.RUnlock()
	st.Sets = len(h.sets)
	for _, s := range h.sets {
		st.Bytes += s.size()
		at := &st.FiveMinutes
		if s.width == Hour {
			at = &st.Hours
		}
		if *at == 0 || s.start < *at {
			*at = s.start
		}
	}
	return st
}

// Close closes all sets; it waits for queries. Run has ended.
func (h *History) Close() error {
	h.mu.Lock()
	sets := h.sets
	h.sets = nil
	h.mu.Unlock()
	var errs []error
	for _, s := range sets {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
