package edge

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/wire"
)

// reload asks a running agent to take its configuration anew.
type reload struct {
	plan  *Plan
	fresh string        // device that is other hardware; plan is nil then
	done  chan Reloaded // of capacity 1
}

// Reloaded is what came of it.
type Reloaded struct {
	// Kept, Started and Stopped are connections. One whose settings or devices
	// changed is in both of the last.
	Kept    []string `json:"kept"`
	Started []string `json:"started"`
	Stopped []string `json:"stopped"`
	// Restart names the settings that changed and hold only once the agent is
	// started anew.
	Restart []string `json:"restart"`
	err     error
}

// errNotReloaded is in the error of a reload that changed nothing.
var errNotReloaded = errors.New("not reloaded")

// Reload reads the configuration anew and changes over to it: connections whose
// settings and devices are the same go on undisturbed, the others are stopped and
// started. A faulty configuration changes nothing; the error has every fault
// ([strictyaml.Errors]). It waits for Run, and fails once Run has ended.
func (a *Agent) Reload(ctx context.Context) (Reloaded, error) {
	if a.plan.reload == nil {
		return Reloaded{}, fmt.Errorf("%w: this agent has no configuration file", errNotReloaded)
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	plan, err := a.plan.reload()
	if err == nil {
		err = plan.unfit
	}
	if err != nil {
		a.logger.Error("configuration not reloaded, the agent goes on as before", "err", err)
		return Reloaded{}, err
	}
	out, err := a.changeTo(ctx, plan)
	if a.fleet != nil && err == nil {
		signalled(a.fleet.reloaded)
	}
	return out, err
}

// changeTo lets Run change over to another plan. The caller holds changing.
func (a *Agent) changeTo(ctx context.Context, plan *Plan) (Reloaded, error) {
	r := reload{plan: plan, done: make(chan Reloaded, 1)}
	select {
	case a.reloads <- r:
	case <-ctx.Done():
		return Reloaded{}, ctx.Err()
	}
	select {
	case out := <-r.done:
		return out, out.err
	case <-ctx.Done():
		return Reloaded{}, ctx.Err()
	}
}

// fleetParts are what the hub's configurations are followed with.
func (a *Agent) fleetParts() fleetParts {
	return fleetParts{
		store: fleetFolder(a.plan.Config.DataDir), within: a.plan.Config.Hub.RollbackAfter, changing: &a.changing,
		running: a.now.Load, with: a.plan.with, own: a.plan.ownPart, id: randomID,
		change: func(ctx context.Context, plan *Plan) error {
			_, err := a.changeTo(ctx, plan)
			return err
		},
		say: func(payload []byte) { a.uplink.Say(wire.TopicConfigState, payload) },
		now: func() int64 {
			if a.clock != nil {
				if t := a.clock.Now(); t.Trusted {
					return t.Ms
				}
			}
			return 0
		},
	}
}

// follow answers reloads until ctx ends.
func (a *Agent) follow(ctx context.Context, drivers *driverSet) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-a.reloads:
			a.notify(daemon.SdNotifyReloading)
			if r.plan == nil {
				r.plan = a.now.Load()
			}
			out := a.changeOver(ctx, r.plan, r.fresh, drivers)
			a.notify(daemon.SdNotifyReady)
			r.done <- out
		}
	}
}

// changeOver replaces the plan. Between the old layout and the new one lies a
// frame, so no reading is lost or gets another's name. The connection of a device
// that is fresh begins anew, even when nothing of it changed.
func (a *Agent) changeOver(ctx context.Context, next *Plan, fresh string, drivers *driverSet) (out Reloaded) {
	old := a.now.Load()
	out.Restart = needRestart(&a.plan.Config, &next.Config)
	keep := map[string]bool{}
	for i := range next.Connections {
		was := old.connection(next.Connections[i].ID)
		if was != nil && !was.has(fresh) && sameConnection(old, next, was, &next.Connections[i]) {
			next.adopt(&next.Connections[i], was)
			keep[was.ID] = true
			out.Kept = append(out.Kept, was.ID)
		}
	}
	for i := range old.Connections {
		if id := old.Connections[i].ID; !keep[id] && drivers.stop(id) {
			a.forget(id)
			out.Stopped = append(out.Stopped, id)
		}
	}
	if fresh != "" {
		a.totals.forget(fresh) // its counters are others
	}
	ch := change{layout: newLayout(next), done: make(chan error, 1)}
	ch.layout.equip(a.hardware)
	select {
	case a.recorder.changes <- ch:
	case <-ctx.Done():
		out.err = ctx.Err()
		return out
	}
	if err := <-ch.done; err != nil {
		// Nothing was changed but what was stopped, which goes on as it was.
		out.err = fmt.Errorf("%w: %w", errNotReloaded, err)
		next = old
	}
	a.now.Store(next)
	for i := range next.Connections {
		cn := &next.Connections[i]
		if keep[cn.ID] || len(cn.Devices) == 0 {
			continue
		}
		if err := a.open(cn); err != nil {
			a.logger.Error("connection not started", "connection", cn.ID, "err", err)
			out.err = errors.Join(out.err, err)
			continue
		}
		drivers.start(cn.ID, a.drivers[cn.ID])
		out.Started = append(out.Started, cn.ID)
	}
	what := "configuration reloaded"
	if fresh != "" {
		what = "connection of the replaced device began anew"
	}
	a.logger.Info(what, "devices", len(next.Devices), "kept", out.Kept, "started", out.Started, "stopped", out.Stopped)
	if len(out.Restart) > 0 {
		a.logger.Warn("settings changed that hold only once the agent is started anew", "settings", strings.Join(out.Restart, ", "))
	}
	for _, w := range next.Warnings {
		a.logger.Warn("configuration", "warning", w.Error())
	}
	return out
}

