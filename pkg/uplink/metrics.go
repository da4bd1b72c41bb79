package uplink

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are fed by Run's goroutine alone.
type metrics struct {
	connected, status, inFlight             prometheus.Gauge
	frames, joined, frameBytes, bytes       prometheus.Counter
	resent, snapshots                       prometheus.Counter
	gaps, skipped, schemas, hellos, rewinds prometheus.Counter
	badAcks, answers                        prometheus.Counter
	last                                    counts
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{}
	var errs []error
	register := func(c prometheus.Collector) {
		if r == nil {
			return
		}
		if err := r.Register(c); err != nil {
			errs = append(errs, err)
		}
	}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "langbiang", Subsystem: "edge_uplink", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts(opts(name, help)))
		register(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
		register(c)
		return c
	}
	m.connected = gauge("connected", "1 while there is a connection to the hub's broker.")
	m.status = gauge("refusal", "What the hub last refused frames with: 0 nothing, 2 clock, 3 fork, 4 clone, 5 version, 6 other.")
	m.inFlight = gauge("in_flight_bytes", "Bytes of frames sent and not yet acknowledged.")
	m.frames = counter("frames_sent_total", "Frames published, repetitions included.")
	m.joined = counter("frames_joined_total", "Frames published together with others, in one message.")
	m.snapshots = counter("snapshots_sent_total", "Snapshots of the last values published during a backlog.")
	m.frameBytes = counter("frame_bytes_sent_total", "Bytes of the frames published.")
	m.bytes = counter("bytes_sent_total", "Bytes of all payloads published.")
	m.resent = counter("frames_resent_total", "Frames and gaps published more than once.")
	m.gaps = counter("gaps_declared_total", "Gaps declared to the hub, repetitions included.")
	m.skipped = counter("frames_skipped_total", "Frames that cannot be sent (too large, damaged, without schema), declared as gaps.")
	m.schemas = counter("schemas_sent_total", "Schemas published.")
	m.hellos = counter("hellos_sent_total", "Hellos published.")
	m.rewinds = counter("rewinds_total", "Times that sending went on from the hub's place again.")
	m.answers = counter("answers_sent_total", "Pieces of answers to what people ask, published.")
	m.badAcks = counter("acks_dropped_total", "Acknowledgements that did not decode or found no room.")
	if len(errs) > 0 {
		return nil, fmt.Errorf("uplink: metrics: %w", errors.Join(errs...))
	}
	return m, nil
}

// take brings the metrics up to what the session has counted.
func (m *metrics) take(c *counts, s *session) {
	for _, x := range []struct {
		to       prometheus.Counter
		now, was uint64
	}{
		{m.frames, c.frames, m.last.frames},
		{m.joined, c.joined, m.last.joined},
		{m.snapshots, c.snapshots, m.last.snapshots},
		{m.frameBytes, c.frameBytes, m.last.frameBytes},
		{m.resent, c.resent, m.last.resent},
		{m.gaps, c.gaps, m.last.gaps},
		{m.skipped, c.skipped, m.last.skipped},
		{m.schemas, c.schemas, m.last.schemas},
		{m.hellos, c.hellos, m.last.hellos},
		{m.rewinds, c.rewinds, m.last.rewinds},
		{m.answers, c.answers, m.last.answers},
	} {
		x.to.Add(float64(x.now - x.was))
	}
	m.last = *c
	m.status.Set(float64(s.status))
	m.inFlight.Set(float64(s.inFlight))
}
