package strictyaml

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type level int

func (l *level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "low":
		*l = 1
	case "high":
		*l = 2
	default:
		return fmt.Errorf("unknown level %q", b)
	}
	return nil
}

type shared struct {
	Name string `yaml:"name"`
}

type limits struct {
	Min *float64 `yaml:"min" doc:"lowest"`
	Max *float64 `yaml:"max" doc:"highest"`
}

type device struct {
	shared   `yaml:",inline"`
	ID       string            `yaml:"id" doc:"unique" example:"air-01"`
	Unit     *int              `yaml:"unit"`
	Small    uint8             `yaml:"small"`
	Interval time.Duration     `yaml:"interval" doc:"how often" default:"5s"`
	Labels   map[string]string `yaml:"labels,text"`
	Valid    *limits           `yaml:"valid"`
	Factors  []float64         `yaml:"factors"`
	Level    level             `yaml:"level"`
}

type config struct {
	Edge struct {
		ID   string `yaml:"id"`
		Site string `yaml:"site"`
	} `yaml:"edge" doc:"who it is"`
	Size    Size              `yaml:"max_size" doc:"most disk"`
	On      bool              `yaml:"on"`
	Keep    int               `yaml:"keep"`
	Devices []device          `yaml:"devices" doc:"sensors"`
	Ranges  map[string]limits `yaml:"ranges"`
	Free    any               `yaml:"free"`
	Hidden  string
}

func decode(t *testing.T, text string, out any) Errors {
	t.Helper()
	d, errs := Parse("edge.yaml", []byte(text))
	if len(errs) > 0 {
		return errs
	}
	return d.Decode(out)
}

func TestAGoodFileIsReadWhole(t *testing.T) {
	c := config{Keep: 7}
	errs := decode(t, `
# a comment
edge: {id: "lac-duong-01", site: "24848"}
max_size: 1GiB
on: true
keep:
devices:
  - name: Chợ
    id: 'air-01'
    unit: 0x1F
    small: 255
    interval: 1d12h
    labels: {floor: 03, spot: true, empty: ""}
    valid: {min: -40, max: 6.5e1}
    factors: [1, -.5, 2.]
    level: high
  - id: |
      two
      lines
ranges:
  a: {min: 1}
free: {x: [1, two, true, ~]}
`, &c)
	// An empty value for a number is a fault: the technician forgot it.
	want := `edge.yaml:6:6: keep: expected a whole number, here stands nothing`
	if got := errs.Error(); got != want {
		t.Fatalf("got %s\nwant %s", got, want)
	}
	if c.Keep != 7 || c.Edge.Site != "24848" || c.Size != 1<<30 || !c.On || len(c.Devices) != 2 {
		t.Fatalf("%+v", c)
	}
	d := c.Devices[0]
	if d.Name != "Chợ" || *d.Unit != 31 || d.Small != 255 || d.Interval != 36*time.Hour || *d.Valid.Max != 65 || d.Level != 2 {
		t.Fatalf("%+v", d)
	}
	if diff := cmp.Diff(map[string]string{"floor": "03", "spot": "true", "empty": ""}, d.Labels); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]float64{1, -.5, 2}, d.Factors); diff != "" {
		t.Error(diff)
	}
	if c.Devices[1].ID != "two\nlines\n" || *c.Ranges["a"].Min != 1 {
		t.Errorf("%q %v", c.Devices[1].ID, c.Ranges)
	}
	if diff := cmp.Diff(any(map[string]any{"x": []any{1.0, "two", true, nil}}), c.Free); diff != "" {
		t.Error(diff)
	}
}

