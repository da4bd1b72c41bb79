package main

import (
	"encoding/csv"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/scripts/fieldsim/traces"
)

// column is one measured quantity of a trace file: a value per row.
type column struct {
	quantity, unit string
	values         []float64
}

// The kinds of device that an edge is made of, with the file columns that each
// replays. A pattern of 33 series is repeated until the edge has enough.
var (
	airFiles   = []string{"air-aotizhongxin", "air-dongsi", "air-huairou"}
	airColumns = []struct{ header, quantity, unit string }{
		{"PM2.5", "pm2_5", "ug/m3"},
		{"PM10", "pm10", "ug/m3"},
		{"TEMP", "air_temperature", "Cel"},
		{"PRES", "air_pressure", "hPa"},
		{"DEWP", "dew_point", "Cel"},
		{"RAIN", "rain_amount", "mm"},
		{"WSPM", "wind_speed", "m/s"},
	}
	roadFiles = [][2]string{{"road-occupancy-6005", "road-speed-6005"}, {"road-occupancy-t4013", "road-speed-t4013"}}
)

const cabinetFile = "room-temperature"

// library holds the columns of all files.
type library struct {
	air     [][]column
	road    [][]column
	cabinet column
}

func loadLibrary() (*library, error) {
	l := &library{}
	for _, name := range airFiles {
		var cs []column
		for _, c := range airColumns {
			values, err := load(name, c.header)
			if err != nil {
				return nil, err
			}
			cs = append(cs, column{c.quantity, c.unit, values})
		}
		l.air = append(l.air, cs)
	}
	for _, names := range roadFiles {
		occupancy, err := load(names[0], "value")
		if err != nil {
			return nil, err
		}
		speed, err := load(names[1], "value")
		if err != nil {
			return nil, err
		}
		l.road = append(l.road, []column{{"occupancy", "%", occupancy}, {"vehicle_speed", "km/h", speed}})
	}
	values, err := load(cabinetFile, "value")
	if err != nil {
		return nil, err
	}
	l.cabinet = column{"air_temperature", "Cel", values}
	return l, nil
}

// load reads one column of a trace file. A value that is missing is the one
// before it.
func load(name, header string) ([]float64, error) {
	data, err := fs.ReadFile(traces.FS, name+".csv")
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(data))).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("trace %s: %w", name, err)
	}
	i := slices.Index(rows[0], header)
	if i < 0 {
		return nil, fmt.Errorf("trace %s has no column %s", name, header)
	}
	var out []float64
	last := 0.0
	for _, r := range rows[1:] {
		if r[i] != "" && r[i] != "NA" {
			if last, err = strconv.ParseFloat(r[i], 64); err != nil {
				return nil, fmt.Errorf("trace %s: %w", name, err)
			}
		}
		out = append(out, last)
	}
	return out, nil
}

// The probe is a series that raises an alert on command.
const (
	probeDevice   = "probe"
	probeQuantity = "water_level"
	probeQuiet    = 0.5
	probeAlarm    = 9.5
	probeLimit    = 5
)

// station is what all edges of a run have in common: devices, series and the
// column that each series replays. Read only once made.
type station struct {
	schema  telemetry.Schema
	columns []*column // by series; nil: the probe
	probe   int       // its series, -1 for none
}

