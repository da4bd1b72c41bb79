package clock

// earliest is 2020-01-01: no clock that shows less is believed, whoever vouches
// for it.
const earliest = 1577836800000

const (
	defaultStep = 2000   // ms
	slewDivisor = 100    // at most one part in so many
	maxRTT      = 10_000 // ms; an answer that took longer says nothing
	hubSamples  = 8
)

// offset is log time minus time since boot, in microseconds, so that slewing
// by a hundredth does not round to nothing.
type offset int64

// sample is one word of the hub.
type sample struct {
	off offset
	rtt int64 // ms
}

// core is the rules, without a clock: every method is told mono, the
// milliseconds since boot, which never decrease.
type core struct {
	step  offset // a correction of this size or more is a step
	floor int64  // the last log time of the run before, 0 if unknown

	trusted  bool
	era      uint32
	from, to int64  // log time before and after the last step
	off      offset // log time minus mono, where it is
	target   offset // ... and where it slews to
	boot     offset // what OffsetOfBoot tells
	mono     int64  // when off was last advanced
	last     int64  // the last log time told, in this era
	asked    bool   // somebody was told a time

	synced bool // the last observation was
	hub    [hubSamples]sample
	hubs   int    // samples so far
	doubt  offset // a hub's word that would be a step and waits for a second
	doubts int
}

// now is log time at mono.
func (c *core) now(mono int64) Time {
	c.advance(mono)
	if !c.trusted {
		c.last = c.mono
	} else {
		c.last = max(c.last, floorMs(offset(c.mono*1000)+c.off))
	}
	c.asked = true
	return Time{Ms: c.last, Trusted: c.trusted, Era: c.era}
}

// advance slews up to mono.
func (c *core) advance(mono int64) {
	mono = max(mono, c.mono)
	most := offset((mono - c.mono) * (1000 / slewDivisor))
	c.off += min(max(c.target-c.off, -most), most)
	c.mono = mono
}

func floorMs(us offset) int64 {
	if us < 0 {
		return int64((us - 999) / 1000)
	}
	return int64(us / 1000)
}

// observe is told the system's clock and whether it is synchronised.
func (c *core) observe(mono, wall int64, synced bool) {
	c.advance(mono)
	c.synced = synced && wall >= earliest
	if c.synced {
		c.correct(offset((wall - c.mono) * 1000))
	}
}

// observeHub is told the hub's clock as it stands now, and how long the
// message's round trip took: the truth lies within half of that.
func (c *core) observeHub(mono, hub, rtt int64) {
	c.advance(mono)
	if hub < earliest || rtt < 0 || rtt > maxRTT {
		return
	}
	s := sample{offset((hub - c.mono) * 1000), rtt}
	if c.trusted && abs(s.off-c.target) >= c.step+s.radius() {
		// A step on one message's word would be rash: a second must agree.
		if c.doubts == 0 || abs(s.off-c.doubt) > c.step/2+s.radius() {
			c.doubt, c.doubts = s.off, 1
			return
		}
		c.hubs = 0
	}
	c.doubts = 0
	c.hub[c.hubs%hubSamples] = s
	c.hubs++
	if c.synced {
		return // the system's clock knows better
	}
	best := s
	for _, o := range c.hub[:min(c.hubs, hubSamples)] {
		if o.rtt < best.rtt {
			best = o
		}
	}
	if !c.trusted || abs(best.off-c.target) > best.radius() {
		c.correct(best.off)
	}
}

// radius is how far off a sample may be.
func (s sample) radius() offset { return offset(s.rtt * 500) }

// correct is given the offset as it should be.
func (c *core) correct(off offset) {
	if c.trusted && abs(off-c.off) < c.step {
		c.target = off
		return
	}
	from := c.last
	first := !c.trusted
	c.trusted, c.off, c.target, c.boot = true, off, off, off
	at := floorMs(offset(c.mono*1000) + off)
	if first && c.floor > at && offset((c.floor-at)*1000) < c.step {
		// A little behind where the run before ended: go on from there.
		c.off += offset((c.floor - at) * 1000)
		at = c.floor
	}
	c.last = at
	if !c.asked {
		return // nobody has asked for the time yet: no step to speak of
	}
	c.era++
	c.from, c.to = from, at
}

func abs(o offset) offset { return max(o, -o) }
