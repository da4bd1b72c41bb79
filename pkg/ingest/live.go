package ingest

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// Counters count what happened with an edge since the hub started.
type Counters struct {
	Frames, Bytes                uint64
	Readings, Late, Bad, Text    uint64
	Duplicates, Holes, Refused   uint64
	Clock, Forks, Clones, Gaps   uint64
	FrameReadings, SnapshotCount uint64 // readings of the newest frame; snapshots
	Limited                      uint64 // readings of series that are refused
}

// EdgeStatus is what the hub knows of an edge.
type EdgeStatus struct {
	Edge, Site string
	Instance   wire.Instance
	Position   wire.Pos // got
	Safe       wire.Pos
	Watermark  int64 // event time, ms; 0: none yet
	// LastSeen is the hub's clock at the last message; zero: not since the start.
	LastSeen time.Time
	// Connected is what the edge, or its last will, said of its connection at
	// StateSince; false as well when nothing was said since the start.
	Connected  bool
	StateSince time.Time
	StateKnown bool
	// ClockOffset is the edge's clock minus the hub's at the last hello, with the
	// time that the message took; ClockTrusted is what the edge thinks of it.
	ClockOffset  time.Duration
	ClockTrusted bool
	Backlog      bool       // its watermark is far behind
	Hello        wire.Hello // the newest; zero V: none since the start
	Devices      int
	Series       int // of the schema
	SeriesTaken  int // of these, that are not refused
	Counters     Counters
	Problems     []Event // states that hold now: fork, clone, clock, refused, version; reinstalled and restored for a while
}

// SeriesStatus is a series with its newest value.
type SeriesStatus struct {
	telemetry.BoundSeries
	Kind    telemetry.Kind
	Known   bool // there was a reading since the hub started
	Live    bool // the value comes from a snapshot; the frames are behind
	Late    bool // the reading came after its watermark
	Time    int64
	Value   float64
	Text    string
	Quality telemetry.Quality
}

// DeviceStatus is a device of an edge's schema.
type DeviceStatus struct {
	Site, Edge string
	telemetry.Device
	Known  bool // device_up was heard since the hub started
	Up     bool
	Reason telemetry.Reason // why not
	Since  int64            // event time of the newest device_up, ms
}

type liveValue struct {
	time                int64
	value               float64
	quality             telemetry.Quality
	known, isLive, late bool
}

// maxGapsShown bounds the gaps kept per edge for the API; the ledger has them all.
const maxGapsShown = 32

// view is the shared side of an edge: its worker writes it once per message, the
// API reads it.
type view struct {
	id      string
	backlog atomic.Bool

	mu       sync.Mutex
	status   EdgeStatus
	binding  *binding
	live     []liveValue
	texts    map[int]string
	gaps     []Gap
	problems map[string]string
}

func (v *view) count(f func(*Counters)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.status.Counters)
}

// age returns how long ago the edge was heard, and how far its watermark is
// behind what the period of its messages explains.
func (v *view) age(now time.Time) (heard, lag time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.status.Watermark != 0 {
		lag = now.Sub(time.UnixMilli(v.status.Watermark)) - 2*min(time.Duration(v.status.Hello.SendEvery)*time.Millisecond, time.Minute)
	}
	return now.Sub(v.status.LastSeen), lag
}

func (v *view) place(d *durable, safe wire.Pos) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.Position, v.status.Safe, v.status.Instance = d.pos, safe, d.instance
	if d.hasW {
		v.status.Watermark = d.w
	}
}

func (v *view) heard(now time.Time, i wire.Instance) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.LastSeen, v.status.Instance = now, i
}

func (v *view) hello(h *wire.Hello, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.Hello = *h
	v.status.ClockOffset = time.UnixMilli(h.Clock.Now).Sub(now)
	v.status.ClockTrusted = h.Clock.Trusted
}

func (v *view) move(site string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.Site = site
}

func (v *view) state(s *wire.State, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.Connected, v.status.StateKnown, v.status.StateSince = s.Online, true, now
}

func (v *view) flag(kind, text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.problems[kind] = text
}

func (v *view) settle(kinds ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range kinds {
		delete(v.problems, k)
	}
}

func (v *view) gap(g Gap, d *durable) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.Counters.Gaps++
	v.status.Position = d.pos
	if len(v.gaps) == maxGapsShown {
		v.gaps = slices.Delete(v.gaps, 0, 1)
	}
	v.gaps = append(v.gaps, g)
}

// bind puts another schema in force; values of series that stay are kept.
func (v *view) bind(old, b *binding) {
	live := make([]liveValue, len(b.series))
	v.mu.Lock()
	defer v.mu.Unlock()
	texts := map[int]string{}
	carry(old, b, func(from, to int) {
		live[to] = v.live[from]
		if t, ok := v.texts[from]; ok {
			texts[to] = t
		}
	})
	v.binding, v.live, v.texts = b, live, texts
	v.status.Site = b.site
	v.status.Devices, v.status.Series, v.status.SeriesTaken = len(b.devices), len(b.series), b.taken
}

