package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const root = "../.."

func TestSchemasAreCurrent(t *testing.T) {
	for name, schema := range schemas() {
		want, err := encode(schema)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "configs/schema", name+".json"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("configs/schema/%s.json is not current (%v); run make docs", name, err)
		}
	}
}

// editorLine leads an editor to the schema of a file.
var editorLine = regexp.MustCompile(`(?m)^# yaml-language-server: \$schema=(\S+)$`)

func compile(t *testing.T, path string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return s
}

func load(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryShippedFileFitsTheSchemaThatItNames(t *testing.T) {
	compiled := map[string]*jsonschema.Schema{}
	files := 0
	for _, dir := range []string{"configs", "firmware-profiles"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") || skipped(path) {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			m := editorLine.FindSubmatch(data)
			if m == nil {
				t.Errorf("%s names no schema; write # yaml-language-server: $schema=PATH in its first line", path)
				return nil
			}
			schema := filepath.Join(filepath.Dir(path), string(m[1]))
			if compiled[schema] == nil {
				compiled[schema] = compile(t, schema)
			}
			if err := compiled[schema].Validate(load(t, data)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			files++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 50 {
		t.Errorf("%d files only", files)
	}
}

// skipped are the catalogue, whose form has no schema, and files of other programs.
func skipped(path string) bool {
	return strings.HasSuffix(path, "quantities.yaml") || filepath.Base(filepath.Dir(path)) == "monitoring"
}

func TestTheSchemaOfRulesMarksMistakes(t *testing.T) {
	rules := compile(t, filepath.Join(root, "configs/schema/rules.json"))
	for text, fits := range map[string]bool{
		"- {id: a, watch: {quantity: pm2_5, where: {site: [24848, b*]}}, above: {warning: {limit: 5, for: 1m}}}": true,
		"- {id: a, watch: {quantity: state}, state: {critical: {is: [3, open, true]}}}":                          true,
		"- {id: a, watch: {quantity: pm2_5}, abvoe: {warning: {limit: 5}}}":                                      false,
		"- {id: a, watch: {quantity: pm2_5}, above: {warning: {limit: five}}}":                                   false,
		"- {id: a, watch: {quantity: pm2_5, where: {site: {a: b}}}}":                                             false,
		"{id: a}": false,
	} {
		if err := rules.Validate(load(t, []byte(text))); (err == nil) != fits {
			t.Errorf("%q: %v, want it to fit: %v", text, err, fits)
		}
	}
}

func TestSchemasMarkWhatTheProgramRefuses(t *testing.T) {
	edge := compile(t, filepath.Join(root, "configs/schema/edge.json"))
	for text, fits := range map[string]bool{
		"edge: {id: a-01}\nhub: {url: mqtt://h, send_every: 1s}\nbuffer: {max_size: 1GiB, max_age: 30d}": true,
		"edge: {id: a-01}\ndevices:\n  - {id: x, labels: {lane: 2}, with: {n: 5}}":                       true, // a number where text is taken
		"edge: {id: a-01}\nhub: {send_evry: 1s}":                                                         false,
		"edge: {id: a-01}\nhub: {send_every: 5 minutes}":                                                 false,
		"edge: {id: a-01}\nbuffer: {max_size: big}":                                                      false,
		"edge: {id: a-01}\ndevices: {id: x}":                                                             false,
		"edge: {id: a-01}\ndevices: [{id: x, points: [{id: p, holding: four}]}]":                         false,
		"edge: {id: a-01}\nhub:\n":                                                                       true, // an empty section
	} {
		if err := edge.Validate(load(t, []byte(text))); (err == nil) != fits {
			t.Errorf("%q: %v, want it to fit: %v", text, err, fits)
		}
	}
}
