package modbus

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	goburrow "github.com/goburrow/modbus"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The frames stand in the manuals of the devices, with their checksums.
func TestCRCFitsTheManuals(t *testing.T) {
	for _, frame := range []string{
		"01 04 00 01 00 01 60 0A", "01 04 02 01 31 79 74", "05 03 9C 72 00 08 CB C3",
		"03 10 9C 41 00 01 02 00 01 2D E8", "FF 03 07 D0 00 01 91 59", "C8 06 07 D1 00 02 48 DF", "01 03 00 09 00 01 54 08",
	} {
		b := unhex(t, frame)
		if !crcFits(b) {
			t.Errorf("%s: the checksum is %04x", frame, crc16(b[:len(b)-2]))
		}
		b[1] ^= 1
		if crcFits(b) {
			t.Errorf("%s: a flipped bit goes unnoticed", frame)
		}
	}
}

func TestRTUAsksAndReadsAsTheManualSays(t *testing.T) {
	r := &rtu{}
	r.address(1)
	req, err := r.Encode(&goburrow.ProtocolDataUnit{FunctionCode: 4, Data: []byte{0, 1, 0, 1}})
	if err != nil || !bytes.Equal(req, unhex(t, "01 04 00 01 00 01 60 0A")) {
		t.Fatalf("% x, %v", req, err)
	}
	ans, stale, _, err := r.find(req, unhex(t, "01 04 02 01 31 79 74"))
	if err != nil || stale != 0 || r.Verify(req, ans) != nil {
		t.Fatalf("% x, %v, %v", ans, err, r.Verify(req, ans))
	}
	if pdu, err := r.Decode(ans); err != nil || !bytes.Equal(pdu.Data, []byte{2, 1, 0x31}) {
		t.Errorf("%v, %v", pdu, err)
	}
}

// A checksum of 16 bits fits by chance somewhere in one of some hundred frames;
// an answer that comes in pieces must not be torn by that.
func TestRTUFindsAnAnswerThatComesByteByByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	r := &rtu{}
	r.address(17)
	req, err := r.Encode(&goburrow.ProtocolDataUnit{FunctionCode: 3, Data: []byte{0, 0, 0, 60}})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2000 {
		frame := []byte{17, 3, 120}
		for range 120 {
			frame = append(frame, byte(rng.Uint32()))
		}
		crc := crc16(frame)
		frame = append(frame, byte(crc), byte(crc>>8))
		stream := append([]byte{0, 0xff}, frame...)
		head := 0
		for end := 1; end <= len(stream); end++ {
			ans, stale, drop, err := r.find(req, stream[head:end])
			if whole := end == len(stream); err != nil || stale != 0 || (ans != nil) != whole || whole && !bytes.Equal(ans, frame) {
				t.Fatalf("round %d, byte %d: % x, %d, %v", round, end, ans, stale, err)
			}
			head += drop
		}
	}
}

func TestASCIIAsksAndReads(t *testing.T) {
	a := &ascii{}
	a.address(247)
	req, err := a.Encode(&goburrow.ProtocolDataUnit{FunctionCode: 3, Data: []byte{0x13, 0x89, 0, 2}})
	if want := ":F7031389000268\r\n"; err != nil || string(req) != want {
		t.Fatalf("%q, %v, want %q", req, err, want)
	}
	got := []byte("noise" + string(req) + ":0103020001F9\r\n:F703041234567") // echo, another unit, and the beginning
	ans, stale, drop, err := a.find(req, got)
	if ans != nil || stale != 1 || err != nil || !a.begun(req, got[drop:]) {
		t.Fatalf("%q, %d, %v", ans, stale, err)
	}
	raw := []byte{247, 3, 4, 0x12, 0x34, 0x56, 0x78}
	whole := []byte(":" + strings.ToUpper(hex.EncodeToString(append(raw, lrc(raw)))) + "\r\n")
	ans, _, _, err = a.find(req, whole)
	if err != nil || a.Verify(req, ans) != nil {
		t.Fatalf("%q, %v, %v", ans, err, a.Verify(req, ans))
	}
	if pdu, err := a.Decode(ans); err != nil || pdu.FunctionCode != 3 || !bytes.Equal(pdu.Data, raw[2:]) {
		t.Errorf("%v, %v", pdu, err)
	}
	whole[8] ^= 1
	var fe *FrameError
	if err := a.Verify(req, whole); !errors.As(err, &fe) || fe.Fault != FaultCRC {
		t.Errorf("a damaged frame gives %v", err)
	}
}

