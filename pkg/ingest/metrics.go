package ingest

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	reg prometheus.Registerer
	all []prometheus.Collector

	frames, readings, late, limited, bad, text, stored, unstored prometheus.Counter
	duplicates, holes, gaps, refused, dropped                    prometheus.Counter
	clock, forks, clones, acks                                   prometheus.Counter
	checkpoint                                                   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, g *Ingest) (*metrics, error) {
	m := &metrics{reg: reg}
	for _, c := range []struct {
		to         *prometheus.Counter
		name, help string
	}{
		{&m.frames, "frames_total", "Frames taken in, each once."},
		{&m.readings, "readings_total", "Readings taken in, each once."},
		{&m.limited, "limited_readings_total", "Readings of series that there was no room for."},
		{&m.late, "late_readings_total", "Readings that came after their watermark."},
		{&m.bad, "bad_readings_total", "Readings of bad quality."},
		{&m.text, "text_readings_total", "Readings of text; a state is kept when it begins."},
		{&m.stored, "stored_samples_total", "Readings given to the store as samples."},
		{&m.unstored, "unstored_samples_total", "Samples that the store refused."},
		{&m.duplicates, "duplicate_frames_total", "Frames that the hub had already."},
		{&m.holes, "holes_total", "Messages dropped because one before them is missing."},
		{&m.gaps, "gaps_total", "Gaps that edges declared."},
		{&m.refused, "refused_total", "Messages that could not be read."},
		{&m.dropped, "dropped_total", "Messages dropped because a worker's queue was full; edges send them again."},
		{&m.clock, "clock_total", "Frames from ahead of the hub's clock."},
		{&m.forks, "forks_total", "Messages from a copy of an edge's log."},
		{&m.clones, "clones_total", "Messages from a second agent under an id."},
		{&m.acks, "acks_total", "Acknowledgements sent."},
	} {
		*c.to = prometheus.NewCounter(prometheus.CounterOpts{Name: "langbiang_hub_ingest_" + c.name, Help: c.help})
		m.all = append(m.all, *c.to)
	}
	m.checkpoint = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "langbiang_hub_ingest_checkpoint_seconds", Help: "Time from asking the workers to the ledger's commit.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
	})
	queued := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "langbiang_hub_ingest_queued_bytes", Help: "Bytes waiting for the workers.",
	}, func() float64 {
		var n int64
		for _, w := range g.workers {
			_, bytes := w.queue.waiting()
			n += bytes
		}
		return float64(n)
	})
	edges := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "langbiang_hub_ingest_edges", Help: "Edges known.",
	}, func() float64 { return float64(g.views.len()) })
	m.all = append(m.all, m.checkpoint, queued, edges)
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

func (m *metrics) took(n tally) {
	m.frames.Inc()
	m.readings.Add(float64(n.readings))
	m.stored.Add(float64(n.stored))
	if n.late > 0 {
		m.late.Add(float64(n.late))
	}
	if n.bad > 0 {
		m.bad.Add(float64(n.bad))
	}
	if n.refused > 0 {
		m.limited.Add(float64(n.refused))
	}
	if n.text > 0 {
		m.text.Add(float64(n.text))
	}
}