func TestAllFaultsComeInOneRunWithTheirPlaces(t *testing.T) {
	var c config
	errs := decode(t, `edge: {id: 5, site: 24848, sitee: x}
max_size: 64
on: yes
keep: 1.5
keep: 2
hidden: x
devices:
  - id: a
    intervall: 5s
    interval: 5x
    unit: "3"
    small: 256
    labels: [a]
    valid: {min: 1,5, max: x}
    factors: 1
    level: middle
  - id: b
    unit: 012
    small: -1
    factors: [a, 1]
    name:
ranges: {a: [1], b: {max: .nan}}
`, &c)
	want := `edge.yaml:1:12: edge.id: expected text, here stands the number 5; quote it: "5"
edge.yaml:1:21: edge.site: expected text, here stands the number 24848; quote it: "24848"
edge.yaml:1:28: edge.sitee: unknown key; did you mean "site"?
edge.yaml:2:11: max_size: bad size "64"; write 64MiB, 1GiB or 1GB
edge.yaml:3:5: on: expected true or false, here stands the text "yes"; write true or false
edge.yaml:4:7: keep: expected a whole number, here stands the number 1.5
edge.yaml:5:1: duplicate key "keep"; it stands in line 4 already
edge.yaml:6:1: hidden: unknown key; known here: devices, edge, free, keep, max_size, on, ranges
edge.yaml:9:5: devices[0].intervall: unknown key; did you mean "interval"?
edge.yaml:10:15: devices[0].interval: bad duration "5x"; write 5s, 1m or 1h30m
edge.yaml:11:11: devices[0].unit: expected a whole number, here stands the text "3"; take the quotes away
edge.yaml:12:12: devices[0].small: 256 is outside 0 to 255
edge.yaml:13:13: devices[0].labels: expected keys and values, here stands a list
edge.yaml:14:20: devices[0].valid.5: unknown key; the decimal sign is a point: 1.5
edge.yaml:14:28: devices[0].valid.max: expected a number, here stands the text "x"
edge.yaml:15:14: devices[0].factors: expected a list, here stands the number 1; write "- " before each entry, or [a, b]
edge.yaml:16:12: devices[0].level: unknown level "middle"
edge.yaml:18:11: devices[1].unit: a number with a leading zero; write 12
edge.yaml:19:12: devices[1].small: -1 is outside 0 to 255
edge.yaml:20:15: devices[1].factors[0]: expected a number, here stands the text "a"
edge.yaml:21:10: devices[1].name: expected text, here stands nothing
edge.yaml:22:13: ranges.a: expected keys and values, here stands a list
edge.yaml:22:27: ranges.b.max: expected a finite number, here stands .nan`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(errs.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
	if len(c.Devices) != 2 || c.Devices[0].ID != "a" || *c.Devices[0].Valid.Min != 1 || c.Devices[1].Factors[1] != 1 {
		t.Errorf("what is good must be kept: %+v", c.Devices)
	}
	var one Error
	if !errors.As(errs.Err(), &one) || one.Line != 1 {
		t.Errorf("a single fault can be taken out: %+v", one)
	}
}

func TestWhatCannotBeParsedSaysWhereAndWhy(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"tab":           {"a:\n\t- b", "f:2:1: a tab where YAML wants spaces; indent with spaces"},
		"colon in text": {"a: b: c", `f:1:4: mapping value is not allowed in this context; quote a text that holds ": ", or check the indentation`},
		"open quote":    {"a: \"x\n", "f:1:4: could not find end character of double-quoted text; close the quote"},
		"open list":     {"a: [1,2\nb: 3", "f:2:1: ',' or ']' must be specified"},
		"reserved":      {"x: @a", "f:1:4: '@' is a reserved character; quote the text"},
		"anchor, alias": {"a: &x 1\nb: *x\n", "f:1:4: anchors (&) are not supported; write the value out, or quote the text\nf:2:4: aliases (*) are not supported; write the value out, or quote the text"},
		"merge":         {"a:\n  <<: b\n", "f:2:3: merge keys (<<) are not supported; write the keys out"},
		"tag":           {"a: !!str 5\n", "f:1:4: tags (!) are not supported; leave it away, or quote the text"},
		"complex key":   {"? a\n: b\n", "f:1:1: complex keys (?) are not supported; write key: value"},
		"second doc":    {"a: 1\n---\nb: 1\n", "f:3:1: a second document begins here; a file holds one"},
		"latin-1":       {"a: x\nb: \xe9\n", "f:2:4: not UTF-8 text; save the file as UTF-8"},
		"nul":           {"a: \x00", "f:1:4: control character U+0000"},
		"deep flow":     {"a: " + strings.Repeat("[", 100_000), "f:1:36: nested more than 32 deep"},
		"deep entries":  {strings.Repeat("- ", 100_000) + "a", "f:1:65: nested more than 32 deep"},
		"deep block":    {deepBlock(40), "f:34:34: nested more than 32 deep"},
		"too large":     {"a: " + strings.Repeat("x", 1<<20), "f: has 1048579 bytes; at most 1048576 are read"},
		"long key":      {strings.Repeat("k", 500) + ": 1", "f:1:1: a key of 500 bytes; at most 128"},
		"a mere word":   {"hello", `f:1:1: expected keys and values, here stands the text "hello"`},
	} {
		t.Run(name, func(t *testing.T) {
			d, errs := Parse("f", []byte(c.text))
			if len(errs) == 0 {
				var out map[string]any
				errs = d.Decode(&out)
			}
			if got := errs.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func deepBlock(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestAnEmptyFileLeavesTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "edge:\ndevices:\n"} {
		c := config{Keep: 3}
		if errs := decode(t, text, &c); errs.Err() != nil || c.Keep != 3 {
			t.Errorf("%q: %v %+v", text, errs, c)
		}
	}
}

func TestPositionsOfPathsFallBackToTheNearestAncestor(t *testing.T) {
	d, errs := Parse("f", []byte("\ufeffa: 1\r\nlist:\r\n  - {x: é, y: [1, 2]}\r\n  - z\r\n"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, c := range []struct {
		path      []any
		line, col int
		kline     int
		kcol      int
	}{
		{nil, 1, 1, 1, 1},
		{[]any{"a"}, 1, 4, 1, 1},
		{[]any{"list"}, 3, 3, 2, 1},
		{[]any{"list", 0, "y"}, 3, 15, 3, 12},
		{[]any{"list", 0, "y", 1}, 3, 19, 3, 19},
		{[]any{"list", 0, "missing"}, 3, 5, 3, 5},
		{[]any{"list", 7}, 3, 3, 2, 1},
		{[]any{"gone", 1}, 1, 1, 1, 1},
	} {
		if got := d.At(c.path...); got != (Pos{"f", c.line, c.col}) {
			t.Errorf("At(%v) = %v, want %d:%d", c.path, got, c.line, c.col)
		}
		if got := d.KeyAt(c.path...); got != (Pos{"f", c.kline, c.kcol}) {
			t.Errorf("KeyAt(%v) = %v, want %d:%d", c.path, got, c.kline, c.kcol)
		}
	}
	if diff := cmp.Diff([]string{"x", "y"}, d.Keys("list", 0)); diff != "" {
		t.Error(diff)
	}
	var y []int
	if errs := d.DecodeAt([]any{"list", 0, "y"}, &y); len(errs) > 0 || len(y) != 2 {
		t.Error(errs, y)
	}
	if d.Has("list", 0, "q") || !d.Has("list", 1) {
		t.Error("Has")
	}
}

type strange struct{ at Pos }

func (s *strange) UnmarshalYAMLNode(d *Document, path []any) Errors {
	s.at = d.At(path...)
	return Errors{d.Fault(path, "strange", "")}
}

func TestATypeMayReadItsOwnPart(t *testing.T) {
	var c struct {
		A []strange `yaml:"a"`
	}
	errs := decode(t, "a:\n  - q\n", &c)
	if got := errs.Error(); got != "edge.yaml:2:5: a[0]: strange" || c.A[0].at.Line != 2 {
		t.Error(got, c)
	}
}

func TestDurationsAndSizes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5s": 5e9, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "-1d1h": -25 * time.Hour, "0": 0,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "5 s", "d", "1d-1h", "1w", "1e9d", "nand", "0x1d", "1d1d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
	for text, want := range map[string]Size{"64MiB": 64 << 20, "1GB": 1e9, "1.5 KiB": 1536, "0": 0, "7B": 7} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "64", "-1B", "1 Gi", "1e30TB", "B", "NaNB", "InfB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
	if s := Size(64<<20).String() + " " + Size(1e9).String() + " " + Size(0).String(); s != "64MiB 1GB 0B" {
		t.Error(s)
	}
}

func TestNearestNames(t *testing.T) {
	known := []string{"interval", "air_temperature", "relative_humidity", "pm2_5", "pm10", "wind_speed", "unit", "id"}
	for word, want := range map[string]string{
		"intervall": "interval", "Interval": "interval", "wind-speed": "wind_speed", "humidity": "relative_humidity",
		"pm25": "pm2_5", "uint": "unit", "temperature": "air_temperature", "zzz": "", "": "", "xy": "", strings.Repeat("a", 1000): "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestReferenceIsWrittenFromTheTags(t *testing.T) {
	got := Reference(config{})
	want := "| key | type | default | what it is |\n| --- | --- | --- | --- |\n" +
		"| `max_size` | size |  | most disk |\n| `on` | true or false |  |  |\n| `keep` | whole number |  |  |\n| `free` | anything |  |  |\n" +
		"\n### edge\n\nWho it is.\n\n| key | type | default | what it is |\n| --- | --- | --- | --- |\n| `edge.id` | text |  |  |\n| `edge.site` | text |  |  |\n" +
		"\n### devices\n\nSensors.\n\n| key | type | default | what it is |\n| --- | --- | --- | --- |\n" +
		"| `devices[].name` | text |  |  |\n| `devices[].id` | text |  | unique, for example `air-01` |\n| `devices[].unit` | whole number |  |  |\n| `devices[].small` | whole number |  |  |\n" +
		"| `devices[].interval` | duration | `5s` | how often |\n| `devices[].labels` | map of text |  |  |\n| `devices[].valid` | group |  |  |\n| `devices[].valid.min` | number |  | lowest |\n" +
		"| `devices[].valid.max` | number |  | highest |\n| `devices[].factors` | list of number |  |  |\n| `devices[].level` | text |  |  |\n" +
		"\n### ranges\n\nSettings of this group.\n\n| key | type | default | what it is |\n| --- | --- | --- | --- |\n| `ranges.NAME.min` | number |  | lowest |\n| `ranges.NAME.max` | number |  | highest |\n"
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Error(diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"edge: {id: a}\ndevices:\n  - id: x\n    unit: 0x1\n", "a: &x [*x]\n", "- - - a\n- b", "a: |\n  x\n y", "a: \"\\u00e9\\x\"", "? a\n: b",
		"{a: [b, {c: d}], e", "---\na\n...\n---\nb", "a: >-\n\n  b\n\n\n c", "'a': 'b''c'\n\"d\": e", "a:\r\n- b\r\n", "!t &a *b <<: c", "%YAML 1.2\n---\n", "~: ~\n1: 2\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, errs := Parse("f", data)
		if (d == nil) != (len(errs) > 0) {
			t.Fatalf("document %v with %v", d, errs)
		}
		if d == nil {
			_ = errs.Error()
			return
		}
		var c config
		_ = d.Decode(&c).Error()
		var free any
		_ = d.Decode(&free).Error()
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + 1
		for _, k := range d.Keys() {
			if p := d.KeyAt(k); p.Line > lines || p.Line < 0 {
				t.Fatalf("%q at %v of %d lines", k, p, lines)
			}
		}
	})
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"1d12h", "5s", "-3d", "1GiB"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		_, _ = ParseDuration(s)
		_, _ = ParseSize(s)
		_ = Nearest(s, []string{"interval", "pm2_5"})
	})
}
