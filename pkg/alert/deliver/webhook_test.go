package deliver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// receiver takes webhooks, as well as answer lets it.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []uint64 // sequences that were taken
	heads  []http.Header
	bodies []string
	answer func(w http.ResponseWriter, seq uint64) bool // false: not taken
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		var e feed.Event
		_ = json.Unmarshal(body, &e)
		entry, _, _ := e.Entry()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.answer != nil && !r.answer(w, entry.Sequence) {
			return
		}
		r.got = append(r.got, entry.Sequence)
		r.heads, r.bodies = append(r.heads, req.Header), append(r.bodies, string(body))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) taken() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uint64(nil), r.got...)
}

func (r *receiver) answering(f func(w http.ResponseWriter, seq uint64) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func hook(name, url string) WebhookConfig {
	return WebhookConfig{Name: name, URL: url, AllowPrivate: true, From: "oldest"}
}

func (r *rig) delivery(name string) feed.Delivery {
	r.Helper()
	for _, d := range r.d.Deliveries() {
		if d.Name == name {
			return d
		}
	}
	r.Fatalf("no target %s", name)
	return feed.Delivery{}
}

// holds reports whether got is 1..n in order but for repetitions of what came
// before, and says where not.
func complete(got []uint64, n uint64) error {
	newest := uint64(0)
	for _, s := range got {
		if s > newest+1 {
			return fmt.Errorf("after %d came %d", newest, s)
		}
		newest = max(newest, s)
	}
	if newest != n {
		return fmt.Errorf("the newest is %d of %d", newest, n)
	}
	return nil
}

// Both sides fail at random; the receiver ends with exactly the log.
func TestAWebhookEndsWithExactlyTheLogWhateverIsKilled(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			recv, mood := newReceiver(t), rand.New(rand.NewPCG(seed, 4))
			recv.answering(func(w http.ResponseWriter, _ uint64) bool {
				switch mood.IntN(12) {
				case 0:
					w.WriteHeader(http.StatusInternalServerError)
				case 1:
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(http.StatusTooManyRequests)
				case 2:
					panic(http.ErrAbortHandler) // the connection breaks
				default:
					return true
				}
				return false
			})
			r := newRig(t, Config{Webhooks: []WebhookConfig{hook("ioc", recv.URL)}})
			r.begin()
			for range 40 {
				switch rnd.IntN(8) {
				case 0:
					r.crash()
					r.begin()
				case 1:
					r.end()
					r.begin()
				default:
					for range rnd.IntN(10) {
						r.raise(nil)
					}
				}
			}
			recv.answering(nil)
			r.eventually("the whole log is there", func() bool { return r.delivery("ioc").Lag == 0 && len(recv.taken()) > 0 })
			if err := complete(recv.taken(), r.ledger.LastSequence()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADeadReceiverCostsOnlyItself(t *testing.T) {
	good, bad := newReceiver(t), newReceiver(t)
	stuck := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	t.Cleanup(hang.Close)
	t.Cleanup(func() { close(stuck) })
	bad.answering(func(w http.ResponseWriter, _ uint64) bool { w.WriteHeader(http.StatusBadGateway); return false })
	r := newRig(t, Config{Webhooks: []WebhookConfig{hook("hang", hang.URL), hook("bad", bad.URL), hook("good", good.URL)}})
	r.begin()
	for range 300 {
		r.raise(nil)
	}
	r.eventually("the good one has all", func() bool { return complete(good.taken(), 300) == nil })
	r.eventually("the bad one is tried again and again", func() bool {
		d := r.delivery("bad")
		return d.State == feed.Retrying && d.Lag == 300 && strings.Contains(d.Summary, "502 Bad Gateway") && d.NextTry != nil
	})
	r.eventually("all is counted", func() bool { return r.delivery("good").Delivered == 300 })
	if d := r.delivery("good"); d.State == feed.Retrying || d.Failures != 0 {
		t.Errorf("%+v", d)
	}
}

func TestARefusedEntryIsHeldUntilSomebodySkipsIt(t *testing.T) {
	recv := newReceiver(t)
	recv.answering(func(w http.ResponseWriter, seq uint64) bool {
		if seq == 2 {
			http.Error(w, "no such site\n", http.StatusUnprocessableEntity)
		}
		return seq != 2
	})
	r := newRig(t, Config{Webhooks: []WebhookConfig{hook("ioc", recv.URL)}})
	r.begin()
	for range 4 {
		r.raise(nil)
	}
	held := func() bool { return r.delivery("ioc").State == feed.Held }
	r.eventually("it is held", held)
	since := r.delivery("ioc").Held.Since
	for _, restart := range []func(){r.end, r.crash} {
		restart()
		r.begin()
		r.eventually("it is held after a restart, too", func() bool { return held() && r.delivery("ioc").Failures > 0 })
	}
	d := r.delivery("ioc")
	if d.Held.Sequence != 2 || !d.Held.Since.Equal(since) || !strings.Contains(d.Summary, "422 Unprocessable Entity: no such site") || !strings.Contains(d.Summary, "deliveries skip ioc 2") {
		t.Errorf("%+v %+v", d, d.Held)
	}
	ctx := context.Background()
	var no *alert.Refusal
	for what, err := range map[string]error{
		"another entry": r.d.Skip(ctx, "ioc", 3, "Lan", ""),
		"nobody":        r.d.Skip(ctx, "ioc", 2, "", ""),
		"no target":     r.d.Skip(ctx, "oci", 2, "Lan", ""),
	} {
		if !errors.As(err, &no) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := r.d.Retry(ctx, "ioc", "Lan"); err != nil {
		t.Fatal(err)
	}
	r.eventually("it is held again", held)
	if err := r.d.Skip(ctx, "ioc", 2, "Lan", "an old site"); err != nil {
		t.Fatal(err)
	}
	r.eventually("the rest comes", func() bool { return r.delivery("ioc").Lag == 0 })
	if got := fmt.Sprint(recv.taken()); !strings.HasPrefix(got, "[1 ") || !strings.HasSuffix(got, " 3 4]") || strings.Contains(got, " 2 ") {
		t.Errorf("taken: %s", got)
	}
	dead, err := r.ledger.DeadLetters("ioc", 0, 10)
	if err != nil || len(dead) != 1 || dead[0].Entry.Sequence != 2 || dead[0].Who != "Lan" || dead[0].Why != "an old site" || !strings.Contains(dead[0].Reason, "no such site") {
		t.Errorf("%+v %v", dead, err)
	}
	if err := r.d.Retry(ctx, "ioc", "Lan"); !errors.As(err, &no) {
		t.Errorf("nothing waits, but: %v", err)
	}
}

func TestARefusedEntryIsSkippedByItselfWhereThatIsConfigured(t *testing.T) {
	recv := newReceiver(t)
	recv.answering(func(w http.ResponseWriter, seq uint64) bool {
		if seq == 1 {
			w.WriteHeader(http.StatusGone)
		}
		return seq != 1
	})
	c := hook("ioc", recv.URL)
	c.SkipAfter = 50 * time.Millisecond
	r := newRig(t, Config{Webhooks: []WebhookConfig{c}})
	r.begin()
	r.raise(nil)
	r.raise(nil)
	r.eventually("the second comes", func() bool { return len(recv.taken()) == 1 })
	dead, err := r.ledger.DeadLetters("", 0, 10)
	if err != nil || len(dead) != 1 || dead[0].Who != "" || dead[0].Why != "refused for 50ms (skip_after)" || r.delivery("ioc").Skipped != 1 {
		t.Errorf("%+v %v", dead, err)
	}
}

func TestTheTargetSaysWhenToComeAgain(t *testing.T) {
	recv := newReceiver(t)
	recv.answering(func(w http.ResponseWriter, _ uint64) bool {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	})
	r := newRig(t, Config{Webhooks: []WebhookConfig{hook("ioc", recv.URL)}})
	r.begin()
	r.raise(nil)
	r.eventually("it waits", func() bool { return r.delivery("ioc").NextTry != nil })
	if d := r.delivery("ioc"); d.NextTry.Sub(*d.LastErrorAt) < 2*time.Minute {
		t.Errorf("tried again after %s", d.NextTry.Sub(*d.LastErrorAt))
	}
	recv.answering(nil)
	if err := r.d.Retry(context.Background(), "ioc", "Lan"); err != nil {
		t.Fatal(err)
	}
	r.eventually("it is taken", func() bool { return len(recv.taken()) == 1 })
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{"5": 5 * time.Second, "Mon, 23 Nov 2026 08:01:00 GMT": time.Minute, "Mon, 23 Nov 2026 07:00:00 GMT": 0} {
		if got, ok := retryAfter(s, now); !ok || got != want {
			t.Errorf("%q: %s %v", s, got, ok)
		}
	}
	if _, ok := retryAfter("soon", now); ok {
		t.Error("soon is no time")
	}
}

func TestARequestIsSignedAsStandardWebhooksSays(t *testing.T) {
	dir := t.TempDir()
	key := []byte("0123456789abcdef0123456789abcdef")
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recv := newReceiver(t)
	c := hook("ioc", recv.URL)
	c.Secret, c.Headers = Secret{File: file}, map[string]string{"X-Tenant": "ldg"}
	r := newRig(t, Config{Webhooks: []WebhookConfig{c}})
	r.begin()
	r.raise(nil)
	r.eventually("it is taken", func() bool { return len(recv.taken()) == 1 })
	h, body := recv.heads[0], recv.bodies[0]
	if want := sign(key, h.Get("webhook-id"), h.Get("webhook-timestamp"), []byte(body)); h.Get("webhook-signature") != want || h.Get("X-Tenant") != "ldg" || h.Get("Content-Type") != feed.ContentType {
		t.Errorf("%v, want the signature %s", h, want)
	}
	// The example of the specification.
	spec, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	if got := sign(spec, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("the example of the specification: %s", got)
	}
}

func TestABodyByTemplate(t *testing.T) {
	recv := newReceiver(t)
	c := hook("ioc", recv.URL)
	c.Body = `{"text": {{json .Message.VI}}, "place": {{json .Site.EN}}, "level": "{{.Alert.Severity}}", "sms": "{{ascii .Message.VI}}"}`
	r := newRig(t, Config{Webhooks: []WebhookConfig{c}})
	r.begin()
	r.raise(nil)
	r.eventually("it is taken", func() bool { return len(recv.taken()) == 1 })
	if want := `{"text": "PM2.5 vượt ngưỡng", "place": "Lac Duong", "level": "warning", "sms": "PM2.5 vuot nguong"}`; recv.bodies[0] != want {
		t.Errorf("%s", recv.bodies[0])
	}
}

func TestPrivateAddressesAreRefusedWhateverNameLeadsThere(t *testing.T) {
	for s, want := range map[string]bool{
		"8.8.8.8": true, "2001:4860:4860::8888": true, "127.0.0.1": false, "::1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "fe80::1": false, "fd00::1": false, "100.64.0.1": false, "0.0.0.0": false, "::": false, "::ffff:127.0.0.1": false,
		"::ffff:10.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false,
	} {
		if got := outside(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: outside is %v", s, got)
		}
	}
	recv := newReceiver(t)
	for _, url := range []string{recv.URL, strings.Replace(recv.URL, "127.0.0.1", "localhost", 1)} {
		_, err := post(t.Context(), newHTTP(time.Second, false), url, http.Header{}, nil, time.Now())
		if !errors.Is(err, errPrivate) {
			t.Errorf("%s: %v", url, err)
		}
	}
	// A redirect is not a way round.
	away := httptest.NewServer(http.RedirectHandler(recv.URL, http.StatusTemporaryRedirect))
	defer away.Close()
	c := newHTTP(time.Second, true)
	defer c.CloseIdleConnections()
	_, err := post(t.Context(), c, away.URL, http.Header{}, nil, time.Now())
	var no *refusal
	if !errors.As(err, &no) || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Errorf("%v", err)
	}
	if got := recv.taken(); len(got) != 0 {
		t.Errorf("it was reached: %v", got)
	}
}

func TestErrorsDoNotShowSecrets(t *testing.T) {
	_, err := post(t.Context(), newHTTP(time.Second, true), "http://127.0.0.1:1/hook?token=secret", http.Header{}, nil, time.Now())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if got := withoutSecrets("https://u:secret@h.example/x?token=secret#secret"); strings.Contains(got, "secret") {
		t.Error(got)
	}
}

func TestAHeartbeatAndATestStandBesideTheLog(t *testing.T) {
	recv := newReceiver(t)
	c := hook("ioc", recv.URL)
	c.Heartbeat = 5 * time.Millisecond
	r := newRig(t, Config{Webhooks: []WebhookConfig{c}})
	r.begin()
	r.eventually("heartbeats come", func() bool { return len(recv.taken()) > 2 })
	if said, err := r.d.Probe(t.Context(), "ioc", "Lan"); err != nil || !strings.Contains(said, "taken") {
		t.Errorf("%q %v", said, err)
	}
	recv.mu.Lock()
	defer recv.mu.Unlock()
	all := strings.Join(recv.bodies, "")
	if !strings.Contains(all, feed.TypeHeartbeat) || !strings.Contains(all, feed.TypeTest) {
		t.Error(all)
	}
}

func TestANewTargetBeginsWithWhatIsNew(t *testing.T) {
	recv := newReceiver(t)
	c := hook("ioc", recv.URL)
	c.From = ""
	r := newRig(t, Config{Webhooks: []WebhookConfig{c}})
	r.open()
	r.raise(nil)
	r.run()
	r.eventually("it stands", func() bool { return r.delivery("ioc").State == feed.Idle })
	r.crash() // before it had anything: it must not begin anew then
	r.open()
	r.raise(nil)
	r.run()
	r.eventually("the second comes", func() bool { return len(recv.taken()) == 1 })
	if got := recv.taken(); got[0] != 2 {
		t.Errorf("%v", got)
	}
}
