package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/driver/sim"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/profile"
)

// How often the simulated values of registers move, and edge.yaml is looked at.
const (
	moveEvery  = time.Second
	lookEvery  = time.Second
	soonest    = 100 * time.Millisecond
	mqttPaceBy = 3               // messages within the longest silence that is expected
	scanPace   = 2 * time.Second // of a device that scan is to hear
)

func simulateCommand() settings.Command[*Plan] {
	var silent, held []string
	return settings.Command[*Plan]{
		Use: "simulate", Short: "serve the configured devices from their profiles, so that edge.yaml can be tried with no hardware",
		Long: `Serves every configured device on this machine, with the registers, messages or
streams that its profile knows of and values that move as real ones may. It makes
listeners and pseudo-terminals of its own and touches no real device, broker or
hub. In another terminal every command works with --simulated:

  langbiang-edge run --simulated       an agent with a data folder of its own
  langbiang-edge read --simulated      and read, status, why, plan, trace, write

Changes of edge.yaml are taken up at once. Ctrl-C ends it.`,
		Flags: func(f *pflag.FlagSet) {
			f.StringSliceVar(&silent, "silent", nil, "devices that do not answer, to see what why says of them")
			f.StringArrayVar(&held, "hold", nil, "[DEVICE.]POINT=VALUE in the quantity's unit: it stands still there; may be given several times")
		},
		Commands: []settings.Command[*Plan]{standInCommand()},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			if plan.Simulated {
				return settings.Usagef("simulate serves what the other commands read with --simulated; call it without")
			}
			for _, id := range silent {
				if err := plan.knownDevice(id); err != nil {
					return err
				}
			}
			if _, err := openSimulation(plan.Config.DataDir); !errors.Is(err, errNoSimulation) {
				return errors.Join(errors.New("this configuration is simulated already, in another terminal"), err)
			}
			holds, err := parseHolds(held)
			if err != nil {
				return err
			}
			s := &simulator{call: c, silent: silent, held: holds, lines: map[string]*simulated{}}
			return s.run(ctx, plan)
		},
	}
}

// simulator serves a configuration.
type simulator struct {
	call   settings.Call
	silent []string
	held   []hold
	at     string                // where the one connection is served; empty: a free address for each
	lines  map[string]*simulated // by connection
	file   *os.File              // of the simulation; nil: not served yet
	folder string                // of serial ports
}

// simulated is what stands in the place of a connection.
type simulated struct {
	kind    string // what it can serve; another kind needs another one
	at      string
	field   *sim.Field
	broker  *sim.Broker
	camera  *sim.Camera
	stop    func()
	devices []*simulatedDevice
}

// simulatedDevice is one device with its model.
type simulatedDevice struct {
	*driver.Device
	model *sim.Model
	next  time.Time // when it publishes again
}

