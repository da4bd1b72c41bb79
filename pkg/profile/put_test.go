package profile

import (
	"encoding/json"
	"testing"
)

func TestPutWritesWhereLookupReads(t *testing.T) {
	for _, c := range []struct{ doc, path, want string }{
		{`{"a":{"b":1,"c":2}}`, "a.b", `{"a":{"b":7,"c":2}}`},
		{`{"a":[1,2]}`, "a[-1]", `{"a":[1,7]}`},
		{`{"SHT3X-44":{"T":1},"X":1}`, "SHT3X*.T", `{"SHT3X-44":{"T":7},"X":1}`},
		{`null`, `PMS."PM2.5"[1].x`, `{"PMS":{"PM2.5":[null,{"x":7}]}}`},
		{`null`, "SHT*.T", `{"SHT":{"T":7}}`},
		{`null`, "", `7`},
		{`{"a":3}`, "a.b", ""},
		{`[]`, "[200]", ""},
	} {
		var doc any
		if err := json.Unmarshal([]byte(c.doc), &doc); err != nil {
			t.Fatal(err)
		}
		p, err := ParsePath(c.path)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := p.Put(doc, 7)
		if !ok {
			if c.want != "" {
				t.Errorf("%s in %s: cannot be put", c.path, c.doc)
			}
			continue
		}
		text, err := json.Marshal(got)
		if err != nil || string(text) != c.want {
			t.Errorf("%s in %s: %s, want %s", c.path, c.doc, text, c.want)
		}
		if v, there := p.Lookup(got); !there || v != 7 {
			t.Errorf("%s is not found again in %s", c.path, text)
		}
	}
}
