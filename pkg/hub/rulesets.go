package hub

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// ruleDelay is how far ahead a new rule set takes effect: beyond the watermark of
// every edge, so that each changes over there and a replay judges as it was judged.
const ruleDelay = 5 * time.Second

// ruleReloads is how rules are read anew while the hub runs: one at a time.
type ruleReloads struct {
	mu      sync.Mutex
	last    *api.Reload
	metrics reloadMetrics
}

type reloadMetrics struct {
	ok   prometheus.Gauge
	at   prometheus.Gauge
	sets prometheus.Gauge
}

func newReloadMetrics(r prometheus.Registerer) reloadMetrics {
	m := reloadMetrics{
		ok:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "langbiang_hub_rules_reload_success", Help: "1 when the last reading of the rule files found no mistake, else 0."}),
		at:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "langbiang_hub_rules_reload_success_timestamp_seconds", Help: "When the rule files were last read without a mistake."}),
		sets: prometheus.NewGauge(prometheus.GaugeOpts{Name: "langbiang_hub_rule_sets", Help: "Rule sets that are kept: the newest, and older ones for edges that are behind."}),
	}
	r.MustRegister(m.ok, m.at, m.sets)
	return m
}

// loadRules puts the rule sets in force: those of the ledger, and the one of the
// files from now on when it differs from the newest of them.
func (h *Hub) loadRules() error {
	h.rules.metrics = newReloadMetrics(h.metrics)
	kept, err := h.ledger.RuleSets()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	var sets []rules.Effective
	newest, from := "", int64(math.MaxInt64)
	for _, k := range kept {
		newest, from = k.ID, min(from, k.From)
		if k.ID == h.plan.Set.ID() {
			sets = append(sets, rules.Effective{Set: h.plan.Set, From: from})
			from = math.MaxInt64
			continue
		}
		var sources []rules.Source
		for _, s := range k.Sources {
			sources = append(sources, rules.Source(s))
		}
		set, err := rules.Load(sources, rulesEnv(h.plan))
		if err != nil {
			// Edges that are still behind it are judged by the next set instead, which
			// takes its time over.
			h.logger.Warn("an older rule set no longer compiles and is left out", "set", k.ID, "err", err)
			continue
		}
		sets = append(sets, rules.Effective{Set: set, From: from})
		from = math.MaxInt64
	}
	h.engine = rules.NewEngine(sets, h.raise)
	h.engine.Inside(func(edge string) bool { return h.sources.has(edge) })
	if newest != h.plan.Set.ID() {
		if err := h.putRules(h.plan.Rules, h.plan.Set); err != nil {
			return err
		}
	}
	h.noteReload(api.Reload{At: time.Now().UTC(), OK: true, Changed: newest != h.plan.Set.ID(), Faults: []api.Fault{}})
	return nil
}

// putRules makes a set the newest: on disk first, then in force from a time that
// no edge has reached. A slow disk may let the edges catch up with that time; then
// it is put off.
func (h *Hub) putRules(files []rules.Source, set *rules.Set) error {
	var sources []ledger.Source
	for _, s := range files {
		sources = append(sources, ledger.Source(s))
	}
	for {
		before := h.engine.Sets()
		e := rules.Effective{Set: set, From: rules.Always}
		if n := len(before); n > 0 {
			e.From = time.Now().Add(ruleDelay).UnixMilli()
			if w := h.engine.Newest(); w > math.MinInt64 {
				e.From = max(e.From, w+ruleDelay.Milliseconds())
			}
			e.From = max(e.From, before[n-1].From+1)
		}
		if err := h.ledger.PutRuleSet(ledger.RuleSet{ID: set.ID(), From: e.From, Sources: sources}); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		if e.From != rules.Always && h.engine.Newest() >= e.From-ruleDelay.Milliseconds()/5 {
			if err := h.ledger.DeleteRuleSet(set.ID(), e.From); err != nil {
				return fmt.Errorf("ledger: %w", err)
			}
			continue
		}
		if err := h.engine.Add(e); err != nil {
			return err
		}
		if err := h.recallAlerts(); err != nil {
			return err
		}
		if h.ingest != nil {
			h.ingest.BandsChanged()
		}
		if len(before) > 0 {
			h.logger.Info("new rule set", "set", set.ID(), "rules", set.Written().Len(), "from", time.UnixMilli(e.From).UTC())
		}
		return nil
	}
}

