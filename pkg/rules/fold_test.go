package rules

import (
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestDelayEndsAtItsExactTimeOnTheWatermark(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 60, good)
	f.Observe(0, 1050, 70, good)
	f.Advance(1099)
	r.expect(t)
	f.Advance(1100)
	r.expect(t, "raised warning @1100 v=70 p=70 l=50")
	f.Observe(0, 1200, 45, good) // reaches clear
	f.Advance(1249)
	r.expect(t)
	f.Advance(5000)
	r.expect(t, "cleared warning @1250 v=45 p=70 l=50")
}

func TestReadingPastTheEndOfADelayEndsItFirst(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 60, good)
	f.Observe(0, 1101, 10, good) // too late to call it off
	r.expect(t, "raised warning @1100 v=60 p=60 l=50")
	f.Observe(0, 1151, 10, good) // at the very end of clear_for: counts before it ends
	r.expect(t)
	f.Advance(1151)
	r.expect(t, "cleared warning @1151 v=10 p=60 l=50")
}

func TestReadingAtTheEndOfADelayCallsItOff(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 60, good)
	f.Observe(0, 1100, 10, good)
	f.Advance(9999)
	r.expect(t)
}

func TestDelayRunsOnBetweenClearAndLimit(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 51, good)
	f.Observe(0, 1010, 46, good)
	f.Advance(1100)
	r.expect(t, "raised warning @1100 v=46 p=51 l=50")
}

func TestSeverityGoesUpAndDownTheLadder(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 60, good)
	f.Observe(0, 1150, 200, good)
	f.Observe(0, 1200, 100, good)
	f.Observe(0, 1300, 20, good)
	f.Advance(2000)
	r.expect(t,
		"raised warning @1100 v=60 p=60 l=50",
		"severity_changed critical @1170 v=200 p=200 l=150",
		"severity_changed warning @1200 v=100 p=200 l=50",
		"cleared warning @1350 v=20 p=200 l=50")
}

func TestAHigherLevelMakesTheLowerOnesActive(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 200, good) // critical at 1020, warning would be due at 1100
	f.Observe(0, 1030, 100, good)
	f.Advance(2000)
	r.expect(t, "raised critical @1020 v=200 p=200 l=150", "severity_changed warning @1030 v=100 p=200 l=50")
}

func TestAlertCarriesTheWholeEpisode(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 1160.25, telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonClock))
	f.Advance(1020)
	a := r.all[0].Alert
	if a.ID == "" || a.Rule != "pm25-high" || a.RuleVersion == "" || a.State != "active" || a.Onset.UnixMilli() != 1000 || a.Start.UnixMilli() != 1020 ||
		a.End != nil || a.Site != "24848" || a.Edge != "e1" || a.Device != "air-01" || a.Labels["spot"] != "market" {
		t.Errorf("alert %+v", a)
	}
	if want := (telemetry.Text{VI: "Bụi PM2.5 tại Lạc Dương là 1.160,3 µg/m³", EN: "PM2.5 at Lac Duong is 1,160.3 µg/m³"}); a.Message != want && a.Message.VI != "Bụi PM2.5 tại Lạc Dương là 1.160,2 µg/m³" {
		t.Errorf("message %+v, want %+v", a.Message, want)
	}
	f.Observe(0, 2000, 0, good)
	f.Advance(3000)
	end := r.all[len(r.all)-1].Alert
	if end.ID != a.ID || end.State != "cleared" || end.End == nil || end.End.UnixMilli() != 2050 {
		t.Errorf("end %+v", end)
	}
}

func TestBadReadingsHoldTheState(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 60, good)
	f.Observe(0, 1050, 0, telemetry.BadQuality(telemetry.ReasonNoAnswer))
	f.Observe(0, 1060, math.NaN(), good)
	f.Observe(0, 1070, math.Inf(-1), good)
	f.Advance(1100)
	r.expect(t, "raised warning @1100 v=60 p=60 l=50")
	f.Observe(0, 1200, 0, telemetry.BadQuality(telemetry.ReasonNoAnswer))
	f.Advance(5000)
	r.expect(t)
	if s := f.Stats(); s.Bad != 4 {
		t.Errorf("bad readings %d, want 4", s.Bad)
	}
}

