package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/push"
	"github.com/langbiang/langbiang/pkg/uplink"
	"github.com/langbiang/langbiang/pkg/wire"
)

// PushConfig says what the hub takes over HTTP.
type PushConfig struct {
	Keep    time.Duration  `yaml:"keep" doc:"how long a source's log keeps what is in the store, to be sent again should the store be damaged" default:"24h"`
	Sources []SourceConfig `yaml:"sources" doc:"who may write over HTTP (InfluxDB line protocol, Prometheus remote write); each is counted as an edge"`
}

// SourceConfig is a source of pushed data.
type SourceConfig struct {
	ID        string        `yaml:"id" doc:"the id of the edge that it is counted as" example:"telegraf"`
	Site      string        `yaml:"site,text" doc:"the site of its series"`
	TokenFile string        `yaml:"token_file" doc:"file with the token that senders show; without one, senders on the hub's own machine may write" example:"./telegraf.token"`
	Lag       time.Duration `yaml:"lag" doc:"how late a reading may come and still be judged by rules; later ones are stored" default:"10s"`
	MaxSeries int           `yaml:"max_series" doc:"rows of further series are refused; one that is silent for a day makes room" default:"10000"`
	Device    string        `yaml:"device" doc:"the device of a series: a text with {tag} in it; a row without the tag stands under the source's id" default:"{host}"`
	Map       []MapConfig   `yaml:"map" doc:"what metrics are; the first that matches holds, and what none matches keeps its name"`
}

// MapConfig says what a metric of a sender is.
type MapConfig struct {
	Metric   string            `yaml:"metric" doc:"name of the metric, with * and ?: MEASUREMENT_FIELD of line protocol (MEASUREMENT when the field is called value), __name__ of remote write" example:"bme280_temperature"`
	Where    map[string]string `yaml:"where" doc:"tags or labels that it must have, with * and ?" example:"{room: outdoor}"`
	Quantity string            `yaml:"quantity" doc:"what it measures, of the catalogue" example:"air_temperature"`
	Device   string            `yaml:"device" doc:"as of the source"`
	Site     string            `yaml:"site,text" doc:"a site other than the source's, or a text with {tag} in it"`
	Point    string            `yaml:"point" doc:"the point of the device, a text with {tag} in it; default: the metric and its labels"`
	Scale    float64           `yaml:"scale" doc:"values are multiplied by this" default:"1"`
	Offset   float64           `yaml:"offset" doc:"and this is added" default:"0"`
	Drop     bool              `yaml:"drop" doc:"the rows are thrown away" default:"false"`
}

// sourceConfig is what package push wants to know.
func (p *Plan) sourceConfig(s *SourceConfig) push.Config {
	c := push.Config{
		ID: s.ID, Site: s.Site, Lag: s.Lag, MaxSeries: s.MaxSeries, MaxBytes: p.Config.Ingest.MaxLabelBytes, Device: s.Device, MaxAge: p.Config.Store.MaxAge, Quantities: p.Quantities,
	}
	if c.Device == "" {
		c.Device = "{host}"
	}
	for i := range s.Map {
		m := &s.Map[i]
		c.Map = append(c.Map, push.Mapping{
			Metric: m.Metric, Where: m.Where, Quantity: m.Quantity, Device: m.Device, Site: m.Site, Point: m.Point, Scale: m.Scale, Offset: m.Offset, Drop: m.Drop,
		})
	}
	return c
}

// push checks the sources.
func (c *checker) push(p *Plan) {
	ids := map[string]int{}
	sites := map[string]bool{}
	for _, s := range p.Sites {
		sites[s.ID] = true
	}
	for i := range p.Config.Push.Sources {
		s := &p.Config.Push.Sources[i]
		at := func(rest ...any) []any { return append([]any{"push", "sources", i}, rest...) }
		if first, dup := ids[s.ID]; dup {
			c.fault(fmt.Sprintf("%q is taken", s.ID), fmt.Sprintf("the source at %s has it already", c.doc.At("push", "sources", first, "id")), at("id")...)
		}
		ids[s.ID] = i
		if !wire.ValidEdge(s.ID) {
			c.fault(fmt.Sprintf("%q is not an id", s.ID), fmt.Sprintf("write 1 to %d of a-z, 0-9 and -; no agent may have it", wire.MaxEdgeID), at("id")...)
		}
		switch {
		case s.Site == "":
			c.fault("must be set", "the id of a site of sites.yaml", at("site")...)
		case len(sites) > 0 && !sites[s.Site]:
			c.fault(fmt.Sprintf("there is no site %q", s.Site), "sites.yaml lists them", at("site")...)
		}
		if s.Lag < 0 || s.Lag > time.Hour {
			c.fault("out of range", "0s to 1h", at("lag")...)
		}
		if s.MaxSeries < 0 || s.MaxSeries > maxPushSeries {
			c.fault("out of range", fmt.Sprintf("1 to %d", maxPushSeries), at("max_series")...)
		}
		if err := push.CheckTemplate(s.Device); err != nil {
			c.fault(err.Error(), "write for example {host} or {room}-{sensor}", at("device")...)
		}
		if s.TokenFile != "" {
			if _, err := readToken(s.TokenFile); err != nil {
				c.fault(err.Error(), "paths are relative to the folder of this file", at("token_file")...)
			}
		}
		for j, m := range p.sourceConfig(s).Map {
			if field, msg, hint := m.Check(p.Quantities); msg != "" {
				c.fault(msg, hint, at("map", j, field)...)
			}
		}
	}
}

