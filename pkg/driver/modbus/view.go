package modbus

import (
	"slices"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// view is a device as one revision of its profile sees it. Behind the device's
// own points, in a copy of it, stand the places that points depend on: they are
// planned, asked for and cut like points, but are none for the sink.
type view struct {
	dev    *driver.Device
	own    int // points of the device; what follows are places
	places []*profile.Place
	refs   [][]int // by own point: where its places stand in dev.Points; nil for most
	absent []int   // points that are not in the revision

	// Of the poll in progress:
	raws []profile.Raw // of the places; valid when known
	have []bool
	held []heldPoint // points that wait for a place
}

// heldPoint is a point that was read while what it depends on was not.
type heldPoint struct {
	point int
	raw   float64
	text  string
}

// viewOf makes the view for points, which are parallel to those of d.
func viewOf(d *driver.Device, points []profile.Point, convert []driver.Linear) *view {
	own := *d
	own.Points, own.Convert = slices.Clone(points), convert
	v := &view{dev: &own, own: len(points), refs: make([][]int, len(points))}
	for i := range points {
		pt := &points[i]
		if pt.Protocol() == "" && len(d.Revisions) > 0 {
			v.absent = append(v.absent, i)
			continue
		}
		for _, pl := range pt.Refs() {
			v.refs[i] = append(v.refs[i], v.place(pl, pt))
		}
	}
	v.raws, v.have = make([]profile.Raw, len(v.places)), make([]bool, len(v.places))
	return v
}

// place returns the index of a place that is due whenever its point is.
func (v *view) place(pl *profile.Place, of *profile.Point) int {
	for i, known := range v.places {
		if known.Same(pl) && v.dev.Points[v.own+i].Interval == of.Interval {
			return v.own + i
		}
	}
	pt := pl.Point(pl.String())
	pt.Interval = of.Interval
	v.places = append(v.places, pl)
	v.dev.Points = append(v.dev.Points, pt)
	return len(v.dev.Points) - 1
}

// begin forgets the poll before.
func (v *view) begin() {
	clear(v.have)
	v.held = v.held[:0]
}

// note takes down what stands at a place.
func (v *view) note(point int, r profile.Raw) {
	v.raws[point-v.own], v.have[point-v.own] = r, true
}

// complete reports whether everything is known that a point depends on, and
// returns it in refs.
func (v *view) complete(point int, refs []profile.Raw) ([]profile.Raw, bool) {
	refs = refs[:0]
	for _, p := range v.refs[point] {
		if !v.have[p-v.own] {
			return nil, false
		}
		refs = append(refs, v.raws[p-v.own])
	}
	return refs, true
}

// rawOf reads what stands at a place out of the words of its request.
func rawOf(pt *profile.Point, order profile.Order, from int, words []uint16) profile.Raw {
	n, text, err := profile.Decode(pt, order, words[from:from+pt.Width()])
	if err != nil {
		return profile.Raw{Quality: telemetry.BadQuality(telemetry.ReasonMalformed)}
	}
	return profile.Raw{Number: n, Text: text}
}

// reader turns the words of requests into samples.
type reader struct {
	counts *driver.Counts
	refs   []profile.Raw
}

// read appends the samples that the answer to a request holds for v's points;
// points whose places are not known yet are held, and those that were held and
// are complete now come too. at is in milliseconds.
func (r *reader) read(out []driver.Sample, v *view, q *Request, words []uint16, at int64) []driver.Sample {
	for _, p := range q.Points {
		if p >= v.own {
			pt := &v.dev.Points[p]
			_, address := pt.Area()
			v.note(p, rawOf(pt, v.dev.Modbus.Order, address-q.Address, words))
		}
	}
	for _, p := range q.Points {
		if p >= v.own {
			continue
		}
		pt := &v.dev.Points[p]
		_, address := pt.Area()
		from := address - q.Address
		raw, text, err := profile.Decode(pt, v.dev.Modbus.Order, words[from:from+pt.Width()])
		if err != nil {
			out = append(out, driver.Sample{Point: p, Quality: telemetry.BadQuality(telemetry.ReasonMalformed)})
			continue
		}
		out = r.measure(out, v, heldPoint{p, raw, text}, at)
	}
	return r.release(out, v, at)
}

// measure appends the sample of a point, or holds the point.
func (r *reader) measure(out []driver.Sample, v *view, h heldPoint, at int64) []driver.Sample {
	p := h.point
	refs, ok := v.complete(p, r.refs)
	if !ok {
		v.held = append(v.held, h)
		return out
	}
	r.refs = refs[:0]
	pt := &v.dev.Points[p]
	if pt.IsText() {
		_, text, q, _ := profile.MeasureValue(pt, v.dev.Convert[p], nil, h.text, refs, at)
		return append(out, driver.Sample{Point: p, Text: text, Quality: q})
	}
	value, q, ok := profile.Measure(pt, v.dev.Convert[p], r.counts.Of(pt), h.raw, refs, at)
	if !ok {
		return out // the first reading of a rate
	}
	r.counts.Keep(pt)
	return append(out, driver.Sample{Point: p, Value: value, Quality: q})
}

// release appends the samples of held points that are complete now.
func (r *reader) release(out []driver.Sample, v *view, at int64) []driver.Sample {
	held := v.held
	v.held = v.held[:0]
	for _, h := range held {
		out = r.measure(out, v, h, at)
	}
	return out
}
