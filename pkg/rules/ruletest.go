package rules

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// testFile is a file of unit tests for rules, as it stands beside them.
type testFile struct {
	Rules []string   `yaml:"rules" doc:"the files that are tested, and tables that they need; relative to this file"`
	Tests []ruleTest `yaml:"tests" doc:"the tests"`
}

type ruleTest struct {
	Name     string        `yaml:"name" doc:"what happens"`
	Only     patterns      `yaml:"only" doc:"ids of the rules that are looked at; all when not said"`
	Start    string        `yaml:"start" doc:"time of the first value" default:"2026-01-05T00:00:00+07:00"`
	Interval time.Duration `yaml:"interval" doc:"time between two values" default:"1m"`
	End      time.Duration `yaml:"end" doc:"how long after start the watermark goes on; to the last value when not said"`
	Series   []testSeries  `yaml:"series" doc:"the readings"`
	Expect   []testStep    `yaml:"expect" doc:"every step of every alert, in order of time"`
}

type testSeries struct {
	Site     string            `yaml:"site,text" doc:"site" default:"test"`
	Edge     string            `yaml:"edge" doc:"edge" default:"edge-01"`
	Device   string            `yaml:"device" doc:"device" default:"device-01"`
	Point    string            `yaml:"point" doc:"point; the quantity when not said"`
	Quantity string            `yaml:"quantity" doc:"quantity"`
	Labels   map[string]string `yaml:"labels,text" doc:"labels"`
	Silence  time.Duration     `yaml:"silence" doc:"longest silence of the point" default:"0s"`
	Values   string            `yaml:"values,text" doc:"values in short: 5, 5x3 (three times), 5+2x3 (5, 7, 9), _ (none), bad, maintenance, stop (the agent does not look), 'a text'"`
}

type testStep struct {
	At       time.Duration  `yaml:"at" doc:"time after start"`
	Rule     string         `yaml:"rule" doc:"id of the rule; may be left away when only one is looked at"`
	Alert    string         `yaml:"alert" doc:"raised, severity_changed, level_changed, cleared, chattering or quiet"`
	Severity alert.Severity `yaml:"severity" doc:"afterwards"`
	Level    string         `yaml:"level,text" doc:"level of a national ladder, when it is to be compared"`
	Device   string         `yaml:"device" doc:"of the series, when it is to be compared"`
	Value    *float64       `yaml:"value" doc:"the judged value, when it is to be compared"`
	Reason   string         `yaml:"reason" doc:"why it ended other than by the value"`
	Message  string         `yaml:"message" doc:"part of the message in either language, when it is to be compared"`
}

// TestedFiles returns the rule files that a file of tests names.
func TestedFiles(file Source) ([]string, error) {
	doc, errs := strictyaml.Parse(file.Name, file.Data)
	if doc == nil {
		return nil, errs.Err()
	}
	var f testFile
	if err := doc.Decode(&f).Err(); err != nil {
		return nil, err
	}
	if len(f.Rules) == 0 {
		return nil, strictyaml.Errors{doc.Fault([]any{"rules"}, "no rules are named", "write rules: [air.yaml]")}
	}
	return f.Rules, nil
}

// TestReference returns the reference of files of tests as Markdown.
func TestReference() string { return strictyaml.Reference(testFile{}) }

// RunTests runs the tests of a file against a set. The names are of all tests; the
// error is a strictyaml.Errors with every difference at its place.
func RunTests(file Source, set *Set, env Env) (names []string, err error) {
	doc, errs := strictyaml.Parse(file.Name, file.Data)
	if doc == nil {
		return nil, errs
	}
	var f testFile
	if errs := doc.Decode(&f); len(errs) > 0 {
		return nil, errs
	}
	r := testRun{doc: doc, set: set, env: env}
	for i := range f.Tests {
		names = append(names, f.Tests[i].Name)
		r.run(i, &f.Tests[i])
	}
	return names, r.errs.Err()
}

type testRun struct {
	doc  *strictyaml.Document
	set  *Set
	env  Env
	errs strictyaml.Errors
}

func (r *testRun) fault(msg, hint string, path ...any) {
	r.errs = append(r.errs, r.doc.Fault(path, msg, hint))
}

// testValue is what one place of the notation says.
type testValue struct {
	v       float64
	text    string
	isText  bool
	quality telemetry.Quality
	none    bool
	stop    bool
}

