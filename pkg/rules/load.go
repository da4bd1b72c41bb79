package rules

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

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
	// CheckQuery says what is wrong with a PromQL expression, a [*QueryError] where
	// its place is known. Nil: expressions are not looked at before they are evaluated.
	CheckQuery func(query string) error
	// Over makes an evaluator of expressions over readings, for tests of rules. Nil:
	// expressions cannot be tested.
	Over func([]History) Querier
}

// Site is what rules know of a site: what messages say, and the groups that where
// may choose it by.
type Site struct {
	Name   telemetry.Text
	Groups []string
}

// The bounds of a rule set.
const (
	maxRules     = 10_000
	maxVariants  = 50_000 // rules, and overrides of rules
	maxDelay     = 366 * 24 * time.Hour
	maxSteps     = 1440 // of a window
	maxLinks     = 16
	maxURLLen    = 1024
	maxStates    = 64
	defaultSteps = 24
)

// ruleFile is a rule as it stands in a file.
type ruleFile struct {
	ID      string         `yaml:"id" doc:"name of the rule, unique; part of its alerts' identity" example:"pm25-high"`
	Title   telemetry.Text `yaml:"title" doc:"what the rule is about, for lists"`
	Watch   watchFile      `yaml:"watch" doc:"which series the rule judges, each on its own"`
	Window  *windowFile    `yaml:"window" doc:"judge an aggregate over a sliding window instead of the reading"`
	Rate    *rateFile      `yaml:"rate" doc:"judge the change over a time instead of the reading"`
	Index   string         `yaml:"index" doc:"judge an air quality index over hourly means instead of the reading; the name of its table" example:"vn_aqi"`
	Limits  limitsFile     `yaml:",inline"`
	Flat    *flatFile      `yaml:"flatline" doc:"fire when the value does not move; the ladder gives the times"`
	NoData  *agesFile      `yaml:"no_data" doc:"fire when there are no readings; the ladder gives the times"`
	State   *statesFile    `yaml:"state" doc:"fire while the value is one of a list"`
	Several *severalFile   `yaml:"several" doc:"fire while several alerts of other rules stand at once"`

	Expression *expressionFile `yaml:"expression" doc:"judge what a PromQL expression gives instead of readings; by the hub's clock"`
	Fewer      *fewerFile      `yaml:"fewer" doc:"fire while fewer than so many of the watched series report; by the hub's clock"`
	Silent     *agesFile       `yaml:"edge_offline" doc:"fire when the hub hears nothing of an edge; the ladder gives the times; by the hub's clock"`

	Collapse    *bool             `yaml:"collapse" doc:"false: every activation is an alert of its own; otherwise three within a minute collapse into one that is marked chattering" default:"true"`
	Overrides   []overrideFile    `yaml:"overrides" doc:"other limits for some of the series; the first that matches counts"`
	Schedule    *scheduleFile     `yaml:"schedule" doc:"when the rule judges; always when not said"`
	Bad         string            `yaml:"bad" doc:"what a bad reading does: hold (the last good value holds, and it is a sign of life), ignore (the value holds, no sign of life), no_data (held values end). hold when not said, for no_data rules ignore"`
	Maintenance string            `yaml:"maintenance" doc:"what readings with the reason maintenance do: suppress (no alert while they last) or judge (nothing special)" default:"suppress"`
	Message     telemetry.Text    `yaml:"message" doc:"what people read; with places such as {{.Site.Name}} and {{.Value}}"`
	Labels      map[string]string `yaml:"labels,text" doc:"put on the rule's alerts, beside the labels of the series"`
	Procedure   string            `yaml:"procedure" doc:"address of the procedure (SOP): what to do when it fires" example:"https://example.org/sop/air"`
	Links       map[string]string `yaml:"links,text" doc:"further addresses by name"`
	Source      string            `yaml:"source" doc:"where the limits come from, and the averaging time they are meant for"`
}

type watchFile struct {
	Quantity string    `yaml:"quantity" doc:"what the watched points measure; an entry of the catalogue" example:"pm2_5"`
	Where    whereFile `yaml:"where" doc:"narrows the series down; without it all series of the quantity are watched"`
}

type whereFile struct {
	Site   patterns            `yaml:"site" doc:"id of a site, or several; * stands for any characters, ? for one"`
	Group  patterns            `yaml:"group" doc:"group of sites (groups: of sites.yaml), in the same way"`
	Edge   patterns            `yaml:"edge" doc:"id of an edge, in the same way"`
	Device patterns            `yaml:"device" doc:"id of a device, in the same way"`
	Point  patterns            `yaml:"point" doc:"name of a point, in the same way"`
	Labels map[string]patterns `yaml:"labels" doc:"labels that edge.yaml gives the device or point, in the same way"`
}

// Load compiles rule files into a set. The error is a strictyaml.Errors with
// every fault of every file; there is no set then.
func Load(files []Source, env Env) (*Set, error) {
	c := compiler{env: env, seen: map[string]strictyaml.Pos{}, tables: newTables()}
	docs := make([]*strictyaml.Document, len(files))
	for i, f := range files {
		var errs strictyaml.Errors
		docs[i], errs = strictyaml.Parse(f.Name, f.Data)
		c.errs = append(c.errs, errs...)
		if docs[i] != nil && isTables(docs[i]) {
			c.doc, docs[i] = docs[i], nil
			c.tableFile()
		}
	}
	for _, builtIn := range []bool{false, true} {
		for i, doc := range docs {
			if c.builtIn = strings.HasPrefix(files[i].Name, BuiltIn); doc != nil && c.builtIn == builtIn {
				c.doc, c.data = doc, files[i].Data
				c.file()
			}
		}
	}
	c.members()
	variants := len(c.rules)
	for _, r := range c.rules {
		variants += len(r.overrides)
	}
	if len(c.rules) > maxRules || variants > maxVariants {
		c.errs = append(c.errs, strictyaml.Error{
			Pos: strictyaml.Pos{File: files[len(files)-1].Name},
			Msg: fmt.Sprintf("%d rules, %d with their overrides; at most %d and %d", len(c.rules), variants, maxRules, maxVariants),
		})
	}
	if err := c.errs.Err(); err != nil {
		return nil, err
	}
	set := newSet(c.rules, env)
	set.indexes = c.tables.indexes
	return set, nil
}

