package edge

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Plan is a configuration that holds: what the agent will do, resolved.
type Plan struct {
	Config      Config
	Connections []Connection
	Devices     []*driver.Device // all that can be read, in the order of the file
	// Disabled are devices whose profile is faulty, with the reason. The others run.
	Disabled   map[string]error
	Quantities telemetry.Quantities
	Filters    filterSet
	Warnings   strictyaml.Errors
	// Clock is what log time is made from; nil: this machine's own clocks.
	Clock clock.Source

	// Simulated says that the connections lead to langbiang-edge simulate, not to
	// what the file says.
	Simulated bool

	library *profile.Library
	reload  func() (*Plan, error) // reads the same file anew; nil: there is none
}

// Connection is a way to reach devices, with those that use it.
type Connection struct {
	ID      string
	Source  driver.Source
	Devices []*driver.Device
}

var (
	idPattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	labelPattern = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,127}$`)
)

// reservedLabels are given by the hub.
var reservedLabels = []string{
	telemetry.LabelSite, telemetry.LabelEdge, telemetry.LabelDevice, telemetry.LabelPoint, telemetry.LabelLate, "quantity",
}

// Load reads edge.yaml, applies overrides (flags and environment; may be nil)
// and resolves it. The error holds every fault of the file at once, each with
// its place ([strictyaml.Errors]).
func Load(path string, override func(*Config) error) (*Plan, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	doc, errs := strictyaml.Parse(path, data)
	if len(errs) > 0 {
		return nil, errs
	}
	cfg := DefaultConfig()
	errs = doc.Decode(&cfg)
	dir := filepath.Dir(path)
	cfg.DataDir = relative(dir, cfg.DataDir)
	for i := range cfg.Profiles {
		cfg.Profiles[i] = relative(dir, cfg.Profiles[i])
	}
	for _, cc := range cfg.Connections {
		// A serial line by a path from here: what the simulated field makes.
		if m := cc.Modbus; m != nil && (strings.HasPrefix(m.Port, "./") || strings.HasPrefix(m.Port, "../")) {
			if port, err := filepath.Abs(relative(dir, m.Port)); err == nil {
				m.Port = port
			}
		}
	}
	if override != nil {
		if err := override(&cfg); err != nil {
			return nil, err
		}
	}
	quantities, err := catalogue()
	if err != nil {
		return nil, err
	}
	c := &checker{doc: doc, cfg: &cfg, quantities: maps.Clone(quantities), errs: errs}
	c.settings()
	library := profile.Open(quantities, c.profileFolders()...)
	plan := &Plan{Config: cfg, reload: func() (*Plan, error) { return Load(path, override) }, Disabled: map[string]error{}, Quantities: c.quantities, Filters: filterSet{}, library: library}
	c.connections(plan)
	c.devices(plan, library)
	c.quantityFilters()
	c.lines(plan)
	plan.Warnings = c.warnings
	if err := c.errs.Err(); err != nil {
		return nil, err
	}
	return plan, nil
}

// catalogue returns the embedded quantities.
func catalogue() (telemetry.Quantities, error) {
	data, err := firmwareprofiles.FS.ReadFile("quantities.yaml")
	if err != nil {
		return nil, fmt.Errorf("embedded catalogue: %w", err)
	}
	q, err := profile.ParseQuantities("quantities.yaml", data)
	if err != nil {
		return nil, fmt.Errorf("embedded catalogue: %w", err)
	}
	return q, nil
}

// relative resolves a path of the file against the file's folder.
func relative(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// checker gathers the faults of one file.
type checker struct {
	doc        *strictyaml.Document
	cfg        *Config
	quantities telemetry.Quantities
	errs       strictyaml.Errors
	warnings   strictyaml.Errors
}

func (c *checker) fault(msg, hint string, path ...any) {
	c.errs = append(c.errs, c.doc.Fault(path, msg, hint))
}

func (c *checker) faulted(path ...any) bool {
	at := c.doc.At(path...)
	return slices.ContainsFunc(c.errs, func(e strictyaml.Error) bool { return e.Pos == at })
}

func (c *checker) settings() {
	cfg := c.cfg
	switch {
	case c.faulted("edge", "id"):
	case cfg.Edge.ID == "":
		c.fault("must be set", "write the name of this agent, for example lac-duong-01", "edge", "id")
	case !idPattern.MatchString(cfg.Edge.ID):
		c.fault(fmt.Sprintf("%q is not an id", cfg.Edge.ID), "use a-z, 0-9 and -, at most 63, a letter or digit at both ends", "edge", "id")
	}
	if len(cfg.Edge.Site) > telemetry.MaxNameLen {
		c.fault("too long", fmt.Sprintf("at most %d bytes", telemetry.MaxNameLen), "edge", "site")
	}
	if cfg.Hub.URL == "" && !c.faulted("hub", "url") {
		c.fault("must be set", "write the hub's MQTT address, for example mqtt://127.0.0.1:1883", "hub", "url")
	}
	if u, err := url.Parse(cfg.Hub.URL); err == nil && (u.Scheme == "mqtt" || u.Scheme == "tcp") && !cfg.Hub.Insecure && !c.faulted("hub", "url") {
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			c.fault("plain text to another machine: whoever is on the way reads and changes it", "enrol this gateway (langbiang-edge enroll) and write mqtts://, or set hub.insecure: true if the network is trusted", "hub", "url")
		}
	}
	c.oneOf(cfg.Hub.Link, []string{linkUnmetered, linkMetered}, "hub", "link")
	c.oneOf(cfg.Hub.Remote, []string{remoteOn, remoteOff}, "hub", "remote")
	if c.doc.Has("hub", "send_every") || cfg.Hub.SendEvery != 0 {
		c.atLeast(int64(cfg.Hub.SendEvery), 50_000_000, "50ms", "hub", "send_every")
	}
	if cfg.Hub.SendEvery > bundle {
		c.fault("too long", fmt.Sprintf("at most %s, or the hub could not tell a slow edge from a silent one", bundle), "hub", "send_every")
	}
	if c.doc.Has("hub", "max_rate") || cfg.Hub.MaxRate != 0 {
		c.atLeast(int64(cfg.Hub.MaxRate), 1000, "1kB: a second of it must hold a message", "hub", "max_rate")
	}
	c.atLeast(int64(cfg.Hub.Heartbeat), 1_000_000_000, "1s", "hub", "heartbeat")
	if cfg.Hub.Heartbeat > stallAfter/2 {
		c.fault("too long", fmt.Sprintf("at most %s, or pauses could not be told from stalls", stallAfter/2), "hub", "heartbeat")
	}
	c.atLeast(int64(cfg.Buffer.CommitEvery), 100_000_000, "100ms", "buffer", "commit_every")
	c.atLeast(int64(cfg.Buffer.MaxSize), 1<<20, "1MiB", "buffer", "max_size")
	c.atLeast(int64(cfg.Buffer.MaxAge), int64(cfg.Buffer.Keep), "buffer.keep", "buffer", "max_age")
	c.oneOf(cfg.Clock.Trust, []string{"auto", "always"}, "clock", "trust")
	c.oneOf(cfg.Log.Level, []string{"debug", "info", "warn", "error"}, "log", "level")
	c.oneOf(cfg.Log.Format, []string{"text", "json"}, "log", "format")
	if len(cfg.Devices) == 0 && !c.doc.Has("devices") {
		c.warnings = append(c.warnings, c.doc.Fault([]any{"devices"}, "no devices: this agent will only say that it is alive", "list them under devices:"))
	}
}

func (c *checker) atLeast(v, least int64, text string, path ...any) {
	if v < least && !c.faulted(path...) {
		c.fault("too small", "at least "+text, path...)
	}
}

func (c *checker) oneOf(v string, known []string, path ...any) {
	if !slices.Contains(known, v) && !c.faulted(path...) {
		c.fault(fmt.Sprintf("%q is not known", v), strictyaml.Meant(v, known), path...)
	}
}

func (c *checker) profileFolders() []fs.FS {
	folders := []fs.FS{firmwareprofiles.FS}
	for i, dir := range c.cfg.Profiles {
		st, err := os.Stat(dir)
		if err != nil || !st.IsDir() {
			c.fault(fmt.Sprintf("%q is not a folder", dir), "paths are relative to the folder of this file", "profiles", i)
			continue
		}
		folders = append(folders, profile.Dir(dir))
	}
	return folders
}
