package push

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/influxdata/line-protocol/v2/lineprotocol"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestLinesBecomeSeries(t *testing.T) {
	r := newRig(t, Config{
		ID: "telegraf", Site: "24848", Device: "{host}", Quantities: quantities,
		Map: []Mapping{
			{Metric: "bme280_temperature", Where: map[string]string{"room": "out*"}, Quantity: "air_temperature", Device: "{room}-{sensor}", Point: "temperature"},
			{Metric: "sds011_pm25", Quantity: "pm2_5", Scale: 0.1, Offset: 1},
			{Metric: "traffic_*", Site: "{commune}"},
			{Metric: "internal_*", Drop: true},
		},
	})
	body := strings.Join([]string{
		"# a comment, and a blank line",
		"",
		"bme280,room=outdoor,sensor=1 temperature=21.5,humidity=60i " + ns(0),
		`weather,host=h1 value=3u,ok=true,sky="many, ""clouds""\, = two` + "\nlines\" " + ns(-1),
		"sds011,host=h1 pm25=100 " + ns(0),
		"traffic,host=cam,commune=24850 cars=12i " + ns(0),
		"internal,host=h1 memory=1 " + ns(0),
		"now,host=h1 value=1",
	}, "\n")
	body = strings.Replace(body, `""clouds""\,`, `\"clouds\",`, 1)
	if code, p := r.post("/api/v2/write?org=o&bucket=b", body, "Content-Type", "text/plain; charset=utf-8"); code != http.StatusNoContent {
		t.Fatalf("%d %+v", code, p)
	}
	got, _ := r.committed()
	at := noon.UnixMilli()
	want := []stored{
		{name: "air_temperature outdoor-1/temperature {room=outdoor,sensor=1}", t: at, v: 21.5},
		{name: "bme280_humidity telegraf/bme280_humidity room=outdoor sensor=1 {room=outdoor,sensor=1}", t: at, v: 60},
		{name: "now h1/now {}", t: at, v: 1},
		{name: "pm2_5 h1/sds011_pm25 {}", t: at, v: 11},
		{name: "traffic_cars cam/traffic_cars {at_site=24850}", t: at, v: 12},
		{name: "weather h1/weather {}", t: at - 1000, v: 3},
		{name: "weather_ok h1/weather_ok {}", t: at - 1000, v: 1},
		{name: "weather_sky h1/weather_sky {}", t: at - 1000, text: "many, \"clouds\", = two\nlines"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(stored{})); d != "" {
		t.Error(d)
	}
}

// Every row that cannot be taken is told with its place; all others are taken.
func TestBadRowsAreToldAndTheOthersTaken(t *testing.T) {
	far, old := itoa(noon.Add(11*time.Minute).UnixNano()), itoa(noon.Add(-31*24*time.Hour).UnixNano())
	r := newRig(t, Config{ID: "s", Site: "1", Device: "{host}", MaxLabels: 3, MaxValue: 20})
	body := strings.Join([]string{
		"good a=1 " + ns(0),
		"no fields",
		"nan x=NaN " + ns(0),
		"inf x=1e999 " + ns(0),
		"far a=1,b=2 " + far,
		"old a=1 " + old,
		"seconds a=1 1795780800",
		`good a="text" ` + ns(1),
		"many,a=1,b=2,c=3,d=4 x=1 " + ns(0),
		"long,a=" + strings.Repeat("x", 21) + " x=1 " + ns(0),
		`open text="never closed`,
		"reading_quality value=1 " + ns(0),
		"good a=2,b=3 " + ns(2),
		",nameless a=1 " + ns(0),
		"\xff\xfe a=1 " + ns(0),
	}, "\n")
	code, p := r.post("/api/v2/write", body)
	if code != http.StatusBadRequest || p.Title != "partial write" || p.Code != "invalid" {
		t.Fatalf("%d %+v", code, p)
	}
	if *p.Taken != 3 || *p.Rows != *p.Taken+*p.Refused {
		t.Errorf("%d rows, %d taken, %d refused", *p.Rows, *p.Taken, *p.Refused)
	}
	var told []string
	for _, e := range p.Errors {
		told = append(told, e.String())
	}
	want := []string{
		"line 2, column ", "line 3, column 7: ", "line 4, column 7: ",
		"line 5: far: its time 2026-11-27T12:11:00Z is 11m0s ahead of the hub's clock; at most 10m0s is taken",
		"line 6: old: its time 2026-10-27T12:00:00Z is more than 30 days ago, too long for the store (is the precision right?)",
		"line 7: seconds: its time 1970-01-01T00:00:01Z is more than 30 days ago",
		"line 8: good a: this series is of numbers, and the value is a text",
		"line 9: many x: 4 labels, at most 3",
		"line 10: long x: label a has a value of 21 bytes, at most 20",
		"line 11, column ",
		"line 12: reading_quality value: reading_quality is a name of the hub's",
		"line 14, column 1: ",
	}
	if len(told) < len(want) {
		t.Fatalf("told: %s", strings.Join(told, "\n"))
	}
	for i, w := range want {
		if !strings.HasPrefix(told[i], w) {
			t.Errorf("told %q, want %q", told[i], w)
		}
	}
	if !strings.HasPrefix(p.Detail, "3 rows were taken and are on disk, ") || !strings.Contains(p.Message, "line 2") {
		t.Errorf("detail %q, message %q", p.Detail, p.Message)
	}
	got, _ := r.committed()
	at := noon.UnixMilli()
	if d := cmp.Diff([]stored{{name: "good_a s/good_a {}", t: at, v: 1}, {name: "good_a s/good_a {}", t: at + 2000, v: 2}}, got[:2], cmp.AllowUnexported(stored{})); d != "" || len(got) != 3 {
		t.Errorf("%d stored: %v %s", len(got), got, d)
	}
}

