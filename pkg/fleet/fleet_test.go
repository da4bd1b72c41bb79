package fleet

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// records is a store.
type records struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (r *records) GetRecord(kind, id string) ([]byte, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.m[kind+"\x00"+id]
	return v, ok, nil
}

func (r *records) PutRecord(kind, id string, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data == nil {
		delete(r.m, kind+"\x00"+id)
	} else {
		r.m[kind+"\x00"+id] = slices.Clone(data)
	}
	return nil
}

func (r *records) Records(kind string, fn func(string, []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(r.m)) {
		if id, ok := strings.CutPrefix(k, kind+"\x00"); ok {
			if err := fn(id, r.m[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// rig is a fleet with one edge that is played by the test.
type rig struct {
	*testing.T
	*Fleet
	store *records
	mu    sync.Mutex // guards sent
	sent  []wire.Config
	up    atomic.Bool
	notes []string
}

func open(t *testing.T, store *records) *rig {
	t.Helper()
	r := &rig{T: t, store: store}
	r.up.Store(true)
	var err error
	r.Fleet, err = Open(Config{
		Store: store, Connected: func(string) bool { return r.up.Load() }, Note: func(_, what string) { r.notes = append(r.notes, what) },
		Publish: func(_ string, p []byte) error {
			var c wire.Config
			if err := wire.DecodeConfig(p, &c); err != nil {
				t.Error(err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent = append(r.sent, c)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sent)
}

func (r *rig) last() *wire.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &r.sent[len(r.sent)-1]
}

// says lets the edge say something, and returns what is answered.
func (r *rig) says(s wire.ConfigState) *wire.Config {
	r.Helper()
	s.V, s.ID = wire.Version, cmp.Or(s.ID, "x")
	p, err := wire.EncodeConfigState(&s)
	if err != nil {
		r.Fatal(err)
	}
	n := r.count()
	if err := r.heard(message{"e", p}); err != nil {
		r.Fatal(err)
	}
	if r.count() == n {
		return nil
	}
	return r.last()
}

func (r *rig) set(text string) Version {
	r.Helper()
	v, changed, err := r.Set("e", Setting{Name: "e.yaml", Text: text, Who: "lan"})
	if err != nil || !changed {
		r.Fatal(changed, err)
	}
	return v
}

func (r *rig) stands(want State, detail string) {
	r.Helper()
	if s := r.Status("e"); s.State != want || !strings.Contains(s.Detail, detail) {
		r.Errorf("it stands as %s (%s), want %s (%s)", s.State, s.Detail, want, detail)
	}
}

func runs(v Version) wire.ConfigState {
	return wire.ConfigState{Owner: wire.OwnerHub, Version: v.Version, Newest: v.Version, Hash: v.Hash}
}

func TestAConfigurationGoesItsWay(t *testing.T) {
	r := open(t, &records{m: map[string][]byte{}})
	r.stands(None, "")
	v1 := r.set("one")
	r.stands(Waiting, "has never said")
	if r.count() != 0 {
		t.Error("sent to an agent that may not know of it")
	}
	if c := r.says(wire.ConfigState{Owner: wire.OwnerGateway}); c == nil || c.Desired != nil || c.Heard != "x" {
		t.Errorf("to a gateway that decides: %+v", c)
	}
	r.stands(Gateway, "version 1 waits until it lets the hub")
	if c := r.says(wire.ConfigState{ID: "y", Owner: wire.OwnerHub}); c.Desired == nil || c.Desired.Text != "one" || c.Desired.Version != 1 {
		t.Errorf("%+v", c)
	}
	if c := r.says(wire.ConfigState{ID: "y", Owner: wire.OwnerHub, Fault: "no space"}); c.Desired != nil {
		t.Error("sent again at once")
	}
	r.stands(Waiting, "no space")
	if c := r.says(wire.ConfigState{ID: "of another start", Owner: wire.OwnerHub}); c.Desired == nil {
		t.Error("not sent to an agent that has started anew")
	}
	on := runs(v1)
	on.Trial = true
	r.says(on)
	r.stands(Trial, "")
	r.says(runs(v1))
	r.stands(InStep, "")
	if _, changed, err := r.Set("e", Setting{Name: "e.yaml", Text: "one"}); changed || err != nil {
		t.Error("the same again is no new version", err)
	}
	drift := runs(v1)
	drift.Drift = "changed"
	r.says(drift)
	r.stands(Drift, "changed")
	v2 := r.set("two")
	if c := r.last(); c.Desired == nil || c.Desired.Text != "two" {
		t.Error("not sent at once")
	}
	no := runs(v1)
	no.Newest, no.Verdict = 2, &wire.ConfigVerdict{Version: 2, Hash: v2.Hash, Outcome: wire.ConfigRefused, Reason: "e.yaml:1:1: faulty\ne.yaml:2:1: too"}
	if c := r.says(no); c.Desired != nil {
		t.Error("what was refused is sent again")
	}
	r.stands(Refused, "e.yaml:2:1: too")
	v3 := r.set("two") // anew
	back := runs(v1)
	back.Newest, back.Verdict = 3, &wire.ConfigVerdict{Version: 3, Hash: v3.Hash, Outcome: wire.ConfigRolledBack, Reason: "unheard"}
	r.says(back)
	r.stands(RolledBack, "unheard")
	if _, err := r.Clear("e", Setting{Who: "lan"}); err != nil {
		t.Fatal(err)
	}
	r.stands(None, "goes on with version 1")
	if want := "version 1 runs on trial|version 1 runs|changed|version 2 refused: e.yaml:1:1: faulty ...|version 3 rolled back: unheard"; !strings.Contains(strings.Join(r.notes, "|"), want) {
		t.Errorf("noted: %s", strings.Join(r.notes, "|"))
	}
	// All of it is on the disk.
	again := open(t, r.store)
	again.stands(None, "goes on with version 1")
	if h := again.History("e"); len(h) != 4 || h[0].Version != 4 || !h[0].Cleared || h[3].Who != "lan" {
		t.Errorf("%+v", h)
	}
	if _, text, err := again.Text("e", 2); err != nil || text != "two" {
		t.Error(text, err)
	}
	if _, _, err := again.Text("e", 0); !errors.Is(err, ErrNoVersion) {
		t.Error(err)
	}
}

func TestWhoOverwritesUnseenIsRefused(t *testing.T) {
	r := open(t, &records{m: map[string][]byte{}})
	r.set("one")
	seen := uint64(0)
	if _, _, err := r.Set("e", Setting{Text: "two", If: &seen}); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
	if _, err := r.Clear("e", Setting{If: &seen}); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
	seen = 1
	if v, _, err := r.Set("e", Setting{Text: "two", If: &seen}); err != nil || v.Version != 2 {
		t.Error(v, err)
	}
	if _, _, err := r.Set("e", Setting{Text: strings.Repeat("x", wire.MaxConfigText+1)}); !errors.Is(err, wire.ErrTooLarge) {
		t.Error(err)
	}
	if _, _, err := r.Set("e", Setting{Text: "x", Why: strings.Repeat("x", MaxWhy+1)}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestOnlyTheNewestVersionsAreKept(t *testing.T) {
	r := open(t, &records{m: map[string][]byte{}})
	for i := range 30 {
		r.set(strings.Repeat("x", i+1))
	}
	texts := 0
	for k := range r.store.m {
		if strings.HasPrefix(k, kindText+"\x00") {
			texts++
		}
	}
	if h := r.History("e"); len(h) != MaxVersions || h[0].Version != 30 || texts != MaxVersions {
		t.Errorf("%d versions, %d texts", len(h), texts)
	}
	if _, _, err := r.Text("e", 10); !errors.Is(err, ErrNoVersion) {
		t.Error(err)
	}
}

// A hub from a backup does not know what it had set since, and does not take the edge
// back. What is set then is newer than what the edge has seen.
func TestARestoredHubTakesNobodyBack(t *testing.T) {
	r := open(t, &records{m: map[string][]byte{}})
	r.set("one")
	backup := &records{m: maps.Clone(r.store.m)}
	v2 := r.set("two")
	v3 := r.set("three")
	restored := open(t, backup)
	if c := restored.says(runs(v3)); c.Desired != nil {
		t.Error("an older version was sent")
	}
	restored.stands(Unknown, "was the hub restored from a backup?")
	if v := restored.set("one"); v.Version != 4 {
		t.Errorf("it is version %d", v.Version)
	}
	if c := restored.last(); c.Desired == nil || c.Desired.Version != 4 {
		t.Errorf("%+v", c)
	}
	// It has given a number anew, before the edge was heard.
	other := open(t, &records{m: map[string][]byte{}})
	other.set("one")
	other.set("another two")
	if c := other.says(runs(v2)); c.Desired != nil {
		t.Error("another text was sent under a number that the edge knows")
	}
	other.stands(Unknown, "")
	if v := other.set("another two"); v.Version != 3 {
		t.Errorf("it is version %d", v.Version)
	}
	other.stands(Waiting, "")
}

func TestWhatIsNotDecidedIsSentAgainAndLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, &records{m: map[string][]byte{}})
		r.says(wire.ConfigState{Owner: wire.OwnerHub})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Fleet.Run(ctx) }()
		r.set("one")
		<-time.After(2 * time.Hour)
		synctest.Wait()
		if n := r.count(); n < 12 || n > 20 {
			t.Errorf("sent %d times in two hours", n)
		}
		r.up.Store(false)
		<-time.After(2 * time.Hour)
		synctest.Wait()
		n := r.count()
		<-time.After(2 * time.Hour)
		if r.count() != n {
			t.Error("sent to an edge that is not there")
		}
		cancel()
		<-done
	})
}

func TestAnEdgeThatFloodsIsHeardOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, &records{m: map[string][]byte{}})
		for i := range 1000 {
			r.says(wire.ConfigState{Owner: wire.OwnerHub, Newest: uint64(i)})
		}
		if n := r.count(); n != burst {
			t.Errorf("answered %d times", n)
		}
		<-time.After(time.Second)
		if r.says(wire.ConfigState{Owner: wire.OwnerHub}) == nil {
			t.Error("not heard after a second")
		}
		r.Receive("e", []byte("{"))
		r.Receive("e", []byte(`{"v":1,"text":{"zstd":"AAAA"}}`))
	})
}

func TestAnEdgeShowsWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, &records{m: map[string][]byte{}})
		text, err := wire.NewConfigText(0, "edge.yaml", "devices: []\n")
		if err != nil {
			t.Fatal(err)
		}
		answer := func(s wire.ConfigState) {
			synctest.Wait()
			s.Shown = r.last().Show
			r.says(s)
		}
		go answer(wire.ConfigState{Text: text})
		got, err := r.Show(t.Context(), "e")
		if err != nil || got.Text != "devices: []\n" {
			t.Error(got, err)
		}
		go answer(wire.ConfigState{Fault: "edge.yaml:3:1: a secret does not leave the gateway"})
		if _, err := r.Show(t.Context(), "e"); !errors.Is(err, ErrNotShown) || !strings.Contains(err.Error(), "a secret") {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := r.Show(ctx, "e"); !errors.Is(err, ErrSilent) {
			t.Error(err)
		}
		if len(r.edges["e"].shows) != 0 {
			t.Error("questions are left")
		}
	})
}
