package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
)

func goldens(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(goldenDir, "*.tar.zst"))
	if err != nil || len(list) == 0 {
		t.Fatalf("no golden folders: %v", err)
	}
	return list
}

// moving are the fields of alerts that holds change, which end by the hub's clock.
var moving = []string{"isa_state", "shelved_until", "out_of_service", "suppressed"}

// still takes out of an answer what time changes.
func still(v any, now time.Time) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if !slices.Contains(moving, k) {
				out[k] = still(x, now)
			}
		}
		return out
	case []any:
		var out []any
		for _, x := range v {
			if m, ok := x.(map[string]any); ok {
				expires, _ := m["expires"].(string)
				if at, err := time.Parse(time.RFC3339Nano, expires); err == nil && at.Before(now) {
					continue // a token that has ended since
				}
			}
			out = append(out, still(x, now))
		}
		return out
	}
	return v
}

// has checks that everything of a listing is there, and that nothing of its samples is
// there twice.
func (g *golden) holds(want goldenListing, when string) {
	g.t.Helper()
	got := g.list(want.Made)
	if diff := cmp.Diff(want.Samples, got.Samples); diff != "" {
		g.t.Errorf("%s: the samples differ (-as listed +now):\n%s", when, diff)
	}
	for _, path := range goldenPaths {
		now := time.Now()
		for _, m := range contains(still(decoded(g.t, want.Answers[path]), now), still(decoded(g.t, got.Answers[path]), now), path) {
			g.t.Errorf("%s: %s", when, m)
		}
	}
	if len(got.Entries) < len(want.Entries) {
		g.t.Fatalf("%s: %d entries of the alert log, of %d", when, len(got.Entries), len(want.Entries))
	}
	for i, e := range want.Entries {
		for _, m := range contains(decoded(g.t, e), decoded(g.t, got.Entries[i]), "entry") {
			g.t.Errorf("%s: %d of the alert log: %s", when, i+1, m)
		}
	}
}

func TestGoldenFoldersAreOpenedAndTheWorkGoesOn(t *testing.T) {
	for _, archive := range goldens(t) {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".tar.zst"), func(t *testing.T) {
			g := openGolden(t, archive)
			want := g.listing

			// The edge's log, frame by frame.
			frames, _ := g.frames()
			if diff := cmp.Diff(want.Frames, frames); diff != "" {
				t.Fatalf("the edge's log differs (-as listed +now):\n%s", diff)
			}

			// The hub alone: all that it had, and the entries that were not delivered.
			g.startHub()
			g.eventually(30*time.Second, "the hub has its positions", func() bool { return g.stands() != (place{}) })
			if got := g.stands(); got != want.Position {
				t.Errorf("the hub stands at %+v, stood at %+v", got, want.Position)
			}
			g.holds(want, "after the start")
			g.eventually(time.Minute, "the receiver has the rest", func() bool {
				got := g.receiver.sequences()
				return len(got) > 0 && got[len(got)-1] >= uint64(len(want.Entries))
			})
			for i, n := range g.receiver.sequences() {
				if n != uint64(want.Received+i+1) {
					t.Errorf("the receiver got entry %d as number %d after the first %d", n, i+1, want.Received)
				}
			}

			// The agent goes on in the time that the folder is of.
			ahead := want.Made.Add(3 * time.Minute)
			g.set(pm25Register, 170)
			g.clock = clockFile{Synced: true, Boot: bootName(9), BootMS: time.Now().Add(-time.Minute).UnixMilli(), OffsetMS: time.Until(ahead).Milliseconds()}
			g.startAgent()
			g.eventually(time.Minute, "the backlog is over", func() bool {
				epoch := g.stands().Epoch
				return epoch != want.Position.Epoch && !slices.ContainsFunc(want.Frames, func(f goldenFrame) bool { return f.Place.Epoch == epoch })
			})
			find := func(state alert.State) (a alert.Alert) {
				var list struct{ Items []alert.Alert }
				g.get("/api/v1/alerts?rule=pm25-high&limit=1&state="+string(state), &list)
				if len(list.Items) > 0 {
					a = list.Items[0]
				}
				return a
			}
			var before struct{ Items []alert.Alert }
			if err := json.Unmarshal(want.Answers["/api/v1/alerts?limit=1000"], &before); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(before.Items, func(a alert.Alert) bool { return a.Rule == "pm25-high" && a.State == alert.Active })
			if i < 0 {
				t.Fatal("the listing has no active alert of pm25-high")
			}
			if a := find(alert.Active); a.ID != before.Items[i].ID || !a.Acknowledged || a.Assignee != "Hùng" || a.Comments != 1 {
				t.Errorf("the alert that stood and was acknowledged, after the backlog: %+v", a)
			}
			g.set(pm25Register, 20)
			g.eventually(time.Minute, "it clears", func() bool { return find(alert.Active).ID == "" })
			if a := g.alert(before.Items[i].ID); a.State != alert.Cleared || !a.Acknowledged || a.Ack.By != "Lan" {
				t.Errorf("the alert that stood and was acknowledged, cleared: %+v", a)
			}
			g.edge.stop()
			g.edge = nil
			frames, readings := g.frames()
			g.eventually(time.Minute, "the hub has all", func() bool { return g.stands() == frames[len(frames)-1].Place })
			g.stoodOnce(readings, ahead.Add(time.Hour))
			raised := map[string]bool{}
			for _, e := range g.entries() {
				if raised[e.Key()] {
					t.Errorf("transition %s stands in the log twice", e.Key())
				}
				raised[e.Key()] = true
			}

			// A backup of it is restored, and holds as much.
			backup := filepath.Join(g.dir, "backup")
			whole := g.list(ahead.Add(time.Hour)) // that it was backed up is noted afterwards
			if out, err := g.command("backup", backup); err != nil {
				t.Fatalf("backup: %v\n%s", err, out)
			}
			g.hub.stop()
			g.hub = nil
			if err := os.Rename(filepath.Join(g.dir, "hub"), filepath.Join(g.dir, "hub-before")); err != nil {
				t.Fatal(err)
			}
			if out, err := g.command("restore", backup); err != nil {
				t.Fatalf("restore: %v\n%s", err, out)
			}
			g.startHub()
			g.holds(whole, "after the restore")
			g.hub.stop()
		})
	}
}

