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
	points []point       // those of the revision that the device is read by
	sets   [][]point     // the points by revision
	places []int         // which of the places that tell the revision are on this topic
	avail  *availability // nil when the filter is not the availability topic

	waiting int // messages in the queue; guarded by the queue's lock
}

// point is a point of the device, ready to be looked up.
type point struct {
	index int // in driver.Device.Points
	spec  *profile.Point
	conv  driver.Linear
	path  *profile.Path    // nil: the payload itself
	refs  []*profile.Path  // of what it depends on, in the same payload
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
		for rev, set := range revisionsOf(d.spec) {
			for i := range set.Points {
				p := &set.Points[i]
				if p.Protocol() == "" && len(d.spec.Revisions) > 0 {
					continue // not in this revision
				}
				pt, err := newPoint(i, p, set.Convert)
				if err != nil {
					errs = append(errs, fmt.Errorf("device %s, point %s: %w", d.spec.ID, p.ID, err))
					continue
				}
				t := at(p.Topic)
				for len(t.sets) <= rev {
					t.sets = append(t.sets, nil)
				}
				t.sets[rev] = append(t.sets[rev], pt)
			}
		}
		if d.ident != nil {
			for i, pl := range d.ident.places {
				if err := checkFilter(pl.Topic); err != nil {
					errs = append(errs, fmt.Errorf("device %s: match: topic %q %w", d.spec.ID, pl.Topic, err))
					continue
				}
				t := at(pl.Topic)
				t.places = append(t.places, i)
			}
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
			t.take(0)
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

// revisionsOf returns the revisions of a device; one that has none to choose
// from is its own.
func revisionsOf(d *driver.Device) []driver.Revision {
	if len(d.Revisions) > 0 {
		return d.Revisions
	}
	return []driver.Revision{{ID: d.Revision, Points: d.Points, Convert: d.Convert}}
}

// take makes the target's points those of a revision.
func (t *target) take(revision int) {
	t.points = nil
	if revision < len(t.sets) {
		t.points = t.sets[revision]
	}
}

func newPoint(index int, p *profile.Point, convert []driver.Linear) (point, error) {
	pt := point{index: index, spec: p, conv: driver.Linear{Factor: 1}}
	if err := checkFilter(p.Topic); err != nil {
		return pt, fmt.Errorf("topic %q %w", p.Topic, err)
	}
	if index < len(convert) {
		pt.conv = convert[index]
	}
	if p.Path != "" {
		path, err := profile.ParsePath(p.Path)
		if err != nil {
			return pt, fmt.Errorf("path: %w", err)
		}
		pt.path = &path
	}
	for _, pl := range p.Refs() {
		path, err := profile.ParsePath(pl.Path)
		if err != nil {
			return pt, fmt.Errorf("what it depends on: path: %w", err)
		}
		pt.refs = append(pt.refs, &path)
	}
	return pt, nil
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
