package push

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct{ requests *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer, sources []*Source) *metrics {
	m := &metrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "langbiang_push_requests_total", Help: "Write requests answered, by source and status.",
	}, []string{"source", "status"})}
	if reg != nil {
		reg.MustRegister(m.requests, collector{sources})
	}
	return m
}

func (m *metrics) count(s *Source, status int) {
	id := ""
	if s != nil {
		id = s.cfg.ID
	}
	m.requests.WithLabelValues(id, strconv.Itoa(status)).Inc()
}

// collector shows the counters of the sources.
type collector struct{ sources []*Source }

var (
	rowsDesc     = prometheus.NewDesc("langbiang_push_rows_total", "Rows taken.", []string{"source"}, nil)
	refusedDesc  = prometheus.NewDesc("langbiang_push_rows_refused_total", "Rows that could not be taken.", []string{"source"}, nil)
	replacedDesc = prometheus.NewDesc("langbiang_push_rows_replaced_total", "Rows with the series and millisecond of a later one.", []string{"source"}, nil)
	seriesDesc   = prometheus.NewDesc("langbiang_push_series", "Series of the source.", []string{"source"}, nil)
)

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- rowsDesc
	ch <- refusedDesc
	ch <- replacedDesc
	ch <- seriesDesc
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.sources {
		st := s.Stats()
		counter := func(d *prometheus.Desc, v uint64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), s.cfg.ID)
		}
		counter(rowsDesc, st.Rows)
		counter(refusedDesc, st.Refused)
		counter(replacedDesc, st.Replaced)
		ch <- prometheus.MustNewConstMetric(seriesDesc, prometheus.GaugeValue, float64(st.Series), s.cfg.ID)
	}
}
