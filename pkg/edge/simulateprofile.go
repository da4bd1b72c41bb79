package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/driver/sim"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
)

// hold is a point that stands still at a value, of one device or of all that have it.
type hold struct {
	device, point string
	value         float64
	found         bool
}

// parseHolds reads [DEVICE.]POINT=VALUE.
func parseHolds(texts []string) (holds []hold, err error) {
	for _, text := range texts {
		name, number, ok := strings.Cut(text, "=")
		value, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil || name == "" {
			return nil, settings.Usagef("--hold %q: write POINT=VALUE or DEVICE.POINT=VALUE, wind_speed=26 for example", text)
		}
		h := hold{point: name, value: value}
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			h.device, h.point = name[:i], name[i+1:]
		}
		holds = append(holds, h)
	}
	return holds, nil
}

// hold lets the points of a device stand still that are to.
func (s *simulator) hold(d *simulatedDevice) error {
	for i := range s.held {
		h := &s.held[i]
		if h.device != "" && h.device != d.ID {
			continue
		}
		err := d.model.Hold(h.point, h.value)
		if errors.Is(err, sim.ErrNoPoint) && h.device == "" {
			continue
		}
		if err != nil {
			return fmt.Errorf("--hold: %w", err)
		}
		h.found = true
	}
	return nil
}

// missed names what was to be held and is nowhere.
func (s *simulator) missed() error {
	for _, h := range s.held {
		if !h.found {
			return settings.Usagef("--hold %s: no device has this point", strings.TrimPrefix(h.device+"."+h.point, "."))
		}
	}
	return nil
}

// standIn is the command simulate profile: one device that stands at an address as the
// real one would, so that scan finds it and the agent reads it by its usual name.
type standIn struct {
	shelf
	at, revision string
	unit         int
	with         map[string]string
	held         []string
}

func standInCommand() settings.Command[*Plan] {
	s := &standIn{}
	return settings.Command[*Plan]{
		Use: "profile VENDOR/MODEL", Short: "serve one device of a profile at an address, as if it stood there, until Ctrl-C",
		Long: `Serves one device of a profile over Modbus TCP, or publishes as one at a broker of
its own, at an address where scan finds it and the agent reads it as it would the
real one. It needs no edge.yaml.

  langbiang-edge simulate profile ecowitt/ws90 --at 127.0.0.1:5020
  langbiang-edge scan --modbus tcp:127.0.0.1:5020 --units 144 --add

Values move within what is plausible; --hold wind_speed=26 keeps one where a rule
is to fire. No value is real.`,
		Args: cobra.ExactArgs(1),
		Flags: func(f *pflag.FlagSet) {
			s.flags(f)
			f.StringVar(&s.at, "at", "127.0.0.1:5020", "address to serve at")
			f.IntVar(&s.unit, "unit", 0, "Modbus unit id; that of the profile when not said")
			f.StringVar(&s.revision, "revision", "", "revision of the profile; the one of its first fixture when not said")
			f.StringToStringVar(&s.with, "with", nil, "parameters of the profile, name=hall for example")
			f.StringArrayVar(&s.held, "hold", nil, "POINT=VALUE in the quantity's unit: it stands still there; may be given several times")
		},
		Free: func(ctx context.Context, c settings.Call) error {
			s.call = c
			return s.run(ctx, c.Args[0])
		},
	}
}

func (s *standIn) run(ctx context.Context, id string) (err error) {
	held, err := parseHolds(s.held)
	if err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(s.at); err != nil {
		return settings.Usagef("--at %q: write HOST:PORT, 127.0.0.1:5020 for example", s.at)
	}
	if err := s.open(); err != nil {
		return err
	}
	p, err := s.lib.Get(id)
	if err != nil {
		return fmt.Errorf("%w (langbiang-edge profiles list shows those that there are)", err)
	}
	if p.Protocol != profile.ProtocolModbus && p.Protocol != profile.ProtocolMQTT {
		return settings.Usagef("%s is no device of Modbus or MQTT", id)
	}
	dir, err := os.MkdirTemp("", "langbiang-simulate-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(path, []byte(s.yaml(p)), 0o600); err != nil {
		return err
	}
	plan, err := Load(path, nil)
	var faults strictyaml.Errors
	if errors.As(err, &faults) {
		return settings.Usagef("%s cannot be served like this: %s %s; see --unit, --revision and --with", id, strings.TrimPrefix(faults[0].Path, "devices[0]."), faults[0].Msg)
	}
	if err != nil {
		return err
	}
	for _, err := range plan.Disabled {
		return err
	}
	s.call.Config = path
	sr := &simulator{call: s.call, at: s.at, held: held, lines: map[string]*simulated{}}
	return sr.run(ctx, plan)
}

// standInName is the device and its connection.
const standInName = "simulated"

// yaml is a configuration with that one device.
func (s *standIn) yaml(p *profile.Profile) string {
	var b strings.Builder
	connection := fmt.Sprintf("modbus: {transport: tcp, address: %q}", s.at)
	if p.Protocol == profile.ProtocolMQTT {
		connection = fmt.Sprintf("mqtt: {url: %q}", "tcp://"+s.at)
	}
	fmt.Fprintf(&b, "edge: {id: %s}\nhub: {url: \"mqtt://127.0.0.1:1\"}\nprofiles: [", standInName)
	for _, dir := range s.own {
		if full, err := filepath.Abs(dir); err == nil {
			fmt.Fprintf(&b, "%q, ", full)
		}
	}
	fmt.Fprintf(&b, "]\nconnections:\n  - {id: %s, %s}\ndevices:\n  - {id: %s, profile: %q, connection: %s", standInName, connection, standInName, p.ID, standInName)
	if s.unit > 0 {
		fmt.Fprintf(&b, ", unit: %d", s.unit)
	}
	if s.revision != "" {
		fmt.Fprintf(&b, ", revision: %q", s.revision)
	}
	b.WriteString(", with: {")
	for name, value := range s.with {
		fmt.Fprintf(&b, "%q: %q, ", name, value)
	}
	b.WriteString("}}\n")
	return b.String()
}

// found says how the agent of this machine comes to the device.
func (s *simulator) found(plan *Plan) string {
	d := plan.Devices[0]
	how := "--mqtt mqtt://" + s.at
	if d.Unit > 0 {
		how = fmt.Sprintf("--modbus tcp:%s --units %d", s.at, d.Unit)
	}
	return "\nIn another terminal:\n  langbiang-edge scan " + how + "\nCtrl-C ends it.\n"
}
