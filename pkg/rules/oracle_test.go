package rules

import (
	"fmt"
	"math"
	"slices"

	"github.com/langbiang/langbiang/pkg/alert"
)

// The oracle walks over a whole log millisecond by millisecond, keeps every
// reading, and asks anew at every tick what holds. It knows no frames, no
// watermarks, no timers, no steps of a ladder found in order and no saved state.

// oracleSeries is what the oracle knows of a series.
type oracleSeries struct {
	log     *logSeries
	number  int
	since   int64 // the edge looks since
	last    int64 // newest reading; -1: none
	good    int64 // newest that was not bad
	value   float64
	text    string
	rules   []*oracleRule
	version func(set, rule int) string
	window  int64 // in which activations are counted
	out     map[string][]string
	step    func(name, kind string, severity alert.Severity, t int64) // of what is told, and when it counts; may be nil
	broken  int64                                                     // an unobserved interval begins here
	floor   int64                                                     // up to where earlier eras came
}

// oracleRule is one rule on one series.
type oracleRule struct {
	rule         logRule
	since        int64
	over, active [maxLevels]bool
	moved        [maxLevels]int64
	onset, start int64
	peak         float64
	blind        bool
	muted, off   bool
	taken        []logReading // readings since it began or the era did
	x            float64      // judged last
	flatFrom     int64        // flat: the value stands since, from an anchor
	anchor       float64
	flatLast     int64   // -1: nothing known
	value        float64 // when it last moved
	chat         oracleChatter
}

func (m *oracleRule) top(of *[maxLevels]bool) int {
	for k := len(m.rule.levels) - 1; k >= 0; k-- {
		if of[k] {
			return k
		}
	}
	return -1
}

func (m *oracleRule) isOver(l *logLevel, x float64, was bool) bool {
	switch m.rule.shape {
	case isAbove:
		return x > l.limit || was && x > l.clear
	case isBelow:
		return x < l.limit || was && x < l.clear
	case isOutside:
		return !(l.low <= x && x <= l.limit) || was && !(l.clearLow <= x && x <= l.clear)
	case isInside:
		return l.low <= x && x <= l.limit || was && l.clearLow <= x && x <= l.clear
	}
	return x >= l.limit
}

func (m *oracleRule) badness(x float64) float64 {
	l := &m.rule.levels[0]
	switch m.rule.shape {
	case isBelow:
		return -x
	case isOutside:
		return max(x-l.limit, l.low-x)
	case isInside:
		return min(x-l.low, l.limit-x)
	}
	return x
}

// judge moves the switches to x.
func (m *oracleRule) judge(t int64, x float64) {
	quiet := m.top(&m.over) < 0 && m.top(&m.active) < 0
	for k := range m.rule.levels {
		if is := m.isOver(&m.rule.levels[k], x, m.over[k]); is != m.over[k] {
			m.over[k], m.moved[k] = is, t
		}
	}
	if quiet || m.badness(x) > m.badness(m.peak) {
		m.peak = x
	}
}

// halt ends held values.
func (m *oracleRule) halt() {
	m.over, m.blind, m.flatLast = m.active, true, -1
}

func (s *oracleSeries) alive(m *oracleRule) int64 {
	t := s.good
	if m.rule.bad == badHold {
		t = s.last
	}
	return max(t, s.since, m.since)
}

// indexOf computes the air quality index at t by the text of Decision 1459/QĐ-TCMT.
func (s *oracleSeries) indexOf(m *oracleRule, t int64) (float64, bool) {
	r := &m.rule
	hour := func(t int64) int { return int(math.Floor(float64(t-1) / float64(r.step))) }
	sums, counts := map[int]float64{}, map[int]float64{}
	for _, x := range m.taken {
		ago := hour(t) - hour(x.t)
		sums[ago] += x.v
		counts[ago]++
	}
	c, at, index := sums[1]/counts[1]*2, []float64{0, 50, 100, 180}, []float64{0, 50, 100, 200}
	if r.nowcast {
		at, index = []float64{0, 20, 45, 60, 90}, []float64{0, 50, 100, 150, 200}
		least, greatest, known, newest := math.Inf(1), math.Inf(-1), 0, 0
		for i := 1; i <= 12; i++ {
			if counts[i] > 0 {
				known++
				if i <= 3 {
					newest++
				}
				least, greatest = min(least, sums[i]/counts[i]), max(greatest, sums[i]/counts[i])
			}
		}
		if newest < 2 {
			return 0, false
		}
		w := max(least/greatest, 0.5)
		if greatest == 0 {
			w = 1
		}
		value, weight := 0.0, 0.0
		for i := 1; i <= 12; i++ {
			if counts[i] == 0 {
				continue
			}
			by := math.Pow(w, float64(i-1))
			if w == 0.5 {
				by = math.Pow(0.5, float64(i))
			}
			value += by * (sums[i] / counts[i])
			weight += by
		}
		if c = value; w > 0.5 {
			c = value / weight
		}
	} else if counts[1] == 0 {
		return 0, false
	}
	for k := 1; k < len(at); k++ {
		if c <= at[k] {
			return math.Round((index[k]-index[k-1])*(c-at[k-1])/(at[k]-at[k-1]) + index[k-1]), true
		}
	}
	return index[len(index)-1], true
}

