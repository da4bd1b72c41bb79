package hub

import (
	"time"

	"github.com/langbiang/langbiang/pkg/alert/deliver"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Config is hub.yaml. Paths in it are relative to the folder of the file.
type Config struct {
	DataDir     string          `yaml:"data_dir" doc:"folder of the store, the ledger and the bus" default:"./data/hub"`
	Address     string          `yaml:"address" doc:"name or address by which gateways and browsers reach this machine; when not said, what was said at the setup, or a guess" example:"hub.lamdong.example"`
	HTTP        HTTPConfig      `yaml:"http" doc:"API, page and metrics"`
	MQTT        MQTTConfig      `yaml:"mqtt" doc:"where edges connect"`
	Store       StoreConfig     `yaml:"store" doc:"time series"`
	Clock       ClockConfig     `yaml:"clock" doc:"the hub's own clock"`
	Ingest      IngestConfig    `yaml:"ingest" doc:"how frames become durable"`
	Push        PushConfig      `yaml:"push" doc:"what is taken over HTTP"`
	Derived     DerivedConfig   `yaml:"derived" doc:"series that the hub computes"`
	MemoryLimit strictyaml.Size `yaml:"memory_limit" doc:"how much memory Go may hold before it collects garbage at any price; 0: four fifths of what the control group allows. GOMEMLIMIT of the environment goes before" default:"0"`
	Log         LogConfig       `yaml:"log" doc:"what is written to standard error"`
	Sites       string          `yaml:"sites" doc:"file that lists the sites" example:"./sites.yaml"`
	Alerts      AlertsConfig    `yaml:"alerts" doc:"the alert log"`
	Rules       []string        `yaml:"rules" doc:"files of rules, with globs" example:"[./rules/*.yaml]"`
	Authority   AuthorityConfig `yaml:"authority" doc:"who signs the certificates of gateways; made at the first start when nothing is said"`
	Offline     OfflineConfig   `yaml:"offline" doc:"when an edge that is not heard raises edge_offline"`
	Deliver     deliver.Config  `yaml:"deliver" doc:"where alerts are carried to"`
	Page        PageConfig      `yaml:"page" doc:"what operators see"`
}

// HTTPConfig is the listener of API and page.
type HTTPConfig struct {
	Listen   string `yaml:"listen" doc:"address" default:"127.0.0.1:8080"`
	Auth     string `yaml:"auth" doc:"on: people sign in and machines show tokens; off: nobody does, and the hub answers its own machine only, without a proxy" default:"on"`
	TLS      string `yaml:"tls" doc:"auto: HTTPS beyond this machine; on; off" default:"auto"`
	Cert     string `yaml:"cert" doc:"file with the certificate for browsers, and its chain; when not said, one of the hub's own authority. Read anew when it changes"`
	Key      string `yaml:"key" doc:"file with the key of that certificate"`
	Insecure bool   `yaml:"insecure" doc:"allow plain text beyond this machine, for example behind a proxy that does TLS" default:"false"`
	Pprof    bool   `yaml:"pprof" doc:"serve profiles of the running hub at /debug/pprof/, to this machine only" default:"false"`
}

// PageConfig is about the page. Without it nothing is asked of another host.
type PageConfig struct {
	Tiles       string   `yaml:"tiles" doc:"address of map tiles; browsers then ask that host. Without it the map shows points and outlines" example:"https://tiles.example/{z}/{x}/{y}.png"`
	Attribution string   `yaml:"attribution" doc:"what the owner of the tiles wants said on the map"`
	Outlines    string   `yaml:"outlines" doc:"file of outlines to draw on the map, GeoJSON in WGS 84, for example of communes" example:"./communes.geojson"`
	Frames      []string `yaml:"frames" doc:"origins whose pages may show the hub's in a frame" example:"[https://ioc.example]"`
}

// MQTTConfig is the listener of the bus.
type MQTTConfig struct {
	Listen   string `yaml:"listen" doc:"address" default:"127.0.0.1:1883"`
	TLS      string `yaml:"tls" doc:"auto: beyond this machine gateways show a certificate of the hub's authority; on; off: whoever connects may be any edge" default:"auto"`
	Insecure bool   `yaml:"insecure" doc:"allow plain text beyond this machine" default:"false"`
}

// AuthorityConfig is an authority that was made elsewhere.
type AuthorityConfig struct {
	Cert string `yaml:"cert" doc:"file with its certificate (CA:TRUE)"`
	Key  string `yaml:"key" doc:"file with its key, mode 0600"`
}

// StoreConfig chooses the store.
type StoreConfig struct {
	Kind      string          `yaml:"kind" doc:"local: the embedded time-series database; influx: a server or cluster that speaks the InfluxDB v2 write API" default:"local"`
	Retention time.Duration   `yaml:"retention" doc:"how long readings are kept" default:"400d"`
	MaxSize   strictyaml.Size `yaml:"max_size" doc:"bytes that readings may take on disk: beyond it the oldest go first, whatever their age; 0: no bound but the disk" default:"0"`
	Chunks    string          `yaml:"chunks" doc:"packed: blocks take a quarter of the room, see docs/store.md; plain: blocks that Prometheus and its tools read; those there are become so within minutes to hours" default:"packed"`
	MaxAge    time.Duration   `yaml:"edge_max_age" doc:"the longest buffer.max_age of any edge; older readings are refused by the store" default:"30d"`
	Long      LongConfig      `yaml:"long" doc:"long history: what is kept of readings when they themselves are gone, and what answers queries of coarse steps; see docs/store.md"`
	Texts     TextsConfig     `yaml:"texts" doc:"readings of text: states of devices, licence plates; kept as long as readings, by the hub itself whatever the kind of the store"`
	Influx    InfluxConfig    `yaml:"influx" doc:"the server of kind influx; retention, sizes and long history are then its own affair"`
	QueryURL  string          `yaml:"query_url" doc:"kind influx: where the same readings answer Prometheus queries, without /api/v1" example:"http://store:8428"`
	MinFree   strictyaml.Size `yaml:"min_free" doc:"stop taking readings when the disk has less free space than this" default:"512MiB"`
}

// InfluxConfig is a server that takes InfluxDB line protocol.
type InfluxConfig struct {
	URL        string        `yaml:"url" doc:"its address, without /api/v2" example:"http://store:8428"`
	Org        string        `yaml:"org" doc:"organisation, where the server has them"`
	Bucket     string        `yaml:"bucket" doc:"bucket" default:"langbiang"`
	Token      string        `yaml:"token" doc:"API token; better from the environment (LANGBIANG_STORE_INFLUX_TOKEN) or token_file"`
	TokenFile  string        `yaml:"token_file" doc:"file that holds the token"`
	FlushDelay time.Duration `yaml:"flush_delay" doc:"how long the server takes until what it has accepted is on its disk; frames become safe so much later" default:"15s"`
}

// TextsConfig bounds the log of texts.
type TextsConfig struct {
	MaxSize strictyaml.Size `yaml:"max_size" doc:"bytes that texts may take; beyond it the oldest go first" default:"256MiB"`
}

// LongConfig says how long what is made of readings is kept.
type LongConfig struct {
	FiveMinutes time.Duration `yaml:"five_minutes" doc:"how long the value, minimum, maximum and count of every five minutes are kept; 0s: no long history" default:"1095d"`
	Hours       time.Duration `yaml:"hours" doc:"the same of every hour" default:"3650d"`
}

// ClockConfig says whether the hub insists on a synchronised clock.
type ClockConfig struct {
	RequireSync bool `yaml:"require_sync" doc:"not ready while the system's clock is not synchronised; many virtual machines say so although the host keeps the time" default:"true"`
}

// IngestConfig tunes durability.
type IngestConfig struct {
	MaxSeries       int           `yaml:"max_series" doc:"series of one edge; readings of further ones are counted and dropped" default:"20000"`
	MaxSeriesAll    int           `yaml:"max_series_all" doc:"the same for all edges together" default:"2000000"`
	MaxNewSeries    int           `yaml:"max_new_series" doc:"series that one edge may begin within a day; 0: four times max_series" default:"0"`
	MaxLabelBytes   int           `yaml:"max_label_bytes" doc:"bytes of the labels, names and values, that an edge adds to a series; a series with more is not taken" default:"1024"`
	CheckpointEvery time.Duration `yaml:"checkpoint_every" doc:"how often the store and the positions are made durable together" default:"1s"`
}

// AlertsConfig says how the alert log is kept.
type AlertsConfig struct {
	Retention time.Duration `yaml:"retention" doc:"how long entries of the alert log are kept, and alerts that have cleared; active ones stay" default:"400d"`
}

// OfflineConfig says when an edge that is not heard is offline; by the hub's clock.
type OfflineConfig struct {
	Warning  time.Duration   `yaml:"warning" doc:"an edge that has not been heard for so long raises edge_offline as warning; 0s: never" default:"5m"`
	Critical time.Duration   `yaml:"critical" doc:"the same as critical" default:"1h"`
	Suppress string          `yaml:"suppress" doc:"while an edge is offline its alerts up to this severity are suppressed: they stand and are shown, but call nobody; none: all go on calling" default:"warning"`
	Sleepers []SleeperConfig `yaml:"sleepers" doc:"edges that are awake at certain hours only; device_down of theirs is judged in these hours only, too"`
}

// SleeperConfig is a plan of edges that sleep.
type SleeperConfig struct {
	Edges []string `yaml:"edges" doc:"ids of edges, with * and ?" example:"[solar-*]"`
	Awake []string `yaml:"awake" doc:"hours in which they are awake" example:"[06:00-18:00]"`
	Zone  string   `yaml:"zone" doc:"time zone of the hours" default:"Asia/Ho_Chi_Minh"`
}

// LogConfig says what is logged.
type LogConfig struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error" default:"info"`
	Format string `yaml:"format" doc:"text or json" default:"text"`
}

