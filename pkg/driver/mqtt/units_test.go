package mqtt

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func env(s driver.Sink) driver.Env { return driver.Env{Sink: s} }

func TestConfigFaultsAreAllNamed(t *testing.T) {
	two := 2
	for name, c := range map[string]struct {
		cfg    Config
		fields []string
	}{
		"nothing":           {Config{}, []string{"url"}},
		"fine":              {Config{URL: "tcp://127.0.0.1:1883"}, nil},
		"fine, secure":      {Config{URL: "mqtts://broker", CAFile: "ca.pem", CertFile: "a", KeyFile: "b", User: "u", PasswordFile: "p"}, nil},
		"scheme":            {Config{URL: "http://x"}, []string{"url"}},
		"no scheme":         {Config{URL: "127.0.0.1:1883"}, []string{"url"}},
		"path":              {Config{URL: "tcp://x:1883/mqtt"}, []string{"url"}},
		"user in the url":   {Config{URL: "tcp://u:p@x:1883"}, []string{"url"}},
		"two passwords":     {Config{URL: "tcp://x", User: "u", Password: "a", PasswordEnv: "B"}, []string{"password"}},
		"password alone":    {Config{URL: "tcp://x", Password: "a"}, []string{"user"}},
		"half a key":        {Config{URL: "ssl://x", CertFile: "a"}, []string{"cert_file"}},
		"TLS in plain text": {Config{URL: "tcp://x", CAFile: "a", Insecure: true}, []string{"ca_file", "insecure", "insecure"}},
		"numbers":           {Config{URL: "tcp://x", QoS: &two, Keepalive: time.Millisecond, Queue: 3}, []string{"keepalive", "qos", "queue"}},
	} {
		var got []string
		for _, p := range c.cfg.Validate() {
			got = append(got, p.Field)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.fields) {
			t.Errorf("%s: faults at %v, want %v", name, got, c.fields)
		}
	}
}

func TestDefaultPortAndName(t *testing.T) {
	for in, want := range map[string]string{"mqtt://h": "tcp://h:1883", "mqtts://h": "ssl://h:8883", "ssl://[::1]": "ssl://[::1]:8883", "tcp://h:99": "tcp://h:99"} {
		u, err := brokerURL(in)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v", in, u, err)
		}
	}
	c := Config{}
	c.Identify("lac-duong-01", "local")
	if c.ClientID != "langbiang-lac-duong-01-local" {
		t.Error(c.ClientID)
	}
}

func TestNewNamesEveryBadTopic(t *testing.T) {
	c := Config{URL: "tcp://x"}
	_, err := c.New("local", []*driver.Device{dev("d",
		profile.Point{ID: "a"}, profile.Point{ID: "b", Topic: "x/#/y"}, profile.Point{ID: "c", Topic: "x/{camera}"}, profile.Point{ID: "d", Topic: "x/a+"},
	)}, env(newSink(true)))
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range []string{"point a", "point b", "point c", "point d"} {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q is not in %v", p, err)
		}
	}
}

