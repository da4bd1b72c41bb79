package hub

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// grafana asks as Grafana's data source of type Prometheus does: queries as forms, what
// there is by GET and, in newer releases, as forms, too.
type grafana struct {
	t    *testing.T
	base string
}

func (g grafana) ask(method, path string, form url.Values) json.RawMessage {
	g.t.Helper()
	address, body := g.base+path, io.Reader(http.NoBody)
	if method == http.MethodPost {
		body = strings.NewReader(form.Encode())
	} else {
		address += "?" + form.Encode()
	}
	req, err := http.NewRequestWithContext(g.t.Context(), method, address, body)
	if err != nil {
		g.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("User-Agent", "Grafana/12.0.0")
	req.Header.Set("X-Grafana-Org-Id", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	var answer struct {
		Status string
		Data   json.RawMessage
	}
	if err := json.Unmarshal(text, &answer); err != nil || resp.StatusCode != http.StatusOK || answer.Status != "success" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		g.t.Errorf("%s %s %v: %s %.300s", method, path, form, resp.Status, text)
	}
	return answer.Data
}

func form(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return f
}

// examples are the queries of docs/grafana.md.
func examples(t *testing.T) (list []asked) {
	t.Helper()
	text, err := os.ReadFile("../../docs/grafana.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| (.*) \\| `(.*)` \\|$").FindAllStringSubmatch(string(text), -1) {
		list = append(list, asked{"docs/grafana.md, " + m[1], m[2]})
	}
	return list
}

// All that Grafana asks of a data source, and every panel of the shipped dashboard and
// every example of its page, is answered, and with something.
func TestWhatGrafanaAsksIsAnswered(t *testing.T) {
	h := runHub(t, map[string]string{
		"hub.yaml":   "data_dir: ./data\nrules: [./rules.yaml]\nsites: ./sites.yaml\nderived: {enabled: false}\n",
		"rules.yaml": "- {id: dust, watch: {quantity: pm2_5}, above: {warning: {limit: 50, clear: 40}}}\n",
		"sites.yaml": "sites: [{id: \"24848\", name: {vi: Lạc Dương, en: Lac Duong}, province: Lâm Đồng, lat: 12.0, lon: 108.4, edges: [lac-duong-01]}]\n",
	})
	quantities := []string{
		"pm2_5", "air_temperature", "relative_humidity", "water_level", "wind_speed",
		// What the hub derives by itself is given here: it comes once an hour is over.
		"vn_aqi_hour", "rain_1h", "rain_24h", "completeness_hour",
	}
	schema := telemetry.Schema{Devices: []telemetry.Device{{ID: "air-1"}}, Series: []telemetry.Series{{Point: telemetry.QuantityDeviceUp, Quantity: telemetry.QuantityDeviceUp}}}
	for _, q := range quantities {
		schema.Series = append(schema.Series, telemetry.Series{Point: q, Quantity: q, Interval: 10_000})
	}
	f := newFeeder(t, h, "lac-duong-01", schema)
	now := time.Now().UnixMilli()
	for _, w := range []int64{now - 20_000, now - 10_000, now - 1000} {
		f.frame.Readings = f.frame.Readings[:0]
		for i := range schema.Series {
			v := 60.0
			if i == 0 {
				v = 0 // the device does not answer
			}
			if i == 1 && f.frame.Seq > 0 {
				f.frame.Readings = append(f.frame.Readings, telemetry.Reading{Series: 1, Time: w - 60_000, Value: 55}) // late
			}
			f.frame.Readings = append(f.frame.Readings, telemetry.Reading{Series: uint32(i), Time: w, Value: v})
		}
		h.ingest.Receive("lac-duong-01", wire.TopicFrame, f.cut(t, w))
	}
	g := grafana{t, "http://" + h.Addr() + "/prometheus"}
	start, end := strconv.FormatInt(now/1000-3600, 10), strconv.FormatInt(now/1000, 10)
	seconds := strconv.FormatFloat(float64(now)/1000, 'f', 3, 64)
	testutil.Eventually(t, time.Minute, "the readings are stored and judged", func() bool {
		return strings.Contains(string(g.ask("POST", "/api/v1/query", form("query", `count({late="1"})`, "time", seconds))), `"1"`) &&
			strings.Contains(string(g.ask("GET", "/api/v1/alerts", nil)), "dust")
	})

	// Save and test, and what it finds out about the server.
	if s := string(g.ask("POST", "/api/v1/query", form("query", "1+1", "time", seconds))); !strings.Contains(s, `"2"`) {
		t.Error(s)
	}
	for _, c := range []struct {
		method, path string
		form         url.Values
		want         string
	}{
		{"GET", "/api/v1/status/buildinfo", nil, `"version":"3.`},
		{"GET", "/api/v1/rules", nil, `"name":"dust"`},
		{"GET", "/api/v1/rules", form("type", "alert"), `"state":"firing"`},
		{"GET", "/api/v1/alerts", nil, `"alertname":"dust"`},
		{"GET", "/api/v1/metadata", form("limit", "40000"), `"pm2_5":[{"type":"gauge"`},
		{"GET", "/api/v1/metadata", form("limit", "40000", "limit_per_metric", "1"), `"unit":"ug/m3"`},
		{"GET", "/api/v1/labels", form("start", start, "end", end), `"device"`},
		{"GET", "/api/v1/labels", form("start", start, "end", end, "match[]", `{__name__="pm2_5"}`, "limit", "40000"), `"late"`},
		{"POST", "/api/v1/labels", form("start", start, "end", end, "match[]", `{__name__="pm2_5"}`), `"site"`},
		{"GET", "/api/v1/label/__name__/values", form("start", start, "end", end), `"vn_aqi_hour"`},
		{"GET", "/api/v1/label/__name__/values", form("start", start, "end", end, "match[]", `{site="24848"}`, "limit", "40000"), `"pm2_5"`},
		{"GET", "/api/v1/label/site/values", form("start", start, "end", end, "match[]", "device_up"), `["24848"]`},
		{"GET", "/api/v1/label/U__site/values", form("start", start, "end", end), `["24848"]`},
		{"GET", "/api/v1/series", form("start", start, "end", end, "match[]", "pm2_5"), `"device":"air-1"`},
		{"POST", "/api/v1/series", form("start", start, "end", end, "match[]", `{__name__=~"pm2.*"}`, "limit", "40000"), `"device":"air-1"`},
		{"POST", "/api/v1/query_exemplars", form("query", "pm2_5", "start", start, "end", end), `[]`},
		{"GET", "/api/v1/query_exemplars", form("query", "pm2_5", "start", start, "end", end), `[]`},
		{"POST", "/api/v1/query", form("query", "ALERTS", "time", seconds), `"result"`}, // annotations; the hub has none of these
		{"GET", "/api/v1/format_query", form("query", "sum(pm2_5)by(site)"), "sum by (site) (pm2_5)"},
	} {
		if s := string(g.ask(c.method, c.path, c.form)); !strings.Contains(s, c.want) {
			t.Errorf("%s %s %v: %.500s lacks %s", c.method, c.path, c.form, s, c.want)
		}
	}

	list := append(panels(t, "readings.json"), examples(t)...)
	if len(list) < 19 {
		t.Errorf("%d expressions were found; is the format read right?", len(list))
	}
	for _, a := range list {
		for _, c := range []struct {
			path string
			form url.Values
		}{
			{"/api/v1/query", form("query", a.expr, "time", seconds)},
			{"/api/v1/query_range", form("query", a.expr, "start", start, "end", end, "step", "15")},
		} {
			var data struct{ Result []json.RawMessage }
			if err := json.Unmarshal(g.ask("POST", c.path, c.form), &data); err != nil || len(data.Result) == 0 {
				t.Errorf("%s: %s: %s is answered with nothing (%v)", a.where, c.path, a.expr, err)
			}
		}
	}
}
