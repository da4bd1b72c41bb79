package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/questions"
	"github.com/langbiang/langbiang/pkg/uplink"
)

// numbers are what differs between two looks at the same thing.
var numbers = regexp.MustCompile(`[0-9][0-9.:TZ+-]*(ms|µs|s|m|h)?| +`)

func TestWhatIsToldAtTheHubIsWhatIsReadAtTheGateway(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	asked := false
	runAgent(t, dir, func(a *Agent) bool {
		if asked || a.collect.answering() < 2 || a.recorder.readings.Load() < 20 || !a.collect.state(a.now.Load().Devices[3]).known {
			return asked
		}
		asked = true
		for _, q := range []struct {
			local []string
			args  map[string]string
		}{
			{[]string{"status"}, nil},
			{[]string{"doctor"}, nil},
			{[]string{"why", "tank"}, map[string]string{"device": "tank"}},
			{[]string{"why", "gone"}, map[string]string{"device": "gone"}},
			{[]string{"read"}, nil},
			{[]string{"read", "tank", "level"}, map[string]string{"device": "tank", "point": "level"}},
			{[]string{"why", "tonk"}, map[string]string{"device": "tonk"}},
			{[]string{"read", "tank", "temperature"}, map[string]string{"device": "tank", "point": "temperature"}},
			{[]string{"trace", "cabnet"}, map[string]string{"connection": "cabnet"}},
			{[]string{"log", "--level", "warn", "--lines", "3"}, map[string]string{"level": "warn", "lines": "3"}},
			{[]string{"log", "--level", "loud"}, map[string]string{"level": "loud"}},
		} {
			_, out, errs := command(t, dir, q.local...)
			var text strings.Builder
			err := a.tell(t.Context(), &text, q.local[0], q.args)
			if told, here := numbers.ReplaceAllString(text.String(), "#"), numbers.ReplaceAllString(out, "#"); told != here {
				t.Errorf("%v\n--- on the gateway\n%s--- at the hub\n%s", q.local, out, text.String())
			}
			says := ""
			if err != nil {
				says = err.Error()
			}
			if got := strings.TrimPrefix(strings.TrimSpace(errs), "langbiang-edge: "); numbers.ReplaceAllString(got, "#") != numbers.ReplaceAllString(says, "#") {
				t.Errorf("%v: on the gateway %q, at the hub %q", q.local, got, says)
			}
		}
		return true
	})
	if !asked {
		t.Error("the agent was never asked")
	}
}

func TestNothingThatIsAskedChangesAnything(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	runAgent(t, dir, func(a *Agent) bool {
		for _, kind := range []string{"", "reload", "maintain", "hardware", "replace", "write", "page", "queue", "run", "../status"} {
			err := a.tell(t.Context(), io.Discard, kind, nil)
			if no := questions.Refusal(""); !errors.As(err, &no) {
				t.Errorf("%q: %v", kind, err)
			}
		}
		for kind := range kinds() {
			err := a.tell(t.Context(), io.Discard, kind, map[string]string{"config": "/etc/shadow"})
			if no := questions.Refusal(""); !errors.As(err, &no) {
				t.Errorf("%s with an argument that it does not have: %v", kind, err)
			}
		}
		if got := slices.Sorted(maps.Keys(kinds())); fmt.Sprint(got) != "[doctor log read status trace why]" {
			t.Errorf("%v: does each of them only look? docs/security.md says so", got)
		}
		return true
	})
}