// frame takes over what a frame brought.
func (v *view) frame(e *edge, f *wire.Frame, n tally, size int, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &v.status
	s.Position, s.Watermark, s.LastSeen = e.pos, f.W, now
	c := &s.Counters
	c.Frames++
	c.Bytes += uint64(size)
	c.Readings += uint64(n.readings)
	c.Late += uint64(n.late)
	c.Bad += uint64(n.bad)
	c.Text += uint64(n.text)
	c.Limited += uint64(n.refused)
	c.FrameReadings = uint64(n.readings)
	if n := len(v.gaps); n > 0 && v.gaps[n-1].To.IsZero() {
		v.gaps[n-1].To = time.UnixMilli(f.PrevW).UTC()
	}
	prev, w := f.PrevW, f.W
	if e.pushed {
		prev, w = math.MinInt64/2, math.MaxInt64/2
	}
	v.show(f.Readings, false, prev, w)
}

func (v *view) snapshot(sn *wire.Snapshot, now time.Time, ahead time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.LastSeen = now
	v.status.Counters.SnapshotCount++
	limit := now.Add(ahead).UnixMilli()
	kept := sn.Readings[:0]
	for _, r := range sn.Readings {
		if r.Time <= limit {
			kept = append(kept, r)
		}
	}
	v.show(kept, true, 0, 0)
}

// settleLive ends the state of values that a snapshot brought: no longer is anything
// newer on its way. Those whose frame was lost in a gap stay, as the last that is known.
func (v *view) settleLive() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.live {
		v.live[i].isLive = false
	}
}

// show keeps the newest reading of each series; those of one series stand
// together, the newest last.
func (v *view) show(rs []telemetry.Reading, live bool, prev, w int64) {
	for i := range rs {
		r := &rs[i]
		if i+1 < len(rs) && rs[i+1].Series == r.Series {
			continue
		}
		lv := &v.live[r.Series]
		if lv.known && r.Time < lv.time {
			continue
		}
		s := &v.binding.series[r.Series]
		if s.refused {
			continue
		}
		late := !live && (r.Time <= prev-s.lag || r.Time > w-s.lag)
		*lv = liveValue{time: r.Time, value: r.Value, quality: r.Quality, known: true, isLive: live, late: late}
		if s.text {
			v.texts[int(r.Series)] = strings.Clone(r.Text)
		}
	}
}

// views are the edges by id.
type views struct {
	mu sync.RWMutex
	m  map[string]*view
}

func newViews() *views { return &views{m: map[string]*view{}} }

func (a *views) add(id, site string) *view {
	v := &view{id: id, problems: map[string]string{}, status: EdgeStatus{Edge: id, Site: site}}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.m[id] = v
	return v
}

func (a *views) len() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.m)
}

func (a *views) get(id string) *view {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.m[id]
}

// isBacklog reports whether the edge is known and far behind.
func (a *views) isBacklog(id string) bool {
	v := a.get(id)
	return v != nil && v.backlog.Load()
}

func (a *views) each(f func(*view)) {
	a.mu.RLock()
	list := make([]*view, 0, len(a.m))
	for _, v := range a.m {
		list = append(list, v)
	}
	a.mu.RUnlock()
	for _, v := range list {
		f(v)
	}
}

// sorted returns the views by edge id.
func (a *views) sorted() []*view {
	a.mu.RLock()
	defer a.mu.RUnlock()
	ids := slices.Sorted(maps.Keys(a.m))
	out := make([]*view, len(ids))
	for i, id := range ids {
		out[i] = a.m[id]
	}
	return out
}

func (v *view) edgeStatus() EdgeStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.status
	s.Backlog = v.backlog.Load()
	for _, k := range slices.Sorted(maps.Keys(v.problems)) {
		s.Problems = append(s.Problems, Event{Edge: s.Edge, Kind: k, Text: v.problems[k]})
	}
	return s
}

// Edges returns the state of all edges, sorted by id.
func (g *Ingest) Edges() []EdgeStatus {
	var out []EdgeStatus
	for _, v := range g.views.sorted() {
		out = append(out, v.edgeStatus())
	}
	return out
}

// Edge returns the state of one edge.
func (g *Ingest) Edge(id string) (EdgeStatus, bool) {
	if v := g.views.get(id); v != nil {
		return v.edgeStatus(), true
	}
	return EdgeStatus{}, false
}

// Series returns the series of an edge with their newest values, in the order of
// its schema.
func (g *Ingest) Series(edge string) []SeriesStatus {
	v := g.views.get(edge)
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]SeriesStatus, len(v.live))
	for i, lv := range v.live {
		out[i] = SeriesStatus{
			BoundSeries: v.binding.bound[i], Kind: v.binding.series[i].kind(),
			Known: lv.known, Live: lv.isLive, Late: lv.late,
			Time: lv.time, Value: lv.value, Quality: lv.quality, Text: v.texts[i],
		}
	}
	return out
}

// Devices returns the devices of an edge, in the order of its schema.
func (g *Ingest) Devices(edge string) []DeviceStatus {
	v := g.views.get(edge)
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.binding == nil {
		return nil
	}
	out := make([]DeviceStatus, len(v.binding.devices))
	for i, d := range v.binding.devices {
		out[i] = DeviceStatus{Site: v.status.Site, Edge: edge, Device: d}
	}
	for i := range v.binding.series {
		lv := v.live[i]
		if v.binding.bound[i].Quantity != telemetry.QuantityDeviceUp || !lv.known {
			continue
		}
		d := &out[v.binding.series[i].device]
		d.Known, d.Up, d.Reason, d.Since = true, lv.value == 1 && !lv.quality.IsBad(), lv.quality.Reason(), lv.time
	}
	return out
}

// Gaps returns the newest gaps that an edge declared since the hub started, oldest
// first.
func (g *Ingest) Gaps(edge string) []Gap {
	v := g.views.get(edge)
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.gaps)
}
