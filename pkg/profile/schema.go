package profile

import "github.com/langbiang/langbiang/pkg/internal/strictyaml"

// Schemas returns the JSON Schemas of this package's files by name, see
// scripts/schemas.
func Schemas() map[string]any {
	return map[string]any{
		"profile":  strictyaml.Schema("a Langbiang device profile, VENDOR/MODEL.yaml", Profile{}),
		"fixtures": strictyaml.Schema("fixtures of a Langbiang device profile, VENDOR/MODEL.fixtures.yaml", fixtureFile{}),
	}
}
