package rules

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// runner feeds a log to folds, cut, crashed and repeated at random.
type runner struct {
	t      *testing.T
	rnd    *rand.Rand
	log    *oracleLog
	edge   string
	site   string
	sets   []Effective
	engine *Engine
	fold   *Fold
	order  []int // of the bound series
	seen   map[string]bool
	out    map[string][]string
	frames []logFrame
}

type logFrame struct {
	era      int
	newEra   bool
	stops    [][2]int64
	readings []logReading
	w        int64
}

func (r *runner) emit(t alert.Transition) {
	if r.seen[t.Key()] {
		return
	}
	r.seen[t.Key()] = true
	a := &t.Alert
	name := fmt.Sprintf("%s/%s/%s/%d", a.Device, a.Rule, a.RuleVersion, a.Start.UnixMilli())
	r.out[name] = append(r.out[name], fmt.Sprintf("%s %s @%d v=%v p=%v l=%v on=%d n=%d %s",
		t.Kind, a.Severity, t.Time.UnixMilli(), a.Value, a.Peak, a.Limit, a.Onset.UnixMilli(), a.Activations, a.Reason))
}

// cut makes frames of the log: watermarks at random, and marks at the beginning
// of the frame that they fall into, or of the one after.
func (r *runner) cut() {
	for e := range r.log.eras {
		era := &r.log.eras[e]
		stops := era.stops
		before := era.from - 1
		for before < era.to {
			f := logFrame{era: e, newEra: e > 0 && before == era.from-1, w: min(era.to, before+1+r.rnd.Int64N(120))}
			for _, s := range stops { // the watermark stands still while the edge does not look
				if f.w > s[0] && f.w < s[1] {
					f.w = s[0] + (s[1]-s[0])*r.rnd.Int64N(2)
				}
			}
			if f.w <= before {
				f.w = before + 1
				for _, s := range stops {
					if f.w > s[0] && f.w < s[1] {
						f.w = s[1]
					}
				}
			}
			for len(stops) > 0 && stops[0][0] < f.w {
				f.stops = append(f.stops, stops[0])
				stops = stops[1:]
			}
			for _, x := range era.readings {
				if x.arrival > before && x.arrival <= f.w {
					f.readings = append(f.readings, x)
				}
			}
			r.frames = append(r.frames, f)
			before = f.w
		}
	}
}

func (r *runner) open(saved []byte) {
	fold, err := r.engine.Open(r.edge, saved)
	if err != nil {
		r.t.Fatal(err)
	}
	r.fold = fold
	r.bind()
	if saved == nil {
		r.fold.Advance(r.log.eras[0].from - 1) // as the first frame says where it begins
	}
}

// same checks now and then that a whole and its changes say what the fold is, and
// goes on from a whole then. Of series that lag it is not saved that a reading has
// passed a rule set which the watermark has not, when there is nothing else to save:
// it says nothing new.
func (r *runner) same(known int, saved []byte) []byte {
	lags := slices.ContainsFunc(r.log.series, func(s logSeries) bool { return s.lag > 0 })
	if lags || r.rnd.IntN(4) > 0 {
		return saved
	}
	e := NewEngine(r.sets[:known], func(alert.Transition) {})
	e.chatter = r.log.window
	f, err := e.Open(r.edge, saved)
	if err != nil {
		r.t.Fatal(err)
	}
	f.Bind(r.bound())
	want, got := r.fold.Save(nil), f.Save(nil)
	if !bytes.Equal(want, got) {
		r.t.Fatalf("the fold is\n%x, what was saved of it is\n%x", want, got)
	}
	return want
}

func (r *runner) bind() {
	r.order = r.rnd.Perm(len(r.log.series))
	r.fold.Bind(r.bound())
}

