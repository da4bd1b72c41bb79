package field

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// broker is the MQTT broker of the field. It can be taken down and brought back
// on the same address. Safe for concurrent use.
type broker struct {
	touched func() // called when somebody subscribes
	addr    string

	mu     sync.Mutex
	server *mochi.Server
}

// up starts the broker; on an address with port 0 it keeps the port it gets.
func (b *broker) up() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server != nil {
		return nil
	}
	ln, err := net.Listen("tcp", b.addr)
	if err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	s := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	err = s.AddHook(new(auth.AllowHook), nil)
	if err == nil {
		err = s.AddHook(&contact{touched: b.touched}, nil)
	}
	if err == nil {
		err = s.AddListener(listeners.NewNet("field", ln))
	}
	if err == nil {
		err = s.Serve()
	}
	if err != nil {
		_ = ln.Close()
		return fmt.Errorf("mqtt: %w", err)
	}
	b.addr, b.server = ln.Addr().String(), s
	return nil
}

// down stops the broker; sessions and retained messages are lost.
func (b *broker) down() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server == nil {
		return nil
	}
	err := b.server.Close()
	b.server = nil
	return err
}

// publish sends a message, unless the broker is down.
func (b *broker) publish(p publication, qos byte) (sent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server != nil && b.server.Publish(p.topic, []byte(p.payload), p.retain, qos) == nil
}

// contact notices subscribers.
type contact struct {
	mochi.HookBase
	touched func()
}

// ID names the hook.
func (*contact) ID() string { return "contact" }

// Provides says which events the hook is for.
func (*contact) Provides(b byte) bool { return b == mochi.OnSessionEstablished }

// OnSessionEstablished is called when a client has connected.
func (c *contact) OnSessionEstablished(_ *mochi.Client, _ packets.Packet) { c.touched() }

// runSensors publishes until ctx ends.
func (f *Field) runSensors(ctx context.Context) {
	const pace = 100 * time.Millisecond
	tick := time.NewTicker(pace)
	defer tick.Stop()
	turns := make([]int, len(f.sensors))
	for {
		since := f.since()
		for i, s := range f.sensors {
			if since < time.Duration(turns[i])*s.every || !f.touchedYet() {
				continue
			}
			if !f.mute(s.device) {
				for _, p := range s.messages(f.row(), turns[i]) {
					if f.broker.publish(p, 0) {
						f.recordMQTT(s.device, p)
					}
				}
			}
			turns[i] = int(since/s.every) + 1
		}
		select {
		case <-ctx.Done():
			f.broker.publish(publication{"frigate/available", "stopped", true}, 0)
			return
		case <-tick.C:
		}
	}
}
