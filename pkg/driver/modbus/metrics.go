package modbus

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// metrics are those of one connection. They are registered while it runs.
type metrics struct {
	requests, writes, stale, missed, connects prometheus.Counter
	errors                                    *prometheus.CounterVec // kind
	late                                      prometheus.Histogram
	busy                                      prometheus.Counter
	down                                      prometheus.Gauge
	kinds                                     map[telemetry.Reason]prometheus.Counter

	all []prometheus.Collector
	driver.Registered
}

func newMetrics(connection string) *metrics {
	labels := prometheus.Labels{"connection": connection}
	m := &metrics{kinds: make(map[telemetry.Reason]prometheus.Counter)}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "langbiang_edge_modbus_" + name, Help: help, ConstLabels: labels})
		m.all = append(m.all, c)
		return c
	}
	m.requests = counter("requests_total", "Requests sent.")
	m.writes = counter("writes_total", "Writes sent, each on a person's command.")
	m.stale = counter("stale_answers_total", "Answers passed over because they belong to another question.")
	m.missed = counter("polls_missed_total", "Polls of answering devices given up because their next one was due already.")
	m.connects = counter("connects_total", "Times the connection was made.")
	m.busy = counter("busy_seconds_total", "Time in which the bus was taken by a request and its answer.")
	m.errors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "langbiang_edge_modbus_errors_total", ConstLabels: labels,
		Help: "Requests without usable answer, and connections that could not be made, by kind.",
	}, []string{"kind"})
	m.late = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "langbiang_edge_modbus_poll_lateness_seconds", ConstLabels: labels,
		Help:    "Time between a device's slot and the begin of its poll.",
		Buckets: []float64{.001, .005, .02, .1, .5, 1, 5, 20},
	})
	m.down = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "langbiang_edge_modbus_devices_down", ConstLabels: labels,
		Help: "Devices of the connection that do not answer.",
	})
	m.all = append(m.all, m.errors, m.late, m.down)
	for _, r := range []telemetry.Reason{
		telemetry.ReasonNoAnswer, telemetry.ReasonUnreachable, telemetry.ReasonException, telemetry.ReasonBadFrame,
	} {
		m.kinds[r] = m.errors.WithLabelValues(r.String())
	}
	return m
}

func (m *metrics) failed(f failure) {
	if c := m.kinds[f.reason]; c != nil {
		c.Inc()
	}
}
