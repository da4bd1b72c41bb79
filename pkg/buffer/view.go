package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// View is a log as its files stand, read without its lock and without changing
// anything: for people who want to know, also while an agent writes it. It does
// not see what an agent holds in memory. Not for concurrent use.
type View struct {
	dir    string
	segs   []viewSegment
	aside  []string
	epochs epochTable
	safe   pos
	last   pos
	meta   map[string][]byte
	bad    error // of the meta file
	attach map[[16]byte][]byte
}

type viewSegment struct {
	id     uint64
	name   string
	size   int64
	active bool
	sum    summary
}

// SegmentInfo describes a segment file. Of a sealed one it is what its name says.
type SegmentInfo struct {
	File        string
	Bytes       int64 // on the disk
	Active      bool  // frames are written to it
	Frames      uint64
	First, Last Pos
	// Oldest and newest log time of its frames, ms; 0: none is known.
	Oldest, Newest int64
}

// ViewStats is how a log stands on the disk.
type ViewStats struct {
	Segments            int
	Bytes               int64
	Frames              uint64
	Oldest, Newest      Pos
	OldestTime, NewTime int64 // log times of the oldest and the newest frame, ms; 0: not known
	Safe                Pos
	Epochs              int
	Aside               []string // files set aside as corrupt
	MetaError           string   // what is wrong with the file of small values
}

// OpenView reads the folder and the newest segment that can be read.
func OpenView(dir string) (*View, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the log's folder: %w", err)
	}
	v := &View{dir: dir, attach: map[[16]byte][]byte{}}
	for _, e := range entries {
		base, _, corrupt := strings.Cut(e.Name(), corruptSuffix)
		if corrupt {
			v.aside = append(v.aside, e.Name())
			continue
		}
		id, sum, sealed, ok := parseName(base)
		info, err := e.Info()
		if !ok || err != nil {
			continue // something else, or evicted meanwhile
		}
		v.segs = append(v.segs, viewSegment{id: id, name: e.Name(), size: diskUse(info), active: !sealed, sum: sum})
	}
	slices.SortFunc(v.segs, func(a, b viewSegment) int { return int(int64(a.id) - int64(b.id)) })
	newest := true
	for i := len(v.segs) - 1; i >= 0; i-- {
		s := &v.segs[i]
		if !newest && !s.active {
			continue
		}
		c, err := v.inspect(s, newest, nil) // epochs are in a bucket of their own
		switch {
		case errors.Is(err, ErrVersion):
			return nil, fmt.Errorf("%s: %w", s.name, err)
		case err != nil:
			continue // Verify says what is wrong with it
		}
		if s.active {
			s.sum = c.state.sum
		}
		if newest {
			newest = false
			v.safe, v.last = c.state.safe, c.header.base
		}
	}
	for i := range v.segs {
		if s := &v.segs[i]; s.sum.frames > 0 && v.last.less(s.sum.last) {
			v.last = s.sum.last
		}
	}
	for _, name := range []string{metaCopy, metaName} {
		vals, err := readMeta(filepath.Join(dir, name))
		if err != nil {
			v.bad = fmt.Errorf("%s: %w", name, err)
		} else if vals != nil {
			v.meta = vals
		}
	}
	return v, nil
}

// errMoved says that a segment was sealed or evicted since the folder was read.
var errMoved = errors.New("it was sealed or evicted meanwhile")

