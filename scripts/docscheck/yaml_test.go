package docscheck

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/edge"
	"github.com/langbiang/langbiang/pkg/hub"
)

// keys are the first words of what may stand in a file, from its schema.
func keys(schema any) map[string]bool {
	data, err := yaml.Marshal(schema)
	if err != nil {
		panic(err)
	}
	var s struct {
		Properties map[string]any `yaml:"properties"`
	}
	if err := yaml.Unmarshal(data, &s); err != nil {
		panic(err)
	}
	out := map[string]bool{}
	for k := range s.Properties {
		out[k] = true
	}
	return out
}

var (
	edgeKeys = keys(edge.Schemas()["edge"])
	hubKeys  = keys(hub.Schemas()["hub"])
	fileName = regexp.MustCompile(`^# (\S+\.ya?ml)\b`)
)

// kind tells which of our files an example is, or part of; "" when it is none.
func kind(b block) (string, any) {
	if b.info != "" && b.info != "yaml" {
		return "", nil
	}
	var v any
	if err := yaml.Unmarshal([]byte(b.text), &v); err != nil {
		if b.info == "yaml" {
			return "torn: " + err.Error(), nil
		}
		return "", nil
	}
	within := func(m map[string]any, all map[string]bool) bool {
		for k := range m {
			if !all[k] {
				return false
			}
		}
		return len(m) > 0
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			m, ok := e.(map[string]any)
			if !ok || m["id"] == nil || m["watch"] == nil && m["several"] == nil && m["expression"] == nil && m["edge_offline"] == nil {
				return "", nil
			}
		}
		return "rules", v
	case map[string]any:
		switch {
		case v["vendor"] != nil:
			return "profile", v
		case v["fixtures"] != nil:
			return "fixtures", v
		case v["ladders"] != nil || v["indexes"] != nil || v["holidays"] != nil:
			return "rules", v
		case v["tests"] != nil && v["rules"] != nil:
			return "ruletests", v
		case within(v, edgeKeys):
			return "edge", v
		case within(v, hubKeys):
			if _, list := v["sites"].([]any); list {
				return "sites", v
			}
			return "hub", v
		}
	}
	return "", nil
}

// ask runs a command and returns what it complains of.
func ask(program string, args ...string) string {
	var out, errs bytes.Buffer
	if programs[program](context.Background(), "", args, &out, &errs) == 0 {
		return ""
	}
	return strings.TrimSpace(out.String() + errs.String())
}

// bench is the folder in which the examples of one page are tried.
type bench struct {
	t   *testing.T
	dir string
}

