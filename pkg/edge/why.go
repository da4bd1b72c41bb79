package edge

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func whyCommand() settings.Command[*Plan] {
	var limit time.Duration
	return settings.Command[*Plan]{
		Use: "why DEVICE", Short: "walk from a device to the hub, say where its readings stop, and what to try next",
		Args: cobra.ExactArgs(1),
		Flags: func(f *pflag.FlagSet) {
			f.DurationVar(&limit, "for", 10*time.Second, "how long to wait for the device when no agent runs")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			id := c.Args[0]
			if err := plan.knownDevice(id); err != nil {
				return err
			}
			s, err := look(ctx, plan, "", limit)
			if err != nil {
				return err
			}
			return tellSteps(c.Stdout, &s, id)
		},
	}
}

// tellSteps prints the way of the readings of a device, and fails when they stop on it.
func tellSteps(w io.Writer, s *status, id string) error {
	stopped, err := explain(w, s, id)
	if err == nil && stopped {
		return fmt.Errorf("the readings of %s stop on their way", id)
	}
	return err
}

// step is one station between a device and the hub.
type step struct {
	name string
	ok   bool
	text string
	try  []string // what to do, likeliest first; empty when ok
}

// explain prints the way of the readings of a device up to where they stop, and
// reports whether they do.
func explain(w io.Writer, s *status, id string) (stopped bool, err error) {
	var b strings.Builder
	for _, st := range steps(s, id) {
		mark := "ok  "
		if !st.ok {
			mark = "STOP"
		}
		fmt.Fprintf(&b, "%s  %-11s %s\n", mark, st.name, st.text)
		for _, t := range st.try {
			fmt.Fprintf(&b, "                  try: %s\n", t)
		}
		if !st.ok {
			stopped = true
			break
		}
	}
	_, err = io.WriteString(w, b.String())
	return stopped, err
}

// steps judges every station in the order of the data.
func steps(s *status, id string) []step {
	var d *deviceStatus
	for i := range s.Devices {
		if s.Devices[i].ID == id {
			d = &s.Devices[i]
		}
	}
	if d == nil {
		return []step{{name: "agent", text: "the running agent does not know this device", try: []string{"it was started before the device was added: restart it"}}}
	}
	if d.Disabled != "" {
		return []step{{name: "profile", text: firstLine(d.Disabled), try: []string{"mend the profile; langbiang-edge check names every fault of it"}}}
	}
	profile := d.Profile
	if profile == "" {
		profile = "points of its own"
	}
	list := []step{{name: "profile", ok: true, text: strings.TrimSpace(profile + " " + d.Revision)}}
	list = append(list, connectionStep(s, d), deviceStep(s, d), pointsStep(d))
	return append(list, agentSteps(s)...)
}

func connectionOf(s *status, d *deviceStatus) connectionStatus {
	for _, c := range s.Connections {
		if c.ID == d.Connection {
			return c
		}
	}
	return connectionStatus{ID: d.Connection}
}

func isDown(d *deviceStatus, reasons ...telemetry.Reason) bool {
	if d.Up == nil || *d.Up {
		return false
	}
	for _, r := range reasons {
		if d.Reason == r.String() {
			return true
		}
	}
	return len(reasons) == 0
}

func connectionStep(s *status, d *deviceStatus) step {
	c := connectionOf(s, d)
	st := step{name: "connection", ok: true, text: fmt.Sprintf("%s (%s), %d of its %d devices answer", c.ID, strings.TrimSpace(c.Kind+" "+c.Address), c.Up, c.Devices)}
	if !isDown(d, telemetry.ReasonUnreachable) {
		return st
	}
	st.ok, st.text = false, d.Detail
	switch {
	case c.Kind == "mqtt":
		st.try = []string{"is the broker running, and its address right? mosquitto_sub -h HOST -t '#' shows what it has", "are user and password right?"}
	case strings.HasPrefix(c.Address, "/"):
		st.try = []string{
			"is the adapter plugged in? ls -l /dev/serial/by-id/ names those that are",
			"may the agent's user open it? it must be in the group dialout",
			"does another program hold the port?",
		}
	default:
		st.try = []string{"is the device or gateway powered, and does ping reach it?", "is Modbus TCP switched on in it, and the port right (usually 502)?", "many gateways take few clients at once: is another one connected?"}
	}
	return st
}

