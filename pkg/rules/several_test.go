package rules

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// step is one step of a member's alert.
type step struct {
	edge int
	t    int64
	tr   alert.Transition
}

func memberAlert(edge int, series string, start int64, severity alert.Severity) alert.Alert {
	e := fmt.Sprintf("e%d", edge)
	return alert.Alert{
		ID: alert.NewID("rain", "v", alert.SeriesKey(e, series, "p"), start), Rule: "rain", Severity: severity, State: alert.Active,
		Start: at(start), Site: fmt.Sprintf("s%d", edge%2), Edge: e, Device: series, Point: "p",
	}
}

// randomMembers makes alerts of some series on some edges, in order for each edge.
func randomMembers(rnd *rand.Rand, edges int, end int64) (out [][]step) {
	for e := range edges {
		var list []step
		for k := range 1 + rnd.IntN(3) {
			for t := 1000 + rnd.Int64N(100); t < end; t += 1 + rnd.Int64N(200) {
				a := memberAlert(e, fmt.Sprintf("d%d", k), t, alert.Severity(1+rnd.IntN(3)))
				list = append(list, step{e, t, alert.Transition{Kind: alert.Raised, Time: at(t), Alert: a}})
				if rnd.IntN(3) == 0 {
					t += 1 + rnd.Int64N(50)
					a.Severity = alert.Severity(1 + rnd.IntN(3))
					list = append(list, step{e, t, alert.Transition{Kind: alert.SeverityChanged, Time: at(t), Alert: a}})
				}
				t += 1 + rnd.Int64N(150)
				if t < end {
					a.State = alert.Cleared
					list = append(list, step{e, t, alert.Transition{Kind: alert.Ended, Time: at(t), Alert: a}})
				}
			}
		}
		slices.SortStableFunc(list, func(a, b step) int { return int(a.t - b.t) })
		out = append(out, list)
	}
	return out
}

// severalOracle counts at every millisecond.
func severalOracle(members [][]step, end int64, levels []logLevel, severity alert.Severity, count, by string) (out []string) {
	groups := map[string]bool{}
	for _, list := range members {
		for _, s := range list {
			groups[groupOf(&s.tr.Alert, by)] = true
		}
	}
	for g := range groups {
		standing := map[string]alert.Alert{}
		m := &oracleRule{rule: logRule{shape: isAtLeast, levels: levels}}
		s := &oracleSeries{out: map[string][]string{}}
		for t := int64(1000); t <= end; t++ {
			for _, list := range members {
				for _, x := range list {
					if x.t != t || groupOf(&x.tr.Alert, by) != g {
						continue
					}
					delete(standing, x.tr.Alert.ID)
					if x.tr.Kind != alert.Ended {
						standing[x.tr.Alert.ID] = x.tr.Alert
					}
				}
			}
			things := map[string]bool{}
			for _, a := range standing {
				if a.Severity >= severity {
					things[map[string]string{"series": a.Edge + "/" + a.Device, "edge": a.Edge, "rule": a.Rule}[count]] = true
				}
			}
			s.value = float64(len(things))
			m.judge(t, s.value)
			s.delays(m, t)
		}
		for _, steps := range s.out {
			for _, x := range steps {
				out = append(out, g+" "+strings.Join(strings.Fields(x)[:3], " "))
			}
		}
	}
	slices.Sort(out)
	return out
}

func groupOf(a *alert.Alert, by string) string {
	if by == "site" {
		return "site=" + a.Site
	}
	return ""
}

