package deliver

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute // bounds a failure

// book is a real ledger as a hub fits it to deliveries.
type book struct{ *ledger.Ledger }

func (b book) ActiveAlerts() ([]alert.Alert, error) {
	list, _, err := b.Alerts(ledger.Filter{State: alert.Active}, "", 100_000)
	return list, err
}

// rig is a ledger with deliveries, both of which can be ended and opened again.
type rig struct {
	*testing.T
	dir     string
	cfg     Config
	change  func(*Parts)
	ledger  *ledger.Ledger
	d       *Deliveries
	running sync.WaitGroup
	stop    context.CancelFunc
	n       int
	dead    atomic.Bool
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{T: t, dir: t.TempDir(), cfg: cfg}
	t.Cleanup(r.end)
	return r
}

func sites(id string) (Site, bool) {
	if id == "lac-duong" {
		return Site{Name: telemetry.Text{VI: "Lạc Dương", EN: "Lac Duong"}, Province: "Lâm Đồng", Lat: 12, Lon: 108.4, Groups: []string{"river"}}, true
	}
	return Site{}, false
}

// begin opens the ledger and runs the deliveries.
func (r *rig) begin() {
	r.Helper()
	r.open()
	r.run()
}

func (r *rig) open() {
	r.Helper()
	var err error
	if r.ledger, err = ledger.Open(r.dir, ledger.Options{Window: -1}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) run() {
	r.Helper()
	parts := Parts{Log: book{r.ledger}, Book: mortal{r.ledger, &r.dead}, Site: sites, Logger: slog.New(slog.DiscardHandler), least: 2 * time.Millisecond}
	if r.change != nil {
		r.change(&parts)
	}
	var err error
	if r.d, err = Open(r.cfg, parts); err != nil {
		r.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	r.running.Go(func() {
		if err := r.d.Run(ctx); err != nil {
			r.Error(err)
		}
	})
}

// end stops the deliveries and closes the ledger.
func (r *rig) end() {
	if r.stop != nil {
		r.stop()
		r.running.Wait()
		r.stop = nil
	}
	if r.ledger != nil {
		if err := r.ledger.Close(); err != nil {
			r.Error(err)
		}
		r.ledger = nil
	}
}

// crash ends everything, and nothing is written any more from now on: what was
// done since the last step is not known afterwards.
func (r *rig) crash() {
	r.dead.Store(true)
	r.end()
	r.dead.Store(false)
}

// mortal is a ledger that a crash may overtake.
type mortal struct {
	*ledger.Ledger
	dead *atomic.Bool
}

func (m mortal) Advance(s feed.Step) error {
	if m.dead.Load() {
		return nil
	}
	return m.Ledger.Advance(s)
}

func (m mortal) Pass(s feed.Step) error {
	if m.dead.Load() {
		return nil
	}
	return m.Ledger.Pass(s)
}

// raise writes one alert to the log and returns it.
func (r *rig) raise(change func(*alert.Alert)) alert.Alert {
	r.Helper()
	r.n++
	start := time.Now().UTC().Truncate(time.Millisecond)
	a := alert.Alert{
		ID: fmt.Sprintf("a%d", r.n), Rule: "pm25-high", State: alert.Active, Severity: alert.Warning, Start: start, Onset: start, Updated: start,
		Site: "lac-duong", Edge: "e1", Device: "air-01", Point: "pm2_5", Quantity: "pm2_5", Unit: "µg/m³", Value: 60, Peak: 60, Limit: 50,
		Labels: map[string]string{"room": "north"}, Message: telemetry.Text{VI: "PM2.5 vượt ngưỡng", EN: "PM2.5 above the limit"},
	}
	if change != nil {
		change(&a)
	}
	return r.step(alert.Raised, a)
}

// step writes a transition of an alert.
func (r *rig) step(kind alert.Kind, a alert.Alert) alert.Alert {
	r.Helper()
	at := time.Now().UTC()
	if kind == alert.Ended {
		a.State, a.End = alert.Cleared, &at
	}
	e, err := r.ledger.Raise(alert.Transition{Kind: kind, Time: at, Alert: a})
	if err != nil {
		r.Fatal(err)
	}
	return e.Alert
}

func (r *rig) eventually(what string, cond func() bool) {
	r.Helper()
	testutil.Eventually(r.T, patience, what, cond)
}
