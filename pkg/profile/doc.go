// Package profile knows devices: what a model measures, in which registers or
// under which topics, and how its raw values become readings. A profile is a
// YAML file, VENDOR/MODEL.yaml, without any code; docs/profiles.md has the format
// and one to copy.
//
//	q, err := profile.ParseQuantities("quantities.yaml", data)
//	lib := profile.Open(q, firmwareprofiles.FS, profile.Dir("/etc/langbiang/profiles"))
//	p, err := lib.Get("renke/cwt-uwd")
//	points, revision, with, err := p.Resolve("", map[string]string{})
//
// The way of a value, the same for every driver: [Decode] makes a raw number of
// registers, [Path.Lookup] finds one in a payload; [Number] and [Value] take it
// through sentinels, scale and valid range into the canonical unit of its
// quantity, with the quality that it deserves.
//
// Profiles are outside input. Parsing is strict, bounded, and answers all faults
// at once with file, line and column; a broken profile costs only the devices
// that name it. Everything here is pure but [Library], which reads its files; a
// Library, and all values once made, are safe for concurrent use.
package profile
