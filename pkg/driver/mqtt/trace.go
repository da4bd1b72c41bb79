package mqtt

import (
	"fmt"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/driver"
)

// Trace implements [driver.Tracer]: every message that comes is an exchange.
func (d *mqttDriver) Trace(show func(*driver.Exchange)) (stop func()) {
	d.watch.Store(&show)
	return func() { d.watch.CompareAndSwap(&show, nil) }
}

func exchangeOf(m paho.Message) *driver.Exchange {
	text := fmt.Sprintf("%s, QoS %d", m.Topic(), m.Qos())
	if m.Retained() {
		text += ", retained"
	}
	if m.Duplicate() {
		text += ", repeated"
	}
	return &driver.Exchange{At: time.Now(), Got: m.Payload(), Meaning: text}
}
