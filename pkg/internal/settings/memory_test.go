package settings

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestTheSmallestLimitOnTheWayToTheTopHolds(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("self", "0::/system.slice/langbiang-edge.service\n")
	self, root := filepath.Join(dir, "self"), filepath.Join(dir, "fs")
	for _, c := range []struct {
		path, text string
		want       int64
	}{
		{"fs/nothing", "", math.MaxInt64},
		{"fs/system.slice/langbiang-edge.service/memory.max", "max\n", math.MaxInt64},
		{"fs/system.slice/memory.max", "201326592\n", 201326592},
		{"fs/system.slice/langbiang-edge.service/memory.max", "67108864\n", 67108864},
		{"fs/memory.max", "no number", 67108864},
		{"self", "12:cpu:/x\n", math.MaxInt64},
		{"self", "4:cpu,memory:/x/y\n0::/\n", math.MaxInt64},                            // version 1
		{"fs/memory/x/y/memory.limit_in_bytes", "9223372036854771712\n", math.MaxInt64}, // none, in its words,
		{"fs/memory/x/memory.limit_in_bytes", "33554432\n", 33554432},
		{"self", "0::/../../etc\n", math.MaxInt64},
	} {
		write(c.path, c.text)
		if got := cgroupLimit(self, root); got != c.want {
			t.Errorf("after %s = %q: %d, want %d", c.path, c.text, got, c.want)
		}
	}
	if got := cgroupLimit(filepath.Join(dir, "none"), root); got != math.MaxInt64 {
		t.Error(got)
	}
}
