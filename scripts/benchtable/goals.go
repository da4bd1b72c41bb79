package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// goal is a number that there is a goal for. Below says that less is better.
type goal struct {
	what       string
	from, unit string // where the number comes from, see results
	scale      float64
	goal       float64 // 0: none, shown beside the others
	below      bool
	shown      string // unit, as people read it
}

var goals = []goal{
	{"bytes per sample, 1,000 points, 1 s frames, MQTT counted", "wire BytesPerSample/1s/by_quantity", "bytes/sample", 1, 2, true, "B"},
	{"the same, joined in a backlog", "wire Backlog/encode/1000_points/60s", "bytes/sample", 1, 1, true, "B"},
	{"encode, one core", "wire BytesPerSample/1s/by_quantity", "Msamples/s", 1, 20, false, "M samples/s"},
	{"decode, one core", "wire Decode/1s", "Msamples/s", 1, 20, false, "M samples/s"},
	{"edge's log: a commit of five frames of 1,000 points", "buffer Commit/5x1400B", "written-B/commit", 1e-3, 45, true, "kB"},
	{"edge's log: anonymous memory with a large backlog", "buffer BacklogInAProcess", "anonymous-MB", 1, 20, true, "MB"},
	{"edge's log: opening it", "buffer BacklogInAProcess", "ms-to-open", 1, 1000, true, "ms"},
	{"agent of 100 Modbus devices of 10 points at 1 Hz, logged: CPU", "edge AgentOfAHundredDevices", "cpu_%", 1, 1, true, "% of a core"},
	{"  a bare loop of the same requests, ten at a waking", "edge AgentOfAHundredDevices", "bare_burst_%", 1, 0, true, "% of a core"},
	{"  a bare loop that wakes for each", "edge AgentOfAHundredDevices", "bare_spread_%", 1, 0, true, "% of a core"},
	{"  anonymous memory", "edge AgentOfAHundredDevices", "anon_MB", 1, 20, true, "MB"},
	{"  allocations for a poll", "edge AgentOfAHundredDevices", "allocs/poll", 1, 0, true, ""},
	{"  the program", "edge AgentOfAHundredDevices", "program_MB", 1, 16, true, "MB"},
	{"the same in a control group of 64 MB, a backlog, no hub, an MQTT flood: anonymous memory", "edge AgentIn64MB", "peak_anon_MB", 1, 64, true, "MB"},
	{"  with the files that it has mapped", "edge AgentIn64MB", "peak_resident_MB", 1, 64, true, "MB"},
	{"32 units, one dead, timeout 1 s: readings that the others lose", "driver/modbus BusWithOneDeadUnit", "lost_%", 1, 5, true, "%"},
	{"serial line, 9600 baud, 10 registers: of what the standard allows", "driver/modbus LineUtilisation/9600_baud,_10_registers", "ours_%", 1, 90, false, "%"},
	{"  115200 baud, 10 registers", "driver/modbus LineUtilisation/115200_baud,_10_registers", "ours_%", 1, 90, false, "%"},
	{"  115200 baud, 125 registers", "driver/modbus LineUtilisation/115200_baud,_125_registers", "ours_%", 1, 90, false, "%"},
	{"a reading against a rule", "rules ObserveNormal/series=1000/rules=1", "ns/op", 1, 70, true, "ns"},
	{"checkpoint of 100,000 windows of 24 h, a reading a second", "rules Checkpoint/every=1s/mean24h", "MB/checkpoint", 1, 0, true, "MB"},
	{"ingest without a store, 1,000 rules", "ingest Ingest/1000_rules", "cpu-ns/reading", 1, 0, true, "ns CPU a reading"},
	{"line protocol, requests of 5,000 rows, each with its fsync", "push LineProtocol", "samples/s", 1e-6, 0, false, "M samples/s"},
	{"remote write, the same", "push RemoteWrite", "samples/s", 1e-6, 0, false, "M samples/s"},
	{"store, in order, two workers, fsync each second", "tsdb/local Append/in_order", "samples/s", 1e-6, 3, false, "M samples/s"},
	{"store, out of order", "tsdb/local Append/out_of_order", "samples/s", 1e-6, 1.5, false, "M samples/s"},
	{"store: ready with 10 M samples in the head", "tsdb/local Open", "s/open", 1, 3, true, "s"},
	{"store: 24 h of a series at 1 Hz, at steps of a minute", "tsdb/local QueryBeside/langbiang/24h_of_a_series_at_1m", "ms", 1, 20, true, "ms"},
	{"  the same of Prometheus", "tsdb/local QueryBeside/prometheus/24h_of_a_series_at_1m", "ms", 1, 0, true, "ms"},
	{"  the same of VictoriaMetrics", "tsdb/local QueryBeside/victoria-metrics/24h_of_a_series_at_1m", "ms", 1, 0, true, "ms"},
	{"  of what the TSDB's own blocks take, in turns", "tsdb/local QueryBlocks/24h_of_a_series_at_1m", "packed/plain", 100, 0, true, "%"},
	{"store: 24 h of 20 series at 1 Hz, maxima of 5 minutes", "tsdb/local QueryBeside/langbiang/24h_max_of_20_series_at_5m", "ms", 1, 0, true, "ms"},
	{"  the same of Prometheus", "tsdb/local QueryBeside/prometheus/24h_max_of_20_series_at_5m", "ms", 1, 0, true, "ms"},
	{"  the same of VictoriaMetrics", "tsdb/local QueryBeside/victoria-metrics/24h_max_of_20_series_at_5m", "ms", 1, 0, true, "ms"},
	{"  of what the TSDB's own blocks take, in turns", "tsdb/local QueryBlocks/24h_max_of_20_series_at_5m", "packed/plain", 100, 0, true, "%"},
	{"  of 20 series at a time", "tsdb/local QueryBlocks/20_series_at_a_time", "packed/plain", 100, 0, true, "%"},
	{"store: in order beside the heaviest queries, of its rate alone: flat out", "tsdb/local AppendBesideQueries/flat_out", "beside/alone", 100, 0, false, "%"},
	{"  of the processors' time", "tsdb/local AppendBesideQueries/flat_out", "CPU-share", 100, 0, false, "%"},
	{"  at 500,000 samples/s", "tsdb/local AppendBesideQueries/at_500,000_a_second", "beside/alone", 100, 95, false, "%"},
	{"    a batch of 5,000 after it was due, p99: alone", "tsdb/local AppendBesideQueries/at_500,000_a_second", "p99-ms-alone", 1, 0, true, "ms"},
	{"    beside queries", "tsdb/local AppendBesideQueries/at_500,000_a_second", "p99-ms-beside", 1, 0, true, "ms"},
	{"memory for an answer of 9.9 million samples, 215 MB of JSON", "api/promapi LargestAnswer", "peak-MB", 1, 0, true, "MB"},
	{"store: bytes a sample on disk, a new value of real traces each second", "tsdb/local BytesOnDisk/to_the_second", "B/sample", 1, 1.5, true, "B"},
	{"  the same in the TSDB's own blocks", "tsdb/local BytesOnDisk/to_the_second", "plain-B/sample", 1, 0, true, "B"},
	{"  of Prometheus", "tsdb/local BytesOnDisk/to_the_second/prometheus", "B/sample", 1, 0, true, "B"},
	{"  with the jitter of polling", "tsdb/local BytesOnDisk/with_jitter", "B/sample", 1, 1.5, true, "B"},
	{"  the same in the TSDB's own blocks", "tsdb/local BytesOnDisk/with_jitter", "plain-B/sample", 1, 0, true, "B"},
	{"  of Prometheus", "tsdb/local BytesOnDisk/with_jitter/prometheus", "B/sample", 1, 0, true, "B"},
	{"  of a sensor that measures every ten seconds", "tsdb/local BytesOnDisk/sensor_of_ten_seconds", "B/sample", 1, 1.5, true, "B"},
	{"  the same in the TSDB's own blocks", "tsdb/local BytesOnDisk/sensor_of_ten_seconds", "plain-B/sample", 1, 0, true, "B"},
	{"  each row of the traces once, in 12 hours", "tsdb/local BytesOnDisk/each_row_once", "B/sample", 1, 1.5, true, "B"},
	{"  the same in the TSDB's own blocks", "tsdb/local BytesOnDisk/each_row_once", "plain-B/sample", 1, 0, true, "B"},
	{"  of Prometheus", "tsdb/local BytesOnDisk/each_row_once/prometheus", "B/sample", 1, 0, true, "B"},
	{"  of VictoriaMetrics", "tsdb/local BytesOnDisk/each_row_once/victoria-metrics", "B/sample", 1, 0, true, "B"},
	{"  trace by trace: a temperature of one decimal", "tsdb/local BytesOfTraces/Aotizhongxin/TEMP", "B/sample", 1, 0, true, "B"},
	{"    rain", "tsdb/local BytesOfTraces/Aotizhongxin/RAIN", "B/sample", 1, 0, true, "B"},
	{"    PM10", "tsdb/local BytesOfTraces/Aotizhongxin/PM10", "B/sample", 1, 0, true, "B"},
	{"    occupancy of a road, two decimals of noise", "tsdb/local BytesOfTraces/nab/occupancy_t4013", "B/sample", 1, 0, true, "B"},
	{"    a temperature of eight decimals", "tsdb/local BytesOfTraces/nab/machine_temperature_system_failure", "B/sample", 1, 0, true, "B"},
	{"store: compaction of 12 hours into packed blocks, processors", "tsdb/local Compact/packed", "cpu-ns/sample", 1, 0, true, "ns a sample"},
	{"  into the TSDB's own", "tsdb/local Compact/plain", "cpu-ns/sample", 1, 0, true, "ns a sample"},
	{"completeness of 100 series at 1 Hz: an hour", "derive Completeness", "ms/hour", 1, 0, true, "ms"},
	{"  a midnight", "derive Completeness", "ms/midnight", 1, 0, true, "ms"},
	{"  a late reading of a past day", "derive Completeness", "ms/correction", 1, 0, true, "ms"},
	{"long history: samples read into buckets, one core", "tsdb/local LongHistory", "Msamples/s", 1, 0, false, "M samples/s"},
	{"  bytes of five minutes of a series", "tsdb/local LongHistory", "B/bucket", 1, 0, true, "B"},
	{"hub with the generator beside it: samples safe", "load flat out", "samples_per_s_safe", 1e-6, 2, false, "M samples/s"},
	{"  CPU of the hub", "load flat out", "hub.cpu_ns_per_sample", 1, 0, true, "ns a sample"},
	{"  CPU of the generator", "load flat out", "generator.cpu_ns_per_sample", 1, 0, true, "ns a sample"},
	{"  bytes per sample, rows of 1,000", "load flat out", "bytes_per_sample", 1, 2, true, "B"},
	{"  peak memory of the hub", "load flat out", "hub.rss_peak_bytes", 1e-6, 500, true, "MB"},
	{"  not safe at the end", "load flat out", "samples_not_safe_at_the_end", 1, 0, true, "samples"},
	{"the same, edges with their log on this disk", "load flat out, edges with a log on disk", "samples_per_s_safe", 1e-6, 0, false, "M samples/s"},
	{"at 2,000,000 samples/s: safe", "load at 2,000,000 samples/s", "samples_per_s_safe", 1e-6, 2, false, "M samples/s"},
	{"  peak memory of the hub", "load at 2,000,000 samples/s", "hub.rss_peak_bytes", 1e-6, 500, true, "MB"},
	{"  appended to safe, p99", "load at 2,000,000 samples/s", "ack_safe_ms.p99", 1, 0, true, "ms"},
	{"10,000 edges, a frame of 10 series each 10 s: peak memory", "load of 10,000 idle edges", "hub.rss_peak_bytes", 1e-6, 1000, true, "MB"},
	{"  of 40 series", "load of 10,000 idle edges of 40 series", "hub.rss_peak_bytes", 1e-6, 1000, true, "MB"},
	{"frame to alert at a client, 100,000 samples/s, in process, p99", "hub FrameToStream", "p99-ms", 1, 100, true, "ms"},
	{"append to alert, 1,000 edges, 100,000 samples/s, over MQTT, p99", "load with alerts", "alert_ms.p99", 1, 100, true, "ms"},
	{"  beside an edge that sends 7 days, p50", "load with alerts", "alert_with_drain_ms.p50", 1, 0, true, "ms"},
	{"  beside an edge that sends 7 days, p99", "load with alerts", "alert_with_drain_ms.p99", 1, 100, true, "ms"},
	{"  which drains", "load with alerts", "drain_samples_per_s", 1e-6, 0, false, "M samples/s"},
}

// print writes a row for each goal whose number was found.
func (r results) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "what\tmeasured\tgoal\tmet\n") // into memory
	for _, g := range goals {
		v, ok := r[g.from][g.unit]
		if !ok {
			continue
		}
		v *= g.scale
		want, met := "", ""
		if g.goal != 0 {
			sign := "at least"
			if g.below {
				sign = "below"
			}
			want, met = fmt.Sprintf("%s %g", sign, g.goal), "no"
			if g.below && v < g.goal || !g.below && v >= g.goal {
				met = "yes"
			}
		}
		_, _ = fmt.Fprintf(w, "%s\t%.4g %s\t%s\t%s\n", g.what, v, g.shown, want, met)
	}
	return w.Flush()
}
