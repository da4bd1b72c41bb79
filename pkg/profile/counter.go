package profile

import "fmt"

// The kinds of a counter.
const (
	CounterTotal  = "total"
	CounterRate   = "rate"
	CounterEvents = "events"
)

// maxWhen is how many conditions an event may have.
const maxWhen = 8

// Counter says that a raw value counts up and begins anew at 0, or that messages
// are counted.
type Counter struct {
	Kind    string  `yaml:"kind" doc:"total: the reading is the running total; rate: its increase per time; events: the running total of the messages in which when holds" default:"total"`
	Bits    int     `yaml:"bits" doc:"width of the counter: with 16 it begins anew after 65535; from the type when neither bits nor modulus is said"`
	Modulus float64 `yaml:"modulus" doc:"first raw value that the counter does not reach, when it is no power of two"`
	Per     string  `yaml:"per" doc:"time base of a rate: s, min or h" default:"s"`
	MaxStep float64 `yaml:"max_step" doc:"greatest raw increase between two readings that is believed across the wrap; a sixteenth of the modulus when not said"`
	When    []Match `yaml:"when" doc:"of events: what must hold in a message, all of it, for it to be counted; at most 8 conditions"`
}

// CountsEvents reports whether the point counts messages, and has no raw value.
func (p *Point) CountsEvents() bool { return p.Counter != nil && p.Counter.Kind == CounterEvents }

// Span returns the modulus of a counter that is read as this type.
func (c *Counter) Span(t Type) float64 {
	switch {
	case c.Modulus > 0:
		return c.Modulus
	case c.Bits > 0:
		return float64(uint64(1) << c.Bits)
	case t == TypeUint32:
		return 1 << 32
	case t == TypeUint16:
		return 1 << 16
	case t == TypeBCD16:
		return 10_000
	case t == TypeBCD32:
		return 100_000_000
	}
	return 0
}

// Count follows one counter from reading to reading. The zero Count has read
// nothing yet. It belongs to one goroutine.
//
// A raw value below the last one is a wrap when the way over the end is short
// (max_step), and a device that began anew otherwise. A total goes on over a
// wrap and falls to the raw value when the device began anew, which whoever
// takes its increase understands. So that it does not fall back when the agent
// restarts, keep State and give it to the next Count by Restore; without, set
// Plain, and totals are as the device gives them.
type Count struct {
	Plain bool // totals are not carried over wraps

	span  float64
	base  float64
	last  float64
	at    int64
	known bool
}

// NewCount returns the count of a point that has a Counter.
func NewCount(pt *Point) *Count { return &Count{span: pt.Counter.Span(pt.RawType())} }

// CountState is what must outlive the agent for totals to go on.
type CountState struct {
	Base float64 `json:"base"` // sum of the wraps
	Last float64 `json:"last"` // raw, rounded down to a quarter of the modulus
}

// State returns what to keep. It changes a few times in a round of the counter.
func (c *Count) State() CountState {
	s := CountState{Base: c.base}
	if quarter := c.span / 4; quarter > 0 {
		s.Last = float64(int64(c.last/quarter)) * quarter
	}
	return s
}

// Restore goes on from what State gave in an earlier life. A first raw value in
// the first quarter after a last one in the fourth has wrapped meanwhile; one
// that is lower otherwise is a device that began anew.
func (c *Count) Restore(s CountState) {
	c.base, c.last = s.Base, s.Last
	c.known = false
}

// Event counts a message.
func (c *Count) Event() { c.base++ }

// Events returns how many messages were counted, those of earlier lives too.
func (c *Count) Events() float64 { return c.base }

// Next returns what stands for the raw value: the total, or the increase per the
// counter's time base. It is not ok for the first reading of a rate, for one
// whose time is not after the last one, and when the device began anew. at is in
// milliseconds.
func (c *Count) Next(k *Counter, raw float64, at int64) (float64, bool) {
	if k.Kind == CounterRate {
		return c.rate(k, raw, at)
	}
	if c.Plain || c.span == 0 {
		return raw, true
	}
	switch {
	case raw >= c.last && c.known:
	case !c.known && raw < c.last:
		if c.last >= c.span*3/4 && raw < c.span/4 {
			c.base += c.span
		} else {
			c.base = 0
		}
	case raw < c.last && c.wrapped(k, raw):
		c.base += c.span
	case raw < c.last:
		c.base = 0
	}
	c.last, c.at, c.known = raw, at, true
	return c.base + raw, true
}

