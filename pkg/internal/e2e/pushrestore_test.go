package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// The hub's machine is lost, and with it the log of a source, which is in no backup. The
// hub that is restored takes from the source at once, without an operator; what the
// sender sends again fills what was lost; and nothing stands twice, or as late. Where
// the log could be saved, what was pushed since the backup comes from there.
func TestASourceGoesOnWithTheRestoredHub(t *testing.T) {
	t.Run("the log is lost, too", func(t *testing.T) { sourceAfterRestore(t, false) })
	t.Run("the log is saved", func(t *testing.T) { sourceAfterRestore(t, true) })
}

func sourceAfterRestore(t *testing.T, saved bool) {
	l := &line{t: t, dir: t.TempDir()}
	address := testutil.FreeAddress(t)
	l.http = "http://" + address
	l.write("hub.yaml", fmt.Sprintf(`
data_dir: ./hub
http: {listen: %q, auth: off}
mqtt: {listen: %q}
clock: {require_sync: false}
ingest: {checkpoint_every: 300ms}
push: {sources: [{id: telegraf, site: "24848", map: [{metric: level, quantity: water_level, point: level}]}]}
`, address, testutil.FreeAddress(t)))
	l.hubArgs = []string{"run", "--config", filepath.Join(l.dir, "hub.yaml")}
	began := time.Now().UnixMilli()
	// write sends rows of some numbers: a sender that is told 503 comes again.
	write := func(from, to int) {
		t.Helper()
		var rows strings.Builder
		for n := from; n < to; n++ {
			fmt.Fprintf(&rows, "level,host=h value=%d %d\n", n, began+int64(n))
		}
		l.eventually(time.Minute, "the rows are taken", func() bool {
			resp, err := http.Post(l.http+"/api/v2/write?precision=ms", "text/plain", strings.NewReader(rows.String()))
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusNoContent
		})
	}
	// stands waits until the store has the rows of these numbers and no others, once.
	stands := func(when string, ranges ...[2]int) {
		t.Helper()
		want := 0
		for _, r := range ranges {
			want += r[1] - r[0]
		}
		var onTime, late map[key]map[int64]float64
		l.eventually(time.Minute, when, func() bool {
			onTime, late = storedOf(t, l.http, "telegraf")
			return countSamples(onTime)+countSamples(late) >= want
		})
		for _, r := range ranges {
			for n := r[0]; n < r[1]; n++ {
				for k, m := range onTime {
					if v, ok := m[began+int64(n)]; !ok || v != float64(n) {
						t.Errorf("%s: %v: row %d is %v, %v", when, k, n, v, ok)
					}
				}
			}
		}
		if n := countSamples(onTime); n != want || countSamples(late) != 0 || len(onTime) != 1 {
			t.Errorf("%s: %d samples of %d series, and %d late, want %d of one", when, n, len(onTime), countSamples(late), want)
		}
	}
	fine := func() {
		t.Helper()
		var list struct {
			Items []struct {
				ID, Status, Detail string
				Gaps               []any
			}
		}
		l.get("/api/v1/edges", &list)
		if len(list.Items) != 1 || list.Items[0].ID != "telegraf" || list.Items[0].Status != "ok" || len(list.Items[0].Gaps) != 0 {
			t.Errorf("%+v", list)
		}
	}
	l.startHub()
	write(0, 100)
	stands("before the backup", [2]int{0, 100})
	backup := filepath.Join(l.dir, "backup")
	if out, err := l.command("backup", backup); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	write(100, 200) // which the lost machine alone has
	stands("after the backup", [2]int{0, 200})
	l.hub.kill()
	l.hub = nil
	if err := os.Rename(filepath.Join(l.dir, "hub"), filepath.Join(l.dir, "lost")); err != nil {
		t.Fatal(err)
	}
	if out, err := l.command("restore", backup); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	known := [][2]int{{0, 100}, {200, 300}}
	if saved {
		if err := os.Rename(filepath.Join(l.dir, "lost", "push"), filepath.Join(l.dir, "hub", "push")); err != nil {
			t.Fatal(err)
		}
		known = [][2]int{{0, 300}}
	}
	l.startHub()
	write(200, 300)
	stands("after the restore", known...)
	fine()
	write(50, 250) // a sender that keeps more than it needs
	stands("what was sent again", [2]int{0, 300})
	write(300, 400)
	stands("what comes afterwards", [2]int{0, 400})

	// And a hub that is killed then knows its new log.
	l.hub.kill()
	l.startHub()
	write(400, 500)
	stands("after a kill", [2]int{0, 500})
	fine()
	l.hub.stop()
}
