package profile_test

import (
	"errors"
	"io/fs"
	"testing"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func catalogue(t testing.TB) telemetry.Quantities {
	t.Helper()
	data, err := firmwareprofiles.FS.ReadFile("quantities.yaml")
	if err != nil {
		t.Fatal(err)
	}
	q, err := profile.ParseQuantities("firmware-profiles/quantities.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestEveryShippedProfilePassesItsFixtures(t *testing.T) {
	q := catalogue(t)
	lib := profile.Open(q, firmwareprofiles.FS)
	ids := lib.IDs()
	if len(ids) < 9 {
		t.Fatalf("only %d profiles: %v", len(ids), ids)
	}
	for _, id := range ids {
		t.Run(id, func(t *testing.T) {
			p, err := lib.Get(id)
			if err != nil {
				t.Fatal(err)
			}
			file, data, err := lib.Fixtures(id)
			if errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%s: a shipped profile must have a fixture", file)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := profile.CheckFixtures(p, file, data, q); err != nil {
				t.Error(err)
			}
		})
	}
}
