package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Version is the format that this package writes.
const Version = 1

// Limits, enforced by the encoders and by the decoders.
const (
	// MaxFrame bounds every binary message, envelope included, in bytes. It is
	// well under half of what the hub's bus takes.
	MaxFrame = 256 << 10
	// MaxReadings bounds the readings of one frame or snapshot.
	MaxReadings = 1 << 17
	// MaxBlock bounds the decompressed block of a frame or snapshot, in bytes.
	MaxBlock = 1 << 20
	// MaxSchema bounds a decompressed schema, in bytes.
	MaxSchema = 4 << 20
	// MaxJSON bounds the JSON documents hello and state, in bytes.
	MaxJSON = 64 << 10
	// MaxMarks bounds the marks of a frame.
	MaxMarks = 64
	// MaxNote bounds a mark's note and every reason, in bytes.
	MaxNote = 256
)

// Kind tells the binary messages apart.
type Kind uint8

// The kinds of message.
const (
	KindFrame    Kind = 1
	KindSchema   Kind = 2
	KindGap      Kind = 3
	KindAck      Kind = 4
	KindSnapshot Kind = 5
	KindJoined   Kind = 6 // consecutive frames of a backlog
	KindBands    Kind = 7
	KindAnswer   Kind = 8
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindFrame:
		return "frame"
	case KindSchema:
		return "schema"
	case KindGap:
		return "gap"
	case KindAck:
		return "ack"
	case KindSnapshot:
		return "snapshot"
	case KindJoined:
		return "joined"
	case KindBands:
		return "bands"
	case KindAnswer:
		return "answer"
	}
	return fmt.Sprintf("kind_%d", uint8(k))
}

// What callers branch on.
var (
	// ErrCorrupt is in every [CorruptError].
	ErrCorrupt = errors.New("wire: corrupt message")
	// ErrVersion says that the message is whole but newer than this package:
	// its version, its kind or an encoding in it is unknown.
	ErrVersion = errors.New("wire: unknown version")
	// ErrTooLarge says that what was to be encoded exceeds a limit. A frame can
	// be split into several.
	ErrTooLarge = errors.New("wire: too large")
	// ErrInvalid says that what was to be encoded is not allowed in the format.
	ErrInvalid = errors.New("wire: invalid")
)

// CorruptError says what does not hold in a message. Its text is for logs; it
// never holds bytes of the message.
type CorruptError struct {
	Kind Kind   // 0 when the envelope is at fault
	What string // what does not hold
}

// Error implements error.
func (e *CorruptError) Error() string {
	if e.Kind == 0 {
		return "wire: corrupt message: " + e.What
	}
	return "wire: corrupt " + e.Kind.String() + ": " + e.What
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

const envelopeSize = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Peek checks the envelope (magic, length, checksum, version, known kind) and
// returns the kind. Every decoder of this package does the same first.
func Peek(payload []byte) (Kind, error) {
	if len(payload) < envelopeSize {
		return 0, &CorruptError{What: "shorter than its envelope"}
	}
	if payload[0] != 'L' || payload[1] != 'B' {
		return 0, &CorruptError{What: "does not begin with LB"}
	}
	if len(payload) > MaxFrame {
		return 0, &CorruptError{What: "longer than a message may be"}
	}
	if binary.LittleEndian.Uint32(payload[4:]) != checksum(payload) {
		return 0, &CorruptError{What: "the checksum is wrong"}
	}
	if payload[2] != Version {
		return 0, fmt.Errorf("%w: message has version %d, this program reads %d", ErrVersion, payload[2], Version)
	}
	k := Kind(payload[3])
	if k < KindFrame || k > KindAnswer {
		return k, fmt.Errorf("%w: message of %v", ErrVersion, k)
	}
	return k, nil
}

// checksum is over version, kind and body.
func checksum(payload []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, payload[2:4]), castagnoli, payload[envelopeSize:])
}

// open checks the envelope and the kind, and returns the body.
func open(payload []byte, want Kind) ([]byte, error) {
	k, err := Peek(payload)
	if err != nil {
		return nil, err
	}
	if k != want {
		return nil, &CorruptError{Kind: want, What: "it is a " + k.String()}
	}
	return payload[envelopeSize:], nil
}

// begin appends an envelope whose checksum is still open.
func begin(dst []byte, k Kind) []byte {
	return append(dst, 'L', 'B', Version, byte(k), 0, 0, 0, 0)
}

// seal fills in the checksum of the message that starts at dst[start:].
func seal(dst []byte, start int) ([]byte, error) {
	msg := dst[start:]
	if len(msg) > MaxFrame {
		return dst[:start], fmt.Errorf("%w: message of %d bytes, at most %d", ErrTooLarge, len(msg), MaxFrame)
	}
	binary.LittleEndian.PutUint32(msg[4:], checksum(msg))
	return dst, nil
}
