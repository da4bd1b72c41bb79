package wire

import (
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// MarkKind says what a [Mark] marks. Receivers treat a kind that they do not
// know as an unobserved interval.
type MarkKind uint8

// The kinds of mark.
const (
	// MarkStart: the agent started at To, and had seen nothing since From, the
	// last watermark that it knew of (equal to To when it knew of none).
	MarkStart MarkKind = 1
	// MarkStall: the agent ran but did not look between From and To.
	MarkStall MarkKind = 2
	// MarkEra: log time stepped from From to To, and a new era begins with this
	// frame.
	MarkEra MarkKind = 3
)

// Mark is an unobserved interval: time in which the edge did not look. Times
// are log time in milliseconds. Windows and timers do not cross it.
type Mark struct {
	Kind     MarkKind
	From, To int64
	// Fixed says that From is on log time already although the frame is
	// untimed: Retime leaves it as it is. The last watermark of the run before
	// is such a time.
	Fixed bool
	Note  string // for people; what exceeds MaxNote bytes is cut
}

// Header is a frame without its readings.
type Header struct {
	Epoch Epoch
	Seq   uint64 // counts from 1 within the epoch
	// Prev is, in the first frame of an epoch, the last place of the epoch
	// before it; zero in the very first frame of an instance, and in all others.
	Prev   Pos
	Schema Hash
	// Era counts the eras of log time within the epoch, from 0.
	Era uint32
	// PrevW and W are the watermark before and after this frame, in log time:
	// its readings with a time in (PrevW, W] are on time. PrevW is the W of the
	// frame before in the same era; in the first frame of an era it is where
	// observing begins.
	PrevW, W int64
	// Untimed says that the clock was not trusted: all times count from the boot
	// that Boot names, and the frame must be given its true times by [Retime]
	// before it is sent. Boot stays when it has been.
	Untimed bool
	// Estimated says that nobody will ever know the true times: power went before
	// the clock was known, and the frame was given times between its neighbours. Its
	// readings are uncertain and late, its watermark counts for nothing.
	Estimated bool
	Boot      [16]byte
	Marks     []Mark

	// Count is the number of readings. Encode ignores it.
	Count int
	// Sum tells two frames with the same place apart: a checksum over all but
	// the base of the times, so that it survives Retime. Encode ignores it.
	Sum uint32
}

// Pos returns the place of the frame.
func (h *Header) Pos() Pos { return Pos{h.Epoch, h.Seq} }

// Follows reports whether a log that is known up to and including at goes on
// with this frame, nothing missing in between. Within an epoch that is the next
// number. The first frame of an epoch names in Prev what its edge had last; the
// other side may stand further on, at frames that the edge lost in a power cut
// before they were committed.
func (h *Header) Follows(at Pos) bool {
	if at.Epoch == h.Epoch {
		return h.Seq == at.Seq+1
	}
	if h.Seq != 1 {
		return false
	}
	if at.IsZero() || h.Prev.IsZero() {
		return at == h.Prev
	}
	return at.Epoch.Instance == h.Epoch.Instance && at.Epoch.Start < h.Epoch.Start &&
		at.SameLine(h.Prev) && at.Compare(h.Prev) >= 0
}

// Frame is a batch of readings of one edge.
type Frame struct {
	Header
	// Readings of one series stand together, in ascending time when decoded;
	// the order of the series is the encoder's choice. Readings given to Encode
	// may be in any order.
	Readings []telemetry.Reading
}

// Snapshot holds the last values of an edge, sent beside a backlog. It is shown
// as live, never stored, never evaluated.
type Snapshot struct {
	Epoch Epoch
	// Seq is the newest frame that the values are in; once the hub has it the
	// snapshot has served its purpose.
	Seq uint64
	// Counter counts the snapshots of an epoch: a lower one is stale.
	Counter  uint64
	Schema   Hash
	At       int64 // log time when it was made
	Readings []telemetry.Reading
}
