package filter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/filter"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestFaultsOfAConfigAreNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  filter.Config
		text bool
		want string // fields
	}{
		{"nothing", filter.Config{}, false, ""},
		{"all well", filter.Config{Deadband: "0.2", Silence: time.Hour, Window: time.Minute, Aggregate: []string{"mean", "max"}}, false, ""},
		{"percent", filter.Config{Deadband: "5 %"}, false, ""},
		{"every change", filter.Config{Deadband: "0"}, true, ""},
		{"words", filter.Config{Deadband: "little"}, false, "deadband"},
		{"negative", filter.Config{Deadband: "-1"}, false, "deadband"},
		{"hexadecimal", filter.Config{Deadband: "0x10"}, false, "deadband"},
		{"not a number", filter.Config{Deadband: "NaN"}, false, "deadband"},
		{"everything hidden", filter.Config{Deadband: "100%"}, false, "deadband"},
		{"text with a deadband", filter.Config{Deadband: "1"}, true, "deadband"},
		{"a window for two readings", filter.Config{Window: 8 * time.Second}, false, "window"},
		{"two limits", filter.Config{Window: time.Minute, AtMost: time.Minute}, false, "at_most"},
		{"silence below the interval", filter.Config{Silence: 2 * time.Second}, false, "silence"},
		{"out of bounds", filter.Config{Silence: 48 * time.Hour, AtMost: time.Millisecond}, false, "silence at_most"},
		{"no window", filter.Config{Aggregate: []string{"mean"}}, false, "aggregate"},
		{"unknown and twice", filter.Config{Window: time.Minute, Aggregate: []string{"median", "max", "max"}}, false, "aggregate[0] aggregate[2]"},
		{"the mean of text", filter.Config{Window: time.Minute, Aggregate: []string{"mean"}}, true, "aggregate[0]"},
		{"off and on", filter.Config{Off: true, Deadband: "1"}, false, "off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var fields []string
			for _, p := range c.cfg.Validate(5*time.Second, c.text) {
				fields = append(fields, p.Field)
				if p.Hint == "" {
					t.Errorf("%s: %s: no hint", p.Field, p.Msg)
				}
			}
			if got := strings.Join(fields, " "); got != c.want {
				t.Errorf("faults at %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatAConfigAsksFor(t *testing.T) {
	for name, c := range map[string]struct {
		cfg      filter.Config
		deadband float64
		want     filter.Spec
		on       bool
	}{
		"nothing":               {filter.Config{}, 0, filter.Spec{Interval: 5000}, false},
		"the catalogue":         {filter.Config{}, 0.5, filter.Spec{Interval: 5000, Changes: true, Deadband: filter.Deadband{Absolute: 0.5}, Silence: 240_000}, true},
		"off in spite of that":  {filter.Config{Off: true}, 0.5, filter.Spec{}, false},
		"percent":               {filter.Config{Deadband: "5%"}, 0.5, filter.Spec{Interval: 5000, Changes: true, Deadband: filter.Deadband{Percent: 5}, Silence: 240_000}, true},
		"silence":               {filter.Config{Silence: time.Minute}, 0.1, filter.Spec{Interval: 5000, Changes: true, Deadband: filter.Deadband{Absolute: 0.1}, Silence: 60_000}, true},
		"every change":          {filter.Config{Deadband: "0"}, 0, filter.Spec{Interval: 5000, Changes: true, Silence: 240_000}, true},
		"window of the default": {filter.Config{Window: time.Minute}, 0, filter.Spec{Interval: 5000, Window: 60_000, Outputs: []filter.Output{{Aggregate: telemetry.AggregateMean}}}, true},
		"rate":                  {filter.Config{AtMost: time.Minute}, 0, filter.Spec{Interval: 5000, AtMost: 60_000}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, on := c.cfg.Spec(c.deadband, telemetry.AggregateMean, 5*time.Second)
			if on != c.on {
				t.Errorf("on: %v", on)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParseDeadband(f *testing.F) {
	for _, s := range []string{"0.2", "5%", " 5 %", "", "-1", "1e400", "NaN%", "0x1p4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := filter.ParseDeadband(s)
		if err == nil && (!(d.Absolute >= 0) || !(d.Percent >= 0 && d.Percent < 100)) {
			t.Errorf("%q: %+v", s, d)
		}
	})
}
