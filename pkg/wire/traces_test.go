package wire

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// traces are the columns of testdata/traces.csv.gz; a missing value is NaN-free:
// it repeats the one before with a bad quality.
type traces struct {
	names  []string
	values [][]float64
	bad    [][]bool
}

func loadTraces(tb testing.TB) *traces {
	tb.Helper()
	f, err := os.Open("testdata/traces.csv.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	rows, err := csv.NewReader(z).ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	tr := &traces{names: rows[0], values: make([][]float64, len(rows[0])), bad: make([][]bool, len(rows[0]))}
	for _, row := range rows[1:] {
		for c, cell := range row {
			v, err := strconv.ParseFloat(cell, 64)
			if cell != "" && err != nil {
				tb.Fatal(err)
			}
			tr.values[c] = append(tr.values[c], v)
			tr.bad[c] = append(tr.bad[c], cell == "")
		}
	}
	return tr
}

// fleet is 1,000 points as one edge could have: 80 air stations of 11 points, 30
// road detectors of 3, 15 machines of 2. Each device replays the traces from its
// own place, a row a second, and is polled at its own phase with some jitter.
type fleet struct {
	schema telemetry.Schema
	trace  []int // by series: column of the traces
	offset []int // by device
	tr     *traces
}

func newFleet(tb testing.TB, sortedByQuantity bool) *fleet {
	return newFleetOf(tb, sortedByQuantity, 80, 30, 15)
}

// newFleetOf has as many of each kind.
func newFleetOf(tb testing.TB, sortedByQuantity bool, air, road, machine int) *fleet {
	f := &fleet{tr: loadTraces(tb)}
	column := func(suffix string, k int) int {
		var found []int
		for i, n := range f.tr.names {
			if strings.Contains(n, suffix) {
				found = append(found, i)
			}
		}
		return found[k%len(found)]
	}
	add := func(kind, profile string, n int, points ...string) {
		for i := range n {
			d := uint32(len(f.schema.Devices))
			f.schema.Devices = append(f.schema.Devices, telemetry.Device{
				ID: fmt.Sprintf("%s-%02d", kind, i), Profile: profile, Connection: fmt.Sprintf("bus-%d", i/32+1), Address: fmt.Sprintf("unit %d", i%32+1),
			})
			f.offset = append(f.offset, i*7)
			for _, p := range points {
				f.schema.Series = append(f.schema.Series, telemetry.Series{
					Device: d, Point: strings.ToLower(strings.Trim(p, "/_")), Quantity: strings.ToLower(strings.Trim(p, "/_")), Interval: 1000,
				})
				f.trace = append(f.trace, column(p, i))
			}
		}
	}
	add("air", "sim/air", air, "/PM2.5", "/PM10", "/SO2", "/NO2", "/CO", "/O3", "/TEMP", "/PRES", "/DEWP", "/RAIN", "/WSPM")
	add("road", "sim/road", road, "/speed", "/occupancy", "/Travel")
	add("machine", "sim/machine", machine, "/machine_temp", "/ambient_temp")
	if sortedByQuantity {
		var l layout
		l.setSchema(&f.schema)
		series, trace := make([]telemetry.Series, len(f.trace)), make([]int, len(f.trace))
		for i, rank := range l.rank {
			series[rank], trace[rank] = f.schema.Series[i], f.trace[i]
		}
		f.schema.Series, f.trace = series, trace
	}
	return f
}

const epochMillis = 1_760_000_000_000

// second appends the readings of second s to dst, device by device.
func (f *fleet) second(dst []telemetry.Reading, s int, rng *rand.Rand) []telemetry.Reading {
	at := make([]int64, len(f.offset))
	for d := range at {
		at[d] = epochMillis + int64(s)*1000 + int64(d*8) + rng.Int64N(4)
	}
	for i := range f.trace {
		d := f.schema.Series[i].Device
		row := (f.offset[d] + s) % len(f.tr.values[0])
		r := telemetry.Reading{Series: uint32(i), Time: at[d], Value: f.tr.values[f.trace[i]][row]}
		if f.tr.bad[f.trace[i]][row] {
			r.Quality = telemetry.BadQuality(telemetry.ReasonNotFitted)
		}
		dst = append(dst, r)
	}
	return dst
}

// frames cuts n frames of so many seconds each.
func (f *fleet) frames(n, seconds int) []*Frame {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]*Frame, n)
	for i := range out {
		w := epochMillis + int64((i+1)*seconds)*1000
		out[i] = &Frame{Header: Header{
			Epoch: Epoch{Instance: Instance{1, 2, 3, 4, 5, 6, 7, 8}, Start: 7, Random: 0xdeadbeef},
			Seq:   uint64(i + 1000), Schema: Hash{1, 2, 3}, PrevW: w - int64(seconds)*1000, W: w,
		}}
		for s := range seconds {
			out[i].Readings = f.second(out[i].Readings, i*seconds+s, rng)
		}
	}
	return out
}
