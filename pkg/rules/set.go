package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/airindex"
	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Kind says what a rule judges, and how.
type Kind string

// The kinds of rule.
const (
	Above    Kind = "above"    // the reading above a limit
	Below    Kind = "below"    // the reading below a limit
	Outside  Kind = "outside"  // the reading outside of a band
	Inside   Kind = "inside"   // the reading within a band
	Window   Kind = "window"   // an aggregate over a sliding window, by one of the above
	Rate     Kind = "rate"     // the change over a time, by one of the above
	Flatline Kind = "flatline" // a value that does not move
	NoData   Kind = "no_data"  // no readings
	State    Kind = "state"    // a value that is one of a list
	Index    Kind = "index"    // an air quality index
	Several  Kind = "several"  // several alerts of other rules at once
)

// What a rule does with a bad reading.
type badPolicy uint8

const (
	badHold   badPolicy = iota // the last good value holds
	badIgnore                  // the same, but it is no sign of life either
	badNoData                  // the value ends
)

// rule is a compiled rule; read-only. One with overrides is compiled once more for
// each: they share the id, and differ in version and limits.
type rule struct {
	id, version    string
	pos            strictyaml.Pos
	title, label   telemetry.Text
	quantity, unit string
	decimals       int
	where          where
	kind           Kind
	source         source
	shape          shape
	levels         []level // lowest severity first
	fn             function
	width, step    int64 // of the window, ms; step divides width
	per            int64 // of a rate, ms
	atLeast        int   // readings that a window needs
	full           bool  // the window says nothing before its width has been observed
	epsilon        float64
	index          *airindex.Table
	several        *severalOf
	fewer          *fewerOf
	expr           *exprOf
	schedule       *schedule
	bad            badPolicy
	apart          bool // activations that chatter are not collapsed
	throughWork    bool // judges readings with the reason maintenance, too
	overrides      []override
	places         []override // of the table that the limits are from
	labels, links  map[string]string
	procedure      string // address of what to do
	cite           string
	vi, en         *message
}

// override is a variant of a rule for some of its series.
type override struct {
	where where
	rule  *rule  // nil: these are not watched
	at    uint16 // its number in the set
}

// mode returns what a machine of the rule has to do at a reading.
func (r *rule) mode() uint8 {
	switch r.source {
	case ofReading:
		return modePlain
	case ofSilence:
		return modeSilent
	}
	return modeSense
}

// remembers reports whether the rule's machines need an aux.
func (r *rule) remembers() bool {
	return r.source != ofReading && r.source != ofState || r.schedule != nil
}

// steps is the number of steps in the rule's window.
func (r *rule) steps() int {
	if r.source != ofWindow {
		return 0
	}
	return int(r.width / r.step)
}

// hash returns the rule's version: a hash of how it judges one series. Rules of
// the first kinds keep the versions that they had before there were others.
func (r *rule) hash() string {
	type judged struct {
		Format   int
		Kind     Kind
		Quantity string
		Levels   [][5]float64
		Apart    bool  `json:",omitempty"`
		More     []any `json:",omitempty"`
	}
	j := judged{Format: 1, Kind: r.kind, Quantity: r.quantity, Apart: r.apart}
	more := false
	add := func(changes bool, v ...any) {
		if j.More = append(j.More, v...); changes {
			more = true
		}
	}
	for i := range r.levels {
		l := &r.levels[i]
		j.Levels = append(j.Levels, [5]float64{float64(l.severity), l.limit, l.clear, float64(l.hold), float64(l.clearFor)})
		add(l.low != 0 || l.clearLow != 0 || l.is != nil, l.low, l.clearLow, l.is)
	}
	add(r.source != ofReading || r.shape > isBelow, r.source, r.shape, r.fn, r.width, r.step, r.per, r.atLeast, r.full, r.epsilon)
	add(r.index != nil, r.index)
	add(r.several != nil, r.several)
	add(r.schedule != nil, r.schedule)
	add(r.bad != badHold || r.throughWork, r.bad, r.throughWork)
	if r.expr != nil { // and so on: kinds that came later add nothing to the others
		add(true, r.expr)
	}
	if r.fewer != nil {
		add(true, r.fewer, r.fewer.where.String())
	}
	if !more {
		j.More = nil
	}
	return hashJSON(j)[:12]
}

func hashJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("rules: " + err.Error()) // only finite numbers and strings come here
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Set is a compiled rule set. It is read-only and safe for concurrent use.
type Set struct {
	id         string
	rules      []*rule // sorted by id, then the variants of those with overrides
	base       int     // how many of them are no variants
	byQuantity map[string][]uint16
	byKey      map[ruleKey]uint16
	byID       map[string]uint16
	severals   []uint16 // of kind several
	fewers     []uint16 // of kind fewer
	clock      bool     // some are judged by the hub's clock
	sites      map[string]Site
	indexes    map[string]*airindex.Table
}

// AirIndex returns the table of an air quality index that the files bring; nil when
// they do not.
func (s *Set) AirIndex(name string) *airindex.Table { return s.indexes[name] }

