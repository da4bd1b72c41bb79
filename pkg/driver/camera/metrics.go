package camera

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// metrics are those of one connection. They are registered while it runs.
type metrics struct {
	requests prometheus.Counter
	errors   *prometheus.CounterVec

	driver.Registered
}

func newMetrics(connection string) *metrics {
	labels := prometheus.Labels{"connection": connection}
	return &metrics{
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "langbiang_edge_camera_requests_total", ConstLabels: labels,
			Help: "Times a camera was asked for its stream or a picture.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "langbiang_edge_camera_errors_total", ConstLabels: labels,
			Help: "Times a camera gave no stream or picture, by kind.",
		}, []string{"kind"}),
	}
}

func (m *metrics) failed(r telemetry.Reason) { m.errors.WithLabelValues(r.String()).Inc() }
