package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestGoalsAreJudgedAndWhatWasNotRunIsLeftOut(t *testing.T) {
	found := results{}
	found.add("wire Decode/1s", "Msamples/s", 42)
	found.add("rules ObserveNormal/series=1000/rules=1", "ns/op", 71)
	var tree map[string]any
	if err := json.Unmarshal([]byte(`{"samples_per_s_safe":2500000,"hub":{"rss_peak_bytes":410000000,"cores":1},"buffer":false}`), &tree); err != nil {
		t.Fatal(err)
	}
	flatten("load flat out", "", tree, found)
	var out bytes.Buffer
	if err := found.print(&out); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(out.String()) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"what measured goal met",
		"decode, one core 42 M samples/s at least 20 yes",
		"a reading against a rule 71 ns below 70 no",
		"hub with the generator beside it: samples safe 2.5 M samples/s at least 2 yes",
		"peak memory of the hub 410 MB below 500 yes",
	}
	if strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", out.String())
	}
}
