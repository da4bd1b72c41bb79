package derive

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/airindex"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

// table is that of configs/rules/tables.yaml, for readings in µg/m³.
var table = &airindex.Table{
	Index: []float64{0, 50, 100, 150, 200, 300, 400, 500},
	Of: map[string]airindex.Of{
		"pm2_5": {NowCast: true, Factor: 1, At: []float64{0, 25, 50, 80, 150, 250, 350, 500}},
		"pm10":  {NowCast: true, Factor: 1, At: []float64{0, 50, 150, 250, 350, 420, 500, 600}},
		"o3":    {Factor: 1, At: []float64{0, 160, 200, 300, 400, 800, 1000, 1200}, At8h: []float64{0, 100, 120, 170, 210, 400}},
		"no2":   {Factor: 1, At: []float64{0, 100, 200, 700, 1200, 2350, 3100, 3850}},
		"so2":   {Factor: 1, At: []float64{0, 125, 350, 550, 800, 1600, 2100, 2630}},
		"co":    {Factor: 1, At: []float64{0, 10000, 30000, 45000, 60000, 90000, 120000, 150000}},
	},
}

var zone = time.FixedZone("+07", 7*3600)

// midnight is that of the zone, 17:00 UTC the day before: where the tests begin.
var midnight = time.Date(2026, 11, 1, 0, 0, 0, 0, zone)

// rig is a store, an edge and a deriver.
type rig struct {
	t      *testing.T
	db     *tsdb.DB
	d      *Deriver
	dir    string
	edge   Edge
	series []Series
	refuse error
	writes int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), edge: Edge{ID: "e1", Site: "24848"}}
	o := tsdb.DefaultOptions()
	o.OutOfOrderTimeWindow = (10 * 365 * 24 * time.Hour).Milliseconds()
	var err error
	if r.db, err = tsdb.Open(filepath.Join(r.dir, "tsdb"), slog.New(slog.DiscardHandler), nil, o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.db.Close() })
	r.open()
	return r
}

