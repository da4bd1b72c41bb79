package ledger

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
)

// testClock is a hub's clock that tests set.
type testClock struct {
	mu sync.Mutex
	t  time.Time
}

func clockAt(t int64) *testClock { return &testClock{t: ms(t)} }

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *testClock) set(t int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = ms(t)
}

// do acts on one alert.
func do(t testing.TB, l *Ledger, kind alert.Kind, act alert.Act, id string) alert.ActResult {
	t.Helper()
	if act.Who == "" {
		act.Who = "Lan"
	}
	r, err := l.Act(kind, act, id)
	check(t, err)
	return r[0]
}

func must(t testing.TB, l *Ledger, kind alert.Kind, act alert.Act, id string) alert.Entry {
	t.Helper()
	r := do(t, l, kind, act, id)
	if r.Err != nil {
		t.Fatalf("%s of %s: %v", kind, id, r.Err)
	}
	return r.Entry
}

func stateOf(t testing.TB, l *Ledger, id string) alert.Alert {
	t.Helper()
	a, ok, err := l.Alert(id)
	check(t, err)
	if !ok {
		t.Fatalf("alert %s is gone", id)
	}
	return a
}

func raise(t testing.TB, l *Ledger, steps ...alert.Transition) {
	t.Helper()
	for _, s := range steps {
		check(t, l.Append(s))
	}
	check(t, l.Flush())
}

func until(t int64) *time.Time {
	x := ms(t)
	return &x
}

func TestEveryActIsAnEntryThatSaysWhoAndWhy(t *testing.T) {
	dir := t.TempDir()
	clock := clockAt(1000)
	l := open(t, dir, Options{Now: clock.now})
	raise(t, l, step("a", alert.Raised, 10, 10, alert.Warning))
	if s := stateOf(t, l, "a").ISA; s != alert.UnacknowledgedActive {
		t.Errorf("state %s", s)
	}
	for i, s := range []struct {
		kind alert.Kind
		act  alert.Act
		isa  alert.ISAState
	}{
		{alert.Acknowledged, alert.Act{Why: "on it"}, alert.AcknowledgedActive},
		{alert.Commented, alert.Act{Text: "pump 2 is off"}, alert.AcknowledgedActive},
		{alert.Unacknowledged, alert.Act{Why: "wrong one"}, alert.UnacknowledgedActive},
		{alert.Assigned, alert.Act{Assignee: "Hùng"}, alert.UnacknowledgedActive},
		{alert.Shelved, alert.Act{Until: until(5000), Why: "spare part"}, alert.ShelvedState},
		{alert.Unshelved, alert.Act{}, alert.UnacknowledgedActive},
	} {
		e := must(t, l, s.kind, s.act, "a")
		if e.Kind != s.kind || e.Act.Who != "Lan" || e.Act.Why != s.act.Why || e.Act.Key == "" || e.Sequence != uint64(i+2) || !e.Time.Equal(ms(1000)) || e.Alert.ISA != s.isa {
			t.Errorf("%s: %+v", s.kind, e)
		}
	}
	raise(t, l, step("a", alert.Ended, 10, 50, alert.Warning))
	if s := stateOf(t, l, "a").ISA; s != alert.ClearedUnacknowledged {
		t.Errorf("state %s", s)
	}
	e := must(t, l, alert.Closed, alert.Act{Cause: alert.CauseFalseAlarm, Why: "a bird"}, "a")
	if a := e.Alert; a.ISA != alert.Normal || !a.Acknowledged || a.Closed.Cause != alert.CauseFalseAlarm || a.Closed.By != "Lan" || a.Comments != 1 || a.Assignee != "Hùng" {
		t.Errorf("closed: %+v", a)
	}
	must(t, l, alert.Reopened, alert.Act{}, "a")
	check(t, l.Close())
	l = open(t, dir, Options{Now: clock.now})
	history, err := l.History("a", 0, 100)
	check(t, err)
	var kinds []string
	for _, e := range history {
		kinds = append(kinds, string(e.Kind))
	}
	if got := strings.Join(kinds, " "); got != "raised acknowledged commented unacknowledged assigned shelved unshelved cleared closed reopened" {
		t.Errorf("history: %s", got)
	}
	if later, _ := l.History("a", 8, 1); len(later) != 1 || later[0].Kind != alert.Closed {
		t.Errorf("after 8: %+v", later)
	}
}

