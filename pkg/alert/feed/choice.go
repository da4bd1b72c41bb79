package feed

import (
	"slices"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Choice says which entries a consumer wants. A zero field wants all; a list
// wants those that equal any of its words.
//
// An alert that was wanted once stays wanted: who asks for critical ones hears
// the end of an alert that was critical, also when it was a warning by then.
type Choice struct {
	Site     []string         `yaml:"site" doc:"ids of sites" example:"[lac-duong]"`
	Group    []string         `yaml:"group" doc:"groups of sites, see sites.yaml"`
	Severity []alert.Severity `yaml:"severity" doc:"severities: info, warning, critical, emergency" example:"[critical, emergency]"`
	Rule     []string         `yaml:"rule" doc:"ids of rules"`
	State    alert.State      `yaml:"state" doc:"active or cleared: only entries after which the alert is so; empty: both"`
	Tests    string           `yaml:"tests" doc:"with: tests and drills, too; only; without"`
}

// The values of Choice.Tests.
const (
	WithTests    = "with"
	OnlyTests    = "only"
	WithoutTests = "without"
)

// Past answers what a [Choice] must look up.
type Past interface {
	// History returns up to limit entries of the alert with a sequence above after,
	// in order.
	History(id string, after uint64, limit int) ([]alert.Entry, error)
}

// historyPage bounds one look at an alert's history.
const historyPage = 256

// Wants reports whether the entry is wanted. Groups returns the groups of a site.
func (c *Choice) Wants(e *alert.Entry, groups func(site string) []string, past Past) (bool, error) {
	a := &e.Alert
	switch {
	case c.State != "" && c.State != a.State, c.Tests == OnlyTests && !a.Test, c.Tests == WithoutTests && a.Test:
		return false, nil
	case len(c.Site) > 0 && !slices.Contains(c.Site, a.Site), len(c.Rule) > 0 && !slices.Contains(c.Rule, a.Rule):
		return false, nil
	case len(c.Group) > 0 && !slices.ContainsFunc(groups(a.Site), func(g string) bool { return slices.Contains(c.Group, g) }):
		return false, nil
	case len(c.Severity) == 0 || slices.Contains(c.Severity, a.Severity):
		return true, nil
	case e.Kind == alert.Foreseen:
		return false, nil
	}
	for after := uint64(0); ; {
		list, err := past.History(a.ID, after, historyPage)
		if err != nil {
			return false, err
		}
		for i := range list {
			if list[i].Sequence >= e.Sequence {
				return false, nil
			}
			if slices.Contains(c.Severity, list[i].Alert.Severity) {
				return true, nil
			}
			after = list[i].Sequence
		}
		if len(list) < historyPage {
			return false, nil
		}
	}
}
