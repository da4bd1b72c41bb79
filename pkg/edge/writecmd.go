package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// writeTimeout bounds one write, with what stands in its way on the line.
const writeTimeout = 30 * time.Second

// written is the outcome of a write, as the agent answers it.
type written struct {
	Value *float64 `json:"value"` // read back, in the canonical unit; nil: it was not
	Text  string   `json:"text"`
	Same  bool     `json:"same"` // it is what was to be written
	Note  string   `json:"note"`
}

// Write writes a value to a point of a device, see [driver.Writer].
func (a *Agent) Write(ctx context.Context, device, point, value string) (driver.Written, error) {
	plan := a.now.Load()
	for _, cn := range plan.Connections {
		if !slices.ContainsFunc(cn.Devices, func(d *driver.Device) bool { return d.ID == device }) {
			continue
		}
		a.driversMu.Lock()
		d := a.drivers[cn.ID]
		a.driversMu.Unlock()
		w, ok := d.(driver.Writer)
		if !ok {
			return driver.Written{}, fmt.Errorf("devices on connection %s (%s) cannot be written to", cn.ID, cn.Source.Kind())
		}
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		return w.Write(ctx, device, point, value)
	}
	return driver.Written{}, fmt.Errorf("there is no device %q that is read", device)
}

func asWritten(w driver.Written) written {
	out := written{Text: w.Back.Text, Same: w.Same, Note: w.Note}
	if w.Same || w.Note == "" || w.Back != (driver.Sample{}) {
		v := w.Back.Value
		out.Value = &v
	}
	return out
}

func writeCommand() settings.Command[*Plan] {
	var yes bool
	return settings.Command[*Plan]{
		Use: "write DEVICE POINT VALUE", Short: "write a point that its profile declares writable: asks first, reads back, takes turns with the polls",
		Args:  cobra.ExactArgs(3),
		Flags: func(f *pflag.FlagSet) { f.BoolVar(&yes, "yes", false, "do not ask") },
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			device, point, value := c.Args[0], c.Args[1], c.Args[2]
			unit, err := plan.writablePoint(device, point)
			if err != nil {
				return err
			}
			if !yes {
				_, _ = fmt.Fprintf(c.Stdout, "write %s %s to %s of %s? It changes the device. [y/N] ", value, unit, point, device)
				line, _ := bufio.NewReader(c.Stdin).ReadString('\n') // nothing is no
				if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
					return errors.New("nothing was written")
				}
			}
			var w written
			err = order(ctx, plan.Config.DataDir, "/write", url.Values{"device": {device}, "point": {point}, "value": {value}}, &w)
			if errors.Is(err, errNotRunning) {
				w, err = writeDirectly(ctx, plan, device, point, value)
			}
			if err != nil {
				return err
			}
			return w.print(c, device, point, unit)
		},
	}
}

func (w *written) print(c settings.Call, device, point, unit string) error {
	text := "written"
	switch {
	case w.Text != "":
		text += fmt.Sprintf("; %s of %s reads %s now", point, device, w.Text)
	case w.Value != nil:
		text += fmt.Sprintf("; %s of %s reads %g %s now", point, device, *w.Value, unit)
	}
	if w.Note != "" {
		text += "; " + w.Note
	}
	_, err := fmt.Fprintln(c.Stdout, text)
	if err == nil && !w.Same && w.Value != nil {
		return fmt.Errorf("%s of %s holds another value than was written", point, device)
	}
	return err
}

// writablePoint refuses what the profile does not declare writable, with the names
// of what it does. It returns the canonical unit as people write it.
func (p *Plan) writablePoint(device, point string) (unit string, err error) {
	if err := p.knownDevice(device); err != nil {
		return "", err
	}
	for _, d := range p.Devices {
		if d.ID != device {
			continue
		}
		var may []string
		for i := range d.Points {
			if pt := &d.Points[i]; pt.Writable != nil {
				may = append(may, pt.ID)
				if pt.ID == point {
					return telemetry.UnitSymbol(p.Quantities[pt.Quantity].Unit), nil
				}
			}
		}
		if len(may) == 0 {
			return "", settings.Usagef("%s has no point that may be written; its profile would have to declare one writable", device)
		}
		return "", settings.Usagef("%s has no point %q that may be written; %s", device, point, strictyaml.Meant(point, may))
	}
	return "", settings.Usagef("%s is disabled: %s", device, firstLine(p.Disabled[device].Error()))
}

// writeDirectly writes without an agent.
func writeDirectly(ctx context.Context, plan *Plan, device, point, value string) (written, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for _, cn := range plan.Connections {
		i := slices.IndexFunc(cn.Devices, func(d *driver.Device) bool { return d.ID == device })
		if i < 0 {
			continue
		}
		drv, err := cn.Source.New(cn.ID, cn.Devices[i:i+1], directEnv(newDirectReading(cn.Devices[i:i+1])))
		if err != nil {
			return written{}, fmt.Errorf("connection %s: %w", cn.ID, err)
		}
		w, ok := drv.(driver.Writer)
		if !ok {
			return written{}, fmt.Errorf("devices on connection %s (%s) cannot be written to", cn.ID, cn.Source.Kind())
		}
		running, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { _ = drv.Run(running) }) // what it could not do, Write says
		out, err := w.Write(ctx, device, point, value)
		stop()
		wg.Wait()
		return asWritten(out), err
	}
	return written{}, fmt.Errorf("there is no device %q that is read", device)
}
