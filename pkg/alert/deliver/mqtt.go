package deliver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// HubBus is the broker name that means the hub's own bus.
const HubBus = "hub"

// BusTopic begins the topics of alerts on the hub's own bus.
const BusTopic = "langbiang/alerts"

// mqttSink publishes every entry at TOPIC/events, and keeps the state of each
// active alert, retained, at TOPIC/state/ID: when it clears, its last state is
// published there once, and what is retained is removed. TOPIC/hub says, retained,
// whether the hub is online; the broker says so itself when it loses the hub.
//
// All with QoS 1: an entry is given once the broker has acknowledged it. After
// every connect what is active is published anew, since a broker may have lost it.
type mqttSink struct {
	cfg    *MQTTConfig
	source string
	topic  string
	parts  *Parts
	client paho.Client // nil while not connected
	tls    *tls.Config
}

const mqttHeartbeat = 30 * time.Second

func newMQTT(c *MQTTConfig, source string, parts *Parts) (*mqttSink, error) {
	m := &mqttSink{cfg: c, source: source, topic: or(c.Topic, BusTopic), parts: parts}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		m.tls = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !m.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
		}
	}
	if c.Password.Set() {
		if _, err := c.Password.Read(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *mqttSink) timeout() time.Duration { return or(m.cfg.Timeout, defaultTimeout) }

// options are those of a new connection. It is never made again by the library:
// every loss is seen here, and answered by publishing the states anew.
func (m *mqttSink) options(id string) (*paho.ClientOptions, error) {
	o := paho.NewClientOptions().SetClientID(id).SetCleanSession(true).SetOrderMatters(false).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(m.timeout()).SetWriteTimeout(m.timeout()).SetKeepAlive(30 * time.Second)
	if m.tls != nil {
		o.SetTLSConfig(m.tls)
	}
	if m.cfg.Broker == HubBus {
		addr, user, password, secure, err := m.parts.Bus()
		if err != nil {
			return nil, err
		}
		scheme := "tcp://"
		if secure != nil {
			scheme = "ssl://"
			o.SetTLSConfig(secure)
		}
		return o.AddBroker(scheme + addr).SetUsername(user).SetPassword(password), nil
	}
	o.AddBroker(m.cfg.Broker).SetUsername(m.cfg.User)
	if m.cfg.Password.Set() {
		b, err := m.cfg.Password.Read() // anew each time: it may have been changed
		if err != nil {
			return nil, err
		}
		o.SetPassword(string(b))
	}
	return o, nil
}

// connect connects when there is no connection, and publishes what is active.
func (m *mqttSink) connect(ctx context.Context) error {
	if m.client != nil && m.client.IsConnectionOpen() {
		return nil
	}
	m.close()
	id := m.cfg.ClientID
	if id == "" {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		id = "lb-" + hex.EncodeToString(b[:])
	}
	o, err := m.options(id)
	if err != nil {
		return err
	}
	o.SetBinaryWill(m.topic+"/hub", []byte(`{"online":false}`), 1, true)
	c := paho.NewClient(o)
	m.client = c
	if err := m.await(ctx, c.Connect()); err != nil {
		m.close()
		return fmt.Errorf("connect: %w", err)
	}
	active, err := m.parts.Log.ActiveAlerts()
	if err != nil {
		return err
	}
	var tokens []paho.Token
	for i := range active {
		ok, err := m.wants(&active[i])
		if err != nil {
			return err
		}
		if ok {
			tokens = append(tokens, m.state(&active[i])...)
		}
	}
	return m.all(ctx, append(tokens, m.online()))
}

func (m *mqttSink) wants(a *alert.Alert) (bool, error) {
	e := alert.Entry{Sequence: a.Sequence, Transition: alert.Transition{Kind: alert.Raised, Alert: *a}}
	return m.cfg.Choose.Wants(&e, m.parts.Groups, m.parts.Log)
}

// online says that the hub lives.
func (m *mqttSink) online() paho.Token {
	b, _ := json.Marshal(struct { // never fails
		Online   bool          `json:"online"`
		Time     time.Time     `json:"time"`
		Position feed.Position `json:"position"`
	}{true, m.parts.Now().UTC(), feed.Newest(m.parts.Log)})
	return m.client.Publish(m.topic+"/hub", 1, true, b)
}

// state publishes how it stands with the alert.
func (m *mqttSink) state(a *alert.Alert) []paho.Token {
	b, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	topic := m.topic + "/state/" + a.ID
	if a.State == alert.Active {
		return []paho.Token{m.client.Publish(topic, 1, true, b)}
	}
	return []paho.Token{m.client.Publish(topic, 1, false, b), m.client.Publish(topic, 1, true, []byte{})}
}

func (m *mqttSink) deliver(ctx context.Context, entries []alert.Entry) (int, error) {
	if err := m.connect(ctx); err != nil {
		return 0, err
	}
	given := make([][]paho.Token, len(entries))
	for i := range entries {
		e, err := feed.EventOf(&entries[i], m.source)
		if err != nil {
			return 0, err
		}
		b, err := json.Marshal(&e)
		if err != nil {
			return 0, err
		}
		given[i] = append(m.state(&entries[i].Alert), m.client.Publish(m.topic+"/events", 1, false, b))
	}
	for i, tokens := range given {
		if err := m.all(ctx, tokens); err != nil {
			m.close() // what is on its way must not arrive after what is sent anew
			return i, err
		}
	}
	return len(entries), nil
}

func (m *mqttSink) all(ctx context.Context, tokens []paho.Token) error {
	for _, t := range tokens {
		if err := m.await(ctx, t); err != nil {
			m.close()
			return err
		}
	}
	return nil
}

func (m *mqttSink) await(ctx context.Context, t paho.Token) error {
	timer := time.NewTimer(m.timeout())
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-timer.C:
		return errors.New("the broker does not answer")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// idle keeps the connection, and says that the hub lives.
func (m *mqttSink) idle(ctx context.Context, now time.Time) (time.Time, bool, error) {
	fresh := m.client == nil || !m.client.IsConnectionOpen()
	err := m.connect(ctx)
	if err == nil && !fresh {
		err = m.all(ctx, []paho.Token{m.online()})
	}
	if err != nil {
		return now.Add(5 * time.Second), false, err
	}
	return now.Add(mqttHeartbeat), false, nil
}

// probe publishes a test event over a connection of its own.
func (m *mqttSink) probe(ctx context.Context, _ string) (string, error) {
	o, err := m.options(fmt.Sprintf("lb-test-%d", m.parts.Now().UnixNano()))
	if err != nil {
		return "", err
	}
	c := paho.NewClient(o)
	defer c.Disconnect(100)
	if err := m.await(ctx, c.Connect()); err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	p := feed.Newest(m.parts.Log)
	b, err := json.Marshal(feed.Telling(feed.TypeTest, m.source, feed.Told{Generation: p.Generation, Sequence: p.Sequence}, m.parts.Now()))
	if err != nil {
		return "", err
	}
	if err := m.await(ctx, c.Publish(m.topic+"/events", 1, false, b)); err != nil {
		return "", err
	}
	return "the broker has acknowledged an event of type " + feed.TypeTest + " at " + m.topic + "/events", nil
}

// close ends the connection; at the end of the hub it says goodbye first.
func (m *mqttSink) close() {
	if m.client == nil {
		return
	}
	if m.client.IsConnectionOpen() {
		m.client.Publish(m.topic+"/hub", 1, true, []byte(`{"online":false}`)).WaitTimeout(time.Second)
	}
	m.client.Disconnect(100)
	m.client = nil
}
