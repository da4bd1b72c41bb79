// Package strictyaml reads YAML that people write by hand: edge.yaml, hub.yaml,
// profiles, rules. It answers every fault in one run, each with file, line and
// column, with what was expected, what stands there, and the nearest valid name.
//
//	doc, errs := strictyaml.Parse("edge.yaml", data)
//	if len(errs) > 0 {
//		return errs
//	}
//	cfg := DefaultConfig()
//	errs = doc.Decode(&cfg) // keys that are absent leave the default alone
//	if cfg.Edge.ID == "" {
//		errs = append(errs, doc.Fault([]any{"edge", "id"}, "must be set", ""))
//	}
//	return errs.Err()
//
// # What is read
//
// A struct field takes part when it has a yaml tag: `yaml:"name"`,
// `yaml:"name,text"` or, for an embedded struct, `yaml:",inline"`. Fields may be
// structs, pointers (nil when the key is absent), slices, maps with string keys,
// booleans, whole numbers, floats, strings, [time.Duration] (Go's notation plus
// d for 24 hours), [Size], any (as encoding/json would give it) and whatever
// implements [encoding.TextUnmarshaler] or [NodeUnmarshaler]. A slice or map in
// the file replaces the one that stood in the field.
//
// It is strict where YAML is lax, since lax YAML costs technicians hours. Text
// that looks like a number or a truth value must be quoted, so that
// `site: 0248` or `version: 1.10` cannot lose a digit; fields tagged `text` take
// the characters as they stand. Numbers with a leading zero are refused.
// Anchors, aliases, merge keys, tags and further documents are refused: they
// would make one position stand for several values, and they are how small
// files become large ones. A file has at most 1 MiB, its mappings and lists
// stand at most 32 deep.
//
// A [Document] is read-only once parsed and safe for concurrent use.
package strictyaml
