package uplink

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/wire"
)

// Uplink sends the frames of one log to one hub.
type Uplink struct {
	cfg     Config
	log     Log
	metrics *metrics

	flush chan struct{}
	acks  chan wire.Ack // that have arrived
	said  chan spoken   // that wait to be published
	tls   *tls.Config   // nil: the MQTT client's own

	mu     sync.Mutex
	status Status
}

// Status is how the uplink stands, for people.
type Status struct {
	Connected bool
	Since     time.Time   // of Connected
	Refusal   wire.Status // StatusOK: the hub takes frames
	Reason    string      // of the refusal, or why there is no connection
	Sent      wire.Pos
	Got, Safe wire.Pos
}

// New checks the configuration. The log stays the caller's, who closes it after
// Run has returned.
func New(cfg Config, log Log) (*Uplink, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	u := &Uplink{cfg: cfg, log: log, metrics: m, flush: make(chan struct{}, 1), acks: make(chan wire.Ack, 64), said: make(chan spoken, 16)}
	if cfg.TLS != nil && cfg.TLS.ClientSessionCache == nil {
		// A link that comes and goes need not show all certificates each time.
		u.tls = cfg.TLS.Clone()
		u.tls.ClientSessionCache = tls.NewLRUClientSessionCache(2)
	} else {
		u.tls = cfg.TLS
	}
	return u, nil
}

// Status returns how the uplink stands now. It may be called at any time.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// Flush ends the period of SendEvery: what is in the log is sent now, as far as the
// hub's credit goes. It does not wait, and may be called at any time.
func (u *Uplink) Flush() {
	select {
	case u.flush <- struct{}{}:
	default:
	}
}

// spoken is a message that somebody beside the log wants published.
type spoken struct {
	kind    string
	payload []byte
}

// Say publishes a message of another kind than those of the log. It may be lost, as
// all of them, and is when there is no connection. Payload is the uplink's from then
// on. It does not wait, and may be called at any time.
func (u *Uplink) Say(kind string, payload []byte) {
	select {
	case u.said <- spoken{kind, payload}:
	default: // who says it says it again
	}
}

