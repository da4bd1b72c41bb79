package buffer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	bolt "go.etcd.io/bbolt"
)

const (
	readChunk = 64 << 10 // payload bytes copied out at a time
	maxOpen   = 2        // sealed segments open at once
)

// errGone says that a segment was evicted or set aside meanwhile.
var errGone = errors.New("the segment is gone")

// readBatch is a run of records, copied out so that no transaction is open
// and no lock is held while the caller looks at them.
type readBatch struct {
	recs []rec
	data []byte
}

type rec struct {
	pos       pos
	t         int64
	from, to  int // in data
	committed bool
}

func (b *readBatch) reset() { b.recs, b.data = b.recs[:0], b.data[:0] }

func (b *readBatch) add(p pos, t int64, payload []byte, committed bool) {
	from := len(b.data)
	b.data = append(b.data, payload...)
	b.recs = append(b.recs, rec{p, t, from, len(b.data), committed})
}

// Read calls fn for the records after a position, in the log's order, until
// max bytes of payload were handed out (one record at least) or the log ends;
// it does not wait for more. The zero Pos begins with the oldest. What is
// missing in between is named by Record.Missing; so is, always, what is
// missing after a position whose epoch the log does not know: then Read
// begins with the oldest record.
//
// An error of fn ends it and is returned. A segment that turns out corrupt is
// set aside and what it held becomes a missing range; no error is returned.
// No lock is held and no transaction is open while fn runs.
func (l *Log) Read(after Pos, max int, fn func(Record) error) error {
	b := l.bufs.Get().(*readBatch)
	defer l.bufs.Put(b)
	l.mu.Lock()
	p, known := l.internal(after)
	l.mu.Unlock()
	for given := 0; given == 0 || given < max; {
		b.reset()
		if err := l.collect(p, min(max-given, readChunk), b); err != nil {
			return err
		}
		if len(b.recs) == 0 {
			return nil
		}
		for _, r := range b.recs {
			rec := Record{Time: r.t, Payload: b.data[r.from:r.to:r.to], Committed: r.committed}
			l.mu.Lock()
			rec.Pos = l.public(r.pos)
			if !known {
				rec.Missing = &Range{after, rec.Pos}
			} else if l.epochs.missing(p, r.pos) {
				rec.Missing = &Range{l.public(p), rec.Pos}
				if p == (pos{}) || given == 0 && r == b.recs[0] {
					rec.Missing.After = after
				}
			}
			rec.Unsure = l.epochs.unsure(r.pos)
			l.mu.Unlock()
			if err := fn(rec); err != nil {
				return err
			}
			p, known = r.pos, true
			given += len(rec.Payload) + 1
		}
	}
	return nil
}

// collect copies records after p into b, from one segment or from memory.
func (l *Log) collect(p pos, limit int, b *readBatch) error {
	skip := map[uint64]bool(nil) // segments that turned out to hold nothing after p
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return ErrClosed
		}
		var seg *segment
		for _, s := range l.segs {
			if s.sum.frames > 0 && p.less(s.sum.last) && !skip[s.id] {
				seg = s
				break
			}
		}
		if seg == nil {
			l.collectPending(p, limit, b)
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		err := l.view(seg, func(tx *bolt.Tx) error { return l.collectSegment(tx, p, limit, b) })
		switch {
		case err == nil && len(b.recs) > 0:
			return nil
		case err == nil:
			if skip == nil {
				skip = map[uint64]bool{}
			}
			skip[seg.id] = true
		case errors.Is(err, errGone):
		case damaged(err):
			b.reset()
			l.writeMu.Lock()
			l.setAside(seg, err)
			l.writeMu.Unlock()
		default:
			return fmt.Errorf("segment %d: %w", seg.id, err)
		}
	}
}

func (l *Log) collectPending(p pos, limit int, b *readBatch) {
	i, _ := slices.BinarySearchFunc(l.pending, pos{p.ord, p.seq + 1}, func(f frame, p pos) int {
		return cmp.Or(cmp.Compare(f.pos.ord, p.ord), cmp.Compare(f.pos.seq, p.seq))
	})
	for ; i < len(l.pending); i++ {
		f := &l.pending[i]
		if len(b.data)+len(f.payload()) > limit && len(b.recs) > 0 {
			return
		}
		b.add(f.pos, f.t, f.payload(), false)
	}
}