type ruleKey struct{ id, version string }

func newSet(rules []*rule, env Env) *Set {
	slices.SortFunc(rules, func(a, b *rule) int { return strings.Compare(a.id, b.id) })
	s := &Set{
		rules: rules, base: len(rules), byQuantity: map[string][]uint16{}, byKey: map[ruleKey]uint16{},
		byID: map[string]uint16{}, sites: env.Sites,
	}
	var meaning []any
	for i, r := range rules {
		s.byID[r.id] = uint16(i)
		s.byKey[ruleKey{r.id, r.version}] = uint16(i)
		quantity := r.quantity
		if p := r.pseudo(); p != "" {
			quantity = p
		}
		if r.kind == Several {
			s.severals = append(s.severals, uint16(i))
		}
		if r.kind == Fewer {
			s.fewers = append(s.fewers, uint16(i))
		}
		s.clock = s.clock || r.byClock()
		s.byQuantity[quantity] = append(s.byQuantity[quantity], uint16(i))
		said := []any{r.id, r.version, r.whereText(), r.labels, r.links, r.title, r.cite, r.vi.text, r.en.text}
		said = append(said, r.procedure)
		for k := range r.levels {
			said = append(said, r.levels[k].name)
		}
		for k := range r.overrides {
			o := &r.overrides[k]
			said = append(said, o.where.String())
			if o.rule == nil {
				continue
			}
			said = append(said, o.rule.version)
			if at, ok := s.byKey[ruleKey{r.id, o.rule.version}]; ok {
				o.at = at
				continue
			}
			o.at = uint16(len(s.rules))
			s.byKey[ruleKey{r.id, o.rule.version}] = o.at
			s.rules = append(s.rules, o.rule)
		}
		meaning = append(meaning, said)
	}
	s.id = hashJSON(meaning)
	return s
}

// ID is a hash of what the set's files say, whatever their comments, names and
// layout.
func (s *Set) ID() string { return s.id }

// Len returns the number of rules.
func (s *Set) Len() int { return s.base }

// Written returns the set without the built-in rules.
func (s *Set) Written() *Set {
	var list []*rule
	for _, r := range s.rules[:s.base] {
		if !r.builtIn() {
			list = append(list, r)
		}
	}
	return newSet(list, Env{Sites: s.sites})
}

func (r *rule) builtIn() bool { return strings.HasPrefix(r.pos.File, BuiltIn) }

// RuleInfo describes a rule to people, with what it has done lately. Matched,
// Active, Fired and LastFired are zero in what [Set.Rules] returns.
type RuleInfo struct {
	ID       string
	Version  string
	Title    telemetry.Text
	Kind     Kind
	Quantity string
	Unit     string // of what it judges
	Where    string // "" when all series of the quantity are watched
	Judges   string // what of the series, in words: "mean over 1h0m0s"; "" for the reading itself
	Levels   []LevelInfo
	Schedule string // when it judges, in words; "" always
	Override int    // how many groups of series have limits of their own
	Labels   map[string]string

	Procedure string // address of what to do; may be empty
	Links     map[string]string
	Source    string // where the limits come from
	Position  string // file:line:col

	FillingUntil time.Time // its windows began empty and are full then, in event time; zero when they are

	Matched   int       // series that it watches now
	Active    int       // alerts of it that are active
	Fired     uint64    // alerts raised since this process started
	LastFired time.Time // event time of the newest of these; zero when there was none

	Compares    string // above, below, outside, inside, at least; "" of kinds with a ladder of their own
	Bad         string // what bad readings do: hold, ignore, no_data; "" where nobody reads
	Maintenance string // what readings with the reason maintenance do: suppress, judge

	ByClock bool // judged by the hub's clock, not in event time
	BuiltIn bool

	// Of kind expression.
	Query       string
	Every       time.Duration
	Evaluations uint64 // since this process started
	Failures    uint64
	Evaluated   time.Time // the newest; zero when there was none
	Took        time.Duration
	Error       string // of the newest evaluation; "" when it succeeded
	ErrorAt     time.Time
}

// LevelInfo is one step of a ladder, lowest severity first.
type LevelInfo struct {
	Severity      alert.Severity
	Limit, Clear  float64
	Low, ClearLow float64 // of a band; Limit and Clear are its upper ends then
	For, ClearFor time.Duration
	Is            []string     // of kind state
	Level         *alert.Level // of a national ladder; nil: it has no name
}

// Rules describes the rules, sorted by id.
func (s *Set) Rules() []RuleInfo {
	out := make([]RuleInfo, s.base)
	for i, r := range s.rules[:s.base] {
		out[i] = r.info()
	}
	return out
}

