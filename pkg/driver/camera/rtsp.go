package camera

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/pion/rtp"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// maxStream is how much of one stream is read at most: 30 s at 8 Mbit/s.
const maxStream = 32 << 20

// stream is what was learnt of a camera over RTSP.
type stream struct {
	answer time.Duration // until the answer to OPTIONS, the connection included
	codec  string
	sampled
}

// probeRTSP asks a camera what it sends, and looks at its stream when sample is
// not 0: over the connection itself, or by UDP from a camera that refuses that. It
// returns within some timeouts and the sample, or soon after ctx ends. The failure of
// the sample alone is the second one.
func probeRTSP(ctx context.Context, cfg *Config, u *url.URL, l login, sample time.Duration) (s stream, f, sf failure) {
	s, f, sf = probeOver(ctx, cfg, u, l, sample, gortsplib.ProtocolTCP)
	if sf == refusesTCP(u.Host) {
		return probeOver(ctx, cfg, u, l, sample, gortsplib.ProtocolUDP)
	}
	return s, f, sf
}

// refusesTCP is what judge makes of status 461, Unsupported Transport.
func refusesTCP(host string) failure { return judgeStatus(int(base.StatusUnsupportedTransport), host) }

func probeOver(ctx context.Context, cfg *Config, u *url.URL, l login, sample time.Duration, transport gortsplib.Protocol) (s stream, f, sf failure) {
	host := u.Host
	tlsConfig, err := cfg.tlsConfig(u.Hostname())
	if err != nil {
		return s, failuref(telemetry.ReasonConfiguration, "%v", err), failure{}
	}
	at := (*base.URL)(u)
	if l.user != "" {
		own := *u
		own.User = url.UserPassword(l.user, l.password)
		at = (*base.URL)(&own)
	}
	ctx, cancel := context.WithTimeout(ctx, 4*cfg.Timeout+sample)
	defer cancel()
	c := client(cfg, at, tlsConfig, transport)
	start := time.Now()
	if err := c.Start(); err != nil {
		return s, judge(err, host), failure{}
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); c.Close() })
	defer func() {
		if stop() {
			c.Close()
		} else {
			<-closed
		}
	}()
	fail := func(err error) failure {
		if ctx.Err() != nil {
			err = context.DeadlineExceeded // the library says that it was closed
		}
		return judge(err, host)
	}
	if _, err := c.Options(at); err != nil {
		return s, fail(err), failure{}
	}
	s.answer = time.Since(start)
	desc, _, err := c.Describe(at)
	if err != nil {
		return s, fail(err), failure{}
	}
	media, fmt := video(desc)
	if media == nil {
		return s, failuref(telemetry.ReasonMissing, "%s offers no video at that path", host), failure{}
	}
	s.codec = codecOf(fmt)
	if sample == 0 {
		return s, failure{}, failure{}
	}
	m := newSampler(fmt, sample)
	if _, err := c.Setup(desc.BaseURL, media, 0, 0); err != nil {
		return s, failure{}, fail(err)
	}
	c.OnPacketRTP(media, fmt, m.take)
	if _, err := c.Play(nil); err != nil {
		return s, failure{}, fail(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	limit := time.NewTimer(cfg.Timeout)
	defer limit.Stop()
	err = m.wait(ctx, limit.C, ended)
	s.sampled = m.result()
	switch {
	case errors.Is(err, errNoPicture):
		// It answers and plays, and no picture comes: that is a measurement.
	case err != nil:
		sf = fail(err)
	}
	return s, failure{}, sf
}

func client(cfg *Config, u *base.URL, t *tls.Config, transport gortsplib.Protocol) *gortsplib.Client {
	d := net.Dialer{Timeout: cfg.Timeout}
	return &gortsplib.Client{
		Scheme: u.Scheme, Host: u.Host, TLSConfig: t, Protocol: &transport, UserAgent: "langbiang-edge",
		ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			if host != (*url.URL)(u).Hostname() {
				return nil, errElsewhere
			}
			conn, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &boundedConn{Conn: conn, left: maxStream}, nil
		},
		OnPacketsLost: func(uint64) {},
		OnDecodeError: func(error) {}, // audio and the like
	}
}

