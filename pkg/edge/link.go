package edge

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/uplink"
	"github.com/langbiang/langbiang/pkg/wire"
)

// newUplink makes the uplink of the agent.
func (a *Agent) newUplink(version string) (*uplink.Uplink, error) {
	cfg := &a.plan.Config
	address := cfg.Hub.URL
	if address == "" {
		address = "mqtt://127.0.0.1:1" // of simulated devices: it does not run
	}
	secure, err := a.hubTLS()
	if err != nil {
		return nil, err
	}
	u, err := uplink.New(uplink.Config{
		Answers: a.answers(),
		TLS:     secure,
		URL:     address, Edge: cfg.Edge.ID, Epoch: a.recorder.Epoch, Logger: a.logger, Metrics: a.metrics,
		Hello: func(h *wire.Hello) {
			t := a.clock.Now()
			h.Site, h.Version, h.Platform = cfg.Edge.Site, version, runtime.GOOS+"/"+runtime.GOARCH
			h.Ask = wire.AskOn
			if a.asked == nil {
				h.Ask = wire.AskOff
			}
			h.Schema = a.recorder.schema.Load().Key
			h.Devices, h.Series = a.collect.size()
			h.SendEvery, h.Bands = uint32(a.pace.period.Milliseconds()), a.bands.Load()
			h.Clock = wire.Clock{Now: t.Ms, Trusted: t.Trusted, Era: t.Era}
		},
		Disk: func() string { return a.log.Stats().DiskError },
		Retime: func(boot [16]byte) (int64, bool, bool) {
			offset, estimated, err := a.boots.offset(boot)
			if err != nil && !errors.Is(err, errTimeUnknown) {
				a.logger.Error("offset of a boot cannot be kept", "err", err)
			}
			return offset, estimated, err == nil
		},
		ObserveHub: func(offset, rtt time.Duration) {
			a.clock.ObserveHubTime(time.Now().Add(offset-rtt/2).UnixMilli(), rtt.Milliseconds())
		},
		Snapshot: a.recorder.values.append, SnapshotEvery: a.pace.snapshot, BehindFrames: a.pace.behind,
		MaxRate: int64(cfg.Hub.MaxRate), SendEvery: a.pace.send, AckWithin: a.pace.ackWithin, KeepAlive: a.pace.keepAlive,
		Bands: func(b *wire.Bands, id uint32) {
			if b.Schema != a.recorder.schema.Load().Key {
				return // of a schema that the hub has yet to come to
			}
			a.collect.watch(b)
			a.bands.Store(id)
		},
		Configured: func(c *wire.Config) {
			if a.fleet != nil {
				a.fleet.configured(c)
			}
		},
		Greeted: func() {
			if a.fleet != nil {
				signalled(a.fleet.greeted)
			}
		},
	}, framelog.Of(a.log))
	if err != nil {
		return nil, fmt.Errorf("hub.url: %w", err)
	}
	return u, nil
}

// answers is who answers those at the hub, nil when they may not ask.
func (a *Agent) answers() uplink.Answers {
	if a.asked == nil {
		return nil
	}
	return a.asked
}

// registerMetrics adds the numbers of the collector and the recorder.
func (a *Agent) registerMetrics() {
	counter := func(name, help string, value func() float64) {
		a.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "langbiang_edge_" + name, Help: help}, value))
	}
	gauge := func(name, help string, value func() float64) {
		a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "langbiang_edge_" + name, Help: help}, value))
	}
	counter("frames_total", "Frames cut.", func() float64 { return float64(a.recorder.frames.Load()) })
	counter("readings_total", "Readings that went into frames.", func() float64 { return float64(a.recorder.readings.Load()) })
	counter("urgent_total", "Times that a frame was sent and committed at once.", func() float64 { return float64(a.recorder.urgent.Load()) })
	counter("readings_lost_total", "Readings that could not be encoded.", func() float64 { return float64(a.recorder.lost.Load()) })
	counter("readings_duplicate_total", "Readings dropped: the series had one of that millisecond.", func() float64 { d, _ := a.collect.dropped(); return float64(d) })
	counter("readings_overflow_total", "Readings dropped: more came than memory is set aside for.", func() float64 { _, u := a.collect.dropped(); return float64(u) })
	for by, value := range map[string]func() uint64{
		"deadband": func() uint64 { return a.collect.thinnedOut().Deadband },
		"window":   func() uint64 { return a.collect.thinnedOut().Window },
		"rate":     func() uint64 { return a.collect.thinnedOut().Rate },
	} {
		a.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "langbiang_edge_readings_filtered_total", ConstLabels: prometheus.Labels{"by": by},
			Help: "Readings that filters held back: within the deadband, joined into a window, beyond the rate.",
		}, func() float64 { return float64(value()) }))
	}
	gauge("devices", "Devices that are read.", func() float64 { return float64(len(a.now.Load().Devices)) })
	gauge("devices_up", "Devices that answer.", func() float64 { return float64(a.collect.answering()) })
	gauge("clock_trusted", "1 when log time is true time.", func() float64 {
		if a.clock.Now().Trusted {
			return 1
		}
		return 0
	})
}
