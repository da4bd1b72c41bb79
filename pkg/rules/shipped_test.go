package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// shippedQuantities reads what the rules need of the real catalogue.
func shippedQuantities(t *testing.T) telemetry.Quantities {
	t.Helper()
	data, err := os.ReadFile("../../firmware-profiles/quantities.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, errs := strictyaml.Parse("quantities.yaml", data)
	if err := errs.Err(); err != nil {
		t.Fatal(err)
	}
	out := telemetry.Quantities{}
	for _, id := range doc.Keys("quantities") {
		q := telemetry.Quantity{ID: id}
		if err := doc.DecodeAt([]any{"quantities", id, "label"}, &q.Label).Err(); err != nil {
			t.Fatal(err)
		}
		for _, key := range []struct {
			name string
			to   any
		}{{"unit", &q.Unit}, {"decimals", &q.Decimals}, {"min", &q.Min}, {"max", &q.Max}} {
			if err := doc.DecodeAt([]any{"quantities", id, key.name}, key.to).Err(); err != nil {
				t.Fatal(err)
			}
		}
		out[id] = q
	}
	return out
}

func TestShippedRulesLoadAndSayWhereTheirLimitsComeFrom(t *testing.T) {
	files, err := filepath.Glob("../../configs/rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	var sources []Source
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(f, ".test.yaml") {
			sources = append(sources, Source{f, data})
		}
	}
	quantities := shippedQuantities(t)
	set, err := Load(append(sources, plan.Source()), Env{Quantities: quantities})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range set.Rules() {
		if r.Source == "" || r.Title.VI == "" || r.Title.EN == "" || r.Labels["category"] == "" {
			t.Errorf("%s: rule %s lacks its source, a title or its category", r.Position, r.ID)
		}
		q := quantities[r.Quantity]
		for _, l := range r.Levels {
			if r.Judges != "" || r.Kind == Several || r.Kind == State {
				continue // what it judges has another range
			}
			if q.Min != nil && l.Limit < *q.Min || q.Max != nil && l.Limit > *q.Max {
				t.Errorf("%s: rule %s: limit %v is not plausible for %s", r.Position, r.ID, l.Limit, r.Quantity)
			}
		}
	}
}

func TestShippedRulesPassTheirTests(t *testing.T) {
	env := Env{Quantities: shippedQuantities(t)}
	files, err := filepath.Glob("../../configs/rules/*.test.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names, err := TestedFiles(Source{file, data})
		if err != nil {
			t.Fatal(err)
		}
		var sources []Source
		for _, name := range names {
			rules, err := os.ReadFile(filepath.Join(filepath.Dir(file), name))
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, Source{name, rules})
		}
		set, err := Load(append(sources, plan.Source()), env)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := RunTests(Source{file, data}, set, env); err != nil {
			t.Error(err)
		}
	}
}
