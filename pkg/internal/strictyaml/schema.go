package strictyaml

import (
	"reflect"
)

// Schema returns the JSON Schema (draft 2020-12) of a configuration type, for
// editors: names and kinds of keys with their doc tags, so that a key that does
// not exist is marked while it is typed. What only the program can know (whether
// a profile exists, whether limits fit) it leaves to the program. title says what
// the file is. v is a value of the type, or a pointer to one.
func Schema(title string, v any) map[string]any {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := schemaBuilder{defs: map[string]any{}}
	root := s.of(t)
	if len(s.defs) > 0 {
		root["$defs"] = s.defs
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = title
	return root
}

// Describer is a type that reads its own part of a file and can say what it takes. Its
// method is called on the zero value.
type Describer interface{ JSONSchema() map[string]any }

var typeDescriber = reflect.TypeFor[Describer]()

// schemaBuilder follows types. A type that contains itself becomes a definition.
type schemaBuilder struct {
	defs  map[string]any
	above []reflect.Type
}

// The patterns of text with a form of its own, as the parsers have it.
const (
	patternDuration = `^[-+]?([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h|d))+$`
	patternSize     = `^[0-9]+(\.[0-9]+)? ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$`
)

func (s *schemaBuilder) of(t reflect.Type) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Implements(typeDescriber):
		if d, ok := reflect.Zero(t).Interface().(Describer); ok {
			return d.JSONSchema()
		}
		return map[string]any{}
	case reflect.PointerTo(t).Implements(typeNode), t.Kind() == reflect.Interface:
		return map[string]any{} // it reads its own part
	case t == typeDuration:
		// 0 needs no unit.
		return map[string]any{"anyOf": []any{map[string]any{"type": "string", "pattern": patternDuration}, map[string]any{"const": 0}}}
	case t == typeSize:
		return map[string]any{"type": "string", "pattern": patternSize}
	case scalarType(t):
		return map[string]any{"type": scalarSchema(t)}
	}
	switch t.Kind() {
	case reflect.Slice:
		return map[string]any{"type": []any{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": []any{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	}
	for _, a := range s.above {
		if a == t {
			s.defs[t.Name()] = true // filled in where it began
			return map[string]any{"$ref": "#/$defs/" + t.Name()}
		}
	}
	s.above = append(s.above, t)
	object := s.object(t)
	s.above = s.above[:len(s.above)-1]
	if s.defs[t.Name()] == true {
		s.defs[t.Name()] = object
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	}
	return object
}

// object describes a struct. An empty group may stand for nothing: null.
func (s *schemaBuilder) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	for _, f := range fieldsOf(t) {
		sf := t.FieldByIndex(f.index)
		p := s.of(sf.Type)
		if f.text {
			p = asText(p)
		}
		if doc := sf.Tag.Get("doc"); doc != "" {
			p["description"] = doc
		}
		if def := sf.Tag.Get("default"); def != "" {
			p["description"] = sentence(sf.Tag.Get("doc")) + ". Default: " + def
		}
		properties[f.name] = p
	}
	return map[string]any{"type": []any{"object", "null"}, "properties": properties, "additionalProperties": false}
}

// asText allows numbers and truth values where the program takes them as text.
func asText(p map[string]any) map[string]any {
	if p["type"] == "string" {
		p["type"] = []any{"string", "number", "boolean"}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if in, ok := p[key].(map[string]any); ok {
			asText(in)
		}
	}
	return p
}

func scalarSchema(t reflect.Type) string {
	switch {
	case reflect.PointerTo(t).Implements(typeText), t.Kind() == reflect.String:
		return "string"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "number"
	}
	return "integer"
}
