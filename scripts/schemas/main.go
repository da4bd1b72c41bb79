// Command schemas writes the JSON Schemas of our YAML files into configs/schema,
// from the same types that read the files: `make docs`. Editors complete keys and
// mark mistakes by them; the comment in the first line of every shipped file leads
// there.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/langbiang/langbiang/pkg/edge"
	"github.com/langbiang/langbiang/pkg/hub"
	"github.com/langbiang/langbiang/pkg/profile"
)

func main() {
	if err := write("configs/schema"); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

// schemas are the files by name, without their ending.
func schemas() map[string]any {
	all := map[string]any{}
	for _, of := range []map[string]any{edge.Schemas(), hub.Schemas(), profile.Schemas()} {
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
