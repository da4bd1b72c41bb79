package edge

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// fullLine is the load of a serial line above which readings are missed.
const fullLine = 0.9

func planCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "plan [DEVICE]", Short: "show the requests by which the devices are read, and what they ask of each serial line",
		Args: cobra.MaximumNArgs(1),
		Run: func(_ context.Context, c settings.Call, plan *Plan) error {
			only := arg(c.Args, 0)
			if only != "" {
				if err := plan.knownDevice(only); err != nil {
					return err
				}
			}
			var b strings.Builder
			for _, cn := range plan.Connections {
				if only == "" || cn.has(only) {
					planConnection(&b, cn, only)
				}
			}
			_, err := fmt.Fprint(c.Stdout, b.String())
			return err
		},
	}
}

func planConnection(b *strings.Builder, cn Connection, only string) {
	cfg, isModbus := cn.Source.(*modbus.Config)
	fmt.Fprintf(b, "%s (%s)\n", cn.ID, strings.TrimSpace(cn.Source.Kind()+" "+addressOf(cn.Source)))
	for _, d := range cn.Devices {
		if only != "" && d.ID != only {
			continue
		}
		if d.Camera != (profile.CameraDefaults{}) {
			fmt.Fprintf(b, "  %s: asks %s, every %v\n", d.ID, strings.TrimSpace(d.Camera.RTSP+" "+d.Camera.Snapshot), d.Interval)
			continue
		}
		if !isModbus {
			fmt.Fprintf(b, "  %s: listens to %s\n", d.ID, strings.Join(topics(d), ", "))
			continue
		}
		fmt.Fprintf(b, "  %s, unit %d, every %v\n", d.ID, d.Unit, d.Interval)
		for _, r := range modbus.Plan(d) {
			fmt.Fprintf(b, "    %s\n", r.Describe(d))
		}
	}
	if !isModbus {
		return
	}
	if total, worst := lineLoad(cfg, cn.Devices); worst != nil {
		fmt.Fprintf(b, "  the line is busy for %.0f %% of its time%s\n", 100*total, tooMuch(total, worst))
	}
}

// lineLoad adds up what the devices ask of a serial line, and names the one that
// asks most; nil when it cannot be told.
func lineLoad(cfg *modbus.Config, devices []*driver.Device) (total float64, worst *driver.Device) {
	most := 0.0
	for _, d := range devices {
		load, ok := cfg.Load(d)
		if !ok {
			return 0, nil
		}
		total += load
		if load > most {
			most, worst = load, d
		}
	}
	return total, worst
}

func tooMuch(total float64, worst *driver.Device) string {
	if total <= fullLine {
		return ""
	}
	const step = 100 * time.Millisecond
	slower := time.Duration(float64(worst.Interval)*total/fullLine)/step*step + step
	return fmt.Sprintf("; it cannot carry that: give %s, which asks most, an interval of %v or more, or the line a higher baud rate", worst.ID, slower)
}

func topics(d *driver.Device) (list []string) {
	seen := map[string]bool{}
	for i := range d.Points {
		if t := d.Points[i].Topic; !seen[t] {
			seen[t] = true
			list = append(list, t)
		}
	}
	return list
}

// strictWarnings says what is allowed and probably not meant.
func strictWarnings(plan *Plan) (warnings []string) {
	for _, cn := range plan.Connections {
		cfg, ok := cn.Source.(*modbus.Config)
		if !ok {
			continue
		}
		if total, worst := lineLoad(cfg, cn.Devices); worst != nil && total > fullLine {
			warnings = append(warnings, fmt.Sprintf("connection %s: the line would be busy for %.0f %% of its time%s", cn.ID, 100*total, tooMuch(total, worst)))
		}
		if strings.HasPrefix(cfg.Port, "/dev/ttyUSB") || strings.HasPrefix(cfg.Port, "/dev/ttyACM") {
			warnings = append(warnings, fmt.Sprintf("connection %s: the name %s may belong to another adapter after a reboot; use one of /dev/serial/by-id/", cn.ID, cfg.Port))
		}
	}
	for _, d := range plan.Devices {
		for i := range d.Points {
			if w := implausible(plan.Quantities, d, i); w != "" {
				warnings = append(warnings, w)
			}
		}
	}
	return warnings
}

// implausible compares the valid range of a point, in canonical units, with what
// its quantity can be.
func implausible(quantities telemetry.Quantities, d *driver.Device, point int) string {
	p := &d.Points[point]
	q, ok := quantities[p.Quantity]
	if !ok || q.Min == nil && q.Max == nil || p.Valid == nil {
		return ""
	}
	low, high := math.Inf(-1), math.Inf(1)
	if p.Valid.Min != nil {
		low = d.Convert[point].Of(*p.Valid.Min)
	}
	if p.Valid.Max != nil {
		high = d.Convert[point].Of(*p.Valid.Max)
	}
	if q.Max != nil && min(low, high) > *q.Max || q.Min != nil && max(low, high) < *q.Min {
		return fmt.Sprintf("device %s: point %s can only read %g to %g %s, which %s cannot be; is its unit or scale right?",
			d.ID, p.ID, low, high, telemetry.UnitSymbol(q.Unit), p.Quantity)
	}
	return ""
}

func checkCommand() settings.Command[*Plan] {
	var strict bool
	return settings.Command[*Plan]{
		Use: "check", Short: "say everything that is wrong with the configuration, and change nothing",
		Flags: func(f *pflag.FlagSet) {
			f.BoolVar(&strict, "strict", false, "also say what is allowed but probably not meant: lines that cannot carry their polls, port names that change, ranges that cannot be")
		},
		Run: func(_ context.Context, c settings.Call, plan *Plan) error {
			for _, w := range plan.Warnings {
				_, _ = fmt.Fprintf(c.Stderr, "%s (warning)\n", w.Error())
			}
			if strict {
				warnings := strictWarnings(plan)
				for _, w := range warnings {
					_, _ = fmt.Fprintf(c.Stderr, "%s (warning)\n", w)
				}
				if n := len(warnings) + len(plan.Warnings); n > 0 {
					return settings.Usagef("%s", settings.Count(n, "warning"))
				}
			}
			points := 0
			for _, d := range plan.Devices {
				points += len(d.Points)
			}
			if plan.Config.Owner == wire.OwnerHub {
				f := fleetStatus{Owner: plan.Config.Owner}
				if plan.hub != nil {
					f.Version, f.Name = plan.hub.Version, plan.hub.Name
				}
				_, _ = fmt.Fprintln(c.Stdout, f.line())
			}
			if plan.unfit != nil {
				_, _ = fmt.Fprintf(c.Stderr, "the hub's configuration is not in force: %v (warning)\n", plan.unfit)
			}
			_, err := fmt.Fprintf(c.Stdout, "%s: fine: edge %s, %s, %s, %s\n", c.Config, plan.Config.Edge.ID,
				settings.Count(len(plan.Connections), "connection"), settings.Count(len(plan.Devices), "device"), settings.Count(points, "point"))
			return err
		},
	}
}
