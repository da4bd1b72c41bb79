package hub

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

const pastRulesFile = `
- {id: level, watch: {quantity: water_level}, above: {warning: {limit: 5, clear: 4, for: 20s}}}
- {id: mean, watch: {quantity: water_level}, window: {mean: 2m, step: 20s}, above: {info: {limit: 4}}}
- {id: held, watch: {quantity: water_level}, bad: no_data, maintenance: suppress, above: {critical: {limit: 8, for: 30s}}}
- {id: both, several: {of: [level, mean], count: rule, critical: {at_least: 2}}}
`

// backtest runs the command and returns its table of episodes, without the titles.
func backtest(t *testing.T, b backtestFlags, file string) (lines []string, all string) {
	t.Helper()
	var out, stderr bytes.Buffer
	b.zone = "UTC"
	if err := b.run(context.Background(), settings.Call{Args: []string{file}, Stdout: &out, Stderr: &stderr}); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(out.String(), "START")
	for line := range strings.SplitSeq(table, "\n") {
		if line = strings.Join(strings.Fields(line), " "); strings.HasPrefix(line, "20") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines, out.String()
}

func TestBacktestsOverAHubAndOverItsFolderFindWhatWasRaisedLive(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(file, []byte(pastRulesFile), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(-2 * time.Hour).Truncate(time.Minute).UTC()
	end := begin.Add(40 * time.Minute)
	period := backtestFlags{from: begin.Format(time.RFC3339), to: end.Format(time.RFC3339)}
	var live, overHTTP []string
	t.Run("hub", func(t *testing.T) {
		h := runHub(t, map[string]string{"hub.yaml": "data_dir: " + data + "\nrules: [./rules.yaml]\n", "rules.yaml": pastRulesFile})
		f := levelFeeder(t, h, "e1")
		for n := 1; n <= 240; n++ {
			at := begin.Add(time.Duration(n) * 10 * time.Second)
			r := telemetry.Reading{Time: at.UnixMilli(), Value: []float64{2, 9, 3, 9, 6, 2.5}[n/8%6]}
			switch {
			case n%23 == 0, n > 100 && n < 106:
				r.Quality = telemetry.BadQuality(telemetry.ReasonNoAnswer)
			case n > 150 && n < 160:
				r.Quality = telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonMaintenance)
			}
			f.frame.Readings = append(f.frame.Readings[:0], r)
			h.ingest.Receive(f.id, wire.TopicFrame, f.cut(t, at.UnixMilli()))
		}
		f.say(t, end.Add(time.Second), 1)
		for _, a := range f.alerts(t) {
			if !strings.HasPrefix(a.Rule, "edge_") {
				live = append(live, a.Start.Format(time.DateTime)+" "+a.Rule+" "+a.Severity.String())
			}
		}
		b := period
		b.hub = "http://" + h.Addr()
		overHTTP, _ = backtest(t, b, file)

		if _, err := readData(t.Context(), data, rulesEnv(h.plan), h.plan.Set, begin, end); err == nil || !strings.Contains(err.Error(), "a hub runs on this folder") {
			t.Errorf("the folder of a hub that runs: error %v", err)
		}
	})
	slices.Sort(live)
	b := period
	b.data = data
	b.svg = filepath.Join(dir, "plot.svg")
	overData, _ := backtest(t, b, file)
	if !slices.Equal(overHTTP, overData) {
		t.Errorf("over HTTP\n  %s\nover the folder\n  %s", strings.Join(overHTTP, "\n  "), strings.Join(overData, "\n  "))
	}
	var found []string
	for _, line := range overData {
		words := strings.Fields(line) // start, end, lasted, severity, rule
		i := slices.IndexFunc(words, func(w string) bool { _, ok := alert.ParseSeverity(w); return ok })
		if words[i+1] != "both" { // its alerts are no edge's
			found = append(found, words[0]+" "+words[1]+" "+words[i+1]+" "+words[i])
		}
	}
	slices.Sort(found)
	if len(live) < 12 || !slices.Equal(live, found) {
		t.Errorf("live\n  %s\nfound in the past\n  %s", strings.Join(live, "\n  "), strings.Join(found, "\n  "))
	}
	if svg, err := os.ReadFile(b.svg); err != nil || !bytes.Contains(svg, []byte("e1/gauge/level")) {
		t.Errorf("no plot: %v", err)
	}

	// From the middle on: windows and delays know what came before. (Of what stands
	// at the beginning it may not be known when it began.)
	middle := begin.Add(20 * time.Minute)
	b.from = middle.Format(time.RFC3339)
	later, _ := backtest(t, b, file)
	before := func(line string) bool { return line < middle.Format(time.DateTime) }
	want := slices.DeleteFunc(slices.Clone(overData), before)
	if len(later) == len(want) {
		t.Error("what stands at the beginning is not told")
	}
	if later = slices.DeleteFunc(later, before); !slices.Equal(want, later) {
		t.Errorf("from the middle on\n  %s\nwant\n  %s", strings.Join(later, "\n  "), strings.Join(want, "\n  "))
	}

	// Several limits at once.
	b.only, b.limits = []string{"level"}, "warning=3,5,7"
	_, text := backtest(t, b, file)
	for _, limit := range []string{"\n3:", "\n5:", "\n7:"} {
		if !strings.Contains(text, limit) {
			t.Errorf("no limit %q in\n%s", limit, text)
		}
	}
}
