package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// patterns is one name or a list of them, with * and ?. None matches anything.
type patterns []string

// UnmarshalYAMLNode implements [strictyaml.NodeUnmarshaler].
func (p *patterns) UnmarshalYAMLNode(d *strictyaml.Document, path []any) (errs strictyaml.Errors) {
	if d.Has(append(path, 0)...) {
		var list []string
		errs = d.DecodeAt(path, &list)
		*p = list
	} else {
		var one string
		if errs = d.DecodeAt(path, &one); len(errs) > 0 {
			return errs
		}
		*p = patterns{one}
	}
	for i, s := range *p {
		if s != "" && len(s) <= telemetry.MaxValueLen {
			continue
		}
		at := path
		if d.Has(append(path, i)...) {
			at = append(path, i)
		}
		if d.Has(at...) && len(errs) == 0 {
			errs = append(errs, d.Fault(at, fmt.Sprintf("empty or longer than %d bytes", telemetry.MaxValueLen), "leave it away to watch all"))
		}
	}
	return errs
}

func isGlob(s string) bool { return strings.ContainsAny(s, "*?") }

func (p patterns) match(s string) bool {
	for _, g := range p {
		if glob(g, s) {
			return true
		}
	}
	return len(p) == 0
}

// glob matches * with any run of bytes and ? with one character. It takes time
// len(pattern) x len(s) at most.
func glob(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			i++
			for i < len(s) && s[i]&0xc0 == 0x80 { // the rest of a UTF-8 character
				i++
			}
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// where chooses series of a quantity.
type where struct {
	site, group, edge, device, point patterns

	labels []labelMatch // sorted by name
}

type labelMatch struct {
	name     string
	patterns patterns
}

func (w *where) match(s *telemetry.BoundSeries, sites map[string]Site) bool {
	if !w.site.match(s.Site) || !w.edge.match(s.Edge) || !w.device.match(s.Device) || !w.point.match(s.Point) {
		return false
	}
	if len(w.group) > 0 && !slices.ContainsFunc(sites[s.Site].Groups, w.group.match) {
		return false
	}
	for _, l := range w.labels {
		if !l.patterns.match(s.Labels.Get(l.name)) {
			return false
		}
	}
	return true
}

// String writes the choice as people do, for lists: site=24848 device=air-*.
func (w *where) String() string {
	var parts []string
	add := func(name string, p patterns) {
		if len(p) > 0 {
			parts = append(parts, name+"="+strings.Join(p, "|"))
		}
	}
	add("site", w.site)
	add("group", w.group)
	add("edge", w.edge)
	add("device", w.device)
	add("point", w.point)
	for _, l := range w.labels {
		add("labels."+l.name, l.patterns)
	}
	return strings.Join(parts, " ")
}
