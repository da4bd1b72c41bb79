package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The ids of the built-in rules. Edges that sleep by a plan have rules of their own:
// edge_offline.1, device_down.1, edge_offline.2 ...
const (
	RuleOffline = "edge_offline"
	RuleDown    = "device_down"
)

// BuiltInPlan says when the built-in rules fire.
type BuiltInPlan struct {
	Warning, Critical time.Duration // of edge_offline; 0: no such level
	Sleepers          []Sleepers
}

// Sleepers are edges that are awake at certain hours only.
type Sleepers struct {
	Edges []string // ids, with * and ?
	Awake []string // hours, as in a schedule
	Zone  string   // "": DefaultZone
}

// Source writes the built-in rules: edge_offline, by the hub's clock, and
// device_down, by what the edge itself saw. Give it to [Load] beside the files: a
// rule of theirs with the same id stands in its place.
func (p *BuiltInPlan) Source() Source {
	var b strings.Builder
	offline, down := "", `  below:
    warning: {limit: 1, for: 2m, clear_for: 1m}
`
	for _, l := range []struct {
		name string
		d    time.Duration
	}{{"warning", p.Warning}, {"critical", p.Critical}} {
		if l.d > 0 {
			offline += fmt.Sprintf("    %s: {for: %dms}\n", l.name, l.d.Milliseconds())
		}
	}
	more := ""
	for _, s := range p.Sleepers {
		more += fmt.Sprintf("    - {where: {edge: %s}, skip: true}\n", flowList(s.Edges))
	}
	if more != "" {
		more = "  overrides:\n" + more
	}
	rules := func(suffix, where, more string) {
		if offline != "" {
			watch := ""
			if where != "" {
				watch = "  watch: {" + where + "}\n"
			}
			fmt.Fprintf(&b, `- id: %s
  title: {vi: "Gateway mất kết nối", en: "Gateway offline"}
%s  edge_offline:
%s%s  collapse: false
  message:
    vi: "Gateway {{.Edge}} tại {{.Site.Name}} mất kết nối {{.Value}}"
    en: "Gateway {{.Edge}} at {{.Site.Name}} has been offline for {{.Value}}"
  labels: {category: gateway}
  source: "how long the hub has not heard the gateway"
`, RuleOffline+suffix, watch, offline, more)
		}
		if where != "" {
			where = ", " + where
		}
		fmt.Fprintf(&b, `- id: %s
  title: {vi: "Thiết bị không trả lời", en: "Device does not answer"}
  watch: {quantity: device_up%s}
%s%s  message:
    vi: "Thiết bị {{.Device}} tại {{.Site.Name}} không trả lời"
    en: "Device {{.Device}} at {{.Site.Name}} does not answer"
  labels: {category: device}
  source: "1 while the device answers, 0 while it does not, as its gateway saw it"
`, RuleDown+suffix, where, down, more)
	}
	rules("", "", more)
	for i, s := range p.Sleepers {
		zone := s.Zone
		if zone == "" {
			zone = DefaultZone
		}
		rules(fmt.Sprintf(".%d", i+1), "where: {edge: "+flowList(s.Edges)+"}",
			fmt.Sprintf("  schedule: {hours: %s, zone: %q}\n", flowList(s.Awake), zone))
	}
	return Source{Name: BuiltIn + "rules", Data: []byte(b.String())}
}

func flowList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// edgeSeries is the series of what the hub hears of an edge. Its readings are the
// times at which it heard it.
func edgeSeries(edge, site string) telemetry.BoundSeries {
	return telemetry.BoundSeries{Edge: edge, Site: site, Device: edge, Point: RuleOffline, Quantity: quantitySilence, Unit: "s"}
}

// recallEdges lets the alerts of edges that stand go on: each is raised anew with the
// start, and so the id, that it has. The log knows them.
func (c *ByClock) recallEdges(active []alert.Alert) {
	now := c.start.UnixMilli()
	set := c.engine.setAt(now)
	slices.SortFunc(active, func(a, b alert.Alert) int { return a.Onset.Compare(b.Onset) })
	k := c.silence
	for i := range active {
		a := &active[i]
		known := false
		if set != nil {
			_, known = set.find(a.Rule, a.RuleVersion)
		}
		if !known {
			c.end(a, now, ReasonRuleChanged)
			continue
		}
		t := a.Onset.UnixMilli()
		k.fold.Advance(t - 1)
		if _, ok := k.number[nameOf(ptr(edgeSeries(a.Edge, a.Site)))]; ok {
			continue // of another rule, the same silence
		}
		k.addEdges([]Seen{{Edge: a.Edge, Site: a.Site}})
		k.fold.Observe(k.number[seriesName{a.Edge, RuleOffline}], t, 1, 0)
	}
	k.fold.Advance(now)
}

func ptr[T any](v T) *T { return &v }

// addEdges takes edges that are new, or that moved, into the fold.
func (k *results) addEdges(edges []Seen) {
	changed := !k.fold.bound
	list := append([]telemetry.BoundSeries(nil), k.list...) // the fold keeps the one before
	for _, e := range edges {
		b := edgeSeries(e.Edge, e.Site)
		n, ok := k.number[nameOf(&b)]
		switch {
		case !ok:
			k.number[nameOf(&b)] = uint32(len(list))
			list, changed = append(list, b), true
		case list[n].Site != b.Site:
			list[n], changed = b, true
		}
	}
	if changed {
		k.list = list
		k.fold.Bind(list)
	}
}

// lookAtEdges judges for how long each edge has not been heard.
func (c *ByClock) lookAtEdges(now time.Time, edges []Seen) {
	k, t := c.silence, now.UnixMilli()
	k.addEdges(edges)
	for _, e := range edges {
		n := k.number[seriesName{e.Edge, RuleOffline}]
		if last := e.Last.UnixMilli(); !e.Last.IsZero() && last > k.fold.series[n].last {
			k.fold.Observe(n, max(min(last, t), k.fold.Watermark()+1), 1, 0)
		}
	}
	k.fold.Advance(t)
}