func (r *rule) info() RuleInfo {
	info := RuleInfo{
		ID: r.id, Version: r.version, Title: r.title, Kind: r.kind, Quantity: r.quantity, Unit: r.judgedUnit(r.unit),
		Where: r.whereText(), Judges: r.judges(), Schedule: r.schedule.String(), Override: len(r.overrides),
		Labels: r.labels, Procedure: r.procedure, Links: r.links, Source: r.cite, Position: r.pos.String(), ByClock: r.byClock(), BuiltIn: r.builtIn(),
	}
	if r.shape != isAtLeast {
		info.Compares = r.shape.String()
	}
	if !r.byClock() && r.several == nil {
		info.Bad = [...]string{badHold: "hold", badIgnore: "ignore", badNoData: "no_data"}[r.bad]
		info.Maintenance = map[bool]string{false: "suppress", true: "judge"}[r.throughWork]
	}
	if r.expr != nil {
		info.Query, info.Every = r.expr.Query, ms(r.expr.Every)
	}
	for i := range r.levels {
		l := &r.levels[i]
		li := LevelInfo{
			Severity: l.severity, Limit: l.limit, Clear: l.clear, Low: l.low, ClearLow: l.clearLow,
			For: time.Duration(l.hold) * time.Millisecond, ClearFor: time.Duration(l.clearFor) * time.Millisecond,
			Level: l.name,
		}
		for _, m := range l.is {
			li.Is = append(li.Is, m.String())
		}
		if r.ages() {
			li.Limit, li.Clear, li.For = l.limit/1000, l.clear/1000, time.Duration(l.limit)*time.Millisecond
		}
		info.Levels = append(info.Levels, li)
	}
	return info
}

// whereText writes which series the rule watches.
func (r *rule) whereText() string {
	if r.fewer != nil {
		return r.fewer.where.String()
	}
	return r.where.String()
}

// judges says in words what of a series the rule judges.
func (r *rule) judges() string {
	switch {
	case r.fewer != nil:
		return fmt.Sprintf("how many of the same %s report within %s, by %s", strings.Join(append([]string{"hub"}, r.fewer.By...), " and "), ms(r.fewer.Within), r.fewer.Count)
	case r.expr != nil:
		return "the result of the expression every " + ms(r.expr.Every).String()
	case r.kind == EdgeOffline:
		return "for how long the hub has not heard the edge"
	case r.several != nil:
		return "how many alerts of " + strings.Join(r.several.Of, ", ") + " stand at once, by " + r.several.Count
	}
	switch r.source {
	case ofWindow:
		width := time.Duration(r.width) * time.Millisecond
		return fmt.Sprintf("%s over %s in steps of %s", r.fn, tidy(width), tidy(time.Duration(r.step)*time.Millisecond))
	case ofFlat:
		return fmt.Sprintf("for how long it has not moved by more than %v", r.epsilon)
	case ofSilence:
		return "for how long there has been no reading"
	}
	return ""
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// tidy writes a duration without zeros at its end: 24h.
func tidy(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var functionNames = [...]string{"sum", "mean", "min", "max", "count", "increase", "rate", "index"}

// String returns the function's name in rule files.
func (fn function) String() string { return functionNames[fn] }

// judgedUnit returns the unit of what the rule judges of a series in the unit.
func (r *rule) judgedUnit(unit string) string {
	switch {
	case r.ages():
		return "s"
	case r.kind == Several, r.kind == Fewer, r.kind == Index, r.source == ofWindow && r.fn == fnCount:
		return "1"
	case r.source == ofWindow && r.fn == fnRate:
		return unit + "/" + perUnit(r.per)
	}
	return unit
}

// perUnit writes the time of a rate in UCUM.
func perUnit(ms int64) string {
	for _, u := range []struct {
		ms   int64
		name string
	}{{86_400_000, "d"}, {3_600_000, "h"}, {60_000, "min"}, {1000, "s"}} {
		if ms%u.ms != 0 {
			continue
		}
		if ms == u.ms {
			return u.name
		}
		return fmt.Sprintf("(%d.%s)", ms/u.ms, u.name)
	}
	return fmt.Sprintf("(%d.ms)", ms)
}

// Matches returns the ids of the rules that watch the series, sorted; of kind fewer
// those that count it.
func (s *Set) Matches(series telemetry.BoundSeries) []string {
	var ids []string
	for _, i := range s.matching(&series) {
		ids = append(ids, s.rules[i].id)
	}
	for _, i := range s.fewers {
		if r := s.rules[i]; r.quantity == series.Quantity && r.fewer.where.match(&series, s.sites) {
			ids = append(ids, r.id)
		}
	}
	if len(s.fewers) > 0 {
		slices.Sort(ids)
	}
	return ids
}

// matching returns the rules that watch the series, of those with overrides the
// variant that is for it.
func (s *Set) matching(series *telemetry.BoundSeries) (out []uint16) {
next:
	for _, i := range s.byQuantity[series.Quantity] {
		r := s.rules[i]
		if !r.where.match(series, s.sites) {
			continue
		}
		for k := range r.overrides {
			o := &r.overrides[k]
			if !o.where.match(series, s.sites) {
				continue
			}
			if o.rule != nil {
				out = append(out, o.at)
			}
			continue next
		}
		if len(r.levels) > 0 {
			out = append(out, i)
		}
	}
	return out
}

// find returns the rule with this id and version.
func (s *Set) find(id, version string) (uint16, bool) {
	i, ok := s.byKey[ruleKey{id, version}]
	return i, ok
}
