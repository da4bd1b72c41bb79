package local

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
)

// traces are the columns of real measurements that the wire's benchmarks have, too,
// and their names.
func traces(b *testing.B) (columns [][]float64, names []string) {
	b.Helper()
	f, err := os.Open("../../wire/testdata/traces.csv.gz")
	check(b, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	check(b, err)
	rows, err := csv.NewReader(z).ReadAll()
	check(b, err)
	columns = make([][]float64, len(rows[0]))
	for _, row := range rows[1:] {
		for c, cell := range row {
			if v, err := strconv.ParseFloat(cell, 64); err == nil {
				columns[c] = append(columns[c], v)
			}
		}
	}
	return columns, rows[0]
}

// replay is how the traces come, for 12 hours.
type replay struct {
	name           string
	step           int // milliseconds
	jitter, repeat int
}

// replays are a row of the traces each second, to the second and with the jitter of
// polling; each value repeated for ten seconds, as by a sensor that measures more slowly
// than it is polled; and each row once.
var replays = []replay{
	{"to the second", 1000, 0, 1},
	{"with jitter", 1000, 7, 1},
	{"sensor of ten seconds", 1000, 0, 10},
	{"each row once", 36_000, 0, 1},
}

func (r replay) rows() int { return 12 * 3600 * 1000 / r.step }

func (r replay) time(column, i int) int64 {
	at := t0 + int64(i*r.step)
	if r.jitter > 0 {
		at += int64((i*7919 + column*104729) % r.jitter)
	}
	return at
}

func (r replay) value(values []float64, i int) float64 { return values[i/r.repeat%len(values)] }

// BenchmarkBytesOnDisk measures what a sample of real traces takes after compaction,
// index included, in packed blocks and in plain ones, as the TSDB makes them; and in the
// blocks of Prometheus and the files of VictoriaMetrics where they are installed. It
// fills 12 hours; b.N is ignored. The traces have 1,200 rows, and at one a second come
// again after 20 minutes: a chunk is shorter, so that nothing here gains by that, but
// VictoriaMetrics joins 8,192 values and compresses what repeats in them. Compare with it
// where each row comes once.
func BenchmarkBytesOnDisk(b *testing.B) {
	columns, _ := traces(b)
	for _, r := range replays {
		b.Run(r.name, func(b *testing.B) {
			b.ReportMetric(bytesOnDisk(b, columns, r, true), "plain-B/sample")
			b.ReportMetric(bytesOnDisk(b, columns, r, false), "B/sample")
			b.ReportMetric(0, "ns/op")
		})
		b.Run(r.name+"/prometheus", func(b *testing.B) { reportBytes(b, prometheusBytes(b, columns, r), len(columns)*r.rows()) })
		b.Run(r.name+"/victoria-metrics", func(b *testing.B) { reportBytes(b, victoriaBytes(b, columns, r), len(columns)*r.rows()) })
	}
}

// BenchmarkBytesOfTraces is the same trace by trace, each in a store of its own.
func BenchmarkBytesOfTraces(b *testing.B) {
	columns, names := traces(b)
	for c, name := range names {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(bytesOnDisk(b, columns[c:c+1], replays[0], true), "plain-B/sample")
			b.ReportMetric(bytesOnDisk(b, columns[c:c+1], replays[0], false), "B/sample")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func bytesOnDisk(b *testing.B, columns [][]float64, r replay, plain bool) float64 {
	s := mustOpen(b, b.TempDir(), func(o *Options) { o.SegmentSize = 0; o.Plain = plain })
	fill(b, s, columns, r)
	check(b, s.db.Compact(context.Background()))
	var samples uint64
	for _, block := range s.db.Blocks() {
		samples += block.Meta().Stats.NumSamples
	}
	n := float64(s.Stats().BlockBytes) / float64(samples)
	check(b, s.Close())
	return n
}

func fill(b *testing.B, s *Store, columns [][]float64, r replay) {
	app := s.Appender()
	refs := make([]uint64, len(columns))
	for i := range r.rows() {
		for c, values := range columns {
			ref, err := app.Append(refs[c], tsdbtest.Labels("trace", strconv.Itoa(c)), r.time(c, i), r.value(values, i))
			check(b, err)
			refs[c] = ref
		}
		if i%600 == 599 {
			check(b, app.Commit())
		}
	}
	check(b, app.Commit())
}

func reportBytes(b *testing.B, n int64, samples int) {
	if n > 0 {
		b.ReportMetric(float64(n)/float64(samples), "B/sample")
	}
	b.ReportMetric(0, "ns/op")
}

func folderBytes(b *testing.B, dir string) (n int64) {
	check(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}))
	return n
}

// prometheusBytes has Prometheus' tool make blocks, as the server would; 0 when it is not
// installed.
func prometheusBytes(b *testing.B, columns [][]float64, r replay) int64 {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		b.Log("no row for prometheus: promtool is not installed")
		return 0
	}
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "in"))
	check(b, err)
	w := bufio.NewWriter(f)
	_, err = fmt.Fprintln(w, "# TYPE trace gauge")
	check(b, err)
	for c, values := range columns {
		for i := range r.rows() {
			_, err := fmt.Fprintf(w, "trace{site=\"s\",edge=\"e\",device=\"d\",point=\"%d\"} %s %s\n", c, strconv.FormatFloat(r.value(values, i), 'g', -1, 64), seconds(r.time(c, i)))
			check(b, err)
		}
	}
	_, err = fmt.Fprintln(w, "# EOF")
	check(b, err)
	check(b, w.Flush())
	check(b, f.Close())
	out, err := exec.CommandContext(b.Context(), tool, "tsdb", "create-blocks-from", "openmetrics", "-q", f.Name(), filepath.Join(dir, "out")).CombinedOutput()
	if err != nil {
		b.Fatalf("promtool: %v %s", err, out)
	}
	return folderBytes(b, filepath.Join(dir, "out"))
}

