package strictyaml

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference writes the keys of a configuration type as markdown, from the tags
// yaml, doc, default and example of its fields: one table for the keys at the
// top, then one section (###) for each group. Keys of nested structs are
// dotted, entries of a list are written [], names that the user gives NAME.
// v is a value of the type, or a pointer to one.
func Reference(v any) string {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var b strings.Builder
	var top []row
	var sections [][]row
	for _, f := range documented(t) {
		rows := describeField(f, f.name, nil)
		if len(rows) == 1 {
			top = append(top, rows[0])
			continue
		}
		sections = append(sections, rows)
	}
	writeTable(&b, top)
	for _, rows := range sections {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "### %s\n\n%s.\n\n", rows[0].key, sentence(rows[0].doc))
		writeTable(&b, rows[1:])
	}
	return b.String()
}

type row struct{ key, kind, def, doc, example string }

type documentedField struct {
	name string
	reflect.StructField
}

func documented(t reflect.Type) (fs []documentedField) {
	for _, f := range fieldsOf(t) {
		fs = append(fs, documentedField{f.name, t.FieldByIndex(f.index)})
	}
	return fs
}

// describeField returns the row of a field, then those of what is below it.
func describeField(f documentedField, key string, above []reflect.Type) []row {
	rows := []row{{key, "", f.Tag.Get("default"), f.Tag.Get("doc"), f.Tag.Get("example")}}
	t, name := f.Type, ""
	for {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
			continue
		}
		if scalarType(t) || t.Kind() == reflect.Interface {
			break
		}
		if t.Kind() == reflect.Slice {
			key, name, t = key+"[]", name+"list of ", t.Elem()
			continue
		}
		if t.Kind() == reflect.Map {
			key, name, t = key+".NAME", name+"map of ", t.Elem()
			continue
		}
		break
	}
	rows[0].kind = name + kindName(t)
	if t.Kind() != reflect.Struct || scalarType(t) || reflect.PointerTo(t).Implements(typeNode) {
		return rows
	}
	for _, a := range above {
		if a == t {
			return rows
		}
	}
	for _, in := range documented(t) {
		rows = append(rows, describeField(in, key+"."+in.name, append(above, t))...)
	}
	return rows
}

func kindName(t reflect.Type) string {
	switch {
	case t == typeDuration:
		return "duration"
	case t == typeSize:
		return "size"
	case reflect.PointerTo(t).Implements(typeText), t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() == reflect.Struct:
		return "group"
	case t.Kind() == reflect.Interface:
		return "anything"
	}
	return "whole number"
}

func sentence(s string) string {
	if s == "" {
		return "Settings of this group"
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".")
}

func writeTable(b *strings.Builder, rows []row) {
	if len(rows) == 0 {
		return
	}
	b.WriteString("| key | type | default | what it is |\n| --- | --- | --- | --- |\n")
	for _, r := range rows {
		doc := cell(r.doc)
		if r.example != "" {
			if doc != "" {
				doc += ", "
			}
			doc += "for example " + code(r.example)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", code(r.key), r.kind, code(r.def), doc)
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + cell(s) + "`"
}