// parseValues reads the notation.
func parseValues(s string) (out []testValue, err error) {
	for len(s) > 0 {
		s = strings.TrimLeft(s, " ")
		if s == "" {
			break
		}
		var word string
		if s[0] == '\'' {
			end := strings.IndexByte(s[1:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("the text %.40s has no end", s)
			}
			word, s = s[:end+2], s[end+2:]
			if i := strings.IndexByte(s, ' '); i != 0 && len(s) > 0 { // 'text'x3
				if i < 0 {
					i = len(s)
				}
				word, s = word+s[:i], s[i:]
			}
		} else {
			word, s, _ = strings.Cut(s, " ")
		}
		list, err := parseValue(word)
		if err != nil {
			return nil, err
		}
		if out = append(out, list...); len(out) > 100_000 {
			return nil, fmt.Errorf("more than 100000 values")
		}
	}
	return out, nil
}

func parseValue(word string) ([]testValue, error) {
	first, n := word, 1
	if i := strings.LastIndexByte(word, 'x'); i > 0 && !strings.HasSuffix(word, "'") {
		k, err := strconv.Atoi(word[i+1:])
		if err != nil || k < 1 || k > 100_000 {
			return nil, fmt.Errorf("%.40q: how often?", word)
		}
		first, n = word[:i], k
	}
	var v testValue
	step := 0.0
	switch first {
	case "_":
		v.none = true
	case "bad":
		v.quality = telemetry.BadQuality(telemetry.ReasonNoAnswer)
	case "maintenance":
		v.quality = telemetry.BadQuality(telemetry.ReasonMaintenance)
	case "stop":
		v.stop = true
	default:
		if strings.HasPrefix(first, "'") {
			v.text, v.isText = strings.Trim(first, "'"), true
			break
		}
		number := first
		if i := strings.LastIndexAny(first, "+-"); i > 0 && first[i-1] != 'e' {
			var err error
			if step, err = strconv.ParseFloat(first[i:], 64); err != nil {
				return nil, fmt.Errorf("%.40q is no value", word)
			}
			number = first[:i]
		}
		x, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, fmt.Errorf("%.40q is no value", word)
		}
		v.v = x
	}
	out := make([]testValue, n)
	for i := range out {
		out[i] = v
		out[i].v = v.v + float64(i)*step
	}
	return out, nil
}

func (r *testRun) run(i int, t *ruleTest) {
	path := []any{"tests", i}
	if t.Start == "" {
		t.Start = "2026-01-05T00:00:00+07:00"
	}
	start, err := time.Parse(time.RFC3339, t.Start)
	if err != nil {
		r.fault(fmt.Sprintf("%.40q is no time", t.Start), "write 2026-01-05T08:00:00+07:00", append(path, "start")...)
		return
	}
	if t.Interval <= 0 {
		t.Interval = time.Minute
	}
	from := start.UnixMilli()
	var got []alert.Transition
	engine := NewEngine([]Effective{{r.set, Always}}, func(tr alert.Transition) {
		if t.Only.match(tr.Alert.Rule) && settled(&tr) && (len(t.Only) > 0 || !r.builtIn(tr.Alert.Rule)) {
			got = append(got, tr)
		}
	})
	var edges []string
	byEdge := map[string][]int{}
	values := make([][]testValue, len(t.Series))
	steps := 0
	for k := range t.Series {
		s := &t.Series[k]
		at := slices.Concat(path, []any{"series", k})
		if values[k], err = parseValues(s.Values); err != nil {
			r.fault(err.Error(), "write 5, 5x3, 5+2x3, _, bad, maintenance, stop, 'a text'", append(at, "values")...)
			return
		}
		if _, ok := r.env.Quantities[s.Quantity]; !ok {
			r.fault(fmt.Sprintf("unknown quantity %.60q", s.Quantity), strictyaml.Meant(s.Quantity, keys(r.env.Quantities)), append(at, "quantity")...)
			return
		}
		s.Edge = orElse(s.Edge, "edge-01")
		if byEdge[s.Edge] == nil {
			edges = append(edges, s.Edge)
		}
		byEdge[s.Edge] = append(byEdge[s.Edge], k)
		steps = max(steps, len(values[k]))
	}
	end := from + max(int64(steps-1), 0)*t.Interval.Milliseconds()
	if t.End > 0 {
		end = max(end, from+t.End.Milliseconds())
	}
	engine.Expect(edges, time.Time{})
	for _, edge := range edges {
		r.feed(engine, t, edge, byEdge[edge], values, from, end)
	}
	if r.set.clock {
		r.byClock(i, t, engine, values, from, end)
	}
	slices.SortStableFunc(got, func(a, b alert.Transition) int { return a.Time.Compare(b.Time) })
	r.compare(i, t, from, got)
}

