package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/langbiang/langbiang/pkg/tsdb"
)

func TestALookChangesNothingAndSeesAll(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	add(t, s, "a", t0, 600)
	add(t, s, "a", t0-3_600_000, 100) // out of order
	check(t, s.Sync())
	if _, err := OpenLook(dir, t.TempDir()); !errors.Is(err, tsdb.ErrLocked) {
		t.Errorf("a look at a store that is in use: %v", err)
	}
	check(t, s.Close())
	// As a kill leaves it: the last record is torn.
	torn := segmentsOf(t, filepath.Join(dir, wblDir))
	f, err := os.OpenFile(torn[len(torn)-1], os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteString("\x03\x00\x40half a record")
	check(t, err)
	check(t, f.Close())
	before := listing(t, dir)
	temp := t.TempDir()
	l, err := OpenLook(dir, temp)
	check(t, err)
	got, err := tsdb.ReadSamples(context.Background(), l.Queryable(), t0-4_000_000, t0+700_000, tsdb.Match{Name: "point", Value: "a"})
	check(t, err)
	if len(got) != 1 || len(got[0].Samples) != 700 {
		t.Errorf("%d series; want one with 700 samples", len(got))
	}
	if _, err := Open(dir, smallOptions); !errors.Is(err, tsdb.ErrLocked) {
		t.Errorf("a hub could start in the middle of a look: %v", err)
	}
	check(t, l.Close())
	if after := listing(t, dir); before != after {
		t.Errorf("the folder was\n%s\nand is\n%s", before, after)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, err := OpenLook(t.TempDir(), ""); err == nil {
		t.Error("an empty folder was opened")
	}
}

func segmentsOf(t *testing.T, dir string) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "0*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	return paths
}

// listing is names, sizes and times of all files.
func listing(t *testing.T, dir string) (out string) {
	t.Helper()
	check(t, filepath.Walk(dir, func(path string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			out += path + " " + i.ModTime().String() + " " + i.Mode().String() + "\n"
		}
		return err
	}))
	return out
}