func TestValueIsScaledConvertedAndJudged(t *testing.T) {
	tenth, hi := 0.1, 50.0
	points := []point{
		{index: 0, spec: &profile.Point{ID: "a", Scale: &tenth, Valid: &profile.Range{Max: &hi}}, conv: driver.Linear{Factor: 1.8, Offset: 32}},
		{index: 1, spec: &profile.Point{ID: "b", Sentinels: []float64{-999}}, conv: driver.Linear{Factor: 1}},
	}
	for payload, want := range map[string]string{
		"250":  "[{0 good 77 } {1 good 250 }]",
		"-999": "[{0 good -147.82 } {1 bad: not_fitted 0 }]",
		"nan":  "bad",
	} {
		got, err := read(nil, points, &document{raw: []byte(payload)}, false, driver.NewCounts(&driver.Device{}, nil), 0)
		if err != nil {
			t.Errorf("%s: %v", payload, err)
		}
		if payload == "nan" {
			if got[0].Quality != telemetry.BadQuality(telemetry.ReasonNonFinite) {
				t.Errorf("nan: %v", got)
			}
			continue
		}
		for i := range got {
			got[i].Value = math.Round(got[i].Value*100) / 100
			if got[i].Quality.IsBad() {
				got[i].Value = 0
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %v", payload, got, want)
		}
	}
	if got, _ := read(nil, points, &document{raw: []byte("501")}, false, driver.NewCounts(&driver.Device{}, nil), 0); got[0].Quality.Reason() != telemetry.ReasonOutOfRange {
		t.Errorf("501: %v", got)
	}
}

func TestAvailabilityWords(t *testing.T) {
	for _, c := range []struct {
		a       profile.Availability
		payload string
		online  bool
		ok      bool
	}{
		{profile.Availability{Online: []string{"online"}, Offline: []string{"offline", "stopped"}}, "online", true, true},
		{profile.Availability{Online: []string{"online"}, Offline: []string{"offline", "stopped"}}, "Stopped", false, true},
		{profile.Availability{Online: []string{"online"}, Offline: []string{"offline"}}, "restarting", false, false},
		{profile.Availability{Online: []string{"online"}}, "disabled", false, true},
		{profile.Availability{Path: "connected", Online: []string{"true"}, Offline: []string{"false"}}, `{"connected":false}`, false, true},
		{profile.Availability{Path: "state", Online: []string{"online"}}, "online", true, true},
		{profile.Availability{Path: "state", Online: []string{"online"}}, `"online"`, true, true},
		{profile.Availability{Path: "state", Online: []string{"online"}}, `{"other":1}`, false, false},
		{profile.Availability{}, "true", true, true},
		{profile.Availability{}, "", false, false},
		{profile.Availability{}, "offline", false, true},
	} {
		a, err := newAvailability(&c.a)
		if err != nil {
			t.Fatal(err)
		}
		online, _, ok := a.read(&document{raw: []byte(c.payload)})
		if online != c.online || ok != c.ok {
			t.Errorf("%+v says %q: online %v, ok %v", c.a, c.payload, online, ok)
		}
	}
}

func TestLivenessFollowsTheEvidence(t *testing.T) {
	t0 := time.Unix(1e9, 0)
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		expect time.Duration
		do     func(l *liveness)
		at     int
		want   string
	}{
		"nothing known yet":                   {0, func(*liveness) {}, 1, "unknown"},
		"connected, nothing yet":              {0, func(l *liveness) { l.linkUp(at(0), "") }, 100, "unknown"},
		"broker never reached":                {0, func(l *liveness) { l.linkDown("x") }, 1, "unreachable"},
		"broker back, nothing yet":            {0, func(l *liveness) { l.linkDown("x"); l.linkUp(at(1), "") }, 2, "silent"},
		"heard":                               {0, func(l *liveness) { l.linkUp(at(0), ""); l.message(at(1)) }, 1000, "up"},
		"heard, then the broker went":         {0, func(l *liveness) { l.linkUp(at(0), ""); l.message(at(1)); l.linkDown("x") }, 2, "unreachable"},
		"heard, broker bounced":               {0, func(l *liveness) { l.linkUp(at(0), ""); l.message(at(1)); l.linkDown("x"); l.linkUp(at(3), "") }, 4, "up"},
		"expected, in time":                   {10 * time.Second, func(l *liveness) { l.linkUp(at(0), ""); l.message(at(1)) }, 11, "up"},
		"expected, late":                      {10 * time.Second, func(l *liveness) { l.linkUp(at(0), ""); l.message(at(1)) }, 12, "silent"},
		"expected, never came":                {10 * time.Second, func(l *liveness) { l.linkUp(at(0), "") }, 11, "silent"},
		"expected, broker was away":           {10 * time.Second, func(l *liveness) { l.linkUp(at(0), ""); l.message(at(1)); l.linkDown("x"); l.linkUp(at(60), "") }, 65, "silent"},
		"online, but silent":                  {10 * time.Second, func(l *liveness) { l.linkUp(at(0), ""); l.availability(at(0), true, "online") }, 11, "silent"},
		"online":                              {0, func(l *liveness) { l.linkUp(at(0), ""); l.availability(at(0), true, "online") }, 11, "up"},
		"offline":                             {0, func(l *liveness) { l.linkUp(at(0), ""); l.message(at(1)); l.availability(at(2), false, "offline") }, 3, "offline"},
		"offline is overtaken by data":        {0, func(l *liveness) { l.linkUp(at(0), ""); l.availability(at(2), false, "offline"); l.message(at(3)) }, 4, "up"},
		"refused":                             {0, func(l *liveness) { l.linkUp(at(0), "a/b") }, 4, "unreachable"},
		"refused topic beside one that works": {0, func(l *liveness) { l.linkUp(at(0), "a/b"); l.message(at(1)) }, 4, "up"},
	} {
		l := liveness{expect: c.expect, topics: "t"}
		c.do(&l)
		st := l.judge(at(c.at))
		got := st.reason.String()
		switch {
		case !st.known:
			got = "unknown"
		case st.up:
			got = "up"
		case st.detail == "":
			t.Errorf("%s: no detail", name)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestTopicsMatchAsTheStandardSays(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/b/", false},
		{"a/+", "a/b", true},
		{"a/+", "a/", true},
		{"a/+", "a", false},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"#", "a/b", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"+/+", "/x", true},
		{"+", "/x", false},
	} {
		r := &routes{}
		r.add(&target{filter: c.filter})
		if got := len(r.match(c.topic)) == 1; got != c.want {
			t.Errorf("%s takes %s: %v", c.filter, c.topic, got)
		}
	}
}

func TestPauseGrowsToItsBound(t *testing.T) {
	for n := 1; n < 40; n++ {
		p := pause(n, 5*time.Second)
		if p < firstReconnect/2 || p > 5*time.Second {
			t.Errorf("after %d failures: %v", n, p)
		}
	}
}

// naive is the matching rule of the standard, written the slow way.
func naive(filter, topic []string) bool {
	if len(filter) > 0 && filter[0] == "#" {
		return true
	}
	if len(filter) == 0 || len(topic) == 0 {
		return len(filter) == len(topic)
	}
	return (filter[0] == "+" || filter[0] == topic[0]) && naive(filter[1:], topic[1:])
}

func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("+//", "/")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if checkFilter(filter) != nil || topic == "" || strings.ContainsAny(topic, "+#") {
			return
		}
		r := &routes{}
		r.add(&target{filter: filter})
		want := naive(strings.Split(filter, "/"), strings.Split(topic, "/"))
		if strings.HasPrefix(topic, "$") && (filter[0] == '+' || filter[0] == '#') {
			want = false
		}
		if got := len(r.match(topic)); (got > 0) != want || got > 1 {
			t.Errorf("%q takes %q: %d, want %v", filter, topic, got, want)
		}
	})
}