func TestActsThatAreNotPossibleSayWhyAndChangeNothing(t *testing.T) {
	l := open(t, t.TempDir(), Options{Now: clockAt(1000).now})
	raise(t, l, step("a", alert.Raised, 10, 10, alert.Warning), step("over", alert.Raised, 1, 1, alert.Info), step("over", alert.Ended, 1, 2, alert.Info))
	long := strings.Repeat("x", alert.MaxText+1)
	for name, c := range map[string]struct {
		kind   alert.Kind
		id     string
		act    alert.Act
		reason alert.Reason
		says   string
	}{
		"unknown alert":       {alert.Acknowledged, "b", alert.Act{Who: "Lan"}, alert.NotFound, "no alert with the id"},
		"nobody":              {alert.Acknowledged, "a", alert.Act{}, alert.Invalid, "who is empty"},
		"two lines of name":   {alert.Acknowledged, "a", alert.Act{Who: "Lan\nLan"}, alert.Invalid, "control characters"},
		"too long":            {alert.Commented, "a", alert.Act{Who: "Lan", Text: long}, alert.Invalid, "at most 2000 bytes"},
		"no text":             {alert.Commented, "a", alert.Act{Who: "Lan", Text: " "}, alert.Invalid, "the comment is empty"},
		"not UTF-8":           {alert.Commented, "a", alert.Act{Who: "Lan", Text: "\xff"}, alert.Invalid, "send UTF-8"},
		"without end":         {alert.Shelved, "a", alert.Act{Who: "Lan"}, alert.Invalid, "needs an end"},
		"end in the past":     {alert.Shelved, "a", alert.Act{Who: "Lan", Until: until(1000)}, alert.Invalid, "in the past"},
		"for ever":            {alert.Shelved, "a", alert.Act{Who: "Lan", Until: until(1e12)}, alert.Invalid, "at most 30 days"},
		"shelve what is over": {alert.Shelved, "over", alert.Act{Who: "Lan", Until: until(2000)}, alert.NotNow, "has cleared"},
		"close what stands":   {alert.Closed, "a", alert.Act{Who: "Lan", Cause: alert.CauseResolved}, alert.NotNow, "is active; mend"},
		"no cause":            {alert.Closed, "over", alert.Act{Who: "Lan"}, alert.Invalid, "false_alarm"},
		"other says nothing":  {alert.Closed, "over", alert.Act{Who: "Lan", Cause: alert.CauseOther}, alert.Invalid, "nothing says what"},
		"not acknowledged":    {alert.Unacknowledged, "a", alert.Act{Who: "Lan"}, alert.NotNow, "not acknowledged"},
		"not shelved":         {alert.Unshelved, "a", alert.Act{Who: "Lan"}, alert.NotNow, "not shelved"},
		"not closed":          {alert.Reopened, "a", alert.Act{Who: "Lan"}, alert.NotNow, "not closed"},
		"to the same":         {alert.Assigned, "a", alert.Act{Who: "Lan"}, alert.NotNow, "nobody already"},
		"no act":              {alert.Raised, "a", alert.Act{Who: "Lan"}, alert.Invalid, "nothing that a person does"},
	} {
		r, err := l.Act(c.kind, c.act, c.id)
		check(t, err)
		var refused *alert.Refusal
		if !errors.As(r[0].Err, &refused) || refused.Reason != c.reason || !strings.Contains(refused.Error(), c.says) {
			t.Errorf("%s: %v", name, r[0].Err)
		}
	}
	if l.LastSequence() != 3 {
		t.Errorf("%d entries", l.LastSequence())
	}
}

