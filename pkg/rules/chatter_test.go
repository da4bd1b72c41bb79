package rules

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

const twitchy = `
- id: level-high
  watch: {quantity: pm2_5}
  above:
    warning:  {limit: 50}
    critical: {limit: 150}
`

// seconds are times of readings with their values, for one series.
func observe(f *Fold, readings ...float64) {
	for i := 0; i < len(readings); i += 2 {
		f.Observe(0, int64(readings[i]*1000), readings[i+1], good)
	}
}

func (r *recorder) marks(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, tr := range r.all {
		mark := ""
		if tr.Alert.Chattering {
			mark = " chattering"
		}
		got = append(got, fmt.Sprintf("%s %s @%d from %d n=%d%s", tr.Kind, tr.Alert.Severity, tr.Time.Unix(), tr.Alert.Start.Unix(), tr.Alert.Activations, mark))
	}
	r.all = nil
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("told:\n%s\nwant:\n%s", g, w)
	}
}

func TestThreeActivationsInAMinuteCollapseUntilItIsQuiet(t *testing.T) {
	e, r := newTest(t, twitchy)
	f := openFold(t, e, nil, pm("a"))
	observe(f, 0, 60, 5, 40, 10, 60, 15, 40, 20, 60, 25, 40)
	r.marks(t, "raised warning @0 from 0 n=0", "cleared warning @5 from 0 n=0",
		"raised warning @10 from 10 n=0", "cleared warning @15 from 10 n=0", "raised warning @20 from 20 n=3 chattering")
	observe(f, 30, 60, 35, 40, 40, 170, 45, 160, 46, 60, 50, 40)
	r.marks(t, "chattering warning @30 from 20 n=4 chattering", "severity_changed critical @40 from 20 n=5 chattering")
	f.Advance(99_999)
	r.marks(t)
	f.Advance(100_000) // a minute after the last activation
	r.marks(t, "cleared critical @100 from 20 n=5")
	if end := f.chatter; len(end.by) != 0 || end.next != never {
		t.Errorf("something is left: %+v", end)
	}
}

func TestChatteringThatHoldsGoesOnAsAPlainAlert(t *testing.T) {
	e, r := newTest(t, twitchy)
	f := openFold(t, e, nil, pm("a"))
	observe(f, 0, 60, 1, 40, 2, 60, 3, 40, 4, 170, 5, 60)
	r.all = nil
	f.Advance(64_000)
	r.marks(t, "quiet warning @64 from 4 n=3")
	observe(f, 70, 180, 80, 40, 90, 60)
	r.marks(t, "severity_changed critical @70 from 4 n=3", "cleared critical @80 from 4 n=3", "raised warning @90 from 90 n=0")
}

func TestTwoActivationsOrSlowOnesDoNotChatter(t *testing.T) {
	e, r := newTest(t, twitchy)
	f := openFold(t, e, nil, pm("a"))
	for i := range 20 {
		observe(f, float64(31*i), 60, float64(31*i+10), 40)
	}
	for _, tr := range r.all {
		if tr.Alert.Chattering || tr.Alert.Activations != 0 {
			t.Fatalf("chatters at %v", tr.Time)
		}
	}
}

func TestNothingCollapsesAcrossAnUnobservedInterval(t *testing.T) {
	e, r := newTest(t, twitchy)
	f := openFold(t, e, nil, pm("a"))
	observe(f, 0, 60, 1, 40, 2, 60, 3, 40)
	f.Unobserved(4000, 6000)
	observe(f, 7, 60, 8, 40)
	r.marks(t, "raised warning @0 from 0 n=0", "cleared warning @1 from 0 n=0", "raised warning @2 from 2 n=0",
		"cleared warning @3 from 2 n=0", "raised warning @7 from 7 n=0", "cleared warning @8 from 7 n=0")
	observe(f, 9, 60, 10, 40, 11, 60, 12, 40)
	r.all = nil
	f.Unobserved(13_000, 14_000) // what rests ends with what was seen last
	f.Advance(15_000)
	r.marks(t, "cleared warning @13 from 11 n=3")
}

