package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The kinds of rule that are judged by the hub's clock.
const (
	EdgeOffline Kind = "edge_offline" // the hub hears nothing of an edge
	Fewer       Kind = "fewer"        // fewer than so many series, devices ... report
	Expression  Kind = "expression"   // what a PromQL expression gives
)

// LabelJudgedBy is on the alerts of rules that are judged by the hub's clock, and
// says so: [HubClock].
const (
	LabelJudgedBy = "judged_by"
	HubClock      = "hub clock"
)

// The bounds of what the hub's clock judges.
const (
	minEvery       = time.Second
	maxEvery       = 24 * time.Hour
	maxTimeout     = time.Minute
	defaultEvery   = time.Minute
	defaultTimeout = 10 * time.Second
	defaultWithin  = 15 * time.Minute
	maxQueryLen    = 4096
)

// BuiltIn begins the name of a [Source] of built-in rules. A rule of other files
// with the same id stands in place of the built-in one.
const BuiltIn = "built-in "

// exprOf is what a rule of kind expression asks.
type exprOf struct {
	Query   string
	Every   int64 // ms
	Timeout int64
	Hold    bool // a series that the result no longer has keeps its alert
}

// fewerOf is what a rule of kind fewer counts.
type fewerOf struct {
	By     []string
	Count  string
	Within int64 // ms
	where  where
}

// byClock reports whether the rule is judged by the hub's clock.
func (r *rule) byClock() bool { return r.expr != nil || r.fewer != nil || r.kind == EdgeOffline }

// pseudo is the quantity that the rule's series have when they are not those of
// edges: of groups, of results, of edges themselves. "" for other rules.
func (r *rule) pseudo() string {
	switch r.kind {
	case Several:
		return severalPrefix + r.id
	case Fewer, Expression:
		return string(r.kind) + "/" + r.id
	case EdgeOffline:
		return quantitySilence
	}
	return ""
}

type expressionFile struct {
	Query    string        `yaml:"query,text" doc:"PromQL; judge each series of its result by above, below, outside or inside" example:"pm2_5 - on(site) group_left() avg by (site) (pm2_5)"`
	Every    time.Duration `yaml:"every" doc:"how often it is evaluated" default:"1m"`
	Timeout  time.Duration `yaml:"timeout" doc:"when an evaluation is given up" default:"10s"`
	Quantity string        `yaml:"quantity" doc:"what the result is: gives messages its name, unit and decimals"`
	Missing  string        `yaml:"missing" doc:"what it means that a series is no longer in the result: clear (its alert ends after clear_for) or hold (it stands until the series is back)" default:"clear"`
}

type fewerFile struct {
	By        patterns      `yaml:"by" doc:"series that agree in these are counted together: site, edge, device, or labels.NAME; all together when not said"`
	Count     string        `yaml:"count" doc:"what is counted: series, device, edge or site" default:"device"`
	Within    time.Duration `yaml:"within" doc:"a series reports when its newest good reading is not older than this; or than its own longest silence, when that is longer" default:"15m"`
	Info      *fewerLevel   `yaml:"info"`
	Warning   *fewerLevel   `yaml:"warning"`
	Critical  *fewerLevel   `yaml:"critical"`
	Emergency *fewerLevel   `yaml:"emergency"`
}

type fewerLevel struct {
	Than     int           `yaml:"than" doc:"the level is over while fewer than so many report"`
	For      time.Duration `yaml:"for" doc:"how long they must be fewer before it counts" default:"0s"`
	ClearFor time.Duration `yaml:"clear_for" doc:"how long they must be enough before it no longer counts" default:"0s"`
}

// QueryError is a fault in a query: at which byte of it, and what.
type QueryError struct {
	Offset int
	Msg    string
}

// Error implements error.
func (e *QueryError) Error() string { return e.Msg }

