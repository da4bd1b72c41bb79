package edge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/driver/mqtt"
	"github.com/langbiang/langbiang/pkg/edge/scan"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// progressEvery is how often a scan says how far it is.
const progressEvery = 2 * time.Second

// scanner is the command scan.
type scanner struct {
	shelf
	modbus, mqtt    string
	cameras         string
	units           string
	timeout, listen time.Duration
	baud, stopBits  int
	parity          string
	add             bool

	plan *Plan // nil when no edge.yaml is needed
}

func scanCommand() settings.Command[*Plan] {
	s := &scanner{}
	return settings.Command[*Plan]{
		Use:   "scan [CONNECTION]",
		Short: "find out which devices are on a line or at a broker, and of which profiles they are",
		Long: `Finds out which devices are on a line or publish to a broker, and of which
profiles they are. It only reads. On a serial line the agent must not be running.

  langbiang-edge scan cabinet                        a connection of edge.yaml
  langbiang-edge scan --modbus tcp:10.0.0.5:502      a Modbus TCP endpoint
  langbiang-edge scan --modbus rtu:/dev/ttyUSB0 --baud 4800
  langbiang-edge scan --mqtt mqtt://127.0.0.1:1883 --listen 2m
  langbiang-edge scan cams --hosts 10.0.0.0/24       cameras, with the user of a connection
  langbiang-edge scan --hosts 10.0.0.20,10.0.0.21    and without one

What was found is written as YAML to standard output; --add puts it into
edge.yaml. Ctrl-C ends the scan and writes what was found until then.`,
		Args: cobra.MaximumNArgs(1),
		Flags: func(f *pflag.FlagSet) {
			s.flags(f)
			f.StringVar(&s.modbus, "modbus", "", "tcp:HOST[:PORT], rtu:DEVICE, ascii:DEVICE, rtu-over-tcp:HOST:PORT or ascii-over-tcp:HOST:PORT")
			f.StringVar(&s.mqtt, "mqtt", "", "address of a broker: mqtt://[USER:PASSWORD@]HOST[:PORT] or mqtts://")
			f.StringVar(&s.cameras, "hosts", "", "look for cameras at these hosts: HOST[:PORT] and networks such as 10.0.0.0/24, at most 1024 addresses")
			f.StringVar(&s.units, "units", "", "Modbus unit ids to ask, 1-20,144 for example; all when not said")
			f.DurationVar(&s.timeout, "timeout", 300*time.Millisecond, "how long to wait for a unit that may not be there")
			f.DurationVar(&s.listen, "listen", 30*time.Second, "how long to listen to a broker")
			f.IntVar(&s.baud, "baud", 0, "with --modbus on a serial line: its speed; 9600 when not said")
			f.StringVar(&s.parity, "parity", "", "with --modbus on a serial line: none, even or odd; none when not said")
			f.IntVar(&s.stopBits, "stop-bits", 0, "with --modbus on a serial line: 1 or 2; 1 when not said")
			f.BoolVar(&s.add, "add", false, "add what was found to edge.yaml")
		},
		Free: func(ctx context.Context, c settings.Call) error {
			s.call = c
			return s.run(ctx, c.Args)
		},
	}
}

// target is what is scanned: one of its kinds is set.
type target struct {
	id     string // of the connection; empty when edge.yaml has none for it
	yaml   string // the connection as it would stand in edge.yaml, without its id
	modbus *modbus.Config
	mqtt   *mqtt.Config
	camera *camera.Config
}

