package local

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The TSDB's counters that say what it does not return as an error.
const (
	walFailedName   = "prometheus_tsdb_wal_writes_failed_total"
	wblFailedName   = "prometheus_tsdb_out_of_order_wbl_writes_failed_total"
	corruptionsName = "prometheus_tsdb_wal_corruptions_total"
)

// tap is the registry that one TSDB registers its metrics with. It remembers the
// collectors, so that single counters can be read without gathering all others.
type tap struct {
	*prometheus.Registry
	mu         sync.Mutex
	collectors []prometheus.Collector
}

func newTap() *tap { return &tap{Registry: prometheus.NewRegistry()} }

// Register implements prometheus.Registerer.
func (t *tap) Register(c prometheus.Collector) error {
	if err := t.Registry.Register(c); err != nil {
		return fmt.Errorf("register TSDB metric: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.collectors = append(t.collectors, c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (t *tap) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := t.Register(c); err != nil {
			panic(err)
		}
	}
}

// counter returns a function that reads the sum of the counter called name. The
// TSDB must be open. A name that it does not have is an error: it was renamed,
// and what it watched over would go unseen.
func (t *tap) counter(name string) (func() float64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.collectors {
		one := prometheus.NewRegistry()
		if err := one.Register(c); err != nil {
			continue
		}
		families, err := one.Gather()
		if err != nil {
			continue
		}
		for _, f := range families {
			if f.GetName() == name {
				return func() float64 { return sum(c) }, nil
			}
		}
	}
	return nil, fmt.Errorf("the TSDB has no metric %s", name)
}

// sum adds up the counters that c collects.
func sum(c prometheus.Collector) float64 {
	ch := make(chan prometheus.Metric)
	go func() {
		defer close(ch)
		c.Collect(ch)
	}()
	total := 0.0
	for m := range ch {
		var d dto.Metric
		if err := m.Write(&d); err == nil {
			total += d.GetCounter().GetValue()
		}
	}
	return total
}

// metrics are the store's own.
type metrics struct {
	samples  prometheus.Counter
	dropped  *prometheus.CounterVec
	syncs    prometheus.Histogram
	free     prometheus.Gauge
	full     prometheus.Gauge
	fatal    prometheus.Gauge
	setAside prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		samples: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "langbiang_hub_store_samples_total", Help: "Samples appended and committed.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "langbiang_hub_store_dropped_total", Help: "Samples not stored: conflict, too_old, ahead.",
		}, []string{"reason"}),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "langbiang_hub_store_sync_seconds", Help: "Time to make everything committed durable.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}),
		free: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "langbiang_hub_store_free_bytes", Help: "Free space on the store's disk.",
		}),
		full: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "langbiang_hub_store_full", Help: "1 while nothing is accepted because the disk is full.",
		}),
		fatal: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "langbiang_hub_store_fatal", Help: "1 once durability cannot be promised any more.",
		}),
		setAside: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "langbiang_hub_store_set_aside", Help: "Damaged parts that were set aside when the store was opened.",
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.samples, m.dropped, m.syncs, m.free, m.full, m.fatal, m.setAside}
}
