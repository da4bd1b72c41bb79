package e2e

import (
	"bufio"
	"encoding/json"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/scripts/fieldsim/field"
)

func sorted(times iter.Seq[int64]) []int64 { return slices.Sorted(times) }

const plainRule = `
- id: pm25-high
  watch: {quantity: pm2_5}
  collapse: false
  above:
    warning:  {limit: 50,  clear: 45}
    critical: {limit: 150, clear: 140}
  message: {vi: "PM2.5 là {{.Value}}", en: "PM2.5 is {{.Value}}"}
`

const slowRule = `
- id: pm25-slow
  watch: {quantity: pm2_5, where: {site: "24848"}}
  above:
    warning: {limit: 50, clear: 45, for: 1s, clear_for: 500ms}
  message: {vi: "PM2.5 tại {{.Site.Name}} là {{.Value}}", en: "PM2.5 at {{.Site.Name}} is {{.Value}}"}
`

// served reads what the field gave away: device/point -> values with their times.
func (l *line) served() map[key][]sample {
	l.t.Helper()
	f, err := os.Open(filepath.Join(l.dir, "served.ndjson"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	out := map[key][]sample{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var s field.Served
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			continue // the last line of a field that was killed
		}
		if s.Point != "" {
			edge, device, _ := cutDevice(s.Device)
			if edge != "lac-duong-01" {
				continue
			}
			if device == "air-01" {
				device = "air" // as the test's edge.yaml calls it
			}
			out[key{device, s.Point}] = append(out[key{device, s.Point}], sample{s.Time.UnixMilli(), s.Value})
		}
	}
	return out
}

func cutDevice(s string) (edge, device string, ok bool) {
	i := slices.Index([]byte(s), '/')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

func TestReadingsStandInTheStoreAsTheFieldServedThemAndAlertsFollowTheRule(t *testing.T) {
	l := newLine(t, slowRule)
	l.set(pm25Register, 20)
	l.startHub()
	l.startEdge()
	alertsIn := func(state alert.State) []alert.Alert {
		var list struct{ Items []alert.Alert }
		l.get("/api/v1/alerts?state="+string(state), &list)
		return list.Items
	}
	l.eventually(time.Minute, "the store has readings of all devices", func() bool {
		onTime, _ := l.stored()
		return len(onTime[key{"air", "pm2_5"}]) > 3 && len(onTime[key{"tank", "level"}]) > 3 &&
			len(onTime[key{"cabinet-air", "air_temperature"}]) > 0 && len(onTime[key{"gate-cam", "device_up"}]) > 0
	})
	l.set(pm25Register, 120)
	l.eventually(time.Minute, "an alert is active", func() bool { return len(alertsIn(alert.Active)) == 1 })
	l.set(pm25Register, 30)
	l.eventually(time.Minute, "the alert has cleared", func() bool { return len(alertsIn(alert.Cleared)) == 1 })

	type device struct {
		ID, Reason, Revision string
		Up                   *bool
	}
	var devices struct{ Items []device }
	defer func() {
		if t.Failed() {
			t.Logf("devices: %+v", devices.Items)
		}
	}()
	l.eventually(time.Minute, "all devices are up but for the unit that does not exist, and the XY-MD02 tells by its baud register what it is", func() bool {
		l.get("/api/v1/devices", &devices)
		return len(devices.Items) == 5 && !slices.ContainsFunc(devices.Items, func(d device) bool {
			return d.Up == nil || *d.Up == (d.ID == "ghost") || (d.Reason == "") != *d.Up || d.ID == "cabinet-air" && d.Revision != "number"
		})
	})
	accepted := l.handOver()
	onTime, late := l.stored()
	if len(late) > 0 {
		t.Errorf("late readings on an undisturbed line: %v", late)
	}
	compareStored(t, accepted, onTime, late, 0)

	served := l.served()
	for _, k := range []key{{"air", "pm2_5"}, {"air", "air_temperature"}, {"tank", "level"}, {"cabinet-air", "relative_humidity"}} {
		if len(onTime[k]) == 0 {
			t.Errorf("no samples of %v", k)
		}
		for at, v := range onTime[k] {
			if !slices.ContainsFunc(served[k], func(s sample) bool {
				return math.Abs(s.v-v) < 1e-9 && at >= s.t-5000 && at <= s.t+5000
			}) {
				t.Errorf("%v = %v at %d was never served", k, v, at)
			}
		}
	}

	// The alert against the rule, worked out from the stored samples.
	samples := onTime[key{"air", "pm2_5"}]
	var onset, back int64
	for _, at := range sorted(mapKeys(samples)) {
		if onset == 0 && samples[at] > 50 {
			onset = at
		}
		if onset != 0 && back == 0 && samples[at] <= 45 {
			back = at
		}
	}
	a := alertsIn(alert.Cleared)[0]
	if a.Onset.UnixMilli() != onset || a.Start.UnixMilli() != onset+1000 || a.End == nil || a.End.UnixMilli() != back+500 {
		t.Errorf("onset %d start %d end %v, want onset %d start %d end %d", a.Onset.UnixMilli(), a.Start.UnixMilli(), a.End, onset, onset+1000, back+500)
	}
	if a.Site != "24848" || a.Edge != edgeID || a.Device != "air" || a.Peak != 120 || a.Message.VI != "PM2.5 tại Xã Lạc Dương là 30" {
		t.Errorf("%+v", a)
	}
	l.hub.stop()
	l.field.stop()
}

func mapKeys(m map[int64]float64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// compareStored checks that everything accepted stands in the store once, with
// its value. surplus is how many further samples may stand there: those of frames
// that were sent and then lost at the edge before they were committed.
func compareStored(t *testing.T, accepted, onTime, late map[key]map[int64]float64, surplus int) {
	t.Helper()
	n, missing, more := 0, 0, 0
	for k, readings := range accepted {
		for at, v := range readings {
			n++
			got, ok := onTime[k][at]
			lateGot, isLate := late[k][at]
			switch {
			case ok && isLate:
				t.Errorf("%v at %d stands in the store twice", k, at)
			case isLate:
				got = lateGot
			case !ok:
				if missing++; missing < 10 {
					t.Errorf("accepted and not stored: %v = %v at %d", k, v, at)
				}
				continue
			}
			if got != v {
				t.Errorf("%v at %d is %v, stored as %v", k, at, v, got)
			}
		}
	}
	for _, m := range []map[key]map[int64]float64{onTime, late} {
		for k, samples := range m {
			for at := range samples {
				if _, ok := accepted[k][at]; !ok {
					more++
				}
			}
		}
	}
	t.Logf("%d accepted readings, %d missing, %d stored that were never committed at the edge", n, missing, more)
	if n < 50 {
		t.Errorf("only %d readings were accepted: the test proves nothing", n)
	}
	if more > surplus {
		t.Errorf("%d stored samples were never accepted", more)
	}
}

func rounds(t *testing.T, short int) (n int, seed uint64) {
	t.Helper()
	n, seed = short, uint64(time.Now().UnixNano())
	if s := os.Getenv("LANGBIANG_TORTURE_ROUNDS"); s != "" {
		v, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		n = v
	}
	if s := os.Getenv("LANGBIANG_TORTURE_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = v
	}
	t.Logf("seed %d (LANGBIANG_TORTURE_SEED repeats the schedule)", seed)
	return n, seed
}

// follow reports whether the episodes are what [judge] may say of the stored samples:
// of all that are accepted, and of those that an edge sent and lost before its commit,
// each time, of the first ones. A hub that is killed at that moment may have stored
// more of them than it has judged; they stand in no log, so nobody sends them again.
func follow(eps []episode, accepted, stored map[int64]float64) bool {
	type state struct {
		judged judged
		n      int  // of the episodes that have begun
		given  bool // up: what follows was lost, and is not judged
	}
	states := map[state]bool{{}: true}
	for _, t := range sorted(maps.Keys(stored)) {
		_, kept := accepted[t]
		next := map[state]bool{}
		for s := range states {
			if !kept {
				next[state{s.judged, s.n, true}] = true
			}
			if !kept && s.given {
				continue
			}
			was := s.judged
			s.judged.look(stored[t])
			s.given = false
			switch now := s.judged.severity(); {
			case was.severity() == "" && now != "": // begins
				if s.n == len(eps) || eps[s.n].start != t {
					continue
				}
				s.n++
			case was.severity() != "" && now == "": // ends
				if e := eps[s.n-1]; e.end != t || e.severity != was.severity() {
					continue
				}
			}
			next[s] = true
		}
		states = next
	}
	for s := range states {
		active := s.judged.severity()
		if s.n == len(eps) && (active == "" || eps[s.n-1].end == 0 && eps[s.n-1].severity == active) {
			return true
		}
	}
	return false
}

func TestWhatAHubMayHaveJudgedBeforeItWasKilled(t *testing.T) {
	t.Parallel()
	stored := map[int64]float64{1: 20, 2: 60, 3: 170, 4: 20, 5: 60}
	accepted := map[int64]float64{1: 20, 4: 20, 5: 60} // 2 and 3 were lost at the edge
	for name, c := range map[string]struct {
		eps      []episode
		accepted map[int64]float64
		want     bool
	}{
		"all":                            {[]episode{{2, 4, "critical"}, {5, 0, "warning"}}, accepted, true},
		"the first of what was lost":     {[]episode{{2, 4, "warning"}, {5, 0, "warning"}}, accepted, true},
		"nothing of what was lost":       {[]episode{{5, 0, "warning"}}, accepted, true},
		"the second without the first":   {[]episode{{3, 4, "critical"}, {5, 0, "warning"}}, accepted, false},
		"not what was accepted":          {[]episode{{2, 4, "critical"}}, accepted, false},
		"more than there is":             {[]episode{{2, 4, "critical"}, {5, 0, "warning"}, {6, 0, "warning"}}, accepted, false},
		"another severity":               {[]episode{{2, 4, "critical"}, {5, 0, "critical"}}, accepted, false},
		"less, and nothing was lost":     {[]episode{{5, 0, "warning"}}, stored, false},
		"all, and nothing was lost":      {judge(stored), stored, true},
		"an end where nothing came back": {[]episode{{2, 4, "critical"}, {5, 6, "warning"}}, accepted, false},
	} {
		if got := follow(c.eps, c.accepted, stored); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestKilledInMidFlightNothingAcceptedIsLostAndNoAlertIsDoubled(t *testing.T) {
	n, seed := rounds(t, 6)
	rnd := rand.New(rand.NewPCG(seed, 1))
	l := newLine(t, plainRule)
	l.startHub()
	l.startEdge()
	levels := []int{20, 60, 48, 170, 145, 30}
	for i := range n {
		for range 4 {
			l.set(pm25Register, levels[rnd.IntN(len(levels))])
			<-time.After(time.Duration(150+rnd.IntN(300)) * time.Millisecond)
		}
		killEdge, killHub := rnd.IntN(2) == 0, rnd.IntN(2) == 0
		if !killEdge && !killHub {
			killEdge, killHub = i%2 == 0, i%2 == 1
		}
		t.Logf("round %d: edge %v, hub %v", i, killEdge, killHub)
		if killHub {
			l.hub.kill()
		}
		if killEdge {
			l.edge.kill()
		}
		<-time.After(time.Duration(rnd.IntN(600)) * time.Millisecond)
		if killEdge {
			l.startEdge()
		}
		if killHub {
			l.startHub()
		}
	}
	l.set(pm25Register, 30)
	before := len(l.onTimeOf("air", "pm2_5"))
	l.eventually(time.Minute, "readings arrive again", func() bool { return len(l.onTimeOf("air", "pm2_5")) > before+5 })
	accepted := l.handOver()
	onTime, late := l.stored()
	compareStored(t, accepted, onTime, late, 1_000_000)

	// Alerts: numbered without holes, none twice, and exactly those of the samples.
	seen := map[string]bool{}
	raised := map[string]int{}
	for _, e := range l.entries() {
		if k := e.Key(); seen[k] {
			t.Errorf("transition %s stands in the log twice", k)
		} else {
			seen[k] = true
		}
		if e.Kind == alert.Raised {
			raised[e.Alert.ID]++
		}
	}
	for id, n := range raised {
		if n != 1 {
			t.Errorf("alert %s was raised %d times", id, n)
		}
	}
	var list struct{ Items []alert.Alert }
	l.get("/api/v1/alerts?limit=1000", &list)
	var got []episode
	for _, a := range list.Items {
		e := episode{start: a.Start.UnixMilli(), severity: a.Severity.String()}
		if a.End != nil {
			e.end = a.End.UnixMilli()
		}
		got = append(got, e)
	}
	slices.SortFunc(got, func(a, b episode) int { return int(a.start - b.start) })
	want := judge(onTime[key{"air", "pm2_5"}])
	if len(want) < 2 {
		t.Errorf("only %d episodes: the test proves little", len(want))
	}
	if !follow(got, accepted[key{"air", "pm2_5"}], onTime[key{"air", "pm2_5"}]) {
		t.Errorf("episodes differ from a plain evaluation of the stored samples:\n%s", cmp.Diff(want, got, cmp.AllowUnexported(episode{})))
	}
	l.hub.stop()
}

// handOver stops the edge once the hub has everything, and returns what the edge
// had accepted. An edge that is stopped before it could send all keeps it for its
// next start, so it may take more than one.
func (l *line) handOver() map[key]map[int64]float64 {
	l.t.Helper()
	for range 20 {
		l.edge.stop()
		l.edge = nil
		accepted, last := l.accepted()
		if l.has(last, 3*time.Second) {
			return accepted
		}
		l.startEdge()
		l.eventually(time.Minute, "the hub has caught up", func() bool { return l.position().Epoch != last.Epoch.String() })
	}
	l.t.Fatal("the edge never got rid of its log")
	return nil
}

func (l *line) onTimeOf(device, point string) map[int64]float64 {
	onTime, _ := l.stored()
	return onTime[key{device, point}]
}