// builtIn reports whether the rule is a built-in one: tests have to name those.
func (r *testRun) builtIn(id string) bool {
	i, ok := r.set.byID[id]
	return ok && r.set.rules[i].builtIn()
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// bound is a series of a test as the hub knows it.
func (r *testRun) bound(t *ruleTest, k int) telemetry.BoundSeries {
	s := &t.Series[k]
	return telemetry.BoundSeries{
		Site: orElse(s.Site, "test"), Edge: orElse(s.Edge, "edge-01"), Device: orElse(s.Device, "device-01"), Point: orElse(s.Point, s.Quantity),
		Quantity: s.Quantity, Unit: r.env.Quantities[s.Quantity].Unit, Labels: telemetry.NewLabels(s.Labels),
		Silence: s.Silence.Milliseconds(), Interval: t.Interval.Milliseconds(),
	}
}

// feed plays the series of one edge.
func (r *testRun) feed(e *Engine, t *ruleTest, edge string, series []int, values [][]testValue, from, end int64) {
	f := e.openFold(edge)
	var list []telemetry.BoundSeries
	for _, k := range series {
		list = append(list, r.bound(t, k))
	}
	f.Bind(list)
	f.Advance(from - 1)
	for at, n := from, 0; at <= end; at, n = at+t.Interval.Milliseconds(), n+1 {
		for index, k := range series {
			if n >= len(values[k]) {
				continue
			}
			switch v := values[k][n]; {
			case v.stop:
				f.Unobserved(at-1, at+t.Interval.Milliseconds()-1)
			case v.none:
			case v.isText:
				f.ObserveText(uint32(index), at, v.text, v.quality)
			default:
				f.Observe(uint32(index), at, v.v, v.quality)
			}
		}
		f.Advance(at)
	}
	f.Advance(end)
}

func (r *testRun) compare(i int, t *ruleTest, from int64, got []alert.Transition) {
	for k := range max(len(got), len(t.Expect)) {
		path := []any{"tests", i, "expect", k}
		switch {
		case k >= len(got):
			r.fault("this did not happen", "", path...)
		case k >= len(t.Expect):
			r.fault(fmt.Sprintf("%s: one more step happened: %s", t.Name, describeStep(from, &got[k])), "", "tests", i)
		default:
			if why := t.Expect[k].differs(from, &got[k]); why != "" {
				r.fault(fmt.Sprintf("%s differs; what happened: %s", why, describeStep(from, &got[k])), "", path...)
			}
		}
	}
}

// differs names what is not as expected, "" when all is.
func (s *testStep) differs(from int64, t *alert.Transition) string {
	a := &t.Alert
	switch {
	case t.Time.UnixMilli()-from != s.At.Milliseconds():
		return "the time"
	case s.Rule != "" && a.Rule != s.Rule:
		return "the rule"
	case string(t.Kind) != s.Alert:
		return "the step"
	case a.Severity != s.Severity && s.Severity != alert.None:
		return "the severity"
	case s.Level != "" && (a.Level == nil || a.Level.ID != s.Level):
		return "the level"
	case s.Device != "" && a.Device != s.Device:
		return "the device"
	case s.Value != nil && math.Abs(a.Value-*s.Value) > 1e-6*max(1, math.Abs(*s.Value)):
		return "the value"
	case a.Reason != s.Reason:
		return "the reason"
	case s.Message != "" && !strings.Contains(a.Message.VI, s.Message) && !strings.Contains(a.Message.EN, s.Message):
		return "the message"
	}
	return ""
}

func describeStep(from int64, t *alert.Transition) string {
	a := &t.Alert
	s := fmt.Sprintf("{at: %s, rule: %s, alert: %s, severity: %s, device: %s, value: %s",
		time.Duration(t.Time.UnixMilli()-from)*time.Millisecond, a.Rule, t.Kind, a.Severity, a.Device, strconv.FormatFloat(a.Value, 'g', 6, 64))
	if a.Level != nil {
		s += ", level: " + a.Level.ID
	}
	if a.Reason != "" {
		s += ", reason: " + a.Reason
	}
	return s + fmt.Sprintf("}, %q", a.Message.EN)
}
