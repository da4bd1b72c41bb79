package field

import "encoding/binary"

// The exceptions of Modbus that the field gives.
const (
	illegalFunction = 1
	illegalAddress  = 2
	illegalValue    = 3
)

// serve answers a PDU for a unit of a line. It is not ok when nobody answers: the
// unit is not there, or dead.
func (f *Field) serve(line string, id byte, pdu []byte) (reply []byte, ok bool) {
	f.touch()
	u := f.units[address{line, id}]
	if u == nil || len(pdu) == 0 || !u.answers(f.since()) {
		return nil, false
	}
	fn := pdu[0]
	exception := func(code byte) ([]byte, bool) { return []byte{fn | 0x80, code}, true }
	var a area
	most := 125
	switch fn {
	case 1:
		a, most = coils, 2000
	case 2:
		a, most = discretes, 2000
	case 3:
		a = holdings
	case 4:
		a = inputs
	case 6:
		return f.write(u, pdu, exception)
	default:
		return exception(illegalFunction)
	}
	if len(pdu) != 5 {
		return exception(illegalValue)
	}
	addr, n := int(binary.BigEndian.Uint16(pdu[1:])), int(binary.BigEndian.Uint16(pdu[3:]))
	if n < 1 || n > most {
		return exception(illegalValue)
	}
	words, values, ok := u.read(a, addr, n, f.row())
	if !ok {
		return exception(illegalAddress)
	}
	f.recordModbus(u, values)
	if a == coils || a == discretes {
		reply = make([]byte, 2+(n+7)/8)
		for i, w := range words {
			if w != 0 {
				reply[2+i/8] |= 1 << (i % 8)
			}
		}
	} else {
		reply = make([]byte, 2, 2+2*n)
		for _, w := range words {
			reply = binary.BigEndian.AppendUint16(reply, w)
		}
	}
	reply[0], reply[1] = fn, byte(len(reply)-2)
	return reply, true
}

// write answers function 6: the register holds what was written from then on.
func (f *Field) write(u *unit, pdu []byte, exception func(byte) ([]byte, bool)) ([]byte, bool) {
	if len(pdu) != 5 {
		return exception(illegalValue)
	}
	if u.force(holdings, int(binary.BigEndian.Uint16(pdu[1:])), binary.BigEndian.Uint16(pdu[3:])) != nil {
		return exception(illegalAddress)
	}
	return pdu, true
}