func (s *scanner) run(ctx context.Context, args []string) error {
	given := 0
	for _, what := range []bool{len(args) > 0 || s.cameras != "", s.modbus != "", s.mqtt != ""} {
		if what {
			given++
		}
	}
	switch {
	case given == 0:
		return settings.Usagef("what is to be scanned? Name a connection of edge.yaml, or give --modbus or --mqtt, or --hosts for cameras; langbiang-edge scan --help shows how")
	case given > 1:
		return settings.Usagef("give one of: a connection of edge.yaml, --modbus, --mqtt, --hosts")
	case s.timeout < 10*time.Millisecond || s.timeout > time.Minute || s.listen < time.Second || s.listen > 24*time.Hour:
		return settings.Usagef("--timeout is 10ms to 1m, --listen 1s to 24h")
	}
	if _, err := parseUnits(s.units); err != nil {
		return err
	}
	if _, ok := scan.Hosts(s.cameras); s.cameras != "" && !ok {
		return settings.Usagef("--hosts %q: write hosts, HOST:PORT, or networks such as 10.0.0.0/24, at most %d addresses", s.cameras, scan.MaxHosts)
	}
	if err := s.open(); err != nil {
		return err
	}
	if _, err := os.Stat(s.config); len(args) > 0 || s.add || err == nil {
		plan, err := Load(s.config, nil)
		if err != nil && (len(args) > 0 || s.add) {
			return err
		}
		s.plan = plan
	}
	t, err := s.target(args)
	if err != nil {
		return err
	}
	known, faulty := scan.Open(s.lib, s.q)
	for _, err := range faulty {
		s.say("left out: %s", firstLine(err.Error()))
	}
	var found []scan.Finding
	began := time.Now()
	switch {
	case t.camera != nil:
		found = s.hosts(ctx, t, known)
	case t.modbus != nil:
		found, err = s.line(ctx, t, known)
	default:
		found, err = s.broker(ctx, t, known)
	}
	if errors.Is(err, modbus.ErrPortInUse) {
		return fmt.Errorf("%w; a running agent holds its lines: sudo systemctl stop langbiang-edge, scan, and start it again (its log keeps what is there)", err)
	}
	stopped := ctx.Err() != nil
	if err != nil && !stopped {
		if len(found) == 0 {
			return err
		}
		s.say("%v; this is what was found until then", err)
		stopped = true
	}
	r := s.report(&t, found)
	s.say("%s in %v", settings.Count(len(found), "device"), time.Since(began).Round(100*time.Millisecond))
	if !s.add || len(r.devices) == 0 {
		_, err := fmt.Fprint(s.call.Stdout, r.yaml())
		return err
	}
	if stopped {
		_, err := fmt.Fprint(s.call.Stdout, r.yaml())
		s.say("nothing was added, since the scan did not end")
		return err
	}
	return s.write(r)
}

func (s *scanner) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.call.Stderr, format+"\n", args...)
}

// target finds what is to be scanned.
func (s *scanner) target(args []string) (t target, err error) {
	switch {
	case len(args) > 0:
		i := slices.IndexFunc(s.plan.Connections, func(c Connection) bool { return c.ID == args[0] })
		if i < 0 {
			var ids []string
			for _, c := range s.plan.Connections {
				ids = append(ids, c.ID)
			}
			return t, settings.Usagef("%s has no connection %q; there are %s", s.config, args[0], orText(strings.Join(ids, ", "), "none"))
		}
		t.id = args[0]
		t.modbus, _ = s.plan.Connections[i].Source.(*modbus.Config)
		t.mqtt, _ = s.plan.Connections[i].Source.(*mqtt.Config)
		t.camera, _ = s.plan.Connections[i].Source.(*camera.Config)
		switch {
		case t.camera != nil && s.cameras == "":
			return t, settings.Usagef("connection %q is one of cameras: say where to look for them, --hosts 10.0.0.0/24 for example", args[0])
		case t.camera == nil && s.cameras != "":
			return t, settings.Usagef("--hosts is for cameras, and connection %q is none of theirs", args[0])
		}
	case s.cameras != "":
		t.camera, t.yaml = &camera.Config{}, "camera: {}"
		t.camera.ApplyDefaults()
	case s.modbus != "":
		if t.modbus, err = s.modbusTarget(); err != nil {
			return t, err
		}
		t.yaml = modbusYAML(t.modbus)
	default:
		if t.mqtt, err = brokerTarget(s.mqtt); err != nil {
			return t, err
		}
		t.yaml = fmt.Sprintf("mqtt: {url: %q}", t.mqtt.URL)
		if t.mqtt.User != "" {
			t.yaml = fmt.Sprintf("mqtt: {url: %q, user: %q, password_file: SET-THIS}", t.mqtt.URL, t.mqtt.User)
		}
	}
	if t.id == "" && s.plan != nil {
		t.id = s.same(&t)
	}
	return t, nil
}