// windowOf computes the window's value at t from all readings.
func (s *oracleSeries) windowOf(m *oracleRule, t int64) (float64, bool) {
	r := &m.rule
	if r.fn == fnIndex {
		return s.indexOf(m, t)
	}
	if r.full && t-max(s.since, m.since) < r.width {
		return 0, false
	}
	floor := func(a, b int64) int64 { return int64(math.Floor(float64(a) / float64(b))) }
	runs := floor(t-1, r.step) * r.step // the step that runs began after this
	first := runs - r.width             // exclusive
	if n := len(m.taken); n > 0 && m.taken[n-1].t > runs {
		first += r.step
	}
	var in []logReading
	sum := 0.0
	for i, x := range m.taken {
		if x.t <= first {
			continue
		}
		in = append(in, x)
		switch {
		case r.fn != fnIncrease:
			sum += x.v
		case i == 0:
		case x.v >= m.taken[i-1].v:
			sum += x.v - m.taken[i-1].v
		default:
			sum += x.v
		}
	}
	n := len(in)
	if n < r.atLeast {
		return 0, false
	}
	switch r.fn {
	case fnSum, fnIncrease:
		return sum, true
	case fnCount:
		return float64(n), true
	case fnMean:
		return sum / float64(n), true
	case fnRate:
		return (in[n-1].v - in[0].v) / float64(in[n-1].t-in[0].t) * 20, true
	}
	x := in[0].v
	for _, y := range in {
		if r.fn == fnMin {
			x = min(x, y.v)
		} else {
			x = max(x, y.v)
		}
	}
	return x, true
}

func (s *oracleSeries) stateOf(r *logRule) float64 {
	for k := len(r.levels) - 1; k >= 0; k-- {
		is := r.levels[k].is
		if s.log.text && s.text == fmt.Sprintf("st%d", is[1]) || !s.log.text && s.value == float64(is[0]*10) {
			return float64(k + 1)
		}
	}
	return 0
}

// maintain silences the rule while a technician works.
func (s *oracleSeries) maintain(m *oracleRule, r *logReading) {
	if r.works && !m.rule.through {
		if k := m.top(&m.active); k >= 0 {
			s.tell(m, "cleared", k, r.t, ReasonMaintenance)
		}
		m.active = [maxLevels]bool{}
		m.over = m.active
		m.muted = true
		m.halt()
		return
	}
	if !r.works {
		m.muted = false
	}
}

// reading shows a reading to the rule.
func (s *oracleSeries) reading(m *oracleRule, r *logReading) {
	if m.muted {
		return
	}
	if r.bad {
		if m.rule.bad == badNoData {
			m.halt()
		} else if m.rule.source == ofSilence && m.rule.bad == badHold {
			m.blind = false
			if !m.off {
				m.judge(r.t, 0)
			}
		}
		return
	}
	v := r.v
	if s.log.text {
		v = 0
	}
	x, ok := v, true
	switch m.rule.source {
	case ofState:
		x = s.stateOf(&m.rule)
	case ofSilence:
		x = 0
	case ofFlat:
		hole := s.log.quiet() > 0 && m.flatLast >= 0 && r.t-m.flatLast > s.log.quiet()
		same := math.Abs(v-m.anchor) <= m.rule.epsilon
		switch k := m.top(&m.active); {
		case (hole || m.flatLast < 0) && same && k >= 0:
			m.flatFrom = r.t - int64(m.rule.levels[k].limit)
		case hole || m.flatLast < 0 || !same:
			m.flatFrom, m.anchor = r.t, v
		}
		m.flatLast = r.t
		x = float64(r.t - m.flatFrom)
		m.x = x
	case ofWindow:
		m.taken = append(m.taken, logReading{t: r.t, v: v})
		if m.rule.fn == fnIndex { // it changes with the hour, not with the reading
			m.blind = false
			return
		}
		if x, ok = s.windowOf(m, r.t); ok {
			m.x = x
		}
	}
	if !ok {
		return
	}
	m.blind = false
	if !m.off {
		m.judge(r.t, x)
	}
}