func deviceStep(s *status, d *deviceStatus) step {
	st := step{name: "device", ok: true, text: d.Address + " answers"}
	switch {
	case d.Up == nil:
		st.ok, st.text = false, "nothing heard of it yet"
		st.try = []string{"wait for its interval (" + d.Interval + ") to pass", "if it publishes on events only, make one happen"}
		return st
	case *d.Up:
		return st
	}
	st.ok, st.text = false, d.Detail
	c := connectionOf(s, d)
	serial := strings.HasPrefix(c.Address, "/")
	switch d.Reason {
	case telemetry.ReasonNoAnswer.String():
		if serial && c.Up == 0 {
			st.try = []string{
				"no device of this line answers: swap the wires A and B, check the common ground and the 120 ohm at both ends",
				"do baud, parity and stop bits fit? the manual has the factory setting",
				"does the converter's supply reach the sensors?",
			}
		} else {
			st.try = []string{
				"its neighbours answer, so the line is good: is this device powered?",
				"is its unit id right? langbiang-edge scan " + c.ID + " lists those that answer",
			}
			if serial {
				st.try[1] += " (stop the agent for it)"
				st.try = append(st.try, "has another device the same unit id?")
			}
		}
	case telemetry.ReasonException.String():
		st.try = []string{"the device answers but has no such register: is the profile that of this model and firmware?", "langbiang-edge plan " + d.ID + " shows what is asked"}
	case telemetry.ReasonBadFrame.String():
		st.try = []string{"damaged answers mean noise or two devices speaking at once: check the shield, the ends of the line, and for a unit id used twice", "does the parity fit?"}
	case telemetry.ReasonSilent.String(), telemetry.ReasonOffline.String():
		st.try = []string{"is the device powered and on the network?", "is its topic right? mosquitto_sub -h HOST -t '#' -v shows what arrives", "is expect_every longer than it usually is silent?"}
	}
	return st
}

func pointsStep(d *deviceStatus) step {
	var good, bad, none []string
	reasons := map[string]bool{}
	for i := range d.Points {
		switch p := &d.Points[i]; {
		case p.Quality == "":
			none = append(none, p.ID)
		case strings.HasPrefix(p.Quality, "bad"):
			bad = append(bad, p.ID+" ("+strings.TrimPrefix(p.Quality, "bad: ")+")")
			reasons[strings.TrimPrefix(p.Quality, "bad: ")] = true
		default:
			good = append(good, p.ID)
		}
	}
	st := step{name: "points", ok: true, text: fmt.Sprintf("%d of %d give values", len(good), len(d.Points))}
	if len(none) > 0 {
		st.text += "; nothing read yet of " + strings.Join(none, ", ")
	}
	if len(bad) == 0 {
		return st
	}
	st.text += "; bad: " + strings.Join(bad, ", ")
	st.ok = len(good) > 0 // those arrive; the others are named
	tips := []struct{ reason, tip string }{
		{"exception", "the device refuses a register: is the profile that of this model and firmware?"},
		{"out_of_range", "values outside the valid range: is the scale or the word order right? langbiang-edge plan shows the registers"},
		{"not_fitted", "the device says that this element is not fitted"},
		{"missing", "the payload has no such field: has a firmware update renamed it?"},
		{"malformed", "the payload cannot be parsed: does another program publish on this topic?"},
		{"warm_up", "the sensor warms up; wait"},
		{"invalid", "the device itself says that the value is not valid: look at its own status"},
	}
	for _, t := range tips {
		if reasons[t.reason] {
			st.try = append(st.try, t.tip)
		}
	}
	return st
}

func agentSteps(s *status) []step {
	if s.Agent == nil && s.Simulated {
		return []step{{name: "agent", text: "not running: the values above were read directly from simulated devices", try: []string{"start one for the simulation: langbiang-edge run --simulated"}}}
	}
	if s.Agent == nil {
		return []step{{name: "agent", text: "not running: the values above were read directly", try: []string{"start it: systemctl start langbiang-edge"}}}
	}
	a := s.Agent
	list := []step{{name: "log", ok: a.Log.DiskError == "", text: logLine(a, a.Clock.Now)}}
	if !list[0].ok {
		list[0].try = []string{"make room on the disk, or look for a worn card: dmesg | tail", "until then the newest frames wait in memory; nothing is lost before that is full"}
	}
	if !a.Clock.Trusted {
		return append(list, step{name: "clock", text: "not trusted yet: the readings wait in the log for their true time", try: []string{
			"let the gateway reach a time server (timedatectl), or the hub", "clock: {trust: always} if its clock is right though it does not know",
		}})
	}
	list = append(list, step{name: "clock", ok: true, text: "trusted"})
	if s.Simulated && a.Hub.URL == "" {
		return append(list, step{name: "hub", ok: true, text: noHub})
	}
	hub := step{name: "hub", ok: a.Hub.Connected && a.Hub.Refusal == "", text: hubLine(a, a.Clock.Now)}
	switch {
	case !a.Hub.Connected:
		hub.try = []string{"does the gateway reach the network? ping the hub", "is hub.url right, and the port open?", "the log keeps everything meanwhile and sends it later"}
	case !hub.ok:
		hub.try = []string{"the hub's page says the same of this edge, and what to do"}
	}
	return append(list, hub)
}
