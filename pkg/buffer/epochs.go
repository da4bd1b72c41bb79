package buffer

import "slices"

// epochTable is what is known of epochs, by ordinal. Not for concurrent use.
type epochTable []epoch

func (t epochTable) find(ord uint32) (int, bool) {
	return slices.BinarySearchFunc(t, ord, func(e epoch, ord uint32) int { return int(int64(e.ord) - int64(ord)) })
}

// add enters an epoch and reports whether it is new.
func (t *epochTable) add(e epoch) bool {
	i, found := t.find(e.ord)
	if !found {
		*t = slices.Insert(*t, i, e)
	}
	return !found
}

// of finds an ordinal's entry.
func (t epochTable) of(ord uint32) (epoch, bool) {
	i, found := t.find(ord)
	if !found {
		return epoch{}, false
	}
	return t[i], true
}

// public is a position as callers know it; zero when the epoch is not known.
func (t epochTable) public(p pos) Pos {
	e, ok := t.of(p.ord)
	if !ok {
		return Pos{}
	}
	return Pos{e.tag, p.seq}
}

// missing reports whether the log ever had, or may have had, frames between two
// positions.
func (t epochTable) missing(p, next pos) bool {
	if p.ord == next.ord {
		return next.seq != p.seq+1
	}
	if next.seq != 1 {
		return true
	}
	for i := len(t) - 1; i >= 0 && t[i].ord > p.ord; i-- {
		if t[i].ord <= next.ord && t[i].lost {
			return true
		}
	}
	e, ok := t.of(next.ord)
	return !ok || p.less(e.prev)
}

// unsure reports whether frames right before the first of an epoch may have been
// lost: with a segment found corrupt before it began, or before one of those that
// never had a frame.
func (t epochTable) unsure(p pos) bool {
	if p.seq != 1 {
		return false
	}
	this, ok := t.of(p.ord)
	for i := len(t) - 1; ok && i >= 0; i-- {
		if t[i].ord <= p.ord && t[i].prev == this.prev && t[i].lost {
			return true
		}
	}
	return false
}
