package hub

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/rules"
)

// ruleCollector says what each rule watches and does. A rule that watches no series
// never fires: alert on langbiang_hub_rule_series == 0; one whose series have no data
// has langbiang_hub_rule_series_with_data == 0; an expression that cannot be
// evaluated langbiang_hub_rule_failing == 1.
type ruleCollector struct {
	hub *Hub

	series, withData, active, fired, evaluations, failures, seconds, failing *prometheus.Desc
}

func newRuleCollector(h *Hub) *ruleCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("langbiang_hub_rule_"+name, help, []string{"rule"}, nil)
	}
	return &ruleCollector{
		hub:         h,
		series:      desc("series", "Series that the rule watches; 0: it never fires. Of kind expression: of the newest result."),
		withData:    desc("series_with_data", "Those of them that have had a reading since the hub started."),
		active:      desc("alerts_active", "Alerts of the rule that stand."),
		fired:       desc("fired_total", "Alerts that the rule has raised since the hub started."),
		evaluations: desc("evaluations_total", "Evaluations of the rule's expression."),
		failures:    desc("evaluation_failures_total", "Those that failed; they neither raise nor clear."),
		seconds:     desc("evaluation_seconds", "How long the newest evaluation took."),
		failing:     desc("failing", "1 when the newest evaluation failed."),
	}
}

// Describe implements [prometheus.Collector].
func (c *ruleCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.series, c.withData, c.active, c.fired, c.evaluations, c.failures, c.seconds, c.failing} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *ruleCollector) Collect(ch chan<- prometheus.Metric) {
	data := c.hub.ruleData()
	for _, r := range c.hub.engine.Rules() {
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, r.ID)
		}
		counter := func(d *prometheus.Desc, v uint64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), r.ID)
		}
		if r.Kind != rules.Several {
			matched, d := c.hub.withData(&r, data[r.ID])
			gauge(c.series, float64(matched))
			gauge(c.withData, float64(d.withData))
		}
		gauge(c.active, float64(r.Active))
		counter(c.fired, r.Fired)
		if r.Kind == rules.Expression {
			counter(c.evaluations, r.Evaluations)
			counter(c.failures, r.Failures)
			gauge(c.seconds, r.Took.Seconds())
			failing := 0.0
			if r.Error != "" {
				failing = 1
			}
			gauge(c.failing, failing)
		}
	}
}