func TestTheLogIsFollowed(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	runAgent(t, dir, func(a *Agent) bool {
		a.logger.Info("one before")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var text lockedText
		ended := make(chan error, 1)
		go func() {
			ended <- a.tell(ctx, &text, "log", map[string]string{"lines": "1", "match": "ONE", "follow": "true"})
		}()
		testutil.Eventually(t, time.Minute, "what was there is shown", func() bool { return strings.Contains(text.String(), "one before") })
		a.logger.Info("another")
		a.logger.Warn("one after")
		testutil.Eventually(t, time.Minute, "what comes is shown", func() bool { return strings.Contains(text.String(), "one after") })
		cancel()
		if err := <-ended; err != nil || strings.Contains(text.String(), "another") || strings.Count(text.String(), "\n") != 2 {
			t.Errorf("%v\n%s", err, text.String())
		}
		// And by the command, until Ctrl-C.
		code, _ := commandUntil(t, dir, func(out string) bool {
			a.logger.Info("one more")
			return strings.Contains(out, "one after") && strings.Contains(out, "one more")
		}, "log", "--follow")
		if code != 0 {
			t.Errorf("exit %d", code)
		}
		return true
	})
	if code, _, errs := command(t, dir, "log"); code != 1 || !strings.Contains(errs, "no agent is running") || !strings.Contains(errs, "journalctl") {
		t.Errorf("without an agent: exit %d, %s", code, errs)
	}
}

func TestTheNewestLinesOfTheLogAreRememberedWithinABound(t *testing.T) {
	ring := newLogRing()
	var shown strings.Builder
	log := slog.New(ring.handler(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelWarn}))).With("edge", "a-01").WithGroup("g")
	all := logFilter{level: slog.LevelDebug}
	if text, _ := ring.last(10, &all); text != "" {
		t.Errorf("before anything was logged: %s", text)
	}
	log.Debug("not even remembered")
	for i := range 3000 {
		log.Info("line", "n", i, "text", "mưa\n"+strings.Repeat("x", 40))
	}
	log.Warn("warned")
	log.Error("failed")
	if strings.Contains(shown.String(), "n=") || !strings.Contains(shown.String(), "warned") {
		t.Errorf("what is shown is not what was: %.300s", shown.String())
	}
	text, next := ring.last(maxLogLines, &all)
	n := strings.Count(text, "\n")
	if !strings.Contains(text, "g.n=2999") || strings.Contains(text, "g.n=0 ") || n < 500 || len(text)+n*lineOverhead > maxLogRing {
		t.Errorf("%d lines, %d bytes", n, len(text))
	}
	if ring.bytes > maxLogRing || len(ring.lines) != n {
		t.Errorf("%d bytes are kept", ring.bytes)
	}
	if text, _ := ring.last(2, &logFilter{level: slog.LevelWarn}); strings.Count(text, "\n") != 2 || !strings.Contains(text, "edge=a-01") {
		t.Errorf("by level: %s", text)
	}
	if text, _ := ring.last(9, &logFilter{match: "n=2990 "}); strings.Count(text, "\n") != 1 {
		t.Errorf("by text: %s", text)
	}
	if text, _ := ring.last(9, &logFilter{since: time.Now().Add(time.Hour)}); text != "" {
		t.Errorf("by time: %s", text)
	}
	// Who follows and was away for long goes on with what is left.
	for i := range 3000 {
		log.Info("later", "n", i)
	}
	text, again, _ := ring.after(next, &all)
	if again != next+3000 || !strings.Contains(text, "g.n=2999") {
		t.Errorf("from %d on to %d", next, again)
	}
}

func TestAGatewayThatDoesNotLetItselfBeAsked(t *testing.T) {
	dir := cabinetFolder(t, "127.0.0.1:1")
	plan, err := Load(filepath.Join(dir, "edge.yaml"), func(c *Config) error { c.Hub.Remote = remoteOff; return nil })
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(plan, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if a.asked != nil || a.answers() != uplink.Answers(nil) {
		t.Error("it answers")
	}
	plan.Config.Hub.Remote = "of"
	dir = files(t, map[string]string{"edge.yaml": "edge: {id: a}\nhub: {url: mqtt://127.0.0.1:1, remote: of}\n"})
	if _, err := Load(filepath.Join(dir, "edge.yaml"), nil); err == nil || !strings.Contains(err.Error(), "remote") {
		t.Errorf("a word that is neither: %v", err)
	}
}
