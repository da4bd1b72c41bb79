//go:build interop

package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/deliver"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/ledger"
)

// alertLog is a ledger as a hub fits it to deliveries and the API.
type alertLog struct {
	*ledger.Ledger
	t *testing.T
	n int
}

func (l *alertLog) ActiveAlerts() ([]alert.Alert, error) {
	list, _, err := l.Alerts(ledger.Filter{State: alert.Active}, "", 10_000)
	return list, err
}

func (l *alertLog) List(api.Filter, string, int) ([]alert.Alert, string, error) { return nil, "", nil }

func newAlertLog(t *testing.T) *alertLog {
	t.Helper()
	l, err := ledger.Open(t.TempDir(), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &alertLog{Ledger: l, t: t}
}

func (l *alertLog) step(kind alert.Kind, a alert.Alert) alert.Alert {
	l.t.Helper()
	now := time.Now().UTC()
	if kind == alert.Ended {
		a.State, a.End = alert.Cleared, &now
	}
	e, err := l.Raise(alert.Transition{Kind: kind, Time: now, Alert: a})
	if err != nil {
		l.t.Fatal(err)
	}
	return e.Alert
}

func (l *alertLog) raise(rule string, s alert.Severity) alert.Alert {
	l.n++
	a := alert.Alert{
		ID: fmt.Sprint("a", l.n), Rule: rule, State: alert.Active, Severity: s, Start: time.Now().UTC(), Site: "lac-duong", Edge: "e1", Device: "d", Point: "p",
		Quantity: "pm2_5", Unit: "µg/m³", Labels: map[string]string{"1st.label": "x"},
	}
	a.Message.VI, a.Message.EN = "Bụi mịn vượt ngưỡng", "PM2.5 above the limit"
	return l.step(alert.Raised, a)
}

// run runs deliveries until the test, or stop, ends them.
func (l *alertLog) run(cfg deliver.Config) (d *deliver.Deliveries, stop func()) {
	l.t.Helper()
	d, err := deliver.Open(cfg, deliver.Parts{Log: l, Book: l.Ledger, Site: func(string) (deliver.Site, bool) { return deliver.Site{}, false }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Run(ctx); err != nil {
			l.t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	l.t.Cleanup(stop)
	return d, stop
}

func TestDebiansAlertmanagerFiresAndResolves(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	config := filepath.Join(dir, "am.yml")
	if err := os.WriteFile(config, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := "http://127.0.0.1:" + port
	serve(t, "Listening", "prometheus-alertmanager", "--config.file="+config, "--storage.path="+dir, "--web.listen-address=127.0.0.1:"+port, "--cluster.listen-address=", "--log.level=debug")
	firing := func() string {
		resp, err := http.Get(base + "/api/v2/alerts?active=true")
		if err != nil {
			return err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		var list []struct{ Labels map[string]string }
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			return err.Error()
		}
		var out []string
		for _, a := range list {
			out = append(out, a.Labels["alertname"]+" "+a.Labels["severity"]+" "+a.Labels["_1st_label"])
		}
		slices.Sort(out)
		return strings.Join(out, "; ")
	}
	fires := func(want string) {
		t.Helper()
		drivertest.Until(t, "it fires: "+want, func() bool { return firing() == want })
	}
	l := newAlertLog(t)
	cfg := deliver.Config{Alertmanagers: []deliver.AlertmanagerConfig{{Name: "am", URL: base, ResendEvery: time.Second, Watchdog: true}}}
	d, stop := l.run(cfg)
	pm, rain := l.raise("pm25-high", alert.Warning), l.raise("rain", alert.Warning)
	fires("LangbiangWatchdog none ; pm25-high warning x; rain warning x")
	rain.Severity = alert.Critical
	rain = l.step(alert.SeverityChanged, rain)
	fires("LangbiangWatchdog none ; pm25-high warning x; rain critical x")
	stop()
	l.step(alert.Ended, pm)
	_, stop = l.run(cfg)
	fires("LangbiangWatchdog none ; rain critical x")
	l.step(alert.Ended, rain)
	fires("LangbiangWatchdog none ")
	stop()
	fires("") // four repetitions are missing: it takes the watchdog for over, and would tell
	if got := d.Deliveries()[0]; got.Failures != 0 {
		t.Errorf("%+v", got)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestMosquittoKeepsTheStateOfEachActiveAlert(t *testing.T) {
	port := freePort(t)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\nlog_type all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() *server { return serve(t, "running", "mosquitto", "-c", conf) }
	broker := start()
	l := newAlertLog(t)
	cfg := deliver.Config{MQTT: []deliver.MQTTConfig{{Name: "city", Broker: "tcp://127.0.0.1:" + port, Topic: "city/alerts", Timeout: 2 * time.Second}}}
	d, stop := l.run(cfg)
	one := l.raise("rain", alert.Warning)
	l.raise("pm25-high", alert.Warning)
	l.step(alert.Ended, one)
	// retained is what somebody who comes now is given.
	retained := func() string {
		c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://127.0.0.1:" + port).SetClientID(fmt.Sprint("w", time.Now().UnixNano())).SetAutoReconnect(false))
		if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
			return "no broker"
		}
		defer c.Disconnect(0)
		got := make(chan string, 100)
		c.Subscribe("city/alerts/#", 1, func(_ paho.Client, m paho.Message) { got <- strings.TrimPrefix(m.Topic(), "city/alerts/") }).WaitTimeout(10 * time.Second)
		c.Subscribe("end", 1, func(paho.Client, paho.Message) { got <- "end" }).WaitTimeout(10 * time.Second)
		c.Publish("end", 1, false, "x")
		var all []string
		for {
			select {
			case s := <-got:
				if s == "end" {
					slices.Sort(all)
					return strings.Join(all, " ")
				}
				all = append(all, s)
			case <-time.After(10 * time.Second):
				return "nothing"
			}
		}
	}
	drivertest.Until(t, "the active one is retained", func() bool { return retained() == "hub state/a2" })
	broker.stop()
	l.raise("wind", alert.Warning)
	start() // without a file it has forgotten everything
	drivertest.Until(t, "it is told again", func() bool { return retained() == "hub state/a2 state/a3" })
	drivertest.Until(t, "everything is given", func() bool { return d.Deliveries()[0].Lag == 0 })
	stop()
}

// The examples of docs/examples follow a hub that goes away and comes back.
func TestTheExamplesMissNothing(t *testing.T) {
	for name, args := range map[string][]string{"alerts.py": {python, "alerts.py"}, "alerts.sh": {"sh", "alerts.sh"}} {
		t.Run(name, func(t *testing.T) {
			l := newAlertLog(t)
			handler := api.New(api.Config{Alerts: l, Logger: slog.New(slog.DiscardHandler), Heartbeat: 100 * time.Millisecond})
			srv := httptest.NewServer(handler)
			addr := srv.Listener.Addr().String()
			file := filepath.Join(t.TempDir(), "position")
			for range 5 {
				l.raise("rain", alert.Warning)
			}
			var mu sync.Mutex
			var seen []string
			start := func() func() {
				cmd := exec.Command(args[0], "../../docs/examples/"+args[1], "http://"+addr, file)
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with what it starts
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					lines := bufio.NewScanner(out)
					lines.Buffer(nil, 1<<20)
					for lines.Scan() {
						mu.Lock()
						seen = append(seen, lines.Text())
						mu.Unlock()
					}
				})
				return func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); wg.Wait(); _ = cmd.Wait() }
			}
			has := func(n int) func() bool {
				return func() bool {
					mu.Lock()
					defer mu.Unlock()
					all := strings.Join(seen, "\n")
					for i := 1; i <= n; i++ {
						if !strings.Contains(all, fmt.Sprintf("-%d ", i)) && !strings.Contains(all, fmt.Sprintf(`-%d","source"`, i)) {
							return false
						}
					}
					return true
				}
			}
			stop := start()
			drivertest.Until(t, "the first five", has(5))
			srv.CloseClientConnections()
			srv.Close()
			l.raise("rain", alert.Warning)
			srv = httptest.NewUnstartedServer(handler)
			_ = srv.Listener.Close()
			ln, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			srv.Listener = ln
			srv.Start()
			t.Cleanup(srv.Close)
			drivertest.Until(t, "what came while the hub was away", has(6))
			stop()
			l.raise("rain", alert.Warning)
			stop = start()
			drivertest.Until(t, "what came while the consumer was away", has(7))
			stop()
			srv.CloseClientConnections()
		})
	}
}