func (s *simulator) run(ctx context.Context, plan *Plan) (err error) {
	// A path short enough to be written into a table, gone with the simulation.
	if s.folder, err = os.MkdirTemp("", "langbiang-simulate-"); err != nil {
		return err
	}
	defer func() {
		for _, l := range s.lines {
			l.stop()
		}
		if s.file != nil {
			_ = os.Remove(s.file.Name())
			_ = os.Remove(filepath.Join(simulationFolder(plan.Config.DataDir), simulationName))
			_ = s.file.Close() // nothing more is written to it
		}
		_ = os.RemoveAll(s.folder)
	}()
	if err := errors.Join(s.take(plan), s.missed()); err != nil {
		return err
	}
	if err := s.print(plan); err != nil {
		return err
	}
	seen := stampOf(s.call.Config)
	tick := time.NewTicker(soonest)
	defer tick.Stop()
	var moved, looked time.Time
	for {
		now := time.Now()
		if now.Sub(moved) >= moveEvery {
			moved = now
			s.move(now)
		}
		s.publish(now)
		if now.Sub(looked) >= lookEvery {
			looked = now
			if st := stampOf(s.call.Config); st != seen {
				seen = st
				if err := s.again(plan); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// stamp tells a changed file.
type stamp struct {
	at   time.Time
	size int64
}

func stampOf(path string) stamp {
	st, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{st.ModTime(), st.Size()}
}

// again takes up a changed edge.yaml; with a fault in it everything stays.
func (s *simulator) again(old *Plan) error {
	plan, err := old.reload()
	if err != nil {
		_, err = fmt.Fprintf(s.call.Stderr, "%s has changed and is faulty; the simulation stays as it was:\n%v\n", s.call.Config, err)
		return err
	}
	if plan.Config.DataDir != old.Config.DataDir {
		return errors.New("data_dir has changed: start the simulation anew")
	}
	if err := s.take(plan); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.call.Stdout, "%s has changed: %s of %s now; a running agent takes it with: langbiang-edge reload --simulated\n",
		s.call.Config, settings.Count(len(plan.Devices), "device"), settings.Count(len(plan.Connections), "connection"))
	return err
}

// take makes the simulation that of the plan. Connections that stay keep their
// address.
func (s *simulator) take(plan *Plan) error {
	now := time.Now()
	where := simulation{Connections: map[string]string{}}
	for _, c := range plan.Connections {
		l := s.lines[c.ID]
		if l != nil && l.kind != kindOf(c.Source) {
			l.stop()
			l = nil
		}
		if l == nil {
			var err error
			if l, err = s.serve(&c); err != nil {
				return fmt.Errorf("connection %s: %w", c.ID, err)
			}
			s.lines[c.ID] = l
		}
		where.Connections[c.ID] = l.at
		if err := s.fill(l, plan, &c, now); err != nil {
			return err
		}
	}
	for id, l := range s.lines {
		if where.Connections[id] == "" {
			l.stop()
			delete(s.lines, id)
		}
	}
	f, err := where.write(plan.Config.DataDir)
	if err != nil {
		return err
	}
	if s.file != nil {
		_ = s.file.Close() // of the version before
	}
	s.file = f
	return nil
}

// kindOf is what a connection needs to be simulated by.
func kindOf(src driver.Source) string {
	if m, ok := src.(*modbus.Config); ok {
		return m.Transport
	}
	return src.Kind()
}

// serve begins to serve a connection.
func (s *simulator) serve(c *Connection) (*simulated, error) {
	l := &simulated{kind: kindOf(c.Source)}
	var server *sim.Server
	switch l.kind {
	case "mqtt":
		l.broker = &sim.Broker{}
		server = sim.Loopback(l.broker.Serve)
	case "camera":
		l.camera = &sim.Camera{}
		server = sim.Loopback(l.camera.Serve)
	default:
		l.field = &sim.Field{}
		l.field.Forgetful()
		serve := func(ctx context.Context, rw io.ReadWriter) { l.field.ServeRTU(ctx, rw, false, 0) }
		switch l.kind {
		case modbus.TransportTCP:
			serve = l.field.ServeTCP
		case modbus.TransportASCII, modbus.TransportASCIIOverTCP:
			serve = l.field.ServeASCII
		}
		if l.kind == modbus.TransportRTU || l.kind == modbus.TransportASCII {
			port := &sim.Port{Path: filepath.Join(s.folder, c.ID), Serve: serve}
			l.at, l.stop = port.Path, port.Unplug
			return l, port.Plug()
		}
		server = sim.Streams(serve)
	}
	if s.at != "" {
		server.Address = s.at
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	l.at, l.stop = server.Address, server.Stop
	return l, nil
}

// fill gives a connection its devices. Those that it had begin anew.
func (s *simulator) fill(l *simulated, plan *Plan, c *Connection, now time.Time) error {
	if l.field != nil {
		l.field.Clear()
	}
	l.devices = nil
	var mute []string
	for _, d := range c.Devices {
		one := &simulatedDevice{Device: d, model: sim.NewModel(d, plan.states(d), plan.Quantities, now)}
		l.devices = append(l.devices, one)
		if err := s.hold(one); err != nil {
			return err
		}
		silent := slices.Contains(s.silent, d.ID)
		if silent {
			mute = append(mute, d.ID)
		}
		if l.field != nil && silent {
			l.field.Break(d.Unit, sim.Fault{Drop: true})
		}
	}
	if l.camera != nil {
		l.camera.Silence(mute)
	}
	s.moveLine(l, now)
	return nil
}

// states are the fixtures of a device's profile, as its revision reads them.
func (p *Plan) states(d *driver.Device) (states []sim.State) {
	if d.Profile == "" || p.library == nil {
		return nil
	}
	prof, err := p.library.Get(d.Profile)
	if err != nil {
		return nil
	}
	file, data, err := p.library.Fixtures(d.Profile)
	if err != nil {
		return nil // a profile of one's own need not have any
	}
	fixtures, err := profile.ParseFixtures(file, data)
	if err != nil {
		return nil
	}
	for i := range fixtures {
		f := &fixtures[i]
		revision := f.Revision
		for k := range prof.Firmware {
			if prof.Firmware[k].ID == f.Takes {
				revision = f.Takes
			}
		}
		points, _, with, err := prof.Resolve(revision, f.With)
		if err != nil {
			continue
		}
		states = append(states, sim.State{Fixture: f, Points: points, Identify: prof.Identification(with), With: with})
	}
	return states
}

func (s *simulator) move(now time.Time) {
	for _, l := range s.lines {
		s.moveLine(l, now)
	}
}

func (s *simulator) moveLine(l *simulated, now time.Time) {
	if l.field == nil {
		return
	}
	for _, d := range l.devices {
		l.field.Load(d.Unit, d.model.Registers(now))
	}
}

// publish lets the devices of brokers say what is due.
func (s *simulator) publish(now time.Time) {
	for _, l := range s.lines {
		for _, d := range l.devices {
			if l.broker == nil || now.Before(d.next) || slices.Contains(s.silent, d.ID) {
				continue
			}
			every := d.Interval
			if e := d.MQTT.ExpectEvery; e > 0 {
				every = min(every, e/mqttPaceBy)
			}
			if s.at != "" {
				every = min(every, scanPace)
			}
			d.next = now.Add(max(every, soonest))
			for _, m := range d.model.Messages(now) {
				l.broker.Publish(m.Topic, m.Payload, m.Retain)
			}
		}
	}
}

// print says what is served where, and what to do now.
func (s *simulator) print(plan *Plan) error {
	var b strings.Builder
	b.WriteString("Simulated devices: no real device, broker or hub is touched, and no value is real.\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "CONNECTION\tINSTEAD OF\tSIMULATED AT\tDEVICES") // a tabwriter fails in Flush
	for _, c := range plan.Connections {
		instead := addressOf(c.Source)
		if _, ok := c.Source.(*camera.Config); ok {
			instead = "cameras"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%d\n", c.ID, instead, s.lines[c.ID].at, len(c.Devices))
	}
	_, _ = fmt.Fprintln(t, "\nDEVICE\tCONNECTION\tPROFILE\tBEGINS AS")
	for _, c := range plan.Connections {
		for _, d := range s.lines[c.ID].devices {
			begins := d.model.From
			switch {
			case slices.Contains(s.silent, d.ID):
				begins = "silent, as you asked"
			case begins == "" && d.Profile == "":
				begins = "made-up values of its points"
			case begins == "":
				begins = "made-up values: its profile has no fixtures"
			}
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", d.ID, c.ID, d.Profile, begins)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for id, err := range plan.Disabled {
		fmt.Fprintf(&b, "%s is disabled: %s\n", id, firstLine(err.Error()))
	}
	if s.at != "" {
		b.WriteString(s.found(plan))
		_, err := io.WriteString(s.call.Stdout, b.String())
		return err
	}
	fmt.Fprintf(&b, "\nIn another terminal:\n  langbiang-edge read --simulated --config %s\n  langbiang-edge run --simulated --config %s\nChanges of the file are taken up at once. Ctrl-C ends it.\n", s.call.Config, s.call.Config)
	_, err := io.WriteString(s.call.Stdout, b.String())
	return err
}