func TestAnActSentTwiceIsDoneOnce(t *testing.T) {
	dir := t.TempDir()
	clock := clockAt(1000)
	l := open(t, dir, Options{Now: clock.now})
	other := step("b", alert.Raised, 10, 10, alert.Warning)
	other.Alert.Device = "d2"
	raise(t, l, step("a", alert.Raised, 10, 10, alert.Warning), other)
	acts := []struct {
		kind alert.Kind
		act  alert.Act
	}{
		{alert.Commented, alert.Act{Who: "Lan", Text: "hello", Key: "k1"}},
		{alert.Acknowledged, alert.Act{Who: "Lan", Key: "k2"}},
		{alert.Shelved, alert.Act{Who: "Lan", Until: until(9000), Key: "k3"}},
		{alert.Unshelved, alert.Act{Who: "Lan", Key: "k4"}},
	}
	first := map[string]alert.Entry{}
	for round := range 3 {
		for _, a := range acts {
			r := do(t, l, a.kind, a.act, "a")
			if r.Err != nil || r.Repeated != (round > 0) {
				t.Fatalf("round %d: %+v", round, r)
			}
			if round == 0 {
				first[a.act.Key] = r.Entry
			} else if diff := cmp.Diff(first[a.act.Key], r.Entry); diff != "" {
				t.Errorf("round %d, %s: another answer:\n%s", round, a.act.Key, diff)
			}
		}
		clock.set(2000 + int64(round))
		check(t, l.Close())
		l = open(t, dir, Options{Now: clock.now})
	}
	if a := stateOf(t, l, "a"); a.Comments != 1 || l.LastSequence() != 6 {
		t.Errorf("%d comments, %d entries", a.Comments, l.LastSequence())
	}
	must(t, l, alert.Commented, alert.Act{Text: "hello", Key: "k1"}, "b") // keys belong to their alert
	var refused *alert.Refusal
	if r := do(t, l, alert.Commented, alert.Act{Text: "something else", Key: "k1"}, "a"); !errors.As(r.Err, &refused) || refused.Reason != alert.KeyReused {
		t.Errorf("a key for two acts: %+v", r)
	}
}

func TestActsOnManyAlertsAreOneCommit(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	raise(t, l, step("a", alert.Raised, 1, 1, alert.Info), step("b", alert.Raised, 1, 1, alert.Info))
	r, err := l.Act(alert.Acknowledged, alert.Act{Who: "Lan", Key: "k"}, "a", "x", "b", "a")
	check(t, err)
	if r[0].Err != nil || r[1].Err == nil || r[2].Err != nil || r[3].Err != nil || !r[3].Repeated || l.LastSequence() != 4 {
		t.Errorf("%+v", r)
	}
}

func TestWorseThanAcknowledgedCallsAgain(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	raise(t, l, step("a", alert.Raised, 1, 1, alert.Warning))
	must(t, l, alert.Acknowledged, alert.Act{}, "a")
	for _, s := range []struct {
		at  int64
		sev alert.Severity
		ack bool
	}{{5, alert.Info, true}, {6, alert.Warning, true}, {7, alert.Critical, false}} {
		raise(t, l, step("a", alert.SeverityChanged, 1, s.at, s.sev))
		if a := stateOf(t, l, "a"); a.Acknowledged != s.ack || (a.Ack != nil) != s.ack {
			t.Errorf("at %s: acknowledged %v", s.sev, a.Acknowledged)
		}
	}
}

