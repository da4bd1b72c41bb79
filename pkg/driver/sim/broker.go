package sim

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/langbiang/langbiang/pkg/profile"
)

// waiting is how many messages may wait for a subscriber; one that is slower
// loses messages, as QoS 0 allows.
const waiting = 1024

// Broker is a small MQTT 3.1.1 broker: retained messages, wildcards, QoS 0 to
// subscribers, no sessions and no rights. Whoever connects may also publish, so
// that a technician can play a device by hand. Safe for concurrent use; the zero
// value is ready.
type Broker struct {
	mu       sync.Mutex
	clients  map[*client]bool
	retained map[string][]byte
}

type client struct {
	out     chan packets.ControlPacket
	filters map[string]bool // guarded by the broker's lock
}

// Publish gives a message to all subscribers of its topic.
func (b *Broker) Publish(topic string, payload []byte, retain bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if retain {
		if b.retained == nil {
			b.retained = map[string][]byte{}
		}
		if b.retained[topic] = payload; len(payload) == 0 {
			delete(b.retained, topic)
		}
	}
	for c := range b.clients {
		for f := range c.filters {
			if fitsTopic(f, topic) {
				c.send(message(topic, payload, false))
				break
			}
		}
	}
}

// fitsTopic is TopicFits for subscribers, whose wildcards do not see $SYS.
func fitsTopic(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	return profile.TopicFits(filter, topic)
}

func message(topic string, payload []byte, retained bool) packets.ControlPacket {
	m, _ := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	m.TopicName, m.Payload, m.Retain = topic, payload, retained
	return m
}

func (c *client) send(p packets.ControlPacket) {
	select {
	case c.out <- p:
	default:
	}
}

// Serve has one client until it goes or ctx ends; it is the Serve of a [Server].
func (b *Broker) Serve(ctx context.Context, conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // a deadline on a socket of ours
	first, err := packets.ReadPacket(conn)
	hello, ok := first.(*packets.ConnectPacket)
	if err != nil || !ok {
		return
	}
	c := &client{out: make(chan packets.ControlPacket, waiting), filters: map[string]bool{}}
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() {
		for {
			select {
			case p := <-c.out:
				if p.Write(conn) != nil {
					_ = conn.Close() // ends the reader too
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	c.send(packets.NewControlPacket(packets.Connack))
	b.mu.Lock()
	if b.clients == nil {
		b.clients = map[*client]bool{}
	}
	b.clients[c] = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.clients, c)
		b.mu.Unlock()
	}()
	for {
		idle := time.Hour
		if hello.Keepalive > 0 {
			idle = time.Duration(hello.Keepalive) * 3 * time.Second / 2
		}
		_ = conn.SetReadDeadline(time.Now().Add(idle))
		p, err := packets.ReadPacket(conn)
		if err != nil || !b.answer(c, p) {
			return
		}
	}
}

// answer does what a client asks; false ends the connection.
func (b *Broker) answer(c *client, p packets.ControlPacket) bool {
	switch p := p.(type) {
	case *packets.SubscribePacket:
		ack, _ := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		ack.MessageID, ack.ReturnCodes = p.MessageID, make([]byte, len(p.Topics))
		b.mu.Lock()
		defer b.mu.Unlock()
		c.send(ack)
		for _, f := range p.Topics {
			if f == "" {
				return false
			}
			c.filters[f] = true
			for topic, payload := range b.retained {
				if fitsTopic(f, topic) {
					c.send(message(topic, payload, true))
				}
			}
		}
	case *packets.UnsubscribePacket:
		ack, _ := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
		ack.MessageID = p.MessageID
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, f := range p.Topics {
			delete(c.filters, f)
		}
		c.send(ack)
	case *packets.PublishPacket:
		if p.Qos > 1 {
			return false
		}
		if p.Qos == 1 {
			ack, _ := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			ack.MessageID = p.MessageID
			c.send(ack)
		}
		b.Publish(p.TopicName, p.Payload, p.Retain)
	case *packets.PingreqPacket:
		c.send(packets.NewControlPacket(packets.Pingresp))
	case *packets.PubackPacket:
	default:
		return false
	}
	return true
}