const day = 24 * time.Hour

// DefaultConfig returns the settings that hold where hub.yaml says nothing.
func DefaultConfig() Config {
	return Config{
		DataDir: "./data/hub",
		HTTP:    HTTPConfig{Listen: "127.0.0.1:8080", Auth: "on", TLS: "auto"},
		MQTT:    MQTTConfig{Listen: "127.0.0.1:1883", TLS: "auto"},
		Store: StoreConfig{
			Kind: "local", Retention: 400 * day, Chunks: chunksPacked, MaxAge: 30 * day, MinFree: 512 << 20,
			Texts:  TextsConfig{MaxSize: 256 << 20},
			Influx: InfluxConfig{Bucket: "langbiang", FlushDelay: 15 * time.Second},
			Long:   LongConfig{FiveMinutes: 1095 * day, Hours: 3650 * day},
		},
		Clock:   ClockConfig{RequireSync: true},
		Ingest:  IngestConfig{CheckpointEvery: time.Second, MaxSeries: 20_000, MaxSeriesAll: 2_000_000, MaxLabelBytes: 1024},
		Alerts:  AlertsConfig{Retention: 400 * day},
		Offline: OfflineConfig{Warning: 5 * time.Minute, Critical: time.Hour, Suppress: "warning"},
		Deliver: deliver.DefaultConfig(),
		Push:    PushConfig{Keep: 24 * time.Hour},
		Derived: DerivedConfig{Enabled: true, Index: "vn_aqi", Zone: "Asia/Ho_Chi_Minh"},
		Log:     LogConfig{Level: "info", Format: "text"},
	}
}

