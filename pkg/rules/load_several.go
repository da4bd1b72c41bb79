package rules

import (
	"fmt"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// severalOf says which alerts a rule of kind several counts.
type severalOf struct {
	Of       patterns // rules
	By       []string // labels in which the alerts of a group agree
	Count    string   // what has to differ
	Severity alert.Severity
}

type severalFile struct {
	Of        patterns        `yaml:"of" doc:"ids of the rules whose alerts are counted, one or several, with * and ?"`
	By        patterns        `yaml:"by" doc:"alerts that agree in these are counted together: site, edge, device, or labels.NAME; all together when not said"`
	Count     string          `yaml:"count" doc:"what is counted: series, device, edge, site or rule" default:"series"`
	Severity  *alert.Severity `yaml:"severity" doc:"count alerts that are at least so severe" default:"info"`
	Info      *severalLevel   `yaml:"info"`
	Warning   *severalLevel   `yaml:"warning"`
	Critical  *severalLevel   `yaml:"critical"`
	Emergency *severalLevel   `yaml:"emergency"`
}

type severalLevel struct {
	AtLeast  int           `yaml:"at_least" doc:"how many"`
	For      time.Duration `yaml:"for" doc:"how long they must stand together before it counts" default:"0s"`
	ClearFor time.Duration `yaml:"clear_for" doc:"how long they must be fewer before it no longer counts" default:"0s"`
}

func (c *compiler) severalRule(i int, f *severalFile, r *rule) {
	r.source, r.shape = ofReading, isAtLeast
	r.quantity = ""
	s := &severalOf{Of: f.Of, Count: f.Count, Severity: alert.Info}
	r.several = s
	if c.doc.Has(i, "watch") {
		c.fault("a rule of kind several watches the alerts of other rules", "take watch away", i, "watch")
	}
	if len(f.Of) == 0 && !c.doc.Has(i, "several", "of") {
		c.fault("nothing says whose alerts are counted", "write of: and the ids of rules", i, "several")
	}
	s.By = c.groupBy(f.By, i, "several", "by")
	if words := []string{"series", "device", "edge", "site", "rule"}; s.Count == "" {
		s.Count = "series"
	} else if !slices.Contains(words, s.Count) {
		c.fault(fmt.Sprintf("%.40q cannot be counted", s.Count), strictyaml.Meant(s.Count, words), i, "several", "count")
	}
	if f.Severity != nil && *f.Severity != alert.None {
		s.Severity = *f.Severity
	}
	for k, l := range []*severalLevel{f.Info, f.Warning, f.Critical, f.Emergency} {
		if l == nil {
			continue
		}
		severity := alert.Severity(k + 1)
		at := []any{i, "several", severity.String()}
		if !c.needs(l.AtLeast > 0, "at_least", "how many", at) {
			continue
		}
		c.times(l.For, l.ClearFor, at)
		n := float64(l.AtLeast)
		if k := len(r.levels); k > 0 && n < r.levels[k-1].limit {
			c.fault(fmt.Sprintf("fewer than %s needs", r.levels[k-1].severity), "a higher severity needs more", append(at, "at_least")...)
		}
		r.levels = append(r.levels, level{severity: severity, limit: n, clear: n, hold: l.For.Milliseconds(), clearFor: l.ClearFor.Milliseconds()})
	}
	if len(r.levels) == 0 {
		c.fault("the ladder has no level", "write warning: {at_least: 3}", i, "several")
	}
}

// members checks that rules of kind several count rules that there are, and none
// of their own kind.
func (c *compiler) members() {
	for _, r := range c.rules {
		if r.several == nil {
			continue
		}
		for _, p := range r.several.Of {
			found := false
			for _, o := range c.rules {
				found = found || o.several == nil && !o.byClock() && glob(p, o.id)
			}
			if !found {
				hint := "the hub's clock judges that one"
				if _, ok := c.seen[p]; !ok {
					hint = strictyaml.Meant(p, keys(c.seen))
				}
				c.errs = append(c.errs, strictyaml.Error{
					Pos: r.pos, Path: r.id, Msg: fmt.Sprintf("no rule that is judged in event time is named %.60q", p), Hint: hint,
				})
			}
		}
	}
}
