package field

import (
	"encoding/csv"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/scripts/fieldsim/traces"
)

// trace is one column of a file: a value per row, played a row per step.
type trace []float64

// at returns the value of the row; the trace begins again after its last one.
func (t trace) at(row int) float64 { return t[row%len(t)] }

// sum returns the sum of the values up to and with the row, as a counter that
// never starts again.
func (t trace) sum(row int) float64 {
	rounds, rest := row/len(t), row%len(t)
	var s float64
	for _, v := range t[:rest+1] {
		s += v
	}
	if rounds > 0 {
		var all float64
		for _, v := range t {
			all += v
		}
		s += float64(rounds) * all
	}
	return s
}

// air is an hourly air quality station.
type air struct {
	pm25, pm10, temp, pres, dewp, rain, dir, wind trace
	hour                                          []int
}

// humidity returns the relative humidity in %, from temperature and dew point
// by the Magnus formula.
func (a *air) humidity(row int) float64 {
	e := func(t float64) float64 { return math.Exp(17.625 * t / (243.04 + t)) }
	return min(100, 100*e(a.dewp.at(row))/e(a.temp.at(row)))
}

// light returns the illuminance in lux of a day that is clear where the trace is dry.
func (a *air) light(row int) float64 {
	sun := math.Sin(math.Pi * float64(a.hour[row%len(a.hour)]-6) / 12)
	if sun <= 0 {
		return 0
	}
	if a.rain.at(row) > 0 {
		sun *= 0.2
	}
	return 95000 * sun
}

var compass = map[string]float64{
	"N": 0, "NNE": 22.5, "NE": 45, "ENE": 67.5, "E": 90, "ESE": 112.5, "SE": 135, "SSE": 157.5,
	"S": 180, "SSW": 202.5, "SW": 225, "WSW": 247.5, "W": 270, "WNW": 292.5, "NW": 315, "NNW": 337.5,
}

func loadAir(name string) (*air, error) {
	rows, err := load(name, 9)
	if err != nil {
		return nil, err
	}
	a := &air{}
	for _, r := range rows {
		h, err := strconv.Atoi(r[0][11:13])
		if err != nil {
			return nil, fmt.Errorf("%s: time %q: %w", name, r[0], err)
		}
		a.hour = append(a.hour, h)
		if d, ok := compass[r[7]]; ok {
			r[7] = strconv.FormatFloat(d, 'f', -1, 64)
		}
	}
	for i, t := range []*trace{&a.pm25, &a.pm10, &a.temp, &a.pres, &a.dewp, &a.rain, &a.dir, &a.wind} {
		if *t, err = column(name, rows, i+1); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func loadColumn(name string) (trace, error) {
	rows, err := load(name, 2)
	if err != nil {
		return nil, err
	}
	return column(name, rows, 1)
}

func load(name string, columns int) ([][]string, error) {
	data, err := fs.ReadFile(traces.FS, name+".csv")
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(strings.NewReader(string(data)))
	r.FieldsPerRecord = columns
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(rows) < 2 {
		return nil, fmt.Errorf("%s: no rows", name)
	}
	return rows[1:], nil
}

// column reads numbers; a missing one repeats the value before.
func column(name string, rows [][]string, at int) (trace, error) {
	t := make(trace, len(rows))
	last := 0.0
	for i, r := range rows {
		if s := r[at]; s != "NA" && s != "" {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				return nil, fmt.Errorf("%s row %d: %w", name, i+1, err)
			}
			last = v
		}
		t[i] = last
	}
	return t, nil
}
