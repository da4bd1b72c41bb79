package hub

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/cap"
	"github.com/langbiang/langbiang/pkg/alert/deliver"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/ledger"
)

// openDeliveries makes what carries the alert log elsewhere.
func (h *Hub) openDeliveries() error {
	first, err := deliver.Open(h.plan.Config.Deliver, h.deliverParts())
	if err != nil {
		return err
	}
	h.delivered = h.plan.Config.Deliver
	h.deliveries.flush = h.ledger.Flush
	h.deliveries.next = make(chan *deliver.Deliveries)
	h.deliveries.now.Store(first)
	return h.metrics.Register(deliver.NewCollector(h.deliveries.all))
}

func (h *Hub) deliverParts() deliver.Parts {
	return deliver.Parts{
		Log: deliverLog{alertsPart{h.ledger}}, Book: h.ledger, Site: h.deliverSite, Logger: h.logger,
		Bus: func() (addr, user, password string, secure *tls.Config, err error) {
			addr, user, password = h.bus.Speaker()
			if h.plan.mqttTLS() {
				secure, err = h.access.authority.Own()
			}
			return addr, user, password, secure, err
		},
	}
}

func (h *Hub) site(id string) *Site {
	for i := range h.plan.Sites {
		if h.plan.Sites[i].ID == id {
			return &h.plan.Sites[i]
		}
	}
	return nil
}

func (h *Hub) deliverSite(id string) (deliver.Site, bool) {
	s := h.site(id)
	if s == nil {
		return deliver.Site{}, false
	}
	return deliver.Site{Name: s.Name, Province: s.Province, Lat: s.Lat, Lon: s.Lon, Groups: s.Groups}, true
}

// deliverLog adds to the alert log what deliverers ask of it.
type deliverLog struct{ alertsPart }

// ActiveAlerts implements [deliver.Log].
func (l deliverLog) ActiveAlerts() ([]alert.Alert, error) {
	var all []alert.Alert
	for cursor := ""; ; {
		list, next, err := l.Alerts(ledger.Filter{State: alert.Active}, cursor, 1000)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if cursor = next; next == "" {
			return all, nil
		}
	}
}

// deliveriesPart shows deliveries to the API, and notes what people do to them.
type deliveriesPart struct {
	d *carriers
	l *ledger.Ledger
}

// Deliveries implements [api.Deliveries].
func (p deliveriesPart) Deliveries() []feed.Delivery { return p.d.all() }

// Probe implements [api.Deliveries].
func (p deliveriesPart) Probe(ctx context.Context, name, who string) (string, error) {
	return p.d.now.Load().Probe(ctx, name, who)
}

// DeadLetters implements [api.Deliveries].
func (p deliveriesPart) DeadLetters(target string, before uint64, limit int) ([]feed.DeadLetter, error) {
	return p.l.DeadLetters(target, before, limit)
}

// Receipts implements [api.Deliveries].
func (p deliveriesPart) Receipts(match func(*feed.Receipt) bool, before uint64, limit int) ([]feed.Receipt, error) {
	return p.l.Receipts(match, before, limit)
}

// Skip implements [api.Deliveries].
func (p deliveriesPart) Skip(ctx context.Context, name string, sequence uint64, who, why string) error {
	if err := p.d.now.Load().Skip(ctx, name, sequence, who, why); err != nil {
		return err
	}
	return p.l.RecordEvent(ledger.Event{
		Kind: "delivery_skipped", Text: fmt.Sprintf("%s skipped entry %d for the target %s", who, sequence, name), Detail: map[string]string{"target": name, "who": who, "why": why},
	})
}

// Retry implements [api.Deliveries].
func (p deliveriesPart) Retry(ctx context.Context, name, who string) error {
	if err := p.d.now.Load().Retry(ctx, name, who); err != nil {
		return err
	}
	return p.l.RecordEvent(ledger.Event{Kind: "delivery_retried", Text: fmt.Sprintf("%s let the target %s try again at once", who, name), Detail: map[string]string{"target": name, "who": who}})
}

// capPart is how the hub speaks CAP.
func (h *Hub) capPart() *api.CAP {
	c := &h.plan.Config.Deliver.CAP
	url := strings.TrimRight(h.plan.Config.Deliver.PublicURL, "/")
	part := &api.CAP{URL: url, Sender: cap.Sender{ID: c.Sender, Scope: c.Scope, Category: c.Category}}
	if url != "" {
		part.Sender.Web = url + "/#/alerts/"
	}
	part.Place = func(id string) cap.Place {
		p := cap.Place{ID: id, Radius: c.Radius}
		if s := h.site(id); s != nil {
			p.Name, p.Province, p.Lat, p.Lon = s.Name, s.Province, s.Lat, s.Lon
			p.Known = s.Lat != 0 || s.Lon != 0
		}
		return p
	}
	return part
}

// deliver checks the section of that name.
func (c *checker) deliver(plan *Plan) {
	known := deliver.Known{}
	for _, s := range plan.Sites {
		known.Sites = append(known.Sites, s.ID)
		known.Groups = append(known.Groups, s.Groups...)
	}
	if plan.Set != nil {
		for _, r := range plan.Set.Rules() {
			known.Rules = append(known.Rules, r.ID)
		}
	}
	plan.Config.Deliver.Check(known, func(msg, hint string, path ...any) {
		c.fault(msg, hint, append([]any{"deliver"}, path...)...)
	})
}
