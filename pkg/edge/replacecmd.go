package edge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Replaced is what a device has been, oldest first.
type Replaced struct {
	Hardware []telemetry.Hardware `json:"hardware"`
	// Restarted is the connection whose devices were asked anew what they are.
	Restarted string `json:"restarted,omitempty"`
}

func replaceCommand() settings.Command[*Plan] {
	var serial, note, at string
	return settings.Command[*Plan]{
		Use: "replace DEVICE", Short: "note that a device is other hardware now: its id and its series go on, serial number and date stand beside them",
		Long: `Notes that a device is other hardware from now on. Its id and its series go on;
the agent asks it anew which firmware it has, its counters begin anew, and the hub
shows which hardware it was when. Without --serial it shows what was noted.

  langbiang-edge replace rain --serial WS90-4711 --note "hit by lightning"
  langbiang-edge replace rain --serial WS90-4711 --at "2026-11-20 14:00"`,
		Args: cobra.ExactArgs(1),
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&serial, "serial", "", "serial number of what stands there now")
			f.StringVar(&note, "note", "", "why, or whatever the next one should know")
			f.StringVar(&at, "at", "", `when it was done, "2026-11-20 14:00" in the gateway's time; now when not said`)
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			id := c.Args[0]
			if err := plan.knownDevice(id); err != nil {
				return err
			}
			if serial == "" && (note != "" || at != "") {
				return settings.Usagef("--note and --at belong to a --serial")
			}
			since, err := parseAt(at)
			if err != nil {
				return err
			}
			var out Replaced
			q := url.Values{"device": {id}}
			if serial == "" {
				err = ask(ctx, plan.Config.DataDir, "/hardware", q, &out)
			} else {
				q["serial"], q["note"] = []string{serial}, []string{note}
				if !since.IsZero() {
					q["at"] = []string{since.UTC().Format(time.RFC3339)}
				}
				err = order(ctx, plan.Config.DataDir, "/hardware", q, &out)
			}
			if errors.Is(err, errNotRunning) {
				return fmt.Errorf("%w; the agent keeps this and tells the hub, so start it first", err)
			}
			if err != nil {
				return err
			}
			var b strings.Builder
			if len(out.Hardware) == 0 {
				fmt.Fprintf(&b, "nothing is noted of the hardware of %s\n", id)
			}
			for _, h := range out.Hardware {
				fmt.Fprintf(&b, "%s\n", hardwareLine(h))
			}
			if out.Restarted != "" {
				fmt.Fprintf(&b, "%s goes on under its id; the devices of %s are asked anew what they are, and its counters begin anew\n", id, out.Restarted)
			}
			_, err = fmt.Fprint(c.Stdout, b.String())
			return err
		},
	}
}

func parseAt(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", time.DateOnly, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, settings.Usagef(`--at %q is no time; write "2026-11-20 14:00"`, text)
}

// Replace notes that a device is other hardware: from now on, or since at when that
// is not zero. Its driver asks it anew what it is and its counters begin anew. It
// waits for Run.
func (a *Agent) Replace(ctx context.Context, device, serial, note string, at time.Time) (Replaced, error) {
	plan := a.now.Load()
	if err := plan.knownDevice(device); err != nil {
		return Replaced{}, err
	}
	switch {
	case serial == "":
		return Replaced{}, errors.New("a serial number must be given")
	case len(serial) > telemetry.MaxNameLen || len(note) > telemetry.MaxValueLen:
		return Replaced{}, fmt.Errorf("a serial number has at most %d bytes, a note %d", telemetry.MaxNameLen, telemetry.MaxValueLen)
	case !utf8.ValidString(serial + note):
		return Replaced{}, errors.New("serial number and note must be UTF-8")
	}
	now := a.clock.Now()
	p := piece{Serial: serial, Note: note, Since: now.Ms, Untimed: !now.Trusted}
	if !at.IsZero() {
		if now.Trusted && at.UnixMilli() > now.Ms {
			return Replaced{}, fmt.Errorf("%s is in the future", at.Local().Format(time.DateTime))
		}
		p.Since, p.Untimed = at.UnixMilli(), false
	}
	if err := a.hardware.note(device, p); err != nil {
		a.logger.Warn("a restart would forget this replacement", "device", device, "err", err)
	}
	a.logger.Info("device is other hardware", "device", device, "serial", serial, "note", note)
	out := Replaced{Hardware: a.hardware.of(device)}
	r := reload{fresh: device, done: make(chan Reloaded, 1)}
	select {
	case a.reloads <- r:
	case <-ctx.Done():
		return out, ctx.Err()
	}
	select {
	case done := <-r.done:
		if len(done.Started) > 0 {
			out.Restarted = done.Started[0]
		}
		return out, done.err
	case <-ctx.Done():
		return out, ctx.Err()
	}
}
