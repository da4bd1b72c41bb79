package field

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// area is one of the four Modbus tables.
type area int

const (
	coils area = iota
	discretes
	holdings
	inputs
)

var areaNames = [...]string{"coil", "discrete", "holding", "input"}

func areaOf(name string) (area, bool) {
	for i, n := range areaNames {
		if n == name {
			return area(i), true
		}
	}
	return 0, false
}

// point is a value of a unit and where it stands in its map.
type point struct {
	name  string
	area  area
	addr  int
	wide  bool // uint32 over two registers
	low   bool // low word first
	scale float64
	value func(row int) float64 // in the register's unit: raw * scale
}

func (p *point) width() int {
	if p.wide {
		return 2
	}
	return 1
}

// raw returns the bits of the value: two's complement, limited to the width.
func (p *point) raw(row int) uint32 {
	n := math.Round(p.value(row) / p.scale)
	if p.wide {
		return uint32(int64(n))
	}
	return uint32(uint16(int64(n)))
}

type place struct {
	area area
	addr int
}

// Unit is one Modbus unit. Its registers are functions of the row of the traces;
// a request sees them all at one row. Safe for concurrent use.
type unit struct {
	line, device string
	id           byte
	points       []point
	dozes        bool // sometimes does not answer

	mu   sync.Mutex
	dead bool
	set  map[place]uint16 // what the control has set
}

// answers reports whether the unit answers at a time since the field began. One
// that dozes is away for 12 s of every 40 s, at first after 20 s.
func (u *unit) answers(since time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.dead {
		return false
	}
	if at := (since - 20*time.Second) % (40 * time.Second); u.dozes && since >= 20*time.Second && at < 12*time.Second {
		return false
	}
	return true
}

// served is one value that a request was answered with.
type served struct {
	point *point
	raw   uint32
}

// read returns n registers, or bits as 0 and 1. It is not ok when the map has a
// hole there.
func (u *unit) read(a area, addr, n, row int) (words []uint16, values []served, ok bool) {
	words = make([]uint16, n)
	have := make([]bool, n)
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.points {
		p := &u.points[i]
		if p.area != a || p.addr+p.width() <= addr || p.addr >= addr+n {
			continue
		}
		raw := p.raw(row)
		cells := []uint16{uint16(raw)}
		if p.wide {
			cells = []uint16{uint16(raw >> 16), uint16(raw)}
			if p.low {
				cells[0], cells[1] = cells[1], cells[0]
			}
		}
		whole := true
		for k := range cells {
			if v, forced := u.set[place{a, p.addr + k}]; forced {
				cells[k] = v
			}
			if at := p.addr + k - addr; at >= 0 && at < n {
				words[at], have[at] = cells[k], true
			} else {
				whole = false
			}
		}
		if !whole {
			continue
		}
		raw = uint32(cells[0])
		if p.wide {
			raw = uint32(cells[0])<<16 | uint32(cells[1])
			if p.low {
				raw = uint32(cells[1])<<16 | uint32(cells[0])
			}
		}
		values = append(values, served{p, raw})
	}
	for _, h := range have {
		if !h {
			return nil, nil, false
		}
	}
	return words, values, true
}

// force makes a register hold a value until the field ends.
func (u *unit) force(a area, addr int, v uint16) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.points {
		if p := &u.points[i]; p.area == a && addr >= p.addr && addr < p.addr+p.width() {
			if u.set == nil {
				u.set = make(map[place]uint16)
			}
			u.set[place{a, addr}] = v
			return nil
		}
	}
	return fmt.Errorf("unit %d (%s) has no %s register %d", u.id, u.device, areaNames[a], addr)
}

// release gives every register back to the traces.
func (u *unit) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.set = nil
}

func (u *unit) kill(dead bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dead = dead
}

// engineering returns what the raw bits mean, in the register's unit.
func (s served) engineering() float64 {
	n := float64(s.raw)
	if !s.point.wide {
		n = float64(int16(s.raw))
		if s.raw > math.MaxInt16 && !s.point.signed() {
			n = float64(s.raw)
		}
	}
	p := math.Round(1 / s.point.scale)
	return n / p
}

// signed reports whether the point may be negative; only temperatures are.
func (p *point) signed() bool { return p.name == "air_temperature" }
