package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestConfigurationsTravelWhole(t *testing.T) {
	text := strings.Repeat("  - {id: tank, connection: cabinet, unit: 1}\n", 5000)
	d, err := NewConfigText(7, "lac-duong-01.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := EncodeConfig(&Config{V: Version, Desired: d, Heard: "a", Show: "b"})
	if err != nil || len(p) > 10_000 || !IsConfig(p) {
		t.Fatal(len(p), err)
	}
	var c Config
	if err := DecodeConfig(p, &c); err != nil || c.Desired.Text != text || c.Desired.Version != 7 || c.Desired.Name != "lac-duong-01.yaml" || c.Heard != "a" || c.Show != "b" {
		t.Errorf("%v", err)
	}
	s := ConfigState{V: Version, ID: "1", Owner: OwnerHub, Version: 6, Hash: d.Hash, Newest: 7, Trial: true, Verdict: &ConfigVerdict{Version: 7, Outcome: ConfigRefused, Reason: strings.Repeat("x.yaml:1:1: á\n", 9000)}, Text: d, Shown: "b"}
	p, err = EncodeConfigState(&s)
	if err != nil {
		t.Fatal(err)
	}
	var got ConfigState
	if err := DecodeConfigState(p, &got); err != nil || got.Text.Text != text || len(got.Verdict.Reason) > MaxConfigReason || got.Verdict.Version != 7 || got.Newest != 7 || len(s.Verdict.Reason) < MaxConfigReason {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := NewConfigText(1, "x", strings.Repeat("x", MaxConfigText+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestAConfigurationThatIsABombOrForgedIsCorrupt(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := z.EncodeAll(make([]byte, 300<<20), nil)
	hidden := z.EncodeAll(make([]byte, MaxConfigText+1), nil)
	for name, d := range map[string]*ConfigText{
		"bomb":           {Version: 1, Packed: bomb},
		"a byte more":    {Version: 1, Packed: hidden, Hash: HashConfig(string(make([]byte, MaxConfigText+1)))},
		"other text":     {Version: 1, Packed: z.EncodeAll([]byte("devices: []"), nil), Hash: HashConfig("devices: [a]")},
		"no version":     {Packed: z.EncodeAll([]byte("x"), nil), Hash: HashConfig("x")},
		"long name":      {Version: 1, Name: strings.Repeat("x", 129), Packed: z.EncodeAll([]byte("x"), nil), Hash: HashConfig("x")},
		"no zstd at all": {Version: 1, Packed: []byte("devices"), Hash: HashConfig("devices")},
	} {
		p, err := json.Marshal(&Config{V: Version, Desired: d})
		if err != nil {
			t.Fatal(err)
		}
		var c Config
		if err := DecodeConfig(p, &c); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := DecodeConfig(bytes.Repeat([]byte(" "), MaxConfig+1), &Config{}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if err := DecodeConfig([]byte(`{"v":2}`), &Config{}); !errors.Is(err, ErrVersion) {
		t.Error(err)
	}
}

func FuzzDecodeConfig(f *testing.F) {
	d, err := NewConfigText(7, "a.yaml", "devices: []\n")
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range []any{&Config{V: 1, Desired: d, Heard: "x"}, &ConfigState{V: 1, ID: "1", Owner: OwnerHub, Hash: d.Hash, Text: d, Verdict: &ConfigVerdict{Version: 1, Outcome: ConfigRefused}}} {
		p, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var c Config
		if err := DecodeConfig(p, &c); err == nil && c.Desired != nil && (len(c.Desired.Text) > MaxConfigText || HashConfig(c.Desired.Text) != c.Desired.Hash) {
			t.Error("a configuration beyond its bounds")
		}
		var s ConfigState
		if err := DecodeConfigState(p, &s); err == nil {
			if _, err := EncodeConfigState(&s); err != nil && !errors.Is(err, ErrTooLarge) {
				t.Error(err)
			}
		}
	})
}
