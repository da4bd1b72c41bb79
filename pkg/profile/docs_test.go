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
	var modbus *profile.Profile // the newest that fixtures can be of
	profiles, fixtures := 0, 0
	for _, block := range strings.Split(string(data), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		says := func(key string) string {
			_, rest, _ := strings.Cut("\n"+block, "\n"+key+": ")
			value, _, _ := strings.Cut(rest, "\n")
			return strings.ToLower(strings.ReplaceAll(value, " ", "-"))
		}
		switch {
		case says("vendor") != "":
			profiles++
			p, err := profile.ParseProfile(says("vendor")+"/"+says("model"), says("model")+".yaml", []byte(block), q)
			if err != nil {
				t.Error(err)
			} else if says("protocol") == "modbus" {
				modbus = p
			}
		case strings.Contains("\n"+block, "\nfixtures:\n") && modbus != nil:
			fixtures++
			if err := profile.CheckFixtures(modbus, modbus.ID+".fixtures.yaml", []byte(block), q); err != nil {
				t.Error(err)
			}
		}
	}
	if profiles < 4 || fixtures < 2 {
		t.Errorf("%d profiles and %d files of fixtures: some examples were not seen", profiles, fixtures)
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