// bound is the series as the schema has them now.
func (r *runner) bound() []telemetry.BoundSeries {
	var list []telemetry.BoundSeries
	for _, i := range r.order {
		s := &r.log.series[i]
		b := pm(fmt.Sprintf("s%d", i))
		b.Edge, b.Site = r.edge, r.site
		b.MaxLag, b.Silence, b.Interval = s.lag, s.silence, s.interval
		list = append(list, b)
	}
	return list
}

func (r *runner) observe(index uint32, x *logReading, v float64) {
	q := good
	switch {
	case x.bad && x.works:
		q = telemetry.BadQuality(telemetry.ReasonMaintenance)
	case x.bad:
		q = telemetry.BadQuality(telemetry.ReasonNoAnswer)
	case x.works:
		q = telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonMaintenance)
	}
	if r.log.series[x.series].text {
		r.fold.ObserveText(index, x.t, stateText(v), q)
		return
	}
	r.fold.Observe(index, x.t, v, q)
}

func (r *runner) feed(f *logFrame) {
	if f.newEra {
		if from, to := r.log.eras[f.era-1].to, r.log.eras[f.era].from; to < from && r.rnd.IntN(2) == 0 {
			r.fold.Unobserved(from, to)
		} else {
			r.fold.NewEra(from, to)
		}
	}
	for _, s := range f.stops {
		r.fold.Unobserved(s[0], s[1])
	}
	for index, s := range r.order {
		for i := range f.readings {
			x := &f.readings[i]
			if x.series != s {
				continue
			}
			r.observe(uint32(index), x, x.v)
			switch r.rnd.IntN(20) {
			case 0: // repeated
				r.observe(uint32(index), x, x.v+1)
			case 1: // out of order: older than what came
				late := *x
				late.t -= r.rnd.Int64N(50)
				r.observe(uint32(index), &late, r.rnd.Float64()*100)
			}
		}
		for r.rnd.IntN(4) == 0 { // late: the watermark of frames before has passed it
			late := logReading{series: s, t: r.fold.Watermark() - r.log.series[s].lag - r.rnd.Int64N(200), bad: r.rnd.IntN(4) == 0, works: r.rnd.IntN(4) == 0}
			r.observe(uint32(index), &late, r.rnd.Float64()*100)
		}
	}
	r.fold.Advance(f.w)
}

// compile makes the log's rule sets, and tells the oracle what the files say in
// ways that it does not want to repeat: versions and schedules.
func (r *runner) compile() {
	for i := range r.log.sets {
		var text strings.Builder
		set := &r.log.sets[i]
		for k := range set.rules {
			text.WriteString(set.rules[k].yaml())
		}
		for k := range set.severals {
			text.WriteString(set.severals[k].yaml())
		}
		compiled, err := Load([]Source{{"rules.yaml", []byte(text.String())}, {"tables.yaml", []byte(oracleTables)}}, testEnv())
		if err != nil {
			r.t.Fatal(err)
		}
		for k := range set.rules {
			c := compiled.rules[compiled.byID[set.rules[k].id]]
			if c.fn == fnIndex {
				c.step, c.width = set.rules[k].step, c.width/hour*set.rules[k].step
			}
			set.rules[k].version, set.rules[k].schedule = c.version, c.schedule
		}
		for k := range set.severals {
			set.severals[k].version = compiled.rules[compiled.byID[set.severals[k].id]].version
		}
		r.sets = append(r.sets, Effective{compiled, set.from})
	}
}