func TestShelvingHoldsTheRuleOnItsSeriesUntilItsEnd(t *testing.T) {
	dir := t.TempDir()
	clock := clockAt(1000)
	l := open(t, dir, Options{Now: clock.now})
	other := step("o", alert.Raised, 10, 10, alert.Warning)
	other.Alert.Device = "d2"
	raise(t, l, step("a", alert.Raised, 10, 10, alert.Warning), other)
	must(t, l, alert.Shelved, alert.Act{Until: until(60_000)}, "a")
	raise(t, l, step("a", alert.Ended, 10, 20, alert.Warning), step("a2", alert.Raised, 30, 30, alert.Warning))
	if a, a2, o := stateOf(t, l, "a"), stateOf(t, l, "a2"), stateOf(t, l, "o"); a.ShelvedUntil != nil || a2.ISA != alert.ShelvedState || !a2.ShelvedUntil.Equal(ms(60_000)) || o.ShelvedUntil != nil {
		t.Errorf("a %+v\na2 %+v\no %+v", a, a2, o)
	}
	if c := l.Counts(); c.Active != 1 || c.Held[alert.ShelvedState] != 1 {
		t.Errorf("counts %+v", c)
	}
	check(t, l.Close())
	l = open(t, dir, Options{Now: clock.now})
	clock.set(59_999)
	check(t, l.Expire())
	if stateOf(t, l, "a2").ShelvedUntil == nil {
		t.Error("over too early")
	}
	clock.set(60_000)
	for range 2 {
		check(t, l.Expire())
	}
	entries, err := l.Entries(5, 10)
	check(t, err)
	if e := entries[0]; len(entries) != 1 || e.Kind != alert.Unshelved || e.Alert.ID != "a2" || !e.Act.Automatic || e.Act.Who != "" || e.Alert.ISA != alert.UnacknowledgedActive || !e.Time.Equal(ms(60_000)) {
		t.Errorf("%+v", entries)
	}
	if c := l.Counts(); c.Active != 2 || len(c.Held) != 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestHoldsReachWhatStandsAndWhatComesAndMoveNothing(t *testing.T) {
	dir := t.TempDir()
	clock := clockAt(1000)
	l := open(t, dir, Options{Now: clock.now})
	raise(t, l, step("a", alert.Raised, 10, 10, alert.Warning))
	h, err := l.PutHold(alert.Hold{Kind: alert.HoldOutOfService, Edge: "e1", Device: "d", Until: ms(9000), Who: "Lan", Why: "calibration"})
	check(t, err)
	clock.set(1001)
	m, err := l.PutHold(alert.Hold{Kind: alert.HoldMaintenance, Site: "24848", Until: ms(5000), Who: "Lan"})
	check(t, err)
	raise(t, l, step("b", alert.Raised, 30, 30, alert.Warning), step("b", alert.Ended, 30, 40, alert.Warning))
	a, b := stateOf(t, l, "a"), stateOf(t, l, "b")
	if a.ISA != alert.OutOfServiceState || a.Suppressed != "maintenance" || !a.Start.Equal(ms(10)) || a.State != alert.Active || b.ISA != alert.Normal || !b.End.Equal(ms(40)) {
		t.Errorf("a %+v\nb %+v", a, b)
	}
	if st, err := l.Statistics(ms(0), ms(9999), ""); err != nil || st.Alerts != 1 || st.Held != 1 {
		t.Errorf("%+v %v", st, err) // b was held when it was raised, a was not
	}
	check(t, l.Close())
	l = open(t, dir, Options{Now: clock.now})
	if holds, err := l.Holds(false); err != nil || len(holds) != 2 {
		t.Errorf("holds %+v %v", holds, err)
	}
	_, err = l.EndHold(h.ID, "Hùng", "done")
	check(t, err)
	if a := stateOf(t, l, "a"); a.ISA != alert.SuppressedState {
		t.Errorf("%+v", a)
	}
	clock.set(5000)
	check(t, l.Expire())
	if a := stateOf(t, l, "a"); a.ISA != alert.UnacknowledgedActive {
		t.Errorf("%+v", a)
	}
	history, err := l.History("a", 1, 10)
	check(t, err)
	want := []alert.Kind{alert.OutOfService, alert.Suppressed, alert.InService, alert.Unsuppressed}
	for i, e := range history {
		if e.Kind != want[i] || e.Act.Hold != []string{h.ID, m.ID, h.ID, m.ID}[i] {
			t.Errorf("entry %d: %s %+v", i, e.Kind, e.Act)
		}
	}
	ended, err := l.Holds(true)
	check(t, err)
	if len(ended) != 2 || ended[0].Ended.Who != "Hùng" || ended[1].Ended.Who != "" || !ended[1].Ended.At.Equal(ms(5000)) {
		t.Errorf("%+v", ended)
	}
	_, err = l.Trim(ms(5001), 100)
	check(t, err)
	if ended, _ = l.Holds(true); len(ended) != 0 {
		t.Errorf("not trimmed: %+v", ended)
	}
	for _, bad := range []alert.Hold{
		{Kind: alert.HoldMaintenance, Until: ms(9000), Who: "Lan"},
		{Kind: "x", Edge: "e1", Until: ms(9000), Who: "Lan"},
		{Kind: alert.HoldMaintenance, Device: "d", Site: "s", Until: ms(9000), Who: "Lan"},
		{Kind: alert.HoldMaintenance, Edge: "e1", Who: "Lan"},
		{Kind: alert.HoldMaintenance, Edge: "e1", Until: ms(9000)},
	} {
		var refused *alert.Refusal
		if _, err := l.PutHold(bad); !errors.As(err, &refused) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := l.EndHold("x", "Lan", ""); err == nil {
		t.Error("ended what does not stand")
	}
}

func TestTestsEndByThemselvesAndAreNotCounted(t *testing.T) {
	dir := t.TempDir()
	clock := clockAt(1000)
	l := open(t, dir, Options{Now: clock.now})
	tr := step("a", alert.Raised, 1000, 1000, alert.Critical)
	tr.Alert.Test, tr.Alert.TestUntil = true, until(3000)
	e, err := l.Raise(tr)
	check(t, err)
	if !e.Alert.Test || e.Sequence != 1 || l.Counts().Active != 0 {
		t.Errorf("%+v", e)
	}
	check(t, l.Close())
	l = open(t, dir, Options{Now: clock.now})
	clock.set(3500)
	check(t, l.Expire())
	a := stateOf(t, l, "a")
	if a.State != alert.Cleared || !a.End.Equal(ms(3500)) || !a.Test {
		t.Errorf("%+v", a)
	}
	if st, _ := l.Statistics(ms(0), ms(9999), ""); st.Alerts != 0 {
		t.Errorf("%+v", st)
	}
	yes, no := true, false
	if items, _, _ := l.Alerts(Filter{Test: &no}, "", 10); len(items) != 0 {
		t.Error("listed")
	}
	if items, _, _ := l.Alerts(Filter{Test: &yes}, "", 10); len(items) != 1 {
		t.Error("not listed")
	}
}

func TestGroupsSayWhereItBegan(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	for i, id := range []string{"a", "b", "c", "d"} {
		tr := step(id, alert.Raised, int64(100-i), 100, alert.Severity(1+i%2))
		tr.Alert.Device = id
		if id == "d" {
			tr.Alert.Rule = "r0"
		}
		raise(t, l, tr)
	}
	must(t, l, alert.Acknowledged, alert.Act{}, "a")
	must(t, l, alert.Shelved, alert.Act{Until: until(time.Now().UnixMilli() + 100_000)}, "b")
	got, err := l.Groups()
	check(t, err)
	want := []alert.Group{
		{Site: "24848", Rule: "r0", Severity: alert.Warning, Active: 1, Unacknowledged: 1, BySeverity: map[alert.Severity]int{alert.Warning: 1}, Since: ms(97), First: "d"},
		{Site: "24848", Rule: "r1", Severity: alert.Info, Active: 2, Unacknowledged: 1, BySeverity: map[alert.Severity]int{alert.Info: 2}, Held: 1, Since: ms(98), First: "c"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTrimKeepsTheNamesOfWhatAnActiveAlertHasHad(t *testing.T) {
	clock := clockAt(1000)
	l := open(t, t.TempDir(), Options{Now: clock.now})
	first := step("a", alert.Raised, 1, 1, alert.Info)
	raise(t, l, first)
	must(t, l, alert.Acknowledged, alert.Act{Key: "k"}, "a")
	_, err := l.Trim(ms(9000), 100)
	check(t, err)
	raise(t, l, first) // a replay of a rewound edge
	r := do(t, l, alert.Acknowledged, alert.Act{Key: "k"}, "a")
	if a := stateOf(t, l, "a"); l.LastSequence() != 2 || !a.Acknowledged || !r.Repeated || r.Err != nil || !r.Entry.Alert.Acknowledged {
		t.Errorf("last %d %+v %+v", l.LastSequence(), a, r)
	}
	raise(t, l, step("a", alert.Ended, 1, 5, alert.Info))
	_, err = l.Trim(ms(9000), 100)
	check(t, err)
	if _, ok, _ := l.Alert("a"); ok {
		t.Error("kept")
	}
	raise(t, l, first)
	if l.LastSequence() != 4 {
		t.Error("its names are kept for ever")
	}
}

func TestALedgerOfFormat1IsBroughtToThisOne(t *testing.T) {
	f, err := os.Open("testdata/v1.db.gz")
	check(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	check(t, err)
	data, err := io.ReadAll(z)
	check(t, err)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, FileName), data, 0o600))
	for range 2 {
		l := open(t, dir, Options{Now: clockAt(200_000).now})
		if c := l.Counts(); c.Active != 2 || c.BySeverity[alert.Emergency] != 1 || c.Unacknowledged != 1 || l.LastSequence() != 6 || len(l.Generations()) != 2 {
			t.Errorf("counts %+v last %d", c, l.LastSequence())
		}
		for _, known := range []alert.Transition{
			step("cleared", alert.Raised, 10, 10, alert.Warning), step("cleared", alert.Ended, 10, 20, alert.Warning), step("stands", alert.SeverityChanged, 30, 40, alert.Emergency),
		} {
			check(t, l.Append(known)) // known by its new name
		}
		check(t, l.Flush())
		a := stateOf(t, l, "stands")
		if l.LastSequence() != 6 || !a.Acknowledged || a.ISA != alert.AcknowledgedActive {
			t.Errorf("last %d %+v", l.LastSequence(), a)
		}
		if h, err := l.History("stands", 0, 10); err != nil || len(h) != 3 {
			t.Errorf("history %v %v", h, err)
		}
		if items, _, err := l.Alerts(Filter{ISA: []alert.ISAState{alert.ClearedUnacknowledged}}, "", 10); err != nil || len(items) != 1 {
			t.Errorf("list %v %v", items, err)
		}
		if cp, ok, _ := l.Load("e1"); !ok || string(cp.Position) != "p" {
			t.Error("the checkpoint is lost")
		}
		check(t, l.Close())
	}
}

func TestAHoldMayBeginInTheFuture(t *testing.T) {
	dir := t.TempDir()
	clock := clockAt(1000)
	l := open(t, dir, Options{Now: clock.now})
	raise(t, l, step("a", alert.Raised, 10, 10, alert.Warning))
	planned := alert.Hold{Kind: alert.HoldMaintenance, Site: "24848", From: ms(5000), Until: ms(9000), Who: "Lan", Why: "works"}
	h, err := l.PutHold(planned)
	check(t, err)
	if !h.Pending || !h.From.Equal(ms(5000)) || stateOf(t, l, "a").Suppressed != "" {
		t.Errorf("%+v", h)
	}
	h.Until = ms(8000) // it is moved while it waits
	h.From = ms(4000)
	h, err = l.PutHold(h)
	check(t, err)
	check(t, l.Close())
	l = open(t, dir, Options{Now: clock.now})
	clock.set(3999)
	check(t, l.Expire())
	raise(t, l, step("b", alert.Raised, 30, 30, alert.Warning))
	if stateOf(t, l, "a").Suppressed != "" || stateOf(t, l, "b").Suppressed != "" {
		t.Error("it holds before its time")
	}
	clock.set(4000)
	check(t, l.Expire())
	raise(t, l, step("c", alert.Raised, 40, 40, alert.Warning))
	for _, id := range []string{"a", "b", "c"} {
		if a := stateOf(t, l, id); a.Suppressed != "maintenance" || a.State != alert.Active {
			t.Errorf("%+v", a)
		}
	}
	entries, err := l.History("a", 1, 10)
	check(t, err)
	if len(entries) != 1 || entries[0].Kind != alert.Suppressed || !entries[0].Act.Automatic || entries[0].Act.Why != "works" || !entries[0].Act.Until.Equal(ms(8000)) {
		t.Errorf("%+v", entries)
	}
	h.From, h.Until = ms(6000), ms(9000)
	var refused *alert.Refusal
	if _, err := l.PutHold(h); !errors.As(err, &refused) || refused.Reason != alert.NotNow {
		t.Errorf("one that has begun was put off: %v", err)
	}
	h.From = ms(0)
	if h, err = l.PutHold(h); err != nil || h.Pending || !h.From.Equal(ms(4000)) || !h.Until.Equal(ms(9000)) {
		t.Errorf("%+v %v", h, err)
	}
	clock.set(9000)
	check(t, l.Expire())
	if a := stateOf(t, l, "a"); a.Suppressed != "" {
		t.Errorf("%+v", a)
	}
	// One that is taken back before it begins leaves no trace in the alerts.
	last := l.LastSequence()
	planned.From, planned.Until = ms(20_000), ms(30_000)
	h, err = l.PutHold(planned)
	check(t, err)
	_, err = l.EndHold(h.ID, "Lan", "put off")
	check(t, err)
	clock.set(40_000)
	check(t, l.Expire())
	if l.LastSequence() != last {
		t.Error("entries were written")
	}
	for says, bad := range map[string]alert.Hold{
		"before it begins": {Kind: alert.HoldMaintenance, Site: "x", From: ms(60_000), Until: ms(50_000), Who: "Lan"},
		"needs an end":     {Kind: alert.HoldMaintenance, Site: "x", From: ms(60_000), Who: "Lan"},
		"begins too late":  {Kind: alert.HoldMaintenance, Site: "x", From: ms(60_000).Add(2 * alert.MaxHold), Until: ms(60_000).Add(3 * alert.MaxHold), Who: "Lan"},
	} {
		if _, err := l.PutHold(bad); !errors.As(err, &refused) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestAHoldUpToASeverityLetsWorseAlertsCall(t *testing.T) {
	clock := clockAt(1000)
	l := open(t, t.TempDir(), Options{Now: clock.now})
	raise(t, l, step("a", alert.Raised, 10, 10, alert.Warning), step("b", alert.Raised, 10, 10, alert.Critical))
	h := alert.Hold{ID: "edge-offline-e1", Kind: alert.HoldEdgeOffline, Edge: "e1", UpTo: alert.Warning, Until: ms(9000), Why: "the edge is offline"}
	_, err := l.PutHold(h)
	check(t, err)
	if a, b := stateOf(t, l, "a"), stateOf(t, l, "b"); a.Suppressed != "edge_offline" || b.Suppressed != "" {
		t.Errorf("a %+v\nb %+v", a, b)
	}
	raise(t, l, step("a", alert.SeverityChanged, 10, 20, alert.Critical)) // worse: it calls
	if a := stateOf(t, l, "a"); a.Suppressed != "" || a.ISA != alert.UnacknowledgedActive {
		t.Errorf("%+v", a)
	}
	raise(t, l, step("a", alert.SeverityChanged, 10, 30, alert.Warning))
	if a := stateOf(t, l, "a"); a.Suppressed != "edge_offline" {
		t.Errorf("%+v", a)
	}
	_, err = l.EndOwnHold(h.ID, "the edge is back")
	check(t, err)
	if a := stateOf(t, l, "a"); a.Suppressed != "" || a.State != alert.Active {
		t.Errorf("%+v", a)
	}
}