// watchResult reads watch of a rule whose series are not those of a quantity.
func (c *compiler) watchResult(i int, f *ruleFile, r *rule) telemetry.Quantity {
	if c.doc.Has(i, "watch", "quantity") {
		hint := "the query says what is watched; expression.quantity says what the result is"
		if f.Silent != nil {
			hint = "take watch.quantity away"
		}
		c.fault("the rule watches no quantity", hint, i, "watch", "quantity")
	}
	r.where = c.where(&f.Watch.Where, i, "watch", "where")
	for _, key := range []string{"point", "device"} {
		if c.doc.Has(i, "watch", "where", key) && (key == "point" || f.Silent != nil) {
			c.fault("chooses nothing here: the rule does not watch "+key+"s", "use site, group, edge or labels", i, "watch", "where", key)
		}
	}
	r.decimals, r.unit = 2, "1"
	if f.Silent != nil {
		r.quantity, r.label, r.unit = quantitySilence, telemetry.Text{VI: "Gateway im lặng", EN: "Silence of the gateway"}, "s"
		return telemetry.Quantity{ID: quantitySilence, Unit: "s", Label: r.label}
	}
	name := f.Expression.Quantity
	q, ok := c.env.Quantities[name]
	switch {
	case name == "":
		return telemetry.Quantity{Unit: "1", Decimals: 2}
	case !ok:
		c.fault(fmt.Sprintf("unknown quantity %.60q", name), c.quantityHint(name), i, "expression", "quantity")
	}
	r.quantity, r.label, r.decimals, r.unit = name, q.Label, q.Decimals, q.Unit
	return q
}

// judgedByClock marks a rule that the hub's clock judges.
func (c *compiler) judgedByClock(i int, r *rule) {
	if c.doc.Has(i, "labels", LabelJudgedBy) {
		return // refused elsewhere
	}
	r.labels = maps.Clone(r.labels)
	if r.labels == nil {
		r.labels = map[string]string{}
	}
	r.labels[LabelJudgedBy] = HubClock
}

func (c *compiler) expression(i int, f *expressionFile, r *rule) {
	e := &exprOf{Query: strings.TrimSpace(f.Query), Every: defaultEvery.Milliseconds(), Timeout: defaultTimeout.Milliseconds()}
	r.source, r.expr = ofReading, e
	for _, d := range []struct {
		key        string
		value      time.Duration
		low, high  time.Duration
		into       *int64
		lowT, most string
	}{
		{"every", f.Every, minEvery, maxEvery, &e.Every, "1s", "1d"},
		{"timeout", f.Timeout, 100 * time.Millisecond, maxTimeout, &e.Timeout, "100ms", "1m"},
	} {
		switch {
		case !c.doc.Has(i, "expression", d.key):
		case d.value < d.low || d.value > d.high:
			c.fault("out of range", fmt.Sprintf("%s to %s", d.lowT, d.most), i, "expression", d.key)
		default:
			*d.into = d.value.Milliseconds()
		}
	}
	switch f.Missing {
	case "", "clear":
	case "hold":
		e.Hold = true
	default:
		c.fault(fmt.Sprintf("%.40q is not known", f.Missing), strictyaml.Meant(f.Missing, []string{"clear", "hold"}), i, "expression", "missing")
	}
	switch {
	case e.Query == "":
		c.fault("nothing is asked", "write query: and a PromQL expression", i, "expression")
	case len(e.Query) > maxQueryLen:
		c.fault(fmt.Sprintf("longer than %d bytes", maxQueryLen), "", i, "expression", "query")
	case c.env.CheckQuery != nil:
		if err := c.env.CheckQuery(f.Query); err != nil {
			c.queryFault(err, f.Query, i, "expression", "query")
		}
	}
}

// queryFault reports a fault in a query at its own place in the file.
func (c *compiler) queryFault(err error, query string, path ...any) {
	e := strictyaml.Error{Pos: c.doc.At(path...), Path: strictyaml.PathString(path...), Msg: "PromQL: " + err.Error()}
	var at *QueryError
	if errors.As(err, &at) {
		e.Pos = placeWithin(c.data, e.Pos, query, at.Offset)
	}
	c.errs = append(c.errs, e)
}

