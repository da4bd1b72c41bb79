package hub

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// fleetPart shows what the hub knows to the API.
type fleetPart struct{ hub *Hub }

// Sites implements [api.Fleet].
func (f *fleetPart) Sites() []api.Site {
	counts := f.hub.ledger.Counts().BySite
	edges := map[string][]string{}
	for _, e := range f.hub.agents() {
		edges[e.Site] = append(edges[e.Site], e.Edge)
	}
	var out []api.Site
	add := func(s api.Site) {
		for sev, n := range counts[s.ID] {
			s.Active += n
			s.Severity = max(s.Severity, sev)
		}
		if s.Edges = edges[s.ID]; s.Edges == nil {
			s.Edges = []string{}
		}
		delete(edges, s.ID)
		out = append(out, s)
	}
	for _, s := range f.hub.plan.Sites {
		add(api.Site{ID: s.ID, Name: s.Name, Province: s.Province, Lat: s.Lat, Lon: s.Lon, Former: s.Former})
	}
	for id := range edges { // sites that edges name and nobody has listed
		if id != "" {
			add(api.Site{ID: id, Name: telemetry.Text{VI: id, EN: id}})
		}
	}
	return out
}

// Edges implements [api.Fleet].
func (f *fleetPart) Edges() []api.Edge {
	var out []api.Edge
	for _, e := range f.hub.agents() {
		a := api.Edge{
			ID: e.Edge, Site: e.Site, Connected: e.Connected, LastSeen: pointer(e.LastSeen), Version: e.Hello.Version,
			Sequence: e.Position.Seq, Watermark: millis(e.Watermark), Backlog: e.Backlog, Status: "ok",
			Frames: e.Counters.Frames, Readings: e.Counters.Readings, Late: e.Counters.Late, Gaps: []api.Gap{}, Unobserved: []api.Gap{},
			Series: e.Series, SeriesRefused: e.Series - e.SeriesTaken, ReadingsRefused: e.Counters.Limited, Pushed: f.hub.sources.has(e.Edge),
			Platform: e.Hello.Platform, ClockTrusted: e.ClockTrusted, Ask: e.Hello.Ask,
		}
		if !e.Position.Epoch.IsZero() {
			a.Epoch = e.Position.Epoch.String()
		}
		if e.Hello.V != 0 {
			ms := e.ClockOffset.Milliseconds()
			a.ClockOffsetMS, a.Unsent = &ms, &e.Hello.Backlog
		}
		if !a.Pushed {
			st := f.hub.configs.Status(e.Edge)
			shown := configStatus(&st)
			shown.Detail, _, _ = strings.Cut(shown.Detail, "\n") // the edge's own resource has all
			shown.Detail = clip(shown.Detail)
			a.Configuration = &shown
		}
		a.Status, a.Detail = worst(e.Problems)
		gaps, err := f.hub.ledger.Gaps(e.Edge)
		if err != nil {
			f.hub.logger.Error("gaps cannot be read", "edge", e.Edge, "err", err)
		}
		for _, g := range slices.Backward(gaps) {
			list := &a.Gaps
			if g.Reason == ledger.ReasonUnobserved {
				list = &a.Unobserved
			}
			if len(*list) < maxGapsShown {
				*list = append(*list, api.Gap{From: pointer(g.From), To: pointer(g.To), Reason: g.Reason, Recorded: g.Recorded.UTC()})
			}
		}
		slices.Reverse(a.Gaps)
		slices.Reverse(a.Unobserved)
		out = append(out, a)
	}
	return out
}

// worst returns the problem to show, kind and sentence; "ok" when there is none.
// That nothing is acknowledged is worse than a disk that refuses, and that is worse
// than what is only to be known.
func worst(problems []ingest.Event) (status, detail string) {
	rank := map[string]int{ingest.EventReinstall: 1, ingest.EventRestored: 1, ingest.EventDisk: 2, ingest.EventLimit: 2}
	const blocks = 3
	status = "ok"
	found := 0
	for _, p := range problems {
		r, known := rank[p.Kind]
		if !known {
			r = blocks
		}
		if r > found {
			found, status, detail = r, p.Kind, p.Text
		}
	}
	return status, detail
}

// maxGapsShown bounds the gaps, and the unobserved intervals, that the list of edges shows of each.
const maxGapsShown = 20

// Devices implements [api.Fleet].
func (f *fleetPart) Devices() []api.Device {
	var out []api.Device
	for _, e := range f.hub.agents() {
		for _, d := range f.hub.ingest.Devices(e.Edge) {
			a := api.Device{
				ID: d.ID, Site: d.Site, Edge: d.Edge, Profile: d.Profile, Revision: d.Revision,
				Connection: d.Connection, Address: d.Address,
			}
			for _, hw := range d.Hardware {
				x := api.Hardware{Serial: hw.Serial, Note: hw.Note}
				if hw.Since > 0 {
					x.Since = millis(hw.Since)
				}
				a.Hardware = append(a.Hardware, x)
			}
			if d.Known {
				up := d.Up
				a.Up, a.Since = &up, millis(d.Since)
				if !up {
					a.Reason = d.Reason.String()
				}
			}
			out = append(out, a)
		}
	}
	return out
}

// Series implements [api.Fleet].
func (f *fleetPart) Series() []api.Series { return f.seriesThat(nil) }

// Watched implements [api.Fleet].
func (f *fleetPart) Watched(rule string) ([]api.Series, bool) {
	_, set, err := ruleAdmin{f.hub}.rule(rule)
	if err != nil {
		return nil, false
	}
	return f.seriesThat(func(s *ingest.SeriesStatus) bool { return slices.Contains(set.Matches(s.BoundSeries), rule) }), true
}

func (f *fleetPart) seriesThat(wanted func(*ingest.SeriesStatus) bool) []api.Series {
	var out []api.Series
	for _, e := range f.hub.ingest.Edges() {
		for _, s := range f.hub.ingest.Series(e.Edge) {
			if wanted != nil && !wanted(&s) {
				continue
			}
			q := f.hub.plan.Quantities[s.Quantity]
			a := api.Series{
				Site: s.Site, Edge: s.Edge, Device: s.Device, Point: s.Point, Quantity: s.Quantity, Unit: s.Unit,
				Label: q.Label, Decimals: q.Decimals, Labels: s.Labels.Map(), Quality: "unknown",
			}
			if s.Known {
				a.Time, a.Quality, a.Text = millis(s.Time), s.Quality.String(), s.Text
				if s.Kind == telemetry.KindNumber && !s.Quality.IsBad() {
					v := s.Value
					a.Value = &v
				}
			}
			out = append(out, a)
		}
	}
	return out
}

// noteUnobserved keeps an interval in which an edge did not look, beside its gaps. It
// is known by its times, so a replay notes nothing twice.
func (h *Hub) noteUnobserved(edge string, from, to time.Time) {
	err := h.ledger.RecordGap(ledger.Gap{
		Edge: edge, Reason: ledger.ReasonUnobserved, From: from.UTC(), To: to.UTC(),
		After: fmt.Sprintf("unobserved %d", from.UnixMilli()), Next: fmt.Sprintf("unobserved %d", to.UnixMilli()),
	})
	if err != nil {
		h.logger.Debug("unobserved interval not noted", "edge", edge, "err", err)
	}
}

// Forget implements [api.EdgeAdmin].
func (f *fleetPart) Forget(edge string) error {
	if !slices.ContainsFunc(f.hub.agents(), func(e ingest.EdgeStatus) bool { return e.Edge == edge }) {
		return api.ErrNoEdge
	}
	return f.hub.ingest.Forget(edge)
}