func FuzzPayload(f *testing.F) {
	for _, s := range []string{
		"", "21.5", "ON", `"x"`, `{"a":1}`, `{"a":{"b":[1,2]}}`, `[1]`, `{"a":"\ud800"}`, "{", "null", `{"a":["x",["x"],"y\u0000x"],"b":6}`, `{"a":1e400}`, `{"a":1} x`,
		`{"ts":"2021-06-27T15:03:44+02:00","a":true}`,
	} {
		f.Add([]byte(s))
	}
	mk := func(id, path, kind string) point {
		p := point{spec: &profile.Point{ID: id, Kind: kind, Enum: map[string]float64{"ON": 1}}, conv: driver.Linear{Factor: 1}}
		if path != "" {
			pp, err := profile.ParsePath(path)
			if err != nil {
				f.Fatal(err)
			}
			p.path = &pp
		}
		return p
	}
	points := []point{mk("plain", "", ""), mk("text", "", "text"), mk("a", "a", ""), mk("at", "a", "text"), mk("ab", "a.b", "")}
	for i := range points {
		points[i].index = i
	}
	event, err := newPoint(0, &profile.Point{ID: "e", Topic: "t", Counter: &profile.Counter{Kind: profile.CounterEvents, When: []profile.Match{
		{Place: profile.Place{Path: "a"}, Text: []string{"x*"}}, {Place: profile.Place{Path: "b"}, Mask: 6, Min: new(float64)},
	}}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	ts, err := profile.ParsePath("ts")
	if err != nil {
		f.Fatal(err)
	}
	av, err := newAvailability(&profile.Availability{Path: "a"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		doc := &document{raw: payload}
		out, _ := read(nil, points, doc, false, driver.NewCounts(&driver.Device{}, nil), 0)
		if len(out) != len(points) {
			t.Fatalf("%d samples for %d points", len(out), len(points))
		}
		for _, s := range out {
			if len(s.Text) > telemetry.MaxTextLen {
				t.Errorf("text of %d bytes", len(s.Text))
			}
			if q := telemetry.Check(s.Value, s.Quality); q != s.Quality {
				t.Errorf("%v is called %v", s.Value, s.Quality)
			}
		}
		counts := driver.NewCounts(&driver.Device{}, nil)
		for n := range 2 {
			hits, err := read(nil, []point{event}, doc, false, counts, 0)
			if err != nil || len(hits) > 1 || len(hits) == 1 && hits[0].Value != float64(n+1) {
				t.Errorf("events: %v, %v", hits, err)
			}
		}
		for _, format := range []string{"rfc3339", "unix", "unix_ms"} {
			dt := deviceTime{path: ts, format: format}
			if at, ok := dt.of(doc); ok && (at.Year() < 1999 || at.Year() > 2200) {
				t.Errorf("time %v", at)
			}
		}
		_, _, _ = av.read(doc)
	})
}
