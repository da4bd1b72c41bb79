package alert

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const minute = int64(60_000)

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func TestStatisticsByISA(t *testing.T) {
	day := 24 * 60 * minute
	var es []Episode
	es = append(es, Episode{ID: "stale", Start: day / 2, End: math.MaxInt64, Severity: Warning, Site: "a", Rule: "r1", Series: "e/d/p"})
	for i := range int64(12) { // a flood of two rules
		es = append(es, Episode{Start: 2*day + i*minute/2, End: 2*day + i*minute, Severity: Critical, Site: "a", Rule: []string{"r1", "r2", "r2"}[i%3], Series: "e/d/p"})
	}
	es = append(es,
		Episode{Start: 2*day + 30*minute, End: 2*day + 30*minute + 5, Severity: Info, Site: "b", Rule: "r1", Series: "e/x/p", Activations: 7},
		Episode{Start: 2*day + 40*minute, End: math.MaxInt64, Rule: "r1", Site: "b", Series: "e/x/p", Held: true},
		Episode{Start: 2*day + 41*minute, End: math.MaxInt64, Rule: "r1", Site: "b", Series: "e/x/p", Test: true},
		Episode{Start: 4 * day, End: math.MaxInt64, Rule: "r1"},
	)
	st := Summarise(es, at(2*day), at(3*day))
	if st.Alerts != 13 || st.Held != 1 || st.PerHour != 13.0/24 || st.Fleeting != 2 {
		t.Errorf("%+v", st)
	}
	if diff := cmp.Diff([]Hour{{at(2 * day), 13}}, st.Hours); diff != "" {
		t.Error(diff)
	}
	if len(st.Top) != 3 || st.Top[0].Rule != "r2" || st.Top[0].Alerts != 8 || st.Top[0].Share != 8.0/13 {
		t.Errorf("top %+v", st.Top)
	}
	if len(st.Chattering) != 1 || st.Chattering[0].Activations != 5 || st.Chattering[0].Series != "e/x/p" {
		t.Errorf("chattering %+v", st.Chattering)
	}
	if st.Standing.Count != 1 || st.Standing.Items[0].ID != "stale" {
		t.Errorf("standing %+v", st.Standing)
	}
	// The 11th alert comes after 5 min; after 13.5 min the 4 newest are left.
	want := []Flood{{Start: at(2*day + 5*minute), End: at(2*day + 10*minute + 7*minute/2), Alerts: 12, Peak: 12}}
	if diff := cmp.Diff(want, st.Floods); diff != "" {
		t.Error(diff)
	}
	if empty := Summarise(nil, at(0), at(day)); empty.Alerts != 0 || empty.PerHour != 0 || empty.Top == nil {
		t.Errorf("%+v", empty)
	}
}

// plainFloods asks of every second how many alerts the ten minutes before it hold.
func plainFloods(starts []int64, from, to int64) (out []string) {
	begin := int64(-1)
	for t := from; t < to; t += 1000 {
		n, now := 0, false
		for _, s := range starts {
			if s <= t && s+FloodWindow.Milliseconds() > t {
				n++
			}
			now = now || s == t
		}
		switch {
		case begin < 0 && n > FloodBegins && now:
			begin = t
		case begin >= 0 && n < FloodEnds:
			out = append(out, fmt.Sprint(begin, t))
			begin = -1
		}
	}
	if begin >= 0 {
		out = append(out, fmt.Sprint(begin, to))
	}
	return out
}

func TestFloodsEqualThoseOfAPlainCount(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for seed := range 20 {
		var es []Episode
		var starts []int64
		to := 40 * minute
		for n := rnd.IntN(60); n > 0; n-- {
			starts = append(starts, rnd.Int64N(to/1000)*1000)
		}
		slices.Sort(starts)
		for _, s := range starts {
			es = append(es, Episode{Start: s, End: s + 1})
		}
		var got []string
		for _, f := range Summarise(es, at(0), at(to)).Floods {
			got = append(got, fmt.Sprint(f.Start.UnixMilli(), f.End.UnixMilli()))
		}
		if want := plainFloods(starts, 0, to); !slices.Equal(want, got) {
			t.Fatalf("round %d: %v, want %v", seed, got, want)
		}
	}
}
