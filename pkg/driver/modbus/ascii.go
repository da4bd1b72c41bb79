package modbus

import (
	"bytes"
	"encoding/hex"
	"fmt"

	goburrow "github.com/goburrow/modbus"
)

// ascii is the framing that some old and some radio-linked devices speak: a
// colon, unit, PDU and LRC as hexadecimal digits, CR LF. What is handed to the
// client is the text as it came; Decode turns it into bytes.
type ascii struct {
	scratch
	raw [260]byte
}

func lrc(b []byte) byte {
	var s byte
	for _, c := range b {
		s += c
	}
	return -s
}

// Encode implements goburrow's Packager.
func (a *ascii) Encode(pdu *goburrow.ProtocolDataUnit) ([]byte, error) {
	n := 3 + len(pdu.Data)
	if n > 255 {
		return nil, fmt.Errorf("modbus: a request of %d bytes is too long", n)
	}
	raw := a.raw[:n]
	raw[0], raw[1] = a.unit, pdu.FunctionCode
	copy(raw[2:], pdu.Data)
	raw[n-1] = lrc(raw[:n-1])
	adu := append(a.req[:0], ':')
	const digits = "0123456789ABCDEF"
	for _, c := range raw {
		adu = append(adu, digits[c>>4], digits[c&15])
	}
	return append(adu, '\r', '\n'), nil
}

// bytesOf decodes the text of a frame into dst: unit, PDU, LRC.
func (a *ascii) bytesOf(dst, frame []byte) ([]byte, error) {
	text := bytes.TrimRight(bytes.TrimPrefix(frame, []byte{':'}), "\r\n")
	if len(text) > 2*len(dst) {
		return nil, frameErrorf(FaultLength, "is longer than a frame may be")
	}
	n, err := hex.Decode(dst, text)
	if err != nil {
		return nil, frameErrorf(FaultGarbage, "is no Modbus ASCII frame: %q", head(frame))
	}
	if n < 4 {
		return nil, frameErrorf(FaultShort, "has only %d bytes", n)
	}
	if lrc(dst[:n-1]) != dst[n-1] {
		return nil, frameErrorf(FaultCRC, "has a wrong checksum: %q", head(frame))
	}
	return dst[:n], nil
}

// Verify implements goburrow's Packager.
func (a *ascii) Verify(req, ans []byte) error {
	var buf [260]byte
	q, err := a.bytesOf(buf[:], req)
	if err != nil {
		return err
	}
	r, err := a.bytesOf(a.raw[:], ans)
	if err != nil {
		return err
	}
	if r[0] != q[0] {
		return frameErrorf(FaultUnit, "comes from unit %d", r[0])
	}
	return checkPDU(q[1:len(q)-1], r[1:len(r)-1])
}

// Decode implements goburrow's Packager.
func (a *ascii) Decode(ans []byte) (*goburrow.ProtocolDataUnit, error) {
	r, err := a.bytesOf(a.raw[:], ans)
	if err != nil {
		return nil, err
	}
	return a.unpack(r[1 : len(r)-1]), nil
}

func (a *ascii) find(req, got []byte) (answer []byte, stale, drop int, err error) {
	for {
		i := bytes.IndexByte(got[drop:], ':')
		if i < 0 {
			return nil, stale, drop, nil
		}
		end := bytes.IndexByte(got[drop+i:], '\n')
		if end < 0 {
			return nil, stale, drop, nil
		}
		line := got[drop+i : drop+i+end+1]
		if last := bytes.LastIndexByte(line, ':'); last > 0 {
			line = line[last:] // a frame that was cut off by the next one
		}
		drop += i + end + 1
		if isEcho(req, line) {
			continue
		}
		if len(line) >= 5 && sameHead(req, line) {
			return line, stale, drop, nil
		}
		stale++
	}
}

// isEcho reports whether the line is our own request. The answer to a write is
// equal to its request and so is no echo.
func isEcho(req, line []byte) bool {
	var f [1]byte
	if !bytes.Equal(line, req) {
		return false
	}
	_, err := hex.Decode(f[:], req[3:5])
	return err == nil && isRead(f[0])
}

// sameHead compares unit and function, an exception counting as the function.
func sameHead(req, line []byte) bool {
	var r, l [2]byte
	if _, err := hex.Decode(r[:], req[1:5]); err != nil {
		return false
	}
	if _, err := hex.Decode(l[:], line[1:5]); err != nil {
		return false
	}
	return r[0] == l[0] && r[1] == l[1]&0x7f
}

func (a *ascii) begun(_, got []byte) bool { return bytes.IndexByte(got, ':') >= 0 }

func (a *ascii) diagnose(_, got []byte, stale int) error {
	switch {
	case len(got) == 0 && stale > 0:
		return frameErrorf(FaultUnit, "comes from another unit or is to another function")
	case len(got) == 0:
		return nil
	case bytes.IndexByte(got, ':') >= 0:
		return frameErrorf(FaultShort, "stopped after %d characters: %q", len(got), head(got))
	}
	return frameErrorf(FaultGarbage, "is no Modbus ASCII frame: %q", head(got))
}

func head(b []byte) []byte { return b[:min(len(b), 24)] }
