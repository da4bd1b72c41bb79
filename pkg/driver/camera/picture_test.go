package camera

import (
	"crypto/md5" //nolint:gosec // RFC 2617
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"image"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestWhatCanBeSeenInAPicture(t *testing.T) {
	for name, c := range map[string]struct {
		jpeg []byte
		dark bool
	}{
		"a scene":        {scene(t, 60, true), false},
		"night":          {scene(t, 5, false), true},
		"a painted lens": {scene(t, 180, false), true},
		"a dim scene":    {scene(t, 10, true), false},
		"in colour":      {encode(t, gradient()), false},
	} {
		th, err := thumbOf(c.jpeg)
		if err != nil || th.dark() != c.dark {
			t.Errorf("%s: dark %v, %v", name, !c.dark, err)
		}
	}
}

func gradient() image.Image {
	img := image.NewRGBA(image.Rect(0, 0, 64, 36))
	for i := range img.Pix {
		img.Pix[i] = byte(i / 40)
	}
	return img
}

func TestPicturesThatDoNotChangeForAWhileAreFrozen(t *testing.T) {
	look := func(img image.Image) *thumb {
		th, err := thumbOf(encode(t, img))
		if err != nil {
			t.Fatal(err)
		}
		return th
	}
	living := func(seed uint64, clock byte) image.Image {
		rng := rand.New(rand.NewPCG(seed, 1))
		img := image.NewGray(image.Rect(0, 0, 320, 180))
		for i := range img.Pix {
			y := i / 320
			img.Pix[i] = 90 + byte(y/4) + byte(rng.IntN(20))
			if y < 14 {
				img.Pix[i] = clock // the time that the camera writes
			}
		}
		return img
	}
	start := time.Unix(0, 0)
	var s still
	for i := range 30 {
		if s.frozen(look(living(uint64(i), byte(i))), start.Add(time.Duration(i)*time.Minute), 10*time.Minute) {
			t.Fatalf("a living picture is frozen after %d min", i)
		}
	}
	s = still{}
	for i := range 30 {
		at := time.Duration(i) * time.Minute
		if got := s.frozen(look(living(7, byte(i*8))), start.Add(at), 10*time.Minute); got != (at >= 10*time.Minute) {
			t.Fatalf("frozen %v after %v, the clock in the picture goes on", got, at)
		}
	}
	if s.frozen(look(living(8, 0)), start.Add(time.Hour), 10*time.Minute) {
		t.Error("frozen although it moves again")
	}
}

func TestPicturesThatWouldTakeMuchMemoryAreNotDecoded(t *testing.T) {
	head := func(w, h int, sof byte) []byte {
		return []byte{0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, sof, 0, 11, 8, byte(h >> 8), byte(h), byte(w >> 8), byte(w), 1, 1, 0x11, 0, 0xff, 0xd9}
	}
	for name, c := range map[string]struct {
		jpeg []byte
		want string
	}{
		"huge":             {head(30_000, 30_000, 0xc0), "too large to be looked at"},
		"progressive":      {head(3840, 2160, 0xc2), "too large to be looked at"},
		"tiny":             {head(8, 8, 0xc0), "too small"},
		"without an image": {head(640, 480, 0xc0), "cannot be decoded"},
		"a word":           {[]byte("hello"), "is no JPEG"},
		"cut":              {head(640, 480, 0xc0)[:12], "is no JPEG"},
		"no length":        {[]byte{0xff, 0xd8, 0xff, 0xe0, 0, 0, 0, 0}, "is no JPEG"},
	} {
		if _, err := thumbOf(c.jpeg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzThumb(f *testing.F) {
	f.Add(scene(f, 60, true))
	f.Add(encode(f, gradient()))
	f.Add([]byte{0xff, 0xd8, 0xff, 0xff, 0xc2, 0, 11})
	f.Fuzz(func(t *testing.T, b []byte) {
		th, err := thumbOf(b)
		if (th == nil) == (err == nil) {
			t.Error(th, err)
		}
		if s, err := shapeOf(b); th != nil && (err != nil || s.width*s.height > maxPixels) {
			t.Errorf("decoded %+v, %v", s, err)
		}
	})
}

func at(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestASnapshotIsTaken(t *testing.T) {
	picture := scene(t, 60, true)
	for name, handler := range map[string]http.HandlerFunc{
		"open":               func(http.ResponseWriter, *http.Request) {},
		"basic":              func(w http.ResponseWriter, r *http.Request) { basic(w, r) },
		"digest":             digestBy("MD5", md5.New),
		"digest by SHA-256":  digestBy("SHA-256", sha256.New),
		"digest before that": digestBy("", md5.New),
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				handler(rec, r)
				if rec.Code != http.StatusOK {
					w.Header().Set("WWW-Authenticate", rec.Header().Get("WWW-Authenticate"))
					w.WriteHeader(rec.Code)
					return
				}
				w.Header().Set("Date", "Fri, 27 Nov 2026 10:00:07 GMT")
				w.Header().Set("Last-Modified", "Fri, 27 Nov 2026 10:00:00 GMT")
				_, _ = w.Write(picture)
			}))
			defer srv.Close()
			s, f := fetch(t.Context(), testConfig(), at(t, srv.URL+"/snap.jpg?channel=1"), login{userName, secret})
			if f.failed() || len(s.jpeg) != len(picture) || !s.aged || s.age != 7*time.Second {
				t.Errorf("%d bytes, age %v %v, %v", len(s.jpeg), s.age, s.aged, f)
			}
			if name == "open" {
				return
			}
			if _, f := fetch(t.Context(), testConfig(), at(t, srv.URL+"/snap.jpg"), login{userName, "x"}); f.reason != telemetry.ReasonConfiguration || !strings.Contains(f.text, "refuses the user or the password") {
				t.Errorf("a wrong password: %v", f)
			}
		})
	}
}

