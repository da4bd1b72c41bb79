package rules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// limitsFile is the ways to compare with limits, of which a rule has one.
type limitsFile struct {
	Above   *ladderFile `yaml:"above" doc:"fire when the value is above a limit"`
	Below   *ladderFile `yaml:"below" doc:"fire when the value is below a limit"`
	Outside *bandsFile  `yaml:"outside" doc:"fire when the value is outside of a band"`
	Inside  *bandsFile  `yaml:"inside" doc:"fire when the value is within a band"`
}

type ladderFile struct {
	From      string     `yaml:"from" doc:"take the limits from a ladder of a table" example:"flood-levels"`
	Info      *levelFile `yaml:"info"`
	Warning   *levelFile `yaml:"warning"`
	Critical  *levelFile `yaml:"critical"`
	Emergency *levelFile `yaml:"emergency"`
}

type levelFile struct {
	Limit    *float64      `yaml:"limit" doc:"the level is over when the value passes this, in the quantity's canonical unit"`
	Clear    *float64      `yaml:"clear" doc:"and no longer, when it comes back to this; limit when not said"`
	For      time.Duration `yaml:"for" doc:"how long it must be over before it counts" default:"0s"`
	ClearFor time.Duration `yaml:"clear_for" doc:"how long it must be back before it no longer counts" default:"0s"`
}

type bandsFile struct {
	Info      *bandFile `yaml:"info"`
	Warning   *bandFile `yaml:"warning"`
	Critical  *bandFile `yaml:"critical"`
	Emergency *bandFile `yaml:"emergency"`
}

type bandFile struct {
	Low       *float64      `yaml:"low" doc:"lower end of the band; both ends belong to it"`
	High      *float64      `yaml:"high" doc:"upper end of the band"`
	ClearLow  *float64      `yaml:"clear_low" doc:"lower end of the band by which the level is back; low when not said"`
	ClearHigh *float64      `yaml:"clear_high" doc:"upper end of that band; high when not said"`
	For       time.Duration `yaml:"for" doc:"how long it must be over before it counts" default:"0s"`
	ClearFor  time.Duration `yaml:"clear_for" doc:"how long it must be back before it no longer counts" default:"0s"`
}

type ageFile struct {
	For      *time.Duration `yaml:"for" doc:"after how long the level counts"`
	ClearFor time.Duration  `yaml:"clear_for" doc:"how long it must be back before it no longer counts" default:"0s"`
}

type agesFile struct {
	Info      *ageFile `yaml:"info"`
	Warning   *ageFile `yaml:"warning"`
	Critical  *ageFile `yaml:"critical"`
	Emergency *ageFile `yaml:"emergency"`
}

type flatFile struct {
	Epsilon float64  `yaml:"epsilon" doc:"a change by more than this is a movement" default:"0"`
	Ages    agesFile `yaml:",inline"`
}

type stateFile struct {
	Is       states        `yaml:"is" doc:"the states of this level: numbers or texts, one or a list"`
	For      time.Duration `yaml:"for" doc:"how long it must be one of them before it counts" default:"0s"`
	ClearFor time.Duration `yaml:"clear_for" doc:"how long it must be none before it no longer counts" default:"0s"`
}

type statesFile struct {
	Info      *stateFile `yaml:"info"`
	Warning   *stateFile `yaml:"warning"`
	Critical  *stateFile `yaml:"critical"`
	Emergency *stateFile `yaml:"emergency"`
}

type windowFile struct {
	Sum      time.Duration `yaml:"sum" doc:"sum of the readings over this time"`
	Mean     time.Duration `yaml:"mean" doc:"mean of the readings over this time"`
	Min      time.Duration `yaml:"min" doc:"least reading of this time"`
	Max      time.Duration `yaml:"max" doc:"greatest reading of this time"`
	Count    time.Duration `yaml:"count" doc:"number of readings in this time"`
	Increase time.Duration `yaml:"increase" doc:"what a running total grew by in this time; one that falls began anew at 0"`
	Step     time.Duration `yaml:"step" doc:"the window moves in steps of this; a 24th of it, or the next larger part, when not said"`
	AtLeast  *int          `yaml:"at_least" doc:"judge only when the window holds so many readings" default:"1"`
}