// FuzzRTU feeds anything as the answer to a request, in two parts. What is taken
// for an answer must be one.
func FuzzRTU(f *testing.F) {
	req := []byte{1, 3, 0, 0, 0, 2, 0xc4, 0x0b}
	f.Add([]byte{1, 3, 4, 0, 1, 0, 2, 0x2a, 0x32}, 3)
	f.Add([]byte{1, 0x83, 2, 0xc0, 0xf1}, 5)
	f.Add(append([]byte{0, 0xff}, req...), 4)
	f.Add([]byte{7, 3, 2, 0, 1, 0xf0, 0x44, 1, 3, 4, 0, 1}, 9)
	f.Fuzz(func(t *testing.T, got []byte, at int) {
		fuzzFraming(t, &rtu{}, req, got, at, func(ans []byte) bool {
			return crcFits(ans) && ans[0] == 1 && ans[1]&0x7f == 3
		})
	})
}

// FuzzTCP does the same to Modbus TCP.
func FuzzTCP(f *testing.F) {
	req := []byte{0, 9, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2}
	f.Add([]byte{0, 9, 0, 0, 0, 7, 1, 3, 4, 0, 1, 0, 2}, 3)
	f.Add([]byte{0, 8, 0, 0, 0, 3, 1, 0x83, 2, 0, 9, 0, 0, 0, 3, 1, 0x83, 2}, 7)
	f.Add([]byte{0, 9, 0, 1, 0, 0xff, 1, 3}, 1)
	f.Fuzz(func(t *testing.T, got []byte, at int) {
		fuzzFraming(t, &mbap{}, req, got, at, func(ans []byte) bool { return ans[0] == 0 && ans[1] == 9 && len(ans) >= 8 })
	})
}

// FuzzASCII does the same to Modbus ASCII.
func FuzzASCII(f *testing.F) {
	req := []byte(":010300000002FA\r\n")
	f.Add([]byte(":01030400010002F5\r\n"), 4)
	f.Add([]byte(":018302 7A\r\n::01\n"), 4)
	f.Fuzz(func(t *testing.T, got []byte, at int) {
		fuzzFraming(t, &ascii{}, req, got, at, func(ans []byte) bool { return ans[0] == ':' })
	})
}

func fuzzFraming(t *testing.T, fr framing, req, got []byte, at int, plausible func([]byte) bool) {
	if len(got) > 2*maxADU {
		got = got[:2*maxADU]
	}
	head := 0
	for _, end := range []int{min(max(at, 0), len(got)), len(got)} {
		ans, stale, drop, err := fr.find(req, got[head:end])
		if drop < 0 || head+drop > end || stale < 0 || stale > drop {
			t.Fatalf("drop %d, stale %d of %d bytes", drop, stale, end-head)
		}
		if err != nil {
			return
		}
		head += drop
		if ans == nil {
			fr.begun(req, got[head:end])
			_ = fr.diagnose(req, got[head:end], stale)
			continue
		}
		if !plausible(ans) {
			t.Fatalf("% x was taken for an answer", ans)
		}
		if fr.Verify(req, ans) != nil {
			return
		}
		pdu, err := fr.Decode(ans)
		if err != nil {
			t.Fatal(err)
		}
		exception := pdu.FunctionCode == 0x83 && len(pdu.Data) == 1
		if !exception && (pdu.FunctionCode != 3 || len(pdu.Data) != 5 || pdu.Data[0] != 4) {
			t.Fatalf("function %d with % x passes as the answer", pdu.FunctionCode, pdu.Data)
		}
		return
	}
}
