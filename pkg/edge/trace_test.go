package edge

import (
	"regexp"
	"strings"
	"testing"
)

func TestTraceShowsFramesWithTheirMeaning(t *testing.T) {
	dir := cabinetFolder(t, cabinetField(t))
	// Until the unit that is gone was asked a second time: the register that is
	// refused is asked at the first round and then not soon again, so the trace must
	// have begun before it.
	code, out := commandUntil(t, dir, func(out string) bool { return strings.Count(out, "unit 9, holding 4: ") >= 2 }, "trace", "cabinet", "--for", "1h")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	wantLines(t, "without an agent", out, "unit 1, holding 4: ok", "unit 2, holding 900: refused, illegal data address (exception 2)", "unit 9, holding 4: ")
	if !regexp.MustCompile(`(?m)^    > ([0-9A-F]{2} ){4}00 06 01 03 00 04 00 01$`).MatchString(out) || !regexp.MustCompile(`(?m)^    < ([0-9A-F]{2} ){4}00 05 01 03 02 07 2A$`).MatchString(out) {
		t.Errorf("it does not show the frames:\n%s", out)
	}
	if code, _, errs := command(t, dir, "trace", "cabnet"); code != 2 || !strings.Contains(errs, `did you mean "cabinet"?`) {
		t.Errorf("exit %d, %s", code, errs)
	}
	done := false
	runAgent(t, dir, func(a *Agent) bool {
		if done || a.collect.answering() < 2 {
			return done
		}
		done = true
		code, _ := commandUntil(t, dir, func(out string) bool { return strings.Contains(out, "unit 1, holding 4: ok") }, "trace", "cabinet", "--for", "1h")
		if code != 0 {
			t.Errorf("through the agent: exit %d", code)
		}
		if code, _, errs := command(t, dir, "trace", "nowhere", "--for", "1s"); code != 0 {
			t.Errorf("a connection that is down: exit %d, %s", code, errs)
		}
		return true
	})
}
