package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// makeGolden makes the golden folder of the present format:
//
//	go test ./pkg/internal/e2e -run GoldenIsMade -make-golden v2
var makeGolden = flag.String("make-golden", "", "make the golden folder of this name with the programs of today")

var goldenFiles = map[string]string{
	"hub.yaml": `
data_dir: ./hub
http: {listen: "@HTTP@", auth: off}
mqtt: {listen: "@BUS@"}
clock: {require_sync: false}
ingest: {checkpoint_every: 300ms}
store: {min_free: 4MiB, retention: 36500d, edge_max_age: 3650d, long: {five_minutes: 36500d, hours: 36500d}}
alerts: {retention: 36500d}
offline: {warning: 0s, critical: 0s}
sites: ./sites.yaml
rules: [./rules.yaml]
push:
  sources: [{id: roadside, site: "24853", map: [{metric: "air_temperature", quantity: air_temperature}]}]
deliver:
  webhooks: [{name: ioc, url: "@HOOK@", allow_private: true, from: oldest}]
`,
	"sites.yaml": `
sites:
  - {id: "24848", name: {vi: Xã Lạc Dương, en: Lac Duong commune}, lat: 12.1288, lon: 108.596}
  - {id: "24853", name: {vi: Xã Đạ Sar, en: Da Sar commune}, lat: 12.05, lon: 108.55}
`,
	"rules.yaml": plainRule + `
- {id: held, watch: {quantity: pm2_5}, collapse: false, above: {warning: {limit: 60, clear: 50, for: 500ms, clear_for: 300ms}}}
- {id: mean, watch: {quantity: pm2_5}, collapse: false, window: {mean: 10m, step: 10s}, above: {warning: {limit: 500, clear: 400}}}
- {id: slowly, watch: {quantity: pm2_5}, collapse: false, above: {warning: {limit: 50, clear: 45, for: 20m}}}
- {id: flat, watch: {quantity: pm2_5}, collapse: false, flatline: {epsilon: 0, info: {for: 800ms}}}
- {id: trembles, watch: {quantity: pm2_5}, above: {warning: {limit: 100}}}
- {id: silent, watch: {quantity: pm2_5}, no_data: {warning: {for: 10m}}}
- {id: both, several: {of: [pm25-high, held], count: rule, severity: warning, critical: {at_least: 2}}}
`,
	"edge.yaml": `
edge: {id: test-01, site: "24848"}
data_dir: ./edge
hub: {url: "mqtt://@BUS@", send_every: 200ms, heartbeat: 1s}
buffer: {commit_every: 400ms, keep: 36500d, max_age: 36500d}
connections:
  - {id: cabinet, modbus: {transport: tcp, address: "@MODBUS@", timeout: 300ms}}
  - {id: local, mqtt: {url: "tcp://@BROKER@"}}
devices:
  - {id: air, profile: renke/cwt-uwd, connection: cabinet, unit: 1, interval: 200ms}
  - {id: tank, connection: cabinet, unit: 7, interval: 200ms, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}]}
  - {id: ghost, connection: cabinet, unit: 99, interval: 1s, points: [{id: level, quantity: water_level, holding: 4}]}
  - {id: gate-cam, profile: frigate/camera, connection: local, with: {camera: gate}}
  - {id: lamp, connection: local, points: [{id: version, quantity: firmware_version, topic: lamp/version, kind: text}]}
`,
}