func TestPrecisions(t *testing.T) {
	r := newRig(t, Config{})
	for i, prec := range []string{"", "ns", "us", "ms", "s"} {
		unit := map[string]time.Duration{"": 1, "ns": 1, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second}[prec]
		line := fmt.Sprintf("p v=%d %d", i, noon.Add(time.Duration(i)*time.Second).UnixNano()/int64(unit))
		if code, p := r.post("/api/v2/write?precision="+prec, line); code != http.StatusNoContent {
			t.Fatalf("%q: %d %+v", prec, code, p)
		}
	}
	if code, p := r.post("/api/v2/write?precision=h", "p v=1 1"); code != http.StatusBadRequest || !strings.Contains(p.Detail, "write ns, us, ms or s") {
		t.Errorf("%d %+v", code, p)
	}
	got, _ := r.committed()
	for i, s := range got {
		if s.v != float64(i) || s.t != noon.UnixMilli()+int64(i)*1000 {
			t.Errorf("%d: %+v", i, s)
		}
	}
	if len(got) != 5 {
		t.Errorf("%d stored", len(got))
	}
}

// A series and a millisecond have one value: the last that was sent.
func TestTheLastOfAMillisecondStands(t *testing.T) {
	r := newRig(t, Config{})
	if code, p := r.post("/write?precision=ms", "p v=1 "+itoa(noon.UnixMilli())+"\np v=2 "+itoa(noon.UnixMilli())+"\np v=3 "+itoa(noon.UnixMilli()+1)); code != http.StatusNoContent {
		t.Fatalf("%d %+v", code, p)
	}
	got, _ := r.committed()
	if len(got) != 2 || got[0].v != 2 || got[1].v != 3 || r.Stats().Replaced != 1 {
		t.Errorf("%+v, replaced %d", got, r.Stats().Replaced)
	}
}

// corpus is what the fuzzers begin with.
var corpus = []string{
	"a b=1", "a,t=v b=1i,c=2u,d=t,e=\"x\" 1795780800000000000", "a b=\"x\ny\" 1\nb c=1", "a,=x b=1", "a,b= c=1", "a b=NaN", "a b=1e309", "\x00 \xff=1",
	"a b=\"", "a b=1 9223372036854775807", "a b=1 -9223372036854775808", "# c\n\n\r\n a b=1", "a\\ b,c\\,d=e\\=f g=1", strings.Repeat("a,b=c ", 100),
}

func FuzzLines(f *testing.F) {
	for _, s := range corpus {
		f.Add([]byte(s), byte(0))
	}
	cfg := Config{ID: "s", Site: "1", Device: "{t}", MaxSeries: 50, Map: []Mapping{{Metric: "a*", Site: "{t}"}, {Metric: "b_*", Drop: true}}}
	cfg.fill()
	f.Fuzz(func(t *testing.T, text []byte, prec byte) {
		table, b := newTable(&cfg), newBatch(&cfg, noon)
		if err := readLines(text, lineprotocol.Precision(prec%4), table, b); err != nil {
			return
		}
		checkBatch(t, &cfg, table, b)
	})
}

// checkBatch checks what holds of every batch, whatever was in the request.
func checkBatch(t *testing.T, cfg *Config, table *table, b *batch) {
	t.Helper()
	if b.refused > b.rows || len(b.readings) > b.rows-b.refused {
		t.Fatalf("%d rows, %d refused, %d readings", b.rows, b.refused, len(b.readings))
	}
	if b.refused > 0 && len(b.problems) == 0 {
		t.Fatal("rows were refused and none was told")
	}
	for _, r := range b.readings {
		if int(r.Series) >= len(table.series) || r.Time < b.oldest || r.Time > b.newest {
			t.Fatalf("reading %+v of %d series", r, len(table.series))
		}
		if r.Value-r.Value != 0 {
			t.Fatalf("value %v", r.Value)
		}
	}
	if len(table.series) > cfg.MaxSeries {
		t.Fatalf("%d series", len(table.series))
	}
	read, raw, hash, n, err := table.schema()
	if err != nil || n != len(table.series) || len(table.series) > 0 && (read == nil || len(raw) == 0 || hash == [16]byte{}) {
		t.Fatalf("the schema does not hold: %v", err)
	}
	if read != nil && slices.ContainsFunc(read.Series, func(s telemetry.Series) bool { return s.Quantity == "" || s.Point == "" }) {
		t.Fatal("a series without a name")
	}
}
