package hub

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/langbiang/langbiang/pkg/alert/deliver"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// reload takes up what SIGHUP is for: the rule files, and the section deliver of
// hub.yaml. A fault changes nothing of its part. The log says what came of it.
func (h *Hub) reload() {
	_, _ = h.reloadRules() // it logs what came of it
	if err := h.reloadDeliveries(); err != nil {
		var faults strictyaml.Errors
		if !errors.As(err, &faults) {
			h.logger.Error("deliveries not reloaded, those in force stay", "err", err)
		}
		for _, f := range faults {
			h.logger.Error("deliveries not reloaded, those in force stay", "fault", f.Error())
		}
	}
}

// carriers are the deliveries in force, which a reload replaces.
type carriers struct {
	now  atomic.Pointer[deliver.Deliveries]
	next chan *deliver.Deliveries
	// flush returns once the places of all targets are on disk: they are written without
	// waiting, and whoever comes after reads them.
	flush func() error
}

// Run delivers until ctx ends. It fails when the ledger does.
func (c *carriers) Run(ctx context.Context) error {
	for {
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- c.now.Load().Run(running) }()
		select {
		case err := <-ended:
			stop()
			return err
		case next := <-c.next:
			stop()
			if err := errors.Join(<-ended, c.flush()); err != nil {
				return err
			}
			c.now.Store(next)
		}
	}
}

// all is how it stands with the targets in force.
func (c *carriers) all() []feed.Delivery { return c.now.Load().Deliveries() }

// reloadDeliveries reads hub.yaml anew and changes over to its deliveries when they say
// something else. Targets keep their places in the alert log by their names.
func (h *Hub) reloadDeliveries() error {
	if h.plan.reload == nil {
		return nil
	}
	next, err := h.plan.reload()
	if err != nil {
		return err
	}
	if was := &h.plan.Config; !reflect.DeepEqual(h.delivered, next.Config.Deliver) {
		made, err := deliver.Open(next.Config.Deliver, h.deliverParts())
		if err != nil {
			return err
		}
		select {
		case h.deliveries.next <- made:
		case <-h.streams:
			return errors.New("the hub stops")
		}
		h.delivered = next.Config.Deliver
		h.logger.Info("deliveries changed", "targets", len(made.Deliveries()))
		if was.Deliver.PublicURL != next.Config.Deliver.PublicURL || was.Deliver.CAP != next.Config.Deliver.CAP {
			h.logger.Warn("public_url and cap hold in links and documents of the API once the hub is started anew")
		}
	}
	if changed := needRestart(h.plan, next); len(changed) > 0 {
		h.logger.Warn("settings changed that hold only once the hub is started anew", "settings", strings.Join(changed, ", "))
	}
	return nil
}

// needRestart names the sections of hub.yaml, and the files named there, that a running
// hub does not take up.
func needRestart(was, is *Plan) (sections []string) {
	a, b := reflect.ValueOf(was.Config), reflect.ValueOf(is.Config)
	for i := range a.NumField() {
		name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		if name != "deliver" && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			sections = append(sections, name)
		}
	}
	if !reflect.DeepEqual(was.fileSites, is.fileSites) {
		sections = append(sections, fmt.Sprintf("the file %s", is.Config.Sites))
	}
	return sections
}