// reloadRules reads the rule files that hub.yaml named when the hub started, and
// puts them in force if they say something new. A mistake changes nothing: it
// stands in the log, the metric and the status. The error is the hub's own.
func (h *Hub) reloadRules() (api.RulesStatus, error) {
	h.rules.mu.Lock()
	defer h.rules.mu.Unlock()
	r := api.Reload{At: time.Now().UTC(), Faults: []api.Fault{}}
	c := &checker{doc: h.plan.doc}
	sources, set, err := c.rules(h.plan)
	if err == nil {
		err = c.errs.Err()
	}
	var faults strictyaml.Errors
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			h.logger.Error("rules not reloaded, those in force stay", "fault", f.Error())
			r.Faults = append(r.Faults, api.Fault{File: f.File, Line: f.Line, Column: f.Col, Message: f.Error()})
		}
	case err != nil:
		return api.RulesStatus{}, err
	default:
		r.OK = true
		sets := h.engine.Sets()
		if r.Changed = len(sets) == 0 || sets[len(sets)-1].Set.ID() != set.ID(); !r.Changed {
			h.logger.Info("rules read again: they say the same", "set", set.ID())
			break
		}
		if err := h.putRules(sources, set); err != nil {
			return api.RulesStatus{}, err
		}
	}
	h.noteReload(r)
	return h.rulesStatus(), nil
}

func (h *Hub) noteReload(r api.Reload) {
	h.rules.last = &r
	m := &h.rules.metrics
	m.sets.Set(float64(len(h.engine.Sets())))
	if !r.OK {
		m.ok.Set(0)
		return
	}
	m.ok.Set(1)
	m.at.Set(float64(r.At.UnixMilli()) / 1000)
}

// rulesStatus is read with h.rules.mu held.
func (h *Hub) rulesStatus() api.RulesStatus {
	st := api.RulesStatus{Sets: []api.RuleSet{}, Last: h.rules.last}
	for _, s := range h.engine.Sets() {
		x := api.RuleSet{ID: s.Set.ID(), Rules: s.Set.Written().Len()}
		if s.From != rules.Always {
			x.From = millis(s.From)
		}
		st.Sets = append(st.Sets, x)
	}
	return st
}

// dropRules forgets the sets that no reading needs any more which the store would
// still take: edges keep their logs for store.edge_max_age, and may have to send
// all of them again.
func (h *Hub) dropRules(now time.Time) error {
	h.rules.mu.Lock()
	defer h.rules.mu.Unlock()
	passed := now.Add(-h.plan.Config.Store.MaxAge).UnixMilli()
	n, err := h.ledger.DropRuleSets(passed)
	if err != nil {
		return err
	}
	h.engine.Drop(passed)
	if n > 0 {
		h.rules.metrics.sets.Set(float64(len(h.engine.Sets())))
		h.logger.Info("old rule sets dropped", "sets", n)
	}
	return nil
}

// ruleAdmin shows this to the API.
type ruleAdmin struct{ h *Hub }

func (a ruleAdmin) Reload() (api.RulesStatus, error) { return a.h.reloadRules() }

func (a ruleAdmin) Status() api.RulesStatus {
	a.h.rules.mu.Lock()
	defer a.h.rules.mu.Unlock()
	return a.h.rulesStatus()
}

