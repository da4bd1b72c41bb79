package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	firstReconnect = 250 * time.Millisecond
	steadyAfter    = 10 * time.Second // a link that stood this long was a good one
	writeTimeout   = 10 * time.Second
	quiesce        = 250 // milliseconds that paho gets to say goodbye
	maxSubscribe   = 64  // filters in one SUBSCRIBE
)

// linkState is what the worker is told about the link.
type linkState struct {
	up      bool
	why     string          // one sentence, when it is down
	refused map[string]bool // filters that the broker refused
}

// link keeps the connection to the broker. Each connection is a paho client of
// its own, used once: paho's own reconnecting does not tell why it fails, keeps
// no jitter, and would hand out messages of its memory twice.
type link struct {
	d       *mqttDriver
	changed chan struct{} // receives when state is new
	again   chan struct{} // receives when the connection is to be made anew

	mu      sync.Mutex
	current linkState
}

func newLink(d *mqttDriver) *link {
	return &link{d: d, changed: make(chan struct{}, 1), again: make(chan struct{}, 1)}
}

// state returns how the link is. Safe for concurrent use.
func (l *link) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

func (l *link) set(st linkState) {
	l.mu.Lock()
	l.current = st
	l.mu.Unlock()
	if st.up {
		l.d.metrics.connected.Set(1)
	} else {
		l.d.metrics.connected.Set(0)
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// renew asks for the connection to be made anew. It does not wait.
func (l *link) renew() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// run connects, subscribes, and connects again until ctx ends.
func (l *link) run(ctx context.Context) {
	failures := 0
	reported := ""
	for ctx.Err() == nil {
		began := time.Now()
		err := l.session(ctx, failures)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRenew) {
			continue
		}
		why := fmt.Sprintf("the broker %s cannot be reached: %v", l.d.url.Host, err)
		if errors.Is(err, packets.ErrorRefusedNotAuthorised) || errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) {
			why = fmt.Sprintf("the broker %s refuses the user %q or the password", l.d.url.Host, l.d.cfg.User)
		}
		if time.Since(began) > steadyAfter {
			failures, reported = 0, ""
		} else if errors.Is(err, errLost) && failures >= 2 {
			why += fmt.Sprintf("; does another client use the client_id %q?", l.d.cfg.ClientID)
		}
		failures++
		if why != reported {
			reported = why
			l.d.logger.Warn("no connection to the broker", "broker", l.d.url.Host, "error", err)
		}
		l.set(linkState{why: why})
		select {
		case <-ctx.Done():
		case <-time.After(pause(failures, l.d.cfg.MaxReconnect)):
		}
	}
}

// pause is how long to wait after so many failures: it doubles, up to most, and
// varies by a half so that a hundred agents do not come at once.
func pause(failures int, most time.Duration) time.Duration {
	p := firstReconnect << min(failures-1, 16)
	p = min(p, most)
	return p/2 + time.Duration(mathrand.Int64N(int64(p/2)+1))
}

var (
	errLost  = errors.New("the connection was lost")
	errRenew = errors.New("the connection is made anew")
)

// session is one connection, from dialling to its loss.
func (l *link) session(ctx context.Context, failures int) error {
	lost := make(chan error, 1)
	client, err := l.connect(ctx, lost)
	if client != nil {
		defer client.Disconnect(quiesce)
	}
	if err != nil {
		return err
	}
	refused, err := l.subscribe(ctx, client, lost)
	if err != nil {
		return err
	}
	l.d.metrics.connects.Inc()
	l.d.logger.Info("connected to the broker", "broker", l.d.url.Host, "topics", len(l.d.routes.filters), "failures", failures)
	for f := range refused {
		l.d.logger.Error("the broker refuses a subscription; check the rights of the user", "topic", f)
	}
	l.set(linkState{up: true, refused: refused})
	select {
	case <-ctx.Done():
		settled(client)
		return ctx.Err()
	case <-l.again:
		return errRenew
	case err := <-lost:
		return fmt.Errorf("%w: %w", errLost, err)
	}
}

