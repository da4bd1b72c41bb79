package mqtt

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// parsed is the profile as an unpinned device of it.
func parsed(t *testing.T, id, text string) *driver.Device {
	t.Helper()
	q := telemetry.Quantities{"n": {ID: "n"}, "level": {ID: "level", Unit: "m"}}
	p, err := profile.ParseProfile("a/b", "b.yaml", []byte("vendor: A\nmodel: B\ntitle: {vi: a, en: b}\ncategory: air\ntested: document\nlinks: [x]\nprotocol: mqtt\n"+text), q)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.ResolveDevice("", nil)
	if err != nil {
		t.Fatal(err)
	}
	convert := func(points []profile.Point) (out []driver.Linear) {
		for i := range points {
			f, o, _ := points[i].Conversion(q)
			out = append(out, driver.Linear{Factor: f, Offset: o})
		}
		return out
	}
	d := &driver.Device{ID: id, Profile: "a/b", Interval: time.Second, MQTT: r.MQTT, Points: r.Points, Convert: convert(r.Points), Identify: r.Identify}
	for _, rev := range r.Revisions {
		d.Revisions = append(d.Revisions, driver.Revision{ID: rev.ID, Points: rev.Points, Convert: convert(rev.Points)})
	}
	return d
}

// values are what was put for a point, bad ones as their reason's name.
func (s *fakeSink) values(device string, point int) (out []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.puts {
		for _, x := range p.samples {
			switch {
			case p.device != device || x.Point != point:
			case x.Quality == 0:
				out = append(out, x.Value)
			default:
				out = append(out, x.Quality.String())
			}
		}
	}
	return out
}

func TestAPayloadSaysWhatItsValuesMean(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	d := parsed(t, "d", `
points:
  - {id: level, quantity: level, topic: d, path: l, unit: m, valid_when: {path: ok, text: ["true"]}, power_of_ten: {path: e}, unit_code: {path: u, units: {"mm": mm, "m": m}}}
  - {id: rain, quantity: n, topic: d, path: c, counter: {bits: 8}}
`)
	r := start(t, Config{URL: "tcp://" + b.addr}, s, d)
	r.connected(t)
	for _, p := range []string{
		`{"l":5,"ok":true,"e":2,"u":"mm","c":250}`, `{"l":5,"ok":true,"e":0,"u":"m","c":4}`, `{"l":5,"ok":false,"e":0,"u":"m","c":9}`,
		`{"l":5,"ok":true,"e":0,"u":"ft","c":"9"}`, `{"l":5,"ok":true,"u":"m","c":9}`,
	} {
		b.publish("d", p, false, 1)
	}
	eventually(t, "five messages", func() bool { return len(s.values("d", 0)) == 5 })
	if diff := cmp.Diff([]any{0.5, 5., "bad: invalid", "bad: configuration", "bad: missing"}, s.values("d", 0)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{250., 4., 9., 9., 9.}, s.values("d", 1)); diff != "" {
		t.Error("a total that nobody keeps over restarts is as the device gives it:", diff)
	}
}