func TestBelowIsStrict(t *testing.T) {
	e, r := newTest(t, "- {id: device-down, watch: {quantity: device_up}, below: {warning: {limit: 1, for: 60s}}}")
	f := openFold(t, e, nil, telemetry.BoundSeries{Site: "24848", Device: "gate", Point: "device_up", Quantity: "device_up"})
	f.Observe(0, 1000, 1, good)
	f.Advance(100_000)
	r.expect(t)
	f.Observe(0, 100_001, 0, good)
	f.Advance(160_001)
	r.expect(t, "raised warning @160001 v=0 p=0 l=1")
	f.Observe(0, 170_000, 1, good)
	r.expect(t, "cleared warning @170000 v=1 p=0 l=1")
}

func TestDelaysDoNotCrossAnUnobservedInterval(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"), pm("air-02"))
	f.Observe(0, 1000, 60, good) // due 1100, the edge stops at 1100
	f.Observe(1, 1050, 60, good) // due 1150
	f.Unobserved(1100, 1140)
	f.Observe(0, 1145, 70, good)
	f.Observe(1, 1145, 70, good) // begins anew: due 1245
	f.Advance(1244)
	r.expect(t, "raised warning @1100 v=60 p=60 l=50")
	f.Advance(1245)
	r.expect(t, "raised warning @1245 v=70 p=70 l=50")
	f.Observe(0, 1300, 0, good) // due to clear at 1350
	f.Advance(1310)
	f.Unobserved(1310, 9000)
	f.Advance(9000)
	r.expect(t) // active until a reading says otherwise
	f.Observe(0, 9001, 0, good)
	f.Advance(9051)
	r.expect(t, "cleared warning @9051 v=0 p=70 l=50")
}

func TestMarkInsideAFrameSplitsTheReadingsOfEverySeries(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Unobserved(1100, 1200) // told before the frame's readings, which lie on both sides
	f.Observe(0, 1000, 60, good)
	f.Observe(0, 1201, 60, good)
	f.Advance(1290)
	r.expect(t, "raised warning @1100 v=60 p=60 l=50")
}

func TestNewEraBeginsTimeAnew(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 5000, 60, good)
	f.Advance(5050)
	f.NewEra(5060, 1000) // back in time
	f.Observe(0, 1000, 60, good)
	f.Advance(1099)
	r.expect(t)
	f.Advance(1100)
	r.expect(t, "raised warning @1100 v=60 p=60 l=50")
}

func TestWatermarkOfASeriesWithDeviceTimeLags(t *testing.T) {
	e, r := newTest(t, ladder)
	b := pm("air-01")
	b.MaxLag = 500
	f := openFold(t, e, nil, b)
	f.Observe(0, 1000, 60, good)
	f.Advance(1599)
	r.expect(t)
	f.Advance(1600)
	r.expect(t, "raised warning @1100 v=60 p=60 l=50")
	f.Observe(0, 1101, 0, good) // 499 late by the edge's clock, on time for this device
	f.Advance(1651)
	r.expect(t, "cleared warning @1151 v=0 p=60 l=50")
}

func TestLateReadingsAreNotEvaluated(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 10, good)
	f.Observe(0, 1000, 500, good)
	f.Advance(2000)
	f.Observe(0, 1500, 500, good)
	f.Observe(7, 3000, 500, good)
	f.Advance(9000)
	r.expect(t)
	if s := f.Stats(); s.Late != 2 || s.Unknown != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestStateSurvivesAnotherOrderOfSeries(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"), pm("air-02"), pm("air-03"))
	f.Observe(1, 1000, 60, good)
	f.Observe(2, 1000, 160, good)
	f.Advance(1050)
	r.expect(t, "raised critical @1020 v=160 p=160 l=150")
	if !f.Dirty() {
		t.Error("not dirty after a change")
	}
	saved := f.Save(nil)
	if f.Dirty() {
		t.Error("dirty after Save")
	}
	f = openFold(t, e, saved, pm("air-03"), pm("new"), pm("air-02"))
	f.Advance(1100)
	r.expect(t, "raised warning @1100 v=60 p=60 l=50")
	f.Bind([]telemetry.BoundSeries{pm("air-02"), pm("air-03")})
	f.Observe(1, 1200, 0, good)
	f.Observe(0, 1200, 0, good)
	f.Advance(1300)
	r.expect(t, "severity_changed warning @1200 v=0 p=160 l=50", "cleared warning @1250 v=0 p=60 l=50", "cleared warning @1250 v=0 p=160 l=50")
}

