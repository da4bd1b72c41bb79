package edge

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnEnrolmentWritesTheHubPartAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct{ was, is string }{
		"in braces, with comments": {
			"# mine\nedge: {id: x, site: \"1\"}  # who\nhub: {url: mqtt://127.0.0.1:1883, send_every: 1s} # where\ndevices: [] # none\n",
			"# mine\nedge: {id: lac-duong-01, site: \"24848\"}  # who\nhub: {url: mqtts://h:8883, send_every: 1s} # where\ndevices: [] # none\n",
		},
		"in lines": {
			"edge:\n  id: x # old\n  site: '1'\nhub:\n  # paid by volume\n  link: metered\n  url: \"mqtt://h\"\n",
			"edge:\n  id: lac-duong-01 # old\n  site: \"24848\"\nhub:\n  # paid by volume\n  link: metered\n  url: mqtts://h:8883\n",
		},
		"parts that are empty, or not there": {
			"edge: {}\nhub: {}\ndevices: []", "edge: {site: \"24848\", id: lac-duong-01}\nhub: {url: mqtts://h:8883}\ndevices: []",
		},
		"other keys only": {
			"edge: {id: x}\nhub:\n  link: metered\n", "edge: {site: \"24848\", id: lac-duong-01}\nhub:\n  url: mqtts://h:8883\n  link: metered\n",
		},
		"nothing but devices": {
			"devices: []\n", "devices: []\nedge: {site: \"24848\", id: lac-duong-01}\nhub: {url: mqtts://h:8883}\n",
		},
		"an empty value": {
			"edge:\n  id:\n  site:\nhub:\n  url:   # to be said\n", "edge:\n  id: lac-duong-01\n  site: \"24848\"\nhub:\n  url: mqtts://h:8883   # to be said\n",
		},
	} {
		got, err := withHub([]byte(c.was), "edge.yaml", "lac-duong-01", "24848", "mqtts://h:8883")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.is, string(got)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		again, err := withHub(got, "edge.yaml", "lac-duong-01", "24848", "mqtts://h:8883")
		if err != nil || string(again) != string(got) {
			t.Errorf("%s: a second time: %v\n%s", name, err, again)
		}
	}
	if _, err := withHub([]byte("edge: {id: &x a}\nhub: {url: >\n  folded}\n"), "edge.yaml", "a", "", "mqtts://h"); err == nil {
		t.Error("what cannot be changed was changed")
	}
	path := filepath.Join(t.TempDir(), "edge.yaml")
	if err := os.WriteFile(path, firstEnrolled(path, "lac-duong-01", "24848", "mqtts://127.0.0.1:8883"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, nil); err != nil {
		t.Errorf("the first file: %v", err)
	}
}