func (l *Log) collectSegment(tx *bolt.Tx, p pos, limit int, b *readBatch) error {
	frames := tx.Bucket(bucketFrames)
	if frames == nil {
		return corruptf("no frames bucket")
	}
	c := frames.Cursor()
	var have epoch
	for k, v := c.Seek(frameKey(nil, pos{p.ord, p.seq + 1})); k != nil; k, v = c.Next() {
		q, err := parseFrameKey(k)
		if err != nil {
			return err
		}
		if !p.less(q) {
			return corruptf("frame %d after frame %d", q.seq, p.seq)
		}
		if have.ord != q.ord {
			l.mu.Lock()
			e, ok := l.epochs.of(q.ord)
			l.mu.Unlock()
			if !ok {
				return corruptf("frame of an unknown epoch %d", q.ord)
			}
			have = e
		}
		t, payload, err := parseFrame(have.tag, q, v)
		if err != nil {
			return err
		}
		if len(b.data)+len(payload) > limit && len(b.recs) > 0 {
			return nil
		}
		b.add(q, t, payload, true)
		p = q
	}
	return nil
}

// view runs fn within a short read transaction on a segment, which it opens
// and, the first time, inspects.
func (l *Log) view(seg *segment, fn func(tx *bolt.Tx) error) error {
	l.diskMu.Lock()
	defer l.diskMu.Unlock()
	if seg.gone {
		return errGone
	}
	if err := l.openForReading(seg); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			// Somebody removed the file: that is a loss like any other.
			return corruptf("the file is not there any more")
		}
		return err
	}
	l.reads++
	seg.used = l.reads
	return guarded(func() error { return seg.db.View(fn) })
}

func (l *Log) openForReading(seg *segment) error {
	if seg.db != nil {
		return nil
	}
	if !seg.checked {
		c, err := l.inspect(seg.path, true, l.tag)
		if err != nil {
			return err
		}
		l.mu.Lock()
		for _, e := range c.epochs {
			l.addEpoch(e)
		}
		seg.sum = c.sum
		l.mu.Unlock()
		seg.checked = true
	}
	db, file, err := l.openDB(seg.path, false)
	if err != nil {
		return err
	}
	l.mu.Lock()
	segs := slices.Clone(l.segs)
	l.mu.Unlock()
	l.closeUnused(segs)
	seg.db, seg.file = db, file
	return nil
}

// closeUnused closes the least used sealed segments so that one more may open.
func (l *Log) closeUnused(segs []*segment) {
	segs = slices.DeleteFunc(segs, func(s *segment) bool { return s.db == nil || s.writable })
	slices.SortFunc(segs, func(a, b *segment) int { return cmp.Compare(a.used, b.used) })
	for i := 0; i <= len(segs)-maxOpen; i++ {
		l.abandon(segs[i], false)
	}
}

// Attachment returns a copy of the attachment under key. It looks in memory,
// in the segments that Read last read from and in the newest two: so that of
// a frame just read is found.
func (l *Log) Attachment(key [16]byte) (data []byte, ok bool) {
	l.mu.Lock()
	if data, ok := l.attach[key]; ok {
		defer l.mu.Unlock()
		return slices.Clone(data), true
	}
	segs := slices.Clone(l.segs)
	l.mu.Unlock()
	slices.Reverse(segs)
	l.diskMu.Lock()
	open := slices.DeleteFunc(slices.Clone(segs), func(s *segment) bool { return s.db == nil || s.used == 0 })
	slices.SortFunc(open, func(a, b *segment) int { return -cmp.Compare(a.used, b.used) })
	l.diskMu.Unlock()
	for _, seg := range append(open, segs[:min(2, len(segs))]...) {
		err := l.view(seg, func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketAttachments)
			if b == nil {
				return corruptf("no attachments bucket")
			}
			v := b.Get(key[:])
			if v == nil {
				return nil
			}
			body, err := openValue(key[:], v, -1)
			if err != nil {
				return err
			}
			data, ok = slices.Clone(body), true
			return nil
		})
		if ok {
			return data, true
		}
		if damaged(err) {
			l.writeMu.Lock()
			l.setAside(seg, err)
			l.writeMu.Unlock()
		} else if err != nil && !errors.Is(err, errGone) {
			l.log.Error("a segment cannot be read", "segment", seg.id, "error", err)
		}
	}
	return nil, false
}
