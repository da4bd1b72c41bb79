package rules

import "github.com/langbiang/langbiang/pkg/internal/strictyaml"

// Schemas returns the JSON Schemas of this package's files by name, see
// scripts/schemas.
func Schemas() map[string]any {
	return map[string]any{
		"rules":     strictyaml.Schema("rules of a Langbiang hub", []ruleFile{}),
		"tables":    strictyaml.Schema("tables for the rules of a Langbiang hub: ladders, indexes, holidays", tablesFile{}),
		"ruletests": strictyaml.Schema("tests of the rules of a Langbiang hub, NAME.test.yaml", testFile{}),
	}
}

// oneOrSeveral is the schema of what may stand alone or in a list.
func oneOrSeveral(types ...any) map[string]any {
	one := map[string]any{"type": types}
	return map[string]any{"anyOf": []any{one, map[string]any{"type": "array", "items": one}}}
}

// JSONSchema implements strictyaml.Describer.
func (patterns) JSONSchema() map[string]any { return oneOrSeveral("string", "number") }

// JSONSchema implements strictyaml.Describer.
func (states) JSONSchema() map[string]any { return oneOrSeveral("string", "number", "boolean") }
