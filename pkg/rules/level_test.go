package rules

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

const fiveLevels = `
ladders:
  risk:
    source: test
    quantity: pm2_5
    levels:
      1: {rank: 1, severity: info, name: {vi: "cấp 1", en: "level 1"}, color: "#add8e6"}
      2: {rank: 2, severity: warning, name: {vi: "cấp 2", en: "level 2"}}
      3: {rank: 3, severity: critical, name: {vi: "cấp 3", en: "level 3"}}
      4: {rank: 4, severity: emergency, name: {vi: "cấp 4", en: "level 4"}, color: "#ff0000"}
      5: {rank: 5, severity: emergency, name: {vi: "cấp 5", en: "level 5"}, color: "#ee82ee"}
    limits:
      5: {limit: 50, clear: 45}
      1: {limit: 10}
      2: {limit: 20}
      3: {limit: 30}
      4: {limit: 40}
    at:
      - {name: the market, where: {labels: {spot: market}}, limits: {4: {limit: 400}, 5: {limit: 500, for: 10s}}}
`

const riskRule = `
- id: risk
  watch: {quantity: pm2_5}
  above: {from: risk}
  procedure: https://example.org/sop/risk
  links: {map: "https://example.org/map"}
  message: {vi: "{{.Level}}", en: "{{.Level}}"}
`

func TestLevelsThatShareASeverityAreToldApart(t *testing.T) {
	set, err := Load([]Source{{"rules.yaml", []byte(riskRule)}, {"tables.yaml", []byte(fiveLevels)}}, testEnv())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	e := NewEngine([]Effective{{set, Always}}, r.emit)
	market, other := pm("a"), pm("b")
	other.Labels = nil
	f := openFold(t, e, nil, market, other)
	f.Advance(0)
	saved := []byte(nil)
	for i, v := range []float64{5, 41, 55, 47, 44, 5} {
		f.Observe(1, int64(i+1)*1000, v, 0)
		f.Advance(int64(i+1) * 1000)
		if i == 2 { // in the midst of it the hub starts again
			saved = f.Save(nil)
			f = openFold(t, e, saved, market, other)
		}
	}
	var got []string
	for i := range r.all {
		x := &r.all[i]
		got = append(got, string(x.Kind)+" "+x.Alert.Severity.String()+" "+x.Alert.Level.ID+" "+x.Alert.Level.Color+" "+x.Alert.Message.EN)
		if x.Alert.Procedure != "https://example.org/sop/risk" || x.Alert.Links["map"] != "https://example.org/map" {
			t.Errorf("%+v", x.Alert)
		}
	}
	want := []string{
		"raised emergency 4 #ff0000 level 4", "level_changed emergency 5 #ee82ee level 5", "level_changed emergency 4 #ff0000 level 4",
		"cleared emergency 4 #ff0000 level 4",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	r.all = nil
	f.Observe(0, 20_000, 600, 0) // the place of its own
	f.Advance(40_000)
	if len(r.all) != 2 || r.all[0].Alert.Level.Rank != 4 || r.all[1].Alert.Level.Rank != 5 || r.all[1].Kind != alert.LevelChanged {
		t.Errorf("%+v", r.all)
	}
}

func TestAnAlertThatChattersKeepsItsWorstLevel(t *testing.T) {
	set, err := Load([]Source{{"rules.yaml", []byte(riskRule)}, {"tables.yaml", []byte(fiveLevels)}}, testEnv())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	e := NewEngine([]Effective{{set, Always}}, r.emit)
	s := pm("b")
	s.Labels = nil
	f := openFold(t, e, nil, s)
	f.Advance(0)
	for i, v := range []float64{41, 5, 41, 5, 41, 5, 55, 5, 41, 5} {
		f.Observe(0, int64(i+1)*1000, v, 0)
	}
	last := &r.all[len(r.all)-1]
	if last.Kind != alert.LevelChanged || !last.Alert.Chattering || last.Alert.Level.ID != "5" {
		t.Errorf("%+v", last)
	}
	f.Advance(120_000)
	last = &r.all[len(r.all)-1]
	if last.Kind != alert.Ended || last.Alert.Level.ID != "5" || last.Alert.Activations != 5 {
		t.Errorf("%+v", last)
	}
}

func TestFaultsOfLevelsAreNamed(t *testing.T) {
	_, err := Load([]Source{{"tables.yaml", []byte(`
ladders:
  risk:
    source: test
    levels:
      info: {severity: info, name: {en: x}}
      one: {name: {en: x}}
      two: {severity: warning}
      three: {severity: critical, rank: 3}
      four: {severity: info, rank: 4}
      five: {severity: emergency, rank: 4}
    limits:
      six: {limit: 1}
      three: {limit: 5}
      five: {limit: 3}
    at:
      - {name: x, where: {site: "24848"}}
`)}, {"rules.yaml", []byte("- {id: a, watch: {quantity: pm2_5}, above: {info: {limit: 1}}, procedure: sop, links: {procedure: \"https://a\"}}")}}, testEnv())
	var faults strictyaml.Errors
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	text := err.Error()
	for _, says := range []string{
		"tables.yaml:6:13: ladders.risk.levels.info: a level that is named by its severity has no other",
		"nothing says the severity of level \"one\"", "nothing says the place of level \"two\"", "has the rank 4 already", "is less severe than \"three\"",
		"tables.yaml:13:12: ladders.risk.limits.six: the ladder names no level \"six\"", "limit 3 is below that of three (5)", "the place has no limits",
		"rules.yaml:1:75: [0].procedure: \"sop\" is no address", "names its procedure twice",
	} {
		if !strings.Contains(text, says) {
			t.Errorf("nothing says %s in\n%s", says, text)
		}
	}
}
