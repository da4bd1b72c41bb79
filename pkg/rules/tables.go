package rules

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/airindex"
	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// tables are what files without rules bring: national ladders, air quality
// indexes, holidays. They stand beside the rules, as data with their sources.
type tables struct {
	ladders  map[string]*ladderTable
	indexes  map[string]*airindex.Table
	holidays map[string][]string
}

func newTables() tables {
	return tables{ladders: map[string]*ladderTable{}, indexes: map[string]*airindex.Table{}, holidays: map[string][]string{}}
}

// ladderTable is a ladder with names, for all series or place by place.
type ladderTable struct {
	quantity string
	below    bool
	levels   []level
	at       []override // with rules of which only the levels count
}

// tablesFile is a file of tables.
type tablesFile struct {
	Ladders  map[string]ladderTableFile `yaml:"ladders" doc:"ladders by name"`
	Indexes  map[string]indexFile       `yaml:"indexes" doc:"air quality indexes by name"`
	Holidays map[string]holidaysFile    `yaml:"holidays" doc:"lists of holidays by name"`
}

type ladderTableFile struct {
	Source   string                 `yaml:"source" doc:"where the limits come from"`
	Quantity string                 `yaml:"quantity" doc:"what the limits are of; empty for an index"`
	Below    bool                   `yaml:"below" doc:"the levels are reached downward" default:"false"`
	Levels   map[string]nameFile    `yaml:"levels" doc:"names and colours of the levels. Each is named by its severity; or, where the ladder has more levels than there are severities, by a word or number of its own, and then it says its severity and rank"`
	Limits   map[string]levelFile   `yaml:"limits" doc:"by level, for the series that have none of their own below"`
	At       []ladderTablePlaceFile `yaml:"at" doc:"limits of single places"`
}

type nameFile struct {
	Name     telemetry.Text  `yaml:"name" doc:"what the level is called"`
	Color    string          `yaml:"color" doc:"its colour" example:"#ff7e00"`
	Severity *alert.Severity `yaml:"severity" doc:"severity of its alerts; several levels may share one. Not said of a level that is named by its severity"`
	Rank     int             `yaml:"rank" doc:"its place in the ladder, 1 the lowest; needed when severity is"`
}

type ladderTablePlaceFile struct {
	Name   string               `yaml:"name" doc:"the place, for people"`
	Where  whereFile            `yaml:"where" doc:"its series"`
	Limits map[string]levelFile `yaml:"limits" doc:"by level; those that are named by their severity may stand here without limits:"`
	Own    severitiesFile       `yaml:",inline"`
}

type severitiesFile struct {
	Info      *levelFile `yaml:"info"`
	Warning   *levelFile `yaml:"warning"`
	Critical  *levelFile `yaml:"critical"`
	Emergency *levelFile `yaml:"emergency"`
}

type indexFile struct {
	Source     string                 `yaml:"source" doc:"where the table comes from"`
	Index      []float64              `yaml:"index" doc:"the index at each step"`
	Quantities map[string]indexOfFile `yaml:"quantities" doc:"concentrations at each step, by quantity"`
}

type indexOfFile struct {
	Mean   string    `yaml:"mean" doc:"hour: of the last full hour; nowcast: weighted over the last 12" default:"hour"`
	Factor float64   `yaml:"factor" doc:"what a reading in the quantity's unit is multiplied by" default:"1"`
	At8h   []float64 `yaml:"at_8h" doc:"concentrations at the steps for means over 8 h, of which the worst of the day counts in the daily index"`
	At     []float64 `yaml:"at" doc:"concentrations at the steps of the index; fewer when the table ends earlier"`
}

type holidaysFile struct {
	Source string   `yaml:"source" doc:"where the dates come from"`
	Dates  []string `yaml:"dates,text" doc:"such as 2026-09-02"`
}

// isTables tells a file of tables from one of rules, which is a list.
func isTables(doc *strictyaml.Document) bool { return len(doc.Keys()) > 0 }

var colorPattern = regexp.MustCompile(`^#[0-9a-f]{6}$`)

func (c *compiler) tableFile() {
	var f tablesFile
	c.errs = append(c.errs, c.doc.Decode(&f)...)
	for _, name := range keys(f.Ladders) {
		path := []any{"ladders", name}
		if c.tables.ladders[name] != nil {
			c.fault(fmt.Sprintf("a ladder %.40q stands already in another file", name), "", path...)
		}
		c.tables.ladders[name] = c.ladderTable(f.Ladders[name], path)
	}
	for _, name := range keys(f.Indexes) {
		path := []any{"indexes", name}
		if c.tables.indexes[name] != nil {
			c.fault(fmt.Sprintf("an index %.40q stands already in another file", name), "", path...)
		}
		c.tables.indexes[name] = c.indexTable(f.Indexes[name], path)
	}
	for _, name := range keys(f.Holidays) {
		path := []any{"holidays", name}
		if c.tables.holidays[name] != nil {
			c.fault(fmt.Sprintf("holidays %.40q stand already in another file", name), "", path...)
		}
		for k, d := range f.Holidays[name].Dates {
			if _, err := time.Parse(time.DateOnly, d); err != nil {
				c.fault(fmt.Sprintf("%.40q is no date", d), "write 2026-09-02", "holidays", name, "dates", k)
			}
		}
		c.tables.holidays[name] = append([]string{}, f.Holidays[name].Dates...)
		c.sourced(f.Holidays[name].Source, path)
	}
}

