// Command schemas writes the JSON Schemas of our YAML files into configs/schema,
// from the same types that read the files: `make docs`. Editors complete keys and
// mark mistakes by them; the comment in the first line of every shipped file leads
// there.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/langbiang/langbiang/pkg/edge"
	"github.com/langbiang/langbiang/pkg/hub"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/rules"
)

func main() {
	err := write("configs/schema")
	for _, dir := range []string{"firmware-profiles", "configs/rules", "configs/demo/rules"} {
		if err == nil {
			err = address(dir)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

// schemas are the files by name, without their ending.
func schemas() map[string]any {
	all := map[string]any{}
	for _, of := range []map[string]any{edge.Schemas(), hub.Schemas(), profile.Schemas(), rules.Schemas()} {
		maps.Copy(all, of)
	}
	return all
}

func encode(schema any) ([]byte, error) {
	b, err := json.MarshalIndent(schema, "", "  ")
	return append(b, '\n'), err
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, schema := range schemas() {
		b, err := encode(schema)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// address leads editors from every profile, fixture and rule file below dir to its
// schema.
func address(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") || d.Name() == "quantities.yaml" {
			return err
		}
		name := "profile"
		switch {
		case strings.HasSuffix(path, ".fixtures.yaml"):
			name = "fixtures"
		case strings.HasSuffix(path, ".test.yaml"):
			name = "ruletests"
		case d.Name() == "tables.yaml":
			name = "tables"
		case filepath.Base(filepath.Dir(path)) == "rules":
			name = "rules"
		}
		data, err := os.ReadFile(path)
		if err != nil || bytes.HasPrefix(data, []byte("# yaml-language-server:")) {
			return err
		}
		schema, err := filepath.Rel(filepath.Dir(path), filepath.Join("configs/schema", name+".json"))
		if err != nil {
			return err
		}
		return os.WriteFile(path, append([]byte("# yaml-language-server: $schema="+filepath.ToSlash(schema)+"\n"), data...), 0o644)
	})
}
