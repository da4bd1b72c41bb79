package deliver

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Log is the alert log that is delivered. Safe for concurrent use.
type Log interface {
	feed.Log
	feed.Past
	// Alert returns the alert as it is now.
	Alert(id string) (alert.Alert, bool, error)
	// ActiveAlerts returns all that are active, in any order.
	ActiveAlerts() ([]alert.Alert, error)
}

// Book keeps what must outlive the process. Safe for concurrent use.
type Book interface {
	// Consumer returns what was written last under the name.
	Consumer(name string) (feed.Consumer, bool, error)
	// Advance writes a step in one transaction and returns once it is on disk; Pass
	// does not wait, and a crash may take it.
	Advance(feed.Step) error
	Pass(feed.Step) error
	// PutToken keeps a secret and returns once it is on disk; Token returns it, nil
	// when there is none.
	PutToken(name string, value []byte) error
	Token(name string) ([]byte, error)
}

// Site is what is told of a place.
type Site struct {
	Name     telemetry.Text
	Province string
	Lat, Lon float64
	Groups   []string
}

// Parts are what deliveries need of the hub.
type Parts struct {
	Log  Log
	Book Book
	// Site returns what is known of a site; ok is false for an unknown one.
	Site func(id string) (Site, bool)
	// Bus returns where the hub's own bus is and who may publish alerts there; secure
	// is nil for plain text.
	Bus    func() (addr, user, password string, secure *tls.Config, err error)
	Now    func() time.Time // the hub's clock; time.Now when nil
	Logger *slog.Logger

	least time.Duration // the first pause after a failure; leastPause when zero
}

// Groups returns the groups of a site.
func (p *Parts) Groups(site string) []string {
	s, _ := p.Site(site)
	return s.Groups
}

// Deliveries are all targets of a hub.
type Deliveries struct {
	targets []*target
	people  *people
}

// Open makes the targets of a configuration that [Config.Check] has found no
// fault with. It reads the secrets. Nothing is delivered before Run.
func Open(cfg Config, parts Parts) (*Deliveries, error) {
	if parts.Now == nil {
		parts.Now = time.Now
	}
	d := &Deliveries{}
	p := &parts
	source := or(cfg.PublicURL, feed.DefaultSource)
	add := func(name, kind, where string, choice feed.Choice, skipAfter time.Duration, from string, s sink) {
		d.targets = append(d.targets, &target{
			name: name, kind: kind, where: where, choice: choice, skipAfter: skipAfter, oldest: from == "oldest", sink: s, parts: p,
			log: parts.Logger, wake: make(chan struct{}, 1), status: feed.Delivery{Name: name, Kind: kind, Target: where, State: feed.Stopped},
		})
	}
	for i := range cfg.Webhooks {
		c := &cfg.Webhooks[i]
		s, err := newWebhook(c, source, p)
		if err != nil {
			return nil, fmt.Errorf("deliver: webhook %s: %w", c.Name, err)
		}
		add(c.Name, "webhook", withoutSecrets(c.URL), c.Choose, c.SkipAfter, c.From, s)
	}
	for i := range cfg.Alertmanagers {
		c := &cfg.Alertmanagers[i]
		s, err := newAlertmanager(c, cfg.PublicURL, p)
		if err != nil {
			return nil, fmt.Errorf("deliver: alertmanager %s: %w", c.Name, err)
		}
		add(c.Name, "alertmanager", withoutSecrets(c.URL), c.Choose, c.SkipAfter, "", s)
	}
	for i := range cfg.MQTT {
		c := &cfg.MQTT[i]
		s, err := newMQTT(c, source, p)
		if err != nil {
			return nil, fmt.Errorf("deliver: mqtt %s: %w", c.Name, err)
		}
		add(c.Name, "mqtt", withoutSecrets(c.Broker)+" "+s.topic, c.Choose, 0, c.From, s)
	}
	var err error
	if d.people, err = newPeople(&cfg, p); err != nil {
		return nil, fmt.Errorf("deliver: people: %w", err)
	}
	for _, r := range d.people.routes {
		add(r.cfg.Name, "route", r.describe(), r.cfg.Choose, 0, "", r)
	}
	if h := d.people.heartbeat; h != nil {
		add(heartbeatName, "heartbeat", h.describe(), feed.Choice{Rule: []string{"\x00"}}, 0, "", h)
	}
	return d, nil
}

// Run delivers until ctx ends. It fails when the ledger does.
func (d *Deliveries) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, t := range d.targets {
		wg.Go(func() {
			if err := t.run(ctx); err != nil {
				cancel(fmt.Errorf("delivery %s: %w", t.name, err))
			}
			if c, ok := t.sink.(interface{ close() }); ok {
				c.close()
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
	if err := context.Cause(ctx); err != nil && err != context.Canceled { //nolint:errorlint // ours comes as it was given
		return err
	}
	return nil
}

// Deliveries returns how it stands with every target, in the order of the file.
func (d *Deliveries) Deliveries() []feed.Delivery {
	out := make([]feed.Delivery, len(d.targets))
	for i, t := range d.targets {
		out[i] = t.now()
	}
	return out
}

func (d *Deliveries) find(name string) (*target, error) {
	for _, t := range d.targets {
		if t.name == name {
			return t, nil
		}
	}
	return nil, &alert.Refusal{Reason: alert.NotFound, What: fmt.Sprintf("there is no target %.80q", name), Do: "they are listed at /api/v1/deliveries"}
}

// Skip puts the entry that the target is held at among the dead letters, by order
// of a person; sequence must be that entry's, so that nobody skips what nobody has
// seen. It returns once that is on disk. Refusals are [*alert.Refusal].
func (d *Deliveries) Skip(ctx context.Context, name string, sequence uint64, who, why string) error {
	t, err := d.find(name)
	if err == nil {
		err = (&alert.Act{Who: who, Why: why}).Check(alert.Acknowledged, t.parts.Now())
	}
	if err != nil {
		return err
	}
	if s := t.now(); s.Held == nil || s.Held.Sequence != sequence {
		return &alert.Refusal{Reason: alert.NotNow, What: fmt.Sprintf("%s is not held at entry %d", name, sequence), Do: "look at /api/v1/deliveries again"}
	}
	return t.ask(ctx, &order{skip: true, sequence: sequence, who: who, why: why})
}

// Retry lets a target that waits try again at once.
func (d *Deliveries) Retry(ctx context.Context, name, who string) error {
	t, err := d.find(name)
	if err == nil {
		err = (&alert.Act{Who: who}).Check(alert.Acknowledged, t.parts.Now())
	}
	if err != nil {
		return err
	}
	return t.ask(ctx, &order{who: who})
}

// Probe sends a test to the target, beside its position, and says in words what
// came of it. A failure of the target is the text of the error.
func (d *Deliveries) Probe(ctx context.Context, name, who string) (string, error) {
	t, err := d.find(name)
	if err == nil {
		err = (&alert.Act{Who: who}).Check(alert.Acknowledged, t.parts.Now())
	}
	if err != nil {
		return "", err
	}
	p, ok := t.sink.(prober)
	if !ok {
		return "", &alert.Refusal{Reason: alert.NotNow, What: name + " cannot be tested", Do: ""}
	}
	return p.probe(ctx, who)
}
