package profile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// The types of a parameter.
const (
	paramString = "string"
	paramInt    = "int"
	paramFloat  = "float"
	paramBool   = "bool"
)

var paramTypes = []string{paramString, paramInt, paramFloat, paramBool}

// Resolve makes the points of one device: those of the revision (the first one
// when it is empty) over those of the profile, with the parameters filled in
// where topics and paths have {places}. with2 holds all parameters, defaults
// included. MQTT settings of the profile are resolved by [Profile.ResolveMQTT].
//
// The error is a FieldErrors whose fields are "revision" and "with.NAME", all
// faults at once. The points are the caller's to change, but for what they
// point to.
func (p *Profile) Resolve(revision string, with map[string]string) (points []Point, revID string, with2 map[string]string, err error) {
	var faults FieldErrors
	rev, fault := p.revision(revision)
	if fault != nil {
		faults = append(faults, *fault)
	}
	with2, more := p.parameters(with)
	if faults = append(faults, more...); len(faults) > 0 {
		return nil, "", nil, faults
	}
	points = p.merged(rev)
	for i := range points {
		points[i].Topic = fill(points[i].Topic, with2, nil)
		points[i].Path = fill(points[i].Path, with2, escapePath)
		points[i].fillRefs(with2)
	}
	if rev != nil {
		revID = rev.ID
	}
	return points, revID, with2, nil
}

// ResolveMQTT returns the profile's MQTT settings with the parameters filled
// in. With is what Resolve returned.
func (p *Profile) ResolveMQTT(with map[string]string) MQTTDefaults {
	m := p.MQTT
	if m.Availability != nil {
		a := *m.Availability
		a.Topic, a.Path = fill(a.Topic, with, nil), fill(a.Path, with, escapePath)
		m.Availability = &a
	}
	if m.Time != nil {
		t := *m.Time
		t.Path = fill(t.Path, with, escapePath)
		m.Time = &t
	}
	return m
}

// ResolveCamera returns where the camera is, with the parameters filled in. With
// is what Resolve returned.
func (p *Profile) ResolveCamera(with map[string]string) CameraDefaults {
	return CameraDefaults{RTSP: fill(p.Camera.RTSP, with, nil), Snapshot: fill(p.Camera.Snapshot, with, nil)}
}

func (p *Profile) revision(id string) (*Revision, *PointError) {
	if len(p.Firmware) == 0 {
		if id != "" {
			return nil, &PointError{"revision", fmt.Sprintf("%s has no revisions", p.ID), "leave it away"}
		}
		return nil, nil
	}
	if id == "" {
		return &p.Firmware[0], nil
	}
	ids := make([]string, len(p.Firmware))
	for i := range p.Firmware {
		if p.Firmware[i].ID == id {
			return &p.Firmware[i], nil
		}
		ids[i] = p.Firmware[i].ID
	}
	return nil, &PointError{"revision", fmt.Sprintf("%s has no revision %q", p.ID, id), strictyaml.Meant(id, ids)}
}

// parameters checks what a device gives and adds the defaults.
func (p *Profile) parameters(with map[string]string) (map[string]string, FieldErrors) {
	var faults FieldErrors
	out := make(map[string]string, len(p.With))
	for _, name := range slices.Sorted(maps.Keys(with)) {
		param, ok := p.With[name]
		if !ok {
			msg, hint := "unknown parameter", strictyaml.Meant(name, slices.Sorted(maps.Keys(p.With)))
			if len(p.With) == 0 {
				msg, hint = p.ID+" has no parameters", "leave it away"
			}
			faults = append(faults, PointError{"with." + name, msg, hint})
			continue
		}
		if msg, hint := param.check(with[name]); msg != "" {
			faults = append(faults, PointError{"with." + name, msg, hint})
			continue
		}
		out[name] = with[name]
	}
	var borrowed []string // defaults that name other parameters, filled last
	for _, name := range slices.Sorted(maps.Keys(p.With)) {
		param := p.With[name]
		if _, given := with[name]; given {
			continue
		}
		switch {
		case param.Default == "":
			hint := ""
			if param.Example != "" {
				hint = fmt.Sprintf("for example with: {%s: %s}", name, param.Example)
			}
			faults = append(faults, PointError{"with." + name, "must be set", hint})
		case len(places(param.Default)) > 0:
			borrowed = append(borrowed, name)
		default:
			out[name] = param.Default
		}
	}
	for _, name := range borrowed {
		out[name] = fill(p.With[name].Default, out, nil)
	}
	return out, faults
}

// check returns what is wrong with a value of the parameter.
func (p Parameter) check(v string) (msg, hint string) {
	var x float64
	switch p.Type {
	case paramInt:
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Sprintf("%q is not a whole number", v), p.exampleHint()
		}
		x = float64(n)
	case paramFloat:
		f, ok := parseNumber(v)
		if !ok || f-f != 0 { // not finite
			return fmt.Sprintf("%q is not a number", v), p.exampleHint()
		}
		x = f
	case paramBool:
		if v != "true" && v != "false" {
			return fmt.Sprintf("%q is neither true nor false", v), ""
		}
		return "", ""
	default:
		switch {
		case v == "":
			return "is empty", p.exampleHint()
		case len(v) > 256:
			return fmt.Sprintf("%d bytes; at most 256", len(v)), ""
		case strings.ContainsAny(v, "+#{}\x00"):
			return fmt.Sprintf("%q holds one of + # { }", v), "these have a meaning in topics"
		}
		return "", ""
	}
	if p.Min != nil && x < *p.Min || p.Max != nil && x > *p.Max {
		return fmt.Sprintf("%s is outside %s", v, p.rangeText()), p.exampleHint()
	}
	return "", ""
}

func (p Parameter) exampleHint() string {
	if p.Example == "" {
		return ""
	}
	return "for example " + p.Example
}

func (p Parameter) rangeText() string {
	low, high := "-", "-"
	if p.Min != nil {
		low = strconv.FormatFloat(*p.Min, 'g', -1, 64)
	}
	if p.Max != nil {
		high = strconv.FormatFloat(*p.Max, 'g', -1, 64)
	}
	return low + " to " + high
}

// places returns the names between braces in a topic, path or default.
func places(s string) (names []string) {
	for {
		open := strings.IndexByte(s, '{')
		if open < 0 {
			return names
		}
		end := strings.IndexByte(s[open:], '}')
		if end < 0 {
			return names
		}
		names = append(names, s[open+1:open+end])
		s = s[open+end+1:]
	}
}

// fill puts values into their places, through escape when it is not nil. A
// place that is no parameter stays as it is.
func fill(s string, with map[string]string, escape func(string) string) string {
	if !strings.Contains(s, "{") {
		return s
	}
	pairs := make([]string, 0, 2*len(with))
	for name, v := range with {
		if escape != nil {
			v = escape(v)
		}
		pairs = append(pairs, "{"+name+"}", v)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}
