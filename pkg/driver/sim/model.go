package sim

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// State is a fixture of a profile, with the points and conditions that the
// fixture's own parameters give.
type State struct {
	*profile.Fixture
	Points   []profile.Point
	Identify *profile.Identification // may be nil
	With     map[string]string       // defaults included
}

// revision is what the state is one of; empty when it does not say.
func (s *State) revision() string {
	if s.Takes != "" && s.Takes != "none" && s.Takes != "model" {
		return s.Takes
	}
	return s.Revision
}

// Model is what a simulated device says. It belongs to one goroutine.
type Model struct {
	// From is the name of the fixture that the device begins with; empty when
	// everything is made up.
	From string

	dev      *driver.Device
	points   []profile.Point // of the revision that it is of; ids and order are the device's
	convert  []driver.Linear
	q        telemetry.Quantities
	readings map[string]float64
	bad      map[string]string
	begun    time.Time

	image    map[profile.Area]map[int]uint16
	payloads []*payload
	moves    []move
}

// NewModel makes a device from the states of its profile, of which there may be
// none. Its values begin to move at now.
func NewModel(d *driver.Device, states []State, q telemetry.Quantities, now time.Time) *Model {
	m := &Model{dev: d, points: d.Points, convert: d.Convert, q: q, begun: now}
	states, revision := choose(d, states)
	if revision >= 0 {
		m.points, m.convert = d.Revisions[revision].Points, d.Revisions[revision].Convert
	}
	if len(states) > 0 {
		m.From, m.readings, m.bad = states[0].Name, states[0].Readings, states[0].Bad
	}
	switch d.Points[0].Protocol() {
	case profile.ProtocolModbus:
		m.registers(states, revision)
	case profile.ProtocolMQTT:
		m.messages(states)
	}
	return m
}

// choose returns the states that are of one revision of the device, the one to
// begin with first, and which of the revisions it is; -1: the device has no choice.
func choose(d *driver.Device, states []State) (fitting []State, revision int) {
	wanted, revision := d.Revision, -1
	if len(d.Revisions) > 0 {
		revision, wanted = 0, d.Revisions[0].ID
		for _, s := range states {
			i := slices.IndexFunc(d.Revisions, func(r driver.Revision) bool { return r.ID == s.Takes })
			if i >= 0 {
				revision, wanted = i, s.Takes
				break
			}
		}
	}
	var other []State
	for _, s := range states {
		switch {
		case s.Takes == "none":
		case s.revision() == wanted:
			fitting = append(fitting, s)
		case s.revision() == "":
			other = append(other, s)
		}
	}
	return append(fitting, other...), revision
}

// move is a value that moves: raw is what the device would give for base.
type move struct {
	point     int
	raw, base float64
	slope     float64 // canonical units for one raw unit
	swing     float64 // how far it goes from base, in the canonical unit
	rises     float64 // by so much a second instead, in raw units: a counter
	phase     float64
	whole     bool // the device gives whole numbers
}

// periods of the two waves on which a value moves.
const (
	slowWave = 5 * time.Minute
	fastWave = 17 * time.Second
)

// at returns the raw value after a time.
func (v *move) at(since time.Duration) float64 {
	if v.rises != 0 {
		return v.raw + math.Floor(v.rises*since.Seconds())
	}
	angle := func(period time.Duration) float64 { return 2*math.Pi*since.Seconds()/period.Seconds() + v.phase }
	raw := v.raw + v.swing*(0.8*math.Sin(angle(slowWave))+0.2*math.Sin(angle(fastWave)))/v.slope
	if v.whole {
		raw = math.Round(raw)
	}
	return raw
}