// open makes the driver of a connection.
func (a *Agent) open(cn *Connection) error {
	if len(cn.Devices) == 0 {
		return nil
	}
	d, err := cn.Source.New(cn.ID, cn.Devices, driver.Env{
		Sink: a.collect, Logger: a.logger.With("connection", cn.ID),
		Metrics: a.metrics, // the drivers label theirs with the connection
		Totals:  a.totals, Receipts: a.receipts,
	})
	if err != nil {
		return fmt.Errorf("connection %s: %w", cn.ID, err)
	}
	a.driversMu.Lock()
	defer a.driversMu.Unlock()
	a.drivers[cn.ID] = d
	return nil
}

// forget takes away the driver of a connection that was stopped.
func (a *Agent) forget(id string) {
	a.driversMu.Lock()
	defer a.driversMu.Unlock()
	delete(a.drivers, id)
}

func (c *Connection) has(device string) bool {
	return slices.ContainsFunc(c.Devices, func(d *driver.Device) bool { return d.ID == device })
}

func (p *Plan) connection(id string) *Connection {
	if i := slices.IndexFunc(p.Connections, func(c Connection) bool { return c.ID == id }); i >= 0 {
		return &p.Connections[i]
	}
	return nil
}

// sameConnection reports whether a connection, its devices and their filters are
// as they were.
func sameConnection(old, next *Plan, was, is *Connection) bool {
	return reflect.DeepEqual(was.Source, is.Source) && slices.EqualFunc(was.Devices, is.Devices, func(a, b *driver.Device) bool {
		return reflect.DeepEqual(a, b) && reflect.DeepEqual(old.Filters[a], next.Filters[b])
	})
}

// adopt puts the devices of a connection that goes on in the place of their equals.
func (p *Plan) adopt(is, was *Connection) {
	for i, d := range is.Devices {
		mine := was.Devices[i]
		p.Devices[slices.Index(p.Devices, d)] = mine
		if f, ok := p.Filters[d]; ok {
			delete(p.Filters, d)
			p.Filters[mine] = f
		}
	}
	is.Devices, is.Source = was.Devices, was.Source
}

// needRestart names the sections that differ and cannot change under a running agent.
func needRestart(was, is *Config) (sections []string) {
	for _, s := range []struct {
		name string
		a, b any
	}{
		{"edge", was.Edge, is.Edge},
		{"data_dir", was.DataDir, is.DataDir},
		{"hub", was.Hub, is.Hub},
		{"buffer", was.Buffer, is.Buffer},
		{"clock", was.Clock, is.Clock},
		{"http", was.HTTP, is.HTTP},
		{"log", was.Log, is.Log},
	} {
		if !reflect.DeepEqual(s.a, s.b) {
			sections = append(sections, s.name)
		}
	}
	return sections
}

// driverSet runs drivers, each until it is stopped or ctx ends. It belongs to the
// goroutine of Run.
type driverSet struct {
	ctx     context.Context //nolint:containedctx // of Run, which made the set and waits for it
	fail    context.CancelCauseFunc
	running map[string]*runningDriver
	all     sync.WaitGroup
}

type runningDriver struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func newDriverSet(ctx context.Context, fail context.CancelCauseFunc) *driverSet {
	return &driverSet{ctx: ctx, fail: fail, running: map[string]*runningDriver{}}
}

func (s *driverSet) start(id string, d driver.Driver) {
	ctx, cancel := context.WithCancel(s.ctx)
	r := &runningDriver{cancel: cancel, done: make(chan struct{})}
	s.running[id] = r
	s.all.Go(func() {
		defer close(r.done)
		if err := d.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.fail(fmt.Errorf("connection %s: %w", id, err))
		}
	})
}

// stop ends a driver and waits for it. It reports whether it ran.
func (s *driverSet) stop(id string) bool {
	r := s.running[id]
	if r == nil {
		return false
	}
	r.cancel()
	<-r.done
	delete(s.running, id)
	return true
}

// wait returns once all have ended, after ctx did.
func (s *driverSet) wait() {
	s.all.Wait()
	for _, r := range s.running {
		r.cancel()
	}
}
