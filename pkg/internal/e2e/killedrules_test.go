package e2e

import (
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/rules"
)

const rememberingRules = plainRule + `
- {id: held, watch: {quantity: pm2_5}, collapse: false, above: {warning: {limit: 60, clear: 50, for: 500ms, clear_for: 300ms}}}
- {id: mean, watch: {quantity: pm2_5}, collapse: false, window: {mean: 2s, step: 500ms}, above: {warning: {limit: 70, clear: 60}}}
- {id: flat, watch: {quantity: pm2_5}, collapse: false, flatline: {epsilon: 0, info: {for: 800ms}}}
- {id: trembles, watch: {quantity: pm2_5}, above: {warning: {limit: 100}}}
- {id: silent, watch: {quantity: pm2_5}, no_data: {warning: {for: 1m}}}
- {id: both, several: {of: [pm25-high, held, mean], count: rule, severity: warning, critical: {at_least: 2}}}
`

// The hub is killed again and again while rules that remember something run. What
// the alert log has at the end is what a plain evaluation of the edge's own log says;
// and an empty hub that gets the same log tells the same.
func TestKilledByDiceTheHubsEpisodesAreThoseOfTheEdgesLog(t *testing.T) {
	n, seed := rounds(t, 4)
	rnd := rand.New(rand.NewPCG(seed, 3))
	l := newLine(t, rememberingRules)
	l.set(pm25Register, 30)
	l.startHub()
	l.startEdge()
	l.eventually(time.Minute, "readings arrive", func() bool { return len(l.onTimeOf("air", "pm2_5")) > 3 })
	for _, level := range []int{170, 20} { // so that every rule has an episode
		l.set(pm25Register, level)
		l.eventually(time.Minute, "a level stands for a while", func() bool {
			samples := l.onTimeOf("air", "pm2_5")
			times := slices.Sorted(maps.Keys(samples))
			first := len(times)
			for first > 0 && samples[times[first-1]] == float64(level) {
				first--
			}
			return first < len(times) && times[len(times)-1]-times[first] >= 2500
		})
	}
	levels := []int{20, 55, 65, 48, 170, 145, 80, 30}
	for range n {
		for range 3 + rnd.IntN(5) {
			l.set(pm25Register, levels[rnd.IntN(len(levels))])
			<-time.After(time.Duration(50+rnd.IntN(900)) * time.Millisecond)
		}
		l.hub.kill()
		<-time.After(time.Duration(rnd.IntN(800)) * time.Millisecond)
		l.startHub()
	}
	l.set(pm25Register, 30)
	before := len(l.onTimeOf("air", "pm2_5"))
	l.eventually(time.Minute, "readings arrive again", func() bool { return len(l.onTimeOf("air", "pm2_5")) > before+12 })
	accepted := l.handOver()
	samples := accepted[key{"air", "pm2_5"}]
	until := slices.Max(slices.Collect(maps.Keys(samples)))
	// Rules of kind several settle once a second.
	l.eventually(time.Minute, "all is settled", func() bool { return !l.provisional(until) })
	told := l.told(until)

	got := map[string][]episode{}
	for _, lines := range told {
		for i := range lines {
			tr := &lines[i]
			e := episode{start: tr.Alert.Start.UnixMilli(), severity: tr.Alert.Severity.String()}
			list := got[tr.Alert.Rule]
			switch k := slices.IndexFunc(list, func(x episode) bool { return x.start == e.start }); {
			case k < 0:
				got[tr.Alert.Rule] = append(list, e)
			default:
				if list[k].severity = e.severity; tr.Kind == alert.Ended {
					list[k].end = tr.Time.UnixMilli()
				}
			}
		}
	}
	for rule, want := range map[string][]episode{
		"pm25-high": judge(samples), "held": judgeHeld(samples), "mean": judgeMean(samples), "flat": judgeFlat(samples),
	} {
		if len(want) == 0 {
			t.Errorf("no episode of %s: the test proves nothing about it", rule)
		}
		list := got[rule]
		slices.SortFunc(list, func(a, b episode) int { return int(a.start - b.start) })
		if diff := cmp.Diff(want, list, cmp.AllowUnexported(episode{})); diff != "" {
			t.Errorf("%s: episodes differ from a plain evaluation of the edge's log:\n%s", rule, diff)
		}
	}
	t.Logf("episodes: %d plain, %d held, %d mean, %d flat, %d both; %d alerts", len(got["pm25-high"]), len(got["held"]), len(got["mean"]), len(got["flat"]), len(got["both"]), len(told))

	// An empty hub asks the edge for all that it keeps.
	l.hub.kill()
	if err := os.Rename(filepath.Join(l.dir, "hub"), filepath.Join(l.dir, "hub-before")); err != nil {
		t.Fatal(err)
	}
	l.startHub()
	l.startEdge()
	l.eventually(time.Minute, "the empty hub has caught up", func() bool { return len(after(l.onTimeOf("air", "pm2_5"), until)) > 5 })
	l.eventually(time.Minute, "the empty hub has settled as much", func() bool { return !l.provisional(until) && len(l.told(until)) >= len(told) })
	again := l.told(until)
	if diff := cmp.Diff(told, again); diff != "" {
		t.Errorf("the alert log of an empty hub differs (-killed +empty):\n%s", diff)
	}
	l.handOver()
	l.hub.stop()
}

