package modbus

import (
	"encoding/binary"
	"fmt"

	goburrow "github.com/goburrow/modbus"
)

// mbapSize is the length of the header of Modbus TCP:
//
//	0  transaction id  u16  the answer repeats the request's
//	2  protocol        u16  0
//	4  length          u16  of what follows: unit and PDU, 2 to 254
//	6  unit            u8
const mbapSize = 7

// mbap is the framing of Modbus TCP.
type mbap struct {
	scratch
	transaction uint16
}

// Encode implements goburrow's Packager. Each request has its own transaction id.
func (m *mbap) Encode(pdu *goburrow.ProtocolDataUnit) ([]byte, error) {
	n := mbapSize + 1 + len(pdu.Data)
	if n > mbapSize+253 {
		return nil, fmt.Errorf("modbus: a request of %d bytes is too long", n)
	}
	m.transaction++
	adu := m.req[:n]
	binary.BigEndian.PutUint16(adu[0:], m.transaction)
	binary.BigEndian.PutUint16(adu[2:], 0)
	binary.BigEndian.PutUint16(adu[4:], uint16(2+len(pdu.Data)))
	adu[6] = m.unit
	adu[7] = pdu.FunctionCode
	copy(adu[8:], pdu.Data)
	return adu, nil
}

// Verify implements goburrow's Packager.
func (m *mbap) Verify(req, ans []byte) error {
	if len(ans) < mbapSize+1 {
		return frameErrorf(FaultShort, "has only %d bytes", len(ans))
	}
	if ans[6] != req[6] {
		return frameErrorf(FaultUnit, "comes from unit %d", ans[6])
	}
	return checkPDU(req[mbapSize:], ans[mbapSize:])
}

// Decode implements goburrow's Packager.
func (m *mbap) Decode(ans []byte) (*goburrow.ProtocolDataUnit, error) {
	return m.unpack(ans[mbapSize:]), nil
}

func (m *mbap) find(req, got []byte) (answer []byte, stale, drop int, err error) {
	for {
		rest := got[drop:]
		if len(rest) < mbapSize {
			return nil, stale, drop, nil
		}
		n := int(binary.BigEndian.Uint16(rest[4:]))
		if p := binary.BigEndian.Uint16(rest[2:]); p != 0 || n < 2 || n > 254 {
			return nil, stale, drop, frameErrorf(FaultProtocol, "does not begin like Modbus TCP: %s", hexHead(rest))
		}
		n += mbapSize - 1
		if len(rest) < n {
			return nil, stale, drop, nil
		}
		drop += n
		if binary.BigEndian.Uint16(rest) == binary.BigEndian.Uint16(req) {
			return rest[:n], stale, drop, nil
		}
		stale++
	}
}

// begun is always false: TCP delivers whole frames however slowly, and only the
// deadline decides.
func (m *mbap) begun(_, _ []byte) bool { return false }

// diagnose counts a stale frame as no answer: its transaction id says that it
// belongs to a question asked before.
func (m *mbap) diagnose(_, got []byte, _ int) error {
	if len(got) == 0 {
		return nil
	}
	return frameErrorf(FaultShort, "stopped after %d bytes: %s", len(got), hexHead(got))
}
