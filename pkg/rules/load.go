package rules

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Source is a rule file: a name for the errors, and its bytes.
type Source struct {
	Name string
	Data []byte
}

// Env is what rules refer to: the catalogue of quantities, and the sites. When
// Sites is empty, rules may name any site.
type Env struct {
	Quantities telemetry.Quantities
	Sites      map[string]Site
}

// Site is what messages say of a site.
type Site struct {
	Name telemetry.Text
}

// The bounds of a rule set.
const (
	maxRules  = 10_000
	maxDelay  = 366 * 24 * time.Hour
	maxLinks  = 16
	maxURLLen = 1024
)

// ruleFile is a rule as it stands in a file.
type ruleFile struct {
	ID       string            `yaml:"id" doc:"name of the rule, unique; part of its alerts' identity" example:"pm25-high"`
	Title    telemetry.Text    `yaml:"title" doc:"what the rule is about, for lists"`
	Watch    watchFile         `yaml:"watch" doc:"which series the rule judges, each on its own"`
	Above    *ladderFile       `yaml:"above" doc:"the ladder of a rule that fires when the value is above a limit"`
	Below    *ladderFile       `yaml:"below" doc:"the ladder of a rule that fires when the value is below a limit"`
	Collapse *bool             `yaml:"collapse" doc:"false: every activation is an alert of its own; otherwise three within a minute collapse into one that is marked chattering" default:"true"`
	Message  telemetry.Text    `yaml:"message" doc:"what people read; with places such as {{.Site.Name}} and {{.Value}}"`
	Labels   map[string]string `yaml:"labels,text" doc:"put on the rule's alerts, beside the labels of the series"`
	Links    map[string]string `yaml:"links,text" doc:"addresses by name, for example procedure"`
	Source   string            `yaml:"source" doc:"where the limits come from, and the averaging time they are meant for"`
}

type watchFile struct {
	Quantity string    `yaml:"quantity" doc:"what the watched points measure; an entry of the catalogue" example:"pm2_5"`
	Where    whereFile `yaml:"where" doc:"narrows the series down; without it all series of the quantity are watched"`
}

type whereFile struct {
	Site   patterns            `yaml:"site" doc:"id of a site, or several; * stands for any characters, ? for one"`
	Edge   patterns            `yaml:"edge" doc:"id of an edge, in the same way"`
	Device patterns            `yaml:"device" doc:"id of a device, in the same way"`
	Point  patterns            `yaml:"point" doc:"name of a point, in the same way"`
	Labels map[string]patterns `yaml:"labels" doc:"labels that edge.yaml gives the device or point, in the same way"`
}

