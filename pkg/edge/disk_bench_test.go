package edge

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/internal/doctor"
	"github.com/langbiang/langbiang/pkg/wire"
)

// realColumns are the traces that the wire format is measured with.
func realColumns(b *testing.B) (quantities []string, columns [][]float64) {
	f, err := os.Open("../wire/testdata/traces.csv.gz")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		b.Fatal(err)
	}
	rows, err := csv.NewReader(z).ReadAll()
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range rows[0] {
		quantities = append(quantities, strings.ToLower(name[strings.LastIndexAny(name, "/_")+1:]))
	}
	columns = make([][]float64, len(rows[0]))
	for _, row := range rows[1:] {
		for c, cell := range row {
			v, _ := strconv.ParseFloat(cell, 64) // a missing one is 0 here
			columns[c] = append(columns[c], v)
		}
	}
	return quantities, columns
}

// diskWritten is what this process has caused to be written to the disk, in bytes.
func diskWritten(b *testing.B) (n int64) {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	b.Fatal("no write_bytes")
	return 0
}

// BenchmarkDiskOfAThousandPoints is what an agent with 1,000 points at 1 Hz writes
// to its card: real traces through collector, encoder and log, a frame each second,
// a commit each five (commit_every's default). The goal is below 45 kB a commit.
func BenchmarkDiskOfAThousandPoints(b *testing.B) {
	quantities, columns := realColumns(b)
	log, err := buffer.Open(b.TempDir(), buffer.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	quiet := slog.New(slog.DiscardHandler)
	var devices []*driver.Device
	for i := range 100 {
		points := make([]string, 10)
		for j := range points {
			points[j] = fmt.Sprint("p", j)
		}
		d := testDevice(fmt.Sprintf("d-%02d", i), points...)
		for j := range d.Points {
			d.Points[j].Quantity = quantities[(i*10+j)%len(columns)]
		}
		devices = append(devices, d)
	}
	const began = 1_760_000_000_000
	fc := &fakeClock{Time: clock.Time{Ms: began, Trusted: true}}
	c := newCollector(newLayout(&Plan{Devices: devices}), fc, quiet)
	begun, err := framelog.Begin(log, 0, quiet)
	if err != nil {
		b.Fatal(err)
	}
	r, err := newRecorder(log, c, c.schema, newTotals(log, quiet), begun, wire.Pos{}, [16]byte{}, quiet)
	if err != nil {
		b.Fatal(err)
	}
	c.begin(0)
	rng := rand.New(rand.NewPCG(1, 2))
	second := 0
	var commits time.Duration
	before := diskWritten(b)
	bytes := log.Stats().PendingBytes
	for b.Loop() {
		for range 5 {
			for i, d := range devices {
				fc.Ms = began + int64(second)*1000 + int64(i*8) + rng.Int64N(4)
				samples := make([]driver.Sample, 10)
				for j := range samples {
					col := columns[(i*10+j)%len(columns)]
					samples[j] = driver.Sample{Point: j, Value: col[(i*7+second)%len(col)]}
				}
				c.Put(d, time.Time{}, samples)
			}
			second++
			fc.Ms = began + int64(second)*1000
			if err := r.cut(0); err != nil {
				b.Fatal(err)
			}
		}
		bytes += log.Stats().PendingBytes
		t := time.Now()
		r.commit()
		commits += time.Since(t)
	}
	per := float64(diskWritten(b)-before) / float64(b.N)
	b.ReportMetric(per/1000, "written-kB/commit")
	b.ReportMetric(per*86_400/5/1e6, "written-MB/day")
	b.ReportMetric(float64(bytes)/float64(b.N)/5, "B/frame")
	b.ReportMetric(float64(commits.Microseconds())/float64(b.N)/1000, "ms/commit")
	fsync, err := doctor.FsyncTime(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(fsync.Microseconds())/1000, "ms/fsync")
	b.ReportMetric(0, "ns/op")
}
