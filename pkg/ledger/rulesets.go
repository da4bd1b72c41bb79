package ledger

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Source is a rule file as it was read.
type Source struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// RuleSet is a rule set with the event time from which it holds, in
// milliseconds, and the sources to compile it from again: edges that are behind
// still need the set that held then. Extra holds what else it was compiled
// with.
type RuleSet struct {
	ID      string          `json:"id"`
	From    int64           `json:"from"`
	Sources []Source        `json:"sources"`
	Extra   json.RawMessage `json:"extra,omitempty"`
}

// PutRuleSet stores the set and returns when it is on disk. The set may be used
// only then: an edge's state must never know a set that the ledger lacks.
func (l *Ledger) PutRuleSet(s RuleSet) error {
	if s.ID == "" || len(s.ID) > 255 {
		return fmt.Errorf("rule set %w: its id %.40q is empty or too long", ErrInvalid, s.ID)
	}
	data, err := json.Marshal(&s)
	if err != nil {
		return fmt.Errorf("rule set %s %w: %w", s.ID, ErrInvalid, err)
	}
	return l.wait(func(b *batch) error { return b.tx.Bucket(bucketRuleSets).Put(indexKey(s.From, s.ID), data) })
}

// RuleSets returns the sets that are kept, in the order in which they take
// effect.
func (l *Ledger) RuleSets() ([]RuleSet, error) {
	var out []RuleSet
	err := l.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketRuleSets).ForEach(func(_, v []byte) error { return appendJSON(&out, v) })
	})
	return out, err
}

// DropRuleSets removes the sets that took effect before the newest one with
// From at or below the given event time: once every edge has passed it, none of
// them is needed. It returns how many it removed.
func (l *Ledger) DropRuleSets(passed int64) (dropped int, err error) {
	err = l.wait(func(b *batch) error {
		bucket := b.tx.Bucket(bucketRuleSets)
		var keys [][]byte
		c := bucket.Cursor()
		for k, _ := c.First(); k != nil && keyTime(k) <= passed; k, _ = c.Next() {
			keys = append(keys, slices.Clone(k))
		}
		for _, k := range keys[:max(0, len(keys)-1)] {
			if err := bucket.Delete(k); err != nil {
				return err
			}
			dropped++
		}
		return nil
	})
	return dropped, err
}

// DeleteRuleSet removes a set that has not been used.
func (l *Ledger) DeleteRuleSet(id string, from int64) error {
	return l.wait(func(b *batch) error { return b.tx.Bucket(bucketRuleSets).Delete(indexKey(from, id)) })
}

func sortGaps(gs []Gap) {
	slices.SortStableFunc(gs, func(a, b Gap) int {
		return cmp.Or(strings.Compare(a.Edge, b.Edge), a.Recorded.Compare(b.Recorded))
	})
}
