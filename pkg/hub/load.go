package hub

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Plan is a configuration that holds, with what its files say.
type Plan struct {
	Config     Config
	Sites      []Site
	Quantities telemetry.Quantities
	Rules      []rules.Source // the rule files as they stand on disk
	Set        *rules.Set     // what they say
	Outlines   []byte         // of the map: the file page.outlines
	Warnings   strictyaml.Errors

	doc       *strictyaml.Document // hub.yaml, for the places of faults
	fileSites []Site               // Sites without those of the setup
	reload    func() (*Plan, error)
}

var sitePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Load reads hub.yaml, applies overrides (flags and environment; may be nil) and
// reads the files that it names. The error holds every fault of all files at
// once, each with its place ([strictyaml.Errors]).
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
	for _, path := range []*string{&cfg.Sites, &cfg.HTTP.Cert, &cfg.HTTP.Key, &cfg.Authority.Cert, &cfg.Authority.Key, &cfg.Store.Influx.TokenFile, &cfg.Page.Outlines} {
		*path = relative(dir, *path)
	}
	for i := range cfg.Rules {
		cfg.Rules[i] = relative(dir, cfg.Rules[i])
	}
	cfg.Deliver.Resolve(dir)
	for i := range cfg.Push.Sources {
		cfg.Push.Sources[i].TokenFile = relative(dir, cfg.Push.Sources[i].TokenFile)
	}
	if override != nil {
		if err := override(&cfg); err != nil {
			return nil, err
		}
	}
	plan := &Plan{Config: cfg, doc: doc}
	if plan.Quantities, err = catalogue(); err != nil {
		return nil, err
	}
	c := &checker{doc: doc, errs: errs}
	c.settings(&cfg, plan.Quantities)
	plan.Sites = c.sites(&cfg)
	plan.fileSites = plan.Sites
	plan.reload = func() (*Plan, error) { return Load(path, override) }
	c.push(plan)
	plan.Outlines = c.page(&cfg.Page)
	if plan.Rules, plan.Set, err = c.rules(plan); err != nil {
		return nil, err
	}
	c.deliver(plan)
	plan.Warnings = c.warnings
	if err := c.errs.Err(); err != nil {
		return nil, err
	}
	return plan, nil
}

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