func after(samples map[int64]float64, t int64) (out []int64) {
	for at := range samples {
		if at > t {
			out = append(out, at)
		}
	}
	return out
}

// provisional reports whether an alert that began up to the time is not settled yet.
func (l *line) provisional(until int64) bool {
	l.t.Helper()
	open := map[string]bool{}
	for _, e := range l.entries() {
		if e.Alert.Start.UnixMilli() <= until {
			open[e.Alert.ID] = e.Alert.Provisional
		}
	}
	return slices.Contains(slices.Collect(maps.Values(open)), true)
}

// told returns what the alert log says of each alert up to the time, but for when it
// was recorded, and for what was provisional.
func (l *line) told(until int64) map[string][]alert.Transition {
	l.t.Helper()
	out := map[string][]alert.Transition{}
	seen := map[string]bool{}
	for _, e := range l.entries() {
		if k := e.Key(); seen[k] {
			l.t.Errorf("transition %s stands in the alert log twice", k)
		} else {
			seen[k] = true
		}
		tr := e.Transition
		if tr.Time.UnixMilli() > until || tr.Kind == alert.Foreseen || tr.Alert.Reason == rules.ReasonRevised || tr.Alert.Rule == rules.RuleOffline {
			continue
		}
		tr.Alert.Sequence, tr.Alert.Recorded = 0, time.Time{}
		out[tr.Alert.ID] = append(out[tr.Alert.ID], tr)
	}
	return out
}

// judgeHeld is "above 60 (clear 50) for 500 ms, back for 300 ms".
func judgeHeld(samples map[int64]float64) (eps []episode) {
	over, active, moved := false, false, int64(math.MinInt64/2)
	settle := func(t int64) {
		switch {
		case over && !active && moved+500 <= t:
			active = true
			eps = append(eps, episode{start: moved + 500, severity: "warning"})
		case !over && active && moved+300 <= t:
			active = false
			eps[len(eps)-1].end = moved + 300
		}
	}
	for _, t := range sorted(maps.Keys(samples)) {
		settle(t - 1)
		v := samples[t]
		if is := v > 60 || over && v > 50; is != over {
			over, moved = is, t
		}
		settle(t)
	}
	return eps
}

// judgeMean is "the mean of four steps of half a second above 70 (clear 60)", at
// every reading and at the end of every step.
func judgeMean(samples map[int64]float64) (eps []episode) {
	const step = 500
	times := sorted(maps.Keys(samples))
	stepOf := func(t int64) int64 { return (t - 1) / step }
	active := false
	look := func(t int64) {
		var sum, n float64
		newest := stepOf(t)
		if _, ok := samples[t]; !ok && !slices.ContainsFunc(times, func(x int64) bool { return x <= t && stepOf(x) == newest }) {
			newest-- // the step that runs has no reading yet
		}
		for _, x := range times {
			if x <= t && stepOf(x) <= newest && stepOf(x) > newest-4 {
				sum += samples[x]
				n++
			}
		}
		switch x := sum / n; {
		case n == 0:
		case !active && x > 70:
			active = true
			eps = append(eps, episode{start: t, severity: "warning"})
		case active && x <= 60:
			active = false
			eps[len(eps)-1].end = t
		}
	}
	for i, t := range times {
		look(t)
		if i+1 == len(times) {
			break
		}
		for end := (stepOf(t)+1)*step + 1; end < times[i+1]; end += step {
			look(end)
		}
	}
	return eps
}

// judgeFlat is "the same for 800 ms".
func judgeFlat(samples map[int64]float64) (eps []episode) {
	var since int64
	value, active := math.NaN(), false
	for _, t := range sorted(maps.Keys(samples)) {
		if v := samples[t]; v != value {
			if active {
				eps[len(eps)-1].end = t
			}
			value, since, active = v, t, false
		} else if !active && t-since >= 800 {
			active = true
			eps = append(eps, episode{start: t, severity: "info"})
		}
	}
	return eps
}
