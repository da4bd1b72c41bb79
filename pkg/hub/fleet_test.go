package hub

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
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
	testutil.Eventually(t, 10*time.Second, "the API names the clone", func() bool {
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
