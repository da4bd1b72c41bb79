package mqtt

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// target is what one topic filter means to one device: points to be read from
// the payload, or its availability, or both. A device has one target per
// filter, so that what one message tells of it is put at one instant.
type target struct {
	device *device
	filter string
	points []point
	avail  *availability // nil when the filter is not the availability topic
	json   bool          // some of the points need the payload parsed

	waiting int // messages in the queue; guarded by the queue's lock
}

// point is a point of the device, ready to be looked up.
type point struct {
	index int // in driver.Device.Points
	spec  *profile.Point
	conv  driver.Linear
	path  *profile.Path    // nil: the payload itself
	last  telemetry.Reason // why the newest payload gave no value, as it was logged
}

// routes finds the targets of a topic. It is read-only once made.
type routes struct {
	root    node
	filters []string // sorted, unique: what to subscribe to
}

type node struct {
	next map[string]*node
	here []*target // the filter ends here
	rest []*target // "#" follows
}

// newRoutes compiles the topics of the devices. The error names every point
// that has no usable topic or path.
func newRoutes(devices []*device) (*routes, error) {
	r := &routes{}
	var errs []error
	seen := make(map[string]bool)
	for _, d := range devices {
		byFilter := make(map[string]*target)
		at := func(filter string) *target {
			t := byFilter[filter]
			if t == nil {
				t = &target{device: d, filter: filter}
				byFilter[filter] = t
				d.targets = append(d.targets, t)
			}
			return t
		}
		for i := range d.spec.Points {
			p := &d.spec.Points[i]
			if err := checkFilter(p.Topic); err != nil {
				errs = append(errs, fmt.Errorf("device %s, point %s: topic %q %w", d.spec.ID, p.ID, p.Topic, err))
				continue
			}
			pt := point{index: i, spec: p, conv: driver.Linear{Factor: 1}}
			if i < len(d.spec.Convert) {
				pt.conv = d.spec.Convert[i]
			}
			t := at(p.Topic)
			if p.Path != "" {
				path, err := profile.ParsePath(p.Path)
				if err != nil {
					errs = append(errs, fmt.Errorf("device %s, point %s: path: %w", d.spec.ID, p.ID, err))
					continue
				}
				pt.path, t.json = &path, true
			}
			t.points = append(t.points, pt)
		}
		if a := d.spec.MQTT.Availability; a != nil {
			av, err := newAvailability(a)
			if err == nil {
				err = checkFilter(a.Topic)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("device %s: availability: topic %q %w", d.spec.ID, a.Topic, err))
			} else {
				at(a.Topic).avail = av
			}
		}
		for _, t := range d.targets {
			t.json = t.json || len(t.points) > 0 && d.time != nil
			r.add(t)
			if !seen[t.filter] {
				seen[t.filter] = true
				r.filters = append(r.filters, t.filter)
			}
		}
	}
	sort.Strings(r.filters)
	return r, errors.Join(errs...)
}

func (r *routes) add(t *target) {
	n := &r.root
	levels := strings.Split(t.filter, "/")
	for i, level := range levels {
		if level == "#" && i == len(levels)-1 {
			n.rest = append(n.rest, t)
			return
		}
		if n.next == nil {
			n.next = make(map[string]*node)
		}
		child := n.next[level]
		if child == nil {
			child = &node{}
			n.next[level] = child
		}
		n = child
	}
	n.here = append(n.here, t)
}

// match returns the targets whose filter takes the topic.
func (r *routes) match(topic string) []*target { return r.root.match(topic, true, nil) }

func (n *node) match(topic string, first bool, out []*target) []*target {
	level, rest, more := strings.Cut(topic, "/")
	hidden := first && strings.HasPrefix(topic, "$") // wildcards do not see $SYS
	if !hidden {
		out = append(out, n.rest...)
	}
	step := func(child *node) {
		if child == nil {
			return
		}
		if more {
			out = child.match(rest, false, out)
			return
		}
		out = append(append(out, child.here...), child.rest...) // "a/#" takes "a" too
	}
	step(n.next[level])
	if !hidden && level != "+" {
		step(n.next["+"])
	}
	return out
}

// checkFilter reports what is wrong with a topic filter.
func checkFilter(f string) error {
	switch {
	case f == "":
		return errors.New("is missing")
	case len(f) > 1024:
		return errors.New("is longer than 1024 bytes")
	case strings.ContainsAny(f, "\x00{}"):
		return errors.New("holds a place that no parameter fills, or a NUL")
	}
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) {
			return errors.New("is no filter: # stands alone, at the end")
		}
		if strings.Contains(l, "+") && l != "+" {
			return errors.New("is no filter: + stands alone between slashes")
		}
	}
	return nil
}
