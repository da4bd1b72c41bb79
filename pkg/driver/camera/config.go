package camera

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
)

// Config is a connection to cameras that take the same user. It implements
// [driver.Source]. The password is read when a camera is asked, so a new one is
// taken up at once.
type Config struct {
	User         string        `yaml:"user" doc:"user name at the cameras; one that may look is enough"`
	Password     string        `yaml:"password" doc:"password; better in a file or in the environment"`
	PasswordFile string        `yaml:"password_file" doc:"file whose first line is the password"`
	PasswordEnv  string        `yaml:"password_env" doc:"name of the environment variable that holds the password"`
	CAFile       string        `yaml:"ca_file" doc:"PEM file of the authority that signed the cameras' certificates; the system's authorities when not said"`
	Insecure     bool          `yaml:"insecure" doc:"do not check the cameras' certificates" default:"false"`
	Timeout      time.Duration `yaml:"timeout" doc:"how long a camera may take for an answer, a first key frame, or a picture" default:"5s"`
	Sample       time.Duration `yaml:"sample" doc:"how much of the stream is looked at for frame_rate and bit_rate" default:"2s"`
	FrozenAfter  time.Duration `yaml:"frozen_after" doc:"how long snapshots must not have changed before the picture counts as frozen" default:"10m"`
	Parallel     int           `yaml:"parallel" doc:"streams and pictures taken at a time" default:"2"`
}

// The schemes of the two addresses.
var (
	schemesRTSP     = []string{"rtsp", "rtsps"}
	schemesSnapshot = []string{"http", "https"}
)

// Kind implements [driver.Source].
func (c *Config) Kind() string { return "camera" }

// ApplyDefaults implements [driver.Source].
func (c *Config) ApplyDefaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Timeout, 5*time.Second)
	set(&c.Sample, 2*time.Second)
	set(&c.FrozenAfter, 10*time.Minute)
	if c.Parallel == 0 {
		c.Parallel = 2
	}
}

// Validate implements [driver.Source].
func (c *Config) Validate() (ps []driver.Problem) {
	bad := func(field, hint, format string, args ...any) {
		ps = append(ps, driver.Problem{Field: field, Msg: fmt.Sprintf(format, args...), Hint: hint})
	}
	given := 0
	for _, s := range []string{c.Password, c.PasswordFile, c.PasswordEnv} {
		if s != "" {
			given++
		}
	}
	if given > 1 {
		bad("password", "keep one of password, password_file and password_env", "given more than once")
	}
	if given > 0 && c.User == "" {
		bad("user", "write the user that the password belongs to", "must be set")
	}
	if given == 0 && c.User != "" {
		bad("password_file", "write password_file or password_env", "the user has no password")
	}
	if c.Insecure && c.CAFile != "" {
		bad("insecure", "remove one of them", "contradicts ca_file")
	}
	for _, d := range []struct {
		field    string
		v        time.Duration
		min, max time.Duration
	}{
		{"timeout", c.Timeout, 100 * time.Millisecond, time.Minute},
		{"sample", c.Sample, 100 * time.Millisecond, 30 * time.Second},
		{"frozen_after", c.FrozenAfter, time.Second, 24 * time.Hour},
	} {
		if d.v != 0 && (d.v < d.min || d.v > d.max) {
			bad(d.field, fmt.Sprintf("write a time from %v to %v", d.min, d.max), "%v is out of bounds", d.v)
		}
	}
	if c.Parallel < 0 || c.Parallel > 64 {
		bad("parallel", "write a number from 1 to 64", "%d is out of bounds", c.Parallel)
	}
	return ps
}

// CheckDevice returns what is wrong with a device on such a connection. Field is
// the key below the device: with.rtsp.
func CheckDevice(d *driver.Device) (ps []driver.Problem) {
	bad := func(field, msg, hint string) { ps = append(ps, driver.Problem{Field: field, Msg: msg, Hint: hint}) }
	for i := range d.Points {
		if d.Points[i].Protocol() != profile.ProtocolCamera {
			bad("connection", fmt.Sprintf("point %q is none of a camera", d.Points[i].ID), "give it camera:, or choose another connection")
			return ps
		}
	}
	if d.Camera == (profile.CameraDefaults{}) {
		bad("profile", "nothing says where to find the camera", "take a profile such as generic/rtsp-camera, and write with: {rtsp: rtsp://10.0.0.20/stream1}")
		return ps
	}
	for _, a := range []struct {
		address string
		schemes []string
	}{{d.Camera.RTSP, schemesRTSP}, {d.Camera.Snapshot, schemesSnapshot}} {
		if a.address == "" {
			continue
		}
		if _, err := address(a.address, a.schemes); err != nil {
			field := "with"
			for name, v := range d.With {
				if v == a.address {
					field = "with." + name
				}
			}
			bad(field, err.Error(), "write for example "+a.schemes[0]+"://10.0.0.20/path")
		}
	}
	for i := range d.Points {
		pt := &d.Points[i]
		if pt.OfStream() && d.Camera.RTSP == "" || !pt.OfStream() && d.Camera.Snapshot == "" {
			bad("points", fmt.Sprintf("nothing says where point %q is to be got from", pt.ID), "leave the point away, or take a profile that has its address")
		}
	}
	return ps
}

// address parses where a camera is.
func address(s string, schemes []string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is no address", s)
	case !slices.Contains(schemes, u.Scheme):
		return nil, fmt.Errorf("begins with %q, not with %s://", u.Scheme, strings.Join(schemes, ":// or "))
	case u.Hostname() == "":
		return nil, errors.New("names no host")
	case u.User != nil:
		return nil, errors.New("holds a user: write it under the connection's user and password_file")
	case len(s) > 1024:
		return nil, errors.New("is longer than 1024 bytes")
	}
	return u, nil
}

// Host returns where the camera is, for people; "" when nothing says so.
func Host(d *driver.Device) string {
	for _, a := range []string{d.Camera.Snapshot, d.Camera.RTSP} {
		if u, err := url.Parse(a); err == nil && u.Hostname() != "" {
			return u.Hostname()
		}
	}
	return ""
}

// New implements [driver.Source]. It fails when the configuration or a device has
// faults; it opens nothing.
func (c *Config) New(id string, devices []*driver.Device, env driver.Env) (driver.Driver, error) {
	cfg := *c
	var errs []error
	for _, p := range cfg.Validate() {
		errs = append(errs, fmt.Errorf("connection %s: %w", id, p))
	}
	cfg.ApplyDefaults()
	for _, d := range devices {
		for _, p := range CheckDevice(d) {
			errs = append(errs, fmt.Errorf("connection %s: device %s: %w", id, d.ID, p))
		}
		if d.Interval <= 0 {
			errs = append(errs, fmt.Errorf("connection %s: device %s: interval %v is not positive", id, d.ID, d.Interval))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return newDriver(id, &cfg, devices, env), nil
}

// login is what is shown to a camera that asks.
type login struct{ user, password string }

func (c *Config) login() (login, error) {
	l := login{c.User, c.Password}
	switch {
	case c.PasswordFile != "":
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return l, fmt.Errorf("password_file: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		l.password = strings.TrimRight(line, "\r")
	case c.PasswordEnv != "":
		v, ok := os.LookupEnv(c.PasswordEnv)
		if !ok {
			return l, fmt.Errorf("password_env: the environment has no %s", c.PasswordEnv)
		}
		l.password = v
	}
	return l, nil
}

func (c *Config) tlsConfig(host string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, InsecureSkipVerify: c.Insecure} //nolint:gosec // only when the operator wrote insecure: true
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no PEM certificate", c.CAFile)
		}
	}
	return t, nil
}