func TestRemovedSeriesAndSiteMovesEndAlerts(t *testing.T) {
	e, r := newTest(t, `- {id: a, watch: {quantity: pm2_5, where: {site: "24848"}}, above: {info: {limit: 1}}}`)
	f := openFold(t, e, nil, pm("air-01"), pm("air-02"))
	f.Observe(0, 1000, 2, good)
	f.Observe(1, 1000, 2, good)
	f.Advance(1500)
	r.take()
	moved := pm("air-02")
	moved.Site = "24850"
	f.Bind([]telemetry.BoundSeries{moved})
	r.expect(t, "cleared info @1500 v=2 p=2 l=1 (no longer watched)", "cleared info @1500 v=2 p=2 l=1 (series removed)")
	if got := e.Rules()[0]; got.Matched != 0 || got.Active != 0 || got.Fired != 2 {
		t.Errorf("info %+v", got)
	}
}

func TestRuleSetTakesEffectAtItsEventTime(t *testing.T) {
	e, r := newTest(t, `
- {id: keep, watch: {quantity: pm2_5}, above: {info: {limit: 10, for: 100ms}}}
- {id: change, watch: {quantity: pm2_5}, above: {info: {limit: 10}}}
- {id: gone, watch: {quantity: pm2_5}, above: {info: {limit: 11}}}
`)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 20, good)
	f.Advance(1010)
	r.expect(t, "raised info @1000 v=20 p=20 l=10", "raised info @1000 v=20 p=20 l=11")
	err := e.Add(Effective{mustLoad(t, `
- {id: keep, watch: {quantity: pm2_5}, above: {info: {limit: 10, for: 100ms}}, message: {en: "new words {{.Value}}"}}
- {id: change, watch: {quantity: pm2_5}, above: {warning: {limit: 10}}}
`), 1050})
	if err != nil {
		t.Fatal(err)
	}
	f.Advance(1011)
	r.expect(t)
	f.Observe(0, 1060, 21, good)
	r.expect(t, "cleared info @1050 v=20 p=20 l=10 (rule changed)", "cleared info @1050 v=20 p=20 l=11 (rule changed)",
		"raised warning @1060 v=21 p=21 l=10")
	f.Advance(1100)
	if got := r.all[0].Alert.Message.EN; got != "new words 21.0" {
		t.Errorf("message %q", got)
	}
	r.expect(t, "raised info @1100 v=21 p=21 l=10")
	if err := e.Add(Effective{mustLoad(t, "[]"), 1050}); err == nil {
		t.Error("a set with an earlier time was taken")
	}
}

func TestAWindowOutlivesAChangeOfItsLimit(t *testing.T) {
	rain := "- {id: rain, watch: {quantity: pm2_5}, window: {sum: 400ms, step: 100ms}, above: {warning: {limit: %d}}}\n%s"
	e, r := newTest(t, fmt.Sprintf(rain, 100, ""))
	f := openFold(t, e, nil, pm("a"))
	f.Advance(1000)
	for i := range int64(3) {
		f.Observe(0, 1050+100*i, 10, good)
	}
	f.Advance(1270)
	mean := "- {id: mean, watch: {quantity: pm2_5}, window: {mean: 400ms, step: 100ms}, above: {info: {limit: 1e6}}}\n"
	if err := e.Add(Effective{mustLoad(t, fmt.Sprintf(rain, 35, mean)), 1300}); err != nil {
		t.Fatal(err)
	}
	f.Observe(0, 1310, 8, good)
	r.expect(t, "raised warning @1310 v=38 p=38 l=35")
	for _, info := range e.Rules() {
		if want := map[string]int64{"mean": 1700}[info.ID]; want == 0 && !info.FillingUntil.IsZero() || want > 0 && info.FillingUntil.UnixMilli() != want {
			t.Errorf("%s fills until %v", info.ID, info.FillingUntil)
		}
	}
	f.Advance(1800)
	if got := e.Rules()[0].FillingUntil; !got.IsZero() {
		t.Errorf("filling until %v, and it is past", got)
	}
}

func TestSavedStateOfARuleThatNobodyKnowsEndsItsAlert(t *testing.T) {
	e, r := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"))
	f.Observe(0, 1000, 160, good)
	f.Advance(1050)
	id := r.all[0].Alert.ID
	saved := f.Save(nil)
	e, r = newTest(t, "- {id: other, watch: {quantity: pm2_5}, above: {info: {limit: 1}}}")
	openFold(t, e, saved, pm("air-01"))
	if r.all[0].Alert.ID != id {
		t.Error("another id")
	}
	r.expect(t, "cleared critical @1050 v=160 p=160 l=150 (rule changed)")
}

