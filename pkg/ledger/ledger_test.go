package ledger

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
)

func open(t testing.TB, dir string, o Options) *Ledger {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// step makes a transition of the alert with this id.
func step(id string, kind alert.Kind, start, at int64, sev alert.Severity) alert.Transition {
	a := alert.Alert{
		ID: id, Rule: "r1", RuleVersion: "v", Severity: sev, State: alert.Active, Start: ms(start), Onset: ms(start - 1), Updated: ms(at),
		Site: "24848", Edge: "e1", Device: "d", Point: "p", Quantity: "pm2_5", Labels: map[string]string{"spot": "market"}, Value: 1.5,
	}
	if kind == alert.Ended {
		end := ms(at)
		a.State, a.End = alert.Cleared, &end
	}
	return alert.Transition{Kind: kind, Time: ms(at), Alert: a}
}

func ms(t int64) time.Time { return time.UnixMilli(t).UTC() }

func TestEntriesAreNumberedWithoutHolesAndSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Recent: 3})
	for i := range 10 {
		check(t, l.Append(step(fmt.Sprintf("a%d", i), alert.Raised, int64(i), int64(i), alert.Warning)))
	}
	check(t, l.Flush())
	generation := l.Generation()
	for range 2 {
		for after := range uint64(11) { // from memory and from the file
			entries, err := l.Entries(after, 100)
			check(t, err)
			if len(entries) != int(10-after) {
				t.Fatalf("after %d: %d entries", after, len(entries))
			}
			for i, e := range entries {
				want := after + 1 + uint64(i)
				if e.Sequence != want || e.Alert.Sequence != want || e.Alert.ID != fmt.Sprintf("a%d", want-1) || e.Generation != generation || e.Recorded.IsZero() {
					t.Errorf("entry %d: %+v", want, e)
				}
			}
		}
		if l.FirstSequence() != 1 || l.LastSequence() != 10 || l.Counts().Active != 10 {
			t.Errorf("first %d last %d counts %+v", l.FirstSequence(), l.LastSequence(), l.Counts())
		}
		check(t, l.Close())
		l = open(t, dir, Options{Recent: 3})
	}
	if l.Generation() != generation {
		t.Error("another generation after reopening")
	}
}

func TestKnownTransitionGetsNoSecondEntry(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	first, end := step("a", alert.Raised, 10, 10, alert.Warning), step("a", alert.Ended, 10, 20, alert.Warning)
	for range 2 {
		check(t, l.Append(first))
	}
	check(t, l.Append(end))
	check(t, l.Close())
	l = open(t, dir, Options{})
	check(t, l.Append(first)) // a replay after a crash
	check(t, l.Append(end))
	check(t, l.Flush())
	a, ok, err := l.Alert("a")
	check(t, err)
	if l.LastSequence() != 2 || !ok || a.State != alert.Cleared || a.Sequence != 2 || l.Counts().Active != 0 {
		t.Errorf("last %d alert %+v counts %+v", l.LastSequence(), a, l.Counts())
	}
}

func TestCheckpointCommitsTransitionsAndPositionsTogether(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Window: time.Hour}) // nothing commits by itself
	check(t, l.Append(step("a", alert.Raised, 10, 10, alert.Warning)))
	check(t, l.RecordGap(Gap{Edge: "e1", After: "x", Next: "y", Reason: "evicted"}))
	check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Position: []byte("p1"), Rules: []byte("r1"), Schema: []byte("s1")}, {Edge: "e2", Position: []byte("q")}}))
	if l.LastSequence() != 1 {
		t.Fatal("the transition is not in")
	}
	check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Position: []byte("p2"), Rules: []byte{}}}))
	check(t, l.Close())
	l = open(t, dir, Options{})
	got, ok, err := l.Load("e1")
	check(t, err)
	if diff := cmp.Diff(Checkpoint{Edge: "e1", Position: []byte("p2"), Schema: []byte("s1")}, got); !ok || diff != "" {
		t.Error(diff)
	}
	if _, ok, _ := l.Load("e3"); ok {
		t.Error("an unknown edge has a checkpoint")
	}
	ids, err := l.CheckpointedEdges()
	check(t, err)
	if diff := cmp.Diff([]string{"e1", "e2"}, ids); diff != "" {
		t.Error(diff)
	}
	if err := l.Checkpoint([]Checkpoint{{Edge: ""}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an edge without id: %v", err)
	}
}