type ladderFile struct {
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

func (l *ladderFile) steps() []*levelFile {
	return []*levelFile{l.Info, l.Warning, l.Critical, l.Emergency}
}

// Load compiles rule files into a set. The error is a strictyaml.Errors with
// every fault of every file; there is no set then.
func Load(files []Source, env Env) (*Set, error) {
	c := compiler{env: env, seen: map[string]strictyaml.Pos{}}
	for _, f := range files {
		c.file(f)
	}
	if len(c.rules) > maxRules {
		c.errs = append(c.errs, strictyaml.Error{Pos: strictyaml.Pos{File: files[len(files)-1].Name}, Msg: fmt.Sprintf("%d rules; at most %d", len(c.rules), maxRules)})
	}
	if err := c.errs.Err(); err != nil {
		return nil, err
	}
	return newSet(c.rules, env), nil
}

// Reference returns the reference of rule files as Markdown.
func Reference() string { return strictyaml.Reference(ruleFile{}) }

type compiler struct {
	env   Env
	rules []*rule
	seen  map[string]strictyaml.Pos
	errs  strictyaml.Errors
	doc   *strictyaml.Document
}

func (c *compiler) file(f Source) {
	doc, errs := strictyaml.Parse(f.Name, f.Data)
	c.errs = append(c.errs, errs...)
	if doc == nil {
		return
	}
	c.doc = doc
	var list []ruleFile
	faulty := doc.Decode(&list)
	c.errs = append(c.errs, faulty...)
	for i := range list {
		before := len(c.errs)
		if r := c.rule(i, &list[i]); len(c.errs) == before && r != nil {
			c.rules = append(c.rules, r)
		}
	}
}

func (c *compiler) fault(msg, hint string, path ...any) {
	c.errs = append(c.errs, c.doc.Fault(path, msg, hint))
}

var (
	idPattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	labelPattern = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

func (c *compiler) rule(i int, f *ruleFile) *rule {
	r := &rule{id: f.ID, pos: c.doc.At(i), title: f.Title, source: f.Source, labels: f.Labels, links: f.Links}
	r.apart = f.Collapse != nil && !*f.Collapse
	c.id(i, f.ID)
	q, known := c.watch(i, f, r)
	c.ladder(i, f, r)
	c.extras(i, f)
	if known {
		r.vi = c.message(f.Message.VI, viDefault, r, q, vi, i, "message", "vi")
		r.en = c.message(f.Message.EN, enDefault, r, q, en, i, "message", "en")
	}
	r.version = r.hash()
	return r
}

func (c *compiler) id(i int, id string) {
	switch {
	case id == "":
		if !c.doc.Has(i, "id") {
			c.fault("the rule has no id", "write id: and a short name", i)
		}
		return
	case len(id) > telemetry.MaxNameLen || !idPattern.MatchString(id):
		c.fault(fmt.Sprintf("bad id %.40q", id), "use small letters, digits, -, _ and .", i, "id")
	}
	if first, ok := c.seen[id]; ok {
		c.fault(fmt.Sprintf("a rule %q stands already at %s", id, first), "ids are unique over all files", i, "id")
		return
	}
	c.seen[id] = c.doc.At(i, "id")
}

func (c *compiler) watch(i int, f *ruleFile, r *rule) (q telemetry.Quantity, known bool) {
	w := &f.Watch
	switch q, known = c.env.Quantities[w.Quantity]; {
	case !c.doc.Has(i, "watch", "quantity"):
		c.fault("watch.quantity is missing: nothing says what the rule watches", `for example watch: {quantity: pm2_5}`, i, "watch")
	case !known && w.Quantity != "":
		c.fault(fmt.Sprintf("unknown quantity %.60q", w.Quantity), c.quantityHint(w.Quantity), i, "watch", "quantity")
	}
	r.quantity, r.label, r.decimals, r.unit = w.Quantity, q.Label, q.Decimals, q.Unit
	r.where = where{site: w.Where.Site, edge: w.Where.Edge, device: w.Where.Device, point: w.Where.Point}
	for name, ps := range w.Where.Labels {
		if !labelPattern.MatchString(name) {
			c.fault(fmt.Sprintf("%.40q cannot be the name of a label", name), "", i, "watch", "where", "labels", name)
		}
		r.where.labels = append(r.where.labels, labelMatch{name, ps})
	}
	slices.SortFunc(r.where.labels, func(a, b labelMatch) int { return strings.Compare(a.name, b.name) })
	for k, site := range w.Where.Site {
		if _, ok := c.env.Sites[site]; ok || len(c.env.Sites) == 0 || isGlob(site) {
			continue
		}
		path := []any{i, "watch", "where", "site"}
		if c.doc.Has(i, "watch", "where", "site", k) {
			path = append(path, k)
		}
		c.fault(fmt.Sprintf("unknown site %.40q", site), strictyaml.Meant(site, keys(c.env.Sites)), path...)
	}
	return q, known
}

// quantityHint looks for the name, and for the spelling in the sensor's own words.
func (c *compiler) quantityHint(name string) string {
	if hint := strictyaml.Meant(name, keys(c.env.Quantities)); hint != "" {
		return hint
	}
	return "the catalogue is firmware-profiles/quantities.yaml"
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// ladder fills in the levels, lowest first, and checks that they rise.
func (c *compiler) ladder(i int, f *ruleFile, r *rule) {
	kind, ladder := Above, f.Above
	switch {
	case f.Above != nil && f.Below != nil:
		c.errs = append(c.errs, strictyaml.Error{
			Pos: c.doc.KeyAt(i, "below"), Path: strictyaml.PathString(i, "below"),
			Msg: "a rule has above or below, not both", Hint: "write two rules",
		})
	case f.Below != nil:
		kind, ladder = Below, f.Below
	case f.Above == nil:
		if !c.doc.Has(i, "above") && !c.doc.Has(i, "below") {
			c.fault("the rule has no limits", "write above: {warning: {limit: 50}} or below:", i)
		}
		return
	}
	r.kind = kind
	name := string(kind)
	var before *levelFile
	var beforeName string
	for k, l := range ladder.steps() {
		if l == nil {
			continue
		}
		severity := alert.Severity(k + 1)
		path := []any{i, name, severity.String()}
		if l.Limit == nil {
			if !c.doc.Has(append(path, "limit")...) {
				c.fault("the limit is missing", "write limit: and a number", path...)
			}
			continue
		}
		clearAt := *l.Limit
		if l.Clear != nil {
			clearAt = *l.Clear
		}
		r.levels = append(r.levels, level{severity, *l.Limit, clearAt, l.For.Milliseconds(), l.ClearFor.Milliseconds()})
		c.levelFaults(kind, l, path)
		if before != nil {
			c.order(kind, before, l, beforeName, path)
		}
		before, beforeName = l, severity.String()
	}
	if len(r.levels) == 0 && before == nil && len(c.doc.Keys(i, name)) == 0 {
		c.fault("the ladder has no level", "write info, warning, critical or emergency below it", i, name)
	}
}

func (c *compiler) levelFaults(kind Kind, l *levelFile, path []any) {
	if l.Clear != nil && kind.sign()**l.Clear > kind.sign()**l.Limit {
		c.fault(fmt.Sprintf("clear %v is on the wrong side of limit %v: the level would clear while it fires", *l.Clear, *l.Limit),
			map[Kind]string{Above: "it must be at or below the limit", Below: "it must be at or above the limit"}[kind], append(path, "clear")...)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"for", l.For}, {"clear_for", l.ClearFor}} {
		switch {
		case d.value < 0:
			c.fault("a time below zero", "", append(path, d.key)...)
		case d.value > maxDelay:
			c.fault("longer than a year", "", append(path, d.key)...)
		case d.value%time.Millisecond != 0:
			c.fault("finer than a millisecond", "", append(path, d.key)...)
		}
	}
}

// order checks a level against the one below it.
func (c *compiler) order(kind Kind, low, high *levelFile, lowName string, path []any) {
	word := map[Kind]string{Above: "below", Below: "above"}[kind]
	s := kind.sign()
	if s**high.Limit < s**low.Limit {
		c.fault(fmt.Sprintf("limit %v is %s that of %s (%v)", *high.Limit, word, lowName, *low.Limit),
			"a higher severity needs a limit that is reached later", append(path, "limit")...)
		return
	}
	hc, lc := *high.Limit, *low.Limit
	if high.Clear != nil {
		hc = *high.Clear
	}
	if low.Clear != nil {
		lc = *low.Clear
	}
	if s*hc < s*lc {
		at := "clear"
		if high.Clear == nil {
			at = "limit"
		}
		c.fault(fmt.Sprintf("clears at %v, %s where %s clears (%v)", hc, word, lowName, lc),
			"a higher severity has to clear first", append(path, at)...)
	}
}

func (c *compiler) extras(i int, f *ruleFile) {
	if len(f.Labels) > telemetry.MaxLabels {
		c.fault(fmt.Sprintf("%d labels; at most %d", len(f.Labels), telemetry.MaxLabels), "", i, "labels")
	}
	for _, name := range keys(f.Labels) {
		switch {
		case !labelPattern.MatchString(name):
			c.fault(fmt.Sprintf("%.40q cannot be the name of a label", name), "use letters, digits and _", i, "labels", name)
		case slices.Contains(reservedLabels(), name):
			c.fault(fmt.Sprintf("the label %q is the hub's own", name), "take another name", i, "labels", name)
		case len(f.Labels[name]) > telemetry.MaxValueLen:
			c.fault(fmt.Sprintf("longer than %d bytes", telemetry.MaxValueLen), "", i, "labels", name)
		}
	}
	if len(f.Links) > maxLinks {
		c.fault(fmt.Sprintf("%d links; at most %d", len(f.Links), maxLinks), "", i, "links")
	}
	for _, name := range keys(f.Links) {
		u := f.Links[name]
		if !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") || len(u) > maxURLLen {
			c.fault(fmt.Sprintf("%.60q is no address", u), "begin with https://", i, "links", name)
		}
	}
	for _, t := range []struct {
		text string
		path []any
	}{{f.Title.VI, []any{i, "title", "vi"}}, {f.Title.EN, []any{i, "title", "en"}}, {f.Source, []any{i, "source"}}} {
		if len(t.text) > telemetry.MaxTextLen {
			c.fault(fmt.Sprintf("longer than %d bytes", telemetry.MaxTextLen), "", t.path...)
		}
	}
}

func reservedLabels() []string {
	return []string{telemetry.LabelSite, telemetry.LabelEdge, telemetry.LabelDevice, telemetry.LabelPoint, telemetry.LabelLate}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