type rateFile struct {
	Over time.Duration `yaml:"over" doc:"from the first reading of this time to the newest"`
	Per  time.Duration `yaml:"per" doc:"the change is given per this time" default:"1h"`
	Step time.Duration `yaml:"step" doc:"the window moves in steps of this; a 24th of it, or the next larger part, when not said"`
}

type overrideFile struct {
	Where  whereFile  `yaml:"where" doc:"for these series"`
	Limits limitsFile `yaml:",inline"`
	Skip   bool       `yaml:"skip" doc:"do not watch them" default:"false"`
}

// stateMatch is one state of a level: a number or a text.
type stateMatch struct {
	text   string
	number float64
	isText bool
}

// String returns the state as a file has it.
func (s stateMatch) String() string {
	if s.isText {
		return s.text
	}
	return strconv.FormatFloat(s.number, 'g', -1, 64)
}

// MarshalJSON implements [json.Marshaler], for the rule's version.
func (s stateMatch) MarshalJSON() ([]byte, error) {
	if s.isText {
		return json.Marshal(s.text)
	}
	return json.Marshal(s.number)
}

type states []stateMatch

// UnmarshalYAMLNode implements [strictyaml.NodeUnmarshaler].
func (p *states) UnmarshalYAMLNode(d *strictyaml.Document, path []any) (errs strictyaml.Errors) {
	list := []any{nil}
	if d.Has(slices.Concat(path, []any{0})...) {
		errs = d.DecodeAt(path, &list)
	} else {
		errs = d.DecodeAt(path, &list[0])
	}
	for _, v := range list {
		switch v := v.(type) {
		case float64:
			*p = append(*p, stateMatch{number: v})
		case bool:
			*p = append(*p, stateMatch{number: map[bool]float64{true: 1}[v]})
		case string:
			*p = append(*p, stateMatch{text: v, isText: true})
		default:
			errs = append(errs, d.Fault(path, "expected numbers or texts", "is: [2, fault]"))
		}
	}
	return errs
}

// stateOf returns how many levels the state stands for, 0 when for none.
func (r *rule) stateOf(v float64, text string) float64 {
	for k := len(r.levels) - 1; k >= 0; k-- {
		for i := range r.levels[k].is {
			m := &r.levels[k].is[i]
			if m.isText && m.text == text || !m.isText && text == "" && m.number == v {
				return float64(k + 1)
			}
		}
	}
	return 0
}

