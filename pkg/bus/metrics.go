package bus

import (
	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reg           prometheus.Registerer
	all           []prometheus.Collector
	received      [len(kindNames)]prometheus.Counter
	receivedBytes prometheus.Counter
	published     prometheus.Counter
	refused       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *server.Server, dropped func() int) (*metrics, error) {
	m := &metrics{
		reg: reg,
		receivedBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "langbiang_hub_bus_received_bytes_total", Help: "Payload bytes that edges published.",
		}),
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "langbiang_hub_bus_published_total", Help: "Messages published to edges.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "langbiang_hub_bus_refused_total", Help: "Messages whose topic names no edge.",
		}),
	}
	byKind := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "langbiang_hub_bus_received_total", Help: "Messages that edges published, by kind.",
	}, []string{"kind"})
	for i, k := range kindNames {
		m.received[i] = byKind.WithLabelValues(k)
	}
	clients := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "langbiang_hub_bus_connections", Help: "MQTT clients connected.",
	},
		func() float64 { return float64(max(0, s.NumClients()-1)) })
	drops := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "langbiang_hub_bus_dropped_total", Help: "Messages dropped because the hub did not keep up; their edges send them again.",
	},
		func() float64 { return float64(dropped()) })
	m.all = []prometheus.Collector{m.receivedBytes, m.published, m.refused, byKind, clients, drops}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
