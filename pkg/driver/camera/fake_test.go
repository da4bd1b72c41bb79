package camera

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // RFC 2617
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/profile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	userName = "viewer"
	secret   = "pass word"
)

// listener is a server of one port that ends with its connections, and that can
// be started again.
type listener struct {
	addr string

	mu     sync.Mutex
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

func listen(t testing.TB, serve func(ctx context.Context, c net.Conn)) *listener {
	t.Helper()
	l := &listener{addr: testutil.FreeAddress(t)}
	l.start(t, serve)
	t.Cleanup(l.stop)
	return l
}

func (l *listener) start(t testing.TB, serve func(ctx context.Context, c net.Conn)) {
	t.Helper()
	ln, err := net.Listen("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	l.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	l.mu.Lock()
	l.cancel = cancel
	l.mu.Unlock()
	l.wait.Go(func() {
		defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			l.wait.Go(func() {
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				defer func() { _ = c.Close() }()
				serve(ctx, c)
			})
		}
	})
}

func (l *listener) stop() {
	l.mu.Lock()
	cancel := l.cancel
	l.cancel = nil
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	l.wait.Wait()
}

const sdpH264 = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:trackID=0\r\n"

// rtspCamera is a camera that speaks RTSP, written from RFC 2326.
type rtspCamera struct {
	auth     string // "", basic or digest
	sdp      string
	status   map[string]int // answer by method
	location string         // DESCRIBE sends there
	silent   string         // this method gets no answer
	noise    []byte         // DESCRIBE answers this
	endless  bool           // after PLAY: bytes as fast as they go
	codec    string
	fps      int
	pictures bool // the stream holds key frames
	datagram bool // it sends by UDP only
	sender   *net.UDPConn

	mu    sync.Mutex
	asked []string
}

func (c *rtspCamera) serve(ctx context.Context, conn net.Conn) {
	r := textproto.NewReader(bufio.NewReader(conn))
	for {
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		method, _, _ := strings.Cut(line, " ")
		if strings.HasPrefix(method, "$") {
			return // nobody sends RTCP that soon
		}
		head, err := r.ReadMIMEHeader()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.asked = append(c.asked, method)
		c.mu.Unlock()
		if c.silent == method {
			<-ctx.Done()
			return
		}
		if !c.answer(conn, method, line, head) {
			return
		}
		if method == "PLAY" {
			c.play(ctx, conn)
			if c.sender != nil {
				_ = c.sender.Close()
			}
			return
		}
	}
}

func (c *rtspCamera) answer(w io.Writer, method, line string, head textproto.MIMEHeader) bool {
	say := func(status string, headers ...string) bool {
		_, err := fmt.Fprintf(w, "RTSP/1.0 %s\r\nCSeq: %s\r\n%s\r\n", status, head.Get("CSeq"), strings.Join(headers, ""))
		return err == nil
	}
	if method == "DESCRIBE" || method == "SETUP" || method == "PLAY" {
		if !c.allowed(method, line, head.Get("Authorization")) {
			challenge := `Basic realm="cam"`
			if c.auth == "digest" {
				challenge = `Digest realm="cam", nonce="0123456789"`
			}
			return say("401 Unauthorized", "WWW-Authenticate: "+challenge+"\r\n")
		}
	}
	if s := c.status[method]; s != 0 {
		return say(fmt.Sprintf("%d No", s))
	}
	switch method {
	case "OPTIONS":
		return say("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n")
	case "DESCRIBE":
		if c.noise != nil {
			_, err := w.Write(c.noise)
			return err == nil
		}
		if c.location != "" {
			return say("302 Moved", "Location: "+c.location+"\r\n")
		}
		return say("200 OK", "Content-Type: application/sdp\r\n", fmt.Sprintf("Content-Length: %d\r\n", len(c.sdp))) && write(w, []byte(c.sdp))
	case "SETUP":
		if c.datagram {
			return c.setUpUDP(say, head.Get("Transport"))
		}
		return say("200 OK", "Session: 1\r\n", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
	}
	return say("200 OK", "Session: 1\r\n")
}

// setUpUDP refuses whoever wants the stream over the connection.
func (c *rtspCamera) setUpUDP(say func(string, ...string) bool, transport string) bool {
	_, ports, udp := strings.Cut(transport, "client_port=")
	if !udp {
		return say("461 Unsupported Transport")
	}
	port, err := strconv.Atoi(ports[:strings.IndexByte(ports, '-')])
	if err != nil {
		return say("400 Bad Request")
	}
	// RTCP, on the port after, is never sent: one port is enough.
	if c.sender, err = net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err != nil {
		return say("500 Internal Server Error")
	}
	own := c.sender.LocalAddr().(*net.UDPAddr).Port
	return say("200 OK", "Session: 1\r\n", fmt.Sprintf("Transport: RTP/AVP;unicast;client_port=%s;server_port=%d-%d\r\n", ports, own, own+1))
}

func (c *rtspCamera) allowed(method, line, got string) bool {
	hash := func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) } //nolint:gosec // RFC 2617
	switch c.auth {
	case "basic":
		req := http.Request{Header: http.Header{}}
		req.SetBasicAuth(userName, secret)
		return got == req.Header.Get("Authorization")
	case "digest":
		uri := strings.Fields(line)[1]
		want := hash(hash(userName+":cam:"+secret) + ":0123456789:" + hash(method+":"+uri))
		return strings.Contains(got, `response="`+want+`"`)
	}
	return true
}

