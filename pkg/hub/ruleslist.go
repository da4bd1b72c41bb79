package hub

import (
	"maps"
	"time"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/rules"
)

// Rules implements [api.Fleet].
func (f *fleetPart) Rules() []api.Rule {
	data := f.hub.ruleData()
	out := []api.Rule{}
	for _, r := range f.hub.engine.Rules() {
		out = append(out, f.hub.describeRule(&r, data[r.ID]))
	}
	return out
}

// ruleData is what has come of the series that a rule watches.
type ruleData struct {
	series, withData int
	newest           time.Time
}

// ruleData looks through all series for those that each rule of the newest set
// watches.
func (h *Hub) ruleData() map[string]ruleData {
	sets := h.engine.Sets()
	data := map[string]ruleData{}
	if len(sets) == 0 || h.ingest == nil {
		return data
	}
	set := sets[len(sets)-1].Set
	for _, e := range h.ingest.Edges() {
		for _, s := range h.ingest.Series(e.Edge) {
			for _, id := range set.Matches(s.BoundSeries) {
				d := data[id]
				d.series++
				if s.Known {
					d.withData++
					if t := time.UnixMilli(s.Time); t.After(d.newest) {
						d.newest = t
					}
				}
				data[id] = d
			}
		}
	}
	return data
}

// withData completes what is known of the rule's series.
func (h *Hub) withData(r *rules.RuleInfo, d ruleData) (matched int, known ruleData) {
	switch r.Kind {
	case rules.Fewer:
		return d.series, d
	case rules.Expression, rules.EdgeOffline, rules.Several:
		return r.Matched, ruleData{series: r.Matched, withData: r.Matched, newest: r.Evaluated}
	}
	return r.Matched, d
}

// The states of a rule, as the API calls them.
const (
	ruleOK       = "ok"
	ruleFiring   = "firing"
	ruleNoSeries = "no_series"
	ruleNoData   = "no_data"
	ruleFailing  = "failing"
)

func ruleState(r *rules.RuleInfo, matched int, d ruleData) string {
	switch {
	case r.Error != "":
		return ruleFailing
	case r.Active > 0:
		return ruleFiring
	case r.Kind == rules.Several, r.Kind == rules.Expression && r.Evaluations == 0:
		return ruleOK
	case matched == 0:
		return ruleNoSeries
	case d.withData == 0:
		return ruleNoData
	}
	return ruleOK
}

func (h *Hub) describeRule(r *rules.RuleInfo, d ruleData) api.Rule {
	matched, d := h.withData(r, d)
	fired := r.LastFired
	if before := h.fired[r.ID]; before.After(fired) {
		fired = before
	}
	a := api.Rule{
		ID: r.ID, Version: r.Version, Title: r.Title, Kind: string(r.Kind), JudgedBy: "event time", Judges: r.Judges, Quantity: r.Quantity, Unit: r.Unit,
		Where: r.Where, Compares: r.Compares, Severities: []api.Limit{}, Overrides: r.Override, Schedule: r.Schedule, Bad: r.Bad, Maintenance: r.Maintenance,
		Query: r.Query, Procedure: r.Procedure, Links: maps.Clone(r.Links), Labels: maps.Clone(r.Labels), Citation: r.Source, Position: r.Position, BuiltIn: r.BuiltIn,
		State: ruleState(r, matched, d), Matched: matched, WithData: d.withData, NewestData: pointer(d.newest), Filling: pointer(r.FillingUntil), Active: r.Active, LastFired: pointer(fired),
	}
	if r.ByClock {
		a.JudgedBy = rules.HubClock
	}
	if r.Procedure != "" {
		if a.Links == nil {
			a.Links = map[string]string{}
		}
		a.Links["procedure"] = r.Procedure
	}
	delete(a.Labels, rules.LabelJudgedBy)
	if r.Kind == rules.Expression {
		a.Every = r.Every.String()
		a.Evaluations = &api.Evaluations{
			Count: r.Evaluations, Failures: r.Failures, Newest: pointer(r.Evaluated), TookMS: r.Took.Milliseconds(), Error: r.Error, LastError: pointer(r.ErrorAt),
		}
	}
	for i := range r.Levels {
		a.Severities = append(a.Severities, describeLimit(&r.Levels[i], r))
	}
	return a
}

func describeLimit(l *rules.LevelInfo, r *rules.RuleInfo) api.Limit {
	x := api.Limit{
		Severity: l.Severity, Level: l.Level, Limit: l.Limit, Clear: l.Clear, Is: l.Is, For: l.For.String(), ClearFor: l.ClearFor.String(),
	}
	if r.Compares == "outside" || r.Compares == "inside" {
		x.Low, x.ClearLow = &l.Low, &l.ClearLow
	}
	return x
}
