package modbus

import (
	"bytes"
	"fmt"

	goburrow "github.com/goburrow/modbus"
)

// rtu is the framing of serial lines: unit, PDU, and a CRC with its low byte
// first. There is no mark where a frame begins, so the answer is looked for by
// what it must be: unit, function, length, CRC. Noise before it, the echo that
// some adapters give of the request, and late answers of other units are passed
// over. An exception is told from a damaged answer by its own CRC.
type rtu struct{ scratch }

// crc16 returns the checksum of Modbus over serial lines (polynomial 0xA001,
// reflected; it is sent low byte first).
func crc16(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, c := range b {
		crc = crc>>8 ^ crcTable[byte(crc)^c]
	}
	return crc
}

var crcTable = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xa001
			} else {
				c >>= 1
			}
		}
		t[i] = c
	}
	return t
}()

// crcFits reports whether the frame ends with its checksum.
func crcFits(frame []byte) bool {
	n := len(frame) - 2
	if n < 2 {
		return false
	}
	crc := crc16(frame[:n])
	return frame[n] == byte(crc) && frame[n+1] == byte(crc>>8)
}

// Encode implements goburrow's Packager.
func (r *rtu) Encode(pdu *goburrow.ProtocolDataUnit) ([]byte, error) {
	n := 4 + len(pdu.Data)
	if n > 256 {
		return nil, fmt.Errorf("modbus: a request of %d bytes is too long", n)
	}
	adu := r.req[:n]
	adu[0], adu[1] = r.unit, pdu.FunctionCode
	copy(adu[2:], pdu.Data)
	crc := crc16(adu[:n-2])
	adu[n-2], adu[n-1] = byte(crc), byte(crc>>8)
	return adu, nil
}

// Verify implements goburrow's Packager.
func (r *rtu) Verify(req, ans []byte) error {
	switch {
	case len(ans) < 5:
		return frameErrorf(FaultShort, "has only %d bytes", len(ans))
	case !crcFits(ans):
		return frameErrorf(FaultCRC, "has a wrong checksum")
	case ans[0] != req[0]:
		return frameErrorf(FaultUnit, "comes from unit %d", ans[0])
	}
	return checkPDU(req[1:len(req)-2], ans[1:len(ans)-2])
}

// Decode implements goburrow's Packager.
func (r *rtu) Decode(ans []byte) (*goburrow.ProtocolDataUnit, error) {
	return r.unpack(ans[1 : len(ans)-2]), nil
}

// frameAt returns the frame that begins at got, and fits its checksum, taking
// the length from the function code; nil when there is none (yet).
func frameAt(got []byte) []byte {
	if len(got) < 5 {
		return nil
	}
	n := 0
	switch f := got[1]; {
	case f&0x80 != 0:
		n = 5
	case isRead(f):
		n = 5 + int(got[2])
	case f == goburrow.FuncCodeMaskWriteRegister:
		n = 10
	default:
		n = 8
	}
	if len(got) < n || !crcFits(got[:n]) {
		return nil
	}
	return got[:n]
}

func (r *rtu) find(req, got []byte) (answer []byte, stale, drop int, err error) {
	i := echo(req, got)
	for ; i < len(got); i++ {
		if unfinished(req, got[i:]) {
			break // what looks like a frame inside of it is chance
		}
		f := frameAt(got[i:])
		if f == nil {
			continue
		}
		if f[0] == req[0] && f[1]&0x7f == req[1] {
			return f, stale, i + len(f), nil
		}
		stale++
		i += len(f) - 1
		drop = i + 1
	}
	return nil, stale, drop, nil
}

// unfinished reports whether got is the beginning of what would answer req.
func unfinished(req, got []byte) bool {
	if got[0] != req[0] {
		return false
	}
	if len(got) == 1 {
		return true
	}
	pdu := req[1 : len(req)-2]
	switch got[1] {
	case pdu[0] | 0x80:
		return len(got) < 5
	case pdu[0]:
		want := answerLength(pdu)
		if isRead(pdu[0]) && len(got) > 2 && int(got[2]) != want-2 {
			return false
		}
		return len(got) < 3+want
	}
	return false
}

// echo returns the length of the request's echo at the front of got. The answer
// to a write is equal to its request and so is no echo.
func echo(req, got []byte) int {
	if isRead(req[1]) && bytes.HasPrefix(got, req) {
		return len(req)
	}
	return 0
}

func (r *rtu) begun(req, got []byte) bool { return r.start(req, got) >= 0 }

// start returns where an answer may begin in got, or -1.
func (r *rtu) start(req, got []byte) int {
	for i := echo(req, got); i+2 <= len(got); i++ {
		if got[i] == req[0] && got[i+1]&0x7f == req[1] {
			return i
		}
	}
	return -1
}

func (r *rtu) diagnose(req, got []byte, stale int) error {
	if got = got[echo(req, got):]; len(got) == 0 {
		if stale > 0 {
			return frameErrorf(FaultUnit, "comes from another unit or is to another function")
		}
		return nil
	}
	i := r.start(req, got)
	if i < 0 {
		return frameErrorf(FaultGarbage, "is no Modbus frame: %d bytes, %s", len(got), hexHead(got))
	}
	n := len(got) - i
	if want := 3 + answerLength(req[1:len(req)-2]); n < want && n != 5 {
		return frameErrorf(FaultShort, "stopped after %d of %d bytes: %s", n, want, hexHead(got[i:]))
	}
	return frameErrorf(FaultCRC, "has a wrong checksum: %s", hexHead(got[i:]))
}