// maxPushSeries is what one source may have: its table of series must fit into a
// message.
const maxPushSeries = 50_000

func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if len(token) < 16 {
		return "", fmt.Errorf("%s: the token has %d characters; it needs 16 at least", path, len(token))
	}
	return token, nil
}

// pushed is a source with its log and its uplink.
type pushed struct {
	log    *buffer.Log
	source *push.Source
	uplink *uplink.Uplink
}

// sources are the edges inside the hub, by id.
type sources map[string]*pushed

func (m sources) has(edge string) bool { return m[edge] != nil }

// openSources opens the logs of the sources; the ingest need not be there yet.
func (h *Hub) openSources(version string) error {
	h.sources = sources{}
	for i := range h.plan.Config.Push.Sources {
		c := &h.plan.Config.Push.Sources[i]
		cfg := h.plan.sourceConfig(c)
		if c.TokenFile != "" {
			var err error
			if cfg.Token, err = readToken(c.TokenFile); err != nil {
				return fmt.Errorf("push: source %s: %w", c.ID, err)
			}
		}
		if err := h.openSource(cfg, version); err != nil {
			return err
		}
	}
	return nil
}

func (h *Hub) openSource(cfg push.Config, version string) error {
	log, err := buffer.Open(filepath.Join(h.plan.Config.DataDir, "push", cfg.ID), buffer.Options{
		MaxSize: pushLogSize, Keep: h.plan.Config.Push.Keep, Logger: h.logger,
		Now: func() int64 { return time.Now().UnixMilli() },
	})
	if err != nil {
		return fmt.Errorf("push: log of source %s: %w", cfg.ID, err)
	}
	p := &pushed{log: log}
	h.sources[cfg.ID] = p
	if p.source, err = push.Open(cfg, log, time.Now, h.logger); err != nil {
		return err
	}
	p.uplink, err = uplink.New(uplink.Config{
		Publish: func(kind string, payload []byte) { h.ingest.Receive(cfg.ID, kind, payload) },
		Edge:    cfg.ID, Epoch: p.source.Epoch(), Logger: h.logger, AnswerTimeout: time.Second, MaxBackoff: time.Second,
		Hello: func(hello *wire.Hello) {
			p.source.Hello(hello)
			hello.Version = version
		},
	}, framelog.Of(log))
	if err != nil {
		return fmt.Errorf("push: source %s: %w", cfg.ID, err)
	}
	return nil
}

// pushLogSize bounds the log of one source, in bytes.
const pushLogSize = 1 << 30

// list returns the sources that HTTP writes to.
func (m sources) list(cfg *PushConfig) []*push.Source {
	var out []*push.Source
	for i := range cfg.Sources {
		out = append(out, m[cfg.Sources[i].ID].source)
	}
	return out
}

// run runs all sources until ctx ends; it calls failed when one cannot go on.
func (m sources) run(ctx context.Context, failed func(error)) (wait func()) {
	var wg sync.WaitGroup
	for _, p := range m {
		wg.Go(func() {
			if err := p.source.Run(ctx); err != nil {
				failed(err)
			}
		})
		wg.Go(func() {
			if err := p.uplink.Run(ctx); err != nil {
				failed(err)
			}
		})
	}
	return wg.Wait
}

func (m sources) close() error {
	var errs []error
	for _, p := range m {
		errs = append(errs, p.log.Close())
	}
	return errors.Join(errs...)
}

// carrier brings messages of the ingest to the edges: over the bus, or to the
// sources inside the hub.
type carrier struct {
	bus interface {
		Publish(edge, kind string, payload []byte) error
	}
	sources sources
}

// Publish implements [ingest.Bus].
func (c carrier) Publish(edge, kind string, payload []byte) error {
	if p := c.sources[edge]; p != nil {
		p.uplink.Deliver(kind, payload)
		return nil
	}
	return c.bus.Publish(edge, kind, payload)
}

// receive takes what comes over the bus. Nobody outside speaks for a source.
func (h *Hub) receive(edge, kind string, payload []byte) {
	switch {
	case h.sources.has(edge):
	case kind == wire.TopicAnswer:
		h.asker.Take(edge, payload)
	case kind == wire.TopicConfigState:
		h.configs.Receive(edge, payload)
	default:
		h.ingest.Receive(edge, kind, payload)
	}
}