// newStation makes n series, the probe among them when there is one.
func newStation(l *library, n int, probe bool) *station {
	s := &station{probe: -1}
	if probe {
		n--
	}
	add := func(kind string, cs ...*column) {
		if len(s.columns) >= n {
			return
		}
		d := len(s.schema.Devices)
		s.schema.Devices = append(s.schema.Devices, telemetry.Device{
			ID: fmt.Sprintf("%s-%04d", kind, d), Profile: "loadgen/" + kind, Connection: fmt.Sprintf("bus-%d", d/32+1), Address: fmt.Sprintf("unit %d", d%32+1),
		})
		for _, c := range cs {
			if len(s.columns) >= n {
				return
			}
			s.schema.Series = append(s.schema.Series, telemetry.Series{Device: uint32(d), Point: c.quantity, Quantity: c.quantity, Unit: c.unit, Interval: 1000})
			s.columns = append(s.columns, c)
		}
	}
	for k := 0; len(s.columns) < n; k++ {
		for i := range 4 {
			cs := l.air[(k+i)%len(l.air)]
			refs := make([]*column, len(cs))
			for j := range cs {
				refs[j] = &cs[j]
			}
			add("air", refs...)
		}
		for i := range 2 {
			r := l.road[(k+i)%len(l.road)]
			add("road", &r[0], &r[1])
		}
		add("cabinet", &l.cabinet)
	}
	if probe {
		s.probe = len(s.schema.Series)
		s.schema.Devices = append(s.schema.Devices, telemetry.Device{ID: probeDevice, Profile: "loadgen/probe", Connection: "bus-1", Address: "unit 247"})
		s.schema.Series = append(s.schema.Series, telemetry.Series{
			Device: uint32(len(s.schema.Devices) - 1), Point: probeQuantity, Quantity: probeQuantity, Unit: "m", Interval: 1000,
		})
		s.columns = append(s.columns, nil)
	}
	return s
}

// replay plays a station for one edge: each device its traces from a place of its
// own, polled at its own phase with some jitter.
type replay struct {
	*station
	rng   *rand.Rand
	row   []int   // by device: the next row
	at    []int64 // by device: time of its reading in the row being made
	alarm bool
}

func newReplay(s *station, seed uint64) *replay {
	r := &replay{station: s, rng: rand.New(rand.NewPCG(seed, 0x6c6f6164)), row: make([]int, len(s.schema.Devices)), at: make([]int64, len(s.schema.Devices))}
	for i := range r.row {
		r.row[i] = r.rng.IntN(1 << 16)
	}
	return r
}

// next writes one reading of each series to dst, with times in (prev, w].
func (r *replay) next(dst []telemetry.Reading, prev, w int64) []telemetry.Reading {
	span := w - prev
	for d := range r.at {
		r.row[d]++
		r.at[d] = w - (int64(d)*7+r.rng.Int64N(4))%span
	}
	for i := range r.schema.Series {
		d := r.schema.Series[i].Device
		reading := telemetry.Reading{Series: uint32(i), Time: r.at[d]}
		if c := r.columns[i]; c != nil {
			reading.Value = c.values[r.row[d]%len(c.values)]
		} else if reading.Value = probeQuiet; r.alarm {
			reading.Value = probeAlarm
		}
		dst = append(dst, reading)
	}
	return dst
}

// probeTime is the time of the probe's reading in the row made last.
func (r *replay) probeTime() int64 { return r.at[len(r.at)-1] }

// edgeGroups is among how many groups of edges n rules are divided, so that each
// rule has a series to itself on every edge of its group, and no series has two.
func edgeGroups(series, n int) int { return max(1, (n+series-1)/series) }

// edgeID names an edge of a run with so many groups.
func edgeID(i, groups int) string { return fmt.Sprintf("load-g%03d-%05d", i%groups, i) }

// ruleFile writes n rules: each watches one series of the station on the edges of
// a group, with a first level that real values reach now and then, but not for
// long enough, so that its delay begins and is called off; and the rule of the probe.
func ruleFile(s *station, n int) string {
	var b strings.Builder
	for k := range n {
		i := k % len(s.columns)
		c := s.columns[i]
		if c == nil {
			continue
		}
		sorted := slices.Sorted(slices.Values(c.values))
		often, most := sorted[len(sorted)*99/100], sorted[len(sorted)-1]
		fmt.Fprintf(&b, "- {id: load-%04d, watch: {quantity: %s, where: {edge: load-g%03d-*, device: %s}}, above: {warning: {limit: %g, for: 10m}, critical: {limit: %g}}}\n",
			k, c.quantity, k/len(s.columns), s.schema.Devices[s.schema.Series[i].Device].ID, often, most+1)
	}
	fmt.Fprintf(&b, "- {id: %s, watch: {quantity: %s, where: {device: %s}}, collapse: false, above: {critical: {limit: %d}}}\n", probeRule, probeQuantity, probeDevice, probeLimit)
	return b.String()
}

const probeRule = "load-probe"
