package feed

import (
	"slices"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Log is the alert log as it is read. All methods are safe for concurrent use
// and show only what is on disk.
type Log interface {
	// Generations returns all generations of the log, oldest first; there is one at least.
	Generations() []alert.Generation
	// FirstSequence is the oldest entry still kept, LastSequence the newest, 0 when
	// there was none. When nothing is kept, the first is 0 or follows the last.
	FirstSequence() uint64
	LastSequence() uint64
	// Entries returns up to limit entries with a sequence above after, in order.
	Entries(after uint64, limit int) ([]alert.Entry, error)
	// Changed returns a channel that is closed at the next new entry.
	Changed() <-chan struct{}
}

// NoticeKind says what a consumer must be told.
type NoticeKind string

// The notices.
const (
	Trimmed       NoticeKind = "trimmed"
	NewGeneration NoticeKind = "generation"
)

// Notice tells a consumer that it does not get what follows on its position.
type Notice struct {
	Kind       NoticeKind
	Generation string // the present one
	First      uint64 // sequence that is given next
}

// Batch is what follows: notices first, then entries.
type Batch struct {
	Notices []Notice
	Entries []alert.Entry
	More    bool // the next call has more at once
}

// Reader walks over the log.
type Reader struct {
	log     Log
	at      Position // where it reads on
	told    Position // what it has returned
	notices []Notice
}

// Newest is the position at which only what is new follows.
func Newest(log Log) Position {
	return positionAt(log.Generations(), log.LastSequence())
}

// oldest is the sequence before the first that is kept.
func oldest(log Log) uint64 {
	if first := log.FirstSequence(); first > 0 {
		return first - 1
	}
	return 0
}

// positionAt names a sequence with the generation that it belongs to.
func positionAt(gs []alert.Generation, seq uint64) Position {
	p := Position{gs[0].ID, seq}
	for _, g := range gs[1:] {
		if g.First <= seq {
			p.Generation = g.ID
		}
	}
	return p
}

// NewReader begins after the position; the zero value begins at the oldest entry.
func NewReader(log Log, from Position) *Reader {
	gs := log.Generations()
	before := oldest(log)
	if from == (Position{}) {
		at := positionAt(gs, before)
		return &Reader{log: log, at: at, told: at}
	}
	r := &Reader{log: log, at: from, told: from}
	notice := func(kind NoticeKind, after uint64) {
		r.at = positionAt(gs, after)
		r.notices = append(r.notices, Notice{kind, gs[len(gs)-1].ID, after + 1})
	}
	i := slices.IndexFunc(gs, func(g alert.Generation) bool { return g.ID == from.Generation })
	switch {
	case i < 0, i == len(gs)-1 && from.Sequence > log.LastSequence():
		notice(NewGeneration, before)
	case i < len(gs)-1 && from.Sequence >= gs[i+1].First:
		notice(NewGeneration, max(before, gs[i+1].First-1))
	case from.Sequence < before:
		notice(Trimmed, before)
	}
	return r
}

// Position is after everything that Next has returned, notices included.
func (r *Reader) Position() Position { return r.told }

// Next returns up to limit entries after the position, none when nothing new is
// there. The entries share memory with other readers and must not be changed.
// The error is the log's own.
func (r *Reader) Next(limit int) (Batch, error) {
	b := Batch{Notices: r.notices}
	entries, err := r.log.Entries(r.at.Sequence, limit)
	if err != nil {
		return Batch{}, err
	}
	r.notices = nil
	for i := range entries {
		// Entries have no holes but the one that trimming leaves before the first.
		if e := &entries[i]; e.Sequence != r.at.Sequence+1 && r.at.Sequence > 0 {
			b.Notices = append(b.Notices, Notice{Trimmed, e.Generation, e.Sequence})
		}
		r.at = Position{entries[i].Generation, entries[i].Sequence}
	}
	r.told = r.at
	b.Entries, b.More = entries, len(entries) == limit
	return b, nil
}