// stoodOnce checks that the readings of the edge's log stand in the store, each once,
// and nothing else of this edge does. Of those whose boot's time was estimated one
// offset for all of the boot must do.
func (g *golden) stoodOnce(readings []loggedReading, until time.Time) {
	g.t.Helper()
	onTime, late := map[key]map[int64]float64{}, map[key]map[int64]float64{}
	stored := 0
	for name, samples := range g.list(until).Samples {
		var labels map[string]string
		if err := json.Unmarshal([]byte(name), &labels); err != nil {
			g.t.Fatal(err)
		}
		if labels["edge"] != edgeID || labels["__name__"] == "reading_quality" {
			continue
		}
		to := onTime
		if labels["late"] == "1" {
			to = late
		}
		k := key{labels["device"], labels["point"]}
		if to[k] == nil {
			to[k] = map[int64]float64{}
		}
		for _, x := range samples {
			to[k][int64(x[0])] = x[1]
		}
		stored += len(samples)
	}
	untimed := map[string][]loggedReading{}
	for _, r := range readings {
		if r.untimed {
			untimed[r.epoch] = append(untimed[r.epoch], r)
			continue
		}
		if v, ok := onTime[r.key][r.t]; !ok || v != r.v {
			g.t.Errorf("%v at %d is %v in the edge's log, and %v (%v) in the store", r.key, r.t, r.v, v, ok)
		}
	}
	if len(untimed) == 0 {
		g.t.Error("the log has no boot whose time was not known: the test proves less than it should")
	}
	for epoch, list := range untimed {
		fits := slices.ContainsFunc(slices.Collect(maps.Keys(late[list[0].key])), func(t int64) bool {
			offset := t - list[0].t
			return !slices.ContainsFunc(list, func(r loggedReading) bool {
				v, ok := late[r.key][r.t+offset]
				return !ok || v != r.v
			})
		})
		if !fits {
			g.t.Errorf("the %d readings of epoch %s, whose time was estimated, do not stand in the store with one offset", len(list), epoch)
		}
	}
	if stored != len(readings) {
		g.t.Errorf("%d readings in the edge's log, %d samples of it in the store", len(readings), stored)
	}
	g.t.Logf("%d readings, of %d boots without a time", len(readings), len(untimed))
}
