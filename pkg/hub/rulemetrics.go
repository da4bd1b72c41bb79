package hub

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/rules"
)

// ruleCollector says what each rule watches and does. A rule that watches no series
// never fires: alert on langbiang_hub_rule_series == 0.
type ruleCollector struct {
	rules                 func() []rules.RuleInfo
	series, active, fired *prometheus.Desc
}

func newRuleCollector(list func() []rules.RuleInfo) *ruleCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("langbiang_hub_rule_"+name, help, []string{"rule"}, nil)
	}
	return &ruleCollector{
		rules:  list,
		series: desc("series", "Series that the rule watches; 0: it never fires."),
		active: desc("alerts_active", "Alerts of the rule that stand."),
		fired:  desc("fired_total", "Alerts that the rule has raised since the hub started."),
	}
}

// Describe implements [prometheus.Collector].
func (c *ruleCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.series
	ch <- c.active
	ch <- c.fired
}

// Collect implements [prometheus.Collector].
func (c *ruleCollector) Collect(ch chan<- prometheus.Metric) {
	for _, r := range c.rules() {
		if r.Kind != rules.Several {
			ch <- prometheus.MustNewConstMetric(c.series, prometheus.GaugeValue, float64(r.Matched), r.ID)
		}
		ch <- prometheus.MustNewConstMetric(c.active, prometheus.GaugeValue, float64(r.Active), r.ID)
		ch <- prometheus.MustNewConstMetric(c.fired, prometheus.CounterValue, float64(r.Fired), r.ID)
	}
}
