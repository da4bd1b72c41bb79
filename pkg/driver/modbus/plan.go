package modbus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
)

// The limits that hold when a profile sets none.
const (
	DefaultMaxRegisters = 125
	DefaultMaxBits      = 2000
	DefaultMaxHole      = 16
)

// Request is one read of neighbouring registers or bits, and the points that it
// serves.
type Request struct {
	Area    profile.Area
	Address int
	Count   int           // registers, or bits in the two bit areas
	Every   time.Duration // how often; a whole multiple of the device's interval
	Points  []int         // indexes in Device.Points, by address
	// Places are what points depend on and the request reads along with them: a
	// status word, a unit code.
	Places []*profile.Place
	// Once: reading changes the device, so the request is not repeated when its
	// answer is lost.
	Once bool
}

// Function returns the Modbus function code that reads the area.
func (r *Request) Function() int {
	switch r.Area {
	case profile.AreaCoil:
		return 1
	case profile.AreaDiscrete:
		return 2
	case profile.AreaHolding:
		return 3
	case profile.AreaInput:
		return 4
	}
	return 0
}

// Describe returns the request in one line, with the ids of its points.
func (r *Request) Describe(d *driver.Device) string {
	ids := make([]string, 0, len(r.Points)+len(r.Places))
	for _, p := range r.Points {
		ids = append(ids, d.Points[p].ID)
	}
	for _, pl := range r.Places {
		ids = append(ids, "("+pl.String()+")")
	}
	once := ""
	if r.Once {
		once = ", alone and never repeated"
	}
	q := question{area: r.Area, address: r.Address, count: r.Count}
	return fmt.Sprintf("function %d, %s, every %v%s: %s", r.Function(), q, r.Every, once, strings.Join(ids, ", "))
}

// Plan merges the points of a device, and the places that they depend on, into
// the fewest requests that its limits (max_registers, max_bits, max_hole) allow.
// Points that are worth reading less often than the device have requests of
// their own. A point whose reading has a side effect is read alone, after all
// others and in the order of the points, and no request reaches across it.
// Points that are not Modbus, or do not fit their area, are in none. Otherwise
// the order is by how often, then area, then address. It changes nothing and may
// be called from anywhere.
func Plan(d *driver.Device) []Request {
	v := viewOf(d, d.Points, d.Convert)
	plan := plan(v.dev)
	for i := range plan {
		r := &plan[i]
		own := slices.IndexFunc(r.Points, func(p int) bool { return p >= len(d.Points) })
		if own < 0 {
			continue
		}
		points := r.Points
		r.Points = nil
		for _, p := range points {
			if p < len(d.Points) {
				r.Points = append(r.Points, p)
			} else {
				r.Places = append(r.Places, v.places[p-len(d.Points)])
			}
		}
	}
	return plan
}

// plan is Plan for the device of a view, whose points have the places among them.
func plan(d *driver.Device) []Request {
	type place struct {
		Request
		point int
	}
	var all, once []place
	for i := range d.Points {
		p := &d.Points[i]
		if !readable(p) {
			continue
		}
		area, address := p.Area()
		r := Request{Area: area, Address: address, Count: p.Width(), Every: d.Interval * time.Duration(every(d, p)), Once: p.SideEffect}
		if p.SideEffect {
			once = append(once, place{r, i})
		} else {
			all = append(all, place{r, i})
		}
	}
	mined := func(r *Request) bool {
		return slices.ContainsFunc(once, func(o place) bool {
			return o.Area == r.Area && o.Address < r.Address+r.Count && r.Address < o.Address+o.Count
		})
	}
	slices.SortStableFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.Every, b.Every), cmp.Compare(a.Area, b.Area), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Count, b.Count))
	})
	var plan []Request
	for _, p := range all {
		if n := len(plan); n > 0 {
			if longer := plan[n-1]; limitsOf(d, p.Area).join(&longer, &p.Request) && !mined(&longer) {
				plan[n-1].Count = longer.Count
				plan[n-1].Points = append(plan[n-1].Points, p.point)
				continue
			}
		}
		p.Points = []int{p.point}
		plan = append(plan, p.Request)
	}
	for _, p := range once {
		p.Points = []int{p.point}
		plan = append(plan, p.Request)
	}
	return plan
}

// every returns at which slots of the device the point is due: each, every
// second, ...
func every(d *driver.Device, p *profile.Point) int {
	if p.Interval <= d.Interval || d.Interval <= 0 {
		return 1
	}
	return int(p.Interval / d.Interval)
}

// readable reports whether the point can be asked for at all. A configuration
// that was checked has no other.
func readable(p *profile.Point) bool {
	area, address := p.Area()
	width := p.Width()
	if area == profile.AreaNone || address < 0 || width < 1 || address+width > 1<<16 {
		return false
	}
	return width <= DefaultMaxRegisters
}

// limits bound one request in one area.
type limits struct{ length, hole int }

func limitsOf(d *driver.Device, a profile.Area) limits {
	hole := DefaultMaxHole
	if d.Modbus.MaxHole != nil {
		hole = *d.Modbus.MaxHole
	}
	if a == profile.AreaCoil || a == profile.AreaDiscrete {
		// Sixteen bits take as long on the wire as one register.
		return limits{limit(d.Modbus.MaxBits, DefaultMaxBits), 16 * hole}
	}
	return limits{limit(d.Modbus.MaxRegisters, DefaultMaxRegisters), hole}
}

func limit(said, most int) int {
	if said < 1 || said > most {
		return most
	}
	return said
}

// join extends r over next when both are read together. next begins at or after
// r does.
func (l limits) join(r, next *Request) bool {
	if r.Area != next.Area || r.Every != next.Every {
		return false
	}
	end := max(r.Address+r.Count, next.Address+next.Count)
	if next.Address-(r.Address+r.Count) > l.hole || end-r.Address > max(l.length, r.Count) {
		return false
	}
	r.Count = end - r.Address
	return true
}
