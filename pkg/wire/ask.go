package wire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Bounds of a question and of a piece of its answer.
const (
	// MaxAsk bounds the document of a question, in bytes.
	MaxAsk = 8 << 10
	// MaxArgs and MaxArg bound the arguments of a question, and each in bytes.
	MaxArgs = 16
	MaxArg  = 256
	// MaxAnswerText bounds the text of one answer, in bytes.
	MaxAnswerText = 64 << 10
	// MaxAnswer bounds one answer as it travels, in bytes.
	MaxAnswer = 16 << 10
)

// AskID names a question; the hub draws it.
type AskID [8]byte

// String returns 16 hexadecimal digits.
func (id AskID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id AskID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *AskID) UnmarshalText(b []byte) error { return unhex(id[:], b, "id") }

// Ask is a question of the hub to an agent, for people: it changes nothing there. The
// same document, sent again, acknowledges pieces of the answer and asks for those
// that were lost; an agent that knows the id does not begin anew.
type Ask struct {
	V    int               `json:"v"`
	ID   AskID             `json:"id"`
	Kind string            `json:"kind"` // what is asked: doctor, status, ...
	Args map[string]string `json:"args,omitempty"`
	// For is how long the answer may take, in ms, from when the question arrives: the
	// clocks of both may differ.
	For uint32 `json:"for"`
	// Who asks, for the agent's log.
	Who string `json:"who,omitempty"`
	// Have counts the pieces that the hub has, from the first, without a hole.
	Have uint32 `json:"have,omitempty"`
	// Again asks for the pieces after Have once more.
	Again bool `json:"again,omitempty"`
	// Stop ends it: nobody waits any more.
	Stop bool `json:"stop,omitempty"`
}

// EncodeAsk returns the document. It fails with ErrTooLarge, and with ErrInvalid when
// an argument is too long or there are too many.
func EncodeAsk(a *Ask) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	b, err := encodeJSON(a, MaxJSON)
	if err == nil && len(b) > MaxAsk {
		err = fmt.Errorf("%w: question of %d bytes, at most %d", ErrTooLarge, len(b), MaxAsk)
	}
	return b, err
}

// DecodeAsk decodes the document. Fields that it does not know are ignored.
func DecodeAsk(payload []byte, a *Ask) error {
	*a = Ask{}
	if len(payload) > MaxAsk {
		return &CorruptError{What: "a question is longer than it may be"}
	}
	if err := decodeJSON(payload, a, &a.V, "question", MaxJSON); err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return &CorruptError{What: err.Error()}
	}
	return nil
}

func (a *Ask) check() error {
	long := len(a.Kind) > MaxArg || len(a.Who) > MaxArg
	for name, value := range a.Args {
		long = long || len(name) > MaxArg || len(value) > MaxArg
	}
	if long || len(a.Args) > MaxArgs {
		return fmt.Errorf("a question has more than %d arguments, or one of more than %d bytes", MaxArgs, MaxArg)
	}
	return nil
}

// AnswerStatus says what follows an answer.
type AnswerStatus uint8

// The statuses of an answer. All but the first end it.
const (
	AnswerMore    AnswerStatus = 0 // to be continued
	AnswerDone    AnswerStatus = 1 // that was all
	AnswerFailed  AnswerStatus = 2 // that was all, and Note says what is wrong
	AnswerRefused AnswerStatus = 3 // the agent does not answer this; Note says why
	AnswerLost    AnswerStatus = 4 // the agent does not know the question: it was started anew meanwhile
)

// Answer is a piece of what an agent answers to a question. One that has no text and
// says AnswerMore is no piece: the agent is alive and has nothing new.
type Answer struct {
	ID AskID
	// Run tells apart two agents that answer the same question.
	Run    uint32
	Status AnswerStatus
	// Metered says that bytes cost money on the agent's link.
	Metered bool
	// Truncated says that the answer was longer than an answer may be.
	Truncated bool
	Seq       uint32 // of the piece, from 0
	Text      string
	// Note is one line for people; what exceeds MaxNote bytes is cut.
	Note string
}

