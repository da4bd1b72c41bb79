package feed

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/alert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a log in memory.
type memory struct {
	gs      []alert.Generation
	first   uint64
	entries []alert.Entry
}

func (m *memory) Generations() []alert.Generation { return m.gs }
func (m *memory) FirstSequence() uint64           { return m.first }
func (m *memory) LastSequence() uint64            { return m.first + uint64(len(m.entries)) - 1 }
func (m *memory) Changed() <-chan struct{}        { return nil }

func (m *memory) Entries(after uint64, limit int) (out []alert.Entry, err error) {
	for _, e := range m.entries {
		if e.Sequence > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (m *memory) History(id string, after uint64, limit int) ([]alert.Entry, error) {
	all, err := m.Entries(after, len(m.entries))
	all = slices.DeleteFunc(all, func(e alert.Entry) bool { return e.Alert.ID != id })
	return all[:min(limit, len(all))], err
}

// logOf makes a log with n entries, of which the first that is kept is first; gs
// are the first sequences of its generations a, b, c ...
func logOf(first, n uint64, gs ...uint64) *memory {
	m := &memory{first: first}
	for i, g := range gs {
		m.gs = append(m.gs, alert.Generation{ID: string(rune('a' + i)), First: g})
	}
	for s := first; s <= n; s++ {
		m.entries = append(m.entries, alert.Entry{Generation: positionAt(m.gs, s).Generation, Sequence: s})
	}
	return m
}

func TestWhatAConsumerIsToldAndWhereItGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		log    *memory
		from   string
		notice string
		next   uint64
	}{
		"it has seen all":                             {logOf(1, 5, 1), "a-5", "", 0},
		"it has seen some":                            {logOf(1, 5, 1), "a-3", "", 4},
		"from the oldest":                             {logOf(3, 5, 1), "0", "", 3},
		"what it has seen last is the last gone":      {logOf(3, 5, 1), "a-2", "", 3},
		"trimmed":                                     {logOf(3, 5, 1), "a-1", "trimmed a 3", 3},
		"unknown generation":                          {logOf(3, 5, 1), "x-4", "generation a 3", 3},
		"ahead of the log":                            {logOf(3, 5, 1), "a-6", "generation a 3", 3},
		"it saw the old generation before the backup": {logOf(1, 9, 1, 6), "a-4", "", 5},
		"it saw exactly what the backup has":          {logOf(1, 9, 1, 6), "a-5", "", 6},
		"it saw more than the backup has":             {logOf(1, 9, 1, 6), "a-8", "generation b 6", 6},
		"two restores ago":                            {logOf(1, 9, 1, 4, 6), "a-8", "generation c 4", 4},
		"more than the backup has, and all is gone":   {logOf(8, 9, 1, 6), "a-7", "generation b 8", 8},
		"an empty log":                                {logOf(1, 0, 1), "0", "", 0},
		"a log trimmed to nothing":                    {logOf(6, 5, 1), "a-2", "trimmed a 6", 0},
	} {
		pos, err := ParsePosition(c.from)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewReader(c.log, pos).Next(100)
		if err != nil {
			t.Fatal(err)
		}
		notice := ""
		for _, n := range b.Notices {
			notice += fmt.Sprint(n.Kind, " ", n.Generation, " ", n.First)
		}
		next := uint64(0)
		if len(b.Entries) > 0 {
			next = b.Entries[0].Sequence
		}
		if notice != c.notice || next != c.next {
			t.Errorf("%s: told %q and goes on at %d, want %q and %d", name, notice, next, c.notice, c.next)
		}
	}
}

// However often a reader is made anew at its position, and whatever is trimmed or
// added in between, it gives every entry once and in order, or says which are gone.
func TestReadersMadeAnewAtRandomReadTheLogOnce(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		m := logOf(1, 0, 1)
		r := NewReader(m, Position{})
		expect := uint64(1)
		for range 200 {
			switch rnd.IntN(5) {
			case 0, 1:
				for range rnd.IntN(5) {
					m.entries = append(m.entries, alert.Entry{Generation: "a", Sequence: m.LastSequence() + 1})
				}
			case 2:
				n := rnd.IntN(3)
				if n <= len(m.entries) {
					m.entries, m.first = m.entries[n:], m.first+uint64(n)
				}
			case 3:
				p, err := ParsePosition(r.Position().String())
				if err != nil {
					t.Fatal(err)
				}
				r = NewReader(m, p)
			case 4:
				b, err := r.Next(1 + rnd.IntN(4))
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range b.Notices {
					if n.Kind != Trimmed || n.First < expect {
						t.Fatalf("seed %d: notice %+v, expected was %d", seed, n, expect)
					}
					expect = n.First
				}
				for i, e := range b.Entries {
					if e.Sequence != expect && !(i == 0 && expect == 1) { // before the first nothing was seen
						t.Fatalf("seed %d: entry %d, expected %d", seed, e.Sequence, expect)
					}
					expect = e.Sequence + 1
				}
			}
		}
	}
}

