package driver

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Registered are the metrics of one connection, in a registry while it runs. The
// zero value has none. It belongs to the driver's Run.
type Registered struct {
	registry prometheus.Registerer
	metrics  []prometheus.Collector
}

// Register adds metrics to the registry, which may be nil. A name that is taken,
// by the same connection before a reload for example, is left to its owner.
func (m *Registered) Register(r prometheus.Registerer, all ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	m.registry = r
	for _, c := range all {
		err := r.Register(c)
		if errors.As(err, &prometheus.AlreadyRegisteredError{}) {
			continue
		}
		if err != nil {
			return err
		}
		m.metrics = append(m.metrics, c)
	}
	return nil
}

// Unregister takes out what Register added.
func (m *Registered) Unregister() {
	for _, c := range m.metrics {
		m.registry.Unregister(c)
	}
	m.metrics = nil
}
