package influx

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// refusedFor is how long the samples of a series that was refused go aside
	// without being tried.
	refusedFor = 10 * time.Minute
	// maxRefusedSeries bounds the series that are remembered, maxRefusedBytes the
	// file: what does not fit is counted only.
	maxRefusedSeries = 10_000
	maxRefusedBytes  = 64 << 20
)

// refused are the lines that the server does not take.
type refused struct {
	path string
	now  func() int64

	mu     sync.Mutex
	series map[string]int64 // until when they are not tried
	file   *os.File
	size   int64
	lines  uint64
}

func newRefused(path string, now func() int64) *refused {
	return &refused{path: path, now: now, series: map[string]int64{}}
}

// add sets a line aside and reports whether its series is refused for the first
// time in a while.
func (r *refused) add(line string, why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := keyOf(line)
	_, known := r.series[key]
	if len(r.series) < maxRefusedSeries {
		r.series[key] = r.now() + refusedFor.Milliseconds()
	}
	r.keep(line, why.Error())
	return !known
}

// filter takes the lines out whose series was refused a short while ago.
func (r *refused) filter(lines string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.series) == 0 {
		return lines
	}
	now := r.now()
	var out strings.Builder
	for line := range strings.Lines(lines) {
		until, known := r.series[keyOf(line)]
		if !known || now >= until {
			out.WriteString(line)
			continue
		}
		r.keep(strings.TrimSuffix(line, "\n"), "as before")
	}
	return out.String()
}

// keep writes a line to the file, as JSON: {"line": ..., "reason": ...}.
func (r *refused) keep(line, why string) {
	r.lines++
	if r.path == "" || r.size > maxRefusedBytes {
		return
	}
	if r.file == nil {
		f, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return // counted, and the series stands in the log
		}
		if st, err := f.Stat(); err == nil {
			r.size = st.Size()
		}
		r.file = f
	}
	b, err := json.Marshal(map[string]string{"line": line, "reason": why})
	if err != nil {
		return
	}
	n, _ := r.file.Write(append(b, '\n')) // counted all the same
	r.size += int64(n)
}

func (r *refused) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines
}

func (r *refused) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	err := errors.Join(r.file.Sync(), r.file.Close())
	r.file = nil
	return err
}

type metrics struct {
	samples, refused prometheus.Counter
	pending, down    prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		samples: prometheus.NewCounter(prometheus.CounterOpts{Name: "langbiang_hub_store_samples_total", Help: "Samples appended and committed."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "langbiang_hub_store_refused_total", Help: "Lines that the store's server refused for themselves, and that were set aside."}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{Name: "langbiang_hub_store_pending_bytes", Help: "Bytes that wait for the store's server."}),
		down:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "langbiang_hub_store_down", Help: "1 while the store's server does not take samples."}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.samples, m.refused, m.pending, m.down}
}