// Beat reports whether this is no piece of the text, but a sign of life.
func (a *Answer) Beat() bool { return a.Status == AnswerMore && a.Text == "" }

// The bits of an answer's flags.
const (
	answerMetered   = 0x01
	answerTruncated = 0x02
	answerPacked    = 0x04
	answerExtension = 0x20
	answerKnown     = 0x27
)

// AnswerCoder encodes and decodes answers. It keeps scratch memory, and is not for
// concurrent use. The zero value is ready.
type AnswerCoder struct {
	in, out []byte
	z       *zstd.Encoder
	d       *zstd.Decoder
}

// Encode appends the encoded answer to dst. It fails with ErrTooLarge when the text,
// or what becomes of it, is above its bound: it can be split.
func (c *AnswerCoder) Encode(dst []byte, a *Answer) ([]byte, error) {
	if len(a.Text) > MaxAnswerText {
		return dst, fmt.Errorf("%w: answer of %d bytes, at most %d", ErrTooLarge, len(a.Text), MaxAnswerText)
	}
	start := len(dst)
	out := begin(dst, KindAnswer)
	out = append(out, a.ID[:]...)
	out = binary.LittleEndian.AppendUint32(out, a.Run)
	out = append(out, byte(a.Status), 0)
	flags := &out[len(out)-1]
	if a.Metered {
		*flags |= answerMetered
	}
	if a.Truncated {
		*flags |= answerTruncated
	}
	packed := c.pack(a.Text)
	if packed != nil {
		*flags |= answerPacked
	}
	out = appendUvarint(out, uint64(a.Seq))
	out = appendText(out, cut(a.Note))
	out = appendUvarint(out, uint64(len(a.Text)))
	if packed != nil {
		out = append(out, packed...)
	} else {
		out = append(out, a.Text...)
	}
	if len(out)-start > MaxAnswer {
		return dst, fmt.Errorf("%w: answer of %d bytes, at most %d", ErrTooLarge, len(out)-start, MaxAnswer)
	}
	return seal(out, start)
}

// pack returns the text compressed, or nil when that does not pay.
func (c *AnswerCoder) pack(text string) []byte {
	if len(text) < compressFrom {
		return nil
	}
	if c.z == nil {
		var err error
		c.z, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
			zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(MaxAnswerText))
		if err != nil {
			return nil // only wrong options fail
		}
	}
	c.in = append(c.in[:0], text...)
	c.out = c.z.EncodeAll(c.in, c.out[:0])
	if len(c.out) >= len(text) {
		return nil
	}
	return c.out
}

// Decode decodes payload into a. Errors: ErrCorrupt, ErrVersion.
func (c *AnswerCoder) Decode(payload []byte, a *Answer) error {
	*a = Answer{}
	if len(payload) > MaxAnswer {
		return &CorruptError{Kind: KindAnswer, What: "longer than an answer may be"}
	}
	body, err := open(payload, KindAnswer)
	if err != nil {
		return err
	}
	r := reader{b: body, kind: KindAnswer}
	copy(a.ID[:], r.bytes(len(a.ID)))
	if b := r.bytes(4); b != nil {
		a.Run = binary.LittleEndian.Uint32(b)
	}
	a.Status = AnswerStatus(r.u8())
	flags := r.u8()
	if flags&^answerKnown != 0 {
		r.unknown("flags", int(flags))
	}
	if a.Status > AnswerLost {
		r.unknown("status", int(a.Status))
	}
	a.Metered, a.Truncated = flags&answerMetered != 0, flags&answerTruncated != 0
	a.Seq = r.u32("seq")
	a.Note = r.text(MaxNote, "note")
	if flags&answerExtension != 0 {
		r.extension()
	}
	size := r.count(MaxAnswerText, "text")
	if r.err != nil {
		return r.err
	}
	if flags&answerPacked == 0 {
		a.Text = string(r.bytes(size))
		return r.end()
	}
	if c.d == nil {
		if c.d, err = newZstdDecoder(MaxAnswerText); err != nil {
			return err
		}
	}
	a.Text = string(unzstd(&r, c.d, &c.out, size))
	return r.err
}
