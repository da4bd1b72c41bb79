package buffer

import (
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// retain evicts segments from the log's beginning: safe ones older than Keep,
// any older than MaxAge, and as many as MaxSize wants. Since the safe frames
// are the oldest, they go first. The active segment stays. The caller holds
// writeMu, or is Open.
func (l *Log) retain() {
	now := l.opt.Now()
	for {
		l.mu.Lock()
		seg, why := l.evictable(now)
		l.mu.Unlock()
		if seg == nil {
			return
		}
		l.evict(seg, why)
	}
}

// evictable names the first segment if it must go. The caller holds mu.
func (l *Log) evictable(now int64) (seg *segment, why string) {
	if len(l.segs) == 0 || l.segs[0].active {
		return nil, ""
	}
	s := l.segs[0]
	older := func(ms int64) bool { return ms > 0 && now > 0 && s.sum.tmax > 0 && now-s.sum.tmax > ms }
	total := int64(0)
	for _, s := range l.segs {
		total += s.size
	}
	switch {
	case s.sum.frames == 0:
		return s, "empty"
	case !l.safe.less(s.sum.last) && older(l.opt.Keep.Milliseconds()):
		return s, "safe and kept long enough"
	case older(l.opt.MaxAge.Milliseconds()):
		return s, "older than max_age"
	case total > l.opt.MaxSize:
		return s, "the log has reached max_size"
	}
	return nil, ""
}

// evictSafe makes room on a full disk: it evicts the first segment if all of
// it is safe.
func (l *Log) evictSafe() bool {
	l.mu.Lock()
	if len(l.segs) == 0 || l.segs[0].active || l.safe.less(l.segs[0].sum.last) {
		l.mu.Unlock()
		return false
	}
	seg := l.segs[0]
	l.mu.Unlock()
	l.evict(seg, "safe, and the disk is full")
	return true
}

func (l *Log) evict(seg *segment, why string) {
	unsafe := l.unsafeIn(seg)
	l.diskMu.Lock()
	l.abandon(seg, false)
	seg.gone = true
	err := os.Remove(seg.path)
	l.diskMu.Unlock()
	l.mu.Lock()
	l.removeSegment(seg, nil)
	l.stats.Evicted++
	l.stats.GivenUp += unsafe
	l.mu.Unlock()
	file := filepath.Base(seg.path)
	if unsafe > 0 {
		l.log.Warn("frames that the hub does not have were given up", "frames", unsafe, "why", why, "file", file)
	}
	if err != nil {
		l.log.Error("a segment cannot be removed", "file", file, "error", err)
	}
}

// unsafeIn counts the frames of a segment above the safe cursor.
func (l *Log) unsafeIn(seg *segment) uint64 {
	l.mu.Lock()
	safe, sum := l.safe, seg.sum
	l.mu.Unlock()
	if sum.frames == 0 || !safe.less(sum.last) {
		return 0
	}
	if safe.less(sum.first) {
		return sum.frames
	}
	if n := uint64(0); l.view(seg, func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketFrames).Cursor()
		for k, _ := c.Seek(frameKey(nil, pos{safe.ord, safe.seq + 1})); k != nil; k, _ = c.Next() {
			n++
		}
		return nil
	}) == nil {
		return n
	}
	return unsafeAbout(sum, safe)
}

// unsafeAbout is unsafeIn by the numbers alone: exact unless frames are
// missing or several epochs share the segment.
func unsafeAbout(sum summary, safe pos) uint64 {
	switch {
	case sum.frames == 0 || !safe.less(sum.last):
		return 0
	case safe.less(sum.first) || safe.ord != sum.last.ord:
		return sum.frames
	}
	return min(sum.frames, sum.last.seq-safe.seq)
}

// removeSegment takes a segment out of the list, or puts another in its
// place. The caller holds mu.
func (l *Log) removeSegment(seg, instead *segment) bool {
	for i, s := range l.segs {
		if s != seg {
			continue
		}
		// A new slice: others may be looking at the old one.
		rest := append([]*segment(nil), l.segs[:i]...)
		if instead != nil {
			rest = append(rest, instead)
		}
		l.segs = append(rest, l.segs[i+1:]...)
		return true
	}
	return false
}
