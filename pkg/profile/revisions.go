package profile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// quantities checks the profile's own ones and adds them to the catalogue.
func (r *reader) quantities() {
	for _, id := range slices.Sorted(maps.Keys(r.p.Own)) {
		e := r.p.Own[id]
		if _, known := r.q[id]; known {
			r.fail([]any{"quantities", id}, fmt.Sprintf("%q is in the catalogue already", id), "leave it away, or choose another name")
		}
		for _, x := range e.faults(id, true) {
			r.fail(append([]any{"quantities", id}, fieldPath(x.Field)...), x.Msg, x.Hint)
		}
	}
	r.q = r.p.Catalogue(r.q)
}

// conditions checks a list of conditions.
func (r *reader) conditions(ms []Match, at ...any) {
	for i := range ms {
		here := append(slices.Clone(at), i)
		for _, e := range ms[i].faults(false) {
			r.fail(append(slices.Clone(here), fieldPath(e.Field)...), e.Msg, e.Hint)
		}
		pt := ms[i].Place.Point("")
		if p := pt.Protocol(); p != "" && r.p.Protocol != "" && p != r.p.Protocol {
			r.fail(here, fmt.Sprintf("a condition of %s in a profile of %s", p, r.p.Protocol), "")
		}
	}
}

func (r *reader) revisions() {
	r.conditions(r.p.Match, "match")
	if len(r.p.Firmware) > maxRevisions {
		r.fail([]any{"firmware"}, fmt.Sprintf("%d revisions; at most %d", len(r.p.Firmware), maxRevisions), "")
		return
	}
	first := map[string]int{}
	ids := make([]string, len(r.p.Firmware))
	for i := range r.p.Firmware {
		rev := &r.p.Firmware[i]
		if was, dup := first[rev.ID]; dup && rev.ID != "" {
			r.fail([]any{"firmware", i, "id"}, fmt.Sprintf("%q is the id of revision %d already", rev.ID, was+1), "")
		} else {
			first[rev.ID] = i
		}
		ids[i] = rev.ID
	}
	told := len(r.p.Match) > 0 && slices.ContainsFunc(r.p.Match, func(m Match) bool { return m.Version != "" })
	for i := range r.p.Firmware {
		r.revision(i, ids, told)
	}
	r.meaning()
}

// revision checks one of them. told says whether the device tells its version.
func (r *reader) revision(i int, ids []string, told bool) {
	rev := &r.p.Firmware[i]
	at := func(field ...any) []any { return append([]any{"firmware", i}, field...) }
	r.need(rev.ID, at("id")...)
	r.text(rev.Title, at("title")...)
	r.need(rev.Source, at("source")...)
	bounds, err := ParseVersionRange(rev.Range)
	if err != nil {
		r.fail(at("range"), err.Error(), "write >=1.0.0 <1.0.4")
	}
	r.conditions(rev.Match, at("match")...)
	told = told || slices.ContainsFunc(rev.Match, func(m Match) bool { return m.Version != "" })
	if len(bounds) > 0 && !told && len(r.p.Match) > 0 && len(rev.Match) == 0 && r.anyMatch() {
		r.fail(at("range"), "no match says where the device tells its version, so this revision is never taken by itself", "add match to the revision, or version: to a condition")
	}
	base, ok := r.p.base(rev)
	if !ok {
		if !slices.Contains(ids, rev.Like) {
			r.fail(at("like"), fmt.Sprintf("there is no revision %q", rev.Like), strictyaml.Meant(rev.Like, ids))
		} else {
			r.fail(at("like"), fmt.Sprintf("%q departs from itself in the end", rev.ID), "let one of them depart from the profile's own points")
		}
		return
	}
	shared := make([]string, len(base))
	for j := range base {
		shared[j] = base[j].ID
	}
	for j, id := range rev.Remove {
		if !slices.Contains(shared, id) {
			what := "the profile"
			if rev.Like != "" {
				what = "revision " + rev.Like
			}
			r.fail(at("remove", j), fmt.Sprintf("%s has no point %q", what, id), strictyaml.Meant(id, shared))
		}
	}
	r.pointList(rev.Points, "firmware", i, "points")
	if len(r.p.merged(rev)) == 0 {
		r.fail(at(), "measures nothing", "")
	}
}

func (r *reader) anyMatch() bool {
	return slices.ContainsFunc(r.p.Firmware, func(rev Revision) bool { return len(rev.Match) > 0 })
}

// meaning asks that a point's id means one thing in every revision, since its
// series goes on when the firmware changes.
func (r *reader) meaning() {
	type sense struct {
		quantity string
		text     bool
	}
	of := map[string]sense{}
	for i := range r.p.Points {
		of[r.p.Points[i].ID] = sense{r.p.Points[i].Quantity, r.p.Points[i].IsText()}
	}
	for i := range r.p.Firmware {
		for j := range r.p.Firmware[i].Points {
			pt := &r.p.Firmware[i].Points[j]
			s := sense{pt.Quantity, pt.IsText()}
			was, known := of[pt.ID]
			if !known {
				of[pt.ID] = s
			} else if was != s && pt.ID != "" && was.quantity != "" && pt.Quantity != "" {
				r.fail([]any{"firmware", i, "points", j, "quantity"}, fmt.Sprintf("the point %q is %s elsewhere in the profile", pt.ID, was.quantity), "keep the quantity and kind of a point in all revisions, or choose another id")
			}
		}
	}
}