// same returns the connection of edge.yaml that leads where t does.
func (s *scanner) same(t *target) string {
	for _, c := range s.plan.Connections {
		switch src := c.Source.(type) {
		case *modbus.Config:
			if t.modbus != nil && src.Transport == t.modbus.Transport && src.Address == t.modbus.Address && src.Port == t.modbus.Port {
				return c.ID
			}
		case *mqtt.Config:
			if t.mqtt != nil && src.URL == t.mqtt.URL {
				return c.ID
			}
		}
	}
	return ""
}

func (s *scanner) modbusTarget() (*modbus.Config, error) {
	transport, where, ok := strings.Cut(s.modbus, ":")
	if !ok || !slices.Contains(modbus.Transports(), transport) {
		return nil, settings.Usagef("--modbus %q: write %s, a colon, and the address or serial device", s.modbus, strings.Join(modbus.Transports(), ", "))
	}
	c := &modbus.Config{Transport: transport, Baud: s.baud, Parity: s.parity, StopBits: s.stopBits}
	if strings.HasSuffix(transport, "tcp") {
		c.Address = where
	} else {
		c.Port = where
	}
	for _, p := range c.Validate() {
		return nil, settings.Usagef("--modbus %s: %v", s.modbus, p)
	}
	c.ApplyDefaults()
	return c, nil
}

func modbusYAML(c *modbus.Config) string {
	parts := []string{"transport: " + c.Transport}
	if c.Address != "" {
		parts = append(parts, fmt.Sprintf("address: %q", c.Address))
	} else {
		parts = append(parts, "port: "+c.Port)
	}
	if c.Transport != modbus.TransportTCP {
		parts = append(parts, fmt.Sprintf("baud: %d, parity: %s, stop_bits: %d", c.Baud, c.Parity, c.StopBits))
	}
	return "modbus: {" + strings.Join(parts, ", ") + "}"
}

func brokerTarget(address string) (*mqtt.Config, error) {
	c := &mqtt.Config{URL: address}
	if u, err := url.Parse(address); err == nil && u.User != nil {
		c.User = u.User.Username()
		c.Password, _ = u.User.Password()
		u.User = nil
		c.URL = u.String()
	}
	for _, p := range c.Validate() {
		return nil, settings.Usagef("--mqtt: %s: %s", p.Field, p.Msg)
	}
	c.ApplyDefaults()
	return c, nil
}

// parseUnits reads 1-20,144; an empty text means all.
func parseUnits(text string) (units []int, err error) {
	if text == "" {
		return scan.AllUnits(), nil
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err1 := strconv.Atoi(low)
		b := a
		var err2 error
		if isRange {
			b, err2 = strconv.Atoi(high)
		}
		if err1 != nil || err2 != nil || a < 0 || b > 255 || a > b {
			return nil, settings.Usagef("--units %q: write unit ids from 0 to 255, 1-20,144 for example", text)
		}
		for u := a; u <= b; u++ {
			units = append(units, u)
		}
	}
	return units, nil
}