// moving says how a number moves that stands at raw now; ok is false for one that
// stands still: a state, or one without room.
func (m *Model) moving(p int, raw float64, refs []profile.Raw) (v move, ok bool) {
	pt := &m.points[p]
	q := m.q[pt.Quantity]
	if _, bad := m.bad[pt.ID]; bad || len(pt.Enum) > 0 || pt.Bit != nil || pt.RawType() == profile.TypeBool || pt.SideEffect {
		return v, false
	}
	value := func(raw float64) float64 {
		x, quality, _ := profile.Measure(pt, m.convert[p], nil, raw, refs, 0)
		if quality.IsBad() && quality.Reason() != telemetry.ReasonOutOfRange {
			return math.NaN()
		}
		return x
	}
	const apart = 1000 // steps, so that rounding to decimals does not matter
	base := value(raw)
	v = move{point: p, raw: raw, base: base, slope: (value(raw+apart) - base) / apart, whole: pt.Protocol() == profile.ProtocolModbus}
	if math.IsNaN(v.slope) || v.slope == 0 || slices.Contains(pt.Sentinels, raw) {
		return v, false
	}
	switch pt.RawType() {
	case profile.TypeFloat32, profile.TypeFloat64:
		v.whole = false
	}
	low, high := bounds(pt, &q, m.convert[p])
	if q.Unit == "1" && q.Decimals == 0 {
		v.whole = true
	}
	if pt.Counter != nil || q.Aggregate == telemetry.AggregateLast && high > 1e5 {
		v.rises, v.whole = 0.2, true
		return v, true
	}
	if high-low <= 1 && q.Decimals == 0 {
		return v, false // off or on
	}
	v.swing = 0.05 * math.Abs(base)
	if !math.IsInf(high-low, 0) {
		v.swing = min(max(v.swing, min(0.005*(high-low), 0.5)), 0.02*(high-low))
	}
	if v.whole {
		v.swing = max(v.swing, 2*math.Abs(v.slope))
	}
	v.swing = min(v.swing, base-low, high-base)
	h := fnv.New32a()
	_, _ = h.Write([]byte(m.dev.ID + "/" + pt.ID))
	v.phase = float64(h.Sum32()%628) / 100
	return v, v.swing > 0
}

// bounds are what is plausible for a point, in the canonical unit.
func bounds(pt *profile.Point, q *telemetry.Quantity, conv driver.Linear) (low, high float64) {
	low, high = math.Inf(-1), math.Inf(1)
	if q.Min != nil {
		low = *q.Min
	}
	if q.Max != nil {
		high = *q.Max
	}
	if v := pt.Valid; v != nil {
		if v.Min != nil {
			low = max(low, conv.Of(*v.Min))
		}
		if v.Max != nil {
			high = min(high, conv.Of(*v.Max))
		}
	}
	return low, high
}

// usual is a value to begin with where no fixture has one.
func (m *Model) usual(p int) float64 {
	pt := &m.points[p]
	if v, ok := m.readings[pt.ID]; ok {
		return v
	}
	q := m.q[pt.Quantity]
	switch low, high := bounds(pt, &q, m.convert[p]); {
	case math.IsInf(high-low, 0):
		return 20
	case low == 0 || high-low > 2000:
		return low + min(0.3*(high-low), 30)
	default:
		return low + 0.65*(high-low)
	}
}

// rawFor is the raw number by which a point without refs reads as a value.
func (m *Model) rawFor(p int, value float64) float64 {
	pt := &m.points[p]
	raw := m.convert[p].Back(value) - pt.Offset
	if pt.Scale != nil && *pt.Scale != 0 {
		raw /= *pt.Scale
	}
	return raw - pt.Before
}

// registers makes the image of a Modbus device.
func (m *Model) registers(states []State, revision int) {
	m.image = map[profile.Area]map[int]uint16{}
	for _, a := range []profile.Area{profile.AreaCoil, profile.AreaDiscrete, profile.AreaHolding, profile.AreaInput} {
		m.image[a] = map[int]uint16{}
	}
	for _, s := range slices.Backward(states) {
		for area, regs := range s.Registers() {
			maps.Copy(m.image[area], regs)
		}
	}
	for area, addr := range m.absent(revision) {
		for _, a := range addr {
			delete(m.image[area], a)
		}
	}
	fixed := m.told()
	for p := range m.points {
		pt := &m.points[p]
		if pt.Protocol() != profile.ProtocolModbus {
			continue // not in this revision
		}
		m.complete(p)
		raw, refs, ok := m.read(p)
		if !ok || fixed[p] {
			continue
		}
		if v, ok := m.moving(p, raw, refs); ok {
			m.moves = append(m.moves, v)
		}
	}
	m.bridge(revision)
}

// absent are the registers that the device must not have to be what it is.
func (m *Model) absent(revision int) map[profile.Area][]int {
	out := map[profile.Area][]int{}
	id := m.dev.Identify
	if id == nil {
		return out
	}
	all := slices.Clone(id.Model)
	if revision >= 0 && revision < len(id.Revisions) {
		all = append(all, id.Revisions[revision].Match...)
	}
	for i := range all {
		if pt := all[i].Place.Point(""); all[i].Absent {
			area, addr := pt.Area()
			for k := range pt.Width() {
				out[area] = append(out[area], addr+k)
			}
		}
	}
	return out
}

