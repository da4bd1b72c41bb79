package camera

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// metrics are those of one connection. They are registered while it runs.
type metrics struct {
	requests prometheus.Counter
	errors   *prometheus.CounterVec

	registered []prometheus.Collector
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

// register adds the metrics to the registry, which may be nil. A name that is
// taken, by the same connection before a reload for example, is left to its
// owner.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.errors} {
		err := r.Register(c)
		if errors.As(err, &prometheus.AlreadyRegisteredError{}) {
			continue
		}
		if err != nil {
			return err
		}
		m.registered = append(m.registered, c)
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.registered {
		r.Unregister(c)
	}
}

func (m *metrics) failed(r telemetry.Reason) { m.errors.WithLabelValues(r.String()).Inc() }
