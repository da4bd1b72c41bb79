package rules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Random logs and rules for the oracle. Times are milliseconds around the first
// minute of 1970, so that a schedule has something to change.

type logReading struct {
	series  int
	t       int64
	arrival int64 // when the edge had it; t, or later when the device stamps its readings
	v       float64
	bad     bool
	works   bool // with the reason maintenance
}

// logEra is a stretch of the edge's log in one era of its clock.
type logEra struct {
	from, to int64 // first and last tick
	readings []logReading
	stops    [][2]int64 // unobserved intervals, ascending
}

type logLevel struct {
	severity       alert.Severity
	limit, clear   float64
	low, clearLow  float64
	hold, clearFor int64
	is             []int // of kind state: values in tens
}

type logRule struct {
	id       string
	source   source
	shape    shape
	fn       function
	width    int64
	step     int64
	atLeast  int
	full     bool
	nowcast  bool // of an index
	epsilon  float64
	bad      badPolicy
	through  bool // maintenance: judge
	hours    string
	levels   []logLevel
	only     int // the one series that it watches, or -1 for all
	schedule *schedule
	version  string
}

type logSet struct {
	from     int64
	rules    []logRule
	severals []logSeveral
}

// logSeveral is a rule of kind several over all others.
type logSeveral struct {
	logRule
	by       bool // site
	count    string
	severity alert.Severity
}

type logSeries struct {
	lag, silence, interval int64
	text                   bool
}

func (s *logSeries) quiet() int64 {
	if s.silence == 0 {
		return 0
	}
	return s.silence + s.interval
}

type oracleLog struct {
	window int64 // in which activations are counted
	eras   []logEra
	sets   []logSet
	series []logSeries
}

const minute = 60_000

func randomLog(rnd *rand.Rand) *oracleLog {
	log := &oracleLog{}
	for range 1 + rnd.IntN(3) {
		s := logSeries{text: rnd.IntN(6) == 0}
		if rnd.IntN(3) == 0 {
			s.lag = rnd.Int64N(40)
		}
		if rnd.IntN(3) == 0 {
			s.silence, s.interval = 1+rnd.Int64N(60), rnd.Int64N(5)
		}
		log.series = append(log.series, s)
	}
	begin := int64(minute - 400)
	for range 1 + rnd.IntN(2) {
		era := randomEra(rnd, log, begin)
		log.eras = append(log.eras, era)
		begin = max(minute-900, era.to+rnd.Int64N(2000)-1000)
	}
	log.sets = randomSets(rnd, log)
	if rnd.IntN(3) > 0 {
		log.window = 1 + rnd.Int64N(100)
	}
	return log
}

func randomEra(rnd *rand.Rand, log *oracleLog, begin int64) logEra {
	era := logEra{from: begin, to: begin + 50 + rnd.Int64N(700)}
	for range rnd.IntN(3) {
		from := era.from + rnd.Int64N(era.to-era.from)
		to := min(era.to-1, from+1+rnd.Int64N(40))
		if n := len(era.stops); to > from && (n == 0 || era.stops[n-1][1] <= from) {
			era.stops = append(era.stops, [2]int64{from, to})
		}
	}
	for i := range log.series {
		s := &log.series[i]
		v, newest := 50.0, int64(0)
		step := 1 + rnd.Int64N(20)
		stuck, silent, works := int64(0), int64(0), int64(0)
		for t := era.from; t <= era.to; t += 1 + rnd.Int64N(step) {
			switch rnd.IntN(40) {
			case 0:
				stuck = t + rnd.Int64N(150)
			case 1:
				silent = t + rnd.Int64N(150)
			case 2:
				works = t + rnd.Int64N(60)
			}
			if t < silent {
				continue
			}
			if t >= stuck {
				v = max(0, min(v+float64(rnd.IntN(41)-20), 100))
			}
			r := logReading{series: i, t: t, arrival: t, v: v, bad: rnd.IntN(10) == 0, works: t < works}
			if s.lag > 0 {
				r.arrival = max(newest, t+rnd.Int64N(s.lag+1))
			}
			for _, stop := range era.stops { // the edge does not look then
				if r.arrival > stop[0] && r.arrival < stop[1] {
					r.arrival = stop[1]
				}
			}
			if r.arrival > t+s.lag || r.arrival > era.to {
				continue
			}
			newest = r.arrival
			era.readings = append(era.readings, r)
		}
	}
	return era
}

