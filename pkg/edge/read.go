package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/internal/doctor"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// look returns the status: of the running agent, or read from the devices
// directly when none runs. Only is the id of a device, or empty for all.
func look(ctx context.Context, plan *Plan, only string, limit time.Duration) (status, error) {
	var s status
	err := ask(ctx, plan.Config.DataDir, "/status", url.Values{"device": {only}}, &s)
	if !errors.Is(err, errNotRunning) {
		return s, err
	}
	r, err := readDirectly(ctx, plan, plan.chosen(only), limit)
	if err != nil {
		return s, err
	}
	s.Edge, s.Simulated = plan.Config.Edge.ID, plan.Simulated
	s.Connections, s.Devices = describeDevices(plan, r, only)
	return s, nil
}

// knownDevice refuses a name that the configuration does not have.
func (p *Plan) knownDevice(id string) error {
	var ids []string
	for _, d := range p.Devices {
		ids = append(ids, d.ID)
	}
	for name := range p.Disabled {
		ids = append(ids, name)
	}
	if slices.Contains(ids, id) {
		return nil
	}
	return settings.Usagef("there is no device %q; %s", id, strictyaml.Meant(id, ids))
}

func readCommand() settings.Command[*Plan] {
	var watch bool
	var limit time.Duration
	return settings.Command[*Plan]{
		Use: "read [DEVICE [POINT]]", Short: "show what the devices read: through the agent if it runs, else straight from them",
		Args: cobra.MaximumNArgs(2),
		Flags: func(f *pflag.FlagSet) {
			f.BoolVar(&watch, "watch", false, "go on, a line for every new value, until Ctrl-C")
			f.DurationVar(&limit, "for", 10*time.Second, "how long to wait for devices that say nothing yet, when no agent runs")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			device, point := arg(c.Args, 0), arg(c.Args, 1)
			if device != "" {
				if err := plan.knownDevice(device); err != nil {
					return err
				}
			}
			s, err := look(ctx, plan, device, limit)
			if err != nil {
				return err
			}
			if err := narrow(&s, device, point); err != nil {
				return err
			}
			if err := printReadings(c.Stdout, &s, s.now()); err != nil || !watch {
				return err
			}
			w := newWatched(c.Stdout, device, point, &s)
			if s.Agent == nil {
				return w.direct(ctx, plan)
			}
			return w.agent(ctx, plan)
		},
	}
}

func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// narrow leaves one point of one device.
func narrow(s *status, device, point string) error {
	if point == "" || len(s.Devices) == 0 {
		return nil
	}
	var ids []string
	for _, p := range s.Devices[0].Points {
		ids = append(ids, p.ID)
	}
	i := slices.Index(ids, point)
	if i < 0 {
		return settings.Usagef("%s has no point %q; %s", device, point, strictyaml.Meant(point, ids))
	}
	s.Devices[0].Points = s.Devices[0].Points[i : i+1]
	return nil
}