// told returns the points whose registers say what the device is, or what others
// mean: they stand still.
func (m *Model) told() map[int]bool {
	var places []*profile.Place
	if m.dev.Identify != nil {
		places = m.dev.Identify.Places()
	}
	for p := range m.points {
		places = append(places, m.points[p].Refs()...)
	}
	out := map[int]bool{}
	for p := range m.points {
		area, addr := m.points[p].Area()
		for _, pl := range places {
			other := pl.Point("")
			a, at := other.Area()
			if a == area && at < addr+m.points[p].Width() && addr < at+other.Width() {
				out[p] = true
			}
		}
	}
	return out
}

// complete gives a point registers, and what it depends on, where no fixture does.
func (m *Model) complete(p int) {
	pt := &m.points[p]
	for i, pl := range pt.Refs() {
		place := pl.Point("")
		raw := 0.0
		if i == 0 && pt.ValidWhen != nil {
			switch v := pt.ValidWhen; {
			case len(v.Equals) > 0:
				raw = v.Equals[0]
			case v.Min != nil:
				raw = *v.Min
			}
		}
		m.write(&place, raw, false)
	}
	area, addr := pt.Area()
	if _, there := m.image[area][addr]; there {
		return
	}
	if pt.IsText() {
		for i := range pt.Width() {
			m.image[area][addr+i] = [...]uint16{'S'<<8 | 'I', 'M' << 8, 0}[min(i, 2)]
		}
		return
	}
	m.write(pt, 0, false)
	for raw, n := m.rawFor(p, m.usual(p)), 0; n < 64; raw, n = raw/2, n+1 {
		if m.write(pt, raw, true) {
			break
		}
	}
}

// write puts a raw number into the image, over what is there when over is set. It
// reports false when it does not fit.
func (m *Model) write(pt *profile.Point, raw float64, over bool) bool {
	area, addr := pt.Area()
	if _, there := m.image[area][addr]; there && !over {
		return false
	}
	if area == profile.AreaCoil || area == profile.AreaDiscrete || pt.Bit != nil {
		if _, there := m.image[area][addr]; !there {
			m.image[area][addr] = 0
		}
		return true
	}
	if t := pt.RawType(); t != profile.TypeFloat32 && t != profile.TypeFloat64 {
		raw = math.Round(raw)
	}
	if slices.Contains(pt.Sentinels, raw) {
		return false
	}
	regs, err := profile.Encode(pt, m.dev.Modbus.Order, raw)
	if err != nil {
		return false
	}
	for i, r := range regs {
		m.image[area][addr+i] = r
	}
	return true
}

// read is what stands in the image for a number.
func (m *Model) read(p int) (raw float64, refs []profile.Raw, ok bool) {
	pt := &m.points[p]
	if raw, ok = m.decode(pt); !ok || pt.IsText() {
		return 0, nil, false
	}
	for _, pl := range pt.Refs() {
		place := pl.Point("")
		n, ok := m.decode(&place)
		if !ok {
			return 0, nil, false
		}
		refs = append(refs, profile.Raw{Number: n})
	}
	return raw, refs, true
}

func (m *Model) decode(pt *profile.Point) (float64, bool) {
	area, addr := pt.Area()
	regs := make([]uint16, pt.Width())
	for i := range regs {
		var ok bool
		if regs[i], ok = m.image[area][addr+i]; !ok {
			return 0, false
		}
	}
	n, _, err := profile.Decode(pt, m.dev.Modbus.Order, regs)
	return n, err == nil
}

// bridge fills the small holes between registers, as most devices do.
func (m *Model) bridge(revision int) {
	const most = 16
	absent := m.absent(revision)
	for area, regs := range m.image {
		addresses := slices.Sorted(maps.Keys(regs))
		for i := 1; i < len(addresses); i++ {
			from, to := addresses[i-1]+1, addresses[i]
			if to-from > most {
				continue
			}
			for a := from; a < to; a++ {
				if !slices.Contains(absent[area], a) {
					regs[a] = 0
				}
			}
		}
	}
}

// Registers returns what a Modbus device holds at a time. The map is the model's
// own and good until the next call.
func (m *Model) Registers(now time.Time) map[profile.Area]map[int]uint16 {
	for i := range m.moves {
		v := &m.moves[i]
		m.write(&m.points[v.point], v.at(now.Sub(m.begun)), true)
	}
	return m.image
}
