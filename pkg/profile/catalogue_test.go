package profile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/profile"
)

const devicesFile = "../../docs/devices.md"

func TestTheTableOfDevicesIsThatOfTheProfiles(t *testing.T) {
	lib := profile.Open(catalogue(t), firmwareprofiles.FS)
	var got bytes.Buffer
	if err := profile.WriteDevices(&got, lib); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(devicesFile, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(filepath.Clean(devicesFile))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("docs/devices.md is not current; go test ./pkg/profile -update\n%s", diff)
	}
}

func TestShippedProfilesSayWhatAPersonNeeds(t *testing.T) {
	lib := profile.Open(catalogue(t), firmwareprofiles.FS)
	ids := lib.IDs()
	if len(ids) < 24 {
		t.Errorf("%d profiles", len(ids))
	}
	categories := map[string]bool{}
	for _, id := range ids {
		p, err := lib.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		categories[p.Category] = true
		if len(p.Caveats) == 0 {
			t.Errorf("%s: every device surprises somebody", id)
		}
		points := p.Points
		for i := range p.Firmware {
			points = append(points[:len(points):len(points)], p.Firmware[i].Points...)
		}
		for i := range points {
			if points[i].Protocol() == profile.ProtocolModbus && points[i].Doc == "" {
				t.Errorf("%s: point %s has no doc: number", id, points[i].ID)
			}
		}
		for _, text := range []string{p.Title.VI, p.Title.EN} {
			if strings.ContainsAny(text, "\n\t|") {
				t.Errorf("%s: title %q", id, text)
			}
		}
	}
	for _, c := range strings.Fields("air weather rain water_level soil slope traffic camera power gateway") {
		if !categories[c] {
			t.Errorf("no profile of category %s", c)
		}
	}
}