// Reference returns the reference of rule files as Markdown.
func Reference() string { return strictyaml.Reference(ruleFile{}) }

type compiler struct {
	env    Env
	tables tables
	rules  []*rule
	seen   map[string]strictyaml.Pos
	errs   strictyaml.Errors

	doc     *strictyaml.Document // that is read, and its bytes
	data    []byte
	builtIn bool // it is one of built-in rules
}

func (c *compiler) file() {
	var list []ruleFile
	c.errs = append(c.errs, c.doc.Decode(&list)...)
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
	if _, ok := c.seen[f.ID]; ok && c.builtIn {
		return nil
	}
	r := &rule{id: f.ID, pos: c.doc.At(i), title: f.Title, cite: f.Source, labels: f.Labels, links: f.Links, procedure: f.Procedure}
	if p, ok := f.Links[linkProcedure]; ok && r.procedure == "" {
		r.procedure = p
		r.links = maps.Clone(f.Links)
		delete(r.links, linkProcedure)
	}
	r.apart = f.Collapse != nil && !*f.Collapse
	c.id(i, f.ID)
	c.policies(i, f, r)
	r.schedule = c.schedule(f.Schedule, i, "schedule")
	q, known := telemetry.Quantity{}, true
	switch {
	case f.Several != nil:
	case f.Expression != nil || f.Silent != nil:
		q = c.watchResult(i, f, r)
	default:
		q, known = c.watch(i, f, r)
	}
	c.kind(i, f, r)
	c.extras(i, f)
	if r.byClock() {
		c.judgedByClock(i, r)
	}
	if known && r.kind != "" {
		r.vi = c.message(f.Message.VI, r.fallback(vi), r, q, vi, i, "message", "vi")
		r.en = c.message(f.Message.EN, r.fallback(en), r, q, en, i, "message", "en")
	}
	r.version = r.hash()
	c.overrides(i, f, r)
	return r
}

// policies reads what odd readings do.
func (c *compiler) policies(i int, f *ruleFile, r *rule) {
	words := []string{"hold", "ignore", "no_data"}
	switch f.Bad {
	case "":
		if f.NoData != nil {
			r.bad = badIgnore
		}
	case "hold":
	case "ignore":
		r.bad = badIgnore
	case "no_data":
		r.bad = badNoData
	default:
		c.fault(fmt.Sprintf("%.40q is not known", f.Bad), strictyaml.Meant(f.Bad, words), i, "bad")
	}
	switch words := []string{"suppress", "judge"}; f.Maintenance {
	case "", "suppress":
	case "judge":
		r.throughWork = true
	default:
		c.fault(fmt.Sprintf("%.40q is not known", f.Maintenance), strictyaml.Meant(f.Maintenance, words), i, "maintenance")
	}
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
	r.where = c.where(&w.Where, i, "watch", "where")
	return q, known
}

func (c *compiler) where(f *whereFile, path ...any) where {
	w := where{site: f.Site, group: f.Group, edge: f.Edge, device: f.Device, point: f.Point}
	for name, ps := range f.Labels {
		if !labelPattern.MatchString(name) {
			c.fault(fmt.Sprintf("%.40q cannot be the name of a label", name), "", slices.Concat(path, []any{"labels", name})...)
		}
		w.labels = append(w.labels, labelMatch{name, ps})
	}
	slices.SortFunc(w.labels, func(a, b labelMatch) int { return strings.Compare(a.name, b.name) })
	if len(c.env.Sites) == 0 {
		return w
	}
	groups := map[string]bool{}
	for _, s := range c.env.Sites {
		for _, g := range s.Groups {
			groups[g] = true
		}
	}
	c.names("site", f.Site, keys(c.env.Sites), slices.Concat(path, []any{"site"}))
	c.names("group of sites", f.Group, keys(groups), slices.Concat(path, []any{"group"}))
	return w
}

// names checks that names without a glob are known.
func (c *compiler) names(what string, given patterns, known []string, path []any) {
	for k, name := range given {
		if isGlob(name) || slices.Contains(known, name) {
			continue
		}
		at := path
		if c.doc.Has(slices.Concat(path, []any{k})...) {
			at = slices.Concat(path, []any{k})
		}
		c.fault(fmt.Sprintf("unknown %s %.40q", what, name), strictyaml.Meant(name, known), at...)
	}
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
		c.address(f.Links[name], i, "links", name)
	}
	if f.Procedure != "" {
		c.address(f.Procedure, i, "procedure")
	}
	if f.Procedure != "" && f.Links[linkProcedure] != "" {
		c.fault("the rule names its procedure twice", "take this one away", i, "links", linkProcedure)
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

// linkProcedure is the link that older files have in place of procedure.
const linkProcedure = "procedure"

func (c *compiler) address(u string, path ...any) {
	if !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") || len(u) > maxURLLen {
		c.fault(fmt.Sprintf("%.60q is no address", u), "begin with https://", path...)
	}
}

func reservedLabels() []string {
	return []string{telemetry.LabelSite, telemetry.LabelEdge, telemetry.LabelDevice, telemetry.LabelPoint, telemetry.LabelLate, LabelJudgedBy}
}
