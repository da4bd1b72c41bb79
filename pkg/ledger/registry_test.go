package ledger

import (
	"errors"
	"fmt"
	"math"
	"testing"
)

func TestRegistryGapsEventsAndRuleSets(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{MaxEvents: 3, MaxGaps: 2})
	check(t, l.PutEdge(EdgeRecord{Edge: "e1", Site: "a", FirstSeen: ms(5), Hello: []byte(`{"v":1}`)}))
	check(t, l.PutEdge(EdgeRecord{Edge: "e1", Site: "b", FirstSeen: ms(9), Instance: "ff"}))
	if err := l.PutEdge(EdgeRecord{Edge: "e2", Hello: []byte(`{`)}); !errors.Is(err, ErrInvalid) {
		t.Errorf("bad JSON: %v", err)
	}
	for i := range 3 {
		for range 2 { // the second is a replay
			check(t, l.RecordGap(Gap{Edge: "e1", After: fmt.Sprint(i), Next: fmt.Sprint(i + 2), Reason: "evicted", From: ms(1), To: ms(2)}))
		}
		check(t, l.Flush())
	}
	check(t, l.RecordGap(Gap{Edge: "e10", After: "1", Next: "2"}))
	for i := range 5 {
		check(t, l.RecordEvent(Event{Edge: fmt.Sprintf("e%d", i%2), Kind: "fork", Text: fmt.Sprint(i)}))
	}
	check(t, l.PutRuleSet(RuleSet{ID: "second", From: 100}))
	check(t, l.PutRuleSet(RuleSet{ID: "first", From: math.MinInt64, Sources: []Source{{"a.yaml", []byte("[]")}}}))
	check(t, l.PutRuleSet(RuleSet{ID: "third", From: 200}))
	check(t, l.Close())
	l = open(t, dir, Options{})

	r, ok, err := l.Edge("e1")
	check(t, err)
	if !ok || r.Site != "b" || !r.FirstSeen.Equal(ms(5)) || r.Instance != "ff" {
		t.Errorf("record %+v", r)
	}
	if all, err := l.EdgeRecords(); err != nil || len(all) != 1 {
		t.Errorf("records %v %v", all, err)
	}
	gaps, err := l.Gaps("e1")
	check(t, err)
	if len(gaps) != 2 || gaps[0].Recorded.IsZero() {
		t.Errorf("gaps %+v", gaps)
	}
	if all, _ := l.Gaps(""); len(all) != 3 {
		t.Errorf("all gaps %+v", all)
	}
	events, err := l.Events("", 0, 10)
	check(t, err)
	if len(events) != 3 || events[0].Text != "4" || events[2].Text != "2" {
		t.Errorf("events %+v", events)
	}
	if older, _ := l.Events("e0", events[0].Number, 10); len(older) != 1 || older[0].Text != "2" {
		t.Errorf("older events %+v", older)
	}
	sets, err := l.RuleSets()
	check(t, err)
	if len(sets) != 3 || sets[0].ID != "first" || sets[0].From != math.MinInt64 || string(sets[0].Sources[0].Data) != "[]" || sets[2].ID != "third" {
		t.Errorf("sets %+v", sets)
	}
	if n, err := l.DropRuleSets(150); n != 1 || err != nil {
		t.Errorf("dropped %d, %v", n, err)
	}
	if sets, _ = l.RuleSets(); sets[0].ID != "second" {
		t.Errorf("sets %+v", sets)
	}
}

func TestUnobservedTimesMakeRoomForGaps(t *testing.T) {
	l := open(t, t.TempDir(), Options{MaxGaps: 3})
	record := func(reason string, n int) {
		t.Helper()
		check(t, l.RecordGap(Gap{Edge: "e1", After: fmt.Sprint(reason, n), Next: fmt.Sprint(n), Reason: reason, From: ms(int64(n)), To: ms(int64(n + 1))}))
		check(t, l.Flush())
	}
	record("evicted", 1)
	for n := 2; n < 6; n++ {
		record(ReasonUnobserved, n)
	}
	record("evicted", 6)
	record("evicted", 7)
	record(ReasonUnobserved, 8)
	gaps, err := l.Gaps("e1")
	check(t, err)
	for i := range gaps {
		if gaps[i].Reason != "evicted" {
			t.Errorf("%+v is kept", gaps[i])
		}
	}
	if len(gaps) != 3 {
		t.Errorf("%d gaps are kept", len(gaps))
	}
}