func TestARateIsTheIncreaseBetweenTwoMessages(t *testing.T) {
	d := parsed(t, "d", "points: [{id: rate, quantity: n, topic: d, path: c, counter: {bits: 8, kind: rate, per: h}}]\n")
	pt, err := newPoint(0, &d.Points[0], d.Convert)
	if err != nil {
		t.Fatal(err)
	}
	var got []float64
	counts := driver.NewCounts(d, nil)
	for i, payload := range []string{`{"c":250}`, `{"c":252}`, `{"c":2}`} {
		samples, err := read(nil, []point{pt}, &document{raw: []byte(payload)}, false, counts, int64(i)*36_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range samples {
			got = append(got, s.Value)
		}
	}
	if diff := cmp.Diff([]float64{200, 600}, got); diff != "" {
		t.Error(diff)
	}
}

const firmwareInTheField = `
match: [{topic: "m/d", path: fw, version: text}]
points:
  - {id: pm, quantity: n, topic: "m/d", path: pm}
  - {id: extra, quantity: n, topic: "m/d", path: x}
firmware:
  - {id: new, title: {vi: a, en: b}, source: x, range: ">=2"}
  - {id: old, title: {vi: a, en: b}, source: x, range: "<2", remove: [extra], points: [{id: pm, quantity: n, topic: "m/d", path: dust, scale: 0.1}]}
`

func TestAFieldTellsTheRevision(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	r := start(t, Config{URL: "tcp://" + b.addr}, s, parsed(t, "d", firmwareInTheField))
	r.connected(t)
	for _, p := range []string{`{"fw":"1.9","dust":120}`, `{"fw":"v2.1","pm":7,"x":1}`, `{"pm":8,"x":2}`, `{"fw":"beta","pm":9,"x":3}`, `{"fw":"2.1","pm":9,"x":4}`} {
		b.publish("m/d", p, false, 1)
	}
	eventually(t, "the last", func() bool { v := s.values("d", 1); return len(v) > 0 && v[len(v)-1] == 4. })
	want := []driver.Identity{
		{Revision: "old", Fits: true, Model: true, Version: "1.9", Seen: `fw of m/d: "1.9"`},
		{Revision: "new", Fits: true, Model: true, Version: "2.1", Seen: `fw of m/d: "v2.1"`},
		{Revision: "new", Seen: `fw of m/d: "beta"`},
		{Revision: "new", Fits: true, Model: true, Version: "2.1", Seen: `fw of m/d: "2.1"`},
	}
	if diff := cmp.Diff(want, s.told("d")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{12., 7., 8., "uncertain: configuration", 9.}, s.values("d", 0)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{"bad: not_fitted", 1., 2., "uncertain: configuration", 4.}, s.values("d", 1)); diff != "" {
		t.Error(diff)
	}
	if n := r.log.count("no revision of the profile fits"); n != 1 {
		t.Errorf("warned %d times", n)
	}
}

func TestARetainedMessageTellsTheRevisionAndIsNoReading(t *testing.T) {
	b := newBroker(t)
	b.publish("m/info", `{"gen":1}`, true, 1)
	s := newSink(true)
	r := start(t, Config{URL: "tcp://" + b.addr}, s, parsed(t, "d", `
points: [{id: t, quantity: n, topic: "m/d"}]
firmware:
  - {id: two, title: {vi: a, en: b}, source: x, match: [{topic: m/info, path: gen, equals: [2]}]}
  - {id: one, title: {vi: a, en: b}, source: x, match: [{topic: m/info, path: gen, equals: [1]}], points: [{id: t, quantity: n, topic: "m/d/t"}]}
`))
	r.connected(t)
	eventually(t, "told", func() bool { return len(s.told("d")) == 1 })
	if id := s.told("d")[0]; id.Revision != "one" || !id.Fits {
		t.Errorf("%+v", id)
	}
	b.publish("m/d", "1", false, 1)
	b.publish("m/d/t", "2", false, 1)
	eventually(t, "read", func() bool { return len(s.values("d", 0)) > 0 })
	if diff := cmp.Diff([]any{2.}, s.values("d", 0)); diff != "" {
		t.Error(diff)
	}
}

const eventsOfACamera = `
mqtt: {availability: {topic: lwt, online: ["on"], offline: ["off"]}}
with: {zone: {default: "cross*", title: {vi: a, en: b}}}
points:
  - {id: cars, quantity: n, topic: ev, counter: {kind: events, when: [{path: type, text: [end]}, {path: after.zones, text: ["{zone}"]}]}}
  - {id: fast, quantity: n, topic: ev, scale: 2, counter: {kind: events, when: [{path: after.speed, min: 50}]}}
`

func TestMessagesInWhichConditionsHoldAreCounted(t *testing.T) {
	b := newBroker(t)
	const hit = `{"type":"end","after":{"zones":["gate","crossing"],"speed":60}}`
	b.publish("ev", hit, true, 1) // retained: of an earlier time
	s := newSink(true)
	r := start(t, Config{URL: "tcp://" + b.addr}, s, parsed(t, "d", eventsOfACamera))
	r.connected(t)
	b.publish("lwt", "on", false, 1)
	for _, p := range []string{
		`{"type":"new","after":{"zones":["crossing"]}}`, hit, `{"type":"end","after":{"zones":[]}}`, `{"type":"end","after":{"zones":["gate"],"speed":"49.9"}}`,
		`{"type":"end","after":{}}`, `{`, `7`, `["end"]`, `{"type":["end"],"after":{"zones":"crossing","speed":[60]}}`,
	} {
		b.publish("ev", p, false, 1)
	}
	b.publish("lwt", "off", false, 1)
	b.publish("lwt", "on", false, 1)
	eventually(t, "back", func() bool { v := s.values("d", 1); return len(v) >= 4 })
	if diff := cmp.Diff([]any{0., 1., 2., "bad: offline", 2.}, s.values("d", 0)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{0., 2., "bad: offline", 2.}, s.values("d", 1)); diff != "" {
		t.Error(diff)
	}
}

func TestARedeliveredEventCountsOnce(t *testing.T) {
	b := newBroker(t)
	s := newSink(false)
	r := start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, s, parsed(t, "d", eventsOfACamera))
	r.connected(t)
	const hit = `{"type":"end","after":{"zones":["crossing"]}}`
	b.publish("ev", hit, false, 1)
	b.publish("ev", hit, false, 1) // another vehicle, not a repetition
	eventually(t, "both are counted", func() bool { return slices.Contains(s.values("d", 0), any(2.)) })
	b.cut("edge")
	eventually(t, "redelivered", func() bool { return testutil.ToFloat64(r.metrics.repeated) >= 2 })
	s.commit()
	b.publish("ev", hit, false, 1)
	eventually(t, "the third", func() bool { return slices.Contains(s.values("d", 0), any(3.)) })
	if slices.Contains(s.values("d", 0), any(4.)) {
		t.Error(s.values("d", 0))
	}
}