// kind reads what the rule judges and by which limits.
func (c *compiler) kind(i int, f *ruleFile, r *rule) {
	source := c.oneOf(i, "window", "rate", "index", "flatline", "no_data", "state", "several", "expression", "fewer", "edge_offline")
	limits := c.oneOf(i, "above", "below", "outside", "inside")
	own := slices.Contains([]string{"flatline", "no_data", "state", "several", "fewer", "edge_offline"}, source)
	switch {
	case source == "!" || limits == "!":
		return
	case own && limits != "":
		c.errs = append(c.errs, strictyaml.Error{
			Pos: c.doc.KeyAt(i, limits), Path: strictyaml.PathString(i, limits),
			Msg: fmt.Sprintf("a rule of kind %s has its ladder below %s", source, source), Hint: "take " + limits + " away",
		})
		return
	case !own && limits == "":
		c.fault("the rule has no limits", "write above: {warning: {limit: 50}}, or below, outside, inside; or flatline, no_data, state, several, fewer", i)
		return
	}
	r.kind = Kind(source)
	switch source {
	case "":
		r.kind = Kind(limits)
	case "window":
		c.window(i, f.Window, r)
	case "rate":
		c.rate(i, f.Rate, r)
	case "index":
		c.indexRule(i, f, r)
	case "flatline":
		if r.source, r.shape, r.epsilon = ofFlat, isAtLeast, f.Flat.Epsilon; f.Flat.Epsilon < 0 {
			c.fault("below zero", "", i, "flatline", "epsilon")
		}
		c.ages(r, []*ageFile{f.Flat.Ages.Info, f.Flat.Ages.Warning, f.Flat.Ages.Critical, f.Flat.Ages.Emergency}, i, "flatline")
	case "no_data":
		r.source, r.shape = ofSilence, isAtLeast
		c.ages(r, []*ageFile{f.NoData.Info, f.NoData.Warning, f.NoData.Critical, f.NoData.Emergency}, i, "no_data")
	case "state":
		c.stateLadder(i, f.State, r)
	case "several":
		c.severalRule(i, f.Several, r)
	case "expression":
		c.expression(i, f.Expression, r)
	case "fewer":
		c.fewerRule(i, f.Fewer, r)
	case "edge_offline":
		r.source, r.shape = ofSilence, isAtLeast
		c.ages(r, []*ageFile{f.Silent.Info, f.Silent.Warning, f.Silent.Critical, f.Silent.Emergency}, i, "edge_offline")
	}
	if !own {
		c.limits(&f.Limits, limits, r, i)
	}
	if r.source == ofWindow && r.shape != isAbove && (r.fn == fnSum || r.fn == fnCount || r.fn == fnIncrease) {
		r.full = true // half a window has half the sum
	}
}

// oneOf returns which of the keys the rule has, "" for none, "!" for several.
func (c *compiler) oneOf(i int, names ...string) (found string) {
	for _, name := range names {
		switch {
		case !c.doc.Has(i, name):
		case found == "":
			found = name
		default:
			c.errs = append(c.errs, strictyaml.Error{
				Pos: c.doc.KeyAt(i, name), Path: strictyaml.PathString(i, name),
				Msg: fmt.Sprintf("a rule has %s or %s, not both", found, name), Hint: "write two rules",
			})
			return "!"
		}
	}
	return found
}

// limits reads the ladder of the name.
func (c *compiler) limits(f *limitsFile, name string, r *rule, path ...any) {
	at := slices.Concat(path, []any{name})
	switch name {
	case "above":
		r.shape = isAbove
		c.ladder(f.Above, r, at)
	case "below":
		r.shape = isBelow
		c.ladder(f.Below, r, at)
	case "outside":
		r.shape = isOutside
		c.bands(f.Outside, r, at)
	case "inside":
		r.shape = isInside
		c.bands(f.Inside, r, at)
	}
}

func (s shape) String() string {
	return [...]string{"above", "below", "outside", "inside", "at least"}[s]
}

// ladder fills in the levels, lowest first, and checks that they rise.
func (c *compiler) ladder(f *ladderFile, r *rule, path []any) {
	if f == nil {
		c.empty(r, path)
		return
	}
	if f.From != "" {
		c.fromTable(f, r, path)
		return
	}
	for k, l := range []*levelFile{f.Info, f.Warning, f.Critical, f.Emergency} {
		if l != nil {
			severity := alert.Severity(k + 1)
			c.level(l, r, severity, nil, slices.Concat(path, []any{severity.String()}))
		}
	}
	c.empty(r, path)
}

// level adds a level of a ladder, after those below it.
func (c *compiler) level(l *levelFile, r *rule, severity alert.Severity, name *alert.Level, at []any) {
	if !c.needs(l.Limit != nil, "limit", "a number", at) {
		return
	}
	clearAt := *l.Limit
	if l.Clear != nil {
		clearAt = *l.Clear
	}
	c.times(l.For, l.ClearFor, at)
	r.levels = append(r.levels, level{
		severity: severity, name: name, limit: *l.Limit, clear: clearAt, hold: l.For.Milliseconds(), clearFor: l.ClearFor.Milliseconds(),
	})
	c.order(r, l.Clear != nil, at)
}