func randomSets(rnd *rand.Rand, log *oracleLog) []logSet {
	set := logSet{from: Always}
	for i := range 1 + rnd.IntN(4) {
		set.rules = append(set.rules, randomRule(rnd, i, len(log.series)))
	}
	sets := []logSet{set}
	for range rnd.IntN(3) {
		era := &log.eras[rnd.IntN(len(log.eras))]
		next := logSet{from: era.from + rnd.Int64N(era.to-era.from+20)}
		last := sets[len(sets)-1]
		if next.from <= last.from {
			continue
		}
		for _, r := range last.rules {
			switch rnd.IntN(5) {
			case 0: // gone
			case 1:
				other := randomRule(rnd, int(r.id[1]-'0'), len(log.series))
				if r.source == ofWindow && r.fn != fnIndex && rnd.IntN(2) == 0 { // other limits for the same window
					limits := other
					other = r
					for i := range other.levels {
						other.levels = slices.Clone(other.levels)
						l := &other.levels[i]
						l.hold, l.clearFor = rnd.Int64N(30), rnd.Int64N(30)
					}
					other.bad, other.hours = limits.bad, limits.hours
				}
				next.rules = append(next.rules, other)
			case 2:
				r.only = rnd.IntN(len(log.series)+1) - 1
				next.rules = append(next.rules, r)
			default:
				next.rules = append(next.rules, r)
			}
		}
		sets = append(sets, next)
	}
	return sets
}

func randomRule(rnd *rand.Rand, n, series int) logRule {
	r := logRule{id: fmt.Sprintf("r%d", n), only: rnd.IntN(series+2) - 2}
	r.only = max(r.only, -1)
	r.bad = badPolicy(rnd.IntN(3))
	r.through = rnd.IntN(3) == 0
	r.hours = []string{"", "", "", "00:00-00:01", "00:01-24:00"}[rnd.IntN(5)]
	delay := func() int64 {
		if rnd.IntN(3) == 0 {
			return 0
		}
		return rnd.Int64N(60)
	}
	top, scale := 100.0, 1.0
	switch k := rnd.IntN(11); {
	case k == 10:
		r.source, r.shape, r.fn = ofWindow, isAbove, fnIndex
		r.step = int64(9 + 7*n) // hours are short here
		r.nowcast = rnd.IntN(3) > 0
		top, scale = 200, 2
	case k < 3:
		r.source, r.shape = ofReading, shape(rnd.IntN(4))
	case k < 6:
		r.source, r.shape, r.fn = ofWindow, shape(rnd.IntN(4)), function(rnd.IntN(int(fnIndex)))
		r.step = 1 + rnd.Int64N(30)
		r.width = r.step * (1 + rnd.Int64N(8))
		switch r.fn {
		case fnSum, fnIncrease:
			top, scale, r.full = 800, 8, r.shape != isAbove
		case fnCount:
			top, scale, r.full = 20, 0.2, r.shape != isAbove
		case fnRate:
			r.atLeast = 2
		default:
			r.atLeast = 1 + rnd.IntN(3)
		}
	case k < 7:
		r.source, r.shape, r.epsilon = ofFlat, isAtLeast, float64(rnd.IntN(20))
	case k < 9:
		r.source, r.shape = ofSilence, isAtLeast
	default:
		r.source, r.shape = ofState, isAtLeast
	}
	limit := scale * (20 + float64(rnd.IntN(40)))
	clearAt := limit - scale*float64(rnd.IntN(15))
	age := 5 + rnd.Int64N(80)
	half, clearHalf := 45.0, 45.0 // of bands
	if r.shape == isOutside {
		half, clearHalf = 8+float64(rnd.IntN(10)), 1+float64(rnd.IntN(8))
	}
	for s := alert.Info; s <= alert.Emergency; s++ {
		if rnd.IntN(2) == 0 && (s < alert.Emergency || len(r.levels) > 0) {
			continue
		}
		l := logLevel{severity: s, limit: limit, clear: clearAt, hold: delay(), clearFor: delay()}
		switch {
		case r.source == ofState:
			l.limit = float64(len(r.levels) + 1)
			l.clear, l.is = l.limit, []int{rnd.IntN(11), rnd.IntN(11)}
		case r.shape == isAtLeast:
			l.limit, l.clear, l.hold = float64(age), float64(age), 0
			age += rnd.Int64N(60)
		case r.shape == isBelow:
			l.limit, l.clear = top-limit, top-clearAt
		case r.shape == isOutside:
			l.low, l.limit = scale*(50-half), scale*(50+half)
			l.clearLow, l.clear = scale*(50-clearHalf), scale*(50+clearHalf)
			half += float64(rnd.IntN(15))
			clearHalf = min(half, clearHalf+float64(rnd.IntN(10)))
		case r.shape == isInside:
			half = max(2, half-float64(rnd.IntN(15)))
			clearHalf = min(clearHalf, half+float64(rnd.IntN(10)))
			l.low, l.limit = scale*(50-half), scale*(50+half)
			l.clearLow, l.clear = scale*(50-clearHalf), scale*(50+clearHalf)
		}
		r.levels = append(r.levels, l)
		limit += scale * float64(rnd.IntN(15))
		clearAt = min(limit, clearAt+scale*float64(rnd.IntN(15)))
	}
	return r
}

