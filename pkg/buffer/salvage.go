package buffer

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	berrors "go.etcd.io/bbolt/errors"
)

// setAside renames a segment that failed to .corrupt, never to be touched
// again, and puts what can still be read of it into a segment of its own in
// the same place. It reports whether there was anything to save. What is
// missing then shows to readers as a missing range. The caller holds writeMu,
// or is Open.
func (l *Log) setAside(seg *segment, cause error) (saved bool) {
	l.diskMu.Lock()
	if seg.gone {
		l.diskMu.Unlock()
		return false
	}
	l.abandon(seg, seg.writable)
	seg.gone = true
	aside := asideName(seg.path)
	err := l.opt.files.rename(seg.path, aside)
	if err == nil {
		_ = syncDir(l.dir)
	}
	l.diskMu.Unlock()
	log := l.log.With("file", filepath.Base(aside), "cause", cause.Error())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("a corrupt segment cannot be set aside", "error", err)
	}
	var instead *segment
	if err == nil {
		if instead, err = l.salvage(aside, seg.id); err != nil {
			log.Error("nothing of a corrupt segment could be saved", "error", err)
		}
	}
	left := trimAside(l.dir)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeSegment(seg, instead)
	l.stats.Corrupt++
	l.stats.CorruptFiles = left
	kept := uint64(0)
	if instead != nil {
		kept = instead.sum.frames
	}
	lost := seg.sum.frames - min(kept, seg.sum.frames)
	l.stats.LostFrames += lost
	log.Error("a segment of the log is corrupt and was set aside",
		"after", l.public(pos{seg.sum.first.ord, max(seg.sum.first.seq, 1) - 1}).String(),
		"last", l.public(seg.sum.last).String(), "frames_lost", lost, "frames_saved", kept)
	return instead != nil
}

// place is where a sound frame lies in a damaged file.
type place struct {
	pos pos
	t   int64
	off int64
	n   int
}

// salvage writes every sound frame and attachment of a damaged file into a
// new, sealed segment under the same id. Without any it returns nil.
func (l *Log) salvage(path string, id uint64) (*segment, error) {
	f, err := l.opt.files.open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	w := findFrames(f, info.Size(), l.tag)
	found := w.frames
	if len(found) == 0 {
		return nil, nil
	}
	l.mu.Lock()
	for _, e := range w.epochs {
		l.addEpoch(e)
	}
	st := state{safe: l.safe}
	if st.safe.zero() { // while opening: the file may be the one that knew
		st.safe = w.state.safe
	}
	// All that is known: this may be the newest segment, whose table counts.
	table := l.table()
	l.mu.Unlock()
	seg, err := l.createSegment(header{id: id, base: w.header.base}, st, table)
	if err != nil {
		return nil, err
	}
	seg.active = false
	write := func(b batch) error {
		sum, size, err := seg.write(b, seg.sum)
		if err == nil {
			seg.wrote(b)
			seg.sum, seg.size = sum, size
		}
		return err
	}
	for k, v := range w.attach {
		if err == nil {
			err = write(batch{safe: st.safe, attach: map[[16]byte][]byte{k: v}})
		}
	}
	for len(found) > 0 && err == nil {
		b, size := batch{safe: st.safe}, 0
		for len(found) > 0 && size < maxBatch/4 {
			p := found[0]
			found = found[1:]
			val := make([]byte, p.n)
			if _, rerr := f.ReadAt(val, p.off); rerr != nil {
				continue
			}
			size += len(val)
			b.frames = append(b.frames, frame{pos: p.pos, t: p.t, val: val})
		}
		err = write(b)
	}
	l.abandon(seg, errors.Is(err, errCorrupt))
	if seg.sum.frames == 0 {
		_ = os.Remove(seg.path)
		return nil, err
	}
	if err == nil || errors.Is(err, berrors.ErrMaxSizeReached) {
		seg.path, err = l.seal(seg.path, id, seg.sum, seg.size), nil
	}
	return seg, err
}

// wreckage is what proves itself by its checksum in a damaged file.
type wreckage struct {
	header header
	state  state // the latest
	epochs []epoch
	attach map[[16]byte][]byte
	frames []place // in order, each once
}

func findFrames(r io.ReaderAt, size int64, known func(uint32) (Epoch, bool)) wreckage {
	w := wreckage{attach: map[[16]byte][]byte{}}
	tags := map[uint32]Epoch{}
	scanLeaves(r, size, func(_ int64, k, v []byte) {
		switch {
		case len(k) == 4:
			if e, err := parseEpoch(k, v); err == nil && tags[e.ord] == (Epoch{}) {
				tags[e.ord] = e.tag
				w.epochs = append(w.epochs, e)
			}
		case bytes.Equal(k, keyState):
			if s, err := parseState(v); err == nil && s.sum.frames >= w.state.sum.frames {
				w.state = s
			}
		case bytes.Equal(k, keyHeader):
			if h, err := parseHeader(v); err == nil {
				w.header = h
			}
		}
	})
	scanLeaves(r, size, func(off int64, k, v []byte) {
		switch len(k) {
		case 16:
			if body, err := openValue(k, v, -1); err == nil {
				w.attach[[16]byte(k)] = slices.Clone(body)
			}
		case keySize:
			p, _ := parseFrameKey(k)
			tag, ok := tags[p.ord]
			if !ok {
				tag, ok = known(p.ord)
			}
			if !ok {
				return
			}
			if t, _, err := parseFrame(tag, p, v); err == nil {
				w.frames = append(w.frames, place{p, t, off, len(v)})
			}
		}
	})
	slices.SortFunc(w.frames, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.pos.ord, b.pos.ord), cmp.Compare(a.pos.seq, b.pos.seq))
	})
	// Pages that bbolt has freed hold older copies of the same frames.
	w.frames = slices.CompactFunc(w.frames, func(a, b place) bool { return a.pos == b.pos })
	return w
}
