package modbus

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	goburrow "github.com/goburrow/modbus"
	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// parsed is the profile as a device of it, every second, unpinned.
func parsed(t *testing.T, unit int, text string) *driver.Device {
	t.Helper()
	q := telemetry.Quantities{"q": {ID: "q", Unit: "m"}, "n": {ID: "n"}, "t": {ID: "t"}}
	p, err := profile.ParseProfile("a/b", "b.yaml", []byte("vendor: A\nmodel: B\ntitle: {vi: a, en: b}\ncategory: weather\ntested: document\nlinks: [x]\nprotocol: modbus\n"+text), q)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.ResolveDevice("", nil)
	if err != nil {
		t.Fatal(err)
	}
	convert := func(points []profile.Point) (out []driver.Linear) {
		for i := range points {
			l := driver.Linear{Factor: 1}
			if f, o, ok := points[i].Conversion(q); ok {
				l = driver.Linear{Factor: f, Offset: o}
			}
			out = append(out, l)
		}
		return out
	}
	d := &driver.Device{ID: fmt.Sprintf("unit-%d", unit), Profile: "a/b", Unit: unit, Interval: time.Second, Modbus: p.Modbus, Points: r.Points, Convert: convert(r.Points), Identify: r.Identify}
	for _, rev := range r.Revisions {
		d.Revisions = append(d.Revisions, driver.Revision{ID: rev.ID, Points: rev.Points, Convert: convert(rev.Points)})
	}
	return d
}

func (l *fakeLine) holds(at map[int]uint16) *fakeLine {
	l.registers = at
	l.refuse = func(q question) byte {
		for i := range q.count {
			if _, ok := at[q.address+i]; !ok {
				return goburrow.ExceptionCodeIllegalDataAddress
			}
		}
		return 0
	}
	return l
}

func TestAValueIsReadWithWhatItDependsOn(t *testing.T) {
	const text = `
modbus: {max_hole: 0}
points:
  - {id: level, quantity: q, input: 40, type: int16, unit: m, valid_when: {input: 10, mask: 1, equals: [0]}, power_of_ten: {input: 20, negative: true}, unit_code: {input: 30, units: {"16": m, "17": cm}}}
  - {id: plain, quantity: n, input: 41}
`
	for name, c := range map[string]struct {
		status, decimals, unit uint16
		refused                int
		want                   driver.Sample
	}{
		"metres":                    {2, 2, 16, 0, driver.Sample{Value: 3.21}},
		"centimetres":               {0, 1, 17, 0, driver.Sample{Value: 0.321}},
		"the status word says no":   {1, 2, 16, 0, driver.Sample{Quality: telemetry.BadQuality(telemetry.ReasonInvalid)}},
		"a unit nobody knows":       {0, 2, 99, 0, driver.Sample{Quality: telemetry.BadQuality(telemetry.ReasonConfiguration)}},
		"the unit is not given":     {0, 2, 16, 30, driver.Sample{Quality: telemetry.BadQuality(telemetry.ReasonException)}},
		"the decimals are nonsense": {0, 200, 16, 0, driver.Sample{Quality: telemetry.BadQuality(telemetry.ReasonMalformed)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := map[int]uint16{10: c.status, 20: c.decimals, 30: c.unit, 40: 321, 41: 7}
				delete(at, c.refused)
				d := parsed(t, 1, text)
				rec, _ := simulate(t, newFakeLine(time.Millisecond, 100*time.Millisecond).holds(at), 2500*time.Millisecond, driver.Env{}, d)
				got := rec.Readings(d.ID, 0)
				if len(got) != 3 {
					t.Fatalf("%d readings in three polls", len(got))
				}
				for _, r := range got {
					if r.Sample != c.want {
						t.Errorf("%+v, want %+v", r.Sample, c.want)
					}
				}
				if r, _ := rec.Last(d.ID, 1); r.Value != 7 {
					t.Errorf("its neighbour reads %+v", r.Sample)
				}
			})
		})
	}
}