func TestChangesOfTheRulesStateStandAfterItsWhole(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	rules := func(want string) {
		t.Helper()
		if got, _, err := l.Load("e1"); err != nil || string(got.Rules) != want {
			t.Errorf("%q, %v; want %q", got.Rules, err, want)
		}
	}
	check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Rules: []byte("whole ")}, {Edge: "e", Rules: []byte("other "), Changes: []byte("x")}}))
	for i := range 300 { // over the end of a byte
		check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Changes: []byte{byte('0' + i%10)}}, {Edge: "e10", Changes: []byte("y")}}))
	}
	want := "whole " + strings.Repeat("0123456789", 30)
	rules(want)
	check(t, l.Close())
	l = open(t, dir, Options{})
	check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Changes: []byte("a")}}))
	rules(want + "a")
	check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Rules: []byte("anew ")}}))
	rules("anew ")
	check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Changes: []byte("b")}}))
	rules("anew b")
	check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Rules: []byte{}}}))
	rules("")
	if got, _, err := l.Load("e"); err != nil || string(got.Rules) != "other x" {
		t.Errorf("the neighbour has %q, %v", got.Rules, err)
	}
}

func TestNothingIsToldBeforeItIsCommitted(t *testing.T) {
	l := open(t, t.TempDir(), Options{Window: time.Hour})
	changed := l.Changed()
	check(t, l.Append(step("a", alert.Raised, 10, 10, alert.Warning)))
	select {
	case <-changed:
		t.Fatal("changed before the commit")
	default:
	}
	if entries, _ := l.Entries(0, 10); len(entries) != 0 || l.LastSequence() != 0 {
		t.Fatal("told before the commit")
	}
	check(t, l.Flush())
	<-changed
	if entries, _ := l.Entries(0, 10); len(entries) != 1 {
		t.Fatal("not told after the commit")
	}
}

func TestWindowCommitsWithoutAnybodyWaiting(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	changed := l.Changed()
	check(t, l.Append(step("a", alert.Raised, 10, 10, alert.Warning)))
	<-changed
	if l.LastSequence() != 1 {
		t.Error("not in")
	}
}

func TestManyWritersAtOnce(t *testing.T) {
	l := open(t, t.TempDir(), Options{Queue: 4})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := l.Append(step(fmt.Sprintf("a%d-%d", w, i), alert.Raised, int64(i), int64(i), alert.Info)); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := l.Checkpoint([]Checkpoint{{Edge: fmt.Sprintf("e%d", w), Position: []byte{byte(i)}}}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	seen := uint64(0)
	for seen < 400 {
		changed := l.Changed()
		entries, err := l.Entries(seen, 33)
		check(t, err)
		for _, e := range entries {
			if seen++; e.Sequence != seen {
				t.Fatalf("entry %d where %d was due", e.Sequence, seen)
			}
		}
		if len(entries) == 0 {
			<-changed
		}
	}
	wg.Wait()
}

func TestCloseCommitsWhatIsQueuedAndRefusesMore(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Window: time.Hour})
	check(t, l.Append(step("a", alert.Raised, 10, 10, alert.Warning)))
	check(t, l.Close())
	check(t, l.Close())
	if err := l.Append(step("b", alert.Raised, 10, 10, alert.Warning)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, _, err := l.Alert("a"); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if l = open(t, dir, Options{}); l.LastSequence() != 1 {
		t.Error("what was queued is lost")
	}
}

