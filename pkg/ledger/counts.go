package ledger

import (
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/alert"
)

// tally counts the active alerts of one rule at one site.
type tally struct {
	total, active, unacknowledged, chattering int
	bySeverity                                [alert.Emergency + 1]int
	held                                      [len(heldStates)]int
}

func (t *tally) add(v *indexValue, by int) {
	t.total += by
	if v.held != "" {
		t.held[slices.Index(heldStates[:], v.held)] += by
		return
	}
	t.active += by
	t.bySeverity[min(v.severity, alert.Emergency)] += by
	if !v.acknowledged {
		t.unacknowledged += by
	}
	if v.chattering {
		t.chattering += by
	}
}

func (t *tally) worst() alert.Severity {
	for s := alert.Emergency; s > alert.None; s-- {
		if t.bySeverity[s] > 0 {
			return s
		}
	}
	return alert.None
}

func (t *tally) severities() map[alert.Severity]int {
	m := map[alert.Severity]int{}
	for s, n := range t.bySeverity {
		if n > 0 {
			m[alert.Severity(s)] = n
		}
	}
	return m
}

type groupKey struct{ site, rule string }

// counters keep the counts up to date in constant time per transition: for each
// rule at each site, for each site, for each rule, and for all.
type counters struct {
	all    tally
	groups map[groupKey]*tally
	sites  map[string]*tally
	rules  map[string]*tally
}

func newCounters() counters {
	return counters{groups: map[groupKey]*tally{}, sites: map[string]*tally{}, rules: map[string]*tally{}}
}

// add counts an alert's index value, by +1 or -1.
func (c *counters) add(v *indexValue, by int) {
	if !v.active || v.test {
		return
	}
	c.all.add(v, by)
	tallyOf(c.groups, groupKey{v.site, v.rule}, v, by)
	tallyOf(c.sites, v.site, v, by)
	tallyOf(c.rules, v.rule, v, by)
}

func tallyOf[K comparable](m map[K]*tally, k K, v *indexValue, by int) {
	t := m[k]
	if t == nil {
		t = &tally{}
		m[k] = t
	}
	if t.add(v, by); t.total == 0 {
		delete(m, k)
	}
}

// Counts returns how many alerts are active. They are kept, not counted: it
// costs as much as there are sites and rules with active alerts.
func (l *Ledger) Counts() alert.Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := &l.counts.all
	c := alert.Counts{
		Active: all.active, Unacknowledged: all.unacknowledged, Chattering: all.chattering, BySeverity: all.severities(),
		BySite: map[string]map[alert.Severity]int{}, ByRule: map[string]int{}, Held: map[alert.ISAState]int{},
	}
	for i, n := range all.held {
		if n > 0 {
			c.Held[heldStates[i]] = n
		}
	}
	for site, t := range l.counts.sites {
		if t.active > 0 {
			c.BySite[site] = t.severities()
		}
	}
	for rule, t := range l.counts.rules {
		if t.active > 0 {
			c.ByRule[rule] = t.active
		}
	}
	return c
}

// Groups returns what is active, grouped by site and rule: the worst first, then
// the largest.
func (l *Ledger) Groups() ([]alert.Group, error) {
	l.mu.Lock()
	groups := make(map[groupKey]*alert.Group, len(l.counts.groups))
	for k, t := range l.counts.groups {
		groups[k] = &alert.Group{
			Site: k.site, Rule: k.rule, Severity: t.worst(), Active: t.active, Unacknowledged: t.unacknowledged,
			Chattering: t.chattering, BySeverity: t.severities(), Held: t.total - t.active,
		}
	}
	l.mu.Unlock()
	missing := len(groups)
	err := l.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketActive).Cursor()
		for k, v := c.First(); k != nil && missing > 0; k, v = c.Next() {
			ix, ok := decodeIndex(v)
			if !ok || ix.test {
				continue
			}
			if g := groups[groupKey{ix.site, ix.rule}]; g != nil && g.First == "" {
				g.Since, g.First = time.UnixMilli(keyTime(k)).UTC(), string(k[8:])
				missing--
			}
		}
		return nil
	})
	out := make([]alert.Group, 0, len(groups))
	for _, g := range groups {
		if g.First != "" { // else it has ended between the two looks
			out = append(out, *g)
		}
	}
	slices.SortFunc(out, func(a, b alert.Group) int {
		switch {
		case a.Severity != b.Severity:
			return int(b.Severity) - int(a.Severity)
		case a.Active != b.Active:
			return b.Active - a.Active
		case a.Site != b.Site:
			return strings.Compare(a.Site, b.Site)
		}
		return strings.Compare(a.Rule, b.Rule)
	})
	return out, err
}

// Statistics summarises the alerts that began in [from, to), of one site or, when
// that is empty, of all. It reads the index of every alert that is kept and began
// before to.
func (l *Ledger) Statistics(from, to time.Time, site string) (alert.Statistics, error) {
	var list []alert.Episode
	begin, standing := from.UnixMilli(), to.Add(-alert.StandingAfter).UnixMilli()
	err := l.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketStarts).Cursor()
		for k, v := c.First(); k != nil && keyTime(k) < to.UnixMilli(); k, v = c.Next() {
			start := keyTime(k)
			if start < begin && (start >= standing || indexEnd(v) <= to.UnixMilli()) {
				continue
			}
			ix, ok := decodeIndex(v)
			if !ok || site != "" && ix.site != site {
				continue
			}
			list = append(list, alert.Episode{
				ID: string(k[8:]), Start: start, End: ix.end, Severity: ix.severity, Site: ix.site, Rule: ix.rule, Series: ix.series,
				Activations: int(ix.activations), Held: ix.silent, Test: ix.test,
			})
		}
		return nil
	})
	if err != nil {
		return alert.Statistics{}, err
	}
	return alert.Summarise(list, from, to), nil
}

// LastStarts returns for each rule the start of its newest alert that is kept and no
// test. It reads the index of every alert: call it once.
func (l *Ledger) LastStarts() (map[string]time.Time, error) {
	last := map[string]time.Time{}
	err := l.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketStarts).ForEach(func(k, v []byte) error {
			if ix, ok := decodeIndex(v); ok && !ix.test {
				last[ix.rule] = time.UnixMilli(keyTime(k)).UTC()
			}
			return nil
		})
	})
	return last, err
}
