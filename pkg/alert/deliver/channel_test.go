package deliver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// smtpServer takes mail as far as it is told to.
type smtpServer struct {
	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	mails []string
	rcpt  string // answer to RCPT
}

func newSMTP(t *testing.T) *smtpServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpServer{ln: ln, rcpt: "250 ok"}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); s.wg.Wait() })
	return s
}

func (s *smtpServer) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	lines := bufio.NewScanner(c)
	say := func(text string) { _, _ = fmt.Fprintf(c, "%s\r\n", text) }
	say("220 test")
	for lines.Scan() {
		switch verb, _, _ := strings.Cut(strings.ToUpper(lines.Text()), " "); verb {
		case "EHLO", "HELO":
			say("250-test\r\n250 8BITMIME")
		case "RCPT":
			s.mu.Lock()
			say(s.rcpt)
			s.mu.Unlock()
		case "DATA":
			say("354 go")
			var mail []string
			for lines.Scan() && lines.Text() != "." {
				mail = append(mail, lines.Text())
			}
			s.mu.Lock()
			s.mails = append(s.mails, strings.Join(mail, "\n"))
			s.mu.Unlock()
			say("250 queued")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func TestMailIsSent(t *testing.T) {
	s := newSMTP(t)
	e, err := newEmail(&EmailConfig{Server: s.ln.Addr().String(), TLS: "none", From: "Langbiang <ioc@example.vn>"})
	if err != nil {
		t.Fatal(err)
	}
	m := &message{ID: "night-1", To: "lan@example.vn", Person: "Lan", Title: "Lạc Dương: ngập", Text: "Lạc Dương: ngập\nhttps://hub.example/"}
	if said, err := e.send(t.Context(), m); err != nil || said == "" {
		t.Fatal(said, err)
	}
	if len(s.mails) != 1 || !strings.Contains(s.mails[0], "Message-ID: <night-1@langbiang>") || !strings.Contains(s.mails[0], "Auto-Submitted: auto-generated") || !strings.Contains(s.mails[0], "Subject: =?UTF-8?q?L=E1=BA=A1c") {
		t.Error(s.mails)
	}
	var no *refusal
	for answer, final := range map[string]bool{"550 no such user": true, "451 try later": false} {
		s.mu.Lock()
		s.rcpt = answer
		s.mu.Unlock()
		if _, err := e.send(t.Context(), m); err == nil || errors.As(err, &no) != final {
			t.Errorf("%s: %v", answer, err)
		}
	}
	// A server without STARTTLS gets nothing when it is asked for.
	e.cfg.TLS = "starttls"
	if _, err := e.send(t.Context(), m); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("%v", err)
	}
}

// zalo answers as Zalo's OA does: status 200 always, an error field, access tokens
// that end, and refresh tokens that are good for one use.
type zalo struct {
	*httptest.Server
	mu      sync.Mutex
	refresh string
	access  string
	n       int
	sent    []string
}

func newZalo(t *testing.T) *zalo {
	z := &zalo{refresh: "first"}
	z.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z.mu.Lock()
		defer z.mu.Unlock()
		if r.URL.Path == "/v4/oa/access_token" {
			if r.FormValue("refresh_token") != z.refresh || r.Header.Get("secret_key") != "app-secret" || r.FormValue("app_id") != "123" {
				_, _ = io.WriteString(w, `{"error":-14014,"error_description":"invalid refresh token"}`)
				return
			}
			z.n++
			z.refresh, z.access = fmt.Sprint("refresh", z.n), fmt.Sprint("access", z.n)
			_, _ = fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q,"expires_in":"90000"}`, z.access, z.refresh)
			return
		}
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Header.Get("access_token") != z.access:
			_, _ = io.WriteString(w, `{"error":-124,"message":"Access token invalid"}`)
		case strings.Contains(string(body), `"84900"`):
			_, _ = io.WriteString(w, `{"error":-118,"message":"Zalo account not existed"}`)
		default:
			z.sent = append(z.sent, string(body))
			_, _ = fmt.Fprintf(w, `{"error":0,"message":"Success","data":{"msg_id":"m%d"}}`, len(z.sent))
		}
	}))
	t.Cleanup(z.Close)
	return z
}

func (z *zalo) config(t *testing.T) *HTTPChannelConfig {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"refresh": "first\n", "app": "app-secret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &HTTPChannelConfig{
		URL: z.URL + "/message/template", AllowPrivate: true, Headers: map[string]string{"access_token": "{{.Token}}"}, MaxText: 20,
		Body:    `{"phone":{{json .To}},"template_id":"7895417","template_data":{"text":{{json .Text}},"place":{{json (index .Alerts 0).Site}}},"tracking_id":{{json .ID}}}`,
		OK:      AnswerConfig{Field: "error", Equals: "0", Expired: []string{"-124", "-216"}},
		Secrets: map[string]Secret{"app": {File: filepath.Join(dir, "app")}},
		Token: &TokenConfig{
			URL: z.URL + "/v4/oa/access_token", Headers: map[string]string{"secret_key": "{{.Secret.app}}"}, Refresh: Secret{File: filepath.Join(dir, "refresh")},
			Form: map[string]string{"grant_type": "refresh_token", "refresh_token": "{{.Refresh}}", "app_id": "123"},
		},
	}
}

func TestATemplatedMessageWithATokenThatIsRefreshedAndKept(t *testing.T) {
	z := newZalo(t)
	cfg := z.config(t)
	if msg, path := checkHTTPTemplates(cfg); msg != "" {
		t.Fatal(msg, path)
	}
	kept := newMemory()
	now := time.Now()
	open := func() *httpChannel {
		h, err := newHTTPChannel("zalo", cfg, &Parts{Book: kept, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.close)
		return h
	}
	h := open()
	m := &message{ID: "night-1", To: "84901", Person: "Lan", Text: "một hai ba bốn năm sáu bảy", Alerts: []item{{Site: "Lạc Dương"}}}
	send := func(h *httpChannel, want string) {
		t.Helper()
		said, err := h.send(context.Background(), m)
		if err != nil || !strings.Contains(said, want) {
			t.Fatalf("%q %v", said, err)
		}
	}
	send(h, `"msg_id":"m1"`)
	if want := `{"phone":"84901","template_id":"7895417","template_data":{"text":"một hai ba bốn nă...","place":"Lạc Dương"},"tracking_id":"night-1"}`; z.sent[0] != want {
		t.Errorf("%s", z.sent[0])
	}
	send(open(), `"msg_id":"m2"`) // a restart uses what was kept
	if z.n != 1 {
		t.Errorf("refreshed %d times", z.n)
	}
	now = now.Add(25 * time.Hour) // its life is over
	send(h, "m3")
	z.mu.Lock()
	z.access = "revoked" // before its time
	z.mu.Unlock()
	send(h, "m4")
	if z.n != 3 {
		t.Errorf("refreshed %d times", z.n)
	}
	m.To = "84900"
	var no *refusal
	if _, err := h.send(context.Background(), m); !errors.As(err, &no) || !strings.Contains(err.Error(), "Zalo account not existed") {
		t.Errorf("%v", err)
	}
	// The chain breaks: said without a token, and mended by a new one in the file.
	z.mu.Lock()
	z.refresh, z.access = "second", "gone"
	z.mu.Unlock()
	m.To = "84901"
	if _, err := h.send(context.Background(), m); err == nil || !strings.Contains(err.Error(), "invalid refresh token") || strings.Contains(err.Error(), "refresh3") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(cfg.Token.Refresh.File, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	send(open(), "m5")
}

func TestAnSMSGatewayByGET(t *testing.T) {
	var got string
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.RawQuery
		_, _ = io.WriteString(w, "OK 17")
	}))
	t.Cleanup(gateway.Close)
	h, err := newHTTPChannel("sms", &HTTPChannelConfig{
		URL: gateway.URL + "/send?to={{query .To}}&text={{query (short 30 (ascii .Text))}}", Method: http.MethodGet, AllowPrivate: true,
	}, &Parts{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	said, err := h.send(t.Context(), &message{To: "+84901", Text: "Lạc Dương: mưa lớn & ngập đường"})
	if err != nil || said != "OK 17" || got != "to=%2B84901&text=Lac+Duong%3A+mua+lon+%26+ngap+duon" {
		t.Errorf("%q %v %s", said, err, got)
	}
}

func TestTheSignOfLifeComesOnceADayOnEveryChannel(t *testing.T) {
	in(t, RouteConfig{}, func(w *town) {
		p := w.people
		p.cfg.Heartbeat = PulseConfig{At: "07:30", Tell: []string{"Lan", "Minh"}}
		h := newPulse(p)
		if err := h.remember(nil); err != nil {
			t.Fatal(err)
		}
		for range 48 {
			next, _, err := h.idle(t.Context(), time.Now())
			if err != nil || !next.After(time.Now()) {
				t.Fatal(next, err)
			}
			w.pass(time.Hour)
		}
		w.heard("twice on each channel",
			"08:00:00 mail>Lan heartbeat: Langbiang lives. 0 alerts", "mail>Minh heartbeat", "sms>Lan heartbeat",
			"08:00:00 mail>Lan heartbeat", "mail>Minh", "sms>Lan")
	})
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"error":0}`, `{"error":"0","data":{"id":"x"}}`, `[`, `{"error":{}}`, `{"error":1e400}`, "", `{"error":null}`, "\xff"} {
		f.Add(s, "error", "5")
	}
	f.Fuzz(func(t *testing.T, doc, path, after string) {
		if v, ok := field([]byte(doc), path); !ok && v != "" {
			t.Errorf("%q of %q", path, doc)
		}
		if d, _ := retryAfter(after, time.Unix(0, 0)); d < 0 {
			t.Errorf("%q: %s", after, d)
		}
		if s := brief([]byte(doc)); len(s) > 310 || strings.ContainsAny(s, "\r\n") {
			t.Errorf("%q", s)
		}
	})
}
