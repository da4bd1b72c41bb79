package buffer

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Errors that callers branch on.
var (
	// ErrLocked says that another process (or another Log of this one) has
	// the folder open.
	ErrLocked = errors.New("the log's folder is in use by another process")
	// ErrVersion says that a file was written by a newer program. Nothing is
	// touched: run that program, or move the folder away.
	ErrVersion = errors.New("written by a newer version of this program")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("the log is closed")
	// ErrNoEpoch is returned by Append before the first Begin.
	ErrNoEpoch = errors.New("no epoch has begun")
	// ErrOrder is returned by Append for a seq that is not above the last one.
	ErrOrder = errors.New("the frame's number is not above the last one")
	// ErrTooLarge is returned by Append for a frame above MaxFrame bytes,
	// attachments counted by themselves.
	ErrTooLarge = errors.New("the frame is too large for the log")
)

// MaxFrame is the largest payload, and the largest attachment, in bytes.
const MaxFrame = 1 << 20

// Epoch is an opaque tag, new at every start of the agent. The log keeps the
// order in which epochs were begun and looks at nothing inside.
type Epoch = [16]byte

// Pos is a frame's place in the log: frame Seq of Epoch. The zero Pos stands
// before everything.
type Pos struct {
	Epoch Epoch
	Seq   uint64
}

// IsZero reports whether p stands before everything.
func (p Pos) IsZero() bool { return p == Pos{} }

// String is the epoch's tag in hexadecimal, a slash and the number.
func (p Pos) String() string {
	if p.IsZero() {
		return "start"
	}
	return hex.EncodeToString(p.Epoch[:]) + "/" + strconv.FormatUint(p.Seq, 10)
}

// Range is what the log had, or may have had, and cannot give: every position
// above After and below Next.
type Range struct {
	After, Next Pos
}

// String names both ends.
func (r Range) String() string { return fmt.Sprintf("after %s, before %s", r.After, r.Next) }

// Attachment is a value that frames refer to (a schema), stored once per
// segment under its key, which should be a hash of its content.
type Attachment struct {
	Key  [16]byte
	Data []byte
}

// Record is one frame, as Read hands it out.
type Record struct {
	Pos Pos
	// Time is the t of Append: milliseconds since the Unix epoch, 0 if unknown.
	Time int64
	// Payload is valid until the callback returns.
	Payload []byte
	// Missing is not nil if frames are missing between the record before
	// (or the position asked for) and this one: evicted, corrupt, or given
	// up while the disk refused.
	Missing *Range
	// Unsure says that frames between the epoch before and this one, the first
	// of its own, may have been lost with a corrupt segment. Numbers do not tell, since
	// nobody knows how far the epoch before went.
	Unsure bool
	// Committed says that the frame is on the disk, and not only in memory.
	Committed bool
}

// Options are the log's settings. The zero value of each field means its
// default.
type Options struct {
	// MaxSize bounds the segments' bytes on the disk; default 1 GiB, at
	// least two segments.
	MaxSize int64
	// SegmentSize is the largest file; default and maximum 8 MiB, minimum
	// 64 KiB, rounded down to a power of two.
	SegmentSize int64
	// MaxAge is the age at which even unsafe frames are given up; 0 means never.
	MaxAge time.Duration
	// Keep is how long safe frames are kept for rewinds; 0 means until
	// MaxSize wants their room.
	Keep time.Duration
	// MaxPending bounds the payload bytes that wait in memory for a Commit;
	// beyond it the oldest of them are given up and counted. Default 4 MiB.
	MaxPending int64
	// Now gives the time that ages are judged by, in milliseconds since the
	// Unix epoch, on the same clock as the t of Append. While that clock is
	// not trusted it must return 0: then no age is judged. Default: always 0.
	Now func() int64
	// Logger gets a line per segment set aside, per frame run given up, and
	// when the disk starts or stops refusing. Default: none.
	Logger *slog.Logger
	// Metrics gets langbiang_edge_buffer_*; may be nil.
	Metrics prometheus.Registerer

	files fileHooks // tests replace the file functions
}