// Fire raises a test alert: of a rule on a series that it watches, marked as a
// test, over after a while by the hub's clock.
func (a ruleAdmin) Fire(f api.Fire) (alert.Entry, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	if err := (&alert.Act{Who: f.Who, Why: f.Why}).Check(alert.Acknowledged, now); err != nil {
		return alert.Entry{}, err
	}
	stands := time.Minute
	if f.For != "" {
		var err error
		if stands, err = strictyaml.ParseDuration(f.For); err != nil || stands <= 0 || stands > 24*time.Hour {
			return alert.Entry{}, refused(alert.Invalid, "write it as 30s or 5m, at most 24h", "for is %.40q", f.For)
		}
	}
	rule, set, err := a.rule(f.Rule)
	if err != nil {
		return alert.Entry{}, err
	}
	s, err := a.series(f.Series)
	if err != nil {
		return alert.Entry{}, err
	}
	switch {
	case rule.Kind == rules.EdgeOffline:
		s.Device, s.Point, s.Quantity, s.Unit = "", "", alert.QuantitySilence, "s"
	case rule.Kind == rules.Expression || rule.Kind == rules.Several: // of whatever the result has
	case !slices.Contains(set.Matches(s), rule.ID):
		return alert.Entry{}, refused(alert.Invalid, "name a series that it watches", "the rule %s does not watch %s", rule.ID, f.Series)
	}
	level := rules.LevelInfo{Severity: alert.Warning}
	if len(rule.Levels) > 0 {
		level = rule.Levels[0]
	}
	if f.Severity != alert.None {
		i := slices.IndexFunc(rule.Levels, func(l rules.LevelInfo) bool { return l.Severity == f.Severity })
		if i < 0 {
			return alert.Entry{}, refused(alert.Invalid, "choose one that it has", "the rule %s has no level %s", rule.ID, f.Severity)
		}
		level = rule.Levels[i]
	}
	until := now.Add(stands)
	x := alert.Alert{
		ID:   alert.NewID(rule.ID, rule.Version+"/test", alert.SeriesKey(s.Edge, s.Device, s.Point), now.UnixMilli()),
		Rule: rule.ID, RuleVersion: rule.Version, Severity: level.Severity, State: alert.Active, Test: true, TestUntil: &until,
		Start: now, Onset: now, Updated: now, Site: s.Site, Edge: s.Edge, Device: s.Device, Point: s.Point, Quantity: s.Quantity, Unit: s.Unit,
		Labels: map[string]string{}, Value: level.Limit, Peak: level.Limit, Limit: level.Limit,
		Level: level.Level, Procedure: rule.Procedure, Links: rule.Links, Message: testMessage(rule, &f),
	}
	for n, v := range rule.Labels {
		x.Labels[n] = v
	}
	for _, l := range s.Labels {
		x.Labels[l.Name] = l.Value
	}
	e, err := a.h.ledger.Raise(alert.Transition{Kind: alert.Raised, Time: now, Alert: x})
	if err == nil {
		a.h.logger.Info("test alert raised", "rule", rule.ID, "series", f.Series, "by", f.Who, "until", until)
	}
	return e, err
}

func testMessage(rule *rules.RuleInfo, f *api.Fire) telemetry.Text {
	title := rule.Title
	if title.VI == "" {
		title.VI = rule.ID
	}
	if title.EN == "" {
		title.EN = rule.ID
	}
	by := " (" + f.Who + ")"
	if f.Why != "" {
		by = " (" + f.Who + ": " + f.Why + ")"
	}
	return telemetry.Text{VI: "THỬ NGHIỆM: " + title.VI + by, EN: "TEST: " + title.EN + by}
}

func refused(reason alert.Reason, do, format string, args ...any) error {
	return &alert.Refusal{Reason: reason, What: fmt.Sprintf(format, args...), Do: do}
}

// rule finds a rule of the newest set.
func (a ruleAdmin) rule(id string) (*rules.RuleInfo, *rules.Set, error) {
	sets := a.h.engine.Sets()
	if len(sets) > 0 {
		set := sets[len(sets)-1].Set
		for _, r := range set.Rules() {
			if r.ID == id {
				return &r, set, nil
			}
		}
	}
	return nil, nil, refused(alert.NotFound, "the rules in force are listed at /api/v1/rules", "there is no rule %.80q", id)
}

// series finds a series that an edge has named: edge/device/point.
func (a ruleAdmin) series(name string) (telemetry.BoundSeries, error) {
	edge, _, _ := strings.Cut(name, "/")
	for _, s := range a.h.ingest.Series(edge) {
		if alert.SeriesKey(s.Edge, s.Device, s.Point) == name {
			return bound(&s), nil
		}
	}
	return telemetry.BoundSeries{}, refused(alert.NotFound, "series are written EDGE/DEVICE/POINT and listed at /api/v1/series", "no edge has the series %.200q", name)
}
