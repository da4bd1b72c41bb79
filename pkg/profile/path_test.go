package profile_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/profile"
)

const payload = `{
	"temperature": 21.5, "null": null, "": "empty", "a*b": "star",
	"BME280": {"Temperature": 21.7},
	"PMS5003": {"PM2.5": 7, "CF2.5": 8},
	"SHT3X-0x45": {"Humidity": 51}, "SHT3X-0x44": {"Temperature": 20.1},
	"params": {"temperature:0": {"tC": 19.4}},
	"rxInfo": [{"rssi": -36}, {"rssi": -80}],
	"sq[0]": "bracket", "q\"q": "quote", "back\\slash": "b"
}`

func TestPathsFindTheirValue(t *testing.T) {
	var doc any
	if err := json.Unmarshal([]byte(payload), &doc); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"temperature":              21.5,
		"null":                     nil,
		`""`:                       "empty",
		"BME280.Temperature":       21.7,
		`PMS5003."PM2.5"`:          7.0,
		`PMS5003.PM2\.5`:           7.0,
		`"PMS5003"."CF2.5"`:        8.0,
		"PMS5003.PM*":              7.0,
		"params.temperature:0.tC":  19.4,
		`params."temperature:0"`:   map[string]any{"tC": 19.4},
		"rxInfo[0].rssi":           -36.0,
		"rxInfo[-1].rssi":          -80.0,
		"SHT3X*.Temperature":       20.1,
		"SHT3X*.Humidity":          51.0,
		"S*X*45.*":                 51.0,
		"*.*.tC":                   19.4,
		`"a*b"`:                    "star",
		`a\*b`:                     "star",
		`sq\[0\]`:                  "bracket",
		`"q\"q"`:                   "quote",
		`back\\slash`:              "b",
		"SHT3X-0x44*.Temperature*": 20.1,
	} {
		p, err := profile.ParsePath(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		got, ok := p.Lookup(doc)
		gotJSON, _ := json.Marshal(got)
		wantJSON, _ := json.Marshal(want)
		if !ok || string(gotJSON) != string(wantJSON) {
			t.Errorf("%s: %s %v, want %s", path, gotJSON, ok, wantJSON)
		}
	}
	for _, path := range []string{"missing", "temperature.x", "BME280[0]", "rxInfo[2]", "rxInfo[-3]", "rxInfo.rssi", "SHT3X*.Pressure", "*X", "PMS5003.PM2.5", "null.x"} {
		p, err := profile.ParsePath(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got, ok := p.Lookup(doc); ok {
			t.Errorf("%s: found %v", path, got)
		}
	}
	var whole profile.Path
	if got, ok := whole.Lookup(5.0); !ok || got != 5.0 || !whole.IsZero() {
		t.Error("the zero path is the payload itself")
	}
}

func TestBadPathsSayWhere(t *testing.T) {
	for path, want := range map[string]string{
		".a":                      `bad path ".a" at character 1: a path does not begin with a dot`,
		"a.":                      `bad path "a." at character 3: a key is missing; an empty key is ""`,
		"a..b":                    `bad path "a..b" at character 3: a key is missing; an empty key is ""`,
		"é[x]":                    `bad path "é[x]" at character 3: an index is a whole number, [0] or [-1]`,
		"a[1":                     `bad path "a[1" at character 2: a [ without its ]`,
		"a[0]b":                   `bad path "a[0]b" at character 5: a dot is missing`,
		`a."b`:                    `bad path "a.\"b" at character 5: the quote is not closed`,
		`"a"b`:                    `bad path "\"a\"b" at character 4: a dot is missing`,
		`a"b`:                     `bad path "a\"b" at character 2: " needs quotes around the key, or a backslash`,
		`a]`:                      `bad path "a]" at character 2: ] needs quotes around the key, or a backslash`,
		`a\`:                      `bad path "a\\" at character 3: nothing after the backslash`,
		strings.Repeat("a", 600):  "path of 600 bytes; at most 512",
		strings.Repeat("a.", 40):  `bad path "` + strings.Repeat("a.", 40) + `" at character 64: more than 32 steps`,
		"a[+1]":                   `bad path "a[+1]" at character 3: an index is a whole number, [0] or [-1]`,
		"a[99999999999999999999]": `bad path "a[99999999999999999999]" at character 3: an index is a whole number, [0] or [-1]`,
		"[0]x":                    `bad path "[0]x" at character 4: a dot is missing`,
		"rxInfo.[0]":              `bad path "rxInfo.[0]" at character 8: a key is missing; an empty key is ""`,
		`cameras."gate".\`:        `bad path "cameras.\"gate\".\\" at character 17: nothing after the backslash`,
	} {
		if _, err := profile.ParsePath(path); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", path, err, want)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"a.b[0]", `PMS5003."PM2.5"`, "SHT3X*.Temperature", `a\.b`, "[-1]", "**", `"`, "temperature:0.tC"} {
		f.Add(s, payload)
	}
	f.Fuzz(func(t *testing.T, s, text string) {
		p, err := profile.ParsePath(s)
		if err != nil {
			return
		}
		if p.String() != s {
			t.Fatalf("%q became %q", s, p)
		}
		var doc any
		if json.Unmarshal([]byte(text), &doc) == nil {
			_, _ = p.Lookup(doc)
		}
	})
}