func (c *compiler) sourced(source string, path []any) {
	if source == "" {
		c.fault("the source is missing", "write source: and where this comes from", path...)
	}
}

func (c *compiler) ladderTable(f ladderTableFile, path []any) *ladderTable {
	c.sourced(f.Source, path)
	if _, ok := c.env.Quantities[f.Quantity]; !ok && f.Quantity != "" {
		c.fault(fmt.Sprintf("unknown quantity %.60q", f.Quantity), c.quantityHint(f.Quantity), slices.Concat(path, []any{"quantity"})...)
	}
	t := &ladderTable{quantity: f.Quantity, below: f.Below}
	names := c.levelNames(f.Levels, slices.Concat(path, []any{"levels"}))
	shape := isAbove
	if f.Below {
		shape = isBelow
	}
	if f.Limits != nil {
		r := &rule{shape: shape}
		c.namedLevels(f.Limits, names, r, slices.Concat(path, []any{"limits"}))
		t.levels = r.levels
	}
	for k := range f.At {
		at := slices.Concat(path, []any{"at", k})
		p := &f.At[k]
		o := override{where: c.where(&p.Where, slices.Concat(at, []any{"where"})...), rule: &rule{shape: shape}}
		if o.where.String() == "" {
			c.fault("nothing says for which series", "write where: {site: ...}, or device, labels ...", at...)
		}
		if p.Limits != nil {
			c.namedLevels(p.Limits, names, o.rule, slices.Concat(at, []any{"limits"}))
		}
		for i, l := range []*levelFile{p.Own.Info, p.Own.Warning, p.Own.Critical, p.Own.Emergency} {
			if l != nil {
				s := alert.Severity(i + 1)
				c.level(l, o.rule, s, names[s.String()].level, slices.Concat(at, []any{s.String()}))
			}
		}
		if len(o.rule.levels) == 0 {
			c.fault("the place has no limits", "write warning: {limit: ...}", at...)
		}
		t.at = append(t.at, o)
	}
	return t
}

// namedLevel is a level that a ladder names.
type namedLevel struct {
	severity alert.Severity
	level    *alert.Level
}

// levelNames reads the levels of a ladder.
func (c *compiler) levelNames(list map[string]nameFile, path []any) map[string]namedLevel {
	names := map[string]namedLevel{}
	ranks := map[int]string{}
	if len(list) > maxLevels {
		c.fault(fmt.Sprintf("%d levels; at most %d", len(list), maxLevels), "", path...)
	}
	for _, id := range keys(list) {
		at := slices.Concat(path, []any{id})
		n := list[id]
		s, bySeverity := alert.ParseSeverity(id)
		rank := int(s)
		switch {
		case bySeverity && (n.Severity != nil || n.Rank != 0):
			c.fault("a level that is named by its severity has no other severity or rank", "", at...)
		case !bySeverity && (n.Severity == nil || *n.Severity == alert.None):
			c.fault(fmt.Sprintf("nothing says the severity of level %.40q", id), "write severity: info, warning, critical or emergency", at...)
			continue
		case !bySeverity && n.Rank < 1:
			c.fault(fmt.Sprintf("nothing says the place of level %.40q in the ladder", id), "write rank: and a number, 1 for the lowest level", at...)
			continue
		case !bySeverity:
			s, rank = *n.Severity, n.Rank
		}
		if other, taken := ranks[rank]; taken {
			c.fault(fmt.Sprintf("%.40q has the rank %d already", other, rank), "each level has a place of its own", at...)
		}
		ranks[rank] = id
		if !colorPattern.MatchString(n.Color) && n.Color != "" {
			c.fault(fmt.Sprintf("%.40q is no colour", n.Color), "write #rrggbb in small letters", slices.Concat(at, []any{"color"})...)
		}
		if len(id) > telemetry.MaxNameLen {
			c.fault(fmt.Sprintf("longer than %d bytes", telemetry.MaxNameLen), "", at...)
		}
		names[id] = namedLevel{s, &alert.Level{ID: id, Rank: rank, Name: n.Name, Color: n.Color}}
	}
	for _, id := range keys(names) {
		for _, other := range names {
			if n := names[id]; n.level.Rank > other.level.Rank && n.severity < other.severity {
				c.fault(fmt.Sprintf("is less severe than %.40q, which is below it", other.level.ID), "a higher rank has at least the severity of those below", slices.Concat(path, []any{id})...)
				break
			}
		}
	}
	return names
}

