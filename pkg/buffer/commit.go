package buffer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Commit makes every pending frame durable, in one transaction and one fsync
// unless there are very many, and with them the safe cursor. Without pending
// frames it does nothing. On an error (full disk, read-only file system, I/O
// error) the frames stay in memory and readable, and the next Commit tries
// again, with a new segment.
func (l *Log) Commit() error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return l.commit(false)
}

// commit writes all that is pending; with force it writes epochs and the safe
// cursor even if nothing is. The caller holds writeMu.
func (l *Log) commit(force bool) error {
	var err error
	wrote := false
	start := time.Now()
	for {
		l.mu.Lock()
		b := l.nextBatch()
		n := len(b.frames)
		l.mu.Unlock()
		if n == 0 && !force {
			break
		}
		force = false
		err = l.commitBatch(b)
		l.mu.Lock()
		l.inflight = 0
		if err == nil {
			l.committedBatch(n)
		}
		l.mu.Unlock()
		if err != nil {
			break
		}
		wrote = true
	}
	if wrote || err != nil {
		l.noteCommit(err, time.Since(start))
	}
	l.retain()
	return err
}

// nextBatch takes the oldest pending frames for one transaction; they stay in
// pending, where readers find them. The caller holds mu.
func (l *Log) nextBatch() batch {
	b := batch{safe: l.safe, attach: map[[16]byte][]byte{}}
	if n := len(l.segs); n > 0 && l.segs[n-1].active { // a new segment gets the whole table
		for _, e := range l.epochs {
			if e.ord > l.segs[n-1].savedOrd {
				b.epochs = append(b.epochs, e)
			}
		}
	}
	limit := min(maxBatch, int(l.opt.SegmentSize/8))
	size, n := 0, 0
	for i := range l.pending {
		f := &l.pending[i]
		size += len(f.val)
		for _, k := range f.keys {
			if _, ok := b.attach[k]; !ok {
				size += len(l.attach[k])
			}
		}
		if n > 0 && size > limit {
			break
		}
		for _, k := range f.keys {
			b.attach[k] = l.attach[k]
		}
		n++
	}
	b.frames = slices.Clone(l.pending[:n])
	l.inflight = n
	return b
}

// committedBatch drops from memory what is now on the disk. The caller holds mu.
func (l *Log) committedBatch(n int) {
	if n == 0 {
		return
	}
	done := l.pending[:n]
	l.committed = done[n-1].pos
	for i := range done {
		l.pendingBytes -= int64(len(done[i].val))
	}
	keep := done[n-1].keys
	l.recycle(done)
	l.pending = slices.Delete(l.pending, 0, n)
	if len(l.pending) == 0 {
		for k := range l.attach {
			if !slices.Contains(keep, k) {
				delete(l.attach, k)
			}
		}
	}
}

func (l *Log) noteCommit(err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.CommitTime += took
	before := l.stats.DiskError
	if err == nil {
		l.stats.Commits++
		l.stats.DiskError = ""
		if before != "" {
			l.log.Info("the disk takes the log again", "pending", len(l.pending))
		}
		return
	}
	l.stats.CommitFailures++
	l.stats.DiskError = err.Error()
	if before == "" {
		l.log.Error("the disk refuses the log; the newest frames are kept in memory", "error", err, "pending_bytes", l.pendingBytes)
	}
}

// commitBatch writes one batch, into a new segment if the active one is full,
// corrupt or refuses.
func (l *Log) commitBatch(b batch) error {
	for try := 0; ; try++ {
		seg, err := l.writable()
		if err != nil {
			return err
		}
		sum, size, err := seg.write(b, seg.sum)
		switch {
		case err == nil:
			seg.wrote(b)
			l.mu.Lock()
			seg.sum, seg.size = sum, size
			l.mu.Unlock()
			if l.opt.files.synced != nil {
				l.opt.files.synced(seg)
			}
			return nil
		case try > 3:
			return err
		case errors.Is(err, berrors.ErrMaxSizeReached):
			if seg.sum.frames == 0 && len(seg.attached) == 0 {
				return fmt.Errorf("%d frames do not fit an empty segment: %w", len(b.frames), err)
			}
			if err := l.roll(seg); err != nil {
				return err
			}
		case errors.Is(err, errCorrupt):
			l.setAside(seg, err)
		default:
			// What the failed transaction left in the page cache is not to
			// be trusted: no more is written to this file.
			l.retire(seg)
			if !errors.Is(err, unix.ENOSPC) || !l.evictSafe() {
				return err
			}
		}
	}
}

