package sim

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/profile"
)

// Fault is how an answer goes wrong. The zero value is no fault.
type Fault struct {
	Delay       time.Duration // before the answer; the unit does nothing else meanwhile
	Drop        bool          // no answer at all
	Exception   byte          // this exception instead of an answer
	Unit        byte          // the answer comes from this unit (0: from the right one)
	Transaction uint16        // added to the transaction id (TCP)
	Prefix      []byte        // noise before the answer
	Replace     []byte        // garbage instead of the answer
	Truncate    int           // bytes missing at the end
	Drip        time.Duration // between any two bytes
	Damage      bool          // a bit is flipped after the checksum was made
	Close       bool          // TCP: the connection is closed instead
}

// Request is a request that reached the field.
type Request struct {
	At       time.Time
	Unit     byte
	Function byte
	Address  int
	Count    int // or the value of a write
}

// Field is a set of Modbus units. Registers that were never set do not exist:
// a request that touches one is refused with exception 2. It is safe for
// concurrent use; the zero value is an empty field.
type Field struct {
	mu      sync.Mutex
	units   map[byte]*unit
	log     []Request
	fault   func(Request) Fault // nil: that of the unit
	gateway bool                // exception 11 in place of silence
	deaf    bool                // requests are not kept
}

type unit struct {
	tables   [5]map[int]uint16 // by function code that reads them
	fault    Fault
	maxCount int

	onlyMultiple bool
	max          uint16
}

func (f *Field) of(id int) *unit {
	if f.units == nil {
		f.units = make(map[byte]*unit)
	}
	u := f.units[byte(id)]
	if u == nil {
		u = &unit{}
		for i := range u.tables {
			u.tables[i] = make(map[int]uint16)
		}
		f.units[byte(id)] = u
	}
	return u
}

func (f *Field) set(unit, function, address int, values []uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, v := range values {
		f.of(unit).tables[function][address+i] = v
	}
}

// Load gives a unit the registers of a profile's fixture.
func (f *Field) Load(unit int, image map[profile.Area]map[int]uint16) {
	for area, function := range map[profile.Area]int{profile.AreaCoil: 1, profile.AreaDiscrete: 2, profile.AreaHolding: 3, profile.AreaInput: 4} {
		for address, v := range image[area] {
			f.set(unit, function, address, []uint16{v})
		}
	}
}

// Forgetful makes Requests return nothing: a field that is served for days must not
// grow.
func (f *Field) Forgetful() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = true
}

// Clear takes all units away.
func (f *Field) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.units = nil
}

// Holding sets holding registers of a unit, which exists from then on.
func (f *Field) Holding(unit, address int, values ...uint16) { f.set(unit, 3, address, values) }

// Input sets input registers.
func (f *Field) Input(unit, address int, values ...uint16) { f.set(unit, 4, address, values) }

// Coil sets coils; anything but 0 is on.
func (f *Field) Coil(unit, address int, values ...uint16) { f.set(unit, 1, address, values) }

// Discrete sets discrete inputs.
func (f *Field) Discrete(unit, address int, values ...uint16) { f.set(unit, 2, address, values) }

// Remove makes holding registers not exist.
func (f *Field) Remove(unit, address, count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range count {
		delete(f.of(unit).tables[3], address+i)
	}
}

// MaxCount makes a unit refuse longer requests with exception 3; 0 lifts it.
func (f *Field) MaxCount(unit, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of(unit).maxCount = n
}

// Break gives all further answers of a unit the fault; the zero Fault mends it.
func (f *Field) Break(unit int, x Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of(unit).fault = x
}

// Script decides the fault of each request; it goes before Break. nil ends it.
func (f *Field) Script(script func(Request) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = script
}

// Gateway makes the TCP side answer with exception 11 for units that do not
// exist or drop, as a gateway does.
func (f *Field) Gateway(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gateway = on
}

// Requests returns the requests since the last Forget, at most 100,000.
func (f *Field) Requests() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// Forget empties what Requests returns.
func (f *Field) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = nil
}

