package wire

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Gap declares that the frames between After and Next, both excluded, are not
// to come. It travels on the frame topic, in order with the frames. A hub that
// stands at After and takes it stands just before Next (same epoch, Seq-1; Seq
// 0 is the place before an epoch's first frame), and goes on from there.
type Gap struct {
	After, Next Pos
	Reason      string // for people; what exceeds MaxNote bytes is cut
}

// Taken is where a hub stands once it has taken the gap.
func (g *Gap) Taken() Pos { return Pos{g.Next.Epoch, g.Next.Seq - 1} }

// Status is what the hub thinks of an edge.
type Status uint8

// The statuses of an acknowledgement.
const (
	StatusOK      Status = 0
	StatusHole    Status = 1 // frames are missing after Got: send again from there
	StatusClock   Status = 2 // a reading is more than 10 min ahead of the hub's clock
	StatusFork    Status = 3 // the hub has another frame under the same number, or more than the edge
	StatusClone   Status = 4 // another instance with the same id is active
	StatusVersion Status = 5 // the hub cannot read the edge's format
	StatusRefused Status = 6 // see Reason
)

// String returns the status as one word.
func (s Status) String() string {
	names := [...]string{"ok", "hole", "clock", "fork", "clone", "version", "refused"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status_%d", uint8(s))
}

// Ack is what the hub tells an edge: how far it has got, and how much more may
// be on its way.
type Ack struct {
	Status Status
	// Instance is the addressee; others with the same edge id ignore the ack.
	Instance Instance
	// Got is the last place evaluated, Safe the last one under a checkpoint on
	// disk. Zero: nothing.
	Got, Safe Pos
	// Credit is how many bytes of messages may be under way after Got.
	Credit uint32
	// HubTime is the hub's clock when the ack was made, in milliseconds.
	HubTime int64
	// Nonce repeats that of the hello which this ack answers, and is 0 in all
	// others. Only an answer is known to be made after the hello was sent.
	Nonce uint64
	// Need asks for a schema when it is not zero.
	Need Hash
	// Reason is for people; what exceeds MaxNote bytes is cut.
	Reason string
}

// EncodeGap appends the encoded gap to dst. It fails with ErrInvalid when
// there is no Next.
func EncodeGap(dst []byte, g *Gap) ([]byte, error) {
	if g.Next.Epoch.IsZero() || g.Next.Seq == 0 {
		return dst, fmt.Errorf("%w: gap without a next frame", ErrInvalid)
	}
	start := len(dst)
	out := begin(dst, KindGap)
	out = appendEpoch(out, g.After.Epoch)
	out = appendUvarint(out, g.After.Seq)
	out = appendEpoch(out, g.Next.Epoch)
	out = appendUvarint(out, g.Next.Seq)
	out = appendText(out, cut(g.Reason))
	out = append(out, 0) // no extension
	return seal(out, start)
}

// DecodeGap decodes payload into g. Errors: ErrCorrupt, ErrVersion.
func DecodeGap(payload []byte, g *Gap) error {
	*g = Gap{}
	body, err := open(payload, KindGap)
	if err != nil {
		return err
	}
	r := reader{b: body, kind: KindGap}
	g.After.Epoch = r.epoch()
	g.After.Seq = r.uvarint()
	g.Next.Epoch = r.epoch()
	g.Next.Seq = r.uvarint()
	g.Reason = r.text(MaxNote, "reason")
	r.extension()
	if r.err == nil && (g.Next.Epoch.IsZero() || g.Next.Seq == 0) {
		r.fail("it has no next frame")
	}
	return r.end()
}

// The bits of an acknowledgement's flags.
const (
	ackGot       = 0x01 // an epoch and a sequence follow
	ackSafe      = 0x02 // likewise
	ackSafeEpoch = 0x04 // of Safe only the sequence: its epoch is Got's
	ackNonce     = 0x08
	ackNeed      = 0x10
	ackReason    = 0x20
	ackExtension = 0x40
	ackKnown     = 0x7f
)

// EncodeAck appends the encoded acknowledgement to dst.
func EncodeAck(dst []byte, a *Ack) ([]byte, error) {
	start := len(dst)
	out := begin(dst, KindAck)
	out = append(out, byte(a.Status), 0)
	out = append(out, a.Instance[:]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(a.HubTime))
	out = appendUvarint(out, uint64(a.Credit))
	var flags byte
	if !a.Got.IsZero() {
		flags |= ackGot
		out = appendEpoch(out, a.Got.Epoch)
		out = appendUvarint(out, a.Got.Seq)
	}
	if !a.Safe.IsZero() {
		flags |= ackSafe
		if flags&ackGot != 0 && a.Safe.Epoch == a.Got.Epoch {
			flags |= ackSafeEpoch
		} else {
			out = appendEpoch(out, a.Safe.Epoch)
		}
		out = appendUvarint(out, a.Safe.Seq)
	}
	if a.Nonce != 0 {
		flags |= ackNonce
		out = binary.LittleEndian.AppendUint64(out, a.Nonce)
	}
	if !a.Need.IsZero() {
		flags |= ackNeed
		out = append(out, a.Need[:]...)
	}
	if a.Reason != "" {
		flags |= ackReason
		out = appendText(out, cut(a.Reason))
	}
	out[start+envelopeSize+1] = flags
	return seal(out, start)
}

// DecodeAck decodes payload into a. Errors: ErrCorrupt, ErrVersion.
func DecodeAck(payload []byte, a *Ack) error {
	*a = Ack{}
	body, err := open(payload, KindAck)
	if err != nil {
		return err
	}
	r := reader{b: body, kind: KindAck}
	a.Status = Status(r.u8())
	flags := r.u8()
	if flags&^ackKnown != 0 {
		r.unknown("flags", int(flags))
	}
	copy(a.Instance[:], r.bytes(len(a.Instance)))
	a.HubTime = int64(r.u64())
	a.Credit = r.u32("credit")
	if flags&ackGot != 0 {
		a.Got = Pos{r.epoch(), r.uvarint()}
	}
	if flags&ackSafe != 0 {
		if flags&ackSafeEpoch != 0 {
			a.Safe.Epoch = a.Got.Epoch
		} else {
			a.Safe.Epoch = r.epoch()
		}
		a.Safe.Seq = r.uvarint()
	}
	if flags&ackNonce != 0 {
		a.Nonce = r.u64()
	}
	if flags&ackNeed != 0 {
		a.Need = r.hash()
	}
	if flags&ackReason != 0 {
		a.Reason = r.text(MaxNote, "reason")
	}
	if flags&ackExtension != 0 {
		r.extension()
	}
	return r.end()
}

// cut shortens s to MaxNote bytes, at a whole character.
func cut(s string) string { return cutTo(s, MaxNote) }

func cutTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > 0 {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
			return s
		}
		s = s[:len(s)-1]
	}
	return s
}
