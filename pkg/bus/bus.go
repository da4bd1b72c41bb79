package bus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// What callers may branch on.
var (
	// ErrListen says that the MQTT listener could not be opened. The message names
	// the address and the reason.
	ErrListen = errors.New("cannot listen for MQTT")
	// ErrInUse says that another process has the data directory.
	ErrInUse = errors.New("is in use by another process")
	// ErrPlaintext says that the listener would offer unencrypted MQTT beyond this
	// machine without having been told to.
	ErrPlaintext = errors.New("refusing unencrypted MQTT on an address that other machines can reach")
	// ErrClosed says that the bus was closed.
	ErrClosed = errors.New("bus closed")
	// ErrAddress says that an edge id or a kind cannot stand in a topic.
	ErrAddress = errors.New("no such topic")
)

// Config says where to listen and how much to hold. The zero value of every field
// but Listen and DataDir is a good choice.
type Config struct {
	Listen   string // host:port; port 0 takes a free one, see Addr
	DataDir  string // for sessions and retained messages; made when missing
	Insecure bool   // allow plaintext on an address that other machines can reach

	TLS           *tls.Config   // nil: plaintext
	Authenticator Authenticator // nil: everybody may be any edge

	MaxPayload     int // bytes of one message; 1 MiB
	MaxConnections int // 16,384
	PendingBytes   int // bytes received and not yet handled, before dropping; 64 MiB
	PendingOut     int // bytes that one client has not read yet, before it is disconnected; 64 MiB
}

const (
	defaultMaxPayload     = 1 << 20
	defaultMaxConnections = 16384
	defaultPendingBytes   = 64 << 20
	defaultPendingOut     = 64 << 20
	pendingMessages       = 1 << 17
	storeMemory           = 16 << 20
	storeDisk             = 256 << 20
	closeTimeout          = 10 * time.Second
)

func (c Config) withDefaults() Config {
	if c.MaxPayload <= 0 {
		c.MaxPayload = defaultMaxPayload
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = defaultMaxConnections
	}
	if c.PendingBytes <= 0 {
		c.PendingBytes = defaultPendingBytes
	}
	if c.PendingOut <= 0 {
		c.PendingOut = defaultPendingOut
	}
	return c
}

// Bus is an embedded server with its listener and the hub's connection to it.
type Bus struct {
	log     *slog.Logger
	server  *server.Server
	gate    *gate
	conn    *nats.Conn
	addr    string
	secret  string // of the hub's own users; made anew at every start
	lock    *os.File
	metrics *metrics
	pending int

	mu     sync.Mutex
	subs   []*nats.Subscription
	closed bool
}

// Open starts the server and its listener. The logger gets what the server has to
// say, at most a few lines a second; reg may be nil. The errors are [ErrListen],
// [ErrInUse], [ErrPlaintext], or what the file system said.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (_ *Bus, err error) {
	cfg = cfg.withDefaults()
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if cfg.TLS == nil && !cfg.Insecure && !loopback(host) {
		return nil, fmt.Errorf("%w: %s; set up TLS, listen on 127.0.0.1, or allow it explicitly", ErrPlaintext, cfg.Listen)
	}
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	b := &Bus{log: log, lock: lock, pending: cfg.PendingBytes}
	defer func() {
		if err != nil {
			b.shutdown()
		}
	}()

	secret := make([]byte, 32)
	if _, err = rand.Read(secret); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	inner := hex.EncodeToString(secret)
	b.secret = inner
	b.gate = &gate{secret: inner, auth: cfg.Authenticator}
	natsLog := newServerLog(log)
	opts := &server.Options{
		ServerName: "langbiang-hub",
		DontListen: true,
		NoSigs:     true,
		NoLog:      true, // set below: the server's own would write to standard error
		MaxPayload: int32(cfg.MaxPayload),
		MaxPending: int64(cfg.PendingOut),
		MaxConn:    cfg.MaxConnections + 1, // and the hub
		JetStream:  true,
		StoreDir:   cfg.DataDir,

		JetStreamMaxMemory: storeMemory,
		JetStreamMaxStore:  storeDisk,

		CustomClientAuthentication: b.gate,
		MQTT: server.MQTTOpts{
			Host:        host,
			Port:        port,
			TLSConfig:   cfg.TLS,
			TLSTimeout:  20, // a handshake over a link with 2 s of delay and losses
			AuthTimeout: 20,
		},
	}
	b.server, err = server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	b.gate.server = b.server
	b.server.SetLoggerV2(natsLog, false, false, false)
	b.server.Start()
	if fatal := natsLog.fatal(); fatal != nil {
		if isListenError(fatal) {
			return nil, fmt.Errorf("%w on %s: %w", ErrListen, cfg.Listen, listenReason(fatal))
		}
		return nil, fmt.Errorf("bus: %w", fatal)
	}
	if !b.server.ReadyForConnections(closeTimeout) {
		return nil, fmt.Errorf("bus: the server on %s did not get ready within %s", cfg.Listen, closeTimeout)
	}
	b.addr = net.JoinHostPort(host, strconv.Itoa(opts.MQTT.Port))

	b.metrics, err = newMetrics(reg, b.server, b.Dropped)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	b.conn, err = nats.Connect("", nats.InProcessServer(b.server), nats.Name("hub"),
		nats.UserInfo(hubUser, inner), nats.NoEcho(), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(1<<20),
		nats.ErrorHandler(b.asyncError), nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("the hub's own connection to the bus broke and is made again", "error", err)
			}
		}))
	if err != nil {
		return nil, fmt.Errorf("bus: connect in process: %w", err)
	}
	return b, nil
}