func TestSettledEpisodesOfSeveralEqualTheOracle(t *testing.T) {
	const end = 2500
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		count := []string{"series", "edge", "rule"}[rnd.IntN(3)]
		by := []string{"", "site"}[rnd.IntN(2)]
		severity := alert.Severity(1 + rnd.IntN(2))
		levels := []logLevel{{severity: alert.Warning, limit: float64(1 + rnd.IntN(2)), hold: rnd.Int64N(3) * 20, clearFor: rnd.Int64N(3) * 15}}
		levels = append(levels, logLevel{severity: alert.Critical, limit: levels[0].limit + float64(rnd.IntN(3)), hold: rnd.Int64N(2) * 25})
		text := "- {id: rain, watch: {quantity: pm2_5}, above: {info: {limit: 1}}}\n- id: many\n  several:\n    of: \"ra*\"\n"
		if by != "" {
			text += "    by: " + by + "\n"
		}
		text += fmt.Sprintf("    count: %s\n    severity: %s\n", count, severity)
		for _, l := range levels {
			text += fmt.Sprintf("    %s: {at_least: %v, for: %dms, clear_for: %dms}\n", l.severity, l.limit, l.hold, l.clearFor)
		}
		members := randomMembers(rnd, 2+rnd.IntN(3), end)
		want := severalOracle(members, end, levels, severity, count, by)

		seen := map[string]bool{}
		var log []alert.Transition // of members, as the alert log would have it
		var got []string
		engine := func() *Engine {
			return NewEngine([]Effective{{mustLoad(t, text), Always}}, func(tr alert.Transition) {
				if seen[tr.Key()] {
					return
				}
				seen[tr.Key()] = true
				log = append(log, tr)
				if tr.Alert.Provisional || tr.Alert.Reason == ReasonRevised {
					return
				}
				got = append(got, fmt.Sprintf("%s %s %s @%d", tr.Alert.Device, tr.Kind, tr.Alert.Severity, tr.Time.UnixMilli()))
			})
		}
		e := engine()
		begin := func() {
			var ids []string
			for i := range members {
				ids = append(ids, fmt.Sprintf("e%d", i))
			}
			e.Expect(ids, time.Time{})
		}
		begin()
		next := make([]int, len(members))
		w := make([]int64, len(members))
		for i := range w {
			w[i] = 999
		}
		for !slices.Equal(w, slices.Repeat([]int64{end}, len(w))) {
			i := rnd.IntN(len(members))
			w[i] = min(end, w[i]+rnd.Int64N(300))
			for ; next[i] < len(members[i]) && members[i][next[i]].t <= w[i]; next[i]++ {
				tr := members[i][next[i]].tr
				log = append(log, tr)
				e.gather.member(tr, false)
				if rnd.IntN(5) == 0 {
					e.gather.member(tr, false) // told again by a replay
				}
			}
			e.gather.advance(fmt.Sprintf("e%d", i), w[i], math.MinInt64)
			if rnd.IntN(12) == 0 { // the hub starts again
				e = engine()
				begin()
				e.Recall(log)
				for k := range w {
					if rnd.IntN(2) == 0 || k == i {
						e.gather.advance(fmt.Sprintf("e%d", k), w[k], math.MinInt64)
					}
				}
			}
		}
		for k := range w {
			e.gather.advance(fmt.Sprintf("e%d", k), w[k], math.MinInt64)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d\n%s\ngot\n  %s\nwant\n  %s", seed, text, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}

const severalRain = `
- {id: rain, watch: {quantity: pm2_5}, above: {info: {limit: 10}}}
- id: many
  several: {of: rain, by: site, warning: {at_least: 2}}
`

func TestSeveralIsToldAtOnceAndConfirmedOrRevised(t *testing.T) {
	e, r := newTest(t, severalRain)
	e.Expect([]string{"e0", "e2", "e4"}, time.Time{})
	raise := func(edge int, t int64) {
		e.gather.member(alert.Transition{Kind: alert.Raised, Time: at(t), Alert: memberAlert(edge, "d", t, alert.Info)}, false)
	}
	raise(0, 1000)
	raise(2, 1100)
	r.expect(t, "provisional warning @1100 v=2 p=2 l=2")
	raise(4, 1050) // heard later, happened before
	for _, id := range []string{"e0", "e2"} {
		e.gather.advance(id, 2000, math.MinInt64)
	}
	r.expect(t)
	e.gather.advance("e4", 1060, math.MinInt64)
	r.expect(t, "cleared warning @1100 v=2 p=2 l=2 (revised)", "raised warning @1050 v=2 p=2 l=2")
	e.gather.advance("e4", 2000, math.MinInt64)
	r.expect(t)
}

func TestAnEdgeThatIsOfflineTooLongIsLeftOutAndNamed(t *testing.T) {
	e, r := newTest(t, severalRain)
	now := time.Unix(5000, 0)
	e.Expect([]string{"e0", "e2", "e4"}, now)
	for _, edge := range []int{0, 2} {
		e.gather.member(alert.Transition{Kind: alert.Raised, Time: at(1000), Alert: memberAlert(edge, "d", 1000, alert.Info)}, false)
		e.gather.advance(fmt.Sprintf("e%d", edge), 2000, math.MinInt64)
	}
	r.take()
	e.Settle(now.Add(time.Minute), time.Hour)
	r.expect(t)
	for _, id := range []string{"e0", "e2"} {
		e.gather.advance(id, 3000, math.MinInt64)
	}
	e.Settle(now.Add(61*time.Minute), time.Hour)
	if len(r.all) != 1 || r.all[0].Kind != alert.Raised || r.all[0].Alert.Labels[LabelLeftOut] != "e4" || r.all[0].Alert.Provisional {
		t.Errorf("got %+v", r.all)
	}
}

func TestAMemberThatIsHeardLaterLetsTheCountBeReachedLater(t *testing.T) {
	e, r := newTest(t, severalRain)
	e.Expect([]string{"e0", "e2", "e4"}, time.Time{})
	for _, x := range []struct {
		edge int
		t    int64
	}{{0, 1100}, {2, 1050}} {
		e.gather.member(alert.Transition{Kind: alert.Raised, Time: at(x.t), Alert: memberAlert(x.edge, "d", x.t, alert.Info)}, false)
	}
	r.expect(t, "provisional warning @1100 v=2 p=2 l=2")
}

// An edge's clock is set back by more than the others are behind: what it tells then
// counts from where it had been, and not never.
func TestMembersOfAnEdgeWhoseClockGoesBackAreCounted(t *testing.T) {
	text := `
- {id: rain, watch: {quantity: pm2_5}, above: {info: {limit: 10}}}
- id: many
  several: {of: rain, by: site, warning: {at_least: 2}}
`
	var log []alert.Transition
	var got []string
	run := func(recall []alert.Transition) (*Engine, func(edge string, saved []byte) *Fold) {
		log, got = nil, nil
		e := NewEngine([]Effective{{mustLoad(t, text), Always}}, func(tr alert.Transition) {
			log = append(log, tr)
			if tr.Alert.Rule == "many" && settled(&tr) {
				got = append(got, fmt.Sprintf("%s @%d", tr.Kind, tr.Time.UnixMilli()))
			}
		})
		e.Expect([]string{"e1", "e2"}, time.Time{})
		e.Recall(recall)
		return e, func(edge string, saved []byte) *Fold {
			f, err := e.Open(edge, saved)
			if err != nil {
				t.Fatal(err)
			}
			b := pm("d")
			b.Edge = edge
			f.Bind([]telemetry.BoundSeries{b})
			return f
		}
	}
	_, open := run(nil)
	a, b := open("e1", nil), open("e2", nil)
	a.Advance(1000)
	b.Advance(1000)
	a.Advance(9000)
	b.Observe(0, 8000, 20, good)
	b.Advance(8990)
	b.NewEra(8990, 5000)
	b.Observe(0, 5000, 5, good) // ends at 5000, which counts at 8991
	b.Advance(5500)
	a.Observe(0, 9500, 20, good)
	a.Advance(9900)
	b.Observe(0, 6000, 20, good)
	b.Advance(7000)
	stateA, stateB := a.Save(nil), b.Save(nil)
	finish := func(a, b *Fold) {
		b.Observe(0, 9700, 5, good)
		b.Advance(20_000)
		a.Advance(20_000)
	}
	finish(a, b)
	want := []string{"raised @9500", "cleared @9700"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	told := slices.DeleteFunc(slices.Clone(log), func(tr alert.Transition) bool {
		return tr.Time.UnixMilli() >= 9700 && tr.Alert.Edge == "e2" || tr.Alert.Rule == "many"
	})
	_, open = run(told) // the hub was killed before the end
	finish(open("e1", stateA), open("e2", stateB))
	if !slices.Equal(got, want) {
		t.Errorf("after a restart: got %v, want %v", got, want)
	}
}

func TestMembersOfSeriesThatAreRemovedAreCountedNoMore(t *testing.T) {
	e, r := newTest(t, "- {id: rain, watch: {quantity: pm2_5}, above: {info: {limit: 10}}}\n- id: many\n  several: {of: rain, warning: {at_least: 2}}\n")
	f := openFold(t, e, nil, pm("a"), pm("b"))
	f.Advance(1000)
	f.Observe(0, 1100, 20, good)
	f.Observe(1, 1100, 20, good)
	f.Advance(1200)
	r.all = slices.DeleteFunc(r.all, func(tr alert.Transition) bool { return tr.Alert.Rule == "rain" || !settled(&tr) })
	r.expect(t, "raised warning @1100 v=2 p=2 l=2")
	f.Bind([]telemetry.BoundSeries{pm("a")})
	f.Advance(1300)
	r.expect(t, "cleared info @1200 v=20 p=20 l=10 (series removed)", "cleared warning @1201 v=1 p=2 l=2")
}

func TestASourceInsideTheHubHoldsUpNothingItDoesNotTakePartIn(t *testing.T) {
	e, r := newTest(t, "- {id: rain, watch: {quantity: pm2_5}, above: {info: {limit: 10}}}\n- {id: index, watch: {quantity: water_level}, above: {info: {limit: 10}}}\n- id: many\n  several: {of: rain, warning: {at_least: 2}}\n")
	e.Inside(func(edge string) bool { return edge == "derived" })
	e.Expect([]string{"e1", "derived"}, time.Time{})
	series := func(quantity, device string) telemetry.BoundSeries {
		s := pm(device)
		s.Edge, s.Quantity, s.MaxLag = "derived", quantity, 100_000
		return s
	}
	derived, err := e.Open("derived", nil)
	if err != nil {
		t.Fatal(err)
	}
	derived.Bind([]telemetry.BoundSeries{series("water_level", "x")})
	derived.Advance(1000)
	f := openFold(t, e, nil, pm("a"), pm("b"))
	f.Advance(1000)
	f.Observe(0, 1100, 20, good)
	f.Observe(1, 1100, 20, good)
	f.Advance(1200)
	r.all = slices.DeleteFunc(r.all, func(tr alert.Transition) bool { return tr.Alert.Rule == "rain" || !settled(&tr) })
	r.expect(t, "raised warning @1100 v=2 p=2 l=2")

	// With a series that counts it is waited for.
	derived.Bind([]telemetry.BoundSeries{series("water_level", "x"), series("pm2_5", "y")})
	derived.Advance(1200)
	f.Observe(0, 1300, 1, good)
	f.Advance(1400)
	r.all = slices.DeleteFunc(r.all, func(tr alert.Transition) bool { return tr.Alert.Rule == "rain" || !settled(&tr) })
	r.expect(t)
	derived.Advance(101_300)
	r.expect(t, "cleared warning @1300 v=1 p=2 l=2")
}

// BenchmarkSeveralFlood is a step of one of 10,000 standing members, with a group of
// all and one for each site, while an edge that is cut off holds up what is settled
// or none does.
func BenchmarkSeveralFlood(b *testing.B) {
	text := severalRain + "- id: all\n  several: {of: rain, warning: {at_least: 20000}}\n"
	for _, held := range []bool{false, true} {
		b.Run(fmt.Sprintf("held=%v", held), func(b *testing.B) {
			e := NewEngine([]Effective{{mustLoad(b, text), Always}}, func(alert.Transition) {})
			e.Expect([]string{"e0"}, time.Time{})
			if held {
				e.Expect([]string{"away"}, time.Time{})
			}
			const n = 10_000
			t := int64(1000)
			tell := func(k alert.Kind, i int) {
				t++
				a := memberAlert(0, fmt.Sprintf("d%d", i), 1000+int64(i), alert.Info)
				a.Site = fmt.Sprint("s", i%100)
				e.gather.member(alert.Transition{Kind: k, Time: at(t), Alert: a}, false)
				if i%10 == 0 {
					e.gather.advance("e0", t, math.MinInt64)
				}
			}
			for i := range n {
				tell(alert.Raised, i)
			}
			b.ResetTimer()
			for i := range b.N {
				tell([]alert.Kind{alert.Ended, alert.Raised}[i/n%2], i%n)
			}
		})
	}
}
