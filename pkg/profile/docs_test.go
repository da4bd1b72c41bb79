package profile_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
)

const docFile = "../../docs/profiles.md"

func TestTheExamplesInTheDocumentationAreProfiles(t *testing.T) {
	q := catalogue(t)
	data, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```yaml\n")[1:]
	if len(blocks) != 3 {
		t.Fatalf("%d examples, want two profiles and their fixtures", len(blocks))
	}
	for i := range blocks {
		blocks[i], _, _ = strings.Cut(blocks[i], "```")
	}
	modbus, err := profile.ParseProfile("acme/wx-1", "wx-1.yaml", []byte(blocks[0]), q)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := profile.ParseProfile("acme/box", "box.yaml", []byte(blocks[1]), q); err != nil {
		t.Error(err)
	}
	if err := profile.CheckFixtures(modbus, "wx-1.fixtures.yaml", []byte(blocks[2]), q); err != nil {
		t.Error(err)
	}
}

func TestTheKeysOfAPointAreDocumentedAsTheyAre(t *testing.T) {
	data, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "-update -->\n", "<!-- end -->"
	head, rest, ok := strings.Cut(string(data), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the place for the generated table is missing")
	}
	table := "\n" + strictyaml.Reference(profile.Point{}) + "\n"
	if *update {
		if err := os.WriteFile(docFile, []byte(head+begin+table+end+tail), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(table, "\n"), strings.Split(old, "\n")); diff != "" {
		t.Error(diff)
	}
}
