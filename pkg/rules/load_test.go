package rules

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestEveryFaultIsNamedWithItsPlace(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load([]Source{{filepath.Base(file), data}}, testEnv())
		var faults strictyaml.Errors
		if !errors.As(err, &faults) {
			t.Fatalf("%s: %v", file, err)
		}
		golden := strings.TrimSuffix(file, ".yaml") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err2 := os.ReadFile(golden)
		if err2 != nil {
			t.Fatal(err2)
		}
		if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(err.Error()+"\n", "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestDuplicateIDsAreFoundAcrossFiles(t *testing.T) {
	rule := []byte("- {id: a, watch: {quantity: pm2_5}, above: {info: {limit: 1}}}")
	_, err := Load([]Source{{"one.yaml", rule}, {"two.yaml", rule}}, testEnv())
	if err == nil || !strings.Contains(err.Error(), "two.yaml:1:8:") || !strings.Contains(err.Error(), "one.yaml:1:8") {
		t.Errorf("error %v", err)
	}
}

func TestVersionNamesTheMeaningOnly(t *testing.T) {
	base := mustLoad(t, `- {id: a, watch: {quantity: pm2_5}, above: {info: {limit: 10, for: 60s}}}`)
	same := mustLoad(t, `
# a comment
- id: a
  title: {en: "dust"}
  watch: {quantity: pm2_5, where: {device: "x*"}}
  above:
    info: {limit: 10.0, clear: 10, for: 1m, clear_for: 0s}
  message: {en: "other words"}
  labels: {team: air}
`)
	other := mustLoad(t, `- {id: a, watch: {quantity: pm2_5}, above: {info: {limit: 10, for: 61s}}}`)
	v := func(s *Set) string { return s.Rules()[0].Version }
	if v(base) != v(same) {
		t.Error("words, where and layout changed the version")
	}
	if v(base) == v(other) {
		t.Error("another delay has the same version")
	}
	if base.ID() == same.ID() || base.ID() == other.ID() {
		t.Error("different sets have one id")
	}
	again := mustLoad(t, "- id: a\n  above: {info: {limit: 1e1, for: 1m}} # layout\n  watch: {quantity: pm2_5}\n")
	if base.ID() != again.ID() {
		t.Error("layout changed the set's id")
	}
}

func TestRulesDescribeThemselves(t *testing.T) {
	set := mustLoad(t, ladder)
	got := set.Rules()[0]
	want := []LevelInfo{
		{Severity: alert.Warning, Limit: 50, Clear: 45, For: 100 * time.Millisecond, ClearFor: 50 * time.Millisecond},
		{Severity: alert.Critical, Limit: 150, Clear: 140, For: 20 * time.Millisecond},
	}
	if diff := cmp.Diff(want, got.Levels); diff != "" || got.Position != "rules.yaml:2:3" || got.Kind != Above || set.Len() != 1 {
		t.Errorf("%+v\n%s", got, diff)
	}
	if ids := set.Matches(pm("x")); len(ids) != 1 || ids[0] != "pm25-high" {
		t.Errorf("matches %v", ids)
	}
}

func TestWhereChoosesByPatterns(t *testing.T) {
	b := telemetry.BoundSeries{
		Site: "24848", Edge: "lac-duong-01", Device: "air-01", Point: "pm2_5", Quantity: "pm2_5",
		Labels: telemetry.Labels{{Name: "spot", Value: "chợ Lạc"}},
	}
	for text, want := range map[string]bool{
		`{}`:                                    true,
		`{site: "24848"}`:                       true,
		`{site: ["24850", "24848"]}`:            true,
		`{site: "24850"}`:                       false,
		`{site: "248*"}`:                        true,
		`{edge: "lac-*-0?"}`:                    true,
		`{edge: "lac-duong"}`:                   false,
		`{device: "*air*", point: pm2_5}`:       true,
		`{device: "air-?"}`:                     false,
		`{labels: {spot: "ch? L?c"}}`:           true,
		`{labels: {spot: "ch?? Lạc"}}`:          false,
		`{labels: {spot: "*", missing: "x"}}`:   false,
		`{labels: {spot: "*"}, device: "b*"}`:   false,
		`{device: ["b*", "a*1"], point: "*_5"}`: true,
	} {
		set := mustLoad(t, "- {id: a, watch: {quantity: pm2_5, where: "+text+"}, above: {info: {limit: 1}}}")
		if got := len(set.Matches(b)) == 1; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestNumbersAreWrittenAsTheLanguageDoes(t *testing.T) {
	for _, c := range []struct {
		v        float64
		decimals int
		vi, en   string
	}{
		{0, 0, "0", "0"},
		{-0.04, 1, "0,0", "0.0"},
		{57.25, 1, "57,2", "57.2"},
		{1234567.891, 2, "1.234.567,89", "1,234,567.89"},
		{-1000, 0, "-1.000", "-1,000"},
		{999, 0, "999", "999"},
	} {
		if a, b := vi.number(c.v, c.decimals), en.number(c.v, c.decimals); a != c.vi || b != c.en {
			t.Errorf("%v: %s %s, want %s %s", c.v, a, b, c.vi, c.en)
		}
	}
	if got := vi.limit(0.125) + " " + vi.limit(1500) + " " + en.limit(1e300); got != "0,125 1.500 1e+300" {
		t.Errorf("limits %s", got)
	}
	for ucum, want := range map[string]string{"ug/m3": "µg/m³", "Cel": "°C", "m3/s": "m³/s", "[ppm]": "ppm", "{count}": "", "kW.h": "kWh", "%": "%", "uS/cm": "µS/cm", "lx": "lx"} {
		if got := telemetry.UnitSymbol(ucum); got != want {
			t.Errorf("unit %s: %q, want %q", ucum, got, want)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	e, r := newTest(t, `
- id: a
  watch: {quantity: pm2_5}
  above: {info: {limit: 1}}
  message: {en: "`+strings.Repeat("{{.Labels.spot}}", 60)+`", vi: "{{if eq .Severity \"thông tin\"}}có{{else}}không{{end}}{{.Labels.none}}"}
`)
	b := pm("air-01")
	b.Labels = telemetry.Labels{{Name: "spot", Value: strings.Repeat("ạ", 80)}}
	f := openFold(t, e, nil, b)
	f.Observe(0, 1000, 2, good)
	m := r.all[0].Alert.Message
	if len(m.EN) > telemetry.MaxTextLen || len(m.EN) < telemetry.MaxTextLen-3 || strings.Trim(m.EN, "ạ") != "" {
		t.Errorf("message of %d bytes: %.60q", len(m.EN), m.EN)
	}
	if m.VI != "có" {
		t.Errorf("message %q", m.VI)
	}
}

func TestReferenceNamesEveryKey(t *testing.T) {
	ref := Reference()
	for _, key := range []string{"watch", "above", "below", "clear_for", "message", "links", "where"} {
		if !strings.Contains(ref, key) {
			t.Errorf("the reference lacks %s", key)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(ladder))
	for _, name := range []string{"testdata/bad/all.yaml"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := Load([]Source{{"f.yaml", data}}, testEnv())
		if err != nil {
			return
		}
		r := &recorder{}
		e := NewEngine([]Effective{{set, Always}}, r.emit)
		fold, err := e.Open("e1", nil)
		if err != nil {
			t.Fatal(err)
		}
		fold.Bind([]telemetry.BoundSeries{pm("air-01")})
		for i, v := range []float64{0, 1e9, -1e9, 50} {
			fold.Observe(0, int64(i+1)*1e11, v, good)
		}
		fold.Advance(1e13)
		for i := range r.all {
			if a := &r.all[i].Alert; a.ID == "" || a.Message.EN == "" && a.Message.VI == "" && len(set.Rules()[0].Levels) == 0 {
				t.Errorf("alert %+v", a)
			}
		}
	})
}
