package hub

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

func TestTheWorstProblemIsShown(t *testing.T) {
	note := ingest.Event{Kind: ingest.EventRestored, Text: "restored."}
	disk := ingest.Event{Kind: ingest.EventDisk, Text: "disk."}
	fork := ingest.Event{Kind: ingest.EventFork, Text: "fork."}
	for want, problems := range map[string][]ingest.Event{
		"ok ":                {},
		"restored restored.": {note},
		"disk disk.":         {disk, note},
		"fork fork.":         {disk, fork, note},
	} {
		if status, detail := worst(problems); status+" "+detail != want {
			t.Errorf("%v: %s %s", problems, status, detail)
		}
	}
}

func TestTheAPISaysWhatIsWrongWithAnEdgeInOneSentence(t *testing.T) {
	h := levelHub(t)
	f := levelFeeder(t, h, "e1")
	f.say(t, time.Now(), 1)
	f.frame.Epoch.Instance[0]++ // another installation under the same id
	h.ingest.Receive("e1", wire.TopicFrame, f.cut(t, time.Now().UnixMilli()))
	var got api.Edge
	testutil.Eventually(t, time.Minute, "the API names the clone", func() bool {
		resp, err := http.Get("http://" + h.Addr() + "/api/v1/edges")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		var list struct{ Items []api.Edge }
		if err != nil || json.Unmarshal(body, &list) != nil || len(list.Items) != 1 {
			return false
		}
		got = list.Items[0]
		return got.Status == ingest.EventClone
	})
	if status, ok := h.ingest.Edge("e1"); !ok || len(status.Problems) != 1 || got.Detail != status.Problems[0].Text {
		t.Errorf("the API says %q, the ingest %+v", got.Detail, status.Problems)
	}
}

func TestTheAPIShowsWhatADeviceHasBeen(t *testing.T) {
	h := levelHub(t)
	f := newFeeder(t, h, "e1", telemetry.Schema{
		Devices: []telemetry.Device{{ID: "gauge", Connection: "c", Address: "unit 1", Hardware: []telemetry.Hardware{
			{Serial: "SN-1"}, {Serial: "SN-2", Note: "hit by lightning", Since: 1_790_000_000_000},
		}}},
		Series: []telemetry.Series{{Point: "level", Quantity: "water_level", Unit: "m", Interval: 1000}},
	})
	f.say(t, time.Now(), 1)
	resp, err := http.Get("http://" + h.Addr() + "/api/v1/devices")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"hardware":[{"serial":"SN-1","since":null},{"serial":"SN-2","note":"hit by lightning","since":"2026-09-21T`; !strings.Contains(strings.ReplaceAll(string(body), ": ", ":"), want) {
		t.Errorf("the API says %s", body)
	}
}

func TestTheAPIShowsWhenAnEdgeDidNotLook(t *testing.T) {
	h := levelHub(t)
	f := levelFeeder(t, h, "e1")
	start := time.Now().Add(-time.Hour).Truncate(time.Second)
	f.say(t, start, 1)
	for _, m := range []struct{ from, to time.Duration }{{time.Second, 3 * time.Second}, {5 * time.Second, 25 * time.Second}} {
		f.frame.Marks = []wire.Mark{{Kind: wire.MarkStall, From: start.Add(m.from).UnixMilli(), To: start.Add(m.to).UnixMilli()}}
		f.say(t, start.Add(m.to+time.Second), 1)
	}
	f.frame.Marks = nil
	var list struct{ Items []api.Edge }
	testutil.Eventually(t, time.Minute, "the longer one is told, the short one is not worth it", func() bool {
		if err := h.ledger.Flush(); err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get("http://" + h.Addr() + "/api/v1/edges")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		list.Items = nil
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		return len(list.Items) == 1 && len(list.Items[0].Unobserved) > 0
	})
	e := list.Items[0]
	if u := e.Unobserved; len(u) != 1 || len(e.Gaps) != 0 || !u[0].From.Equal(start.Add(5*time.Second)) || !u[0].To.Equal(start.Add(25*time.Second)) {
		t.Errorf("unobserved %+v, gaps %+v", e.Unobserved, e.Gaps)
	}
}
