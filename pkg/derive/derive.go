package derive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/langbiang/langbiang/pkg/airindex"
)

// Row is a derived value.
type Row struct {
	Site, Device, Quantity string
	Time                   int64 // ms
	Value                  float64
}

// Edge is an edge as far as its readings have come.
type Edge struct {
	ID, Site  string
	Watermark int64 // ms; 0: none yet
}

// Series is what completeness is judged by.
type Series struct {
	Device, Point string
	Longest       int64 // between two readings of a series that is whole, ms
}

// Options of a [Deriver].
type Options struct {
	Queryable storage.Queryable
	Edges     func() []Edge
	Series    func(edge string) []Series
	Write     func(ctx context.Context, rows []Row) error // returns when they are safe
	Index     func() *airindex.Table                      // may return nil: no index is computed
	Location  *time.Location                              // of days
	StateFile string
	Every     time.Duration // between two looks at what is due; 1 min
	Back      time.Duration // how far back an edge that is new here is computed; 48 h
	Name      string        // the edge that derived series stand under, which is not looked at
	Logger    *slog.Logger
}

const (
	hour = int64(time.Hour / time.Millisecond)
	// chunk is how many hours are computed at once.
	chunk = 24
	// mostHours is how many hours an edge may have been away for all of them to be
	// computed.
	mostHours = 400 * 24
	// context is how many hours before one go into it.
	before = 24
)

// Deriver computes derived series. Open, then Run once; the other methods may be
// called from anywhere.
type Deriver struct {
	o Options

	mu      sync.Mutex
	edges   map[string]*progress
	changed bool
	saveMu  sync.Mutex
}

// progress is how far an edge has come. Hours are numbered from 1970: number h ends
// at (h+1) hours.
type progress struct {
	done    int64 // the last hour that is computed
	known   bool
	late    map[int64]bool // hours that late readings have come to
	working map[int64]bool // of these, those that are being computed
}

// ErrVersion says that the file was written by a newer program.
var ErrVersion = errors.New("written by a newer langbiang-hub")

const stateVersion = 1

// state is the file.
type state struct {
	Version int                  `json:"version"`
	Edges   map[string]edgeState `json:"edges"`
}

type edgeState struct {
	Done int64   `json:"done"`
	Late []int64 `json:"late,omitempty"`
}

// Open reads what is due.
func Open(o Options) (*Deriver, error) {
	if o.Every == 0 {
		o.Every = time.Minute
	}
	if o.Back == 0 {
		o.Back = 48 * time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Deriver{o: o, edges: map[string]*progress{}}
	data, err := os.ReadFile(o.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("derived series: %w", err)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil || s.Version > stateVersion {
		if err == nil {
			return nil, fmt.Errorf("derived series: %s: %w (format %d, this one knows up to %d)", o.StateFile, ErrVersion, s.Version, stateVersion)
		}
		o.Logger.Error("what is due of derived series cannot be read: the last days are computed anew", "file", o.StateFile, "err", err)
		return d, nil
	}
	for id, e := range s.Edges {
		// Late readings may come before anything is computed; then nothing is done yet,
		// which is not the hour 0 of 1970.
		p := &progress{done: e.Done, known: e.Done != 0, late: map[int64]bool{}}
		for _, h := range e.Late {
			p.late[h] = true
		}
		d.edges[id] = p
	}
	return d, nil
}

func (d *Deriver) edge(id string) *progress {
	p := d.edges[id]
	if p == nil {
		p = &progress{late: map[int64]bool{}}
		d.edges[id] = p
	}
	return p
}

// HourOf returns the number of the hour that a time in ms belongs to.
func HourOf(ms int64) int64 {
	q := (ms - 1) / hour
	if (ms-1)%hour < 0 {
		q--
	}
	return q
}

// Late tells that readings came to hours that may be computed already. It does not
// block and keeps nothing of the slice.
func (d *Deriver) Late(edge string, hours []int64) {
	if edge == d.o.Name || len(hours) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.edge(edge)
	for _, h := range hours {
		if !p.known || h <= p.done {
			if !p.late[h] {
				p.late[h] = true
				d.changed = true
			}
		}
	}
}

// Save makes what is due durable, if it has changed. It is called before positions
// move past the readings that Late was told of.
func (d *Deriver) Save() error {
	d.saveMu.Lock()
	defer d.saveMu.Unlock()
	d.mu.Lock()
	if !d.changed {
		d.mu.Unlock()
		return nil
	}
	s := state{Version: stateVersion, Edges: map[string]edgeState{}}
	for id, p := range d.edges {
		if !p.known && len(p.late) == 0 {
			continue
		}
		due := maps.Clone(p.late)
		for h := range p.working {
			due[h] = true
		}
		s.Edges[id] = edgeState{Done: p.done, Late: slices.Sorted(maps.Keys(due))}
	}
	d.changed = false
	d.mu.Unlock()
	if err := d.write(&s); err != nil {
		d.mu.Lock()
		d.changed = true
		d.mu.Unlock()
		return fmt.Errorf("derived series: %w", err)
	}
	return nil
}

func (d *Deriver) write(s *state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	dir := filepath.Dir(d.o.StateFile)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".derived-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), d.o.StateFile)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it was not whole
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	return folder.Sync()
}

// Run computes what is due until ctx ends. What fails is tried again.
func (d *Deriver) Run(ctx context.Context) error {
	tick := time.NewTicker(d.o.Every)
	defer tick.Stop()
	for {
		if err := d.Step(ctx); err != nil && ctx.Err() == nil {
			d.o.Logger.Error("derived series wait", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Step computes what is due now.
func (d *Deriver) Step(ctx context.Context) error {
	var errs []error
	for _, e := range d.o.Edges() {
		if e.ID == d.o.Name || e.Watermark == 0 {
			continue
		}
		if err := d.follow(ctx, e); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			errs = append(errs, fmt.Errorf("edge %s: %w", e.ID, err))
		}
	}
	return errors.Join(errs...)
}

// follow computes the hours of an edge that are due.
func (d *Deriver) follow(ctx context.Context, e Edge) error {
	target := HourOf(e.Watermark+1) - 1 // the last hour that is over
	d.mu.Lock()
	p := d.edge(e.ID)
	fresh := !p.known
	if fresh {
		p.known, p.done, d.changed = true, target-int64(d.o.Back/time.Hour), true
	}
	// An edge whose clock was in 1970 at first must not have all hours since computed.
	p.done = max(p.done, target-mostHours)
	first := p.done + 1
	due := map[int64]bool{}
	changed := map[int64]bool{} // hours with readings that were not there
	p.working = p.late
	p.late = map[int64]bool{}
	for h := range p.working {
		changed[h] = true
		for k := range int64(before) {
			if h+k <= target {
				due[h+k] = true
			}
		}
	}
	d.mu.Unlock()
	for h := first; h <= target; h++ {
		due[h], changed[h] = true, true
	}
	hours := slices.Sorted(maps.Keys(due))
	for len(hours) > 0 {
		n := 1
		for n < len(hours) && n < chunk && hours[n]-hours[0] < 2*chunk {
			n++
		}
		if err := d.compute(ctx, e, hours[:n], changed, target, &fresh); err != nil {
			d.mu.Lock()
			maps.Copy(p.late, p.working)
			p.working = nil
			d.mu.Unlock()
			return err
		}
		d.mu.Lock()
		if last := hours[n-1]; last > p.done {
			p.done, d.changed = last, true
		}
		d.mu.Unlock()
		hours = hours[n:]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(p.working) > 0 {
		p.working, d.changed = nil, true
	}
	return nil
}
