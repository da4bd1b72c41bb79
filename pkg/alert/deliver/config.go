package deliver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// Config is the section deliver of hub.yaml.
type Config struct {
	PublicURL     string               `yaml:"public_url" doc:"address under which people and systems reach the hub; it is in links, and the source of events" example:"https://hub.example"`
	Webhooks      []WebhookConfig      `yaml:"webhooks" doc:"HTTP receivers that get every entry, one by one"`
	Alertmanagers []AlertmanagerConfig `yaml:"alertmanagers" doc:"Prometheus Alertmanagers that are told what fires"`
	MQTT          []MQTTConfig         `yaml:"mqtt" doc:"brokers that get the state of each alert and every entry"`
	CAP           CAPConfig            `yaml:"cap" doc:"documents of the Common Alerting Protocol"`
	People        PeopleConfig         `yaml:"people" doc:"who is told what, and how"`
}

// Secret names where a secret stands. It is never in hub.yaml itself.
type Secret struct {
	File string `yaml:"file" doc:"file that holds the secret; a newline at its end does not count"`
	Env  string `yaml:"env" doc:"environment variable that holds it"`
}

// Set reports whether the secret is configured.
func (s Secret) Set() bool { return s != Secret{} }

// maxSecret bounds a secret, in bytes.
const maxSecret = 64 << 10

// Read returns the secret. The errors name the place, never the content.
func (s Secret) Read() ([]byte, error) {
	var b []byte
	switch {
	case s.File != "" && s.Env != "":
		return nil, errors.New("both file and env are given; give one of them")
	case s.File != "":
		var err error
		if b, err = os.ReadFile(s.File); err != nil {
			return nil, err
		}
		b = bytes.TrimRight(b, "\r\n")
	case s.Env != "":
		b = []byte(os.Getenv(s.Env))
	default:
		return nil, errors.New("neither file nor env is given")
	}
	if len(b) == 0 || len(b) > maxSecret {
		return nil, fmt.Errorf("the secret in %s has %d bytes", s.place(), len(b))
	}
	return b, nil
}

func (s Secret) place() string {
	if s.File != "" {
		return s.File
	}
	return "the environment variable " + s.Env
}

// WebhookConfig is one receiver.
type WebhookConfig struct {
	Name         string            `yaml:"name" doc:"its own name among all targets and routes; the position is kept under it"`
	URL          string            `yaml:"url" doc:"where to POST" example:"https://ioc.example/alerts"`
	Choose       feed.Choice       `yaml:"choose" doc:"which alerts it gets"`
	Secret       Secret            `yaml:"secret" doc:"key of the signature (Standard Webhooks); without it requests are not signed"`
	Headers      map[string]string `yaml:"headers" doc:"further headers of each request"`
	Bearer       Secret            `yaml:"bearer" doc:"token of the header Authorization"`
	Body         string            `yaml:"body" doc:"template of the body; a CloudEvents envelope when empty"`
	ContentType  string            `yaml:"content_type" doc:"of a body by template" default:"application/json"`
	Timeout      time.Duration     `yaml:"timeout" doc:"for one request" default:"10s"`
	SkipAfter    time.Duration     `yaml:"skip_after" doc:"skip an entry that has been refused for so long; 0s: never, somebody must" default:"0s"`
	AllowPrivate bool              `yaml:"allow_private" doc:"allow addresses of this machine and of private networks" default:"false"`
	From         string            `yaml:"from" doc:"where a new target begins: now, or oldest, the whole log" default:"now"`
	Heartbeat    time.Duration     `yaml:"heartbeat" doc:"send an event of type stream.heartbeat so often, so that silence is noticed; 0s: never" default:"0s"`
}

// AlertmanagerConfig is one Alertmanager, or one of a cluster.
type AlertmanagerConfig struct {
	Name        string            `yaml:"name" doc:"its own name among all targets and routes"`
	URL         string            `yaml:"url" doc:"address without /api/v2" example:"http://127.0.0.1:9093"`
	Choose      feed.Choice       `yaml:"choose" doc:"which alerts it gets"`
	Labels      map[string]string `yaml:"labels" doc:"further labels of each alert"`
	ResendEvery time.Duration     `yaml:"resend_every" doc:"how often what fires is sent again; after four times that without it Alertmanager takes it for resolved" default:"1m"`
	Watchdog    bool              `yaml:"watchdog" doc:"send an alert LangbiangWatchdog that always fires, so that the hub's silence can be noticed" default:"false"`
	User        string            `yaml:"user" doc:"for basic authentication"`
	Password    Secret            `yaml:"password" doc:"for basic authentication"`
	Timeout     time.Duration     `yaml:"timeout" doc:"for one request" default:"10s"`
	SkipAfter   time.Duration     `yaml:"skip_after" doc:"skip an entry that has been refused for so long; 0s: never" default:"0s"`
}

// MQTTConfig is one broker.
type MQTTConfig struct {
	Name     string        `yaml:"name" doc:"its own name among all targets and routes"`
	Broker   string        `yaml:"broker" doc:"hub, the hub's own bus; or tcp://HOST:1883, ssl://HOST:8883" example:"hub"`
	Topic    string        `yaml:"topic" doc:"first part of the topics: TOPIC/events, TOPIC/state/ID, TOPIC/hub; the hub's own bus has langbiang/alerts only" default:"langbiang/alerts"`
	Choose   feed.Choice   `yaml:"choose" doc:"which alerts it gets"`
	ClientID string        `yaml:"client_id" doc:"fixed client id, for brokers that insist on one; random when empty"`
	User     string        `yaml:"user" doc:"user name"`
	Password Secret        `yaml:"password" doc:"password"`
	CAFile   string        `yaml:"ca_file" doc:"certificates to trust instead of the system's"`
	Timeout  time.Duration `yaml:"timeout" doc:"for one answer of the broker" default:"10s"`
	From     string        `yaml:"from" doc:"where a new target begins: now, or oldest, the whole log" default:"now"`
}

// CAPConfig says who speaks in CAP documents, and of what area.
type CAPConfig struct {
	Sender   string  `yaml:"sender" doc:"who speaks, unique worldwide, without spaces and commas" default:"langbiang-hub"`
	Scope    string  `yaml:"scope" doc:"Public, Restricted or Private" default:"Restricted"`
	Radius   float64 `yaml:"radius" doc:"of the circle around a site that an alert is for, km" default:"2"`
	Category string  `yaml:"category" doc:"Geo, Met, Safety, Security, Rescue, Fire, Health, Env, Transport, Infra, CBRNE or Other" default:"Env"`
}

// DefaultConfig returns the settings that hold where the file says nothing.
func DefaultConfig() Config {
	return Config{
		CAP:    CAPConfig{Sender: "langbiang-hub", Scope: "Restricted", Radius: 2, Category: "Env"},
		People: defaultPeople(),
	}
}

// Resolve makes the paths of the section relative to the folder dir.
func (c *Config) Resolve(dir string) {
	at := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	for i := range c.Webhooks {
		at(&c.Webhooks[i].Secret.File)
		at(&c.Webhooks[i].Bearer.File)
	}
	for i := range c.Alertmanagers {
		at(&c.Alertmanagers[i].Password.File)
	}
	for i := range c.MQTT {
		at(&c.MQTT[i].Password.File)
		at(&c.MQTT[i].CAFile)
	}
	c.People.resolve(at)
}

// or returns v, or the default where the file says nothing.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

const defaultTimeout = 10 * time.Second
