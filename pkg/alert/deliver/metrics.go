package deliver

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// collector shows the targets when it is asked.
type collector struct {
	all                                                    func() []feed.Delivery
	lag, seconds, held, delivered, failures, skipped, last *prometheus.Desc
}

// NewCollector exports how it stands with the targets that all returns, which is
// [Deliveries.Deliveries] of those in force.
func NewCollector(all func() []feed.Delivery) prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("langbiang_hub_delivery_"+name, help, []string{"target", "kind"}, nil)
	}
	return &collector{
		all:       all,
		lag:       desc("lag_entries", "Entries of the alert log that the target is behind."),
		seconds:   desc("lag_seconds", "Age of the oldest entry that the target waits for; 0 when it has all."),
		held:      desc("held", "1 while the target refuses an entry and nothing overtakes it, else 0."),
		delivered: desc("entries_total", "Entries that the target has taken."),
		failures:  desc("failures_total", "Attempts that failed or were refused."),
		skipped:   desc("dead_letters_total", "Entries that were skipped into the dead letters."),
		last:      desc("last_success_timestamp_seconds", "When the target last took an entry; 0 when it has not yet."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.lag, c.seconds, c.held, c.delivered, c.failures, c.skipped, c.last} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.all() {
		put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, s.Name, s.Kind)
		}
		held, last := 0.0, 0.0
		if s.State == feed.Held {
			held = 1
		}
		if s.LastSuccess != nil {
			last = float64(s.LastSuccess.UnixMilli()) / 1000
		}
		put(c.lag, prometheus.GaugeValue, float64(s.Lag))
		put(c.seconds, prometheus.GaugeValue, s.LagSeconds)
		put(c.held, prometheus.GaugeValue, held)
		put(c.delivered, prometheus.CounterValue, float64(s.Delivered))
		put(c.failures, prometheus.CounterValue, float64(s.Failures))
		put(c.skipped, prometheus.CounterValue, float64(s.Skipped))
		put(c.last, prometheus.GaugeValue, last)
	}
}