func TestChatteringSurvivesARestartAndEndsWithItsRule(t *testing.T) {
	e, r := newTest(t, twitchy)
	f := openFold(t, e, nil, pm("a"))
	observe(f, 0, 60, 1, 40, 2, 60, 3, 40, 4, 60, 5, 40)
	f.Advance(6000)
	f = openFold(t, e, f.Save(nil), pm("a"))
	r.all = nil
	observe(f, 7, 60, 8, 40)
	r.marks(t, "chattering warning @7 from 4 n=4 chattering")
	if err := e.Add(Effective{mustLoad(t, strings.ReplaceAll(twitchy, "50", "55")), 20_000}); err != nil {
		t.Fatal(err)
	}
	f.Advance(30_000)
	if end := r.all[0].Alert; len(r.all) != 1 || end.Reason != ReasonRuleChanged || end.End.Unix() != 20 || end.State != alert.Cleared {
		t.Errorf("end: %+v", r.all)
	}
}

func TestChatteringEndsWithItsSeries(t *testing.T) {
	e, r := newTest(t, twitchy)
	for _, restart := range []bool{false, true} {
		f := openFold(t, e, nil, pm("a"))
		observe(f, 0, 60, 1, 40, 2, 60, 3, 40, 4, 60, 5, 40)
		f.Advance(6000)
		r.all = nil
		if restart {
			f = openFold(t, e, f.Save(nil), pm("b"))
		} else {
			f.Bind(nil)
		}
		if len(r.all) != 1 || r.all[0].Alert.Reason != ReasonSeriesRemoved || len(f.chatter.by) != 0 {
			t.Errorf("restart %v: %+v", restart, r.all)
		}
		r.all = nil
	}
}

func TestARuleMayKeepItsActivationsApart(t *testing.T) {
	e, r := newTest(t, twitchy+"  collapse: false\n")
	f := openFold(t, e, nil, pm("a"))
	for i := range 5 {
		observe(f, float64(2*i), 60, float64(2*i+1), 40)
	}
	if n := len(r.all); n != 10 {
		t.Errorf("%d transitions", n)
	}
	if mustLoad(t, twitchy).Rules()[0].Version == mustLoad(t, twitchy+"  collapse: false\n").Rules()[0].Version {
		t.Error("the version does not tell them apart")
	}
}

func FuzzSavedChatter(f *testing.F) {
	e, _ := newTest(f, twitchy)
	fold := openFold(f, e, nil, pm("a"), pm("b"))
	observe(fold, 0, 60, 1, 40, 2, 60, 3, 40, 4, 60, 5, 40)
	fold.Observe(1, 1000, 60, good)
	for _, key := range fold.chatterKeys() {
		data, err := json.Marshal(savedChatter{key.rule, key.version, key.series.device, key.series.point, fold.chatter.by[key]})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"Rule":"level-high","Device":"a","Point":"pm2_5","State":{"On":true,"Told":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, _ := newTest(t, twitchy)
		fold := openFold(t, e, nil)
		if !fold.loadChatter(data) {
			return
		}
		fold.Bind([]telemetry.BoundSeries{pm("a")})
		observe(fold, 10, 60, 11, 40, 12, 60)
		fold.Unobserved(13_000, 14_000)
		fold.Advance(200_000)
		if _, err := e.Open("e1", fold.Save(nil)); err != nil {
			t.Fatalf("what Save wrote cannot be opened: %v", err)
		}
	})
}

func TestTheWatermarkIsSavedWhileSomethingRests(t *testing.T) {
	e, r := newTest(t, twitchy)
	f := openFold(t, e, nil, pm("a"))
	observe(f, 0, 60, 1, 40, 2, 60, 3, 40, 4, 60, 5, 40)
	f.Save(nil)
	f.Advance(20_000)
	if !f.Dirty() {
		t.Fatal("a series that is removed now would end its alert at the older watermark after a restart")
	}
	f = openFold(t, e, f.Save(nil), pm("a"))
	r.all = nil
	f.Bind(nil)
	r.marks(t, "cleared warning @20 from 4 n=3")
}
