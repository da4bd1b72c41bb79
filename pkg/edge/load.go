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
	"github.com/langbiang/langbiang/pkg/wire"
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
	reload  func() (*Plan, error)               // reads the same file anew; nil: there is none
	with    func(hub *hubConfig) (*Plan, error) // the same with the hub's configuration; nil of it: without
	path    string                              // of the file
	own     wire.Hash                           // of the file's part that the hub may decide
	hub     *hubConfig                          // the hub's configuration that this is made with; nil: none
	// unfit says why hub is not the configuration that the data folder has in force.
	unfit error
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
// and resolves it. Where the hub decides (owner: hub), connections and devices are
// those of its configuration that is in force in the data folder. The error holds
// every fault of the file at once, each with its place ([strictyaml.Errors]).
func Load(path string, override func(*Config) error) (*Plan, error) {
	f, err := readFile(path, override)
	if err != nil {
		return nil, err
	}
	if f.cfg.Owner != wire.OwnerHub {
		return f.plan(nil)
	}
	return f.planOfHub()
}

// configFile is edge.yaml, read and not yet resolved.
type configFile struct {
	path     string
	override func(*Config) error
	doc      *strictyaml.Document
	cfg      Config
	errs     strictyaml.Errors
	own      wire.Hash // of its part that the hub may decide
}

func readFile(path string, override func(*Config) error) (*configFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	doc, errs := strictyaml.Parse(path, data)
	if len(errs) > 0 {
		return nil, errs
	}
	f := &configFile{path: path, override: override, doc: doc, cfg: DefaultConfig()}
	f.errs = doc.Decode(&f.cfg)
	f.own = hashPart(&f.cfg)
	dir := filepath.Dir(path)
	f.cfg.DataDir = relative(dir, f.cfg.DataDir)
	for i := range f.cfg.Profiles {
		f.cfg.Profiles[i] = relative(dir, f.cfg.Profiles[i])
	}
	for _, cc := range f.cfg.Connections {
		// A serial line by a path from here: what the simulated field makes.
		if m := cc.Modbus; m != nil && (strings.HasPrefix(m.Port, "./") || strings.HasPrefix(m.Port, "../")) {
			if port, err := filepath.Abs(relative(dir, m.Port)); err == nil {
				m.Port = port
			}
		}
	}
	if override != nil {
		if err := override(&f.cfg); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// plan resolves the file, with the hub's configuration in the place of its own part
// when there is one.
func (f *configFile) plan(hub *hubConfig) (*Plan, error) {
	quantities, err := catalogue()
	if err != nil {
		return nil, err
	}
	cfg := f.cfg
	c := &checker{doc: f.doc, cfg: &cfg, quantities: maps.Clone(quantities), errs: slices.Clone(f.errs)}
	if hub != nil {
		c.errs = withoutPart(c.errs) // what is not used need not be right
		c.decode(hub, secretsDir(f.path))
	}
	c.settings()
	library := profile.Open(quantities, c.profileFolders()...)
	plan := &Plan{
		Config: cfg, Disabled: map[string]error{}, Quantities: c.quantities, Filters: filterSet{}, library: library, path: f.path, own: f.own, hub: hub,
		reload: func() (*Plan, error) { return Load(f.path, f.override) },
		with: func(hub *hubConfig) (*Plan, error) {
			again, err := readFile(f.path, f.override)
			if err != nil {
				return nil, err
			}
			return again.plan(hub)
		},
	}
	c.resolve(plan)
	plan.Warnings = c.warnings
	if err := c.errs.Err(); err != nil {
		return nil, err
	}
	return plan, nil
}

// resolve fills in what connections and devices come to.
func (c *checker) resolve(plan *Plan) {
	c.connections(plan)
	c.devices(plan, plan.library)
	c.quantityFilters()
	c.lines(plan)
	plan.Config = *c.cfg
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
	hubDoc     *strictyaml.Document // the hub's configuration; nil: the file's own part counts
	elsewhere  bool                 // this is not the gateway: its own profiles are not here
	cfg        *Config
	quantities telemetry.Quantities
	errs       strictyaml.Errors
	warnings   strictyaml.Errors
}

// fleetDoc is the document that connections and devices stand in.
func (c *checker) fleetDoc() *strictyaml.Document {
	if c.hubDoc != nil {
		return c.hubDoc
	}
	return c.doc
}

// docOf is the document that a path leads into.
func (c *checker) docOf(path []any) *strictyaml.Document {
	if len(path) > 0 {
		if key, ok := path[0].(string); ok && slices.Contains(hubPart, key) {
			return c.fleetDoc()
		}
	}
	return c.doc
}

func (c *checker) fault(msg, hint string, path ...any) {
	c.errs = append(c.errs, c.docOf(path).Fault(path, msg, hint))
}

func (c *checker) faulted(path ...any) bool {
	at := c.docOf(path).At(path...)
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
	c.oneOf(cfg.Owner, []string{wire.OwnerGateway, wire.OwnerHub}, "owner")
	c.atLeast(int64(cfg.Hub.RollbackAfter), 5_000_000_000, "5s", "hub", "rollback_after")
	if len(cfg.Devices) == 0 && !c.fleetDoc().Has("devices") {
		c.warnings = append(c.warnings, c.fleetDoc().Fault([]any{"devices"}, "no devices: this agent will only say that it is alive", "list them under devices:"))
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
