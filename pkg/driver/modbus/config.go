package modbus

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
)

// The transports.
const (
	TransportTCP          = "tcp"
	TransportRTU          = "rtu"
	TransportASCII        = "ascii"
	TransportRTUOverTCP   = "rtu-over-tcp"
	TransportASCIIOverTCP = "ascii-over-tcp"
)

// Transports are the words that transport: may be.
func Transports() []string {
	return []string{TransportTCP, TransportRTU, TransportASCII, TransportRTUOverTCP, TransportASCIIOverTCP}
}

// Config is a Modbus connection in edge.yaml: a TCP endpoint (a device, or a
// gateway with several unit ids behind it), or a serial bus. Zero fields mean
// the default.
type Config struct {
	Transport      string        `yaml:"transport" doc:"tcp, rtu (serial), ascii (serial), rtu-over-tcp or ascii-over-tcp (a transparent serial-to-Ethernet converter)" default:"tcp"`
	Address        string        `yaml:"address" doc:"host or host:port, for the TCP transports; port 502 when not said" example:"10.0.0.5:502"`
	Port           string        `yaml:"port" doc:"serial device, for rtu and ascii; names below /dev/serial/by-id survive a reboot" example:"/dev/serial/by-id/usb-FTDI_USB-RS485_A1-if00-port0"`
	Baud           int           `yaml:"baud" doc:"serial speed; with rtu-over-tcp and ascii-over-tcp the speed behind the converter; when not said, the factory setting of the devices on the line" default:"9600"`
	Parity         string        `yaml:"parity" doc:"none, even or odd; when not said, as of baud" default:"none"`
	StopBits       int           `yaml:"stop_bits" doc:"1 or 2; when not said, as of baud" default:"1"`
	DataBits       int           `yaml:"data_bits" doc:"8; ascii devices may use 7" default:"8"`
	Timeout        time.Duration `yaml:"timeout" doc:"how long a device may think before it answers; the time on the wire is added" default:"1s"`
	ConnectTimeout time.Duration `yaml:"connect_timeout" doc:"how long a TCP connection may take to be made" default:"5s"`
	Pause          time.Duration `yaml:"pause" doc:"silence on the bus between an answer and the next request, on top of what the baud rate asks for" default:"0s"`
	Retries        *int          `yaml:"retries" doc:"how often a request is repeated when the answer is missing or damaged, as far as the device's budget goes" default:"1"`
}

// Kind implements [driver.Source].
func (c *Config) Kind() string { return "modbus" }

// ApplyDefaults implements [driver.Source].
func (c *Config) ApplyDefaults() {
	if c.Transport == "" {
		c.Transport = TransportTCP
		if c.Port != "" && c.Address == "" {
			c.Transport = TransportRTU
		}
	}
	if c.overTCP() && c.Address != "" {
		if _, _, err := net.SplitHostPort(c.Address); err != nil && !strings.HasSuffix(c.Address, ":") {
			c.Address = net.JoinHostPort(strings.Trim(c.Address, "[]"), "502")
		}
	}
	if c.Transport != TransportTCP {
		if c.Baud == 0 {
			c.Baud = 9600
		}
		if c.Parity == "" {
			c.Parity = "none"
		}
		if c.StopBits == 0 {
			c.StopBits = 1
		}
		if c.DataBits == 0 {
			c.DataBits = 8
		}
	}
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.Retries == nil {
		one := 1
		c.Retries = &one
	}
}

func (c *Config) overTCP() bool {
	return c.Transport == TransportTCP || c.Transport == TransportRTUOverTCP || c.Transport == TransportASCIIOverTCP
}

func (c *Config) ascii() bool {
	return c.Transport == TransportASCII || c.Transport == TransportASCIIOverTCP
}

// Validate implements [driver.Source]. It judges what was written: call it with or
// without ApplyDefaults before.
func (c *Config) Validate() []driver.Problem {
	var ps []driver.Problem
	bad := func(field, format string, args ...any) {
		ps = append(ps, driver.Problem{Field: field, Msg: fmt.Sprintf(format, args...)})
	}
	d := *c
	d.ApplyDefaults()
	if !slices.Contains(Transports(), d.Transport) {
		bad("transport", "%q is none of %s", d.Transport, strings.Join(Transports(), ", "))
		return ps
	}
	if d.overTCP() {
		d.validateAddress(bad)
	} else {
		d.validatePort(bad)
	}
	d.validateSerial(bad)
	for _, f := range []struct {
		name     string
		value    time.Duration
		min, max time.Duration
	}{
		{"timeout", d.Timeout, 10 * time.Millisecond, time.Minute},
		{"connect_timeout", d.ConnectTimeout, 100 * time.Millisecond, time.Minute},
		{"pause", d.Pause, 0, 10 * time.Second},
	} {
		if f.value < f.min || f.value > f.max {
			bad(f.name, "%v is not between %v and %v", f.value, f.min, f.max)
		}
	}
	if *d.Retries < 0 || *d.Retries > 10 {
		bad("retries", "%d is not between 0 and 10", *d.Retries)
	}
	return ps
}

