package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

func post(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// An edge runs from an old copy of its disk. The sentence names the command that
// ends it, and the command does: the hub takes what the copy has.
func TestAnOperatorEndsAFork(t *testing.T) {
	h := levelHub(t)
	f := levelFeeder(t, h, "e1")
	now := time.Now()
	for i := range 3 {
		f.say(t, now.Add(time.Duration(i-10)*time.Second), float64(i))
	}
	old := f.frame
	f.frame.Seq, f.frame.W, f.frame.Epoch.Random = 0, 0, 99 // the same start again, by a copy that does not know of it
	f.frame.Readings = f.frame.Readings[:1]
	f.frame.Readings[0].Time = now.UnixMilli()
	h.ingest.Receive("e1", wire.TopicFrame, f.cut(t, now.UnixMilli()))
	status := func() (s ingest.EdgeStatus) { s, _ = h.ingest.Edge("e1"); return s }
	testutil.Eventually(t, time.Minute, "the fork is seen", func() bool {
		p := status().Problems
		return len(p) == 1 && p[0].Kind == ingest.EventFork && strings.Contains(p[0].Text, "langbiang-hub edges forget e1")
	})
	if code, body := post(t, "http://"+h.Addr()+"/api/v1/edges/nobody/forget"); code != http.StatusNotFound || !strings.Contains(body, "never heard of an edge") {
		t.Errorf("an edge that is not there: %d %s", code, body)
	}
	var out bytes.Buffer
	config := filepath.Join(filepath.Dir(h.plan.Config.DataDir), "hub.yaml")
	if code := Main(t.Context(), "test", []string{"edges", "forget", "e1", "--config", config}, &out, &out); code != 0 || !strings.Contains(out.String(), "forgotten its position in the log of e1") {
		t.Fatalf("edges forget: exit %d, %s", code, &out)
	}
	testutil.Eventually(t, time.Minute, "the position is forgotten", func() bool {
		s := status()
		return len(s.Problems) == 0 && s.Position == (wire.Pos{})
	})
	f.frame.Seq, f.frame.W = 0, 0
	f.say(t, now.Add(time.Second), 7)
	if p := status().Position; p.Epoch != f.frame.Epoch || p.Epoch == old.Epoch {
		t.Errorf("the hub stands at %v", p)
	}
}

// The store must take what an edge may still hold after the longest time.
func TestTheStoreTakesWhatEdgesMayStillHold(t *testing.T) {
	h := levelHub(t)
	app := h.store.Appender()
	series := []telemetry.Label{{Name: "__name__", Value: "pm2_5"}, {Name: "edge", Value: "e"}}
	now := time.Now()
	for _, ago := range []time.Duration{0, h.plan.Config.Store.MaxAge, h.plan.Config.Store.MaxAge + lateWindow - time.Hour} {
		if _, err := app.Append(0, series, now.Add(-ago).UnixMilli(), 1); err != nil {
			t.Errorf("a reading of %v ago is refused: %v", ago, err)
		}
		if err := app.Commit(); err != nil {
			t.Error(err)
		}
	}
	if n := h.store.Stats().TooOld; n != 0 {
		t.Errorf("%d readings were dropped as too old", n)
	}
}

// A store that lost what had been durable makes every edge send again what it keeps.
func TestADamagedStoreMakesTheEdgesSendAgain(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"rules.yaml": levelRule,
		"hub.yaml": fmt.Sprintf("data_dir: ./data\nrules: [./rules.yaml]\nclock: {require_sync: false}\nhttp: {listen: %q, auth: off}\nmqtt: {listen: %q}\n",
			testutil.FreeAddress(t), testutil.FreeAddress(t)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *Hub {
		plan, err := Load(filepath.Join(dir, "hub.yaml"), nil)
		if err != nil {
			t.Fatal(err)
		}
		h, err := Open(plan, "test", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := open()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	f := levelFeeder(t, first, "e1")
	for i := range 20 {
		f.say(t, time.Now().Add(time.Duration(i-30)*time.Second), float64(i))
	}
	cancel()
	if err := errors.Join(<-ended, first.Close()); err != nil {
		t.Fatal(err)
	}
	h := open()
	if c, ok, err := h.ledger.Load("e1"); err != nil || !ok || len(c.Position) == 0 {
		t.Fatalf("after a good restart the hub knows no position (%v)", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "data", "tsdb", "wal", "0*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("write-ahead log: %v %v", logs, err)
	}
	for _, path := range logs {
		if err := os.Truncate(path, 64); err != nil {
			t.Fatal(err)
		}
	}
	h = open()
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	if c, _, err := h.ledger.Load("e1"); err != nil || len(c.Position) != 0 || len(c.Rules) != 0 {
		t.Errorf("the hub keeps its position (%v): the edge would never send again what the store lost", err)
	}
	events, err := h.ledger.Events("", 0, 100)
	if err != nil || !slices.ContainsFunc(events, func(e ledger.Event) bool { return e.Kind == "store_damaged" }) {
		t.Errorf("operators are not told: %+v %v", events, err)
	}
}