func TestThePlanShowsWhatIsReadAlong(t *testing.T) {
	d := parsed(t, 1, `
points:
  - {id: level, quantity: q, input: 4, unit: m, unit_code: {input: 2, units: {"16": m}}}
  - {id: gust, quantity: n, input: 101}
  - {id: mean, quantity: n, input: 102, side_effect: true}
  - {id: lull, quantity: n, input: 103}
  - {id: max, quantity: n, input: 50, side_effect: true}
`)
	var lines []string
	for _, r := range Plan(d) {
		lines = append(lines, r.Describe(d))
	}
	want := []string{
		"function 4, input 2-4, every 1s: level, (input 2)",
		"function 4, input 101, every 1s: gust", // and not across 102
		"function 4, input 103, every 1s: lull",
		"function 4, input 102, every 1s, alone and never repeated: mean",
		"function 4, input 50, every 1s, alone and never repeated: max",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

func TestAReadThatChangesTheDeviceIsLastAndNeverRepeated(t *testing.T) {
	for name, fault := range map[string]error{
		"silence":         errSilence,
		"damage":          frameErrorf(FaultCRC, "has a wrong checksum"),
		"lost connection": &lostError{io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := parsed(t, 1, "points:\n  - {id: mean, quantity: n, input: 2, side_effect: true}\n  - {id: now, quantity: n, input: 1}\n  - {id: max, quantity: n, input: 3}\n")
				l := newFakeLine(time.Millisecond, 100*time.Millisecond)
				polls, means := 0, 0
				l.flaky = func(q question) error {
					switch q.address {
					case 1:
						polls++
					case 2:
						if means++; means%2 == 0 {
							return fault
						}
					}
					return nil
				}
				rec, _ := simulate(t, l, 20*time.Second-time.Millisecond, driver.Env{}, d)
				if means != polls || means < 10 {
					t.Errorf("asked %d times in %d polls", means, polls)
				}
				last := 0
				for _, a := range l.asked {
					if last == 2 && a.q.address == 3 || last == 1 && a.q.address == 2 {
						t.Errorf("%v after %d", a.q, last)
					}
					last = a.q.address
				}
				bad := 0
				for _, r := range rec.Readings(d.ID, 0) {
					if r.Quality.IsBad() {
						bad++
					}
				}
				if bad != means/2 {
					t.Errorf("%d bad readings, want %d", bad, means/2)
				}
			})
		})
	}
}

// totals is a memory for counters.
type totals struct {
	mu sync.Mutex
	m  map[string]profile.CountState
}

func (s *totals) Load(device, point string) (profile.CountState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.m[device+"/"+point]
	return c, ok
}

func (s *totals) Save(device, point string, c profile.CountState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]profile.CountState{}
	}
	s.m[device+"/"+point] = c
}

func TestATotalGoesOnOverItsEndAndOverARestart(t *testing.T) {
	const text = `
points:
  - {id: rain, quantity: n, input: 1, counter: {bits: 16}}
  - {id: flow, quantity: n, input: 1, counter: {kind: rate, per: min, bits: 16}}
`
	synctest.Test(t, func(t *testing.T) {
		keep := &totals{}
		run := func(env driver.Env, values ...uint16) (rain, flow []float64) {
			d := parsed(t, 1, text)
			l := newFakeLine(time.Millisecond, 100*time.Millisecond)
			l.registers = map[int]uint16{}
			n := 0
			l.flaky = func(question) error { l.registers[1] = values[n]; n++; return nil }
			rec, _ := simulate(t, l, time.Duration(len(values))*time.Second-500*time.Millisecond, env, d)
			for _, r := range rec.Readings(d.ID, 0) {
				rain = append(rain, r.Value)
			}
			for _, r := range rec.Readings(d.ID, 1) {
				flow = append(flow, r.Value)
			}
			return rain, flow
		}
		rain, flow := run(driver.Env{Totals: keep}, 65_500, 65_530, 4, 14)
		if diff := cmp.Diff([]float64{65_500, 65_530, 65_540, 65_550}, rain); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]float64{1800, 600, 600}, flow); diff != "" {
			t.Error(diff)
		}
		rain, _ = run(driver.Env{Totals: keep}, 20, 30)
		if diff := cmp.Diff([]float64{65_556, 65_566}, rain); diff != "" {
			t.Error("after a restart:", diff)
		}
		rain, _ = run(driver.Env{}, 65_530, 4)
		if diff := cmp.Diff([]float64{65_530, 4}, rain); diff != "" {
			t.Error("without memory:", diff)
		}
	})
}

const twoRevisions = `
modbus: {max_hole: 0}
match: [{holding: 900, equals: [7]}]
points:
  - {id: temp, quantity: n, holding: 100}
  - {id: pressure, quantity: n, holding: 101}
  - {id: humidity, quantity: n, holding: 102}
firmware:
  - {id: new, title: {vi: a, en: b}, source: x, match: [{holding: 101}]}
  - {id: old, title: {vi: a, en: b}, source: x, match: [{holding: 101, absent: true}], remove: [pressure], points: [{id: temp, quantity: n, holding: 100, scale: 0.1}]}
`

