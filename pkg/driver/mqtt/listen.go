package mqtt

import (
	"context"
	"errors"
	"fmt"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// Listen connects to the broker under a name of its own, subscribes to the
// filters with QoS 0 and gives every message to hear until ctx ends; then it
// returns nil. hear runs on one goroutine and must not block. The error is one
// sentence for a technician.
func (c *Config) Listen(ctx context.Context, filters []string, hear func(topic string, payload []byte, retained bool)) error {
	cfg := *c
	for _, p := range cfg.Validate() {
		return fmt.Errorf("%s: %s", p.Field, p.Msg)
	}
	cfg.ApplyDefaults()
	zero := 0
	cfg.ClientID, cfg.QoS = "", &zero
	u, err := brokerURL(cfg.URL)
	if err != nil {
		return err
	}
	d := &mqttDriver{cfg: cfg, url: u, routes: &routes{filters: filters}}
	d.tap = func(m paho.Message) { hear(m.Topic(), m.Payload(), m.Retained()) }
	l := newLink(d)
	lost := make(chan error, 1)
	client, err := l.connect(ctx, lost)
	if client != nil {
		defer client.Disconnect(quiesce)
	}
	var refused map[string]bool
	if err == nil {
		refused, err = l.subscribe(ctx, client, lost)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("the broker %s cannot be reached: %w", u.Host, err)
	case len(refused) == len(filters):
		return errors.New("the broker refuses the subscription; check the rights of the user")
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-lost:
		return fmt.Errorf("the connection to the broker was lost: %w", err)
	}
}