func write(w io.Writer, b []byte) bool { _, err := w.Write(b); return err == nil }

// play sends a stream: some frames that need others, then key frames among them.
func (c *rtspCamera) play(ctx context.Context, conn net.Conn) {
	tick := time.NewTicker(time.Second / time.Duration(max(1, c.fps)))
	defer tick.Stop()
	seq, ts := uint16(0), uint32(0xffffff00)
	send := func(marker bool, payload []byte) bool {
		b := []byte{'$', 0, 0, 0, 0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7}
		if marker {
			b[5] |= 0x80
		}
		binary.BigEndian.PutUint16(b[2:], uint16(12+len(payload)))
		binary.BigEndian.PutUint16(b[6:], seq)
		binary.BigEndian.PutUint32(b[8:], ts)
		seq++
		if c.sender != nil {
			return write(c.sender, append(b[4:], payload...))
		}
		return write(conn, append(b, payload...))
	}
	for n := 0; ; n++ {
		var ok bool
		switch {
		case c.pictures && n%5 == 3: // a key frame in three parts
			part := func(flag byte) []byte { return append([]byte{0x7c, flag | 5}, make([]byte, 998)...) }
			ok = send(false, part(0x80)) && send(false, part(0)) && send(true, part(0x40))
		default:
			ok = send(true, append([]byte{0x41}, make([]byte, 999)...))
		}
		if !ok {
			return
		}
		ts += 90000 / uint32(max(1, c.fps))
		if c.endless {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// scene is a picture with some contrast; a change of v moves all of it.
func scene(t testing.TB, v uint8, contrast bool) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 160, 90))
	for y := range 90 {
		for x := range 160 {
			g := v
			if contrast {
				g += uint8(x / 2)
			}
			img.SetGray(x, y, color.Gray{Y: g})
		}
	}
	return encode(t, img)
}

func encode(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// testConfig is patient: a busy machine makes no camera silent.
func testConfig() *Config {
	c := &Config{Timeout: 30 * time.Second, Sample: 300 * time.Millisecond, User: userName, Password: secret}
	c.ApplyDefaults()
	return c
}

func device(id string, at profile.CameraDefaults, interval time.Duration, measures ...string) *driver.Device {
	d := &driver.Device{ID: id, Camera: at, Interval: interval}
	for _, m := range measures {
		pt := profile.Point{ID: m, Camera: m}
		if m == profile.CameraCodec {
			pt.Kind = profile.KindText
		}
		d.Points = append(d.Points, pt)
		d.Convert = append(d.Convert, driver.Linear{Factor: 1})
	}
	return d
}

func listenOn(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