func basic(w http.ResponseWriter, r *http.Request) {
	if u, p, ok := r.BasicAuth(); !ok || u != userName || p != secret {
		w.Header().Set("WWW-Authenticate", `Basic realm="cam"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// digestBy checks a login by RFC 7616 and, without an algorithm, RFC 2069.
func digestBy(algorithm string, h func() hash.Hash) http.HandlerFunc {
	sum := func(s string) string { x := h(); _, _ = io.WriteString(x, s); return hex.EncodeToString(x.Sum(nil)) }
	field := func(s, name string) string {
		if m := regexp.MustCompile(`\b` + name + `="?([^",]+)`).FindStringSubmatch(s); m != nil {
			return m[1]
		}
		return ""
	}
	return func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		ha1, ha2 := sum(userName+":cam:"+secret), sum("GET:"+r.URL.RequestURI())
		want := sum(ha1 + ":n0:" + ha2)
		challenge := `Digest realm="cam", nonce="n0"`
		if algorithm != "" {
			want = sum(ha1 + ":n0:" + field(got, "nc") + ":" + field(got, "cnonce") + ":auth:" + ha2)
			challenge += `, qop="auth", algorithm=` + algorithm
		}
		if field(got, "response") != want || field(got, "uri") != r.URL.RequestURI() {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}

func TestFaultsOfASnapshotAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		reason  telemetry.Reason
		text    string
	}{
		"sent on": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/x", http.StatusFound)
		}, telemetry.ReasonConfiguration, "sends us on to"},
		"not there": {http.NotFound, telemetry.ReasonConfiguration, "has nothing at that path"},
		"busy":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, telemetry.ReasonException, "status 503"},
		"a page":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>") }, telemetry.ReasonMalformed, "is no JPEG"},
		"a stream": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "multipart/x-mixed-replace")
		}, telemetry.ReasonConfiguration, "a stream there"},
		"NTLM": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "NTLM")
			w.WriteHeader(401)
		}, telemetry.ReasonConfiguration, "a kind that is not known"},
		"without end": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, 2*maxPicture) }, telemetry.ReasonMalformed, "more than 8 MiB"},
		"silence":     {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, telemetry.ReasonNoAnswer, "does not answer in time"},
		"a drip": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte{0xff, 0xd8})
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, telemetry.ReasonNoAnswer, "does not answer in time"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte{0xff, 0xd8})
			panic(http.ErrAbortHandler)
		}, telemetry.ReasonNoAnswer, "closed the connection"},
		"a long header": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, telemetry.ReasonBadFrame, ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(c.handler)
			defer srv.Close()
			cfg := testConfig()
			if strings.Contains(c.text, "in time") {
				cfg.Timeout = 500 * time.Millisecond
			}
			_, f := fetch(t.Context(), cfg, at(t, srv.URL), login{userName, secret})
			if f.reason != c.reason || !strings.Contains(f.text, c.text) {
				t.Errorf("%v: %s", f.reason, f.text)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
