package hub

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// listener is a webhook that takes everything, and remembers it.
type listener struct {
	*httptest.Server
	mu  sync.Mutex
	got []string
}

func newListener(t *testing.T) *listener {
	l := &listener{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.got = append(l.got, string(b))
	}))
	t.Cleanup(l.Close)
	return l
}

// heard counts the requests that name all of the words.
func (l *listener) heard(words ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, b := range l.got {
		all := true
		for _, w := range words {
			all = all && strings.Contains(b, w)
		}
		if all {
			n++
		}
	}
	return n
}

func TestDeliveriesAreTakenUpByARunningHub(t *testing.T) {
	first, second, third := newListener(t), newListener(t), newListener(t)
	deliver := func(hooks ...string) string { return "deliver:\n  webhooks: [" + strings.Join(hooks, ", ") + "]\n" }
	hook := func(name string, to *listener, more string) string {
		return "{name: " + name + ", url: \"" + to.URL + "\", allow_private: true" + more + "}"
	}
	base := "data_dir: ./data\nrules: [./rules.yaml]\nsites: ./sites.yaml\n"
	log := &lockedBuffer{}
	h := runLoggingHub(t, map[string]string{
		"hub.yaml": base + deliver(hook("ioc", first, "")), "rules.yaml": levelRule,
		"sites.yaml": "sites:\n  - {id: dam-rong, name: {vi: Đam Rông}, edges: [e1, e2, e3, e4]}\n",
	}, slog.New(slog.NewTextHandler(log, nil)))
	path := filepath.Join(filepath.Dir(h.plan.Config.DataDir), "hub.yaml")
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, listening, _ := strings.Cut(string(was), "\nclock:")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text+"\nclock:"+listening), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alarm := func(edge string) {
		t.Helper()
		f := levelFeeder(t, h, edge)
		for i := range 3 {
			f.say(t, time.Now().Add(time.Duration(i-5)*time.Second), 9)
		}
	}
	eventually := func(what string, cond func() bool) { t.Helper(); testutil.Eventually(t, time.Minute, what, cond) }
	alarm("e1")
	eventually("the first target hears of e1", func() bool { return first.heard(`"e1"`) > 0 })
	// Read again, and nothing new in it: the target is left alone.
	before := h.deliveries.now.Load()
	h.reload()
	if h.deliveries.now.Load() != before {
		t.Error("targets that did not change began anew")
	}
	// A fault changes nothing, and is named with its place.
	write(base + "deliver:\n  webhooks: [{name: ioc, url: \"ftp://x\"}]\n")
	h.reload()
	alarm("e2")
	eventually("the first target hears of e2", func() bool { return first.heard(`"e2"`) > 0 })
	if h.deliveries.now.Load() != before || !strings.Contains(log.String(), "deliveries not reloaded, those in force stay") || !strings.Contains(log.String(), "hub.yaml:5:") {
		t.Errorf("a fault:\n%s", log.String())
	}
	// So does a secret that is not there.
	write(base + deliver(hook("ioc", second, ", token: {file: /nowhere}")))
	h.reload()
	if h.deliveries.now.Load() != before {
		t.Error("a target whose secret is not there took the place of one that works")
	}
	// The same name at another address goes on where it stood; a new one begins as it says.
	write(base + deliver(hook("ioc", second, ""), hook("archive", third, ", from: oldest")))
	h.reload()
	alarm("e3")
	eventually("the new address hears of e3", func() bool { return second.heard(`"e3"`) > 0 })
	eventually("the new target hears of all", func() bool {
		return third.heard(`"e1"`) > 0 && third.heard(`"e2"`) > 0 && third.heard(`"e3"`) > 0
	})
	if second.heard(`"e1"`) > 0 || first.heard(`"e3"`) > 0 {
		t.Errorf("the new address was told of e1 %d times, the old one of e3 %d times\n%s\n%s", second.heard(`"e1"`), first.heard(`"e3"`), strings.Join(first.got, "\n"), second.got[0])
	}
	if text := get(t, h, "/metrics"); !strings.Contains(text, `langbiang_hub_delivery_lag_entries{kind="webhook",target="archive"}`) {
		t.Error("the new target is not in the metrics")
	}
	// And is gone when it is taken out. What a running hub does not take up is said.
	write(strings.Replace(base, "sites:", "alerts: {retention: 30d}\nsites:", 1) + deliver(hook("ioc", second, "")))
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "sites.yaml"), []byte("sites: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.reload()
	alarm("e4")
	eventually("the address hears of e4", func() bool { return second.heard(`"e4"`) > 0 })
	if third.heard(`"e4"`) > 0 {
		t.Error("a target that was taken out is told")
	}
	if !strings.Contains(log.String(), `settings="alerts, the file `) {
		t.Errorf("it does not say what waits for the next start:\n%s", log.String())
	}
}

func get(t *testing.T, h *Hub, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + h.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
