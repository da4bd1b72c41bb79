package edge

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxEach bounds the devices that one entry makes.
const maxEach = 1000

// eachUnit is what each: may go over beside parameters.
const eachUnit = "unit"

// entries gives the devices of the file in its order, with the index of the entry
// that each comes from: those with each: once for every value. An entry with a fault
// is given no further, or its fault would be told again and again.
func (c *checker) entries() iter.Seq2[int, *DeviceConfig] {
	return func(yield func(int, *DeviceConfig) bool) {
		for i := range c.cfg.Devices {
			dc := &c.cfg.Devices[i]
			if len(dc.Each) == 0 {
				if !yield(i, dc) {
					return
				}
				continue
			}
			name, values, ok := c.each(i, dc)
			for _, v := range values {
				before := len(c.errs)
				if !ok {
					break
				}
				one := dc.forValue(name, v)
				if name == eachUnit {
					n, err := strconv.Atoi(v)
					if err != nil {
						c.fault(fmt.Sprintf("%q is no unit id", v), "a number from 1 to 247", "devices", i, "each")
						break
					}
					one.Unit = &n
				}
				if !yield(i, one) {
					return
				}
				if len(c.errs) > before {
					break
				}
			}
		}
	}
}

// each returns what an entry goes over.
func (c *checker) each(i int, dc *DeviceConfig) (name string, values []string, ok bool) {
	before := len(c.errs)
	names := slices.Sorted(maps.Keys(dc.Each))
	name = names[0]
	values = dc.Each[name]
	switch {
	case len(names) > 1:
		c.fault(fmt.Sprintf("goes over %d parameters", len(names)), "one only; write an entry for each value of the other", "devices", i, "each")
	case len(values) == 0 || len(values) > maxEach:
		c.fault(fmt.Sprintf("has %d values", len(values)), fmt.Sprintf("1 to %d", maxEach), "devices", i, "each", name)
	case !strings.Contains(dc.ID, "{"+name+"}"):
		c.fault("would be the id of several devices", fmt.Sprintf("write {%s} into it, for example %s", name, strings.TrimLeft(dc.ID+"-{"+name+"}", "-")), "devices", i, "id")
	case dc.With[name] != "":
		c.fault(fmt.Sprintf("%s stands under each: too", name), "keep one of them", "devices", i, "with", name)
	case name == eachUnit && dc.Unit != nil:
		c.fault("unit stands under each: too", "keep one of them", "devices", i, "unit")
	}
	return name, values, len(c.errs) == before
}

// forValue is the entry for one value.
func (dc *DeviceConfig) forValue(name, value string) *DeviceConfig {
	place := "{" + name + "}"
	fill := func(s string) string { return strings.ReplaceAll(s, place, value) }
	filled := func(m map[string]string) map[string]string {
		out := make(map[string]string, len(m))
		for k, v := range m {
			out[k] = fill(v)
		}
		return out
	}
	one := *dc
	one.ID, one.With, one.Labels = fill(dc.ID), filled(dc.With), filled(dc.Labels)
	if name != eachUnit && dc.Profile != "" {
		one.With[name] = value
	}
	one.Points = slices.Clone(dc.Points)
	for j := range one.Points {
		one.Points[j].Topic, one.Points[j].Path = fill(one.Points[j].Topic), fill(one.Points[j].Path)
	}
	return &one
}