// settled waits until the broker has taken in what was sent before, the
// acknowledgements above all: closing a connection on which messages are still
// unread resets it, and what the broker had not read by then is gone. Any question
// will do that changes nothing and is answered.
func settled(client paho.Client) {
	client.Unsubscribe("langbiang/nothing").WaitTimeout(settleTime)
}

// connect makes the connection. The client is to be disconnected even when
// there is an error.
func (l *link) connect(ctx context.Context, lost chan<- error) (paho.Client, error) {
	cfg := &l.d.cfg
	password, err := cfg.password()
	if err != nil {
		return nil, err
	}
	id := cfg.ClientID
	if id == "" {
		var b [8]byte
		_, _ = rand.Read(b[:])
		id = "langbiang-" + hex.EncodeToString(b[:])
	}
	connecting, stop := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer stop()
	var dialErr error
	release := func() bool { return true }
	o := paho.NewClientOptions().
		AddBroker(l.d.url.String()).
		SetClientID(id).
		SetUsername(cfg.User).
		SetPassword(password).
		SetCleanSession(!l.d.keeps).
		SetProtocolVersion(4).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(cfg.ConnectTimeout).
		SetKeepAlive(cfg.Keepalive).
		SetPingTimeout(min(cfg.Keepalive/2, 10*time.Second)).
		SetWriteTimeout(writeTimeout).
		SetMaxReconnectInterval(cfg.MaxReconnect).
		SetAutoAckDisabled(true).
		// receive never blocks, so order costs nothing here, and without it paho
		// starts a goroutine per message: a flood would have no bound, and two
		// messages of one topic could change places.
		SetOrderMatters(true).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { l.d.receive(m) }).
		SetConnectionLostHandler(func(_ paho.Client, err error) {
			select {
			case lost <- err:
			default:
			}
		}).
		SetCustomOpenConnectionFn(func(u *url.URL, _ paho.ClientOptions) (net.Conn, error) {
			c, err := l.dial(connecting, u)
			if dialErr = err; err != nil {
				return nil, err
			}
			release = context.AfterFunc(connecting, func() { _ = c.Close() })
			return c, nil
		})
	client := paho.NewClient(o)
	token := client.Connect()
	<-token.Done() // in time: the connection is closed when connecting ends
	inTime := release()
	if err := token.Error(); err != nil {
		if dialErr != nil {
			err = dialErr // paho's own words hide it behind "network Error"
		}
		return client, err
	}
	if !inTime {
		return client, connecting.Err()
	}
	return client, nil
}

// dial opens the network connection, with TLS when the URL asks for it.
func (l *link) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "ssl" {
		t, err := l.d.cfg.tlsConfig(u.Hostname())
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		secure := tls.Client(c, t)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c = secure
	}
	return &deadlineConn{c}, nil
}

// deadlineConn bounds every write. Paho's WriteTimeout covers what it publishes,
// but not acknowledgements and pings.
type deadlineConn struct{ net.Conn }

func (c *deadlineConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// subscribe asks for every filter, and returns those that the broker refuses.
func (l *link) subscribe(ctx context.Context, client paho.Client, lost <-chan error) (refused map[string]bool, err error) {
	filters := l.d.routes.filters
	qos := byte(*l.d.cfg.QoS)
	for len(filters) > 0 {
		n := min(len(filters), maxSubscribe)
		ask := make(map[string]byte, n)
		for _, f := range filters[:n] {
			ask[f] = qos
		}
		filters = filters[n:]
		token := client.SubscribeMultiple(ask, nil)
		select {
		case <-token.Done():
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-lost:
			return nil, fmt.Errorf("%w: %w", errLost, err)
		case <-time.After(l.d.cfg.ConnectTimeout):
			return nil, fmt.Errorf("no answer to the subscription within %v", l.d.cfg.ConnectTimeout)
		}
		if err := token.Error(); err != nil {
			return nil, fmt.Errorf("subscribing: %w", err)
		}
		st, ok := token.(*paho.SubscribeToken)
		if !ok {
			continue
		}
		for f, granted := range st.Result() {
			if granted == 0x80 {
				if refused == nil {
					refused = make(map[string]bool)
				}
				refused[f] = true
			}
		}
	}
	return refused, nil
}