// alone lets what the rule judges change without a reading.
func (s *oracleSeries) alone(m *oracleRule, t int64, heard bool) {
	if m.off || m.muted {
		return
	}
	switch m.rule.source {
	case ofSilence:
		next := m.top(&m.over) + 1
		age := t - s.alive(m)
		if next < len(m.rule.levels) && age > 0 && age >= max(int64(m.rule.levels[next].limit), s.log.quiet()) {
			m.judge(t, float64(age))
		}
	case ofWindow:
		if heard && m.rule.fn != fnIndex || (t-1)%m.rule.step != 0 || m.blind && !m.rule.full {
			return
		}
		if x, ok := s.windowOf(m, t); ok {
			m.x = x
			m.judge(t, x)
		}
	}
}

// turn follows the rule's schedule.
func (s *oracleSeries) turn(m *oracleRule, t int64) {
	if m.rule.schedule == nil || m.rule.schedule.active(t) != m.off {
		return
	}
	if m.off = !m.off; m.off {
		if k := m.top(&m.active); k >= 0 {
			s.tell(m, "cleared", k, t, ReasonSchedule)
		}
		m.active = [maxLevels]bool{}
		m.over = m.active
		return
	}
	if m.rule.source == ofSilence {
		m.since = max(m.since, t) // nobody was expected before
	}
	if m.muted {
		return
	}
	defer s.delays(m, t)
	switch m.rule.source {
	case ofSilence:
		m.judge(t, 0)
	case ofWindow:
		if x, ok := s.windowOf(m, t); ok && (m.rule.full || !m.blind) {
			m.x = x
			m.judge(t, x)
		}
	case ofState:
		if !m.blind {
			m.judge(t, s.stateOf(&m.rule))
		}
	case ofReading:
		if !m.blind {
			m.judge(t, s.value)
		}
	}
}

// delays lets the levels count whose time has come.
func (s *oracleSeries) delays(m *oracleRule, t int64) {
	before := m.top(&m.active)
	for k := len(m.rule.levels) - 1; k > m.top(&m.active); k-- {
		if m.over[k] && t-m.moved[k] >= m.rule.levels[k].hold {
			if before < 0 {
				m.onset, m.start = m.moved[k], t
				if m.rule.source == ofSilence || m.rule.source == ofFlat {
					m.onset = t - int64(s.judged(m, t))
				}
			}
			for j := range k + 1 {
				m.active[j] = true
			}
		}
	}
	for k := m.top(&m.active); k >= 0 && !m.over[k] && t-m.moved[k] >= m.rule.levels[k].clearFor; k = m.top(&m.active) {
		m.active[k] = false
	}
	switch after := m.top(&m.active); {
	case before == after:
	case before < 0:
		s.tell(m, "raised", after, t, "")
	case after < 0:
		s.tell(m, "cleared", before, t, "")
	default:
		s.tell(m, "severity_changed", after, t, "")
	}
}

func (s *oracleSeries) judged(m *oracleRule, t int64) float64 {
	switch m.rule.source {
	case ofSilence:
		return float64(t - s.alive(m))
	case ofFlat, ofWindow:
		return m.x
	}
	return s.value
}

func (s *oracleSeries) tell(m *oracleRule, kind string, level int, t int64, reason string) {
	if reason != "" {
		t = max(t, m.start) // the start may lie in an era that was ahead
	}
	l := &m.rule.levels[level]
	x, peak, limit := s.judged(m, t), m.peak, l.limit
	switch {
	case m.rule.source == ofSilence || m.rule.source == ofFlat:
		x, peak, limit = x/1000, peak/1000, limit/1000
	case m.rule.source == ofState:
		peak, limit = x, x
	case m.rule.shape > isBelow && math.Abs(x-l.low) < math.Abs(x-l.limit):
		limit = l.low
	}
	m.value = x
	if kind, level = m.chat.see(m, kind, level, t, s.window, limit, peak, reason); kind != "" {
		s.told(m, kind, level, t, reason)
	}
}

// told writes a step down.
func (s *oracleSeries) told(m *oracleRule, kind string, level int, t int64, reason string) {
	if kind == "" {
		return
	}
	c := &m.chat
	name := fmt.Sprintf("s%d/%s/%s/%d", s.number, m.rule.id, m.rule.version, c.start)
	if s.step != nil {
		s.step(name, kind, m.rule.levels[level].severity, max(t, s.floor, s.broken))
	}
	s.out[name] = append(s.out[name], fmt.Sprintf("%s %s @%d v=%v p=%v l=%v on=%d n=%d %s",
		kind, m.rule.levels[level].severity, t, m.value, c.peak, c.limit, c.onset, c.count, reason))
}

