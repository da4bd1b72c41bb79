package derive

import (
	"cmp"
	"context"
	"math"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// The derived quantities.
const (
	AQIHour      = "vn_aqi_hour"
	AQIHourLevel = "vn_aqi_hour_level"
	AQIDay       = "vn_aqi_day"
	AQIDayLevel  = "vn_aqi_day_level"
	Rain1h       = "rain_1h"
	Rain6h       = "rain_6h"
	Rain24h      = "rain_24h"
	WindFrom     = "wind_direction_1h" // the vector mean, degrees
	WindSpeed    = "wind_speed_1h"     // of the vector mean, m/s
	CompleteHour = "completeness_hour" // percent of the hour
	Complete     = "completeness_day"  // mean of its hours
)

// sources are what hours are computed from.
var sources = []string{"pm2_5", "pm10", "o3", "no2", "so2", "co", "rain_amount", "rain_total", "wind_speed", "wind_direction"}

type sample struct {
	t int64
	v float64
}

// input is one point's samples, late ones among them, in order of time.
type input struct {
	site, device, point string
	samples             []sample
}

// stations are the inputs by station and quantity.
type stations map[string]map[string][]*input

// compute computes hours, in order. Of those in changed there are readings that were
// not there before, so that the values of their days change, too.
func (d *Deriver) compute(ctx context.Context, e Edge, hours []int64, changed map[int64]bool, target int64, fresh *bool) error {
	from, to := (hours[0]-before-1)*hour, (hours[len(hours)-1]+1)*hour
	midnight := map[int64]bool{} // begins of days whose value is due, ms
	for _, h := range hours {
		begin, end := d.day(h)
		if changed[h] && end <= (target+1)*hour {
			midnight[begin] = true
			from = min(from, begin-hour)
			to = max(to, end)
		}
	}
	expected := newExpected(d.o.Series(e.ID))
	q, err := d.o.Queryable.Querier(from-expected.longest, to)
	if err != nil {
		return err
	}
	defer func() { _ = q.Close() }() // nothing was written
	all, err := read(ctx, q, e.ID, from, to)
	if err != nil {
		return err
	}
	have, err := d.standing(ctx, q, e.ID, to)
	if err != nil {
		return err
	}
	var rows []Row
	for station, quantities := range all {
		w := &work{row: Row{Site: siteOf(quantities, e.Site), Device: e.ID + "/" + station}}
		w.means(quantities)
		for _, h := range hours {
			w.hour(d, quantities, h)
		}
		for begin := range midnight {
			w.day(d, begin, d.next(begin))
		}
		rows = append(rows, w.rows...)
	}
	c := completeness{d: d, q: q, e: e, expected: expected, have: have, fresh: fresh}
	more, err := c.rows(ctx, hours, changed, midnight)
	if err != nil {
		return err
	}
	rows = d.news(have, append(rows, more...))
	if len(rows) == 0 {
		return nil
	}
	return d.o.Write(ctx, rows)
}

// day returns the day, by local time, that an hour belongs to.
func (d *Deriver) day(h int64) (begin, end int64) {
	t := time.UnixMilli(h * hour).In(d.o.Location)
	b := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, d.o.Location)
	return b.UnixMilli(), b.AddDate(0, 0, 1).UnixMilli()
}

func (d *Deriver) next(begin int64) int64 {
	return time.UnixMilli(begin).In(d.o.Location).AddDate(0, 0, 1).UnixMilli()
}

func equal(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

// read reads what hours are computed from.
func read(ctx context.Context, q storage.Querier, edge string, from, to int64) (stations, error) {
	out := stations{}
	byPoint := map[[3]string]*input{}
	names := labels.MustNewMatcher(labels.MatchRegexp, "__name__", strings.Join(sources, "|"))
	set := q.Select(ctx, false, &storage.SelectHints{Start: from, End: to}, equal("edge", edge), names)
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		ls := s.Labels()
		quantity, device, point := ls.Get("__name__"), ls.Get("device"), ls.Get("point")
		in := byPoint[[3]string{quantity, device, point}]
		if in == nil {
			in = &input{site: ls.Get("site"), device: device, point: point}
			byPoint[[3]string{quantity, device, point}] = in
			station := cmp.Or(ls.Get("station"), device)
			if out[station] == nil {
				out[station] = map[string][]*input{}
			}
			out[station][quantity] = append(out[station][quantity], in)
		}
		it = s.Iterator(it)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if t, v := it.At(); kind == chunkenc.ValFloat && v-v == 0 && t > from && t <= to {
				in.samples = append(in.samples, sample{t, v})
			}
		}
		if err := it.Err(); err != nil {
			return nil, err
		}
	}
	for _, in := range byPoint {
		slices.SortStableFunc(in.samples, func(a, b sample) int { return cmp.Compare(a.t, b.t) })
	}
	return out, set.Err()
}

func siteOf(quantities map[string][]*input, site string) string {
	for _, list := range quantities {
		for _, in := range list {
			if in.site != "" {
				return in.site
			}
		}
	}
	return site
}

// work is what one station makes.
type work struct {
	row  Row // site and device
	rows []Row
	mean map[string]map[int64]float64 // by quantity and hour; of rain: the sum
}

func (w *work) add(quantity string, end int64, v float64) {
	r := w.row
	r.Quantity, r.Time, r.Value = quantity, end, v
	w.rows = append(w.rows, r)
}