// needs reports a key that is missing; one that is there and faulty has been
// reported.
func (c *compiler) needs(ok bool, key, what string, path []any) bool {
	if !ok && !c.doc.Has(slices.Concat(path, []any{key})...) {
		c.fault("the "+key+" is missing", "write "+key+": and "+what, path...)
	}
	return ok
}

func (c *compiler) empty(r *rule, path []any) {
	if len(r.levels) == 0 && len(c.doc.Keys(path...)) == 0 {
		c.fault("the ladder has no level", "write info, warning, critical or emergency below it", path...)
	}
}

func (c *compiler) times(hold, clearFor time.Duration, path []any) {
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"for", hold}, {"clear_for", clearFor}} {
		c.duration(d.value, slices.Concat(path, []any{d.key}))
	}
}

func (c *compiler) duration(d time.Duration, path []any) bool {
	switch {
	case d < 0:
		c.fault("a time below zero", "", path...)
	case d > maxDelay:
		c.fault("longer than a year", "", path...)
	case d%time.Millisecond != 0:
		c.fault("finer than a millisecond", "", path...)
	default:
		return true
	}
	return false
}

// order checks the newest level: by itself, and against the one below it.
func (c *compiler) order(r *rule, hasClear bool, path []any) {
	n := len(r.levels)
	high := &r.levels[n-1]
	s, word, side := 1.0, "below", "it must be at or below the limit"
	if r.shape == isBelow {
		s, word, side = -1, "above", "it must be at or above the limit"
	}
	if s*high.clear > s*high.limit {
		c.fault(fmt.Sprintf("clear %v is on the wrong side of limit %v: the level would clear while it fires", high.clear, high.limit),
			side, slices.Concat(path, []any{"clear"})...)
	}
	if n < 2 {
		return
	}
	low := &r.levels[n-2]
	switch {
	case s*high.limit < s*low.limit:
		c.fault(fmt.Sprintf("limit %v is %s that of %s (%v)", high.limit, word, low.title(), low.limit),
			"a higher severity needs a limit that is reached later", slices.Concat(path, []any{"limit"})...)
	case s*high.clear < s*low.clear:
		at := "clear"
		if !hasClear {
			at = "limit"
		}
		c.fault(fmt.Sprintf("clears at %v, %s where %s clears (%v)", high.clear, word, low.title(), low.clear),
			"a higher severity has to clear first", slices.Concat(path, []any{at})...)
	}
}

func (c *compiler) bands(f *bandsFile, r *rule, path []any) {
	if f == nil {
		c.empty(r, path)
		return
	}
	for k, l := range []*bandFile{f.Info, f.Warning, f.Critical, f.Emergency} {
		if l == nil {
			continue
		}
		severity := alert.Severity(k + 1)
		at := slices.Concat(path, []any{severity.String()})
		if !c.needs(l.Low != nil, "low", "a number", at) || !c.needs(l.High != nil, "high", "a number", at) {
			continue
		}
		c.times(l.For, l.ClearFor, at)
		v := level{severity: severity, low: *l.Low, limit: *l.High, clearLow: *l.Low, clear: *l.High, hold: l.For.Milliseconds(), clearFor: l.ClearFor.Milliseconds()}
		if l.ClearLow != nil {
			v.clearLow = *l.ClearLow
		}
		if l.ClearHigh != nil {
			v.clear = *l.ClearHigh
		}
		r.levels = append(r.levels, v)
		c.bandOrder(r, at)
	}
	c.empty(r, path)
}

