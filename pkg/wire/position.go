package wire

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Instance names one installation of an agent, for as long as its data folder
// lives. Another instance with the same edge id is a clone or a reinstallation.
type Instance [8]byte

// String returns 16 hexadecimal digits.
func (i Instance) String() string { return hex.EncodeToString(i[:]) }

// MarshalText implements encoding.TextMarshaler.
func (i Instance) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *Instance) UnmarshalText(b []byte) error { return unhex(i[:], b, "instance") }

// Epoch is one run of an agent. Start counts the agent's starts within an
// instance and orders its epochs; Random tells apart two runs that carry the
// same count because a disk image was restored.
type Epoch struct {
	Instance Instance
	Start    uint32
	Random   uint32
}

// Bytes returns the 16 bytes that stand on the wire: instance, start and random
// little endian.
func (e Epoch) Bytes() (b [16]byte) {
	copy(b[:], e.Instance[:])
	binary.LittleEndian.PutUint32(b[8:], e.Start)
	binary.LittleEndian.PutUint32(b[12:], e.Random)
	return b
}

// EpochFrom is the inverse of [Epoch.Bytes].
func EpochFrom(b [16]byte) Epoch {
	return Epoch{
		Instance: Instance(b[:8]),
		Start:    binary.LittleEndian.Uint32(b[8:]),
		Random:   binary.LittleEndian.Uint32(b[12:]),
	}
}

// IsZero reports whether this is no epoch at all.
func (e Epoch) IsZero() bool { return e == Epoch{} }

// String returns the 32 hexadecimal digits of the bytes on the wire.
func (e Epoch) String() string {
	b := e.Bytes()
	return hex.EncodeToString(b[:])
}

// MarshalText implements encoding.TextMarshaler.
func (e Epoch) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Epoch) UnmarshalText(t []byte) error {
	var b [16]byte
	if err := unhex(b[:], t, "epoch"); err != nil {
		return err
	}
	*e = EpochFrom(b)
	return nil
}

// Pos is a place in the log of an edge: "up to and including this frame". The
// frames of an epoch count from 1, so Seq 0 is the place before its first. The
// zero Pos is before everything.
type Pos struct {
	Epoch Epoch  `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// IsZero reports whether p is before everything.
func (p Pos) IsZero() bool { return p == Pos{} }

// Compare orders the places of one instance: by start count, then by sequence.
// The zero Pos comes first. Places of different instances, or of epochs with
// the same start count but another random, are in no order that means anything:
// see [Pos.SameLine].
func (p Pos) Compare(q Pos) int {
	if p.IsZero() || q.IsZero() {
		return cmp.Compare(b2i(!p.IsZero()), b2i(!q.IsZero()))
	}
	return cmp.Or(
		cmp.Compare(p.Epoch.Start, q.Epoch.Start),
		cmp.Compare(p.Epoch.Random, q.Epoch.Random),
		cmp.Compare(p.Seq, q.Seq),
	)
}

// SameLine reports whether the two places can belong to one linear log, so that
// Compare means something.
func (p Pos) SameLine(q Pos) bool {
	if p.IsZero() || q.IsZero() || p.Epoch == q.Epoch {
		return true
	}
	return p.Epoch.Instance == q.Epoch.Instance && p.Epoch.Start != q.Epoch.Start
}

// String returns for example "a1b2c3d4e5f60718/12:345": instance, start count,
// sequence.
func (p Pos) String() string {
	if p.IsZero() {
		return "the beginning"
	}
	return fmt.Sprintf("%v/%d:%d", p.Epoch.Instance, p.Epoch.Start, p.Seq)
}

// Hash names a schema: the first 16 bytes of the SHA-256 of its encoding before
// compression.
type Hash [16]byte

// IsZero reports whether this names no schema.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns 32 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(b []byte) error { return unhex(h[:], b, "hash") }

func unhex(dst, text []byte, what string) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%w: %s of %d digits, want %d", ErrInvalid, what, len(text), 2*len(dst))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, what, err)
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