func TestListsPageNewestFirst(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	for i := range int64(30) {
		tr := step(fmt.Sprintf("a%02d", i), alert.Raised, 1000+i/2, 1000+i/2, alert.Severity(1+i%4)) // two at a time
		tr.Alert.Site = []string{"24848", "24850", "x"}[i%3]
		tr.Alert.Rule = []string{"r1", "r2"}[i%2]
		check(t, l.Append(tr))
		if i%5 == 0 {
			end := tr
			end.Kind, end.Alert.State = alert.Ended, alert.Cleared
			at := ms(2000 + i)
			end.Time, end.Alert.End = at, &at
			check(t, l.Append(end))
		}
	}
	check(t, l.Flush())
	list := func(f Filter, limit int) (ids []string) {
		cursor := ""
		for page := 0; ; page++ {
			items, next, err := l.Alerts(f, cursor, limit)
			check(t, err)
			for _, a := range items {
				ids = append(ids, a.ID)
			}
			if page == 1 { // what comes in between disturbs no page
				check(t, l.Append(step(fmt.Sprintf("late%d", len(ids)), alert.Raised, 9000, 9000, alert.Info)))
				check(t, l.Flush())
			}
			if next == "" {
				return ids
			}
			cursor = next
		}
	}
	all := list(Filter{To: ms(5000)}, 7)
	if len(all) != 30 || all[0] != "a29" || all[29] != "a00" {
		t.Errorf("all: %v", all)
	}
	if got := list(Filter{State: alert.Cleared, To: ms(5000)}, 4); strings.Join(got, " ") != "a25 a20 a15 a10 a05 a00" {
		t.Errorf("cleared: %v", got)
	}
	if got := list(Filter{State: alert.Active, Site: []string{"24850"}, Severity: []alert.Severity{alert.Warning}, Rule: []string{"r1", "r2"}}, 100); strings.Join(got, " ") != "a13 a01" {
		t.Errorf("filtered: %v", got)
	}
	if got := list(Filter{From: ms(2020), To: ms(1001)}, 100); strings.Join(got, " ") != "a01" {
		t.Errorf("standing between: %v", got)
	}
	if _, _, err := l.Alerts(Filter{}, "zz", 3); !errors.Is(err, ErrCursor) {
		t.Errorf("cursor: %v", err)
	}
	c := l.Counts()
	if c.ByRule["r1"]+c.ByRule["r2"] != c.Active || c.BySite["24850"][alert.Warning] != 2 {
		t.Errorf("counts %+v", c)
	}
}

func TestTrimKeepsActiveAlertsAndNumbers(t *testing.T) {
	dir := t.TempDir()
	now := ms(1000)
	var mu sync.Mutex
	l := open(t, dir, Options{Recent: 1, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	check(t, l.Append(step("old", alert.Raised, 1, 1, alert.Warning)))
	check(t, l.Append(step("old", alert.Ended, 1, 2, alert.Warning)))
	check(t, l.Append(step("stands", alert.Raised, 3, 3, alert.Warning)))
	check(t, l.Flush())
	mu.Lock()
	now = ms(5000)
	mu.Unlock()
	check(t, l.Append(step("new", alert.Raised, 4, 4, alert.Warning)))
	n, err := l.Trim(ms(5000), 2)
	check(t, err)
	if n != 2 || l.FirstSequence() != 3 {
		t.Errorf("removed %d, first %d", n, l.FirstSequence())
	}
	n, err = l.Trim(ms(9000), 100)
	check(t, err)
	check(t, l.Close())
	l = open(t, dir, Options{})
	_, gone, _ := l.Alert("old")
	_, stands, _ := l.Alert("stands")
	if n != 2 || gone || !stands || l.FirstSequence() != 5 || l.LastSequence() != 4 || l.Counts().Active != 2 {
		t.Errorf("removed %d gone %v stands %v first %d last %d", n, gone, stands, l.FirstSequence(), l.LastSequence())
	}
	check(t, l.Append(step("stands", alert.Ended, 3, 9, alert.Warning)))
	check(t, l.Flush())
	if l.LastSequence() != 5 {
		t.Errorf("last %d", l.LastSequence())
	}
}

func TestGenerationsShareTheNumbers(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Recent: 1})
	first := l.Generation()
	check(t, l.Append(step("a", alert.Raised, 1, 1, alert.Info)))
	for range 2 { // one without an entry leaves no trace
		if _, err := l.NewGeneration(); err != nil {
			t.Fatal(err)
		}
	}
	check(t, l.Append(step("b", alert.Raised, 2, 2, alert.Info)))
	check(t, l.Close())
	l = open(t, dir, Options{})
	entries, err := l.Entries(0, 10)
	check(t, err)
	gs := l.Generations()
	if len(gs) != 2 || gs[0] != (Generation{ID: first, First: 1}) || gs[1].First != 2 || entries[0].Generation != first || entries[1].Generation != gs[1].ID || l.Generation() != gs[1].ID {
		t.Errorf("generations %+v entries %+v", gs, entries)
	}
}