func TestTheRevisionIsTakenThatTheDeviceTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := parsed(t, 1, twoRevisions)
		l := newFakeLine(time.Millisecond, 100*time.Millisecond).holds(map[int]uint16{102: 55, 100: 250, 900: 7})
		rec, _ := simulate(t, l, 2500*time.Millisecond, driver.Env{}, d)
		want := []driver.Identity{{Revision: "old", Fits: true, Model: true, Seen: "holding 900: 7 (0x7), holding 101: exception"}}
		if diff := cmp.Diff(want, rec.Identities(d.ID)); diff != "" {
			t.Error(diff)
		}
		for _, r := range rec.Readings(d.ID, 0) {
			if r.Value != 25 || r.Quality != 0 {
				t.Errorf("%+v: not read as the old firmware", r.Sample)
			}
		}
		for _, r := range rec.Readings(d.ID, 1) {
			if r.Quality != telemetry.BadQuality(telemetry.ReasonNotFitted) {
				t.Errorf("%+v: a point that is not in the revision", r.Sample)
			}
		}
		if n := len(l.asked); n != 1+2+2*3 {
			t.Errorf("%d questions: want a knock, two places, three polls of two blocks", n)
		}
	})
}

func TestADeviceThatComesBackIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		d := parsed(t, 1, twoRevisions)
		old, updated := map[int]uint16{102: 55, 100: 250, 900: 7}, map[int]uint16{102: 55, 100: 25, 101: 1010, 900: 7}
		l := newFakeLine(time.Millisecond, 100*time.Millisecond).holds(old)
		l.mute = func(question) bool {
			at := time.Since(begin)
			if at > 5*time.Second {
				l.holds(updated)
			}
			return at > 5*time.Second && at < 8*time.Second
		}
		rec, _ := simulate(t, l, 15*time.Second, driver.Env{}, d)
		var got []string
		for _, id := range rec.Identities(d.ID) {
			got = append(got, id.Revision)
		}
		if diff := cmp.Diff([]string{"old", "new"}, got); diff != "" {
			t.Error(diff)
		}
		for i := range 2 {
			if r, _ := rec.Last(d.ID, i); r.Value != []float64{25, 1010}[i] || r.Quality != 0 {
				t.Errorf("%+v", r.Sample)
			}
		}
	})
}

func TestADeviceThatNoRevisionFitsIsReadWithDoubt(t *testing.T) {
	uncertain := telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonConfiguration)
	for name, c := range map[string]struct {
		registers map[int]uint16
		mute      int // keeps silent about this register
		tries     int
		humidity  telemetry.Quality // which both revisions read alike
	}{
		"another model":                 {map[int]uint16{102: 55, 100: 25, 101: 1010, 900: 8}, 0, 1, uncertain},
		"it keeps silent when asked":    {map[int]uint16{102: 55, 100: 25, 101: 1010, 900: 7}, 900, inquiryTries, uncertain},
		"the second place keeps silent": {map[int]uint16{102: 55, 100: 25, 900: 7}, 101, inquiryTries, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := parsed(t, 1, twoRevisions)
				l := newFakeLine(time.Millisecond, 100*time.Millisecond).holds(c.registers)
				knocks := 0
				l.mute = func(q question) bool {
					if q.address == 900 {
						knocks++
					}
					return c.mute != 0 && q.address <= c.mute && c.mute < q.address+q.count && q.count == 1
				}
				rec, _ := simulate(t, l, 10*time.Second, driver.Env{}, d)
				ids := rec.Identities(d.ID)
				if len(ids) != 1 || ids[0].Fits || ids[0].Revision != "new" {
					t.Fatalf("%+v", ids)
				}
				if r, _ := rec.Last(d.ID, 0); r.Value != 25 || r.Quality != uncertain {
					t.Errorf("%+v", r.Sample)
				}
				if r, _ := rec.Last(d.ID, 2); r.Value != 55 || r.Quality != c.humidity {
					t.Errorf("%+v", r.Sample)
				}
				if s := rec.State(d.ID); !s.Up || s.Changes != 1 {
					t.Errorf("%+v", s)
				}
				asked := slices.DeleteFunc(slices.Clone(l.asked), func(a asked) bool { return a.q.address != 900 })
				if len(asked) > 2*c.tries { // each with one retry
					t.Errorf("asked %d times what it is", len(asked))
				}
			})
		})
	}
}

func TestADeadDeviceIsNotAskedWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := parsed(t, 1, twoRevisions)
		l := newFakeLine(time.Millisecond, 100*time.Millisecond)
		l.mute = func(question) bool { return true }
		rec, _ := simulate(t, l, 30*time.Second, driver.Env{}, d)
		for _, a := range l.asked {
			if a.q.address == 900 {
				t.Fatal("a dead device costs more than one question")
			}
		}
		if n := len(rec.Readings(d.ID, 0)); n != 30 {
			t.Errorf("%d bad readings in 30 slots", n)
		}
		if s := rec.State(d.ID); s.Up || s.Reason != telemetry.ReasonNoAnswer || !strings.Contains(s.Detail, "unit 1 does not answer") {
			t.Errorf("%+v", s)
		}
	})
}
