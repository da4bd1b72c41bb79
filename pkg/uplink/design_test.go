package uplink

import (
	"bytes"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestEveryTestNamedInTheDesignExists(t *testing.T) {
	design, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests bytes.Buffer
	root := os.DirFS("..")
	err = fs.WalkDir(root, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := fs.ReadFile(root, path)
		tests.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllSubmatch(design, -1)
	if len(names) < 40 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, n := range names {
		if !bytes.Contains(tests.Bytes(), append(append([]byte("func "), n[1]...), '(')) {
			t.Errorf("there is no %s", n[1])
		}
	}
}
