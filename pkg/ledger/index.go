package ledger

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// An index key is the start of an alert and its id, so that the order of the
// bucket is that of time and ids are unique within it:
//
//	start i64, sign bit flipped, big endian | id
//
// An index value holds what lists filter by and what counts and statistics are
// made of, so that no alert has to be decoded for them:
//
//	2: flags u8 | severity u8 | held u8 | end i64 | activations u32 |
//	   len u16 site | len u16 rule | len u16 series
//
// End is MaxInt64 while the alert is active. The first byte is the version of
// the value; version 1 is written anew when a ledger of format 1 is opened.
type indexValue struct {
	active, acknowledged, chattering, test bool
	silent                                 bool // it was held when it was raised
	severity                               alert.Severity
	held                                   alert.ISAState // what holds it now
	end                                    int64
	activations                            uint32
	site, rule, series                     string
}

const indexVersion = 2

const (
	flagActive = 1 << iota
	flagAcknowledged
	flagChattering
	flagTest
	flagSilent
)

// heldStates are stored as their index: never reorder.
var heldStates = [...]alert.ISAState{"", alert.ShelvedState, alert.SuppressedState, alert.OutOfServiceState}

func timeKey(ms int64) [8]byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(ms)^(1<<63))
	return b
}

func keyTime(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ (1 << 63)) }

func indexKey(start int64, id string) []byte {
	t := timeKey(start)
	return append(t[:], id...)
}

func indexOf(a *alert.Alert) indexValue {
	v := indexValue{
		active: a.State == alert.Active, acknowledged: a.Acknowledged, chattering: a.Chattering, test: a.Test,
		severity: a.Severity, held: a.Held(), end: math.MaxInt64, activations: uint32(max(0, min(a.Activations, math.MaxInt32))),
		site: a.Site, rule: a.Rule, series: alert.SeriesKey(a.Edge, a.Device, a.Point),
	}
	if a.End != nil {
		v.end = a.End.UnixMilli()
	}
	return v
}

// standing is the alert's state by ISA-18.2, as [alert.Alert.Standing].
func (v *indexValue) standing() alert.ISAState {
	a := alert.Alert{State: alert.Cleared, Acknowledged: v.acknowledged}
	if v.active {
		a.State = alert.Active
	}
	switch v.held {
	case alert.OutOfServiceState:
		a.OutOfService = true
	case alert.SuppressedState:
		a.Suppressed = string(alert.SuppressedState)
	case alert.ShelvedState:
		a.ShelvedUntil = &time.Time{}
	}
	return a.Standing()
}

func (v *indexValue) encode() []byte {
	flags, held := byte(0), byte(0)
	for i, on := range []bool{v.active, v.acknowledged, v.chattering, v.test, v.silent} {
		if on {
			flags |= 1 << i
		}
	}
	for i, s := range heldStates {
		if s == v.held {
			held = byte(i)
		}
	}
	b := []byte{indexVersion, flags, byte(v.severity), held}
	b = binary.BigEndian.AppendUint64(b, uint64(v.end))
	b = binary.BigEndian.AppendUint32(b, v.activations)
	for _, s := range []string{v.site, v.rule, v.series} {
		s = s[:min(len(s), 1024)]
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return b
}

func decodeIndex(b []byte) (v indexValue, ok bool) {
	if len(b) < 16 || b[0] != indexVersion || int(b[3]) >= len(heldStates) {
		return v, false
	}
	f := b[1]
	v.active, v.acknowledged, v.chattering, v.test, v.silent = f&flagActive != 0, f&flagAcknowledged != 0, f&flagChattering != 0, f&flagTest != 0, f&flagSilent != 0
	v.severity, v.held, v.end, v.activations = alert.Severity(b[2]), heldStates[b[3]], int64(binary.BigEndian.Uint64(b[4:])), binary.BigEndian.Uint32(b[12:])
	b = b[16:]
	for _, s := range []*string{&v.site, &v.rule, &v.series} {
		if len(b) < 2 {
			return v, false
		}
		n := int(binary.BigEndian.Uint16(b))
		if n > 1024 || len(b) < 2+n {
			return v, false
		}
		*s = string(b[2 : 2+n])
		b = b[2+n:]
	}
	return v, true
}

// indexEnd reads the end from an encoded index value, and nothing else.
func indexEnd(b []byte) int64 {
	if len(b) < 16 {
		return math.MinInt64
	}
	return int64(binary.BigEndian.Uint64(b[4:]))
}

func cursorString(key []byte) string { return hex.EncodeToString(key) }

func parseCursor(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) < 9 {
		return nil, ErrCursor
	}
	return b, nil
}