// Run connects, sends, and connects again, until ctx ends; then it says good-bye
// and returns nil. Call it once.
func (u *Uplink) Run(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	s := newSession(&u.cfg, u.log, rng.Uint64())
	client := fmt.Sprintf("%s-%08x", u.cfg.Edge, rand.Uint32())
	pauses := newBackoff(u.cfg.MaxBackoff)
	for ctx.Err() == nil {
		err := u.connect(ctx, s, client)
		served := s.state == streaming
		s.disconnected()
		u.publishStatus(s, false, err)
		if ctx.Err() != nil {
			break
		}
		u.metrics.connected.Set(0)
		if served {
			// The hub answered: what is bad is the link, and it may be good again at
			// once. Only a hub that does not answer must not be pressed.
			pauses = newBackoff(u.cfg.MaxBackoff)
		}
		wait := pauses.pause(rng)
		u.cfg.Logger.Warn("no connection to the hub", "url", u.cfg.URL, "error", err, "next_try_in", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil //nolint:nilerr // the end of ctx is how it should end
}

func (u *Uplink) connect(ctx context.Context, s *session, id string) error {
	if u.cfg.Publish != nil {
		return u.within(ctx, s)
	}
	return u.connection(ctx, s, id)
}

// within talks to a hub in the same process until it is deaf.
func (u *Uplink) within(ctx context.Context, s *session) error {
	out := func(_ context.Context, kind string, _ bool, payload []byte) error {
		u.cfg.Publish(kind, bytes.Clone(payload))
		return nil
	}
	online := wire.State{Online: true, At: time.Now().UnixMilli()}
	if err := u.state(ctx, out, &online); err != nil {
		return err
	}
	u.metrics.connected.Set(1)
	s.connected(time.Now())
	return u.converse(ctx, out, s, &online, nil)
}

// connection lives as long as one MQTT connection and returns why it ended.
func (u *Uplink) connection(ctx context.Context, s *session, id string) error {
	at := time.Now().UnixMilli()
	will, err := wire.EncodeState(&wire.State{V: wire.Version, Epoch: u.cfg.Epoch, At: at})
	if err != nil {
		return err
	}
	lost := make(chan error, 1)
	u.forget()
	o := mqtt.NewClientOptions().AddBroker(u.cfg.URL).SetClientID(id).SetProtocolVersion(4).
		SetCleanSession(true).SetOrderMatters(false).SetAutoReconnect(false).SetConnectRetry(false).
		SetKeepAlive(u.cfg.KeepAlive).SetConnectTimeout(u.cfg.ConnectTimeout).SetWriteTimeout(u.cfg.WriteTimeout).
		SetUsername(u.cfg.User).SetPassword(u.cfg.Password).
		SetBinaryWill(wire.StateTopic(u.cfg.Edge), will, 0, true).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }).
		SetDialer(&net.Dialer{Timeout: u.cfg.ConnectTimeout, KeepAlive: u.cfg.KeepAlive})
	if u.tls != nil {
		o.SetTLSConfig(u.tls)
	}
	c := mqtt.NewClient(o)
	defer c.Disconnect(0)
	if err := u.wait(ctx, c.Connect(), u.cfg.ConnectTimeout+u.cfg.WriteTimeout); err != nil {
		return err
	}
	receive := func(_ mqtt.Client, m mqtt.Message) {
		if _, kind, ok := wire.ParseTopic(m.Topic()); ok {
			u.Deliver(kind, m.Payload())
		}
	}
	topics := map[string]byte{wire.AckTopic(u.cfg.Edge): 0, wire.ConfigTopic(u.cfg.Edge): 0}
	if u.cfg.Answers != nil {
		topics[wire.AskTopic(u.cfg.Edge)] = 0
	}
	if err := u.wait(ctx, c.SubscribeMultiple(topics, receive), u.cfg.WriteTimeout); err != nil {
		return err
	}
	online := wire.State{Online: true, At: at}
	if u.cfg.Disk != nil {
		online.Disk = u.cfg.Disk()
	}
	out := func(ctx context.Context, kind string, retained bool, payload []byte) error {
		return u.wait(ctx, c.Publish(wire.Topic(u.cfg.Edge, kind), 0, retained, payload), u.cfg.WriteTimeout+time.Second)
	}
	if err := u.state(ctx, out, &online); err != nil {
		return err
	}
	u.cfg.Logger.Info("connected to the hub", "url", u.cfg.URL)
	u.metrics.connected.Set(1)
	s.connected(time.Now())
	err = u.converse(ctx, out, s, &online, lost)
	if ctx.Err() != nil {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(u.cfg.WriteTimeout, 2*time.Second))
		defer cancel()
		_ = u.state(bye, out, &wire.State{At: at, Reason: "stopped"}) // the last will says the same, without the reason
	}
	return err
}

