package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/driver/mqtt"
	"github.com/langbiang/langbiang/pkg/internal/doctor"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

func doctorCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "doctor", Short: "examine this gateway: ports, rights, clock, disk, brokers, hub; each line ok or what to do",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			d := diagnosis{doctor.NewReport(c.Stdout)}
			d.examine(ctx, plan, c.Version, func(ctx context.Context) (s status, err error) {
				err = ask(ctx, plan.Config.DataDir, "/status", nil, &s)
				return s, err
			})
			return d.End()
		},
	}
}

// diagnosis is the examination of a gateway.
type diagnosis struct{ *doctor.Report }

func (d diagnosis) examine(ctx context.Context, plan *Plan, version string, agent func(context.Context) (status, error)) {
	d.Say("version", nil, fmt.Sprintf("%s, %s/%s, %s", version, runtime.GOOS, runtime.GOARCH, kernel()), "")
	d.clock(plan)
	d.disk(plan)
	for _, cn := range plan.Connections {
		switch c := cn.Source.(type) {
		case *modbus.Config:
			if c.Port != "" {
				d.port(cn.ID, c.Port)
			} else {
				d.reach(ctx, cn.ID, c.Address, "is the device or gateway powered and on the network?")
			}
		case *mqtt.Config:
			d.reach(ctx, cn.ID, hostOf(c.URL, "1883"), "is the broker running?")
		}
	}
	if plan.Config.Hub.URL == "" {
		d.Say("hub", nil, noHub, "")
	} else {
		d.reach(ctx, "hub", hostOf(plan.Config.Hub.URL, "1883"), "is the network up, and hub.url right? Readings are kept in the log meanwhile")
	}
	switch s, err := agent(ctx); {
	case errors.Is(err, errNotRunning):
		d.Say("agent", err, "", "start it: systemctl start langbiang-edge")
	case err != nil:
		d.Say("agent", err, "", "")
	default:
		d.Say("agent", nil, fmt.Sprintf("%s runs, version %s, hub %s", s.Edge, s.Agent.Version, hubLine(s.Agent, time.Now())), "")
	}
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOOS
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

func (d diagnosis) clock(plan *Plan) {
	now := time.Now().Format(time.RFC3339)
	ok, err := clock.Synchronised()
	switch {
	case plan.Config.Clock.Trust == "always":
		d.Say("clock", nil, now+", believed because clock.trust says always", "")
	case err != nil:
		d.Say("clock", fmt.Errorf("%s; the system cannot say whether it is synchronised: %w", now, err), "", "the hub's time is used once it is reached")
	case !ok:
		d.Say("clock", fmt.Errorf("%s, not synchronised", now), "", "start chrony or systemd-timesyncd; until the hub's time is known readings wait in the log, and nothing is lost")
	default:
		d.Say("clock", nil, now+", synchronised", "")
	}
}

// bytesPerCommit is what one commit of the log costs a flash card: five pages
// and what the file system adds. See the benchmark of package buffer.
const bytesPerCommit = 45_000

// disk measures how long an fsync takes beside the log, and says what the
// writing does to the card.
func (d diagnosis) disk(plan *Plan) {
	dir := doctor.Existing(plan.Config.DataDir)
	free, err := doctor.Free(dir)
	if err != nil {
		d.Say("disk", err, "", "is data_dir right?")
		return
	}
	var fault error
	if max := int64(plan.Config.Buffer.MaxSize); free < max {
		fault = fmt.Errorf("%s free in %s, and the log may grow to %s", doctor.Size(free), dir, strictyaml.Size(max))
	}
	d.Say("disk", fault, fmt.Sprintf("%s free in %s", doctor.Size(free), dir), "make room, or give buffer.max_size less")
	took, err := doctor.FsyncTime(dir)
	if err != nil {
		d.Say("disk", err, "", "may the agent's user write there?")
		return
	}
	every := plan.Config.Buffer.CommitEvery
	perDay := int64(24*time.Hour/every) * bytesPerCommit
	text := fmt.Sprintf("fsync takes %v; buffer.commit_every %v writes about %s a day, %s a year to the card", took.Round(100*time.Microsecond), every, doctor.Size(perDay), doctor.Size(365*perDay))
	if took > time.Second {
		fault = fmt.Errorf("fsync takes %v", took.Round(time.Millisecond))
	} else {
		fault = nil
	}
	d.Say("disk", fault, text, "the card is slow or worn; replace it before it fails")
}

// port examines a serial port without opening it: the agent may be using it.
func (d diagnosis) port(id, path string) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.Say(id, fmt.Errorf("there is no port %s", path), "", "is the adapter plugged in? "+serialPorts())
		return
	case err != nil:
		d.Say(id, err, "", "")
		return
	case st.Mode()&os.ModeCharDevice == 0:
		d.Say(id, fmt.Errorf("%s is no serial port", path), "", serialPorts())
		return
	}
	if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil {
		d.Say(id, fmt.Errorf("%s may not be used by this user: %w", path, err), "", "add the user to the group of the port: usermod -aG dialout USER, then log in anew")
		return
	}
	d.Say(id, nil, path+" is there and may be used", "")
}

// serialPorts names what is plugged in.
func serialPorts() string {
	ports, err := filepath.Glob("/dev/serial/by-id/*")
	if err != nil || len(ports) == 0 {
		return "no adapter is plugged in"
	}
	return "plugged in are " + strings.Join(ports, ", ")
}

// reachTimeout bounds one attempt.
const reachTimeout = 3 * time.Second

func (d diagnosis) reach(ctx context.Context, subject, address, todo string) {
	dialer := net.Dialer{Timeout: reachTimeout}
	start := time.Now()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		d.Say(subject, err, "", todo)
		return
	}
	_ = conn.Close() // nothing was sent
	d.Say(subject, nil, fmt.Sprintf("%s takes connections (%v)", address, time.Since(start).Round(100*time.Microsecond)), "")
}

// hostOf returns host:port of a URL.
func hostOf(address, port string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return address
	}
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "mqtts" || u.Scheme == "ssl" || u.Scheme == "tls" {
		port = "8883"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
