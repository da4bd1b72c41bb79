package ledger

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	commits    prometheus.Histogram
	entries    prometheus.Counter
	duplicates prometheus.Counter
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