// converse moves messages between the session and the connection.
func (u *Uplink) converse(ctx context.Context, out publisher, s *session, online *wire.State, lost <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var answers <-chan struct{}
	if u.cfg.Answers != nil {
		answers = u.cfg.Answers.Changed()
	}
	for {
		// Before poll looks at the log, or an append in between goes unseen.
		changed := u.log.Changed()
		if err := u.take(ctx, out, s, lost); err != nil {
			return err
		}
		if s.deaf(time.Now()) {
			return errDeaf
		}
		m, wait, ok := s.next(time.Now())
		if ok {
			if err := u.publish(ctx, out, m.topic, m.payload); err != nil {
				return err
			}
			continue
		}
		u.publishStatus(s, true, nil)
		if u.cfg.Disk != nil {
			// Appends wake us, and readings go on while the disk refuses.
			if disk := u.cfg.Disk(); disk != online.Disk {
				online.Disk = disk
				if err := u.state(ctx, out, online); err != nil {
					return err
				}
			}
		}
		timer.Reset(max(wait, time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return err
		case a := <-u.acks:
			u.acked(s, &a)
		case m := <-u.said:
			if err := u.publish(ctx, out, m.kind, m.payload); err != nil {
				return err
			}
		case <-u.flush:
			s.flush()
		case <-changed:
		case <-answers:
		case <-timer.C:
		}
	}
}

// take hands over what has arrived, and what was said, without waiting.
func (u *Uplink) take(ctx context.Context, out publisher, s *session, lost <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return err
		case a := <-u.acks:
			u.acked(s, &a)
		case m := <-u.said:
			if err := u.publish(ctx, out, m.kind, m.payload); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// Deliver takes what the hub said on the ack, config or ask topic; the payload is not
// kept. It may be called from any goroutine and does not block. What this program
// does not know is for a later one.
func (u *Uplink) Deliver(kind string, payload []byte) {
	if kind == wire.TopicAsk {
		if u.cfg.Answers != nil {
			u.cfg.Answers.Ask(payload)
		}
		return
	}
	if kind != wire.TopicAck {
		if wire.IsConfig(payload) {
			var c wire.Config
			if u.cfg.Configured != nil && wire.DecodeConfig(payload, &c) == nil {
				u.cfg.Configured(&c)
			}
			return
		}
		var b wire.Bands
		if u.cfg.Bands != nil && wire.DecodeBands(payload, &b) == nil {
			u.cfg.Bands(&b, wire.BandsID(payload))
		}
		return
	}
	var a wire.Ack
	if err := wire.DecodeAck(payload, &a); err != nil {
		u.metrics.badAcks.Inc()
		return
	}
	select {
	case u.acks <- a:
	default: // the hub repeats itself
		u.metrics.badAcks.Inc()
	}
}

// forget drops what came over the connection before, or was to go over it.
func (u *Uplink) forget() {
	for len(u.said) > 0 {
		<-u.said
	}
	for len(u.acks) > 0 {
		<-u.acks
	}
}

// acked hands an acknowledgement to the session, and tells who wants to know.
func (u *Uplink) acked(s *session, a *wire.Ack) {
	greeting := s.state == greeting
	s.ack(time.Now(), a)
	if u.cfg.Greeted != nil && greeting && s.state == streaming {
		u.cfg.Greeted()
	}
	if u.cfg.Acked != nil {
		u.cfg.Acked(s.acked, s.safe)
	}
}

// publisher writes a message to the connection. That it returns nil proves nothing
// but that the payload may be used again.
type publisher func(ctx context.Context, kind string, retained bool, payload []byte) error

func (u *Uplink) publish(ctx context.Context, out publisher, kind string, payload []byte) error {
	u.metrics.bytes.Add(float64(len(payload)))
	return out(ctx, kind, false, payload)
}

func (u *Uplink) state(ctx context.Context, out publisher, s *wire.State) error {
	s.V, s.Epoch = wire.Version, u.cfg.Epoch
	payload, err := wire.EncodeState(s)
	if err != nil {
		return err
	}
	return out(ctx, wire.TopicState, true, payload)
}

var errDeaf = errors.New("the hub does not answer over this connection")

var errSlow = errors.New("the hub's broker does not take what is sent")

// wait waits for a token, for the time given at most.
func (u *Uplink) wait(ctx context.Context, t mqtt.Token, most time.Duration) error {
	select {
	case <-t.Done(): // nearly always at once
		return t.Error()
	default:
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-timer.C:
		return errSlow
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *Uplink) publishStatus(s *session, connected bool, err error) {
	u.metrics.take(&s.counts, s)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.status.Connected != connected || u.status.Since.IsZero() {
		u.status.Since = time.Now()
	}
	u.status.Connected, u.status.Refusal, u.status.Reason = connected, s.status, s.reason
	u.status.Sent, u.status.Got, u.status.Safe = s.cursor, s.acked, s.safe
	if err != nil && u.status.Reason == "" {
		u.status.Reason = strings.TrimSpace(err.Error())
	}
}