// means computes what is known of each hour.
func (w *work) means(quantities map[string][]*input) {
	w.mean = map[string]map[int64]float64{}
	for quantity, list := range quantities {
		sum, n := map[int64]float64{}, map[int64]int{}
		for _, in := range list {
			for i, s := range in.samples {
				v := s.v
				if quantity == "rain_total" {
					if i == 0 {
						continue // since when it has fallen is not known
					}
					if v -= in.samples[i-1].v; v < 0 {
						v = s.v // the counter began anew
					}
				}
				h := HourOf(s.t)
				sum[h] += v
				n[h]++
			}
		}
		out := map[int64]float64{}
		for h, k := range n {
			if out[h] = sum[h]; quantity != "rain_amount" && quantity != "rain_total" {
				out[h] /= float64(k)
			} else if len(list) > 1 {
				out[h] /= float64(len(list)) // gauges beside one another
			}
		}
		w.mean[quantity] = out
	}
}

// back returns the hours from h back, newest first, NaN where there is none.
func (w *work) back(quantity string, h int64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		v, ok := w.mean[quantity][h-int64(i)]
		if out[i] = v; !ok {
			out[i] = math.NaN()
		}
	}
	return out
}

func (w *work) hour(d *Deriver, quantities map[string][]*input, h int64) {
	end := (h + 1) * hour
	if table := d.o.Index(); table != nil {
		means := map[string][]float64{}
		for q := range table.Of {
			means[q] = w.back(q, h, 12)
		}
		if v, ok := table.Hour(means); ok {
			w.add(AQIHour, end, v)
			w.add(AQIHourLevel, end, float64(table.Level(v)))
		}
	}
	rain := "rain_amount"
	if len(w.mean["rain_total"]) > 0 {
		rain = "rain_total" // what a running total misses, it makes up for
	}
	for _, span := range []struct {
		quantity string
		hours    int
		least    int // that must be known
	}{{Rain1h, 1, 1}, {Rain6h, 6, 5}, {Rain24h, 24, 20}} {
		sum, n := 0.0, 0
		for _, v := range w.back(rain, h, span.hours) {
			if v == v {
				sum, n = sum+v, n+1
			}
		}
		if n >= span.least {
			w.add(span.quantity, end, math.Round(sum*1000)/1000)
		}
	}
	w.wind(quantities, h)
}

// wind adds up the wind as vectors: each direction with the speed that was measured
// last before it, at the same device if there is one.
func (w *work) wind(quantities map[string][]*input, h int64) {
	east, north, n := 0.0, 0.0, 0
	for _, dir := range quantities["wind_direction"] {
		speeds := quantities["wind_speed"]
		if i := slices.IndexFunc(speeds, func(s *input) bool { return s.device == dir.device }); i >= 0 {
			speeds = speeds[i : i+1]
		}
		if len(speeds) == 0 {
			continue
		}
		speed := speeds[0].samples
		begin := sort.Search(len(dir.samples), func(i int) bool { return dir.samples[i].t > h*hour })
		for _, s := range dir.samples[begin:] {
			if s.t > (h+1)*hour {
				break
			}
			k := sort.Search(len(speed), func(i int) bool { return speed[i].t > s.t }) - 1
			if k < 0 || s.t-speed[k].t > hour/6 {
				continue
			}
			sin, cos := math.Sincos(s.v * math.Pi / 180)
			east, north, n = east+speed[k].v*sin, north+speed[k].v*cos, n+1
		}
	}
	if n == 0 {
		return
	}
	speed := math.Hypot(east, north) / float64(n)
	w.add(WindSpeed, (h+1)*hour, math.Round(speed*100)/100)
	if speed < 0.05 {
		return // calm, or it came from everywhere
	}
	from := math.Atan2(east, north) * 180 / math.Pi
	w.add(WindFrom, (h+1)*hour, math.Round(math.Mod(from+360, 360)*10)/10)
}

func (w *work) day(d *Deriver, begin, end int64) {
	table := d.o.Index()
	if table == nil {
		return
	}
	n := int((end - begin) / hour)
	means := map[string][]float64{}
	for q := range table.Of {
		means[q] = w.back(q, HourOf(end), n)
	}
	if v, ok := table.Day(means); ok {
		w.add(AQIDay, end, v)
		w.add(AQIDayLevel, end, float64(table.Level(v)))
	}
}

// key names a derived value.
type key struct {
	device, quantity string
	end              int64 // of its hour or day, ms
}

// standing returns what the store has of an edge's derived values up to a time, the
// newest correction of each.
func (d *Deriver) standing(ctx context.Context, q storage.Querier, edge string, to int64) (map[key]sample, error) {
	have := map[key]sample{}
	set := q.Select(ctx, false, &storage.SelectHints{End: to}, equal("edge", d.o.Name),
		labels.MustNewMatcher(labels.MatchRegexp, "device", regexp.QuoteMeta(edge)+"/.*"))
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		ls := s.Labels()
		k := key{device: ls.Get("device"), quantity: ls.Get("__name__")}
		it = s.Iterator(it)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if t, v := it.At(); kind == chunkenc.ValFloat {
				// The slot of a value is the second before the full hour.
				k.end = (t/1000 + 1) * 1000
				if old, ok := have[k]; !ok || t > old.t {
					have[k] = sample{t, v}
				}
			}
		}
		if err := it.Err(); err != nil {
			return nil, err
		}
	}
	return have, set.Err()
}

// news returns the rows that do not stand, or otherwise, and when they are to stand.
func (d *Deriver) news(have map[key]sample, rows []Row) []Row {
	out := rows[:0]
	for _, r := range rows {
		old, ok := have[key{r.Device, r.Quantity, r.Time}]
		switch {
		case !ok:
			r.Time -= 1000
		case old.v == r.Value:
			continue
		case old.t+1 >= r.Time:
			d.o.Logger.Warn("a derived value has been corrected too often", "device", r.Device, "quantity", r.Quantity)
			continue
		default:
			r.Time = old.t + 1
		}
		out = append(out, r)
	}
	return out
}