// answer returns the PDU that answers the request, and the fault to give it;
// nil when nobody is there.
func (f *Field) answer(id byte, pdu []byte) ([]byte, Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := Request{At: time.Now(), Unit: id, Function: pdu[0]}
	if len(pdu) >= 5 {
		r.Address, r.Count = int(binary.BigEndian.Uint16(pdu[1:])), int(binary.BigEndian.Uint16(pdu[3:]))
	}
	if !f.deaf && len(f.log) < 100_000 {
		f.log = append(f.log, r)
	}
	u := f.units[id]
	if u == nil {
		if f.gateway {
			return []byte{pdu[0] | 0x80, 11}, Fault{}
		}
		return nil, Fault{Drop: true}
	}
	x := u.fault
	if f.fault != nil {
		x = f.fault(r)
	}
	if x.Drop && f.gateway {
		return []byte{pdu[0] | 0x80, 11}, Fault{Delay: x.Delay}
	}
	if x.Exception != 0 {
		return []byte{pdu[0] | 0x80, x.Exception}, x
	}
	return u.serve(r, pdu), x
}

// serve carries a request out.
func (u *unit) serve(r Request, pdu []byte) []byte {
	length := len(pdu)
	exception := func(code byte) []byte { return []byte{r.Function | 0x80, code} }
	switch {
	case r.Function == 5 || r.Function == 6 || r.Function == 15 || r.Function == 16:
		return u.write(r, pdu, exception)
	case r.Function < 1 || r.Function > 4 || length != 5:
		return exception(1)
	case r.Count < 1 || r.Count > 2000 || r.Function > 2 && r.Count > 125 || u.maxCount > 0 && r.Count > u.maxCount:
		return exception(3)
	}
	out := []byte{r.Function, 0}
	for i := range r.Count {
		v, ok := u.tables[r.Function][r.Address+i]
		if !ok {
			return exception(2)
		}
		switch {
		case r.Function > 2:
			out = binary.BigEndian.AppendUint16(out, v)
		case i%8 == 0:
			out = append(out, 0)
			fallthrough
		default:
			if v != 0 {
				out[len(out)-1] |= 1 << (i % 8)
			}
		}
	}
	out[1] = byte(len(out) - 2)
	return out
}

// write carries out functions 5, 6, 15 and 16. What was never set cannot be
// written either.
func (u *unit) write(r Request, pdu []byte, exception func(byte) []byte) []byte {
	single := r.Function < 15
	if u.onlyMultiple && single {
		return exception(1)
	}
	count, table := r.Count, u.tables[3]
	if r.Function == 5 || r.Function == 15 {
		table = u.tables[1]
	}
	if single {
		count = 1
	}
	size := 2 * count
	if r.Function == 15 {
		size = (count + 7) / 8
	}
	if single && len(pdu) != 5 || !single && (len(pdu) != 6+size || int(pdu[5]) != size || count < 1 || count > 123) {
		return exception(3)
	}
	for i := range count {
		if _, ok := table[r.Address+i]; !ok {
			return exception(2)
		}
	}
	for i := range count {
		v := uint16(r.Count)
		switch {
		case r.Function == 15:
			v = uint16(pdu[6+i/8] >> (i % 8) & 1)
		case r.Function == 16:
			v = binary.BigEndian.Uint16(pdu[6+2*i:])
		case r.Function == 5 && r.Count != 0 && r.Count != 0xff00:
			return exception(3)
		}
		if u.max > 0 && r.Function != 5 && r.Function != 15 {
			v = min(v, u.max)
		}
		table[r.Address+i] = v
	}
	return pdu[:5]
}

// Writes makes a unit take functions 15 and 16 only, and hold at most so much in
// a register, whatever is written; 0 is no limit.
func (f *Field) Writes(unit int, onlyMultiple bool, most uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of(unit).onlyMultiple, f.of(unit).max = onlyMultiple, most
}

// Register returns what a holding register, or a coil, holds.
func (f *Field) Register(unit, address int, coil bool) uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if coil {
		return f.of(unit).tables[1][address]
	}
	return f.of(unit).tables[3][address]
}

// CRC returns the frame with the checksum of Modbus RTU, low byte first.
func CRC(frame []byte) []byte {
	crc := uint16(0xffff)
	for _, c := range frame {
		crc ^= uint16(c)
		for range 8 {
			odd := crc&1 != 0
			crc >>= 1
			if odd {
				crc ^= 0xa001
			}
		}
	}
	return append(frame, byte(crc), byte(crc>>8))
}
