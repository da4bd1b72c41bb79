package edge

import (
	"regexp"
	"strings"
	"testing"
)

func TestTraceShowsFramesWithTheirMeaning(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	shows := func(what, out string) {
		t.Helper()
		wantLines(t, what, out, "unit 1, holding 4: ok", "unit 2, holding 900: refused, illegal data address (exception 2)", "unit 9, holding 4: ")
		if !regexp.MustCompile(`(?m)^    > ([0-9A-F]{2} ){4}00 06 01 03 00 04 00 01$`).MatchString(out) || !regexp.MustCompile(`(?m)^    < ([0-9A-F]{2} ){4}00 05 01 03 02 07 2A$`).MatchString(out) {
			t.Errorf("%s does not show the frames:\n%s", what, out)
		}
	}
	code, out, errs := command(t, dir, "trace", "cabinet", "--for", "2s")
	if code != 0 {
		t.Fatalf("exit %d, %s", code, errs)
	}
	shows("without an agent", out)
	if code, _, errs := command(t, dir, "trace", "cabnet"); code != 2 || !strings.Contains(errs, `did you mean "cabinet"?`) {
		t.Errorf("exit %d, %s", code, errs)
	}
	done := false
	runAgent(t, dir, func(a *Agent) bool {
		if done || a.collect.answering() < 2 {
			return done
		}
		done = true
		_, out, _ := command(t, dir, "trace", "cabinet", "--for", "5s") // the unit that is gone is probed at growing intervals
		wantLines(t, "through the agent", out, "unit 1, holding 4: ok")
		if code, _, errs := command(t, dir, "trace", "nowhere", "--for", "1s"); code != 0 {
			t.Errorf("a connection that is down: exit %d, %s", code, errs)
		}
		return true
	})
}
