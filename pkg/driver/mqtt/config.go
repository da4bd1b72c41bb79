package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
)

// Config is a connection to an MQTT broker. It implements [driver.Source].
// Files are read when the connection is made, so that a renewed certificate is
// taken up at the next one.
type Config struct {
	URL            string        `yaml:"url" doc:"address of the broker: tcp:// or mqtt:// (port 1883), ssl:// or mqtts:// (port 8883)" example:"tcp://127.0.0.1:1883"`
	ClientID       string        `yaml:"client_id" doc:"name at the broker; made of the edge's and the connection's id when not said"`
	User           string        `yaml:"user" doc:"user name"`
	Password       string        `yaml:"password" doc:"password; better in a file or in the environment"`
	PasswordFile   string        `yaml:"password_file" doc:"file whose first line is the password"`
	PasswordEnv    string        `yaml:"password_env" doc:"name of the environment variable that holds the password"`
	CAFile         string        `yaml:"ca_file" doc:"PEM file of the authority that signed the broker's certificate; the system's authorities when not said"`
	CertFile       string        `yaml:"cert_file" doc:"PEM file of the client's certificate (mTLS)"`
	KeyFile        string        `yaml:"key_file" doc:"PEM file of the client's key"`
	Insecure       bool          `yaml:"insecure" doc:"do not check the broker's certificate" default:"false"`
	QoS            *int          `yaml:"qos" doc:"quality of service asked for: 0 or 1; brokers that allow few messages in flight may need 0 for fast devices" default:"1"`
	Keepalive      time.Duration `yaml:"keepalive" doc:"a dead link is noticed after about one and a half times this" default:"30s"`
	ConnectTimeout time.Duration `yaml:"connect_timeout" doc:"time for connecting and for each answer of the broker" default:"10s"`
	MaxReconnect   time.Duration `yaml:"max_reconnect" doc:"longest pause between two attempts to connect" default:"10s"`
	Queue          int           `yaml:"queue" doc:"messages that may wait in memory to be read" default:"2048"`
}

// Kind implements [driver.Source].
func (c *Config) Kind() string { return "mqtt" }

// ApplyDefaults implements [driver.Source].
func (c *Config) ApplyDefaults() {
	if c.QoS == nil {
		one := 1
		c.QoS = &one
	}
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Keepalive, 30*time.Second)
	set(&c.ConnectTimeout, 10*time.Second)
	set(&c.MaxReconnect, 10*time.Second)
	if c.Queue == 0 {
		c.Queue = 2048
	}
}

// Identify gives the connection its name at the broker when the configuration
// has none. The name must be the same at every start and unique at the broker:
// it is what the broker keeps unacknowledged messages under. Without one the
// driver takes a random name and the broker keeps nothing.
func (c *Config) Identify(edge, connection string) {
	if c.ClientID == "" {
		c.ClientID = "langbiang-" + edge + "-" + connection
	}
}

// Validate implements [driver.Source].
func (c *Config) Validate() []driver.Problem {
	var ps []driver.Problem
	bad := func(field, format string, args ...any) {
		ps = append(ps, driver.Problem{Field: field, Msg: fmt.Sprintf(format, args...)})
	}
	secure := false
	if c.URL == "" {
		bad("url", "missing; write the broker's address, for example tcp://127.0.0.1:1883")
	} else if u, err := brokerURL(c.URL); err != nil {
		bad("url", "%v", err)
	} else {
		secure = u.Scheme == "ssl"
	}
	if len(c.ClientID) > 128 {
		bad("client_id", "longer than 128 bytes")
	}
	given := 0
	for _, s := range []string{c.Password, c.PasswordFile, c.PasswordEnv} {
		if s != "" {
			given++
		}
	}
	if given > 1 {
		bad("password", "give only one of password, password_file and password_env")
	}
	if given > 0 && c.User == "" {
		bad("user", "missing: a password needs a user")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("cert_file", "cert_file and key_file belong together; one of them is missing")
	}
	if c.URL != "" && !secure {
		for field, v := range map[string]bool{"ca_file": c.CAFile != "", "cert_file": c.CertFile != "", "insecure": c.Insecure} {
			if v {
				bad(field, "only means something with ssl:// or mqtts://")
			}
		}
	}
	if c.Insecure && c.CAFile != "" {
		bad("insecure", "contradicts ca_file: remove one of them")
	}
	if c.QoS != nil && *c.QoS != 0 && *c.QoS != 1 {
		bad("qos", "is %d; write 0 or 1", *c.QoS)
	}
	for _, d := range []struct {
		field    string
		v        time.Duration
		min, max time.Duration
	}{
		{"keepalive", c.Keepalive, time.Second, 18 * time.Hour},
		{"connect_timeout", c.ConnectTimeout, 100 * time.Millisecond, 5 * time.Minute},
		{"max_reconnect", c.MaxReconnect, 100 * time.Millisecond, time.Hour},
	} {
		if d.v != 0 && (d.v < d.min || d.v > d.max) {
			bad(d.field, "is %v; write a time from %v to %v", d.v, d.min, d.max)
		}
	}
	if c.Queue < 0 || c.Queue > 1_000_000 || c.Queue > 0 && c.Queue < 16 {
		bad("queue", "is %d; write a number from 16 to 1000000", c.Queue)
	}
	return ps
}

// New implements [driver.Source]. It fails when the configuration has faults, or
// when a point names no valid topic.
func (c *Config) New(id string, devices []*driver.Device, env driver.Env) (driver.Driver, error) {
	cfg := *c
	if ps := cfg.Validate(); len(ps) > 0 {
		errs := make([]error, len(ps))
		for i, p := range ps {
			errs[i] = fmt.Errorf("mqtt %s: %s: %s", id, p.Field, p.Msg)
		}
		return nil, errors.Join(errs...)
	}
	cfg.ApplyDefaults()
	return newDriver(cfg, id, devices, env)
}

// brokerURL parses the address and brings the scheme to tcp or ssl, the port
// filled in.
func brokerURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	port := ""
	switch strings.ToLower(u.Scheme) {
	case "tcp", "mqtt":
		u.Scheme, port = "tcp", "1883"
	case "ssl", "mqtts":
		u.Scheme, port = "ssl", "8883"
	default:
		return nil, fmt.Errorf("begins with %q; write tcp://, mqtt://, ssl:// or mqtts://", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("names no host; write for example tcp://127.0.0.1:1883")
	}
	if u.User != nil {
		return nil, errors.New("holds a user; write it under user and password_file")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("has more than host and port")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return u, nil
}

// password returns the password from where the configuration says it is.
func (c *Config) password() (string, error) {
	switch {
	case c.PasswordFile != "":
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("password_file: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		return strings.TrimRight(line, "\r"), nil
	case c.PasswordEnv != "":
		v, ok := os.LookupEnv(c.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("password_env: the environment has no %s", c.PasswordEnv)
		}
		return v, nil
	}
	return c.Password, nil
}

// tlsConfig reads the certificates.
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
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file, key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