// SitesFile is sites.yaml.
type SitesFile struct {
	Sites []Site `yaml:"sites" doc:"the places"`
}

// Site is a commune-level place.
type Site struct {
	ID       string         `yaml:"id,text" json:"id" doc:"administrative code or slug"`
	Name     telemetry.Text `yaml:"name" json:"name" doc:"name in Vietnamese and English"`
	Province string         `yaml:"province" json:"province" doc:"the province it belongs to"`
	Lat      float64        `yaml:"lat" json:"lat" doc:"latitude, degrees"`
	Lon      float64        `yaml:"lon" json:"lon" doc:"longitude, degrees"`
	Former   []string       `yaml:"former" json:"former" doc:"former codes or names"`
	Groups   []string       `yaml:"groups" json:"groups,omitempty" doc:"groups of sites that rules may choose by, for example a river basin"`
	Edges    []string       `yaml:"edges" json:"edges" doc:"ids of the edges that stand here, whatever they say themselves"`
}

// Schemas returns the JSON Schemas of this package's files by name, see
// scripts/schemas.
func Schemas() map[string]any {
	return map[string]any{
		"hub":   strictyaml.Schema("hub.yaml, the configuration of a Langbiang hub", Config{}),
		"sites": strictyaml.Schema("sites.yaml, the places of a Langbiang hub", SitesFile{}),
	}
}