// Addr returns the host and port that MQTT clients can connect to.
func (b *Bus) Addr() string { return b.addr }

// Speaker returns where an MQTT client within the hub connects to publish alerts
// (langbiang/alerts/...), and as whom. It may publish those and nothing else, and
// hear nothing.
func (b *Bus) Speaker() (addr, user, password string) {
	host, port, err := net.SplitHostPort(b.addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), speakerUser, speakerPassword(b.secret)
}

// Connections returns the number of MQTT clients that are connected.
func (b *Bus) Connections() int { return max(0, b.server.NumClients()-1) }

// Subscribe calls handle for everything that any edge publishes (see [KindFrame]),
// from one goroutine. The handler owns the payload. It must not block:
// while it does, messages wait, and then are dropped and counted. A topic whose
// edge is no edge id is refused and counted, and never reaches the handler.
func (b *Bus) Subscribe(handle func(edge, kind string, payload []byte)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	// One subscription for all kinds: an edge's hello and the frames after it keep
	// their order.
	sub, err := b.conn.Subscribe(subjectPrefix+"*.*", func(m *nats.Msg) {
		edge, kind, ok := parseSubject(m.Subject)
		if !ok {
			b.metrics.refused.Inc()
			return
		}
		if kind == kindNone {
			return
		}
		b.metrics.received[kind].Inc()
		b.metrics.receivedBytes.Add(float64(len(m.Data)))
		handle(edge, kindNames[kind], m.Data)
	})
	if err != nil {
		return fmt.Errorf("bus: subscribe: %w", err)
	}
	if err := sub.SetPendingLimits(pendingMessages, b.pending); err != nil {
		return fmt.Errorf("bus: subscribe: %w", err)
	}
	if err := b.conn.FlushTimeout(closeTimeout); err != nil {
		return fmt.Errorf("bus: subscribe: %w", err)
	}
	b.subs = append(b.subs, sub)
	return nil
}

// Publish sends the payload to the edge, if it is connected and listens: nobody
// learns when it does not. Kind is ack, config or ask. It does not block for the
// client; it fails with [ErrAddress] or [ErrClosed], or when the payload is above
// MaxPayload.
func (b *Bus) Publish(edge, kind string, payload []byte) error {
	if !ValidEdge(edge) || kind != KindAck && kind != KindConfig && kind != KindAsk {
		return fmt.Errorf("%w: langbiang/v1/%s/%s", ErrAddress, edge, kind)
	}
	if err := b.conn.Publish(subjectPrefix+edge+"."+kind, payload); err != nil {
		if errors.Is(err, nats.ErrConnectionClosed) {
			return ErrClosed
		}
		return fmt.Errorf("bus: publish to %s: %w", edge, err)
	}
	b.metrics.published.Inc()
	return nil
}

// Flush waits until everything published so far has been given to the server, for
// example before Close.
func (b *Bus) Flush(ctx context.Context) error {
	if err := b.conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("bus: flush: %w", err)
	}
	return nil
}

// Disconnect ends the connections that are authenticated as the edge, at once, and
// returns their number. Whether it may come back is up to the [Authenticator].
func (b *Bus) Disconnect(edge string) int { return b.gate.disconnect(edge) }

// Close stops listening, disconnects everybody and waits for it. The handler is
// not called after Close has returned. A second call does nothing.
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	subs := b.subs
	b.mu.Unlock()
	// First of all deaf: what the clients' wills say while the server goes down is
	// our doing, not theirs.
	for _, s := range subs {
		_ = s.Unsubscribe()
	}
	b.shutdown()
	return nil
}

func (b *Bus) shutdown() {
	if b.conn != nil {
		done := make(chan struct{})
		b.conn.SetClosedHandler(func(*nats.Conn) { close(done) })
		b.conn.Close()
		<-done
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if b.metrics != nil {
		b.metrics.unregister()
	}
	if b.lock != nil {
		_ = b.lock.Close() // the lock goes with it
	}
}

func (b *Bus) asyncError(_ *nats.Conn, _ *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrSlowConsumer) {
		b.log.Warn("the hub's own connection to the bus", "error", err)
		return
	}
	// Reported once, when it begins.
	b.log.Warn("the hub does not keep up with its edges: messages are dropped here and sent again by them")
}

// Dropped returns the number of messages that were dropped because the handler did
// not keep up.
func (b *Bus) Dropped() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.subs {
		if d, err := s.Dropped(); err == nil {
			n += d
		}
	}
	return n
}

func splitListen(listen string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %q is not host:port", ErrListen, listen)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%w: %q has no port between 0 and 65535", ErrListen, listen)
	}
	if port == 0 {
		port = -1 // the server's word for "any"
	}
	return host, port, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func isListenError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "listen"
}

// listenReason is the system's reason without the noise around it.
func listenReason(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

func lockDir(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("bus: no data directory given")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("bus: lock %s: %w", dir, err)
	}
	return f, nil
}