func (c *compiler) bandOrder(r *rule, path []any) {
	n := len(r.levels)
	l := &r.levels[n-1]
	within := func(low, high, outerLow, outerHigh float64) bool { return low >= outerLow && high <= outerHigh }
	outside := r.shape == isOutside
	switch {
	case l.low > l.limit:
		c.fault(fmt.Sprintf("low %v is above high %v", l.low, l.limit), "", slices.Concat(path, []any{"low"})...)
	case l.clearLow > l.clear:
		c.fault(fmt.Sprintf("clear_low %v is above clear_high %v", l.clearLow, l.clear), "", path...)
	case outside && !within(l.clearLow, l.clear, l.low, l.limit):
		c.fault("the band by which the level clears is not within the band: it would clear while it fires", "", path...)
	case !outside && !within(l.low, l.limit, l.clearLow, l.clear):
		c.fault("the band by which the level clears does not hold the band: it would clear while it fires", "", path...)
	}
	if n < 2 {
		return
	}
	b := &r.levels[n-2]
	if outside && !(within(b.low, b.limit, l.low, l.limit) && within(b.clearLow, b.clear, l.clearLow, l.clear)) {
		c.fault(fmt.Sprintf("the band does not hold that of %s", b.severity), "a higher severity needs limits that are reached later", path...)
	}
	if !outside && !(within(l.low, l.limit, b.low, b.limit) && within(l.clearLow, l.clear, b.clearLow, b.clear)) {
		c.fault(fmt.Sprintf("the band is not within that of %s", b.severity), "a higher severity needs limits that are reached later", path...)
	}
}

func (c *compiler) ages(r *rule, list []*ageFile, path ...any) {
	for k, l := range list {
		if l == nil {
			continue
		}
		severity := alert.Severity(k + 1)
		at := slices.Concat(path, []any{severity.String()})
		if !c.needs(l.For != nil, "for", "a time", at) {
			continue
		}
		c.times(*l.For, l.ClearFor, at)
		ms := float64(l.For.Milliseconds())
		switch n := len(r.levels); {
		case ms <= 0:
			c.fault("must be longer than 0", "", slices.Concat(at, []any{"for"})...)
		case n > 0 && ms < r.levels[n-1].limit:
			c.fault(fmt.Sprintf("shorter than that of %s", r.levels[n-1].severity), "a higher severity needs a longer time", slices.Concat(at, []any{"for"})...)
		}
		r.levels = append(r.levels, level{severity: severity, limit: ms, clear: ms, clearFor: l.ClearFor.Milliseconds()})
	}
	c.empty(r, path)
}

func (c *compiler) stateLadder(i int, f *statesFile, r *rule) {
	r.source, r.shape = ofState, isAtLeast
	for k, l := range []*stateFile{f.Info, f.Warning, f.Critical, f.Emergency} {
		if l == nil {
			continue
		}
		severity := alert.Severity(k + 1)
		at := []any{i, "state", severity.String()}
		if !c.needs(len(l.Is) > 0, "is", "the states of this level", at) {
			continue
		}
		c.times(l.For, l.ClearFor, at)
		if len(l.Is) > maxStates {
			c.fault(fmt.Sprintf("%d states; at most %d", len(l.Is), maxStates), "", append(at, "is")...)
		}
		n := float64(len(r.levels) + 1)
		r.levels = append(r.levels, level{severity: severity, limit: n, clear: n, hold: l.For.Milliseconds(), clearFor: l.ClearFor.Milliseconds(), is: l.Is})
	}
	c.empty(r, []any{i, "state"})
}