// boundedConn ends the reading of a camera that sends without end.
type boundedConn struct {
	net.Conn
	left int64
}

func (c *boundedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if atomic.AddInt64(&c.left, -int64(n)) < 0 {
		return 0, errTooMuch
	}
	return n, err
}

// video returns the first video that the camera sends.
func video(desc *description.Session) (*description.Media, format.Format) {
	for _, m := range desc.Medias {
		if m.Type == description.MediaTypeVideo && !m.IsBackChannel && len(m.Formats) > 0 {
			return m, m.Formats[0]
		}
	}
	return nil, nil
}

// codecOf is the name that the description gives the codec.
func codecOf(f format.Format) string {
	name, _, _ := strings.Cut(f.RTPMap(), "/")
	if name == "" || len(name) > 32 {
		return "unknown"
	}
	return strings.ToUpper(name)
}

// sampled is what a sample of a stream gave. Frames 0 is a stream without
// pictures.
type sampled struct {
	frames    int
	frameRate float64 // per second
	bitRate   float64 // bits per second
}

var errNoPicture = errors.New("no key frame in time")

// sampler counts packets from the first key frame on.
type sampler struct {
	codec  string
	clock  float64
	length time.Duration
	done   chan struct{} // closed when the sample is long enough
	began  chan struct{} // closed at the first key frame

	mu          sync.Mutex
	start, last time.Time
	first       uint32 // RTP time of the key frame
	newest      uint32 // of the newest packet
	span        int64  // greatest RTP time seen, from first on
	frames      int
	bytes, tail int // of all frames, and of the newest
	full        bool
}

func newSampler(f format.Format, length time.Duration) *sampler {
	return &sampler{codec: codecOf(f), clock: float64(f.ClockRate()), length: length, done: make(chan struct{}), began: make(chan struct{})}
}

// take is called by the library for each packet.
func (m *sampler) take(p *rtp.Packet) { m.packet(p.Timestamp, p.Payload, time.Now()) }

func (m *sampler) packet(ts uint32, payload []byte, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.full:
		return
	case m.frames == 0:
		if !keyFrame(m.codec, payload) {
			return
		}
		m.start, m.first, m.newest, m.frames = now, ts, ts, 1
		close(m.began)
	case ts != m.newest:
		if now.Sub(m.start) >= m.length {
			m.full = true
			close(m.done)
			return
		}
		m.frames++
		m.newest, m.tail = ts, 0
		m.span = max(m.span, int64(int32(ts-m.first)))
	}
	m.last = now
	m.bytes += len(payload)
	m.tail += len(payload)
}

// wait returns once the sample is complete, or why it never will be.
func (m *sampler) wait(ctx context.Context, limit <-chan time.Time, ended <-chan error) error {
	select {
	case <-m.began:
	case <-limit:
		return errNoPicture
	case <-ctx.Done():
		return ctx.Err()
	case err := <-ended:
		return lostStream(err)
	}
	t := time.NewTimer(2 * m.length) // one that stops in the middle has been seen too
	defer t.Stop()
	select {
	case <-m.done:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	case err := <-ended:
		return lostStream(err)
	}
	return nil
}

func lostStream(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// result computes the rates. The camera's own time of the frames is the better
// measure, because a camera begins with what it has in store; it is not believed
// when it is far from the time that passed.
func (m *sampler) result() sampled {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := sampled{frames: m.frames}
	if m.frames < 2 {
		s.frameRate = float64(m.frames) / m.length.Seconds()
		s.bitRate = float64(8*m.bytes) / m.length.Seconds()
		return s
	}
	span := float64(m.span) / m.clock
	passed := m.last.Sub(m.start).Seconds()
	if !(span > passed/4 && span < 4*passed+1) {
		span = max(passed, 0.001)
	}
	s.frameRate = float64(m.frames-1) / span
	s.bitRate = float64(8*(m.bytes-m.tail)) / span
	return s
}
