package hub

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

var updateDocs = flag.Bool("update-docs", false, "write the configuration reference anew")

// The part of docs/configuration.md between the markers comes from the types.
func TestConfigurationReferenceIsCurrent(t *testing.T) {
	const path, begin, end = "../../docs/configuration.md", "<!-- begin hub.yaml -->\n", "<!-- end hub.yaml -->\n"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	i, j := strings.Index(page, begin), strings.Index(page, end)
	if i < 0 || j < i {
		t.Fatalf("%s has no markers %q and %q", path, begin, end)
	}
	c := DefaultConfig()
	want := page[:i+len(begin)] + "\n" + strictyaml.Reference(&c) + "\n" + page[j:]
	if want == page {
		return
	}
	if !*updateDocs {
		t.Fatalf("%s is not current; run make docs", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