// read gives the content of a segment's file at one moment. While an agent commits, pages that
// the newest meta page does not reach change, and then the meta page: a file whose
// meta pages are the same before and after it was read is of one commit.
func (v *View) read(s *viewSegment) ([]byte, error) {
	f, err := os.Open(filepath.Join(v.dir, s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errMoved
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	const metas = 2 * pageSize
	before, after := make([]byte, metas), make([]byte, metas)
	for try := 0; ; try++ {
		n, err := f.ReadAt(before, 0)
		if n < metas {
			return before[:n], ignoreEOF(err)
		}
		size := int64(0)
		for i := range 2 {
			if m, ok := parseMeta(before[i*pageSize:]); ok {
				size = max(size, int64(min(m.pages, maxSegment/pageSize))*pageSize)
			}
		}
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if size == 0 || !s.active {
			size = min(info.Size(), 2*maxSegment) // damaged, or sealed: all of it
		}
		b := make([]byte, min(size, info.Size()))
		n, err = f.ReadAt(b, 0)
		if err := ignoreEOF(err); err != nil {
			return nil, err
		}
		b = b[:n]
		if _, err := f.ReadAt(after, 0); ignoreEOF(err) != nil {
			return nil, err
		}
		if bytes.Equal(before, after) && bytes.HasPrefix(b, before) || try > 20 {
			return b, nil
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (v *View) inspect(s *viewSegment, framesToo bool, give given) (content, error) {
	b, err := v.read(s)
	if err != nil {
		return content{}, err
	}
	c, err := inspectFile(bytes.NewReader(b), int64(len(b)), s.name, framesToo, v.tag, give)
	if err == nil {
		for _, e := range c.epochs {
			v.epochs.add(e)
		}
	}
	return c, err
}

func (v *View) tag(ord uint32) (Epoch, bool) {
	e, ok := v.epochs.of(ord)
	return e.tag, ok
}

// Meta returns a small value of the log, as SetMeta stored it.
func (v *View) Meta(key string) ([]byte, bool) {
	b, ok := v.meta[key]
	return b, ok
}

// Segments lists the segments, oldest first.
func (v *View) Segments() []SegmentInfo {
	out := make([]SegmentInfo, len(v.segs))
	for i := range v.segs {
		out[i] = v.info(&v.segs[i])
	}
	return out
}

func (v *View) info(s *viewSegment) SegmentInfo {
	return SegmentInfo{
		File: s.name, Bytes: s.size, Active: s.active, Frames: s.sum.frames,
		First: v.epochs.public(s.sum.first), Last: v.epochs.public(s.sum.last), Oldest: s.sum.tmin, Newest: s.sum.tmax,
	}
}

// Stats adds it up.
func (v *View) Stats() ViewStats {
	st := ViewStats{Segments: len(v.segs), Epochs: len(v.epochs), Aside: v.aside, Newest: v.epochs.public(v.last), Safe: v.epochs.public(v.safe)}
	for i := range v.segs {
		s := &v.segs[i]
		st.Bytes += s.size
		st.Frames += s.sum.frames
		if s.sum.frames > 0 && st.Oldest.IsZero() {
			st.Oldest = v.epochs.public(s.sum.first)
		}
		if st.OldestTime == 0 {
			st.OldestTime = s.sum.tmin
		}
		st.NewTime = max(st.NewTime, s.sum.tmax)
	}
	if v.bad != nil {
		st.MetaError = v.bad.Error()
	}
	return st
}

// Unsafe counts the frames above the safe cursor of the last commit. It reads the
// segment that the cursor is in.
func (v *View) Unsafe() (n uint64, err error) {
	for i := range v.segs {
		s := &v.segs[i]
		switch {
		case s.sum.frames == 0 || !v.safe.less(s.sum.last):
			continue
		case v.safe.less(s.sum.first):
			n += s.sum.frames
			continue
		}
		recs, err := v.records(s)
		if err != nil && !errors.Is(err, errMoved) {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
		for _, r := range recs {
			if v.safe.less(r.pos) {
				n++
			}
		}
	}
	return n, nil
}

// Gaps lists the ranges that the log had, or may have had, and cannot give. It
// reads those segments only whose names leave it open.
func (v *View) Gaps() (gaps []Range, err error) {
	var last pos
	step := func(p pos) {
		if last.less(p) {
			if v.epochs.missing(last, p) {
				gaps = append(gaps, Range{v.epochs.public(last), v.epochs.public(p)})
			}
			last = p
		}
	}
	for i := range v.segs {
		s := &v.segs[i]
		if s.sum.frames == 0 && !s.active {
			continue
		}
		if first, end := s.sum.first, s.sum.last; !s.active && first.ord == end.ord && end.seq-first.seq+1 == s.sum.frames {
			step(first)
			last = end
			continue
		}
		recs, err := v.records(s)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		for _, r := range recs {
			step(r.pos)
		}
	}
	return gaps, nil
}

// SegmentReport is what Verify found out about a segment.
type SegmentReport struct {
	SegmentInfo
	Err      error  // nil: every checksum holds
	Readable uint64 // frames of a damaged one that prove themselves
}

// Verify checks every checksum of every segment, oldest first, and calls fn for
// each. It reads all files once and keeps one segment in memory. An error of fn
// ends it and is returned.
func (v *View) Verify(fn func(SegmentReport) error) error {
	for i := range v.segs {
		s := &v.segs[i]
		c, err := v.inspect(s, true, nil)
		if errors.Is(err, errMoved) {
			continue
		}
		r := SegmentReport{SegmentInfo: v.info(s), Err: err}
		if err != nil {
			if b, rerr := v.read(s); rerr == nil {
				w := findFrames(bytes.NewReader(b), int64(len(b)), v.tag)
				r.Readable = uint64(len(w.frames))
			}
		} else {
			r.Frames, r.Readable = c.sum.frames, c.sum.frames
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// Read calls fn for every frame, oldest first, as Log.Read does; of a damaged
// segment it gives what proves itself. An error of fn ends it and is returned.
func (v *View) Read(fn func(Record) error) error {
	var last pos
	for i := range v.segs {
		s := &v.segs[i]
		recs, err := v.records(s)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		for _, r := range recs {
			if !last.less(r.pos) {
				continue // in two segments: a failed write that did reach the disk
			}
			rec := Record{Pos: v.epochs.public(r.pos), Time: r.t, Payload: r.payload, Unsure: v.epochs.unsure(r.pos), Committed: true}
			if v.epochs.missing(last, r.pos) {
				rec.Missing = &Range{v.epochs.public(last), rec.Pos}
			}
			last = r.pos
			if err := fn(rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// records are the frames of a segment, or those of a damaged one that prove
// themselves; the segment's attachments go into v.attach.
func (v *View) records(s *viewSegment) (recs []viewRecord, err error) {
	clear(v.attach)
	b, err := v.read(s)
	if err != nil {
		return nil, err
	}
	c, err := inspectFile(bytes.NewReader(b), int64(len(b)), s.name, true, v.tag, func(p pos, t int64, key, data []byte) {
		if p.zero() {
			v.attach[[16]byte(key)] = bytes.Clone(data)
			return
		}
		recs = append(recs, viewRecord{p, t, bytes.Clone(data)})
	})
	known := c.epochs
	if err != nil {
		w := findFrames(bytes.NewReader(b), int64(len(b)), v.tag)
		recs, known, v.attach = recs[:0], w.epochs, w.attach
		for _, f := range w.frames {
			recs = append(recs, viewRecord{f.pos, f.t, b[f.off+frameHeader : f.off+int64(f.n)]})
		}
	}
	for _, e := range known {
		v.epochs.add(e)
	}
	return recs, nil
}

type viewRecord struct {
	pos     pos
	t       int64
	payload []byte
}

// Attachment returns an attachment of the segment that Read is in.
func (v *View) Attachment(key [16]byte) ([]byte, bool) {
	b, ok := v.attach[key]
	return b, ok
}
