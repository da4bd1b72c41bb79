package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// result is what a run has found. Its JSON form is the last line of the output.
type result struct {
	Edges   int     `json:"edges"`
	Series  int     `json:"series"`
	Rules   int     `json:"rules"`
	Buffer  bool    `json:"buffer"`
	Seconds float64 `json:"seconds"`

	GotPerSecond   float64 `json:"samples_per_s_got"`
	SafePerSecond  float64 `json:"samples_per_s_safe"`
	FramesPerSec   float64 `json:"frames_per_s"`
	BytesPerSample float64 `json:"bytes_per_sample"`
	Got            spread  `json:"ack_got_ms"`
	Safe           spread  `json:"ack_safe_ms"`

	Hub       side `json:"hub"`
	Generator side `json:"generator"`

	Alerts      *spread `json:"alert_ms,omitempty"`
	DrainAlerts *spread `json:"alert_with_drain_ms,omitempty"`
	Missing     int     `json:"alerts_missing"`
	Drained     float64 `json:"drain_samples_per_s,omitempty"`
	DrainLive   float64 `json:"live_samples_per_s_safe_with_drain,omitempty"`

	Dropped float64 `json:"messages_dropped_by_the_hub"`
	Unsafe  int64   `json:"samples_not_safe_at_the_end"`
	Refused int     `json:"edges_refused"`
}

// side is what one of the two processes has used during the measurement.
type side struct {
	Cores     float64 `json:"cores"` // CPU seconds per second
	PerSample float64 `json:"cpu_ns_per_sample"`
	Peak      int64   `json:"rss_peak_bytes"`
	Anonymous int64   `json:"rss_anonymous_peak_bytes,omitempty"`
}

// spread describes times in milliseconds.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func spreadOf(ms []float32) spread {
	if len(ms) == 0 {
		return spread{}
	}
	slices.Sort(ms)
	at := func(p float64) float64 { return float64(ms[min(len(ms)-1, int(p*float64(len(ms))))]) }
	return spread{len(ms), at(0.5), at(0.9), at(0.99), float64(ms[len(ms)-1])}
}

func (s spread) String() string {
	return fmt.Sprintf("p50 %.1f ms\tp90 %.1f ms\tp99 %.1f ms\tmax %.1f ms\tof %d", s.P50, s.P90, s.P99, s.Max, s.N)
}

func (s side) String() string {
	anonymous := ""
	if s.Anonymous > 0 {
		anonymous = fmt.Sprintf(" (%d MB without files)", s.Anonymous>>20)
	}
	return fmt.Sprintf("%.2f cores\t%.0f ns per sample\tpeak RSS %d MB%s", s.Cores, s.PerSample, s.Peak>>20, anonymous)
}

// print writes the table and the JSON line.
func (r *result) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, args...)...) // into memory
	}
	line("run", "%d edges, %d series each, %d rules, %.1f s", r.Edges, r.Series, r.Rules, r.Seconds)
	line("samples/s got", "%.0f", r.GotPerSecond)
	line("samples/s safe", "%.0f\tin %.0f frames/s", r.SafePerSecond, r.FramesPerSec)
	line("bytes per sample", "%.2f", r.BytesPerSample)
	line("appended to got", "%v", r.Got)
	line("appended to safe", "%v", r.Safe)
	line("hub", "%v", r.Hub)
	line("generator", "%v", r.Generator)
	if r.Alerts != nil {
		line("appended to alert", "%v", *r.Alerts)
	}
	if r.DrainAlerts != nil {
		line("the same with a drain", "%v", *r.DrainAlerts)
		line("drained samples/s", "%.0f\tbeside %.0f of live edges", r.Drained, r.DrainLive)
	}
	line("messages dropped by the hub", "%.0f", r.Dropped)
	line("not safe at the end", "%d samples, %d edges refused, %d alerts missing", r.Unsafe, r.Refused, r.Missing)
	if err := w.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}