func (r *runner) run() {
	known := len(r.sets)
	if r.rnd.IntN(2) == 0 {
		known = 1 // the others are put into effect while the log is read
	}
	r.engine = NewEngine(r.sets[:known], r.emit)
	r.engine.chatter = r.log.window
	r.cut()
	r.open(nil)
	var saved []byte
	checkpoint := 0
	crashes := 5
	for i := 0; i < len(r.frames); i++ {
		for known < len(r.sets) && r.sets[known].From <= r.frames[i].w+1 {
			if err := r.engine.Add(r.sets[known]); err != nil {
				r.t.Fatal(err)
			}
			known++
		}
		r.feed(&r.frames[i])
		switch r.rnd.IntN(8) {
		case 0, 1: // a checkpoint
			if r.fold.Dirty() || r.rnd.IntN(4) == 0 {
				part, whole := r.fold.SaveChanges(nil)
				if whole {
					saved = nil
				}
				saved = append(saved, part...)
				saved = r.same(known, saved)
			}
			checkpoint = i + 1
		case 2: // the schema comes again in another order
			r.bind()
		case 3: // a crash: back to the checkpoint
			if crashes--; crashes < 0 {
				continue
			}
			r.open(saved)
			i = checkpoint - 1
		}
	}
	end := r.log.eras[len(r.log.eras)-1].to // so that lagging series come to the end, too
	r.fold.NewEra(end, end+1)
}

func checkSeed(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	log := randomLog(rnd)
	r := &runner{t: t, rnd: rnd, log: log, edge: "e1", site: "24848", seen: map[string]bool{}, out: map[string][]string{}}
	r.compile()
	want := oracle(log)
	for _, steps := range want {
		if ambiguous(steps) {
			return // two eras hold the same step in the same millisecond: one key for both
		}
	}
	r.run()
	if maps.EqualFunc(r.out, want, slices.Equal) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(want[name], r.out[name]) {
			t.Errorf("seed %d: alert %s\n  want %s\n  got  %s", seed, name, strings.Join(want[name], "\n       "), strings.Join(r.out[name], "\n       "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.out)) {
		if want[name] == nil {
			t.Errorf("seed %d: alert %s should not be\n  got  %s", seed, name, strings.Join(r.out[name], "\n       "))
		}
	}
}

func ambiguous(steps []string) bool {
	keys := map[string]bool{}
	for _, s := range steps {
		key, _, _ := strings.Cut(s, " v=") // kind, severity, time
		if strings.HasPrefix(s, "raised") {
			key = "raised"
		}
		if keys[key] {
			return true
		}
		keys[key] = true
	}
	return false
}

func seeds(t *testing.T) uint64 {
	n, err := strconv.ParseUint(os.Getenv("LANGBIANG_SEEDS"), 10, 64)
	switch {
	case err == nil:
		return n
	case os.Getenv("LANGBIANG_SEEDS") != "":
		t.Fatalf("LANGBIANG_SEEDS: %v", err)
	case testing.Short():
		return 200
	}
	return 2000
}

func TestEpisodesEqualThoseOfTheOracle(t *testing.T) {
	for seed := range seeds(t) {
		if checkSeed(t, seed); t.Failed() {
			return
		}
	}
}

func TestAReplayOnAnEmptyHubTellsTheSameInTheSameOrder(t *testing.T) {
	for seed := range uint64(50) {
		var told [2][]alert.Transition
		for i := range told {
			rnd := rand.New(rand.NewPCG(seed, 7))
			r := &runner{t: t, rnd: rnd, log: randomLog(rnd), edge: "e1", site: "24848", seen: map[string]bool{}, out: map[string][]string{}}
			r.compile()
			r.engine = NewEngine(r.sets, func(tr alert.Transition) { told[i] = append(told[i], tr) })
			r.engine.chatter = r.log.window
			r.cut()
			r.open(nil)
			for k := range r.frames {
				r.feed(&r.frames[k])
				if i == 1 && k%3 == 0 { // the second hub is restarted now and then, from its checkpoint
					saved := r.fold.Save(nil)
					order := r.order
					fold, err := r.engine.Open(r.edge, saved)
					if err != nil {
						t.Fatal(err)
					}
					r.fold, r.order = fold, order
					r.fold.Bind(r.bound())
				}
			}
		}
		if diff := cmp.Diff(told[0], told[1]); diff != "" {
			t.Fatalf("seed %d (-first +replay):\n%s", seed, diff)
		}
	}
}

func FuzzOracle(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { checkSeed(t, seed) })
}
