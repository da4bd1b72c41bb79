package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// command runs a command of the hub and returns what it prints, and whether it
// ended well.
func (l *line) command(args ...string) (string, error) {
	l.t.Helper()
	cmd := exec.CommandContext(l.t.Context(), filepath.Join(bin, "langbiang-hub"), append(args, "--config", filepath.Join(l.dir, "hub.yaml"))...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// notice is the first event that the stream tells a reader who was at a position.
func (l *line) notice(after string) (n feed.Event) {
	l.t.Helper()
	resp, err := http.Get(l.http + "/api/v1/alerts/events?after=" + after)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &n) != nil {
		l.t.Fatalf("no event after %s: %s", after, lines.Text())
	}
	return n
}

// The drill of docs/store.md: the hub's machine is lost, a new one takes over from a
// backup. Nothing that the edge still keeps is missing, nothing is doubled, and the
// alert log says where it goes on.
func TestTheHubsMachineIsLostAndANewOneGoesOnFromTheBackup(t *testing.T) {
	l := newLine(t, plainRule)
	l.set(pm25Register, 20)
	l.startHub()
	l.startEdge()
	level := func(v int) {
		t.Helper()
		l.set(pm25Register, v)
		l.eventually(time.Minute, "readings of the new level arrive", func() bool {
			m := l.onTimeOf("air", "pm2_5")
			times := slices.Sorted(mapKeys(m))
			return len(times) > 0 && m[times[len(times)-1]] == float64(v)
		})
	}
	level(120)
	level(20)
	backup := filepath.Join(l.dir, "backup")
	if out, err := l.command("backup", filepath.Join(l.dir, "hub", "inside")); err == nil || !strings.Contains(out, "lies in the hub's own data folder") {
		t.Errorf("a backup into the data folder: %v\n%s", err, out)
	}
	out, err := l.command("backup", backup)
	if err != nil || !strings.Contains(out, "backup in "+backup) {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	t.Log(out)
	if out, err := l.command("backup", backup); err == nil || !strings.Contains(out, "is not empty") {
		t.Errorf("a second backup into the same folder: %v\n%s", err, out)
	}
	if out, err := l.command("restore", backup); err == nil || !strings.Contains(out, "holds a hub's data already") {
		t.Errorf("a restore over the running hub: %v\n%s", err, out)
	}

	// What the lost machine alone has seen: an alert, and all that came since.
	level(170)
	level(20)
	level(60)
	var seen []alert.Entry
	l.eventually(time.Minute, "the third alert is told", func() bool {
		seen = l.entries()
		ids := map[string]bool{}
		for _, e := range seen {
			ids[e.Alert.ID] = true
		}
		return len(ids) == 3 && seen[len(seen)-1].Alert.State == alert.Active
	})
	last := seen[len(seen)-1]
	l.hub.kill()
	l.hub = nil
	if err := os.RemoveAll(filepath.Join(l.dir, "hub")); err != nil {
		t.Fatal(err)
	}

	// A backup that lost a byte is refused, and leaves the way free for a better one.
	ledgerFile := filepath.Join(backup, "ledger", "ledger.db")
	whole, err := os.ReadFile(ledgerFile)
	if err != nil {
		t.Fatal(err)
	}
	broken := slices.Clone(whole)
	broken[len(broken)/2]++
	put := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(ledgerFile, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	put(broken)
	if out, err = l.command("restore", backup); err == nil || !strings.Contains(out, "the backup is damaged: ledger/ledger.db") {
		t.Errorf("restore of a damaged backup: %v\n%s", err, out)
	}
	if out, err = l.command("run"); err == nil || !strings.Contains(out, "was broken off; run langbiang-hub restore again") {
		t.Fatalf("a start after a restore that was broken off: %v\n%s", err, out)
	}
	put(whole)
	out, err = l.command("restore", backup)
	if err != nil || !strings.Contains(out, "new generation") {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	t.Log(out)
	l.startHub()
	l.eventually(time.Minute, "the edge sends again", func() bool {
		again := l.entries()
		return len(again) > 0 && again[len(again)-1].Alert.ID == last.Alert.ID
	})
	level(20)
	l.eventually(time.Minute, "all alerts have cleared", func() bool {
		var list struct{ Items []alert.Alert }
		l.get("/api/v1/alerts?state=active", &list)
		return len(list.Items) == 0
	})
	accepted := l.handOver()
	onTime, late := l.stored()
	compareStored(t, accepted, onTime, late, 0)
	if len(late) > 0 {
		t.Errorf("readings that were on time are late after the restore: %v", late)
	}

	// What is kept and for how long is to be seen.
	var store struct {
		Kind, Retention string
		Oldest          time.Time
		Alerts          struct {
			Generation, Retention string
			Oldest                time.Time
		}
	}
	l.get("/api/v1/store", &store)
	if store.Kind != "local" || store.Retention == "" || store.Oldest.IsZero() || store.Alerts.Generation == seen[0].Generation || store.Alerts.Oldest.IsZero() || store.Alerts.Retention == "" {
		t.Errorf("%+v", store)
	}

	// The alert log: the entries of the backup, then those of a new generation, each
	// transition once, and the episodes those of the samples.
	keys, generations := map[string]bool{}, []string{}
	for _, e := range l.entries() {
		if keys[e.Key()] {
			t.Errorf("transition %s stands in the log twice", e.Key())
		}
		keys[e.Key()] = true
		if n := len(generations); n == 0 || generations[n-1] != e.Generation {
			generations = append(generations, e.Generation)
		}
	}
	for _, e := range seen {
		if !keys[e.Key()] {
			t.Errorf("%s of %s, which the lost hub had told, is not raised again", e.Kind, e.Alert.Onset)
		}
	}
	if len(generations) != 2 || generations[0] != seen[0].Generation {
		t.Errorf("generations %q, want that of the lost hub and one more", generations)
	}
	pos := feed.Position{Generation: last.Generation, Sequence: last.Sequence}
	if n := l.notice(pos.String()); n.Type != feed.TypePrefix+"stream."+string(feed.NewGeneration) {
		t.Errorf("who has read the lost hub's log to its end is told %+v", n)
	}
	var got []episode
	var list struct{ Items []alert.Alert }
	l.get("/api/v1/alerts?limit=1000", &list)
	for _, a := range list.Items {
		e := episode{start: a.Start.UnixMilli(), severity: a.Severity.String()}
		if a.End != nil {
			e.end = a.End.UnixMilli()
		}
		got = append(got, e)
	}
	slices.SortFunc(got, func(a, b episode) int { return int(a.start - b.start) })
	if diff := cmp.Diff(judge(onTime[key{"air", "pm2_5"}]), got, cmp.AllowUnexported(episode{})); diff != "" || len(got) != 3 {
		t.Errorf("episodes differ from those of the stored samples:\n%s", diff)
	}
	l.hub.stop()
}
