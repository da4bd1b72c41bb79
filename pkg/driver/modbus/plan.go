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
	ids := make([]string, len(r.Points))
	for i, p := range r.Points {
		ids[i] = d.Points[p].ID
	}
	q := question{area: r.Area, address: r.Address, count: r.Count}
	return fmt.Sprintf("function %d, %s, every %v: %s", r.Function(), q, r.Every, strings.Join(ids, ", "))
}

// Plan merges the points of a device into the fewest requests that its limits
// (max_registers, max_bits, max_hole) allow. Points that are worth reading less
// often than the device have requests of their own. Points that are not Modbus,
// or do not fit their area, are in none. The order is by how often, then area,
// then address. It changes nothing and may be called from anywhere.
func Plan(d *driver.Device) []Request {
	type place struct {
		Request
		point int
	}
	var all []place
	for i := range d.Points {
		p := &d.Points[i]
		if !readable(p) {
			continue
		}
		area, address := p.Area()
		all = append(all, place{Request{Area: area, Address: address, Count: p.Width(), Every: d.Interval * time.Duration(every(d, p))}, i})
	}
	slices.SortStableFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.Every, b.Every), cmp.Compare(a.Area, b.Area), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Count, b.Count))
	})
	var plan []Request
	for _, p := range all {
		if n := len(plan); n > 0 && limitsOf(d, p.Area).join(&plan[n-1], &p.Request) {
			plan[n-1].Points = append(plan[n-1].Points, p.point)
			continue
		}
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