// change puts the rule sets into effect that hold from t on.
func (s *oracleSeries) change(log *oracleLog, set *int, t int64, begun bool) {
	for *set+1 < len(log.sets) && log.sets[*set+1].from <= t {
		*set++
		to := &log.sets[*set]
		var next []*oracleRule
		for _, r := range to.rules {
			if r.only < 0 || r.only == s.number {
				m := &oracleRule{rule: r, since: to.from, blind: true, flatLast: -1}
				if begun {
					m.off = r.schedule != nil && !r.schedule.active(to.from)
				}
				for _, old := range s.rules { // the longest window of the same kind goes on
					o := &old.rule
					if begun && r.source == ofWindow && o.source == ofWindow && r.fn == o.fn && r.width == o.width && r.step == o.step && r.through == o.through && r.nowcast == o.nowcast &&
						(m.since == to.from || old.since < m.since) {
						m.since, m.taken, m.x, m.blind = old.since, slices.Clone(old.taken), old.x, old.blind
					}
				}
				next = append(next, m)
			}
		}
		same := func(a, b *logRule) bool { return a.id == b.id && a.version == b.version }
		for _, old := range s.rules {
			if i := slices.IndexFunc(next, func(n *oracleRule) bool { return same(&n.rule, &old.rule) }); i >= 0 {
				next[i] = old
			} else {
				reason := ReasonRuleChanged
				if slices.ContainsFunc(to.rules, func(r logRule) bool { return same(&r, &old.rule) }) {
					reason = ReasonNotWatched
				}
				if k := old.top(&old.active); k >= 0 {
					s.tell(old, "cleared", k, to.from, reason)
				} else if old.chat.on {
					s.told(old, "cleared", old.chat.level, max(to.from, old.chat.last), reason)
				}
			}
		}
		s.rules = next
	}
}

// oracle returns the transitions of every alert, by the alert's name.
func oracle(log *oracleLog) map[string][]string {
	out := map[string][]string{}
	for i := range log.series {
		s := &oracleSeries{log: &log.series[i], number: i, window: log.window, out: out}
		s.walk(log)
	}
	return out
}

func (s *oracleSeries) walk(log *oracleLog) {
	set := -1
	s.broken, s.floor = math.MinInt64, math.MinInt64
	s.change(log, &set, log.sets[0].from, false)
	for e := range log.eras {
		era := &log.eras[e]
		s.since, s.last, s.good = era.from, -1, -1
		if s.floor = math.MinInt64; e > 0 {
			for _, before := range log.eras[:e] {
				s.floor = max(s.floor, before.to+1)
			}
		}
		first := era.from
		if e == 0 {
			s.since = era.from - 1 - s.log.lag
			first = s.since + 1
		}
		for _, m := range s.rules {
			m.since, m.taken = s.since, nil
			was := m.off
			if m.off = m.rule.schedule != nil && !m.rule.schedule.active(s.since); m.off && !was {
				if k := m.top(&m.active); k >= 0 {
					s.tell(m, "cleared", k, max(s.since, m.start), ReasonSchedule)
				}
				m.active = [maxLevels]bool{}
				m.over = m.active
			}
		}
		stops := append(slices.Clone(era.stops), [2]int64{era.to, era.to})
		for t := first; t <= era.to+1; t++ {
			for _, m := range s.rules {
				s.turn(m, t)
			}
			s.change(log, &set, t, true)
			for _, m := range s.rules {
				s.turn(m, t) // of a set from the time between two eras
			}
			for len(stops) > 0 && stops[0][0] < t {
				s.since = max(s.since, stops[0][1])
				from := stops[0][0]
				stops = stops[1:]
				s.broken = from + 1
				for _, m := range s.rules {
					m.halt()
					kind, level := m.chat.calm(m)
					s.told(m, kind, level, from, "")
				}
				s.broken = math.MinInt64
			}
			if t > era.to {
				break
			}
			heard := false
			for i := range era.readings {
				r := &era.readings[i]
				if r.series != s.number || r.t != t {
					continue
				}
				s.last = t
				for _, m := range s.rules {
					s.maintain(m, r)
				}
				if !r.bad {
					heard, s.good = true, t
					if s.log.text {
						s.text = stateText(r.v)
					} else {
						s.value = r.v
					}
				}
				for _, m := range s.rules {
					s.reading(m, r)
				}
			}
			for _, m := range s.rules {
				s.alone(m, t, heard && !m.muted)
				s.delays(m, t)
				if m.chat.on && m.chat.last+s.window == t {
					kind, level := m.chat.calm(m)
					s.told(m, kind, level, t, "")
				}
			}
		}
	}
}