func TestFoldOfTheSameEdgeReplacesTheCounts(t *testing.T) {
	e, _ := newTest(t, ladder)
	f := openFold(t, e, nil, pm("air-01"), pm("air-02"))
	f.Observe(0, 1000, 160, good)
	f.Advance(2000)
	saved := f.Save(nil)
	openFold(t, e, saved, pm("air-01"), pm("air-02"))
	got := e.Rules()[0]
	if got.Matched != 2 || got.Active != 1 || got.Fired != 1 || got.LastFired.UnixMilli() != 1020 {
		t.Errorf("info %+v", got)
	}
	if e.Newest() != 2000 {
		t.Errorf("newest %d", e.Newest())
	}
}

func FuzzSavedState(f *testing.F) {
	e, _ := newTest(f, ladder)
	fold := openFold(f, e, nil, pm("air-01"), pm("air-02"))
	f.Add(fold.Save(nil))
	fold.Observe(0, 1000, 160, good)
	fold.Observe(1, 1010, 60, good)
	fold.Advance(1030)
	fold.Unobserved(1040, 1050)
	f.Add(fold.Save(nil))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, _ := newTest(t, ladder)
		fold, err := e.Open("e1", data)
		if err != nil {
			return
		}
		fold.Bind([]telemetry.BoundSeries{pm("air-01"), pm("air-03")})
		w := max(fold.Watermark(), 0)
		fold.Observe(0, w+1, 200, good)
		fold.Advance(w + 10_000)
		again, err := e.Open("e1", fold.Save(nil))
		if err != nil {
			t.Fatalf("what Save wrote cannot be opened: %v", err)
		}
		again.Bind([]telemetry.BoundSeries{pm("air-01")})
	})
}

func TestStateOfOlderFormatsIsRead(t *testing.T) {
	for _, file := range []string{"format1", "format2"} {
		saved, err := os.ReadFile("testdata/state/" + file)
		if err != nil {
			t.Fatal(err)
		}
		e, r := newTest(t, `
- {id: high, watch: {quantity: pm2_5}, above: {warning: {limit: 50, clear: 45, for: 100ms}, critical: {limit: 150}}}
- {id: low, watch: {quantity: pm2_5}, below: {info: {limit: 5, for: 10ms}}}
`)
		slow := pm("c")
		slow.MaxLag = 500
		f := openFold(t, e, saved, slow, pm("a"), pm("b"))
		r.expect(t)
		f.Observe(1, 1100, 170, good)
		f.Observe(2, 1100, 1, good)
		f.Observe(2, 1101, 6, good)
		f.Observe(0, 1040, 70, good) // before the break that its lag has it pass later
		f.Observe(0, 1070, 80, good)
		f.Observe(1, 1200, 0, good)
		f.Advance(1700)
		r.expect(t, "cleared info @1101 v=6 p=1 l=5", "raised warning @1000 v=60 p=60 l=50",
			"cleared critical @1200 v=0 p=170 l=150", "raised info @1210 v=0 p=0 l=5")
	}
}

// The example that docs/rules.md works by hand.
func TestExampleOfTheDocumentation(t *testing.T) {
	e, r := newTest(t, `
- id: pm25-high
  watch: {quantity: pm2_5}
  above:
    warning:  {limit: 50,  clear: 45,  for: 5m}
    critical: {limit: 150, clear: 140, for: 1m}
`)
	f := openFold(t, e, nil, pm("air-01"))
	const s = 1000
	const m = 60 * s
	for _, x := range []struct {
		t int64
		v float64
	}{{0, 48}, {1 * m, 53}, {2 * m, 47}, {3 * m, 61}, {4 * m, -1}, {5*m + 30*s, 170}, {6*m + 30*s, 175}, {7*m + 30*s, 138}, {8*m + 30*s, 46}, {9*m + 30*s, 45}} {
		q := good
		if x.v < 0 {
			q = telemetry.BadQuality(telemetry.ReasonNoAnswer)
		}
		f.Observe(0, x.t, x.v, q)
	}
	f.Advance(10 * m)
	r.expect(t,
		"raised warning @360000 v=170 p=170 l=50",
		"severity_changed critical @390000 v=175 p=175 l=150",
		"severity_changed warning @450000 v=138 p=175 l=50",
		"cleared warning @570000 v=45 p=175 l=50")
}