// writable returns the active segment, open for writing; it creates one if
// there is none. The caller holds writeMu.
func (l *Log) writable() (*segment, error) {
	l.mu.Lock()
	var seg *segment
	if n := len(l.segs); n > 0 && l.segs[n-1].active {
		seg = l.segs[n-1]
	}
	l.mu.Unlock()
	if seg != nil && seg.writable {
		return seg, nil
	}
	if seg != nil {
		l.diskMu.Lock()
		l.abandon(seg, false) // a reader's handle holds the file's lock
		db, file, err := l.openDB(seg.path, true)
		if err == nil {
			seg.db, seg.file, seg.writable = db, file, true
		}
		l.diskMu.Unlock()
		switch {
		case err == nil:
			return seg, nil
		case damaged(err):
			l.setAside(seg, err)
		default:
			l.mu.Lock()
			seg.active = false // it can still be read
			l.mu.Unlock()
		}
	}
	return l.create()
}

// create makes a new active segment at the end of the log.
func (l *Log) create() (*segment, error) {
	l.mu.Lock()
	l.pruneEpochs()
	h := header{id: l.nextID, base: l.committed}
	st := state{safe: l.safe}
	table := l.table()
	l.mu.Unlock()
	seg, err := l.createSegment(h, st, table)
	if errors.Is(err, unix.ENOSPC) && l.evictSafe() {
		seg, err = l.createSegment(h, st, table)
	}
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	l.segs = append(l.segs, seg)
	return seg, nil
}

// table is the epochs that a new segment begins with: all, or the newest that
// leave room for frames. The caller holds mu.
func (l *Log) table() []epoch {
	n := int(min(1024, l.opt.SegmentSize/512))
	return slices.Clone(l.epochs[max(0, len(l.epochs)-n):])
}

// pruneEpochs forgets epochs older than everything in the log, but for the
// newest 64. The caller holds mu.
func (l *Log) pruneEpochs() {
	oldest := min(l.safe.ord, l.committed.ord)
	for _, s := range l.segs {
		if s.sum.frames > 0 {
			oldest = min(oldest, s.sum.first.ord)
			break
		}
	}
	n := 0
	for n < len(l.epochs)-64 && l.epochs[n].ord < oldest {
		delete(l.ords, l.epochs[n].tag)
		n++
	}
	l.epochs = slices.Delete(l.epochs, 0, n)
}

// roll puts a new segment after the full one, then seals that.
func (l *Log) roll(full *segment) error {
	if _, err := l.create(); err != nil {
		return err
	}
	l.close(full, full.size, true)
	return nil
}

// retire closes a segment that a write failed on; without frames it is
// removed.
func (l *Log) retire(seg *segment) {
	if seg.sum.frames > 0 {
		l.close(seg, seg.size, false)
		return
	}
	l.diskMu.Lock()
	l.abandon(seg, false)
	seg.gone = true
	_ = os.Remove(seg.path)
	l.diskMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segs = slices.DeleteFunc(l.segs, func(s *segment) bool { return s == seg })
}

// close ends the writing of a segment.
func (l *Log) close(seg *segment, size int64, rename bool) {
	l.diskMu.Lock()
	l.abandon(seg, false)
	if rename {
		seg.path = l.seal(seg.path, seg.id, seg.sum, size)
	} else if c, err := l.inspect(seg.path, false, nil); err == nil {
		// The failed transaction may have reached the disk after all: it
		// keeps its pages, and the file a name that promises nothing.
		_ = os.Truncate(seg.path, max(size, c.size))
	}
	l.diskMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	seg.active = false
	seg.attached = nil
}
