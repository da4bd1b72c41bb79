package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

func doctorCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "doctor", Short: "examine this gateway: ports, rights, clock, disk, brokers, hub; each line ok or what to do",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			d := &doctor{w: c.Stdout}
			d.examine(ctx, plan, c.Version)
			if d.err != nil {
				return d.err
			}
			if d.ill > 0 {
				return fmt.Errorf("%s to mend", settings.Count(d.ill, "thing"))
			}
			return nil
		},
	}
}

// doctor prints what it finds.
type doctor struct {
	w   io.Writer
	ill int
	err error
}

// say prints a finding: what is fine, or what is wrong and what to do.
func (d *doctor) say(subject string, fault error, text, todo string) {
	mark := "ok  "
	if fault != nil {
		d.ill++
		mark, text = "MEND", fault.Error()+"; "+todo
	}
	if _, err := fmt.Fprintf(d.w, "%s  %-10s %s\n", mark, subject, text); d.err == nil {
		d.err = err
	}
}

func (d *doctor) examine(ctx context.Context, plan *Plan, version string) {
	d.say("version", nil, fmt.Sprintf("%s, %s/%s, %s", version, runtime.GOOS, runtime.GOARCH, kernel()), "")
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
		d.say("hub", nil, noHub, "")
	} else {
		d.reach(ctx, "hub", hostOf(plan.Config.Hub.URL, "1883"), "is the network up, and hub.url right? Readings are kept in the log meanwhile")
	}
	var s status
	switch err := ask(ctx, plan.Config.DataDir, "/status", nil, &s); {
	case errors.Is(err, errNotRunning):
		d.say("agent", err, "", "start it: systemctl start langbiang-edge")
	case err != nil:
		d.say("agent", err, "", "")
	default:
		d.say("agent", nil, fmt.Sprintf("%s runs, version %s, hub %s", s.Edge, s.Agent.Version, hubLine(s.Agent, time.Now())), "")
	}
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOOS
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

func (d *doctor) clock(plan *Plan) {
	now := time.Now().Format(time.RFC3339)
	ok, err := clock.Synchronised()
	switch {
	case plan.Config.Clock.Trust == "always":
		d.say("clock", nil, now+", believed because clock.trust says always", "")
	case err != nil:
		d.say("clock", fmt.Errorf("%s; the system cannot say whether it is synchronised: %w", now, err), "", "the hub's time is used once it is reached")
	case !ok:
		d.say("clock", fmt.Errorf("%s, not synchronised", now), "", "start chrony or systemd-timesyncd; until the hub's time is known readings wait in the log, and nothing is lost")
	default:
		d.say("clock", nil, now+", synchronised", "")
	}
}

// bytesPerCommit is what one commit of the log costs a flash card: five pages
// and what the file system adds. See the benchmark of package buffer.
const bytesPerCommit = 45_000

// disk measures how long an fsync takes beside the log, and says what the
// writing does to the card.
func (d *doctor) disk(plan *Plan) {
	dir := plan.Config.DataDir
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir) // it is made at the first start
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		d.say("disk", err, "", "is data_dir right?")
		return
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // their types differ between machines
	var fault error
	if max := int64(plan.Config.Buffer.MaxSize); free < max {
		fault = fmt.Errorf("%s free in %s, and the log may grow to %s", humanSize(free), dir, strictyaml.Size(max))
	}
	d.say("disk", fault, fmt.Sprintf("%s free in %s", humanSize(free), dir), "make room, or give buffer.max_size less")
	took, err := fsyncTime(dir)
	if err != nil {
		d.say("disk", err, "", "may the agent's user write there?")
		return
	}
	every := plan.Config.Buffer.CommitEvery
	perDay := int64(24*time.Hour/every) * bytesPerCommit
	text := fmt.Sprintf("fsync takes %v; buffer.commit_every %v writes about %s a day, %s a year to the card", took.Round(100*time.Microsecond), every, humanSize(perDay), humanSize(365*perDay))
	if took > time.Second {
		fault = fmt.Errorf("fsync takes %v", took.Round(time.Millisecond))
	} else {
		fault = nil
	}
	d.say("disk", fault, text, "the card is slow or worn; replace it before it fails")
}

// fsyncTime is the median of some small durable writes in dir.
func fsyncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name()) // a left-over is empty and harmless
	}()
	var took [5]time.Duration
	block := make([]byte, 4096)
	for i := range took {
		start := time.Now()
		if _, err := f.WriteAt(block, 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
		for j := i; j > 0 && took[j] < took[j-1]; j-- {
			took[j], took[j-1] = took[j-1], took[j]
		}
	}
	return took[len(took)/2], nil
}

// port examines a serial port without opening it: the agent may be using it.
func (d *doctor) port(id, path string) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.say(id, fmt.Errorf("there is no port %s", path), "", "is the adapter plugged in? "+serialPorts())
		return
	case err != nil:
		d.say(id, err, "", "")
		return
	case st.Mode()&os.ModeCharDevice == 0:
		d.say(id, fmt.Errorf("%s is no serial port", path), "", serialPorts())
		return
	}
	if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil {
		d.say(id, fmt.Errorf("%s may not be used by this user: %w", path, err), "", "add the user to the group of the port: usermod -aG dialout USER, then log in anew")
		return
	}
	d.say(id, nil, path+" is there and may be used", "")
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

func (d *doctor) reach(ctx context.Context, subject, address, todo string) {
	dialer := net.Dialer{Timeout: reachTimeout}
	start := time.Now()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		d.say(subject, err, "", todo)
		return
	}
	_ = conn.Close() // nothing was sent
	d.say(subject, nil, fmt.Sprintf("%s takes connections (%v)", address, time.Since(start).Round(100*time.Microsecond)), "")
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
