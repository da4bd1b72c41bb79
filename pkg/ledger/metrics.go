package ledger

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/alert"
)

type metrics struct {
	commits    prometheus.Histogram
	entries    prometheus.Counter
	duplicates prometheus.Counter
}

// activeAlerts is a collector of the counts.
type activeAlerts struct {
	l            *Ledger
	active, held *prometheus.Desc
}

func newActiveAlerts(l *Ledger) *activeAlerts {
	return &activeAlerts{
		l:      l,
		active: prometheus.NewDesc("langbiang_hub_alerts_active", "Active alerts that call for somebody, by severity; tests are not counted.", []string{"severity"}, nil),
		held:   prometheus.NewDesc("langbiang_hub_alerts_held", "Active alerts that are held, by what holds them: shelved, suppressed or out_of_service.", []string{"state"}, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *activeAlerts) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.active
	ch <- c.held
}

// Collect implements [prometheus.Collector].
func (c *activeAlerts) Collect(ch chan<- prometheus.Metric) {
	c.l.mu.Lock()
	all := c.l.counts.all
	c.l.mu.Unlock()
	for s := alert.Info; s <= alert.Emergency; s++ {
		ch <- prometheus.MustNewConstMetric(c.active, prometheus.GaugeValue, float64(all.bySeverity[s]), s.String())
	}
	for i, s := range heldStates {
		if s != "" {
			ch <- prometheus.MustNewConstMetric(c.held, prometheus.GaugeValue, float64(all.held[i]), string(s))
		}
	}
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "langbiang_hub_ledger_commit_seconds", Help: "Time a commit of the ledger took, fsync included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 13),
		}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "langbiang_hub_alert_entries_total", Help: "Entries written to the alert log.",
		}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "langbiang_hub_alert_duplicates_total", Help: "Transitions that the alert log had already (raised again by a replay).",
		}),
	}
	if r != nil {
		r.MustRegister(m.commits, m.entries, m.duplicates)
	}
	return m
}

func (m *metrics) committed(d time.Duration, b *batch) {
	m.commits.Observe(d.Seconds())
	m.entries.Add(float64(len(b.entries)))
	m.duplicates.Add(float64(b.duplicates))
}