func (r *logRule) yaml() string {
	device := "s*"
	if r.only >= 0 {
		device = fmt.Sprintf("s%d", r.only)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "- id: %s\n  watch: {quantity: pm2_5, where: {device: \"%s\"}}\n", r.id, device)
	fmt.Fprintf(&b, "  bad: %s\n  maintenance: %s\n", []string{"hold", "ignore", "no_data"}[r.bad], map[bool]string{false: "suppress", true: "judge"}[r.through])
	if r.hours != "" {
		fmt.Fprintf(&b, "  schedule: {hours: \"%s\", zone: UTC}\n", r.hours)
	}
	ladder := r.shape.String()
	switch r.source {
	case ofWindow:
		if r.fn == fnIndex {
			fmt.Fprintf(&b, "  index: %s\n", map[bool]string{false: "hourly", true: "nowcast"}[r.nowcast])
			break
		}
		if r.fn == fnRate {
			fmt.Fprintf(&b, "  rate: {over: %dms, per: 20ms, step: %dms}\n", r.width, r.step)
			break
		}
		fmt.Fprintf(&b, "  window: {%s: %dms, step: %dms", r.fn, r.width, r.step)
		if r.atLeast > 0 {
			fmt.Fprintf(&b, ", at_least: %d", r.atLeast)
		}
		b.WriteString("}\n")
	case ofFlat:
		ladder = "flatline"
	case ofSilence:
		ladder = "no_data"
	case ofState:
		ladder = "state"
	}
	fmt.Fprintf(&b, "  %s:\n", ladder)
	if r.source == ofFlat {
		fmt.Fprintf(&b, "    epsilon: %v\n", r.epsilon)
	}
	for _, l := range r.levels {
		fmt.Fprintf(&b, "    %s: {clear_for: %dms", l.severity, l.clearFor)
		switch {
		case r.source == ofState:
			fmt.Fprintf(&b, ", for: %dms, is: [%d, st%d]", l.hold, l.is[0]*10, l.is[1])
		case r.shape == isAtLeast:
			fmt.Fprintf(&b, ", for: %vms", l.limit)
		case r.shape > isBelow:
			fmt.Fprintf(&b, ", for: %dms, low: %v, high: %v, clear_low: %v, clear_high: %v", l.hold, l.low, l.limit, l.clearLow, l.clear)
		default:
			fmt.Fprintf(&b, ", for: %dms, limit: %v, clear: %v", l.hold, l.limit, l.clear)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// oracleTables are the indexes of random rules.
const oracleTables = `
indexes:
  nowcast: {source: x, index: [0, 50, 100, 150, 200], quantities: {pm2_5: {mean: nowcast, at: [0, 20, 45, 60, 90]}}}
  hourly: {source: x, index: [0, 50, 100, 200], quantities: {pm2_5: {mean: hour, factor: 2, at: [0, 50, 100, 180]}}}
`

// text is the state that a series of texts has at a value.
func stateText(v float64) string { return fmt.Sprintf("st%d", int(v)/10) }
