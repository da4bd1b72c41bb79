package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/wire"
)

// TestTortureNothingAcceptedIsLostNothingCountedTwice attacks promise 1 with a
// seeded schedule of faults; docs/torture.md says which sentence is attacked by
// what. LANGBIANG_TORTURE_STEPS makes it longer.
func TestTortureNothingAcceptedIsLostNothingCountedTwice(t *testing.T) {
	_, seed := rounds(t, 0)
	n, long := len(faults)/2, false
	if s := os.Getenv("LANGBIANG_TORTURE_STEPS"); s != "" {
		v, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		n, long = v, true
	}
	w := newWorld(t, seed)
	w.patient = long
	steps := plan(seed, n, len(w.stations))
	w.startField()
	w.setLevel(20)
	w.startHub()
	for _, s := range w.stations {
		s.start()
	}
	for _, s := range w.stations {
		w.eventually(time.Minute, "the hub knows "+s.id, func() bool { e, ok := w.state(s.id); return ok && e.Sequence > 0 })
	}
	began := time.Now()
	for i, st := range steps {
		t.Logf("%6.1f s: step %d: %v", time.Since(began).Seconds(), i, &st)
		w.setLevel(st.level)
		s := w.stations[st.edge]
		calm := s.disturb(st)
		<-time.After(st.before)
		if st.fault == oldImage {
			calm() // it is to be seen at the hub
		}
		w.fault(st)
		<-time.After(st.after)
		calm()
		w.alive(st.fault)
	}
	t.Logf("%6.1f s: the steps are over", time.Since(began).Seconds())
	w.setLevel(30)
	gaps := w.settle()
	t.Logf("%6.1f s: the hub has everything safe", time.Since(began).Seconds())
	for _, s := range w.stations {
		w.judge(s, gaps[s.id])
	}
	w.judgeAlerts(gaps)
	w.hub.stop()
	w.field.stop()
}

// settle stops all edges once the hub has everything of them, kills the hub and
// starts it again: what it then still has was safe. It returns what was declared
// missing.
func (w *world) settle() map[string][]gap {
	w.t.Helper()
	for try := range 10 {
		for _, s := range w.stations {
			w.handOver(s)
		}
		<-time.After(time.Duration(1+try) * time.Second) // for a checkpoint; if there is none, it is tried again
		w.killHub()
		gaps := map[string][]gap{}
		for _, s := range w.stations {
			gaps[s.id] = declared(w.t, filepath.Join(w.dir, "hub", "data", "ledger"), s.id)
		}
		w.startHub()
		safe := true
		for _, s := range w.stations {
			safe = w.has(s) && safe
		}
		if safe {
			return gaps
		}
		for _, s := range w.stations {
			s.start()
		}
	}
	w.t.Fatal("the hub never came to a checkpoint")
	return nil
}

// has reports whether the hub stands at the end of the edge's log.
func (w *world) has(s *station) bool {
	e, ok := w.state(s.id)
	return ok && e.place == place{s.facts.last.Epoch.String(), s.facts.last.Seq}
}

// handOver stops an edge once the hub has everything. An edge that is stopped before
// it could send all keeps the rest for its next start, so it may take several.
func (w *world) handOver(s *station) {
	w.t.Helper()
	for range 20 {
		was, _ := w.state(s.id)
		w.eventually(150*time.Second, "the hub takes frames of "+s.id, func() bool {
			now, ok := w.state(s.id)
			return ok && now.Epoch == was.Epoch && now.Sequence > was.Sequence+5 || now.Epoch != was.Epoch && now.Sequence > 5
		})
		s.agent.stop()
		s.agent = nil
		s.facts.audit(s.logDir())
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
			if w.has(s) {
				return
			}
		}
		w.t.Logf("%s stopped at %v before the hub had all", s.id, s.facts.last)
		s.start()
	}
	w.t.Fatalf("%s never got rid of its log", s.id)
}

func (w *world) judge(s *station, gaps []gap) {
	w.t.Helper()
	kept := map[wire.Pos]bool{}
	readLog(w.t, s.logDir(), func(pos wire.Pos, _ []byte, _ *buffer.Log) { kept[pos] = true })
	onTime, late := storedOf(w.t, w.http, s.id)
	v := s.facts.judge(onTime, late, gaps, kept)
	w.t.Logf("%s: %d frames with %d readings were accepted, %d frames declared missing in %d gaps; stored %d on time and %d late, %d of them from frames that were lost or given up before their commit; %d milliseconds shared by two eras; %v",
		s.id, v.frames, v.readings, v.declared, len(gaps), countSamples(onTime), countSamples(late), v.surplus, v.collisions, s.proxy.counts)
	if v.missing > 0 {
		w.t.Errorf("%s: %d accepted readings are missing", s.id, v.missing)
	}
	if v.readings < 100 {
		w.t.Errorf("%s: only %d readings: the test proves little", s.id, v.readings)
	}
	for _, g := range gaps {
		w.t.Logf("%s: gap after %s before %s: %s", s.id, g.after, g.next, g.reason)
	}
}

// judgeAlerts checks that no transition stands in the log twice and no alert was
// raised twice; and, for an edge whose clock never stepped and whose log lost
// nothing, that the episodes are those of its samples.
func (w *world) judgeAlerts(gaps map[string][]gap) {
	w.t.Helper()
	seen, raised := map[string]bool{}, map[string]int{}
	for _, e := range alertEntries(w.t, w.http) {
		if k := e.Key(); seen[k] {
			w.t.Errorf("transition %s stands in the alert log twice", k)
		} else {
			seen[k] = true
		}
		if e.Kind == alert.Raised {
			raised[e.Alert.ID]++
		}
	}
	for id, n := range raised {
		if n != 1 {
			w.t.Errorf("alert %s was raised %d times", id, n)
		}
	}
	for _, s := range w.stations {
		if len(gaps[s.id]) > 0 || s.eras {
			continue
		}
		var list struct{ Items []alert.Alert }
		if err := getJSON(w.http+"/api/v1/alerts?limit=1000", &list); err != nil {
			w.t.Fatal(err)
		}
		var got []episode
		for _, a := range list.Items {
			if a.Edge != s.id {
				continue
			}
			e := episode{start: a.Start.UnixMilli(), severity: a.Severity.String()}
			if a.End != nil {
				e.end = a.End.UnixMilli()
			}
			got = append(got, e)
		}
		slices.SortFunc(got, func(a, b episode) int { return int(a.start - b.start) })
		onTime, _ := storedOf(w.t, w.http, s.id)
		k := key{"air", "pm2_5"}
		if !follow(got, s.facts.samples(k), onTime[k]) {
			w.t.Errorf("%s: episodes differ from a plain evaluation of the stored samples:\n%s", s.id, cmp.Diff(judge(onTime[k]), got, cmp.AllowUnexported(episode{})))
		}
		w.t.Logf("%s: %d episodes, as its samples say", s.id, len(got))
	}
	w.t.Logf("%d transitions of %d alerts, none twice", len(seen), len(slices.Collect(maps.Keys(raised))))
}