// base returns the points that a revision departs from; not ok when like leads
// nowhere, or in a circle.
func (p *Profile) base(rev *Revision) ([]Point, bool) { return p.baseOf(rev, len(p.Firmware)) }

func (p *Profile) baseOf(rev *Revision, depth int) ([]Point, bool) {
	if rev.Like == "" {
		return p.Points, true
	}
	i := slices.IndexFunc(p.Firmware, func(r Revision) bool { return r.ID == rev.Like })
	if i < 0 || depth == 0 {
		return nil, false
	}
	base, ok := p.baseOf(&p.Firmware[i], depth-1)
	return lay(base, &p.Firmware[i]), ok
}

// lay puts a revision over the points it departs from.
func lay(base []Point, rev *Revision) []Point {
	points := slices.DeleteFunc(slices.Clone(base), func(pt Point) bool { return slices.Contains(rev.Remove, pt.ID) })
	for _, pt := range rev.Points {
		if i := slices.IndexFunc(points, func(old Point) bool { return old.ID == pt.ID }); i >= 0 {
			points[i] = pt
		} else {
			points = append(points, pt)
		}
	}
	return points
}

// merged lays a revision over the points it departs from. rev may be nil.
func (p *Profile) merged(rev *Revision) []Point {
	if rev == nil {
		return slices.Clone(p.Points)
	}
	base, _ := p.base(rev)
	return lay(base, rev)
}

// Resolved is a profile made ready for one device.
type Resolved struct {
	// Points are all that the device may have, in whichever revision. A point
	// that several revisions have is that of Revision, or of the first that has it.
	Points   []Point
	Revision string            // the pinned one, or the first
	With     map[string]string // all parameters, defaults included
	MQTT     MQTTDefaults
	Camera   CameraDefaults

	// Identify tells which of Revisions the device is. It is nil, and Revisions
	// are empty, when the device pins one or the profile cannot tell. Otherwise
	// Revisions are those of Identify, in its order.
	Identify  *Identification
	Revisions []ResolvedRevision
}

// ResolvedRevision is one revision of a device. Its points are parallel to those
// of Resolved; one without a place ([Point.Protocol] is empty) is not in it.
type ResolvedRevision struct {
	ID     string
	Points []Point
}

// ResolveDevice is Resolve for an agent that picks the revision by what the
// device says of itself, when none is pinned. The error is a FieldErrors.
func (p *Profile) ResolveDevice(revision string, with map[string]string) (*Resolved, error) {
	points, rev, with2, err := p.Resolve(revision, with)
	if err != nil {
		return nil, err
	}
	r := &Resolved{Points: points, Revision: rev, With: with2, MQTT: p.ResolveMQTT(with2), Camera: p.ResolveCamera(with2)}
	if revision != "" {
		return r, nil
	}
	if r.Identify = p.Identification(with2); r.Identify == nil {
		return r, nil
	}
	if !p.TellsRevision() {
		return r, nil // the model alone is told
	}
	all := make([][]Point, len(p.Firmware))
	for i := range p.Firmware {
		all[i], _, _, err = p.Resolve(p.Firmware[i].ID, with)
		if err != nil {
			return nil, err
		}
		for _, pt := range all[i] {
			if !slices.ContainsFunc(r.Points, func(o Point) bool { return o.ID == pt.ID }) {
				r.Points = append(r.Points, pt)
			}
		}
	}
	for i := range p.Firmware {
		own := ResolvedRevision{ID: p.Firmware[i].ID, Points: make([]Point, len(r.Points))}
		for j := range r.Points {
			if k := slices.IndexFunc(all[i], func(o Point) bool { return o.ID == r.Points[j].ID }); k >= 0 {
				own.Points[j] = all[i][k]
			} else {
				own.Points[j] = Point{ID: r.Points[j].ID, Quantity: r.Points[j].Quantity, Kind: r.Points[j].Kind}
			}
		}
		r.Revisions = append(r.Revisions, own)
	}
	return r, nil
}

// Override puts a device's own points in the place of those with their ids, in
// every revision, and adds the others.
func (r *Resolved) Override(points ...Point) {
	put := func(list []Point, pt Point) []Point {
		if i := slices.IndexFunc(list, func(o Point) bool { return o.ID == pt.ID }); i >= 0 {
			list[i] = pt
			return list
		}
		return append(list, pt)
	}
	for _, pt := range points {
		r.Points = put(r.Points, pt)
		for i := range r.Revisions {
			r.Revisions[i].Points = put(r.Revisions[i].Points, pt)
		}
	}
}