// placeWithin finds the place in a file at which the byte offset of a text stands,
// given where the text begins. However YAML writes the text, all that it changes
// are white space, quotes, and the backslashes and doubled quotes within them.
func placeWithin(file []byte, begin strictyaml.Pos, text string, offset int) strictyaml.Pos {
	lines := strings.Split(string(file), "\n")
	if begin.Line < 1 || begin.Line > len(lines) {
		return begin
	}
	skip := 0 // characters of the text before the offset, without white space
	for _, r := range text[:min(max(offset, 0), len(text))] {
		if !unicode.IsSpace(r) {
			skip++
		}
	}
	line, col := begin.Line-1, begin.Col-1
	rest := []rune(lines[line])
	col = min(max(col, 0), len(rest))
	quote := rune(0)
	if col < len(rest) {
		switch rest[col] {
		case '|', '>':
			line, col = line+1, 0
		case '"', '\'':
			quote = rest[col]
			col++
		}
	}
	for ; line < len(lines); line, col = line+1, 0 {
		rest = []rune(lines[line])
		for ; col < len(rest); col++ {
			if unicode.IsSpace(rest[col]) {
				continue
			}
			if col+1 < len(rest) && (quote == '"' && rest[col] == '\\' || quote == '\'' && rest[col] == quote && rest[col+1] == quote) {
				col++
			}
			if skip == 0 {
				return strictyaml.Pos{File: begin.File, Line: line + 1, Col: col + 1}
			}
			skip--
		}
		if skip == 0 && offset >= len(text) { // it ends too early: right after its end
			return strictyaml.Pos{File: begin.File, Line: line + 1, Col: len(strings.TrimRight(string(rest), " \t\r\"'")) + 1}
		}
	}
	return begin
}

func (c *compiler) fewerRule(i int, f *fewerFile, r *rule) {
	r.source, r.shape = ofReading, isBelow
	s := &fewerOf{Count: f.Count, Within: defaultWithin.Milliseconds(), where: r.where}
	r.fewer, r.where = s, where{}
	s.By = c.groupBy(f.By, i, "fewer", "by")
	if words := []string{"series", "device", "edge", "site"}; s.Count == "" {
		s.Count = "device"
	} else if !slices.Contains(words, s.Count) {
		c.fault(fmt.Sprintf("%.40q cannot be counted", s.Count), strictyaml.Meant(s.Count, words), i, "fewer", "count")
	}
	if c.doc.Has(i, "fewer", "within") && c.duration(f.Within, []any{i, "fewer", "within"}) {
		if s.Within = f.Within.Milliseconds(); s.Within == 0 {
			c.fault("must be longer than 0", "for example 15m", i, "fewer", "within")
		}
	}
	c.fewerLevels(i, f, r)
}

// groupBy reads the names in which the members of a group agree.
func (c *compiler) groupBy(names patterns, path ...any) (by []string) {
	for _, name := range names {
		label, isLabel := strings.CutPrefix(name, "labels.")
		if !slices.Contains([]string{"site", "edge", "device"}, name) && !(isLabel && labelPattern.MatchString(label)) {
			c.fault(fmt.Sprintf("%.40q is nothing to group by", name), "write site, edge, device, or labels.NAME", path...)
		}
		by = append(by, name)
	}
	return by
}

func (c *compiler) fewerLevels(i int, f *fewerFile, r *rule) {
	for k, l := range []*fewerLevel{f.Info, f.Warning, f.Critical, f.Emergency} {
		if l == nil {
			continue
		}
		severity := alert.Severity(k + 1)
		at := []any{i, "fewer", severity.String()}
		if !c.needs(l.Than > 0, "than", "how many there must be, 1 or more", at) {
			continue
		}
		c.times(l.For, l.ClearFor, at)
		n := float64(l.Than)
		if k := len(r.levels); l.Than < 1 {
			c.fault("must be 1 or more", "1: none reports", append(at, "than")...)
		} else if k > 0 && n > r.levels[k-1].limit {
			c.fault(fmt.Sprintf("more than %s needs", r.levels[k-1].severity), "a higher severity means fewer", append(at, "than")...)
		}
		r.levels = append(r.levels, level{severity: severity, limit: n, clear: n, hold: l.For.Milliseconds(), clearFor: l.ClearFor.Milliseconds()})
	}
	if len(r.levels) == 0 {
		c.fault("the ladder has no level", "write warning: {than: 3}", i, "fewer")
	}
}