// TestTheGoldenIsMade does so when it is asked; see docs/upgrade.md for when that is.
func TestTheGoldenIsMade(t *testing.T) {
	if *makeGolden == "" {
		return
	}
	g := &golden{line: line{dir: t.TempDir()}}
	g.place(t, goldenFiles)
	boot := func(name uint64, synced bool) {
		g.clock = clockFile{Synced: synced, Boot: bootName(name), BootMS: time.Now().Add(-time.Minute).UnixMilli()}
	}
	level := func(v int) {
		t.Helper()
		g.set(pm25Register, v)
		g.eventually(time.Minute, "readings of the new level arrive", func() bool {
			m := g.onTimeOf("air", "pm2_5")
			times := sorted(mapKeys(m))
			return len(times) > 0 && m[times[len(times)-1]] == float64(v)
		})
	}
	say := func(version string) {
		t.Helper()
		resp, err := http.Post(g.control+"/publish?topic="+url.QueryEscape("lamp/version"), "text/plain", strings.NewReader(version))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	run := func(d time.Duration) { <-time.After(d) } // the world goes on; nothing is waited for

	// A boot whose time nobody knew, and power went: late readings, estimated.
	g.set(pm25Register, 20)
	boot(1, false)
	g.startAgent()
	run(4 * time.Second)
	g.edge.kill()
	g.edge = nil

	// Everyday work: pushed rows of the last days, alerts that come and go.
	g.startHub()
	boot(2, true)
	g.startAgent()
	g.eventually(time.Minute, "readings arrive", func() bool { return len(g.onTimeOf("air", "pm2_5")) > 3 })
	say("1.0.3")
	var rows strings.Builder
	noon := time.Now().Add(-72 * time.Hour).Truncate(time.Hour)
	for i := range 600 {
		_, _ = fmt.Fprintf(&rows, "air_temperature,host=mast value=%.1f %d\n", 18+float64(i%70)/10, noon.Add(time.Duration(i)*3*time.Minute).UnixNano())
	}
	resp, err := http.Post(g.http+"/api/v2/write", "text/plain", strings.NewReader(rows.String()))
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("push: %v %v", resp, err)
	}
	_ = resp.Body.Close()
	for _, v := range []int{120, 20, 170, 20, 120} {
		level(v)
		run(1500 * time.Millisecond)
	}
	say("1.0.4")
	active := func(rule string) (a alert.Alert) {
		t.Helper()
		g.eventually(time.Minute, rule+" is active", func() bool {
			var list struct{ Items []alert.Alert }
			g.get("/api/v1/alerts?state=active&rule="+rule, &list)
			if len(list.Items) > 0 {
				a = list.Items[0]
			}
			return len(list.Items) > 0
		})
		return a
	}
	act := func(rule, name string, body map[string]any) {
		t.Helper()
		body["who"] = "Lan"
		var out answer
		if status := g.post("/api/v1/alerts/"+active(rule).ID+"/"+name, body, &out); status != http.StatusOK {
			t.Fatalf("%s %s: %d %+v", name, rule, status, out)
		}
	}
	act("pm25-high", "acknowledge", map[string]any{})
	act("pm25-high", "assign", map[string]any{"assignee": "Hùng"})
	act("pm25-high", "comment", map[string]any{"text": "đang xem"})
	act("held", "shelve", map[string]any{"for": "24h", "why": "khói bếp"})
	var hold struct{ ID string }
	if status := g.post("/api/v1/holds", map[string]any{"kind": "out_of_service", "edge": edgeID, "device": "tank", "for": "8760h", "who": "Lan", "why": "hiệu chuẩn"}, &hold); status/100 != 2 {
		t.Fatalf("hold: %d", status)
	}
	for _, args := range [][]string{{"tokens", "new", "prometheus"}, {"tokens", "new", "wall", "--kiosk"}} {
		if out, err := g.command(args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	g.putUser("lan", "a password for this folder alone")

	// The days before are computed at a start, and the receiver takes no more.
	g.hub.stop()
	g.startHub()
	g.eventually(time.Minute, "long history", func() bool {
		var st struct{ Long struct{ Bytes int64 } }
		g.get("/api/v1/store", &st)
		return st.Long.Bytes > 0
	})
	g.eventually(time.Minute, "the receiver has all", func() bool { return len(g.receiver.sequences()) == len(g.entries()) })
	g.receiver.mu.Lock()
	g.receiver.refuses = true
	g.receiver.mu.Unlock()
	level(170)
	g.eventually(time.Minute, "it is worse, and was not told", func() bool { return active("pm25-high").Severity == alert.Critical })
	act("pm25-high", "acknowledge", map[string]any{})
	g.edge.stop()
	g.edge = nil
	_, last := g.accepted()
	g.eventually(time.Minute, "the hub has got everything", func() bool { return g.stands() == (place{last.Epoch.String(), last.Seq}) })
	run(time.Second) // checkpoints
	g.listing = g.list(time.Now().Add(time.Second))
	g.hub.kill()

	// A backlog over two starts, the second of a boot whose time is not known, cut off
	// between two commits.
	boot(2, true)
	g.startAgent()
	run(5 * time.Second)
	g.edge.kill()
	boot(3, false)
	g.startAgent()
	run(4 * time.Second)
	g.edge.kill()
	g.edge = nil
	g.listing.Frames, _ = g.frames()
	g.listing.Program = "langbiang " + *makeGolden

	for name, text := range goldenFiles {
		g.write(name, text)
	}
	for _, name := range []string{"clock.json", "served.ndjson"} {
		_ = os.Remove(filepath.Join(g.dir, name)) // it may not be there
	}
	b, err := json.MarshalIndent(g.listing, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	g.write("listing.json", string(b))
	if err := os.MkdirAll(goldenDir, 0o755); err != nil {
		t.Fatal(err)
	}
	pack(t, g.dir, filepath.Join(goldenDir, *makeGolden+".tar.zst"))
	n := 0
	for _, s := range g.listing.Samples {
		n += len(s)
	}
	t.Logf("%d samples of %d series, %d frames, %d entries of the alert log, %d received", n, len(g.listing.Samples), len(g.listing.Frames), len(g.listing.Entries), g.listing.Received)
}

// putUser makes somebody who signs in.
func (g *golden) putUser(name, password string) {
	g.t.Helper()
	b, err := json.Marshal(map[string]any{"password": password, "role": "operator"})
	if err != nil {
		g.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodPut, g.http+"/api/v1/users/"+name, strings.NewReader(string(b)))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode/100 != 2 {
		g.t.Fatalf("user: %v %v", resp, err)
	}
	_ = resp.Body.Close()
}