func TestUnstorableTransitionsHarmNobody(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	bad := step("a", alert.Raised, 1, 1, alert.Info)
	bad.Alert.Value = math.NaN()
	if err := l.Append(bad); !errors.Is(err, ErrInvalid) {
		t.Errorf("NaN: %v", err)
	}
	if err := l.Append(step("", alert.Raised, 1, 1, alert.Info)); !errors.Is(err, ErrInvalid) {
		t.Errorf("no id: %v", err)
	}
	check(t, l.Flush())
}

func TestSecondProcessIsRefusedInOneSentence(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

func TestNewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	check(t, open(t, dir, Options{}).Close())
	db, err := bolt.Open(filepath.Join(dir, FileName), 0o600, nil)
	check(t, err)
	check(t, db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyVersion, []byte{0, 0, 0, 9}) }))
	check(t, db.Close())
	if _, err = Open(dir, Options{}); !errors.Is(err, ErrVersion) {
		t.Errorf("error %v", err)
	}
}

func TestDamagedFileIsLeftAsItIs(t *testing.T) {
	for name, data := range map[string][]byte{"text": []byte(strings.Repeat("no ledger ", 5000)), "zeros": make([]byte, 65536)} {
		dir := t.TempDir()
		path := filepath.Join(dir, FileName)
		check(t, os.WriteFile(path, data, 0o600))
		if l, err := Open(dir, Options{}); err == nil {
			_ = l.Close()
			t.Errorf("%s: opened", name)
		}
		got, err := os.ReadFile(path)
		check(t, err)
		if string(got) != string(data) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestFailedCommitIsFinal(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	check(t, l.Append(step("a", alert.Raised, 1, 1, alert.Info)))
	check(t, l.Flush())
	broken := errors.New("input/output error")
	changed := l.Changed()
	if err := l.wait(func(*batch) error { return broken }); !errors.Is(err, ErrFailed) || !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	<-changed
	if err := l.Append(step("b", alert.Raised, 1, 1, alert.Info)); !errors.Is(err, ErrFailed) {
		t.Errorf("append: %v", err)
	}
	if err := l.Checkpoint(nil); !errors.Is(err, ErrFailed) {
		t.Errorf("checkpoint: %v", err)
	}
	if l.LastSequence() != 1 || l.Err() == nil {
		t.Error("what failed is told")
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v", err)
	}
}

func TestACopyOfTheFileTakenAtAnyMomentIsWhole(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{Window: -1})
	for i := range 20 {
		check(t, l.Append(step(fmt.Sprintf("a%d", i), alert.Raised, int64(i), int64(i), alert.Info)))
		check(t, l.Checkpoint([]Checkpoint{{Edge: "e1", Position: []byte{byte(i + 1)}}}))
		data, err := os.ReadFile(filepath.Join(dir, FileName)) // what a kill leaves
		check(t, err)
		copied := t.TempDir()
		check(t, os.WriteFile(filepath.Join(copied, FileName), data, 0o600))
		c, err := Open(copied, Options{})
		check(t, err)
		cp, _, err := c.Load("e1")
		check(t, err)
		if c.LastSequence() != uint64(i+1) || cp.Position[0] != byte(i+1) {
			t.Errorf("after %d: last %d position %v", i+1, c.LastSequence(), cp.Position)
		}
		check(t, c.Close())
	}
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, b.TempDir(), Options{})
	b.ReportAllocs()
	for i := range b.N {
		check(b, l.Append(step(fmt.Sprintf("a%d", i), alert.Raised, int64(i), int64(i), alert.Info)))
	}
	check(b, l.Flush())
}

func FuzzIndexValue(f *testing.F) {
	v := indexValue{active: true, severity: 3, held: alert.SuppressedState, end: 5, activations: 7, site: "24848", rule: "r", series: "e/d/p"}
	f.Add(v.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		v, ok := decodeIndex(data)
		if !ok {
			return
		}
		if again, ok := decodeIndex(v.encode()); !ok || again != v {
			t.Errorf("%+v is read back as %+v", v, again)
		}
	})
}