func TestAnAlertThatWasWantedStaysWanted(t *testing.T) {
	at := func(seq uint64, id string, kind alert.Kind, s alert.Severity, state alert.State) alert.Entry {
		return alert.Entry{Sequence: seq, Transition: alert.Transition{Kind: kind, Alert: alert.Alert{ID: id, Severity: s, State: state, Site: "lac-duong", Rule: "r", Test: id == "t"}}}
	}
	m := &memory{first: 1, gs: []alert.Generation{{ID: "a", First: 1}}, entries: []alert.Entry{
		at(1, "x", alert.Raised, alert.Warning, alert.Active),
		at(2, "y", alert.Raised, alert.Warning, alert.Active),
		at(3, "x", alert.SeverityChanged, alert.Critical, alert.Active),
		at(4, "x", alert.SeverityChanged, alert.Warning, alert.Active),
		at(5, "x", alert.Ended, alert.Warning, alert.Cleared),
		at(6, "y", alert.Ended, alert.Warning, alert.Cleared),
		at(7, "t", alert.Raised, alert.Critical, alert.Active),
	}}
	groups := func(string) []string { return []string{"river"} }
	for want, c := range map[string]Choice{
		"[1 2 3 4 5 6 7]": {},
		"[3 4 5 7]":       {Severity: []alert.Severity{alert.Critical}},
		"[3 4 5]":         {Severity: []alert.Severity{alert.Critical}, Tests: WithoutTests, Group: []string{"river"}, Site: []string{"lac-duong"}},
		"[5 6]":           {State: alert.Cleared},
		"[7]":             {Tests: OnlyTests, Rule: []string{"r"}},
		"[]":              {Group: []string{"lake"}},
	} {
		got := []uint64{}
		for i := range m.entries {
			ok, err := c.Wants(&m.entries[i], groups, m)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				got = append(got, m.entries[i].Sequence)
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%+v: %v, want %s", c, got, want)
		}
	}
}

func TestAnEntryIsACloudEvent(t *testing.T) {
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.FixedZone("", 7*3600))
	e := alert.Entry{Generation: "6f1c2a", Sequence: 42, Recorded: at.Add(time.Minute), Transition: alert.Transition{
		Kind: alert.Raised, Time: at, Alert: alert.Alert{ID: "abc", Severity: alert.Critical},
	}}
	event, err := EventOf(&e, "https://hub.example")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "data")
	want := map[string]any{
		"specversion": "1.0", "id": "6f1c2a-42", "source": "https://hub.example", "type": "io.github.langbiang.alert.raised", "subject": "abc",
		"time": "2026-11-23T08:00:00+07:00", "recordedtime": "2026-11-23T08:01:00+07:00", "sequence": "00000000000000000042",
		"severitytext": "critical", "severitynumber": 17.0, "datacontenttype": "application/json",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var back Event
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	entry, ok, err := back.Entry()
	if err != nil || !ok || entry.Alert.ID != "abc" || entry.Sequence != 42 {
		t.Errorf("%+v %v %v", entry, ok, err)
	}
}

func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "0", "a-1", "a-", "-", "-1", "a-18446744073709551616", "a-b-3"} {
		f.Add(s)
	}
	log := logOf(3, 7, 1, 5)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err != nil {
			return
		}
		if again, err := ParsePosition(p.String()); err != nil || again != p {
			t.Fatalf("%q is %v, written %q, read %v %v", s, p, p.String(), again, err)
		}
		r := NewReader(log, p)
		if _, err := r.Next(1); err != nil {
			t.Fatal(err)
		}
		if at := r.Position().Sequence; at < 2 || at > 7 {
			t.Errorf("%q goes on after %d, the log has 3 to 7", s, at)
		}
	})
}