func relative(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

type checker struct {
	doc            *strictyaml.Document
	errs, warnings strictyaml.Errors
}

func (c *checker) fault(msg, hint string, path ...any) {
	at := c.doc.At(path...)
	if !slices.ContainsFunc(c.errs, func(e strictyaml.Error) bool { return e.Pos == at }) {
		c.errs = append(c.errs, c.doc.Fault(path, msg, hint))
	}
}

func (c *checker) settings(cfg *Config, quantities telemetry.Quantities) {
	if o := &cfg.Offline; o.Warning < 0 || o.Critical < 0 || o.Warning > 0 && o.Critical > 0 && o.Critical < o.Warning {
		c.fault("critical must not come before warning, and neither is below zero", "for example {warning: 5m, critical: 1h}", "offline")
	}
	if _, ok := suppressUpTo(&cfg.Offline); !ok {
		c.fault(fmt.Sprintf("%.40q is no severity", cfg.Offline.Suppress), strictyaml.Meant(cfg.Offline.Suppress, []string{"none", "info", "warning", "critical", "emergency"}), "offline", "suppress")
	}
	if _, err := rules.Load([]rules.Source{builtInPlan(&cfg.Offline).Source()}, rules.Env{Quantities: quantities}); err != nil {
		c.fault("cannot be read: "+err.Error(), "edges: [solar-*], awake: [06:00-18:00]", "offline", "sleepers")
	}
	c.listen(cfg.HTTP.Listen, cfg.HTTP.TLS, cfg.HTTP.Insecure, "http")
	c.listen(cfg.MQTT.Listen, cfg.MQTT.TLS, cfg.MQTT.Insecure, "mqtt")
	if cfg.HTTP.Auth == authOff && !loopback(cfg.HTTP.Listen) {
		c.fault("only a hub that listens on this machine alone may let everybody in", "set http.auth: on, or listen on 127.0.0.1", "http", "auth")
	}
	for _, f := range []struct{ cert, key, section string }{{cfg.HTTP.Cert, cfg.HTTP.Key, "http"}, {cfg.Authority.Cert, cfg.Authority.Key, "authority"}} {
		if (f.cert == "") != (f.key == "") {
			c.fault("a certificate and its key go together", "give cert and key", f.section)
		}
	}
	c.store(&cfg.Store)
	if cfg.Store.Retention < cfg.Store.MaxAge {
		c.fault("too short", "at least store.edge_max_age, or what edges still hold would be dropped on arrival", "store", "retention")
	}
	if l := &cfg.Store.Long; l.FiveMinutes < 0 || l.Hours < l.FiveMinutes {
		c.fault("hours are kept at least as long as five minutes, and neither is below zero", "for example {five_minutes: 1095d, hours: 3650d}; five_minutes: 0s keeps no long history", "store", "long")
	}
	if cfg.Store.Texts.MaxSize < 1<<20 {
		c.fault("too small", "at least 1MiB", "store", "texts", "max_size")
	}
	if cfg.Store.MaxSize < 0 {
		c.fault("must not be below zero", "0: no bound but the disk", "store", "max_size")
	}
	if cfg.Alerts.Retention < cfg.Store.MaxAge {
		c.fault("too short", "at least store.edge_max_age, or an edge that sends again what it keeps would raise alerts that have been dropped", "alerts", "retention")
	}
	if cfg.Ingest.MaxSeries < 1 || cfg.Ingest.MaxSeriesAll < cfg.Ingest.MaxSeries {
		c.fault("max_series must be 1 or more, and max_series_all no less", "for example {max_series: 20000, max_series_all: 2000000}", "ingest")
	}
	if n := cfg.Ingest.MaxNewSeries; n < 0 || n > 0 && n < cfg.Ingest.MaxSeries {
		c.fault("must be max_series or more", "0: four times max_series", "ingest", "max_new_series")
	}
	if cfg.Ingest.MaxLabelBytes < 1 {
		c.fault("must be 1 or more", "for example 1024", "ingest", "max_label_bytes")
	}
	if cfg.Ingest.CheckpointEvery < 50_000_000 {
		c.fault("too small", "at least 50ms", "ingest", "checkpoint_every")
	}
	for _, f := range []struct {
		v, section, key string
		known           []string
	}{
		{cfg.Log.Level, "log", "level", []string{"debug", "info", "warn", "error"}},
		{cfg.Log.Format, "log", "format", []string{"text", "json"}},
		{cfg.HTTP.Auth, "http", "auth", []string{"on", authOff}},
		{cfg.HTTP.TLS, "http", "tls", tlsModes},
		{cfg.MQTT.TLS, "mqtt", "tls", tlsModes},
	} {
		if !slices.Contains(f.known, f.v) {
			c.fault(fmt.Sprintf("%q is not known", f.v), strictyaml.Meant(f.v, f.known), f.section, f.key)
		}
	}
}

// store judges the choice of a store.
func (c *checker) store(s *StoreConfig) {
	if chunks := []string{chunksPacked, chunksPlain}; !slices.Contains(chunks, s.Chunks) {
		c.fault(fmt.Sprintf("%q is not known", s.Chunks), strictyaml.Meant(s.Chunks, chunks), "store", "chunks")
	}
	switch s.Kind {
	case storeLocal:
		if s.QueryURL != "" {
			c.fault("is of a store of kind influx", "leave it out: the embedded store answers itself", "store", "query_url")
		}
		return
	case storeInflux:
	default:
		c.fault(fmt.Sprintf("%q is not known", s.Kind), strictyaml.Meant(s.Kind, []string{storeLocal, storeInflux}), "store", "kind")
		return
	}
	for _, u := range []struct {
		url  string
		path []any
	}{{s.Influx.URL, []any{"store", "influx", "url"}}, {s.QueryURL, []any{"store", "query_url"}}} {
		if parsed, err := url.Parse(u.url); err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
			c.fault(fmt.Sprintf("%q is not the address of a server", u.url), "for example http://store:8428", u.path...)
		}
	}
	if s.Influx.Token != "" && s.Influx.TokenFile != "" {
		c.fault("is given twice", "either token or token_file", "store", "influx", "token_file")
	}
	if s.Influx.FlushDelay < 0 {
		c.fault("must not be below zero", "how long the server takes to flush, for example 15s", "store", "influx", "flush_delay")
	}
}

// authOff is http.auth when nobody signs in.
const authOff = "off"

// tlsModes are the values of http.tls and mqtt.tls.
var tlsModes = []string{"auto", "on", "off"}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// encrypted reports whether a listener speaks TLS.
func encrypted(address, mode string, insecure bool) bool {
	return mode == "on" || mode == "auto" && !loopback(address) && !insecure
}

func (p *Plan) httpTLS() bool {
	c := &p.Config.HTTP
	return encrypted(c.Listen, c.TLS, c.Insecure)
}

func (p *Plan) mqttTLS() bool {
	c := &p.Config.MQTT
	return encrypted(c.Listen, c.TLS, c.Insecure)
}

