package rules

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// trace reads a series of testdata/traces.
func trace(t testing.TB, file, column, quantity, unit string) History {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/traces", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, _, err := ReadCSV(file, f, CSVOptions{Column: column})
	if err != nil {
		t.Fatal(err)
	}
	return History{
		Series:   telemetry.BoundSeries{Site: "trace", Edge: "trace", Device: strings.TrimSuffix(file, ".csv"), Point: quantity, Quantity: quantity, Unit: unit},
		Readings: list,
	}
}

func TestBacktestsOnRealTracesGiveTheEpisodesThatWereChecked(t *testing.T) {
	tables, err := os.ReadFile("../../configs/rules/tables.yaml")
	if err != nil {
		t.Fatal(err)
	}
	air := trace(t, "beijing-dongsi-2014-02.csv", "PM2.5", "pm2_5", "ug/m3")
	for _, c := range []struct {
		name, rule string
		histories  []History
	}{
		{"aqi", "- {id: aqi, watch: {quantity: pm2_5}, index: vn_aqi, above: {from: vn_aqi}}", []History{air}},
		{"day-mean", "- {id: day, watch: {quantity: pm2_5}, window: {mean: 24h, step: 1h, at_least: 12}, above: {info: {limit: 50, clear: 45, clear_for: 3h}, warning: {limit: 150, clear: 140, clear_for: 3h}}}", []History{air}},
		{"machine", "- {id: machine, watch: {quantity: temperature}, outside: {warning: {low: 60, high: 105, clear_low: 65, clear_high: 102, for: 15m, clear_for: 30m}}}\n- {id: fall, watch: {quantity: temperature}, rate: {over: 1h, per: 1h}, below: {info: {limit: -10, clear: -5}}}", []History{trace(t, "nab-machine-temperature.csv", "", "temperature", "[degF]")}},
		{"speed", "- {id: slow, watch: {quantity: vehicle_speed}, window: {mean: 30m, at_least: 3}, below: {info: {limit: 50, clear: 55, for: 5m}, warning: {limit: 30, clear: 40}}}\n- {id: silent, watch: {quantity: vehicle_speed}, no_data: {info: {for: 45m}, warning: {for: 6h}}}", []History{trace(t, "nab-speed-t4013.csv", "", "vehicle_speed", "[mi_i]/h")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := Load([]Source{{"rules.yaml", []byte(c.rule)}, {"tables.yaml", tables}}, Env{Quantities: shippedQuantities(t)})
			if err != nil {
				t.Fatal(err)
			}
			last := c.histories[0].Readings[len(c.histories[0].Readings)-1].Time
			list := Backtest(set, c.histories, last)
			var b bytes.Buffer
			for i := range list {
				e := &list[i]
				end := "stands"
				if !e.End.IsZero() {
					end = e.End.Format(time.DateTime)
				}
				fmt.Fprintf(&b, "%s  %s  %-8s %-8s peak %.6g, limit %.6g\n", e.Start.Format(time.DateTime), end, e.Rule, e.Severity, e.Peak, e.Limit)
			}
			golden(t, filepath.Join("testdata/backtests", c.name+".golden"), b.Bytes())
			var svg bytes.Buffer
			if err := Plot(&svg, &Plots{
				Histories: c.histories, Judged: Judge(set, c.histories, last), Names: []string{"rules"}, Episodes: [][]Episode{list},
				From: time.UnixMilli(c.histories[0].Readings[0].Time).UTC(), To: time.UnixMilli(last).UTC(),
			}); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(svg.String(), "<title>"); n != len(list) {
				t.Errorf("%d episodes in the plot, want %d", n, len(list))
			}
		})
	}
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestLimitsAreComparedWithTheClearLimitsDistanceKept(t *testing.T) {
	set := mustLoad(t, "- {id: a, watch: {quantity: pm2_5}, above: {info: {limit: 20, clear: 15}, warning: {limit: 50, clear: 45}, critical: {limit: 80}}}\n")
	other, ok := set.WithLimit(alert.Warning, 100)
	if !ok {
		t.Fatal("no such level")
	}
	var got []string
	for _, l := range other.Rules()[0].Levels {
		got = append(got, fmt.Sprintf("%s %v %v", l.Severity, l.Limit, l.Clear))
	}
	if want := "info 20 15; warning 100 95; critical 100 100"; strings.Join(got, "; ") != want {
		t.Errorf("got %v", got)
	}
	if _, ok := set.WithLimit(alert.Emergency, 1); ok {
		t.Error("a level that is not there was set")
	}
}

func TestCSVFaultsNameLineAndColumn(t *testing.T) {
	for text, want := range map[string]string{
		"time,a,b\n2026-01-01 00:00,1,2\n": `x.csv:1: no column ""`,
		"when,a\n":                         "x.csv:1: no column of times; name it with --time",
		"time,a\nsoon,1\n":                 `x.csv:2:1: "soon" is no time`,
		"time,a\n2026-01-01 00:00,1\n2026-01-01 00:05,one\n": `x.csv:3:2: "one" is no number`,
		"time,a\n1,2,3\n": "wrong number of fields",
		"":                "x.csv:1: no header",
	} {
		_, _, err := ReadCSV("x.csv", strings.NewReader(text), CSVOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
	list, skipped, err := ReadCSV("x.csv", strings.NewReader("timestamp,v\n1000,1\n1060,NA\n1050,7\n1120,2.5\n"), CSVOptions{})
	if err != nil || skipped != 1 || len(list) != 3 || !list[1].Quality.IsBad() || list[2] != (PastReading{Time: 1_120_000, Value: 2.5}) {
		t.Errorf("%v %v %v", list, skipped, err)
	}
}
