package edge

import (
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/driver/mqtt"
	"github.com/langbiang/langbiang/pkg/filter"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/wire"
)

// Config is edge.yaml. Paths in it are relative to the folder of the file.
type Config struct {
	Edge        Identity                 `yaml:"edge" doc:"who this agent is"`
	Owner       string                   `yaml:"owner" doc:"who decides filters, connections and devices: gateway, this file; or hub: what stands here is used until the hub has sent a configuration (langbiang-hub edges config), then its own; langbiang-edge owner changes it" default:"gateway"`
	DataDir     string                   `yaml:"data_dir" doc:"folder of the log and of what the agent must remember" default:"./data/edge"`
	Hub         HubConfig                `yaml:"hub" doc:"where the readings go"`
	Buffer      BufferConfig             `yaml:"buffer" doc:"the log on this gateway"`
	Clock       ClockConfig              `yaml:"clock" doc:"when the gateway's clock is believed"`
	HTTP        HTTPConfig               `yaml:"http" doc:"local metrics and health"`
	MemoryLimit strictyaml.Size          `yaml:"memory_limit" doc:"how much memory Go may hold before it collects garbage at any price; 0: four fifths of what the control group allows. GOMEMLIMIT of the environment goes before" default:"0"`
	Log         LogConfig                `yaml:"log" doc:"what is written to standard error"`
	Profiles    []string                 `yaml:"profiles" doc:"folders with profiles of your own, laid out VENDOR/MODEL.yaml; they override the built-in ones"`
	Filters     map[string]filter.Config `yaml:"filters" doc:"how the readings of a quantity are thinned out before they are logged; a device's filter: goes before it" example:"{air_temperature: {deadband: 0.1, silence: 4m}}"`
	Connections []ConnectionConfig       `yaml:"connections" doc:"ways to reach devices"`
	Devices     []DeviceConfig           `yaml:"devices" doc:"sensors and cameras"`
}

// Identity names the agent.
type Identity struct {
	ID   string `yaml:"id" doc:"unique in the fleet: a-z, 0-9 and -, at most 63" example:"lac-duong-01"`
	Site string `yaml:"site" doc:"id of the site it stands at; the hub's registry decides once it knows the edge" example:"24848"`
}

// HubConfig says how to reach the hub.
type HubConfig struct {
	URL       string          `yaml:"url" doc:"the hub's MQTT address" example:"mqtt://127.0.0.1:1883"`
	Link      string          `yaml:"link" doc:"unmetered, or metered: bytes cost money, so messages are bundled for 60s and acknowledged once" default:"unmetered"`
	SendEvery time.Duration   `yaml:"send_every" doc:"how often readings are sent; when not said, as often as the fastest device is read, within 1s and 5s (metered: 60s). What is urgent is sent at once"`
	MaxRate   strictyaml.Size `yaml:"max_rate" doc:"most that is sent, in bytes a second, headers included: a backlog then leaves room on the link; no bound when not said" example:"50kB"`
	Remote    string          `yaml:"remote" doc:"on: technicians at the hub may ask this agent what the commands doctor, status, why, read, log and trace tell here, and change nothing; off: they may not" default:"on"`
	Heartbeat time.Duration   `yaml:"heartbeat" doc:"longest time without a frame while nothing is read; it keeps the hub's no-data timers running" default:"10s"`
	Insecure  bool            `yaml:"insecure" doc:"allow plain text to a hub that is not on this machine" default:"false"`
	// RollbackAfter bounds the trial of a configuration of the hub.
	RollbackAfter time.Duration `yaml:"rollback_after" doc:"with owner: hub, how long a new configuration may run without the hub being heard of; then the agent goes back to the one before by itself" default:"5m"`
}

// BufferConfig bounds the log.
type BufferConfig struct {
	MaxSize     strictyaml.Size `yaml:"max_size" doc:"most disk the log may take" default:"1GiB"`
	MaxAge      time.Duration   `yaml:"max_age" doc:"frames older than this are given up even when the hub has not got them" default:"30d"`
	Keep        time.Duration   `yaml:"keep" doc:"how long frames are kept after the hub has them safely, for a hub that must be restored" default:"7d"`
	CommitEvery time.Duration   `yaml:"commit_every" doc:"how often the log is flushed to the card; a power cut loses at most this much" default:"5s"`
}

// ClockConfig says when the gateway's clock is believed.
type ClockConfig struct {
	Trust string `yaml:"trust" doc:"auto: when it is synchronised or the hub has confirmed it; always: at once, for machines that cannot tell" default:"auto"`
}

