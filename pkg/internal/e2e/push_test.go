package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// A sender writes to the hub over HTTP while the hub is killed again and again.
// What it was told is taken stands in the store, once; and the rule that watches it
// has raised what there was to raise.
func TestWhatAKilledHubSaidItTookStandsInTheStoreOnce(t *testing.T) {
	kills, _ := rounds(t, 3)
	dir := t.TempDir()
	address := testutil.FreeAddress(t)
	hub := "http://" + address
	for name, text := range map[string]string{
		"hub.yaml": fmt.Sprintf(`
http: {listen: %q, auth: off}
mqtt: {listen: %q}
clock: {require_sync: false}
ingest: {checkpoint_every: 300ms}
rules: [./rules.yaml]
push:
  sources:
    - {id: telegraf, site: "24848", map: [{metric: level, quantity: water_level, point: level}]}
`, address, testutil.FreeAddress(t)),
		"rules.yaml": `
- id: pushed-high
  watch: {quantity: water_level}
  above: {warning: {limit: 1, clear: 1}}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	up := func() *process {
		p := start(t, "langbiang-hub", "run", "--config", filepath.Join(dir, "hub.yaml"))
		testutil.Eventually(t, time.Minute, "the hub is ready", func() bool {
			resp, err := http.Get(hub + "/readyz")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
		return p
	}
	p := up()
	// The sender: a batch is sent until it is taken, then the next.
	var taken atomic.Int64
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		defer close(done)
		began := time.Now().UnixMilli() // and so within the lag
		client := &http.Client{Timeout: 5 * time.Second}
		for n := 0; ; n++ {
			var b strings.Builder
			for k := range 10 {
				fmt.Fprintf(&b, "level,host=h%d value=%d %d\n", k, n%2*2, began+int64(n))
			}
			for {
				select {
				case <-stop:
					done <- n
					return
				default:
				}
				resp, err := client.Post(hub+"/api/v2/write?precision=ms", "text/plain", strings.NewReader(b.String()))
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusNoContent {
					break
				}
			}
			taken.Store(int64(n + 1))
		}
	}()
	for range max(kills, 1) {
		before := taken.Load()
		testutil.Eventually(t, time.Minute, "batches are taken", func() bool { return taken.Load() > before+40 })
		p.kill()
		p = up()
	}
	before := taken.Load()
	testutil.Eventually(t, time.Minute, "batches are taken after the last start", func() bool { return taken.Load() > before+40 })
	close(stop)
	n := <-done // batches that were taken; one more may have been
	p.kill()
	p = up()
	want := func() (missing, extra, wrong int) {
		onTime, late := storedOf(t, hub, "telegraf")
		for _, m := range onTime {
			seen := 0
			for _, v := range m {
				if v != 0 && v != 2 {
					wrong++
				}
				seen++
			}
			missing += max(0, n-seen)
			extra += max(0, seen-n-1)
		}
		return missing, extra + countSamples(late), wrong + max(0, 10-len(onTime))
	}
	testutil.Eventually(t, time.Minute, "the store has what was taken", func() bool { missing, _, _ := want(); return missing == 0 })
	if missing, extra, wrong := want(); missing+extra+wrong > 0 {
		t.Errorf("of %d batches: %d samples missing, %d too many, %d wrong", n, missing, extra, wrong)
	}
	raised := 0
	for _, e := range alertEntries(t, hub) {
		if e.Kind == alert.Raised {
			raised++
		}
	}
	if raised == 0 {
		t.Error("no alert was raised on pushed data")
	}
	t.Logf("%d batches taken over %d kills, %d alerts raised", n, max(kills, 1)+1, raised)
	p.stop()
}
