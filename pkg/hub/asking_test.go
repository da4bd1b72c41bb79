package hub

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/questions"
	"github.com/langbiang/langbiang/pkg/wire"
)

// answeringEdge is an enrolled gateway that says hello, and answers what is asked with
// its own name; with says what its hello says of questions.
func (f *fortress) answeringEdge(edge, with string) {
	f.Helper()
	id := f.enrol(edge)
	c, _, err := f.connect(edge+"-00000001", "", id.TLS(nil))
	if err != nil {
		f.Fatal(err)
	}
	r := questions.NewResponder(questions.ResponderConfig{Logger: slog.New(slog.DiscardHandler), Tell: func(_ context.Context, w io.Writer, kind string, args map[string]string) error {
		if kind != "why" {
			return questions.Refusal("there is no " + kind)
		}
		_, err := fmt.Fprintf(w, "%s says why %s\n", edge, args["device"])
		return err
	}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.Changed():
			}
			for p, ok := r.Next(); ok; p, ok = r.Next() {
				c.Publish(wire.AnswerTopic(edge), 0, false, p)
			}
		}
	})
	f.Cleanup(func() { cancel(); wg.Wait() })
	if tok := c.Subscribe(wire.AskTopic(edge), 0, func(_ mqtt.Client, m mqtt.Message) { r.Ask(m.Payload()) }); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		f.Fatal(tok.Error())
	}
	epoch := wire.Epoch{Instance: wire.Instance{1, edge[0]}, Start: 1, Random: 1}
	state, err := wire.EncodeState(&wire.State{V: 1, Epoch: epoch, Online: true, At: time.Now().UnixMilli()})
	if err != nil {
		f.Fatal(err)
	}
	c.Publish(wire.StateTopic(edge), 0, true, state)
	hello, err := wire.EncodeHello(&wire.Hello{V: 1, Instance: epoch.Instance, Epoch: epoch, Nonce: 7, Version: "v0.1.0", Ask: with, Clock: wire.Clock{Now: time.Now().UnixMilli(), Trusted: true}})
	if err != nil {
		f.Fatal(err)
	}
	c.Publish(wire.HelloTopic(edge), 0, false, hello)
	testutil.Eventually(f.T, time.Minute, "the hub has heard "+edge, func() bool {
		e := asking{f.Hub}.status(edge)
		return e != nil && e.Connected && e.Hello.V != 0
	})
}

func TestAnEdgeIsAskedByWhoMayAlone(t *testing.T) {
	f := newFortress(t)
	admin := f.admin()
	f.answeringEdge("lac-duong-01", wire.AskOn)
	f.answeringEdge("dam-rong-01", wire.AskOn)
	why := map[string]any{"kind": "why", "args": map[string]string{"device": "gauge"}}
	path := func(edge string) string { return "/api/v1/edges/" + edge + "/ask" }
	f.somebody().wants(http.StatusUnauthorized, "POST", path("lac-duong-01"), why)
	f.user(admin, "minh", "operator").wants(http.StatusForbidden, "POST", path("lac-duong-01"), why)
	hoa := f.user(admin, "hoa", "technician", "river")
	hoa.wants(http.StatusForbidden, "POST", path("lac-duong-01"), why)
	hoa.wants(http.StatusForbidden, "POST", path("nobody-knows-it"), why)
	if text := hoa.wants(http.StatusOK, "POST", path("dam-rong-01"), why); !strings.Contains(text, "dam-rong-01 says why gauge") || !strings.Contains(text, `"answered"`) {
		t.Error(text)
	}
	an := f.user(admin, "an", "technician")
	if text := an.wants(http.StatusOK, "POST", path("lac-duong-01"), why); !strings.Contains(text, "lac-duong-01 says why gauge") {
		t.Error(text)
	}
	if text := an.wants(http.StatusUnprocessableEntity, "POST", path("lac-duong-01"), map[string]string{"kind": "coffee"}); !strings.Contains(text, "there is no coffee") {
		t.Error(text)
	}
	an.wants(http.StatusNotFound, "POST", path("nobody-knows-it"), why)
	an.wants(http.StatusBadRequest, "POST", path("lac-duong-01"), map[string]any{"kind": "log", "args": map[string]string{"match": strings.Repeat("x", wire.MaxArg+1)}})
	// A page of another site cannot ask through a browser, and all of it is noted.
	an.wants(http.StatusForbidden, "POST", path("lac-duong-01"), why, "Sec-Fetch-Site", "cross-site")
	for _, want := range []string{`"target":"dam-rong-01 why device=gauge"`, `"target":"lac-duong-01 why device=gauge"`, `"who":"hoa"`, `"result":"refused: your role may not do this"`} {
		testutil.Eventually(t, time.Minute, "the audit log says, a moment after the answer, "+want, func() bool {
			return strings.Contains(admin.wants(http.StatusOK, "GET", "/api/v1/audit?limit=100", nil), want)
		})
	}
}

func TestEdgesThatCannotBeAskedSayWhy(t *testing.T) {
	f := newFortress(t, "push: {sources: [{id: weather, site: \"24848\"}]}\n")
	admin := f.admin()
	f.answeringEdge("lac-duong-01", "")
	f.answeringEdge("dam-rong-01", wire.AskOff)
	levelFeeder(t, f.Hub, "quiet-01").say(t, time.Now().Add(-2*time.Second), 1)
	for edge, c := range map[string]struct {
		status int
		says   string
	}{
		"lac-duong-01": {http.StatusConflict, "the agent there (version \\\"v0.1.0\\\") is too old to be asked"},
		"dam-rong-01":  {http.StatusForbidden, "the gateway does not let itself be asked"},
		"quiet-01":     {http.StatusConflict, "the edge is not connected; it was last heard"},
		"weather":      {http.StatusConflict, "has no agent to be asked"},
	} {
		if text := admin.wants(c.status, "POST", "/api/v1/edges/"+edge+"/ask", map[string]string{"kind": "doctor"}); !strings.Contains(text, c.says) {
			t.Errorf("%s: %s", edge, text)
		}
	}
}