// listen refuses an address that does not parse, and plain text to the outside
// that nobody asked for.
func (c *checker) listen(address, mode string, insecure bool, section string) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		c.fault(fmt.Sprintf("%q is not an address", address), "write host:port, for example 127.0.0.1:8080", section, "listen")
		return
	}
	if !loopback(address) && !encrypted(address, mode, insecure) && !insecure {
		c.fault(fmt.Sprintf("%q is reachable from other machines, and this listener speaks plain text", address),
			fmt.Sprintf("set %s.tls: on, listen on 127.0.0.1, or set %s.insecure: true if the network is trusted", section, section), section, "listen")
	}
}

// sites reads the file of sites: a list, or a list under the key sites.
func (c *checker) sites(cfg *Config) []Site {
	if cfg.Sites == "" {
		return nil
	}
	data, err := os.ReadFile(cfg.Sites)
	if err != nil {
		c.fault(err.Error(), "paths are relative to the folder of this file", "sites")
		return nil
	}
	doc, errs := strictyaml.Parse(cfg.Sites, data)
	if len(errs) > 0 {
		c.errs = append(c.errs, errs...)
		return nil
	}
	var file SitesFile
	c.errs = append(c.errs, doc.Decode(&file)...)
	ids, edges := map[string]int{}, map[string]string{}
	for i, s := range file.Sites {
		at := []any{"sites", i, "id"}
		switch first, dup := ids[s.ID]; {
		case s.ID == "":
			c.errs = append(c.errs, doc.Fault(at, "must be set", "the administrative code or a slug"))
		case !sitePattern.MatchString(s.ID):
			c.errs = append(c.errs, doc.Fault(at, fmt.Sprintf("%q is not an id", s.ID), "use letters, digits, _ and -, at most 64"))
		case dup:
			c.errs = append(c.errs, doc.Fault(at, fmt.Sprintf("%q is taken", s.ID), fmt.Sprintf("the site at %s has it already", doc.At("sites", first, "id"))))
		default:
			ids[s.ID] = i
		}
		if s.Name == (telemetry.Text{}) {
			c.errs = append(c.errs, doc.Fault([]any{"sites", i, "name"}, "must be set", "name: {vi: ..., en: ...}"))
		}
		if s.Lat < -90 || s.Lat > 90 {
			c.errs = append(c.errs, doc.Fault([]any{"sites", i, "lat"}, "is no latitude", "-90 to 90"))
		}
		if s.Lon < -180 || s.Lon > 180 {
			c.errs = append(c.errs, doc.Fault([]any{"sites", i, "lon"}, "is no longitude", "-180 to 180"))
		}
		for j, e := range s.Edges {
			if other, dup := edges[e]; dup {
				c.errs = append(c.errs, doc.Fault([]any{"sites", i, "edges", j}, fmt.Sprintf("edge %q stands at site %q already", e, other), "an edge has one site"))
			}
			edges[e] = s.ID
		}
	}
	return file.Sites
}

// rules reads the rule files and compiles them; their faults are gathered, and
// then there is no set.
func (c *checker) rules(plan *Plan) ([]rules.Source, *rules.Set, error) {
	sources := append(c.ruleFiles(plan), builtInPlan(&plan.Config.Offline).Source())
	set, err := rules.Load(sources, rulesEnv(plan))
	if err == nil {
		return sources, set, nil
	}
	more, ok := err.(strictyaml.Errors) //nolint:errorlint // Load promises this type, and each fault is wanted
	if !ok {
		return nil, nil, err
	}
	c.errs = append(c.errs, more...)
	return sources, nil, nil
}

// isRuleTest tells tests of rules, which stand beside them, from rules.
func isRuleTest(name string) bool { return strings.HasSuffix(name, ".test.yaml") }

// ruleFiles reads the files that the globs name, each once, in order of name.
func (c *checker) ruleFiles(plan *Plan) []rules.Source {
	var sources []rules.Source
	seen := map[string]bool{}
	for i, pattern := range plan.Config.Rules {
		names, err := filepath.Glob(pattern)
		if err != nil {
			c.fault(fmt.Sprintf("%q is not a pattern", pattern), "", "rules", i)
			continue
		}
		if len(names) == 0 {
			if !strings.ContainsAny(pattern, "*?[") {
				c.fault(fmt.Sprintf("there is no file %s", pattern), "paths are relative to the folder of this file", "rules", i)
				continue
			}
			c.warnings = append(c.warnings, c.doc.Fault([]any{"rules", i}, fmt.Sprintf("no file matches %s", pattern), "paths are relative to the folder of this file"))
		}
		for _, name := range names {
			if seen[name] || isRuleTest(name) {
				continue
			}
			seen[name] = true
			data, err := os.ReadFile(name)
			if err != nil {
				c.fault(err.Error(), "", "rules", i)
				continue
			}
			sources = append(sources, rules.Source{Name: name, Data: data})
		}
	}
	return sources
}
