package camera

import (
	"bufio"
	"context"
	"io"
	"math"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

func streamAt(t testing.TB, addr string) *url.URL {
	t.Helper()
	u, err := url.Parse("rtsp://" + addr + "/live")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAStreamIsMeasured(t *testing.T) {
	for _, auth := range []string{"", "basic", "digest"} {
		t.Run("login "+auth, func(t *testing.T) {
			cam := &rtspCamera{auth: auth, sdp: sdpH264, fps: 25, pictures: true}
			l := listen(t, cam.serve)
			s, f, sf := probeRTSP(t.Context(), testConfig(), streamAt(t, l.addr), login{userName, secret}, 300*time.Millisecond)
			if f.failed() || sf.failed() {
				t.Fatal(f, sf)
			}
			if s.codec != "H264" || s.answer <= 0 || s.answer > 2*time.Second {
				t.Errorf("%+v", s)
			}
			if math.Abs(s.frameRate-25) > 0.01 {
				t.Errorf("%v frames per second, want 25 by the camera's own time", s.frameRate)
			}
			// Five frames hold 4 x 1000 and 1 x 3000 bytes; where the sample ends is open.
			if s.bitRate < 200_000 || s.bitRate > 420_000 {
				t.Errorf("%v bit/s", s.bitRate)
			}
		})
	}
}

func TestACameraThatSendsByUDPOnlyIsMeasuredToo(t *testing.T) {
	cam := &rtspCamera{auth: "digest", sdp: sdpH264, fps: 25, pictures: true, datagram: true}
	l := listen(t, cam.serve)
	s, f, sf := probeRTSP(t.Context(), testConfig(), streamAt(t, l.addr), login{userName, secret}, 300*time.Millisecond)
	if f.failed() || sf.failed() {
		t.Fatal(f, sf)
	}
	if s.codec != "H264" || math.Abs(s.frameRate-25) > 0.01 {
		t.Errorf("%+v", s)
	}
	l.stop()
	if got := strings.Join(cam.asked, " "); !strings.Contains(got, "SETUP") || !strings.HasSuffix(got, "PLAY") {
		t.Errorf("asked %s", got)
	}
}

func TestWithoutASampleNoStreamIsAskedFor(t *testing.T) {
	cam := &rtspCamera{sdp: sdpH264}
	l := listen(t, cam.serve)
	if _, f, sf := probeRTSP(t.Context(), testConfig(), streamAt(t, l.addr), login{}, 0); f.failed() || sf.failed() {
		t.Fatal(f, sf)
	}
	l.stop()
	if got := strings.Join(cam.asked, " "); got != "OPTIONS DESCRIBE" {
		t.Errorf("asked %s", got)
	}
}

func TestFaultsOfAStreamAreNamed(t *testing.T) {
	audio := strings.Replace(sdpH264, "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1", "m=audio 0 RTP/AVP 0", 1)
	for name, c := range map[string]struct {
		cam    *rtspCamera
		user   login
		reason telemetry.Reason
		text   string
	}{
		"a wrong password":          {&rtspCamera{auth: "digest", sdp: sdpH264}, login{userName, "x"}, telemetry.ReasonConfiguration, "refuses the user or the password"},
		"no password":               {&rtspCamera{auth: "basic", sdp: sdpH264}, login{}, telemetry.ReasonConfiguration, "refuses the user or the password"},
		"a wrong path":              {&rtspCamera{status: map[string]int{"DESCRIBE": 404}}, login{}, telemetry.ReasonConfiguration, "has nothing at that path"},
		"an overloaded camera":      {&rtspCamera{status: map[string]int{"DESCRIBE": 503}}, login{}, telemetry.ReasonException, "refuses with status 503"},
		"no video":                  {&rtspCamera{sdp: audio}, login{}, telemetry.ReasonMissing, "offers no video"},
		"no description":            {&rtspCamera{sdp: "hello\r\n"}, login{}, telemetry.ReasonMalformed, "is not understood"},
		"no answer to OPTIONS":      {&rtspCamera{silent: "OPTIONS"}, login{}, telemetry.ReasonNoAnswer, "does not answer in time"},
		"no answer to DESCRIBE":     {&rtspCamera{silent: "DESCRIBE"}, login{}, telemetry.ReasonNoAnswer, "does not answer in time"},
		"sent to another host":      {&rtspCamera{location: "rtsp://192.0.2.1/live"}, login{userName, secret}, telemetry.ReasonMalformed, "sends us to another host"},
		"noise instead of a stream": {&rtspCamera{noise: []byte("SSH-2.0-x\r\n\r\n")}, login{}, telemetry.ReasonNoAnswer, "does not answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, c.cam.serve)
			cfg := testConfig()
			if c.reason == telemetry.ReasonNoAnswer {
				cfg.Timeout = 400 * time.Millisecond
			}
			_, f, _ := probeRTSP(t.Context(), cfg, streamAt(t, l.addr), c.user, time.Second)
			if f.reason != c.reason || !strings.Contains(f.text, c.text) {
				t.Errorf("%v: %s", f.reason, f.text)
			}
			if strings.Contains(f.text, secret) || strings.Contains(f.text, "pass%20word") {
				t.Errorf("the password is told: %s", f.text)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		l := listen(t, func(context.Context, net.Conn) {})
		l.stop()
		_, f, _ := probeRTSP(t.Context(), testConfig(), streamAt(t, l.addr), login{}, 0)
		if f.reason != telemetry.ReasonUnreachable || !strings.Contains(f.text, "refuses the connection") {
			t.Errorf("%v: %s", f.reason, f.text)
		}
	})
}

func TestAStreamWithoutPicturesHasARateOfZero(t *testing.T) {
	cam := &rtspCamera{sdp: sdpH264, fps: 25}
	l := listen(t, cam.serve)
	cfg := testConfig()
	cfg.Timeout = 2 * time.Second // for the first picture, which never comes
	s, f, sf := probeRTSP(t.Context(), cfg, streamAt(t, l.addr), login{}, 200*time.Millisecond)
	if f.failed() || sf.failed() || s.frames != 0 || s.frameRate != 0 || s.codec != "H264" {
		t.Errorf("%+v %v %v", s, f, sf)
	}
}

func TestAStreamThatIsRefusedLeavesTheDescription(t *testing.T) {
	cam := &rtspCamera{sdp: sdpH264, status: map[string]int{"SETUP": 453}}
	l := listen(t, cam.serve)
	s, f, sf := probeRTSP(t.Context(), testConfig(), streamAt(t, l.addr), login{}, 200*time.Millisecond)
	if f.failed() || sf.reason != telemetry.ReasonException || s.codec != "H264" {
		t.Errorf("%+v %v %v", s, f, sf)
	}
}

func TestACameraThatFloodsIsLeft(t *testing.T) {
	cam := &rtspCamera{sdp: sdpH264, fps: 25, endless: true}
	l := listen(t, cam.serve)
	cfg := testConfig()
	start := time.Now()
	_, f, sf := probeRTSP(t.Context(), cfg, streamAt(t, l.addr), login{}, time.Second)
	if f.failed() || sf.reason != telemetry.ReasonMalformed || !strings.Contains(sf.text, errTooMuch.Error()) {
		t.Errorf("%v, %v: %s, after %v", f, sf.reason, sf.text, time.Since(start))
	}
}

func TestAProbeEndsWithItsContext(t *testing.T) {
	cam := &rtspCamera{sdp: sdpH264, silent: "DESCRIBE"}
	l := listen(t, cam.serve)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	cfg := testConfig()
	cfg.Timeout = time.Hour // longer than a test may take
	if _, f, _ := probeRTSP(ctx, cfg, streamAt(t, l.addr), login{}, 0); !f.failed() {
		t.Errorf("%v", f)
	}
}

func TestRatesFollowTheCamerasTimeUnlessItIsAbsurd(t *testing.T) {
	begin := time.Unix(1000, 0)
	run := func(ticks uint32) sampled {
		m := &sampler{codec: "X", clock: 90000, length: 10 * time.Second, done: make(chan struct{}), began: make(chan struct{})}
		for i := range 101 {
			m.packet(uint32(i)*ticks, make([]byte, 1000), begin.Add(time.Duration(i)*50*time.Millisecond))
		}
		return m.result()
	}
	for name, c := range map[string]struct {
		ticks uint32
		fps   float64
	}{"as it is": {4500, 20}, "a burst from the store": {9000, 10}, "a clock that stands": {1, 20}, "a clock that races": {90000 * 60, 20}} {
		if got := run(c.ticks); math.Abs(got.frameRate-c.fps) > 0.01 || math.Abs(got.bitRate-8000*c.fps) > 100 {
			t.Errorf("%s: %+v, want %v/s", name, got, c.fps)
		}
	}
}

func TestKeyFramesAreRecognised(t *testing.T) {
	for name, c := range map[string]struct {
		codec   string
		payload []byte
		want    bool
	}{
		"H264 IDR":                  {"H264", []byte{0x65, 0x88}, true},
		"H264 slice":                {"H264", []byte{0x41, 0x9a}, false},
		"H264 begin of a cut IDR":   {"H264", []byte{0x7c, 0x85}, true},
		"H264 middle of a cut IDR":  {"H264", []byte{0x7c, 0x05}, false},
		"H264 together":             {"H264", []byte{0x78, 0, 2, 0x67, 1, 0, 1, 0x65}, true},
		"H264 together, none":       {"H264", []byte{0x78, 0, 2, 0x67, 1, 0, 1, 0x68}, false},
		"H264 together, too long":   {"H264", []byte{0x78, 0, 99, 0x65, 1}, false},
		"H264 nothing":              {"H264", nil, false},
		"H265 IDR":                  {"H265", []byte{19 << 1, 1, 0}, true},
		"H265 slice":                {"H265", []byte{1 << 1, 1, 0}, false},
		"H265 begin of a cut CRA":   {"H265", []byte{49 << 1, 1, 0x80 | 21}, true},
		"H265 together":             {"H265", []byte{48 << 1, 1, 0, 2, 33 << 1, 1, 0, 2, 20 << 1, 1}, true},
		"motion JPEG has only such": {"M-JPEG", []byte{0}, true},
	} {
		if got := keyFrame(c.codec, c.payload); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzKeyFrame(f *testing.F) {
	f.Add([]byte{0x78, 0, 2, 0x67, 1, 0, 1, 0x65})
	f.Add([]byte{48 << 1, 1, 0, 2, 33 << 1, 1})
	f.Fuzz(func(_ *testing.T, b []byte) {
		for _, codec := range []string{"H264", "H265", ""} {
			keyFrame(codec, b)
		}
	})
}

// FuzzDescribe gives the library what a camera might answer to DESCRIBE.
func FuzzDescribe(f *testing.F) {
	f.Add([]byte("RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 151\r\n\r\n" + sdpH264))
	f.Add([]byte("RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\n\r\n"))
	f.Add([]byte("RTSP/1.0 302 Moved\r\nCSeq: 2\r\nLocation: rtsp://127.0.0.1:1/x\r\n\r\n"))
	f.Add([]byte("$\x00\x00\x04abcd"))
	cfg := testConfig()
	cfg.Timeout = 100 * time.Millisecond
	answer := make(chan []byte, 1)
	l := listen(f, func(_ context.Context, c net.Conn) {
		r := bufio.NewReader(c)
		for n := 0; ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line != "\r\n" {
				continue
			}
			if n++; n == 1 {
				_, _ = io.WriteString(c, "RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: DESCRIBE\r\n\r\n")
				continue
			}
			select {
			case b := <-answer:
				_, _ = c.Write(b)
			default:
			}
			return
		}
	})
	u := streamAt(f, l.addr)
	f.Fuzz(func(t *testing.T, b []byte) {
		select {
		case <-answer:
		default:
		}
		answer <- b
		_, fail, _ := probeRTSP(t.Context(), cfg, u, login{"a", "b"}, 0)
		if len(fail.text) > 500 {
			t.Errorf("a failure of %d bytes", len(fail.text))
		}
	})
}