// namedLevels reads limits by level, lowest first.
func (c *compiler) namedLevels(limits map[string]levelFile, names map[string]namedLevel, r *rule, path []any) {
	ids := keys(limits)
	find := func(id string) (n namedLevel, ok bool) {
		if n, ok = names[id]; !ok {
			n.severity, ok = alert.ParseSeverity(id) // without a name
			n.level = nil
		}
		return n, ok
	}
	rank := func(id string) int {
		n, _ := find(id)
		if n.level != nil {
			return n.level.Rank
		}
		return int(n.severity)
	}
	slices.SortStableFunc(ids, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	for _, id := range ids {
		at := slices.Concat(path, []any{id})
		n, ok := find(id)
		if !ok {
			c.fault(fmt.Sprintf("the ladder names no level %.40q", id), strictyaml.Meant(id, keys(names)), at...)
			continue
		}
		l := limits[id]
		c.level(&l, r, n.severity, n.level, at)
	}
	c.empty(r, path)
}

// fromTable gives the rule the limits of a table.
func (c *compiler) fromTable(f *ladderFile, r *rule, path []any) {
	at := slices.Concat(path, []any{"from"})
	t := c.tables.ladders[f.From]
	switch {
	case t == nil:
		c.fault(fmt.Sprintf("unknown ladder %.60q", f.From), strictyaml.Meant(f.From, keys(c.tables.ladders)), at...)
		return
	case f.Info != nil || f.Warning != nil || f.Critical != nil || f.Emergency != nil:
		c.fault("a ladder has its limits from a table or here, not both", "use overrides for single places", at...)
		return
	case t.quantity != "" && t.quantity != r.quantity:
		c.fault(fmt.Sprintf("the limits of %s are for %s", f.From, t.quantity), "", at...)
	case t.below != (r.shape == isBelow):
		c.fault(fmt.Sprintf("the limits of %s are for %s", f.From, map[bool]string{false: "above", true: "below"}[t.below]), "", at...)
	}
	r.levels, r.places = slices.Clone(t.levels), t.at
}

func (c *compiler) indexTable(f indexFile, path []any) *airindex.Table {
	c.sourced(f.Source, path)
	t := &airindex.Table{Index: f.Index, Of: map[string]airindex.Of{}}
	if len(f.Index) < 2 || !slices.IsSorted(f.Index) {
		c.fault("the index needs two or more rising steps", "", slices.Concat(path, []any{"index"})...)
	}
	for _, q := range keys(f.Quantities) {
		at := slices.Concat(path, []any{"quantities", q})
		o := f.Quantities[q]
		if _, ok := c.env.Quantities[q]; !ok {
			c.fault(fmt.Sprintf("unknown quantity %.60q", q), c.quantityHint(q), at...)
		}
		if o.Mean != "" && o.Mean != "hour" && o.Mean != "nowcast" {
			c.fault(fmt.Sprintf("%.40q is not known", o.Mean), strictyaml.Meant(o.Mean, []string{"hour", "nowcast"}), slices.Concat(at, []any{"mean"})...)
		}
		if len(o.At) < 2 || len(o.At) > len(f.Index) || !slices.IsSorted(o.At) {
			c.fault(fmt.Sprintf("%d concentrations; they must rise, two or more and at most as many as the index has steps", len(o.At)), "", slices.Concat(at, []any{"at"})...)
			continue
		}
		if len(o.At8h) > len(f.Index) || !slices.IsSorted(o.At8h) {
			c.fault(fmt.Sprintf("%d concentrations; they must rise, at most as many as the index has steps", len(o.At8h)), "", slices.Concat(at, []any{"at_8h"})...)
			continue
		}
		if o.Factor == 0 {
			o.Factor = 1
		}
		t.Of[q] = airindex.Of{NowCast: o.Mean == "nowcast", Factor: o.Factor, At: o.At, At8h: o.At8h}
	}
	return t
}

// indexRule makes the rule judge an index.
func (c *compiler) indexRule(i int, f *ruleFile, r *rule) {
	r.source, r.fn = ofWindow, fnIndex
	r.step, r.width = hour, hour
	t := c.tables.indexes[f.Index]
	if t == nil {
		c.fault(fmt.Sprintf("unknown index %.60q", f.Index), strictyaml.Meant(f.Index, keys(c.tables.indexes)), i, "index")
		return
	}
	of, ok := t.Of[r.quantity]
	if !ok {
		c.fault(fmt.Sprintf("%s has no table for %s", f.Index, r.quantity), strictyaml.Meant(r.quantity, keys(t.Of)), i, "index")
		return
	}
	if of.NowCast {
		r.width = 12 * hour
	}
	r.index = &airindex.Table{Index: t.Index, Of: map[string]airindex.Of{r.quantity: of}}
}

const hour = int64(time.Hour / time.Millisecond)

// index returns the index of the hours that are over.
func (a *aux) indexValue(r *rule) (float64, bool) {
	of := r.index.Of[r.quantity]
	var means [12]float64
	var known [12]bool
	for i := range a.ring { // newest first
		k := (a.head - 1 - i + 2*len(a.ring)) % len(a.ring)
		if p := a.ring[k]; p.n > 0 {
			means[i], known[i] = p.v/float64(p.n)*of.Factor, true
		}
	}
	c, ok := means[0], known[0]
	if of.NowCast {
		c, ok = airindex.NowCast(means, known)
	}
	if !ok {
		return 0, false
	}
	return r.index.Value(&of, c), true
}
