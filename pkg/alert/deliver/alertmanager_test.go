package deliver

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// am keeps alerts as Alertmanager does: by labels, with the newest end.
type am struct {
	*httptest.Server
	mu    sync.Mutex
	ends  map[string]time.Time
	posts int
	fail  int // answer of this status, if set
}

func newAM(t *testing.T) *am {
	a := &am{ends: map[string]time.Time{}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.fail != 0 {
			w.WriteHeader(a.fail)
			return
		}
		var list []amAlert
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil || r.URL.Path != "/am/api/v2/alerts" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a.posts++
		for _, x := range list {
			if x.Labels["device"] == "bad" {
				http.Error(w, "bad labels", http.StatusBadRequest)
				return
			}
			var l []string
			for _, n := range slices.Sorted(maps.Keys(x.Labels)) {
				l = append(l, n+"="+x.Labels[n])
			}
			a.ends[strings.Join(l, ",")] = x.EndsAt
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// firing lists what fires: rule and severity.
func (a *am) firing() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []string
	for l, end := range a.ends {
		if end.After(time.Now()) {
			var words []string
			for _, n := range []string{"alertname=", "severity="} {
				_, v, _ := strings.Cut(l, n)
				v, _, _ = strings.Cut(v, ",")
				words = append(words, v)
			}
			list = append(list, strings.Join(words, " "))
		}
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

func amConfig(a *am) Config {
	return Config{Alertmanagers: []AlertmanagerConfig{{Name: "am", URL: a.URL + "/am/", ResendEvery: time.Minute, Labels: map[string]string{"province": "ldg"}}}}
}

func TestAlertmanagerKnowsWhatFires(t *testing.T) {
	a := newAM(t)
	r := newRig(t, amConfig(a))
	r.open()
	r.raise(nil) // before the target is new
	r.run()
	fires := func(want string) {
		t.Helper()
		r.eventually("fires: "+want, func() bool { return a.firing() == want && r.delivery("am").Lag == 0 })
	}
	fires("pm25-high warning")
	x := r.raise(func(x *alert.Alert) { x.Rule = "rain" })
	fires("pm25-high warning; rain warning")
	x.Severity = alert.Critical
	x = r.step(alert.SeverityChanged, x)
	fires("pm25-high warning; rain critical") // and no longer as a warning
	r.crash()
	r.open()
	r.step(alert.Ended, x) // while nobody delivers
	r.raise(func(x *alert.Alert) { x.Rule = "noise" })
	gone := r.raise(func(x *alert.Alert) { x.Rule = "wind" })
	r.step(alert.Ended, gone)
	r.run()
	fires("noise warning; pm25-high warning")
	a.mu.Lock()
	for l := range a.ends {
		if strings.Contains(l, "wind") && a.ends[l].After(time.Now()) {
			t.Error("what was over before it could be told did fire")
		}
		if !strings.Contains(l, "province=ldg") || !strings.Contains(l, "room=north") {
			t.Errorf("labels %s", l)
		}
	}
	a.mu.Unlock()
	// A hold ends the firing, not the alert.
	hold, err := r.ledger.PutHold(alert.Hold{Kind: alert.HoldMaintenance, Rule: "noise", Until: time.Now().Add(time.Hour), Who: "Lan"})
	if err != nil {
		t.Fatal(err)
	}
	fires("pm25-high warning")
	if _, err := r.ledger.EndHold(hold.ID, "Lan", ""); err != nil {
		t.Fatal(err)
	}
	fires("noise warning; pm25-high warning")
	if said, err := r.d.Probe(t.Context(), "am", "Lan"); err != nil || !strings.Contains(said, "LangbiangTest") {
		t.Errorf("%q %v", said, err)
	}
}

func TestWhatFiresIsSentAgain(t *testing.T) {
	a := newAM(t)
	cfg := amConfig(a)
	cfg.Alertmanagers[0].ResendEvery = 10 * time.Millisecond
	cfg.Alertmanagers[0].Watchdog = true
	r := newRig(t, cfg)
	r.begin()
	r.raise(nil)
	r.eventually("several posts", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.posts > 5 })
	r.eventually("the watchdog fires", func() bool { return strings.Contains(a.firing(), "LangbiangWatchdog") })
	a.mu.Lock()
	a.fail = http.StatusServiceUnavailable
	a.mu.Unlock()
	r.eventually("a failure of sending again shows", func() bool { return r.delivery("am").State == feed.Retrying })
}

func TestOneRefusedAlertOfManyIsFound(t *testing.T) {
	a := newAM(t)
	r := newRig(t, amConfig(a))
	r.open()
	r.run()
	r.eventually("it stands", func() bool { return r.delivery("am").State == feed.Idle })
	r.end()
	r.open()
	for i := range 5 {
		r.raise(func(x *alert.Alert) {
			x.Rule = fmt.Sprint("r", i)
			if i == 3 {
				x.Device = "bad"
			}
		})
	}
	r.run()
	r.eventually("it is held at the fourth", func() bool { d := r.delivery("am"); return d.Held != nil && d.Held.Sequence == 4 })
	if got := a.firing(); got != "r0 warning; r1 warning; r2 warning" {
		t.Error(got)
	}
	if err := r.d.Skip(t.Context(), "am", 4, "Lan", ""); err != nil {
		t.Fatal(err)
	}
	r.eventually("the fifth fires", func() bool { return strings.HasSuffix(a.firing(), "r4 warning") })
}