// line scans a Modbus line.
func (s *scanner) line(ctx context.Context, t target, known scan.Known) ([]scan.Finding, error) {
	units, err := parseUnits(s.units)
	if err != nil {
		return nil, err
	}
	p, err := t.modbus.OpenProbe(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	s.say("asking %s of %s, %v for each that is not there; Ctrl-C ends it", settings.Count(len(units), "unit"), p.Line(), 2*s.timeout)
	count, damaged := 0, 0
	next := time.Now().Add(progressEvery)
	return scan.Modbus(ctx, p, known, scan.ModbusOptions{
		Units: units, Timeout: s.timeout,
		Found: func(f scan.Finding) {
			count++
			s.say("unit %d: %s", f.Unit, headline(&f))
			if f.Damaged {
				if damaged++; damaged == 3 {
					s.say("much of what comes is damaged: is the speed of the line right?")
				}
			}
		},
		Asked: func(unit, asked int) {
			if now := time.Now(); now.After(next) {
				next = now.Add(progressEvery)
				s.say("%d of %d asked, up to unit %d; %d found", asked, len(units), unit, count)
			}
		},
	})
}

// hosts looks for cameras.
func (s *scanner) hosts(ctx context.Context, t target, known scan.Known) []scan.Finding {
	addresses, _ := scan.Hosts(s.cameras) // checked by run
	s.say("asking %s for a camera, %v for each that is not there; Ctrl-C ends it", settings.Count(len(addresses), "host"), s.timeout)
	next := time.Now().Add(progressEvery)
	return scan.Cameras(ctx, t.camera, known, scan.CameraOptions{
		Addresses: addresses, Timeout: s.timeout,
		Found: func(f scan.Finding) { s.say("%s: %s", f.Topic, headline(&f)) },
		Asked: func(asked int) {
			if now := time.Now(); now.After(next) {
				next = now.Add(progressEvery)
				s.say("%d of %d asked", asked, len(addresses))
			}
		},
	})
}

// broker listens to an MQTT broker.
func (s *scanner) broker(ctx context.Context, t target, known scan.Known) ([]scan.Finding, error) {
	s.say("listening to %s for %v; Ctrl-C ends it. Devices that publish rarely need longer: --listen 10m", t.mqtt.URL, s.listen)
	listening, cancel := context.WithTimeout(ctx, s.listen)
	defer cancel()
	var heard scan.Heard
	messages := make(chan message, 1024)
	ended := make(chan error, 1)
	var dropped atomic.Int64
	go func() {
		ended <- t.mqtt.Listen(listening, []string{"#"}, func(topic string, payload []byte, _ bool) {
			select {
			case messages <- message{topic, payload}:
			default:
				dropped.Add(1) // a broker that is faster than we can look
			}
		})
	}()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	until := time.Now().Add(s.listen)
	for {
		select {
		case m := <-messages:
			heard.Hear(m.topic, m.payload)
		case <-tick.C:
			s.say("%v left: %s on %s", time.Until(until).Round(time.Second), settings.Count(heard.Messages, "message"), settings.Count(heard.Topics(), "topic"))
		case err := <-ended:
			for len(messages) > 0 {
				m := <-messages
				heard.Hear(m.topic, m.payload)
			}
			s.say("heard %s on %s", settings.Count(heard.Messages, "message"), settings.Count(heard.Topics(), "topic"))
			if n := int(dropped.Load()) + heard.Dropped; n > 0 {
				s.say("%s passed over, for want of room", settings.Count(n, "message"))
			}
			found := scan.MQTT(&heard, known)
			for i := range found {
				s.say("%s: %s", found[i].Topic, headline(&found[i]))
			}
			return found, err
		}
	}
}

type message struct {
	topic   string
	payload []byte
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

// headline is a finding in one line.
func headline(f *scan.Finding) string {
	switch {
	case f.Damaged:
		return "something answers, but damaged: two devices with one unit id, or another speed or parity"
	case f.Profile == nil && f.Note != "":
		return strings.TrimSpace(f.Note + " " + inBrackets(f.Seen))
	case f.Profile == nil && len(f.Guesses) > 0:
		ids := make([]string, len(f.Guesses))
		for i := range f.Guesses {
			ids[i] = f.Guesses[i].Profile.ID
		}
		return "answers, and does not say what it is; its registers would fit " + strings.Join(ids, ", ")
	case f.Profile == nil:
		return "answers, and no profile knows it"
	}
	text := f.Profile.ID
	if f.Revision != "" {
		text += ", revision " + f.Revision
	}
	if f.Version != "" {
		text += ", firmware " + f.Version
	}
	return fmt.Sprintf("%s (%d of %d points read)", text, f.Read, f.Points)
}
