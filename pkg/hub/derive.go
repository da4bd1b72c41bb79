package hub

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/airindex"
	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/derive"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/push"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// DerivedConfig says what the hub computes by itself.
type DerivedConfig struct {
	Enabled bool   `yaml:"enabled" doc:"compute VN_AQI, sums of rain, vector mean wind and the completeness of days, as series of the edge derived" default:"true"`
	Index   string `yaml:"index" doc:"the air quality index, of the tables beside the rules" default:"vn_aqi"`
	Zone    string `yaml:"zone" doc:"time zone of days" default:"Asia/Ho_Chi_Minh"`
}

// derivedEdge is the edge that derived series stand under: a source inside the hub.
const derivedEdge = "derived"

// openDerived prepares the derived series; the sources are open.
func (h *Hub) openDerived(version string) error {
	c := &h.plan.Config.Derived
	if !c.Enabled {
		return nil
	}
	zone, err := time.LoadLocation(c.Zone)
	if err != nil {
		return fmt.Errorf("derived.zone: %w", err)
	}
	err = h.openSource(push.Config{
		ID: derivedEdge, Lag: 5 * time.Minute, MaxAge: h.plan.Config.Store.MaxAge + lateWindow, MaxSeries: maxPushSeries, Idle: 400 * day,
		Quantities: h.plan.Quantities, Map: []push.Mapping{{Metric: "*", Device: "{station}", Site: "{site}"}},
	}, version)
	if err != nil {
		return err
	}
	h.derived, err = derive.Open(derive.Options{
		Queryable: promapi.GiveWay(h.store.Queryable()), Location: zone, StateFile: filepath.Join(h.plan.Config.DataDir, "derived.json"), Name: derivedEdge, Logger: h.logger,
		Index: func() *airindex.Table { return h.airIndex(c.Index) },
		Edges: func() []derive.Edge {
			var out []derive.Edge
			for _, e := range h.agents() {
				out = append(out, derive.Edge{ID: e.Edge, Site: e.Site, Watermark: e.Watermark})
			}
			return out
		},
		Series: h.expected,
		Write: func(ctx context.Context, rows []derive.Row) error {
			out := make([]push.Row, len(rows))
			for i, r := range rows {
				out[i] = push.Row{Metric: r.Quantity, Time: r.Time, Value: r.Value, Tags: []telemetry.Label{{Name: "site", Value: r.Site}, {Name: "station", Value: r.Device}}}
			}
			return h.sources[derivedEdge].source.Put(ctx, out)
		},
	})
	return err
}

// airIndex is the table of the rules that are in force.
func (h *Hub) airIndex(name string) *airindex.Table {
	if h.plan.Set == nil {
		return nil
	}
	return h.plan.Set.AirIndex(name)
}

// agents are the edges without the one of derived series.
func (h *Hub) agents() []ingest.EdgeStatus {
	return slices.DeleteFunc(h.ingest.Edges(), func(e ingest.EdgeStatus) bool { return e.Edge == derivedEdge && h.sources.has(derivedEdge) })
}

// expected is what the completeness of an edge's days is judged by.
func (h *Hub) expected(edge string) []derive.Series {
	var out []derive.Series
	for _, s := range h.ingest.Series(edge) {
		if s.Kind != telemetry.KindNumber || s.Interval <= 0 && s.Silence <= 0 {
			continue // nobody knows how often it should come
		}
		longest := max(s.Interval, s.Silence)
		out = append(out, derive.Series{Device: s.Device, Point: s.Point, Longest: longest + longest/2})
	}
	slices.SortFunc(out, func(a, b derive.Series) int { return cmp.Compare(a.Device, b.Device) })
	return out
}

// late tells the derived series of readings that came late.
func (h *Hub) late(edge string, hours []int64) {
	if h.derived != nil {
		h.derived.Late(edge, hours)
	}
}