// open makes the deriver, as after a start.
func (r *rig) open() {
	r.t.Helper()
	var err error
	r.d, err = Open(Options{
		Queryable: r.db, Index: func() *airindex.Table { return table }, Location: zone, StateFile: filepath.Join(r.dir, "derived.json"), Name: "derived",
		Edges: func() []Edge { return []Edge{r.edge} }, Series: func(string) []Series { return r.series },
		Write: func(_ context.Context, rows []Row) error {
			if r.refuse != nil {
				return r.refuse
			}
			r.writes += len(rows)
			for _, x := range rows {
				r.append(x.Time, x.Value, "__name__", x.Quantity, "device", x.Device, "edge", "derived", "site", x.Site)
			}
			return nil
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) append(t int64, v float64, ls ...string) {
	r.t.Helper()
	app := r.db.Appender(r.t.Context())
	if _, err := app.Append(0, labels.FromStrings(ls...), t, v); err != nil {
		r.t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		r.t.Fatal(err)
	}
}

// reading is one of the edge's; the time is given from the first midnight.
func (r *rig) reading(quantity string, at time.Duration, v float64, more ...string) {
	r.t.Helper()
	r.append(midnight.Add(at).UnixMilli(), v, append([]string{"__name__", quantity, "device", "d", "edge", "e1", "point", quantity, "site", "24848"}, more...)...)
}

func (r *rig) step(w time.Duration) {
	r.t.Helper()
	r.edge.Watermark = midnight.Add(w).UnixMilli()
	if err := r.d.Step(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// at returns what a query at a time sees of a derived series: the newest value of the
// hour before.
func (r *rig) at(quantity string, at time.Duration) float64 {
	r.t.Helper()
	t := midnight.Add(at).UnixMilli()
	q, err := r.db.Querier(t-3_600_000+1, t)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	set := q.Select(r.t.Context(), false, nil, equal("edge", "derived"), equal("__name__", quantity))
	v := math.NaN()
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			_, v = it.At()
		}
	}
	return v
}

func near(a, b float64) bool { return a != a && b != b || math.Abs(a-b) < 1e-9 }

func TestAnHourIsComputedOnceTheWatermarkHasPassedIt(t *testing.T) {
	r := newRig(t)
	for m := 0; m < 180; m += 10 {
		r.reading("pm2_5", time.Duration(m)*time.Minute+time.Second, 25+float64(m/60)*25)
	}
	r.step(2*time.Hour - time.Second)
	if v := r.at(AQIHour, 2*time.Hour); v == v {
		t.Errorf("the hour is not over, and has %v", v)
	}
	r.step(2 * time.Hour)
	// NowCast of 50 and 25: w is one half, 25 + 6.25 = 31.25 µg/m³, which is 63.
	if v := r.at(AQIHour, 2*time.Hour); v != 63 {
		t.Errorf("index %v", v)
	}
	if l := r.at(AQIHourLevel, 2*time.Hour); l != 2 {
		t.Errorf("level %v", l)
	}
	before := r.writes
	r.step(2 * time.Hour)
	r.open()
	r.step(2 * time.Hour)
	if r.writes != before {
		t.Errorf("%d values were written again", r.writes-before)
	}
}

func TestLateReadingsCorrectWhatStands(t *testing.T) {
	r := newRig(t)
	for h := range 26 {
		r.reading("rain_amount", time.Duration(h)*time.Hour+time.Minute, 1)
	}
	r.step(26 * time.Hour)
	for at, want := range map[time.Duration]float64{1: 1, 6: 1, 26: 1} {
		if v := r.at(Rain1h, at*time.Hour); v != want {
			t.Errorf("rain of hour %d: %v", at, v)
		}
	}
	if v := r.at(Rain24h, 26*time.Hour); v != 24 {
		t.Errorf("rain of 24 h: %v", v)
	}
	if v := r.at(Rain24h, 10*time.Hour); v == v {
		t.Errorf("10 hours are too few for 24 h: %v", v)
	}
	r.reading("rain_amount", 20*time.Hour+2*time.Minute, 30, "late", "1")
	r.d.Late("e1", []int64{HourOf(midnight.Add(20*time.Hour + 2*time.Minute).UnixMilli())})
	if err := r.d.Save(); err != nil {
		t.Fatal(err)
	}
	r.open() // a kill between the checkpoint and the computing
	r.step(26 * time.Hour)
	for _, c := range []struct {
		quantity string
		at       time.Duration
		want     float64
	}{{Rain1h, 21, 31}, {Rain1h, 22, 1}, {Rain6h, 21, 36}, {Rain6h, 26, 36}, {Rain24h, 26, 54}, {Rain6h, 20, 6}} {
		if v := r.at(c.quantity, c.at*time.Hour); v != c.want {
			t.Errorf("%s at %d h: %v, want %v", c.quantity, c.at, v, c.want)
		}
	}
	before := r.writes
	r.d.Late("e1", []int64{HourOf(midnight.Add(20*time.Hour + 2*time.Minute).UnixMilli())})
	r.step(26 * time.Hour)
	if r.writes != before {
		t.Errorf("%d values that had not changed", r.writes-before)
	}
}

// What cannot be written is computed again.
// The hub stops when late readings have come and nothing is computed yet.
func TestAfterARestartBeforeAnythingIsComputedNotAllHoursSince1970Are(t *testing.T) {
	r := newRig(t)
	w := midnight.Add(30 * time.Hour).UnixMilli()
	r.d.Late(r.edge.ID, []int64{HourOf(w) - 3})
	if err := r.d.Save(); err != nil {
		t.Fatal(err)
	}
	r.open()
	r.series = []Series{{Device: "d", Point: "pm2_5", Longest: 1000}}
	r.step(30 * time.Hour)
	if done := r.d.edges[r.edge.ID].done; done < HourOf(w)-2 {
		t.Errorf("done up to hour %d, the watermark is in hour %d", done, HourOf(w))
	}
	if r.writes > 200 {
		t.Errorf("%d values were written, for two days", r.writes)
	}
}

func TestWhatIsRefusedIsComputedAgain(t *testing.T) {
	r := newRig(t)
	for h := range 3 {
		r.reading("rain_amount", time.Duration(h)*time.Hour+time.Minute, float64(h+1))
	}
	r.refuse = errors.New("the disk is full")
	r.edge.Watermark = midnight.Add(3 * time.Hour).UnixMilli()
	if err := r.d.Step(t.Context()); err == nil || !strings.Contains(err.Error(), "edge e1: the disk is full") {
		t.Errorf("got %v", err)
	}
	r.refuse = nil
	r.step(3 * time.Hour)
	for h := range 3 {
		if v := r.at(Rain1h, time.Duration(h+1)*time.Hour); v != float64(h+1) {
			t.Errorf("hour %d: %v", h, v)
		}
	}
}

func TestARunningTotalThatBeginsAnew(t *testing.T) {
	r := newRig(t)
	for m, v := range []float64{100, 101, 103, 0.5, 1, 1} { // every 20 minutes from 0:10
		r.reading("rain_total", time.Duration(m*20+10)*time.Minute, v)
	}
	r.step(2 * time.Hour)
	if a, b := r.at(Rain1h, time.Hour), r.at(Rain1h, 2*time.Hour); a != 3 || b != 1 {
		t.Errorf("3 mm, then 1 mm after the reset: %v %v", a, b)
	}
}

func TestWindIsAddedUpAsVectors(t *testing.T) {
	for name, c := range map[string]struct {
		from, speed    []float64
		wantFrom, want float64
	}{
		"north, from both sides": {[]float64{350, 10}, []float64{5, 5}, 0, 4.92},
		"the stronger counts":    {[]float64{0, 90}, []float64{1, 3}, 71.6, 1.58},
		"against each other":     {[]float64{0, 180}, []float64{4, 4}, math.NaN(), 0},
		"west":                   {[]float64{270, 270}, []float64{2, 2}, 270, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for i := range c.from {
				at := time.Duration(i+1) * 10 * time.Minute
				r.reading("wind_speed", at, c.speed[i])
				r.reading("wind_direction", at+time.Second, c.from[i])
			}
			r.step(time.Hour)
			from, speed := r.at(WindFrom, time.Hour), r.at(WindSpeed, time.Hour)
			if !near(from, c.wantFrom) && !near(from, math.Mod(c.wantFrom+360, 360)) || !near(speed, c.want) {
				t.Errorf("%v m/s from %v, want %v from %v", speed, from, c.want, c.wantFrom)
			}
		})
	}
}

func TestHoursAndDays(t *testing.T) {
	if HourOf(0) != -1 || HourOf(1) != 0 || HourOf(hour) != 0 || HourOf(hour+1) != 1 || HourOf(-hour) != -2 {
		t.Error("an hour has what comes after its begin, up to its end")
	}
}

// The index of a real station, hour by hour and day by day, against an independent
// computation of the same by the words of the decision; then as a golden file.
func TestBeijingByTheDecision(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "beijing-dongsi-2014-02.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(z).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	var raw [][]float64 // PM2.5 and PM10 of each hour
	for h, row := range rows[1:] {
		var v []float64
		for i, q := range []string{"pm2_5", "pm10", "so2", "no2", "co", "o3"} {
			x, err := strconv.ParseFloat(row[5+i], 64)
			if err != nil {
				x = math.NaN()
			} else {
				r.reading(q, time.Duration(h)*time.Hour+time.Minute, x)
			}
			v = append(v, x)
		}
		raw = append(raw, v)
	}
	r.d.o.Back = time.Duration(len(raw)+1) * time.Hour
	r.step(time.Duration(len(raw)) * time.Hour)
	var out bytes.Buffer
	for h := range raw {
		at := time.Duration(h+1) * time.Hour
		got, want := r.at(AQIHour, at), byHand(raw, h)
		if !near(got, want) {
			t.Errorf("hour %d: %v, by hand %v", h, got, want)
		}
		fmt.Fprintf(&out, "%s hour %v level %v", midnight.Add(at).Format("01-02 15:04"), got, r.at(AQIHourLevel, at))
		if h%24 == 23 {
			fmt.Fprintf(&out, " day %v level %v", r.at(AQIDay, at), r.at(AQIDayLevel, at))
		}
		out.WriteByte('\n')
	}
	golden := filepath.Join("testdata", "beijing-dongsi-2014-02.golden")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, out.Bytes()) {
		t.Error("it differs from the golden file; -update writes it anew")
	}
}

// byHand is the hourly index by the text of the decision, written without looking at
// package airindex.
func byHand(raw [][]float64, h int) float64 {
	steps := []float64{0, 50, 100, 150, 200, 300, 400, 500}
	at := [][]float64{
		{0, 25, 50, 80, 150, 250, 350, 500},
		{0, 50, 150, 250, 350, 420, 500, 600},
		{0, 125, 350, 550, 800, 1600, 2100, 2630},
		{0, 100, 200, 700, 1200, 2350, 3100, 3850},
		{0, 10000, 30000, 45000, 60000, 90000, 120000, 150000},
		{0, 160, 200, 300, 400, 800, 1000, 1200},
	}
	index := func(k int, c float64) float64 {
		i := slices.IndexFunc(at[k], func(x float64) bool { return c <= x })
		switch i {
		case -1:
			return 500
		case 0:
			return 0
		}
		return math.Round((steps[i]-steps[i-1])/(at[k][i]-at[k][i-1])*(c-at[k][i-1]) + steps[i-1])
	}
	worst := math.NaN()
	for k := range 2 {
		var c []float64
		for i := range 12 {
			if c = append(c, math.NaN()); h-i >= 0 {
				c[i] = raw[h-i][k]
			}
		}
		recent, low, high := 0, math.Inf(1), math.Inf(-1)
		for i, x := range c {
			if x == x {
				low, high = math.Min(low, x), math.Max(high, x)
				if i < 3 {
					recent++
				}
			}
		}
		if recent < 2 {
			continue
		}
		w := math.Max(low/high, 0.5)
		top, bottom := 0.0, 0.0
		for i, x := range c {
			if x == x {
				top, bottom = top+math.Pow(w, float64(i))*x, bottom+math.Pow(w, float64(i))
			}
		}
		v := top / bottom
		if w <= 0.5 {
			v = top / 2
		}
		if x := index(k, v); !(worst >= x) {
			worst = x
		}
	}
	for k := 2; k < 6; k++ {
		if x := raw[h][k]; x == x && worst == worst {
			worst = math.Max(worst, index(k, x))
		}
	}
	return worst
}