func (c *compiler) window(i int, f *windowFile, r *rule) {
	r.source, r.atLeast = ofWindow, 1
	name := ""
	for _, w := range []struct {
		fn    function
		width time.Duration
	}{{fnSum, f.Sum}, {fnMean, f.Mean}, {fnMin, f.Min}, {fnMax, f.Max}, {fnCount, f.Count}, {fnIncrease, f.Increase}} {
		if !c.doc.Has(i, "window", w.fn.String()) {
			continue
		}
		if name != "" {
			c.fault(fmt.Sprintf("a window has %s or %s, not both", name, w.fn), "write two rules", i, "window", w.fn.String())
			continue
		}
		name, r.fn = w.fn.String(), w.fn
		c.width(r, w.width, f.Step, i, "window", name)
	}
	if name == "" {
		c.fault("nothing says what of the window is judged", "write window: {mean: 1h}, or sum, min, max, count, increase", i, "window")
		r.width, r.step = 1000, 1000
	}
	if f.AtLeast != nil {
		if r.atLeast = *f.AtLeast; r.atLeast < 1 {
			c.fault("must be 1 or more", "", i, "window", "at_least")
		}
	} else if r.fn == fnSum || r.fn == fnCount || r.fn == fnIncrease {
		r.atLeast = 0 // nothing is a sum, too
	}
}

func (c *compiler) rate(i int, f *rateFile, r *rule) {
	r.source, r.fn, r.atLeast = ofWindow, fnRate, 2
	if f.Per == 0 {
		f.Per = time.Hour
	}
	if c.duration(f.Per, []any{i, "rate", "per"}) {
		r.per = f.Per.Milliseconds()
	}
	c.width(r, f.Over, f.Step, i, "rate", "over")
}

// width reads the width of a window, and its step.
func (c *compiler) width(r *rule, width, step time.Duration, path ...any) {
	r.width, r.step = 1000, 1000
	if !c.duration(width, path) {
		return
	}
	if width == 0 {
		c.fault("must be longer than 0", "for example 1h", path...)
		return
	}
	w := width.Milliseconds()
	at := []any{path[0], path[1], "step"}
	if step != 0 {
		switch s := step.Milliseconds(); {
		case !c.duration(step, at):
		case w%s != 0:
			c.fault(fmt.Sprintf("%s is no whole number of steps of %s", width, step), "", at...)
		case w/s > maxSteps:
			c.fault(fmt.Sprintf("%d steps; at most %d", w/s, maxSteps), "", at...)
		default:
			r.width, r.step = w, s
		}
		return
	}
	n := int64(defaultSteps)
	for w%n != 0 {
		n--
	}
	r.width, r.step = w, w/n
}

// overrides compiles the variants of a rule.
func (c *compiler) overrides(i int, f *ruleFile, r *rule) {
	for k := range f.Overrides {
		o := &f.Overrides[k]
		path := []any{i, "overrides", k}
		w := override{where: c.where(&o.Where, append(path, "where")...)}
		if w.where.String() == "" {
			c.fault("nothing says for which series", "write where: {site: ...}, or device, labels ...", path...)
		}
		name := r.shape.String()
		other := ""
		for _, n := range []string{"above", "below", "outside", "inside"} {
			if n != name && c.doc.Has(append(path, n)...) {
				other = n
			}
		}
		switch {
		case o.Skip:
			r.overrides = append(r.overrides, w)
			continue
		case r.kind == Several || r.kind == Fewer || r.shape == isAtLeast:
			c.fault(fmt.Sprintf("a rule of kind %s has no overrides but skip", r.kind), "write two rules", path...)
			continue
		case other != "":
			c.fault(fmt.Sprintf("the rule has %s, the override %s", name, other), "", append(path, other)...)
			continue
		case !c.doc.Has(append(path, name)...):
			c.fault("the override has no limits", fmt.Sprintf("write %s: and the ladder, or skip: true", name), path...)
			continue
		}
		variant := *r
		variant.levels, variant.overrides, variant.places = nil, nil, nil
		c.limits(&o.Limits, name, &variant, path...)
		variant.version = variant.hash()
		w.rule = &variant
		r.overrides = append(r.overrides, w)
	}
	for _, place := range r.places {
		variant := *r
		variant.levels, variant.overrides, variant.places = place.rule.levels, nil, nil
		variant.version = variant.hash()
		r.overrides = append(r.overrides, override{where: place.where, rule: &variant})
	}
}