// HTTPConfig is the local metrics listener.
type HTTPConfig struct {
	Listen string `yaml:"listen" doc:"address for /metrics and /healthz; empty: none" example:"127.0.0.1:9101"`
}

// LogConfig is shared by both programs.
type LogConfig struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error" default:"info"`
	Format string `yaml:"format" doc:"text or json" default:"text"`
}

// ConnectionConfig names one way to reach devices: exactly one of its kinds is set.
type ConnectionConfig struct {
	ID     string         `yaml:"id" doc:"unique on this edge"`
	Modbus *modbus.Config `yaml:"modbus" doc:"a Modbus TCP endpoint or a serial bus"`
	MQTT   *mqtt.Config   `yaml:"mqtt" doc:"an MQTT broker that devices publish to"`
	Camera *camera.Config `yaml:"camera" doc:"cameras that take the same user; where each is stands in with: of its device"`
}

// sources lists the kinds that are set, by their key. This is the list of
// drivers: a new one is added here.
func (c *ConnectionConfig) sources() []driver.Source {
	var s []driver.Source
	if c.Modbus != nil {
		s = append(s, c.Modbus)
	}
	if c.MQTT != nil {
		s = append(s, c.MQTT)
	}
	if c.Camera != nil {
		s = append(s, c.Camera)
	}
	return s
}

// connectionKinds are the keys that ConnectionConfig knows.
var connectionKinds = []string{"modbus", "mqtt", "camera"}

// DeviceConfig is one device: mostly a profile, a connection and an address.
type DeviceConfig struct {
	ID         string                   `yaml:"id" doc:"unique on this edge; kept when the hardware is replaced"`
	Profile    string                   `yaml:"profile" doc:"VENDOR/MODEL of the profile; empty when points are given here" example:"renke/cwt-uwd"`
	Revision   string                   `yaml:"revision" doc:"firmware revision of the profile; when not said, the one that the device tells, or the first"`
	Connection string                   `yaml:"connection" doc:"id of the connection it is reached by"`
	Unit       *int                     `yaml:"unit" doc:"Modbus unit id; the profile's factory setting when not said"`
	Interval   time.Duration            `yaml:"interval" doc:"how often it is read; 30s for cameras when not said" default:"5s"`
	With       map[string]string        `yaml:"with,text" doc:"parameters of the profile" example:"{camera: gate}"`
	Each       map[string][]string      `yaml:"each,text" doc:"makes one device for each value of a parameter, or of unit; its name in braces stands for the value in id, with, labels, and the topics and paths of points given here" example:"{name: [hall, market, school]}"`
	Labels     map[string]string        `yaml:"labels,text" doc:"further labels of its series"`
	Adjust     map[string]Adjust        `yaml:"adjust" doc:"corrections by point, in the quantity's canonical unit" example:"{air_temperature: {offset: -0.4}}"`
	Filter     map[string]filter.Config `yaml:"filter" doc:"how the readings of a point are thinned out before they are logged" example:"{wind_speed: {window: 1m, aggregate: [mean, max]}}"`
	Urgent     []string                 `yaml:"urgent" doc:"points whose change is sent and committed at once, whatever the periods" example:"[flood]"`
	Points     []profile.Point          `yaml:"points" doc:"points given here, beside or instead of a profile's"`
}

// Adjust corrects a point: value*scale + offset, in the canonical unit.
type Adjust struct {
	Scale  *float64 `yaml:"scale" doc:"factor; 1 when not said"`
	Offset float64  `yaml:"offset" doc:"added after scaling"`
}

// DefaultConfig returns the settings that hold where edge.yaml says nothing.
func DefaultConfig() Config {
	return Config{
		Owner:   wire.OwnerGateway,
		DataDir: "./data/edge",
		Hub:     HubConfig{Link: linkUnmetered, Remote: remoteOn, Heartbeat: 10 * time.Second, RollbackAfter: 5 * time.Minute},
		Buffer:  BufferConfig{MaxSize: 1 << 30, MaxAge: 30 * 24 * time.Hour, Keep: 7 * 24 * time.Hour, CommitEvery: 5 * time.Second},
		Clock:   ClockConfig{Trust: "auto"},
		Log:     LogConfig{Level: "info", Format: "text"},
	}
}

// How often devices are read when edge.yaml does not say.
const (
	defaultInterval = 5 * time.Second
	cameraInterval  = 30 * time.Second
)

// Schemas returns the JSON Schemas of this package's files by name, see
// scripts/schemas.
func Schemas() map[string]any {
	return map[string]any{"edge": strictyaml.Schema("edge.yaml, the configuration of a Langbiang agent", Config{})}
}
