package mqtt

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one connection.
type metrics struct {
	read      prometheus.Counter // put as readings
	malformed prometheus.Counter // of these: at least one point got a bad reading from the payload
	retained  prometheus.Counter
	empty     prometheus.Counter
	stray     prometheus.Counter // nobody asked for the topic
	repeated  prometheus.Counter
	dropped   prometheus.Counter
	held      prometheus.Counter // QoS 1 messages left with the broker for lack of room
	connects  prometheus.Counter
	connected prometheus.Gauge
	waiting   prometheus.Gauge
}

// newMetrics makes the metrics of a connection. The connections of an agent share
// the families in reg, which may be nil, and a driver that is started anew
// continues its counters.
func newMetrics(reg prometheus.Registerer, connection string) (*metrics, error) {
	messages, err1 := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "langbiang_edge_mqtt_messages_total",
		Help: "Messages from the broker, by what became of them.",
	}, []string{"connection", "result"}))
	connects, err2 := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "langbiang_edge_mqtt_connects_total",
		Help: "Connections made to the broker.",
	}, []string{"connection"}))
	connected, err3 := register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "langbiang_edge_mqtt_connected",
		Help: "1 while the connection to the broker stands and its topics are subscribed.",
	}, []string{"connection"}))
	waiting, err4 := register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "langbiang_edge_mqtt_queue_messages",
		Help: "Messages taken from the queue at its newest emptying.",
	}, []string{"connection"}))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	result := func(name string) prometheus.Counter { return messages.WithLabelValues(connection, name) }
	return &metrics{
		read:      result("read"),
		malformed: result("malformed"),
		retained:  result("retained"),
		empty:     result("empty"),
		stray:     result("stray"),
		repeated:  result("repeated"),
		dropped:   result("dropped"),
		held:      result("held"),
		connects:  connects.WithLabelValues(connection),
		connected: connected.WithLabelValues(connection),
		waiting:   waiting.WithLabelValues(connection),
	}, nil
}

// register enters c, or returns the collector of that name that reg has.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	if reg == nil {
		return c, nil
	}
	err := reg.Register(c)
	var have prometheus.AlreadyRegisteredError
	if errors.As(err, &have) {
		if same, ok := have.ExistingCollector.(C); ok {
			return same, nil
		}
	}
	return c, err
}