func (b *bench) write(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

var slug = regexp.MustCompile(`[^a-z0-9]+`)

// name is where an example stands: its first line says so, or its kind.
func name(kind string, b block, v any) string {
	if m := fileName.FindStringSubmatch(b.text); m != nil {
		return m[1]
	}
	if m, ok := v.(map[string]any); ok && kind == "profile" {
		part := func(k string) string {
			return strings.Trim(slug.ReplaceAllString(strings.ToLower(fmt.Sprint(m[k])), "-"), "-")
		}
		return "profiles/" + part("vendor") + "/" + part("model") + ".yaml"
	}
	return fmt.Sprintf("%s-%d.yaml", kind, b.line)
}

func TestExamplesPassThePrograms(t *testing.T) {
	count := map[string]int{}
	for _, p := range pages(t) {
		b := &bench{t: t, dir: t.TempDir()}
		if err := os.CopyFS(filepath.Join(b.dir, "shipped"), os.DirFS(filepath.Join(root, "configs/rules"))); err != nil {
			t.Fatal(err)
		}
		sites, err := os.ReadFile(filepath.Join(root, "configs/demo/sites.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		b.write("demo-sites.yaml", strings.Replace(string(sites), "edges:", "groups: [highlands, da-nhim, da-nhim-basin]\n    edges:", 1))
		b.write("profiles/readme", "profiles of one's own")
		var profiles []string
		for _, e := range p.blocks {
			kind, v := kind(e)
			wrong := ""
			switch kind {
			case "":
				continue
			case "profile":
				path := b.write(name(kind, e, v), e.text)
				profiles = append(profiles, path)
				wrong = ask("langbiang-edge", "profiles", "test", path)
			case "fixtures": // of one of the profiles before it
				wrong = "there is no profile before it"
				for _, of := range profiles {
					path := strings.TrimSuffix(of, ".yaml") + ".fixtures.yaml"
					if err := os.WriteFile(path, []byte(e.text), 0o600); err != nil {
						t.Fatal(err)
					}
					if wrong = ask("langbiang-edge", "profiles", "test", path); wrong == "" {
						break
					}
					_ = os.Remove(path) // it is of another
				}
			case "edge":
				wrong = ask("langbiang-edge", "check", "--config", b.write(name(kind, e, v), edgeFile(e, v.(map[string]any))))
			case "hub":
				wrong = ask("langbiang-hub", "check", "--config", b.write(name(kind, e, v), hubFile(b, e, v.(map[string]any))))
			case "sites":
				b.write(name(kind, e, v), e.text)
				wrong = ask("langbiang-hub", "check", "--config", b.write("hub.yaml", "sites: ./"+name(kind, e, v)+"\n"))
			case "rules":
				wrong = rules(b, b.write(name(kind, e, v), e.text), e.text)
			case "ruletests":
				if m := fileName.FindStringSubmatch(e.text); m == nil { // of the shipped rules
					wrong = ask("langbiang-hub", "rules", "test", b.write("shipped/"+name(kind, e, v), e.text))
				} else {
					wrong = ask("langbiang-hub", "rules", "test", b.write(m[1], e.text))
				}
			default:
				wrong = kind
			}
			count[kind]++
			if wrong != "" {
				t.Errorf("%s:%d: %s", p.path, e.line, strings.ReplaceAll(wrong, b.dir+string(filepath.Separator), ""))
			}
		}
	}
	t.Log(count)
	for _, k := range []string{"edge", "hub", "rules", "profile", "fixtures", "ruletests"} {
		if count[k] == 0 {
			t.Errorf("no page has an example of kind %s any more", k)
		}
	}
}

// rules are checked beside the shipped tables and the rules that they speak of.
func rules(b *bench, path, text string) string {
	args := []string{"rules", "check", path, "--sites", filepath.Join(b.dir, "demo-sites.yaml")}
	if !strings.Contains(text, "ladders:") {
		args = append(args, filepath.Join(b.dir, "shipped/tables.yaml"))
	}
	if m := regexp.MustCompile(`of: ([a-z0-9-]+)`).FindStringSubmatch(text); m != nil && !strings.Contains(text, "id: "+m[1]) {
		args = append(args, b.write("other.yaml", "- {id: "+m[1]+", watch: {quantity: rain_amount}, above: {critical: {limit: 1}}}\n"))
	}
	return ask("langbiang-hub", args...)
}

// edgeFile is an example of edge.yaml with what it leaves out.
func edgeFile(e block, v map[string]any) string {
	text := e.text
	if v["edge"] == nil {
		text += "edge: {id: doc-01}\n"
	}
	if v["hub"] == nil {
		text += "hub: {url: \"mqtts://hub.example:8883\"}\n"
	}
	if v["profiles"] == nil {
		text += "profiles: [./profiles]\n"
	}
	devices, _ := v["devices"].([]any)
	if v["connections"] == nil && len(devices) > 0 {
		lines := map[string]string{}
		for _, d := range devices {
			if m, ok := d.(map[string]any); ok {
				id := fmt.Sprint(m["connection"])
				lines[id] = "  - {id: " + id + ", " + connection(m) + "}\n"
			}
		}
		text += "connections:\n" + strings.Join(slices.Sorted(maps.Values(lines)), "")
	}
	return text
}

// connection is a way by which a device can be reached.
func connection(device map[string]any) string {
	text := fmt.Sprint(device)
	if p, ok := device["profile"].(string); ok {
		if data, err := firmwareprofiles.FS.ReadFile(p + ".yaml"); err == nil {
			text = string(data)
		}
	}
	switch {
	case strings.Contains(text, "protocol: camera"):
		return "camera: {}"
	case strings.Contains(text, "protocol: mqtt"), strings.Contains(text, "topic:"):
		return `mqtt: {url: "tcp://127.0.0.1:1883"}`
	}
	return "modbus: {transport: rtu, port: /dev/ttyUSB0}"
}

var secret = regexp.MustCompile(`(?:file|token_file|outlines|refresh): *"?(\./[^\s,}"]+)`)

var variable = regexp.MustCompile(`\{env: ([A-Z_]+)\}`)

// hubFile is an example of hub.yaml with the files that it names.
func hubFile(b *bench, e block, v map[string]any) string {
	text := e.text
	for _, m := range secret.FindAllStringSubmatch(text, -1) {
		b.write(m[1], "0123456789abcdef0123456789abcdef\n")
	}
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		b.t.Setenv(m[1], "0123456789abcdef0123456789abcdef")
	}
	if v["sites"] == nil {
		text += "sites: ./demo-sites.yaml\n"
	}
	return text
}