// printReadings prints a table of values, and below it what there is no value of.
func printReadings(w io.Writer, s *status, now time.Time) error {
	var silent strings.Builder
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "DEVICE\tPOINT\tVALUE\tUNIT\tQUALITY\tAGE") // a tabwriter fails in Flush
	for i := range s.Devices {
		d := &s.Devices[i]
		switch d.word() {
		case "disabled":
			fmt.Fprintf(&silent, "%s is disabled: %s\n", d.ID, firstLine(d.Disabled))
		case "down":
			fmt.Fprintf(&silent, "%s does not answer: %s\n", d.ID, d.Detail)
		default:
			for j := range d.Points {
				p := &d.Points[j]
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, p.ID, p.shown(), telemetry.UnitSymbol(p.Unit), p.quality(), age(p.Time, now))
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.Simulated {
		silent.WriteString("simulated: no value is real\n")
	}
	_, err := io.WriteString(w, silent.String())
	return err
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// shown is the value as a person reads it.
func (p *pointStatus) shown() string {
	switch {
	case p.Text != "":
		return p.Text
	case p.Value == nil:
		return "-"
	}
	return strconv.FormatFloat(*p.Value, 'f', p.Decimals, 64)
}

func (p *pointStatus) quality() string {
	if p.Quality == "" {
		return "nothing read yet"
	}
	return p.Quality
}

// age says how long ago t was.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, now.Sub(t))
	switch {
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// watchEvery is how often a watched agent is asked.
const watchEvery = 500 * time.Millisecond

// watched prints a line for every point that has a newer reading.
type watched struct {
	out           io.Writer
	device, point string
	seen          map[string]time.Time
}

// newWatched takes what was shown already.
func newWatched(out io.Writer, device, point string, shown *status) *watched {
	w := &watched{out: out, device: device, point: point, seen: map[string]time.Time{}}
	w.each(shown, func(*deviceStatus, *pointStatus) error { return nil }) //nolint:errcheck // it is nil
	return w
}

func (w *watched) each(s *status, show func(d *deviceStatus, p *pointStatus) error) error {
	for i := range s.Devices {
		for j := range s.Devices[i].Points {
			d, p := &s.Devices[i], &s.Devices[i].Points[j]
			key := d.ID + "/" + p.ID
			if p.Time.After(w.seen[key]) {
				w.seen[key] = p.Time
				if err := show(d, p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// print prints what is new.
func (w *watched) print(s *status) error {
	if err := narrow(s, w.device, w.point); err != nil {
		return err
	}
	return w.each(s, func(d *deviceStatus, p *pointStatus) error {
		_, err := fmt.Fprintf(w.out, "%s  %s %s  %s %s  %s\n", p.Time.Format("15:04:05.000"), d.ID, p.ID, p.shown(), telemetry.UnitSymbol(p.Unit), p.Quality)
		return err
	})
}

// agent watches a running agent until ctx ends.
func (w *watched) agent(ctx context.Context, plan *Plan) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var s status
		err := ask(ctx, plan.Config.DataDir, "/status", url.Values{"device": {w.device}}, &s)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = w.print(&s)
		}
		if err != nil {
			return err
		}
	}
}

// direct reads the devices themselves until ctx ends.
func (w *watched) direct(ctx context.Context, plan *Plan) error {
	var failed error
	_, err := follow(ctx, plan, plan.chosen(w.device), func(r *directReading) bool {
		var s status
		_, s.Devices = describeDevices(plan, r, w.device)
		failed = w.print(&s)
		return failed != nil
	})
	return errors.Join(err, failed)
}

// chosen are the devices of the plan, or the one that is named.
func (p *Plan) chosen(only string) (devices []*driver.Device) {
	for _, d := range p.Devices {
		if only == "" || d.ID == only {
			devices = append(devices, d)
		}
	}
	return devices
}

func statusCommand() settings.Command[*Plan] {
	var asJSON bool
	return settings.Command[*Plan]{
		Use: "status", Short: "show the running agent at a glance: devices, connections, log, link to the hub",
		Flags: func(f *pflag.FlagSet) { f.BoolVar(&asJSON, "json", false, "all that is known, as JSON") },
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			var s status
			err := ask(ctx, plan.Config.DataDir, "/status", nil, &s)
			switch {
			case errors.Is(err, errNotRunning):
				return fmt.Errorf("%w (%s); start it with: langbiang-edge run --config %s", err, plan.Config.DataDir, c.Config)
			case err != nil:
				return err
			case asJSON:
				e := json.NewEncoder(c.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(&s)
			}
			return printStatus(c.Stdout, &s, time.Now())
		},
	}
}

func memoryLine(a *agentStatus) string {
	if a.Memory.Limit == 0 {
		return doctor.Size(a.Memory.Held) + ", no limit"
	}
	return doctor.Size(a.Memory.Held) + " of " + doctor.Size(a.Memory.Limit)
}

// printStatus prints the status for one screen.
func printStatus(w io.Writer, s *status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) } // a tabwriter fails in Flush
	a := s.Agent
	line("edge\t%s, version %s, running for %s", s.Edge, a.Version, age(a.Started, now))
	if s.Simulated {
		line("devices\tsimulated: no value is real")
	}
	clock := "not trusted yet: readings wait for the true time"
	if a.Clock.Trusted {
		clock = "trusted"
	}
	line("clock\t%s, %s", a.Clock.Now.Format(time.RFC3339), clock)
	line("memory\t%s", memoryLine(a))
	line("hub\t%s", hubLine(a, now))
	line("log\t%s", logLine(a, s.now()))
	if f := a.Fleet; f != nil && (f.Owner != wire.OwnerGateway || f.Fault != "") {
		line("config\t%s", strings.ReplaceAll(f.line(), "\n", "\n\t"))
	}
	line("")
	line("CONNECTION\tKIND\tADDRESS\tANSWER")
	for _, c := range s.Connections {
		line("%s\t%s\t%s\t%d of %d", c.ID, c.Kind, c.Address, c.Up, c.Devices)
	}
	line("")
	line("DEVICE\tSTATE\tSINCE\tPROFILE\tADDRESS\tDETAIL")
	for i := range s.Devices {
		d := &s.Devices[i]
		profile := d.Profile
		if d.Revision != "" {
			profile += " " + d.Revision
		}
		line("%s\t%s\t%s\t%s\t%s %s\t%s", d.ID, d.word(), age(d.Since, s.now()), profile, d.Connection, d.Address, d.remark())
	}
	return t.Flush()
}

// remark is what there is to say of the device beside its state.
func (d *deviceStatus) remark() string {
	text := d.Detail + firstLine(d.Disabled)
	if !d.Maintenance.IsZero() {
		text = strings.TrimSuffix("in maintenance until "+d.Maintenance.Local().Format(time.TimeOnly)+"; "+text, "; ")
	}
	return text
}

// word is the state of the device in a word.
func (d *deviceStatus) word() string {
	switch {
	case d.Disabled != "":
		return "disabled"
	case d.Up == nil:
		return "unknown"
	case *d.Up:
		return "up"
	}
	return "down"
}

func hubLine(a *agentStatus, now time.Time) string {
	h := &a.Hub
	switch {
	case h.URL == "":
		return noHub
	case !h.Connected:
		return fmt.Sprintf("%s: not connected: %s", h.URL, h.Reason)
	case h.Refusal != "":
		return fmt.Sprintf("%s: connected, but it takes nothing (%s): %s", h.URL, h.Refusal, h.Reason)
	}
	return fmt.Sprintf("%s: connected for %s", h.URL, age(h.Since, now))
}

func logLine(a *agentStatus, now time.Time) string {
	l := &a.Log
	s := fmt.Sprintf("%s of %s, %s, %d not safe at the hub", doctor.Size(l.Bytes), strictyaml.Size(l.MaxBytes), settings.Count(int(l.Frames), "frame"), l.UnsafeFrames)
	if !l.Oldest.IsZero() {
		s += ", the oldest from " + age(l.Oldest, now) + " ago"
	}
	if l.GivenUp > 0 {
		s += fmt.Sprintf("; %d GIVEN UP for room or age", l.GivenUp)
	}
	if l.Corrupt > 0 {
		s += fmt.Sprintf("; %s set aside", settings.Count(l.Corrupt, "corrupt segment"))
	}
	if l.DiskError != "" {
		s += "; THE DISK REFUSES: " + l.DiskError
	}
	return s
}
