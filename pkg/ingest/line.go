package ingest

import (
	"slices"

	"github.com/langbiang/langbiang/pkg/wire"
)

// verdict is what to do with a frame or a gap.
type verdict uint8

const (
	next      verdict = iota // it follows: take it
	duplicate                // at or before the place: drop it, acknowledge
	hole                     // too early: drop it, ask again
	fork                     // the line has two ends: take nothing
)

// maxRuns bounds the epochs that a line remembers.
const maxRuns = 64

// run is an epoch of the line's instance.
type run struct{ start, random uint32 }

func runOf(e wire.Epoch) run { return run{e.Start, e.Random} }

// line is the hub's place in the log of one instance, and what it needs to tell
// whether a message belongs to the same log:
//
//   - A frame follows when it is the next of its epoch, or the first of a later
//     epoch whose Prev the place has reached (see [wire.Header.Follows]).
//   - A gap follows when the place has reached its After; zero is always reached.
//   - An epoch that begins no later than the place's, and is none of those that
//     were seen, comes from a copy of the log: a fork. So does another frame
//     under the place's own number.
//
// Values only; the zero line knows nothing.
type line struct {
	instance wire.Instance
	pos      wire.Pos
	hasSum   bool   // the frame at pos was seen, not skipped by a gap
	sum      uint32 // of the frame at pos
	runs     []run  // epochs in which the place was, oldest first, the last is pos's
}

// knowledge is what a line can say about an epoch.
type knowledge uint8

const (
	stranger knowledge = iota // cannot belong to this log
	familiar                  // part of it
	unjudged                  // later than the place, or before what is remembered
)

func (l *line) about(e wire.Epoch) knowledge {
	r := runOf(e)
	for _, k := range l.runs {
		if k == r {
			return familiar
		}
		if k.start == r.start {
			return stranger
		}
	}
	if len(l.runs) == 0 || r.start < l.runs[0].start || r.start > l.pos.Epoch.Start {
		return unjudged
	}
	return stranger
}

// frame judges a frame of the line's instance.
func (l *line) frame(h *wire.Header) verdict {
	if h.Epoch == l.pos.Epoch {
		switch {
		case h.Seq == l.pos.Seq && l.hasSum && h.Sum != l.sum:
			return fork
		case h.Seq <= l.pos.Seq:
			return duplicate
		case h.Seq == l.pos.Seq+1:
			return next
		}
		return hole
	}
	if !l.pos.IsZero() && h.Epoch.Start <= l.pos.Epoch.Start {
		if l.about(h.Epoch) == stranger {
			return fork
		}
		return duplicate
	}
	if !l.pos.IsZero() && !h.Prev.IsZero() && l.about(h.Prev.Epoch) == stranger {
		return fork
	}
	if h.Follows(l.pos) {
		return next
	}
	return hole
}

// gap judges a gap whose Next is of the line's instance.
func (l *line) gap(g *wire.Gap) verdict {
	taken := g.Taken()
	if l.pos.IsZero() {
		// Only the edge's word that nothing at all comes before: a gap from the
		// middle of its log may have overtaken the frames before it.
		if g.After.IsZero() {
			return next
		}
		return hole
	}
	switch l.about(taken.Epoch) {
	case stranger:
		return fork
	case familiar, unjudged:
	}
	if taken.Compare(l.pos) <= 0 {
		return duplicate
	}
	if g.After.IsZero() {
		return next // the edge's log begins after the hub's place
	}
	if g.After.Epoch.Instance != l.instance || l.about(g.After.Epoch) == stranger {
		return fork
	}
	if l.pos.Compare(g.After) >= 0 {
		return next
	}
	return hole
}

// take moves the place to a frame.
func (l *line) take(h *wire.Header) {
	l.move(h.Pos())
	l.hasSum, l.sum = true, h.Sum
}

// skip moves the place over a gap. What lies between is not known: the line
// remembers epochs from here on only.
func (l *line) skip(to wire.Pos) {
	if to.Epoch != l.pos.Epoch {
		l.runs = l.runs[:0]
	}
	l.move(to)
	l.hasSum, l.sum = false, 0
}

func (l *line) move(to wire.Pos) {
	if to.Epoch != l.pos.Epoch || len(l.runs) == 0 {
		if len(l.runs) == maxRuns {
			l.runs = slices.Delete(l.runs, 0, 1)
		}
		l.runs = append(l.runs, runOf(to.Epoch))
	}
	l.pos = to
}

// begin forgets everything and starts the line of another instance.
func (l *line) begin(i wire.Instance) { *l = line{instance: i} }