func (c *Count) rate(k *Counter, raw float64, at int64) (float64, bool) {
	last, then, known := c.last, c.at, c.known
	c.last, c.at, c.known = raw, at, true
	if !known || at <= then {
		return 0, false
	}
	step := raw - last
	if step < 0 {
		if c.span == 0 || step+c.span > k.step(c.span) {
			return 0, false
		}
		step += c.span
	}
	return step / float64(at-then) * perMilli[k.Per], true
}

// perMilli is the time base in milliseconds.
var perMilli = map[string]float64{"": 1000, "s": 1000, "min": 60_000, "h": 3_600_000}

func (k *Counter) step(span float64) float64 {
	if k.MaxStep > 0 {
		return k.MaxStep
	}
	return span / 16
}

// wrapped tells a wrap from a device that began anew.
func (c *Count) wrapped(k *Counter, raw float64) bool {
	return raw+c.span-c.last <= k.step(c.span)
}

func (k *Counter) faults(pt *Point) (errs []PointError) {
	fail := func(field, hint, format string, args ...any) {
		errs = append(errs, PointError{field, fmt.Sprintf(format, args...), hint})
	}
	if k.Kind == CounterEvents {
		return k.eventFaults(pt)
	}
	if k.Kind != "" && k.Kind != CounterTotal && k.Kind != CounterRate {
		fail("kind", "write total, rate or events", "unknown kind of counter %q", k.Kind)
	}
	if len(k.When) > 0 {
		fail("when", "leave it away, or write kind: events", "conditions are for events")
	}
	if k.Bits < 0 || k.Bits > 53 || k.Bits > 0 && k.Bits < 8 {
		fail("bits", "", "%d is outside 8 to 53", k.Bits)
		return errs
	}
	if k.Bits > 0 && k.Modulus > 0 {
		fail("modulus", "keep one of bits and modulus", "both bits and modulus")
	}
	if k.Modulus < 0 || k.MaxStep < 0 {
		fail("", "", "a negative modulus or step")
	}
	if _, ok := perMilli[k.Per]; !ok {
		fail("per", "write s, min or h", "unknown time base %q", k.Per)
	} else if k.Per != "" && k.Kind != CounterRate {
		fail("per", "leave it away, or write kind: rate", "a total has no time base")
	}
	if pt.Protocol() == ProtocolModbus && k.Span(pt.RawType()) == 0 {
		fail("", "write bits or modulus", "%s does not say where the counter begins anew", pt.RawType())
	}
	if _, high := pt.rawRange(); k.Span("") > high+1 {
		fail("", "", "%s does not count so far", pt.RawType())
	}
	return errs
}

// eventFaults are those of a counter of messages. What belongs to a value does
// not belong to it.
func (k *Counter) eventFaults(pt *Point) (errs []PointError) {
	fail := func(field, hint, format string, args ...any) {
		errs = append(errs, PointError{field, fmt.Sprintf(format, args...), hint})
	}
	if p := pt.Protocol(); p != "" && p != ProtocolMQTT {
		fail("kind", "count messages of a topic", "%s has no events", p)
		return errs
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"bits", k.Bits != 0}, {"modulus", k.Modulus != 0}, {"per", k.Per != ""}, {"max_step", k.MaxStep != 0}} {
		if f.set {
			fail(f.name, "leave it away", "%s is for counters that the device keeps, not for events", f.name)
		}
	}
	switch {
	case len(k.When) == 0:
		fail("when", "write when: [{path: type, text: [end]}]", "must say which messages are counted")
	case len(k.When) > maxWhen:
		fail("when", "", "%d conditions; at most %d", len(k.When), maxWhen)
		return errs
	}
	for i := range k.When {
		at := fmt.Sprintf("when[%d]", i)
		m := &k.When[i]
		for _, e := range m.faults(true) {
			if e.Field != "" {
				e.Field = "." + e.Field
			}
			errs = append(errs, PointError{at + e.Field, e.Msg, e.Hint})
		}
		if p := m.Point(""); p.Protocol() == ProtocolModbus {
			fail(at, "write path", "must stand in the message")
		}
	}
	return errs
}

// noValue refuses the keys of a value on a point that counts events.
func (c *checker) noValue() {
	pt := c.pt
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"path", pt.Path != ""},
		{"before", pt.Before != 0},
		{"offset", pt.Offset != 0},
		{"enum", len(pt.Enum) > 0},
		{"sentinels", len(pt.Sentinels) > 0},
		{"valid_when", pt.ValidWhen != nil},
		{"power_of_ten", pt.PowerOfTen != nil},
		{"unit_code", pt.UnitCode != nil},
	} {
		if f.set {
			c.fail(f.name, "leave it away; what must hold in a message stands under counter.when", "events have no value")
		}
	}
}
