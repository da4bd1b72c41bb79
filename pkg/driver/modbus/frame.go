package modbus

import (
	"encoding/binary"
	"fmt"

	goburrow "github.com/goburrow/modbus"
)

// maxADU is the longest frame of any framing, with room for a whole ASCII one.
const maxADU = 520

// FrameFault says what is wrong with an answer.
type FrameFault string

// The faults of an answer.
const (
	FaultCRC      FrameFault = "crc"      // the checksum does not fit
	FaultShort    FrameFault = "short"    // it stopped in the middle
	FaultLength   FrameFault = "length"   // whole, but not as long as what was asked for
	FaultUnit     FrameFault = "unit"     // another unit answered
	FaultFunction FrameFault = "function" // an answer to another function
	FaultGarbage  FrameFault = "garbage"  // bytes that are no frame at all
	FaultProtocol FrameFault = "protocol" // a header that is not Modbus TCP
)

// FrameError is an answer that came and cannot be used.
type FrameError struct {
	Fault FrameFault
	Msg   string // completes "the answer ..."
}

// Error returns the fault in a few words.
func (e *FrameError) Error() string { return "modbus: the answer " + e.Msg }

func frameErrorf(f FrameFault, format string, args ...any) *FrameError {
	return &FrameError{f, fmt.Sprintf(format, args...)}
}

// framing builds and recognises the frames of one transport. It is the Packager
// of goburrow's client, and tells the link when an answer is complete. It owns
// the memory of the frames it returns; they are good until the next Encode. It
// belongs to one goroutine.
type framing interface {
	goburrow.Packager
	// address sets the unit that the next request goes to.
	address(unit byte)
	// find looks for the answer to req in what has been received since. It
	// returns the frame, nil while it is not complete. stale counts the frames
	// before it that answer something else and are passed over; drop is how many
	// bytes at the front of got are done with. An error means that the rest of
	// the stream cannot be understood: the line is in doubt.
	find(req, got []byte) (answer []byte, stale, drop int, err error)
	// begun reports whether got holds the beginning of the answer, so that a
	// silence now means that it will not be completed.
	begun(req, got []byte) bool
	// diagnose says what is wrong with got, in which find found no answer and to
	// which nothing is being added, after so many stale frames. It returns nil
	// when nobody answered at all.
	diagnose(req, got []byte, stale int) error
}

// answerLength returns how long the PDU of a normal answer to the PDU of a
// request is, function code included, or 0 when that cannot be known.
func answerLength(pdu []byte) int {
	if len(pdu) < 5 {
		return 0
	}
	count := int(binary.BigEndian.Uint16(pdu[3:]))
	switch pdu[0] {
	case goburrow.FuncCodeReadCoils, goburrow.FuncCodeReadDiscreteInputs:
		return 2 + (count+7)/8
	case goburrow.FuncCodeReadHoldingRegisters, goburrow.FuncCodeReadInputRegisters, goburrow.FuncCodeReadWriteMultipleRegisters:
		return 2 + 2*count
	case goburrow.FuncCodeWriteSingleCoil, goburrow.FuncCodeWriteSingleRegister,
		goburrow.FuncCodeWriteMultipleCoils, goburrow.FuncCodeWriteMultipleRegisters:
		return 5
	case goburrow.FuncCodeMaskWriteRegister:
		return 7
	}
	return 0
}

// isRead reports whether the function reads and its answer begins with a count
// of bytes.
func isRead(function byte) bool {
	switch function {
	case goburrow.FuncCodeReadCoils, goburrow.FuncCodeReadDiscreteInputs,
		goburrow.FuncCodeReadHoldingRegisters, goburrow.FuncCodeReadInputRegisters,
		goburrow.FuncCodeReadWriteMultipleRegisters:
		return true
	}
	return false
}

// checkPDU compares the PDU of an answer with that of its request. An exception
// to the right function is a good answer.
func checkPDU(req, ans []byte) error {
	if len(ans) == 0 {
		return frameErrorf(FaultShort, "is empty")
	}
	if ans[0] == req[0]|0x80 {
		if len(ans) != 2 {
			return frameErrorf(FaultLength, "is an exception of %d bytes instead of 2", len(ans))
		}
		return nil
	}
	if ans[0] != req[0] {
		return frameErrorf(FaultFunction, "is to function %d, asked was function %d", ans[0], req[0])
	}
	want := answerLength(req)
	if want == 0 {
		return nil
	}
	if len(ans) != want {
		return frameErrorf(FaultLength, "has %d bytes instead of %d", len(ans), want)
	}
	if isRead(req[0]) && int(ans[1]) != want-2 {
		return frameErrorf(FaultLength, "announces %d bytes of data instead of %d", ans[1], want-2)
	}
	return nil
}

// scratch is the memory that a framing reuses from request to request.
type scratch struct {
	unit byte
	req  [maxADU]byte
	pdu  goburrow.ProtocolDataUnit
}

func (s *scratch) address(unit byte) { s.unit = unit }

// unpack returns the frame's PDU, in the memory of the scratch.
func (s *scratch) unpack(pdu []byte) *goburrow.ProtocolDataUnit {
	s.pdu.FunctionCode, s.pdu.Data = pdu[0], pdu[1:]
	return &s.pdu
}

func hexHead(b []byte) string {
	const most = 12
	if len(b) > most {
		return fmt.Sprintf("% x ...", b[:most])
	}
	return fmt.Sprintf("% x", b)
}
