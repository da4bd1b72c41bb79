package telemetry_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestAQualityIsOneByteThatKeepsStatusAndReason(t *testing.T) {
	for b := range 256 {
		q := telemetry.Quality(b)
		if q.Status() > telemetry.Bad {
			t.Errorf("%#x has status %d", b, q.Status())
		}
		if b>>6 != 3 && telemetry.NewQuality(q.Status(), q.Reason()) != q {
			t.Errorf("%#x does not survive", b)
		}
		if q.String() == "" || q.IsBad() != (q.Status() == telemetry.Bad) {
			t.Errorf("%#x", b)
		}
	}
	for q, want := range map[telemetry.Quality]string{
		0: "good",
		telemetry.BadQuality(telemetry.ReasonNoAnswer):                   "bad: no_answer",
		telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonClock): "uncertain: clock",
		telemetry.NewQuality(telemetry.Good, telemetry.ReasonWarmUp):     "good: warm_up",
		telemetry.NewQuality(telemetry.Bad, 63):                          "bad: reason_63",
		telemetry.BadQuality(telemetry.ReasonConfiguration):              "bad: configuration",
		0xC0: "bad",
	} {
		if got := q.String(); got != want {
			t.Errorf("%#x: %q, want %q", uint8(q), got, want)
		}
	}
}

func TestValuesThatAreNotFiniteAreBad(t *testing.T) {
	uncertain := telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonClock)
	outside := telemetry.BadQuality(telemetry.ReasonOutOfRange)
	for _, c := range []struct {
		v        float64
		in, want telemetry.Quality
	}{
		{1, 0, 0},
		{1, uncertain, uncertain},
		{math.NaN(), 0, telemetry.BadQuality(telemetry.ReasonNonFinite)},
		{math.Inf(-1), uncertain, telemetry.BadQuality(telemetry.ReasonNonFinite)},
		{math.NaN(), outside, outside},
	} {
		if got := telemetry.Check(c.v, c.in); got != c.want {
			t.Errorf("%v %v: %v, want %v", c.v, c.in, got, c.want)
		}
	}
}

func TestLabelsAreSortedAndFound(t *testing.T) {
	m := map[string]string{"spot": "market", "floor": "2", "z": ""}
	ls := telemetry.NewLabels(m)
	if diff := cmp.Diff(telemetry.Labels{{Name: "floor", Value: "2"}, {Name: "spot", Value: "market"}, {Name: "z"}}, ls); diff != "" {
		t.Error(diff)
	}
	if ls.Get("spot") != "market" || ls.Get("none") != "" {
		t.Error(ls)
	}
	if diff := cmp.Diff(m, ls.Map()); diff != "" {
		t.Error(diff)
	}
}

func TestAPhraseFallsBackToTheOtherLanguage(t *testing.T) {
	for _, c := range []struct {
		text       telemetry.Text
		lang, want string
	}{
		{telemetry.Text{VI: "gió", EN: "wind"}, "vi", "gió"},
		{telemetry.Text{VI: "gió", EN: "wind"}, "en", "wind"},
		{telemetry.Text{VI: "gió"}, "en", "gió"},
		{telemetry.Text{EN: "wind"}, "vi", "wind"},
		{telemetry.Text{VI: "gió", EN: "wind"}, "fr", "gió"},
	} {
		if got := c.text.In(c.lang); got != c.want {
			t.Errorf("%v in %s: %q", c.text, c.lang, got)
		}
	}
}