// victoriaBytes has VictoriaMetrics take the samples and merge what it has; 0 when it is
// not installed.
func victoriaBytes(b *testing.B, columns [][]float64, r replay) int64 {
	dir, address := b.TempDir(), testutil.FreeAddress(b)
	base := startOther(b, "victoria-metrics", address, "/health", "-storageDataPath", dir, "-httpListenAddr", address, "-influxSkipSingleField", "-retentionPeriod", "100y")
	if base == "" {
		return 0
	}
	for c, values := range columns {
		var body bytes.Buffer
		for i := range r.rows() {
			fmt.Fprintf(&body, "trace,site=s,edge=e,device=d,point=%d value=%s %d\n", c, strconv.FormatFloat(r.value(values, i), 'g', -1, 64), r.time(c, i))
		}
		resp, err := http.Post(base+"/api/v2/write?precision=ms", "text/plain", &body)
		check(b, err)
		_ = resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			b.Fatalf("write: %s", resp.Status)
		}
	}
	for _, path := range []string{"/internal/force_flush", "/internal/force_merge"} {
		resp, err := http.Get(base + path)
		check(b, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	// Merging goes on in the background: what it comes to stands still.
	last, still := int64(0), 0
	testutil.Eventually(b, time.Minute, "files are merged", func() bool {
		n := folderBytes(b, filepath.Join(dir, "data"))
		if still++; n != last {
			last, still = n, 0
		}
		return still >= 100
	})
	return last
}

// BenchmarkCompact writes 8 hours of the traces from the head and joins the blocks, in
// packed chunks and in plain ones; b.N is ignored. It is the time of the processors that
// counts: ingest goes on meanwhile.
func BenchmarkCompact(b *testing.B) {
	columns, _ := traces(b)
	for _, plain := range []bool{true, false} {
		b.Run(map[bool]string{true: "plain", false: "packed"}[plain], func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), func(o *Options) { o.SegmentSize = 0; o.Plain = plain })
			fill(b, s, columns, replays[0])
			s.db.ForceHeadMMap()
			before := processorTime(b)
			check(b, s.db.Compact(context.Background()))
			b.ReportMetric(float64(processorTime(b)-before)/float64(replays[0].rows()*len(columns)), "cpu-ns/sample")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
