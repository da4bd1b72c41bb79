package rules

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// RuleOffline is the id of the built-in rule for edges that fall silent. Those that
// sleep by a plan have rules of their own: edge_offline.1, edge_offline.2 ...
const RuleOffline = "edge_offline"

// OfflinePlan says when an edge that is not heard is offline.
type OfflinePlan struct {
	Warning, Critical time.Duration // 0: no such level
	Sleepers          []Sleepers
}

// Sleepers are edges that are awake at certain hours only.
type Sleepers struct {
	Edges []string // ids, with * and ?
	Awake []string // hours, as in a schedule
	Zone  string   // "": DefaultZone
}

// Seen is when an edge was heard last, by the hub's clock; zero when not since the
// hub started.
type Seen struct {
	Edge, Site string
	Last       time.Time
}

// Offline raises edge_offline. It is the one rule that is judged by the hub's clock,
// which its alerts say in the label judged_by: a rule of kind no_data over what the
// hub hears, with now as the watermark. It belongs to one goroutine.
type Offline struct {
	engine *Engine
	fold   *Fold
	number map[string]uint32
	list   []telemetry.BoundSeries
	heard  []int64
	first  int64
}

const quantitySilence = "edge_silence"

// NewOffline compiles the plan. Active are the alerts of the rule that stand in the
// alert log: they go on with their starts. Now is when the hub started: edges count
// as heard then.
func NewOffline(plan OfflinePlan, env Env, active []alert.Alert, now time.Time, emit func(alert.Transition)) (*Offline, error) {
	env.Quantities = maps.Clone(env.Quantities)
	if env.Quantities == nil {
		env.Quantities = telemetry.Quantities{}
	}
	env.Quantities[quantitySilence] = telemetry.Quantity{ID: quantitySilence, Unit: "s", Label: telemetry.Text{VI: "Gateway im lặng", EN: "Silence of the gateway"}}
	set, err := Load([]Source{{"offline", []byte(plan.yaml())}}, env)
	if err != nil {
		return nil, err
	}
	o := &Offline{number: map[string]uint32{}}
	o.engine = newEngine(func(t alert.Transition) {
		t.Alert.Device, t.Alert.Point = "", "" // it is about the edge
		emit(t)
	})
	o.engine.use([]Effective{{set, Always}})
	o.fold = o.engine.openFold("")
	o.restore(active, now)
	return o, nil
}

// yaml writes the plan as rules.
func (p *OfflinePlan) yaml() string {
	var b strings.Builder
	rule := func(id, where, more string) {
		fmt.Fprintf(&b, "- id: %s\n  title: {vi: \"Gateway mất kết nối\", en: \"Gateway offline\"}\n  watch: {quantity: %s%s}\n%s", id, quantitySilence, where, more)
		b.WriteString("  collapse: false\n  no_data:\n")
		for _, l := range []struct {
			name string
			d    time.Duration
		}{{"warning", p.Warning}, {"critical", p.Critical}} {
			if l.d > 0 {
				fmt.Fprintf(&b, "    %s: {for: %dms}\n", l.name, l.d.Milliseconds())
			}
		}
		b.WriteString("  message:\n    vi: \"Gateway {{.Edge}} tại {{.Site.Name}} mất kết nối {{.Value}}\"\n    en: \"Gateway {{.Edge}} at {{.Site.Name}} has been offline for {{.Value}}\"\n" +
			"  labels: {category: gateway, judged_by: hub clock}\n  source: \"by the hub's clock\"\n")
	}
	more := ""
	for _, s := range p.Sleepers {
		more += fmt.Sprintf("    - {where: {edge: %s}, skip: true}\n", flowList(s.Edges))
	}
	if more != "" {
		more = "  overrides:\n" + more
	}
	rule(RuleOffline, "", more)
	for i, s := range p.Sleepers {
		zone := s.Zone
		if zone == "" {
			zone = DefaultZone
		}
		rule(fmt.Sprintf("%s.%d", RuleOffline, i+1), ", where: {edge: "+flowList(s.Edges)+"}",
			fmt.Sprintf("  schedule: {hours: %s, zone: %q}\n", flowList(s.Awake), zone))
	}
	return b.String()
}

func flowList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// restore lets the alerts that stand go on: each is raised anew with the start, and
// so the id, that it has.
func (o *Offline) restore(active []alert.Alert, now time.Time) {
	o.first = now.UnixMilli()
	begin := o.first
	last := map[string]int64{}
	for i := range active {
		a := &active[i]
		if !strings.HasPrefix(a.Rule, RuleOffline) || a.State != alert.Active || a.Test {
			continue
		}
		o.add(a.Edge, a.Site)
		t := a.Onset.UnixMilli()
		last[a.Edge] = t
		begin = min(begin, t-1)
	}
	o.fold.Bind(o.list)
	o.fold.Advance(begin)
	for edge, t := range last {
		o.fold.Observe(o.number[edge], t, 1, 0)
		o.heard[o.number[edge]] = t
	}
	o.fold.Advance(o.first)
}

func (o *Offline) add(edge, site string) {
	if _, ok := o.number[edge]; ok {
		return
	}
	o.number[edge] = uint32(len(o.list))
	o.list = append(o.list, telemetry.BoundSeries{Edge: edge, Site: site, Device: edge, Point: RuleOffline, Quantity: quantitySilence, Unit: "s"})
	o.heard = append(o.heard, 0)
}

// Look judges what has been heard up to now, which must not go back.
func (o *Offline) Look(now time.Time, edges []Seen) {
	known := len(o.list)
	moved := false
	for _, e := range edges {
		o.add(e.Edge, e.Site)
		b := &o.list[o.number[e.Edge]]
		moved = moved || b.Site != e.Site
	}
	if len(o.list) > known || moved {
		list := append([]telemetry.BoundSeries(nil), o.list...) // the fold keeps the one before
		for _, e := range edges {
			list[o.number[e.Edge]].Site = e.Site
		}
		o.list = list
		o.fold.Bind(list)
	}
	for _, e := range edges {
		n, t := o.number[e.Edge], e.Last.UnixMilli()
		if e.Last.IsZero() || t <= o.heard[n] {
			continue
		}
		o.heard[n] = t
		o.fold.Observe(n, max(min(t, now.UnixMilli()), o.fold.Watermark()+1), 1, 0)
	}
	o.fold.Advance(now.UnixMilli())
}

// Rules describes the built-in rules, with their counts.
func (o *Offline) Rules() []RuleInfo { return o.engine.Rules() }