type complain func(field, format string, args ...any)

func (c *Config) validateAddress(bad complain) {
	switch host, port, err := net.SplitHostPort(c.Address); {
	case c.Address == "":
		bad("address", "transport %s needs an address, for example 10.0.0.5:502", c.Transport)
	case err != nil:
		bad("address", "%q is not host:port", c.Address)
	case host == "":
		bad("address", "%q names no host", c.Address)
	default:
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			bad("address", "%q is not a port between 1 and 65535", port)
		}
	}
	if c.Port != "" {
		bad("port", "is a serial device and means nothing with transport %s; the TCP port belongs into address", c.Transport)
	}
}

func (c *Config) validatePort(bad complain) {
	if c.Address != "" {
		bad("address", "means nothing with transport %s, which takes port", c.Transport)
	}
	switch {
	case c.Port == "":
		bad("port", "transport %s needs a serial device, for example /dev/ttyUSB0", c.Transport)
	case !strings.HasPrefix(c.Port, "/"):
		bad("port", "%q is not a path; serial devices stand below /dev", c.Port)
	}
}

func (c *Config) validateSerial(bad complain) {
	if c.Transport == TransportTCP {
		for _, f := range []struct {
			name string
			said bool
		}{{"baud", c.Baud != 0}, {"parity", c.Parity != ""}, {"stop_bits", c.StopBits != 0}, {"data_bits", c.DataBits != 0}} {
			if f.said {
				bad(f.name, "means nothing with transport tcp; for a serial bus say transport: rtu, for a transparent converter rtu-over-tcp")
			}
		}
		return
	}
	if !slices.Contains(baudRates, c.Baud) {
		bad("baud", "%d is none of %s", c.Baud, joinInts(baudRates))
	}
	if !slices.Contains([]string{"none", "even", "odd"}, c.Parity) {
		bad("parity", "%q is none of none, even, odd", c.Parity)
	}
	if c.StopBits != 1 && c.StopBits != 2 {
		bad("stop_bits", "%d is neither 1 nor 2", c.StopBits)
	}
	if c.DataBits != 8 && (c.DataBits != 7 || !c.ascii()) {
		bad("data_bits", "%d cannot be; 8, or 7 for ascii", c.DataBits)
	}
}

// baudRates are the speeds that every serial driver knows.
var baudRates = []int{300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600}

func joinInts(ns []int) string {
	s := make([]string, len(ns))
	for i, n := range ns {
		s[i] = strconv.Itoa(n)
	}
	return strings.Join(s, ", ")
}

// charBits is the length of one character on the wire, start bit included.
func (c *Config) charBits() int {
	n := 1 + c.DataBits + c.StopBits
	if c.Parity != "none" {
		n++
	}
	return n
}

// otherwise says, for a device that does not answer, how its factory settings
// differ from those of the line; empty when they do not.
func (c *Config) otherwise(d *profile.ModbusDefaults) string {
	if c.Transport == TransportTCP {
		return ""
	}
	own := *c
	if d.Baud != 0 {
		own.Baud = d.Baud
	}
	if d.Parity != "" {
		own.Parity = d.Parity
	}
	if d.StopBits != 0 {
		own.StopBits = d.StopBits
	}
	if own == *c {
		return ""
	}
	return fmt.Sprintf("; it leaves the factory with %s, this line has %s", own.Line(), c.Line())
}

// Line returns the serial settings as people write them: "9600 8N1".
func (c *Config) Line() string {
	parity := "N"
	if c.Parity != "" {
		parity = strings.ToUpper(c.Parity[:1])
	}
	return fmt.Sprintf("%d %d%s%d", c.Baud, c.DataBits, parity, c.StopBits)
}

// New implements [driver.Source]. It returns an error when the configuration,
// or a device's unit id, can never work; it opens nothing.
func (c *Config) New(id string, devices []*driver.Device, env driver.Env) (driver.Driver, error) {
	var errs []error
	for _, p := range c.Validate() {
		errs = append(errs, fmt.Errorf("connection %s: %w", id, p))
	}
	for _, d := range devices {
		if d.Unit < 0 || d.Unit > 255 {
			errs = append(errs, fmt.Errorf("connection %s: device %s: unit %d is not between 0 and 255", id, d.ID, d.Unit))
		}
		if d.Interval <= 0 {
			errs = append(errs, fmt.Errorf("connection %s: device %s: interval %v is not positive", id, d.ID, d.Interval))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	cfg := *c
	cfg.ApplyDefaults()
	return newBus(id, &cfg, newWireLine(&cfg), devices, env), nil
}
