package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	segPrefix     = "seg-"
	segSuffix     = ".db"
	tmpSuffix     = ".tmp"
	corruptSuffix = ".corrupt"
	maxAside      = 8 // files set aside that are kept
)

// segment is one file of the log. Fields above the line are guarded by
// Log.mu, those below by Log.diskMu; db of the active segment is also used,
// without diskMu, by whoever holds Log.writeMu.
type segment struct {
	id     uint64
	sum    summary
	size   int64 // bytes on the disk
	active bool  // frames are written to it

	path     string
	db       *bolt.DB
	file     *os.File // db's file, to be closed when db cannot be
	writable bool     // db is open for writing
	checked  bool     // walked since Open
	used     uint64   // when last read, for closing the least used
	gone     bool     // evicted or set aside

	// Of the active segment; guarded by Log.writeMu.
	attached map[[16]byte]struct{}
	savedOrd uint32 // epochs up to this one are in its table
	saved    pos    // the safe cursor that it holds
}

// fileHooks are the file functions that tests replace.
type fileHooks struct {
	open   func(string, int, os.FileMode) (*os.File, error)
	rename func(from, to string) error
	synced func(*segment) // called after each commit
}

func (h *fileHooks) fill() {
	if h.open == nil {
		h.open = os.OpenFile
	}
	if h.rename == nil {
		h.rename = os.Rename
	}
}

func activeName(id uint64) string { return fmt.Sprintf("%s%010d%s", segPrefix, id, segSuffix) }

// sealedName carries the summary, so that opening a large log reads one
// folder and no file.
func sealedName(id uint64, s summary) string {
	return fmt.Sprintf("%s%010d_%d.%d_%d.%d_%d_%d.%d%s", segPrefix, id,
		s.first.ord, s.first.seq, s.last.ord, s.last.seq, s.frames, s.tmin, s.tmax, segSuffix)
}

// parseName reads either; sealed is false for a name without a summary.
func parseName(name string) (id uint64, s summary, sealed, ok bool) {
	if !strings.HasPrefix(name, segPrefix) || !strings.HasSuffix(name, segSuffix) {
		return 0, s, false, false
	}
	n, err := fmt.Sscanf(name, segPrefix+"%d_%d.%d_%d.%d_%d_%d.%d"+segSuffix,
		&id, &s.first.ord, &s.first.seq, &s.last.ord, &s.last.seq, &s.frames, &s.tmin, &s.tmax)
	if err == nil && name == sealedName(id, s) && s.frames > 0 && !s.last.less(s.first) {
		return id, s, true, true
	}
	if n >= 1 && name == activeName(id) {
		return id, summary{}, false, true
	}
	return 0, summary{}, false, false
}

// guarded turns a panic into errCorrupt: bbolt panics on pages that make no
// sense, and a memory map that ends early, or whose disk fails, is a fault.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, r)
		}
	}()
	return fn()
}

// openDB opens a segment's file with bbolt.
func (l *Log) openDB(path string, write bool) (db *bolt.DB, file *os.File, err error) {
	o := &bolt.Options{
		Timeout:      time.Second,
		ReadOnly:     !write,
		NoStatistics: true,
		PageSize:     pageSize,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := l.opt.files.open(name, flag, mode)
			file = f
			return f, err
		},
	}
	if write {
		// The map never grows, so a reader never holds a writer up; and
		// bbolt refuses to let the file become larger.
		o.InitialMmapSize, o.MaxSize = int(l.opt.SegmentSize), int(l.opt.SegmentSize)
	}
	err = guarded(func() error {
		var err error
		db, err = bolt.Open(path, 0o600, o)
		return err
	})
	if err == nil {
		return db, file, nil
	}
	if file != nil {
		_ = file.Close() // bbolt has, unless it panicked
	}
	if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch) {
		err = fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return nil, nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
}

// content is what a walk over a segment finds.
type content struct {
	header   header
	state    state
	epochs   []epoch
	attached map[[16]byte]struct{}
	sum      summary // counted from the frames, if they were walked
	size     int64   // bytes in use
}

// inspect walks a segment file by plain reads. With framesToo each frame's
// checksum is verified; tags maps ordinals to epochs the segment may not name.
func (l *Log) inspect(path string, framesToo bool, tags func(uint32) (Epoch, bool)) (content, error) {
	f, err := l.opt.files.open(path, os.O_RDONLY, 0)
	if err != nil {
		return content{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return content{}, err
	}
	return inspectFile(f, info.Size(), filepath.Base(path), framesToo, tags, nil)
}

// given takes what an inspection finds: a frame with its payload, or (p zero) an
// attachment with its key. Both slices are valid until it returns.
type given func(p pos, t int64, key, data []byte)

// inspectFile is inspect for a file called name, wherever its bytes are.
func inspectFile(r io.ReaderAt, size int64, name string, framesToo bool, tags func(uint32) (Epoch, bool), give given) (content, error) {
	c := content{attached: map[[16]byte]struct{}{}}
	own := map[uint32]Epoch{}
	var only []byte
	if !framesToo {
		only = bucketAbout
	}
	var format []byte // nil until it was met
	formatKnown, headerSeen, stateSeen := false, false, false
	var err error
	c.size, err = walkFile(r, size, only, func(bucket, k, v []byte) (err error) {
		about := bytes.Equal(bucket, bucketAbout)
		switch {
		case formatKnown:
		case about && bytes.Equal(k, keyFormat):
			format = bytes.Clone(v)
			return nil
		case format == nil:
			return corruptf("no format version")
		default: // what follows is read only when it is of a version that we know
			var check []byte
			if about && bytes.Equal(k, keyCheck) {
				check = v
			}
			if err := checkFormat(format, check); err != nil {
				return err
			}
			formatKnown = true
		}
		switch {
		case about:
			switch {
			case bytes.Equal(k, keyHeader):
				headerSeen = true
				c.header, err = parseHeader(v)
			case bytes.Equal(k, keyState):
				stateSeen = true
				c.state, err = parseState(v)
			}
		case bytes.Equal(bucket, bucketEpochs):
			var e epoch
			if e, err = parseEpoch(k, v); err == nil {
				c.epochs = append(c.epochs, e)
				own[e.ord] = e.tag
			}
		case bytes.Equal(bucket, bucketAttachments):
			if len(k) != 16 {
				return corruptf("an attachment's key has %d bytes", len(k))
			}
			c.attached[[16]byte(k)] = struct{}{}
			var data []byte
			if data, err = openValue(k, v, -1); err == nil && give != nil {
				give(pos{}, 0, k, data)
			}
		case bytes.Equal(bucket, bucketFrames):
			var p pos
			if p, err = parseFrameKey(k); err != nil {
				return err
			}
			tag, ok := own[p.ord]
			if !ok && tags != nil {
				tag, ok = tags(p.ord)
			}
			if !ok {
				return corruptf("frame of an epoch %d that is not in the table", p.ord)
			}
			var t int64
			var payload []byte
			if t, payload, err = parseFrame(tag, p, v); err == nil {
				c.sum.add(p, t)
				if give != nil {
					give(p, t, nil, payload)
				}
			}
		}
		return err
	})
	if err == nil && !(formatKnown && headerSeen && stateSeen) {
		err = corruptf("the segment does not say what it is")
	}
	if err == nil && framesToo {
		want := c.state.sum
		if _, named, sealed, _ := parseName(name); sealed {
			want = named
		}
		if c.sum != want || c.sum != c.state.sum {
			err = corruptf("%d frames where %d were committed", c.sum.frames, want.frames)
		}
	}
	return c, err
}

// createSegment makes an empty segment file: a temporary, fsynced, renamed,
// and the folder fsynced. The caller holds writeMu.
func (l *Log) createSegment(h header, st state, epochs []epoch) (*segment, error) {
	final := filepath.Join(l.dir, activeName(h.id))
	tmp := final + tmpSuffix
	_ = os.Remove(tmp)
	db, file, err := l.openDB(tmp, true)
	if err != nil {
		_ = os.Remove(tmp)
		return nil, err
	}
	seg := &segment{
		id: h.id, active: true, path: final, db: db, file: file, writable: true, checked: true,
		attached: map[[16]byte]struct{}{}, saved: st.safe,
	}
	// With its blocks reserved a commit need not allocate any, which spares
	// the card some 12 kB each time, and a disk that fills up is met here
	// rather than in the middle. Where that is not to be had, do without.
	reserve(file, l.opt.SegmentSize)
	err = guarded(func() error {
		return db.Update(func(tx *bolt.Tx) error {
			about, err := tx.CreateBucket(bucketAbout)
			if err != nil {
				return err
			}
			for _, kv := range [][2][]byte{{keyFormat, formatValue()}, {keyCheck, formatCheck(formatValue())}, {keyHeader, h.encode()}, {keyState, st.encode()}} {
				if err := about.Put(kv[0], kv[1]); err != nil {
					return err
				}
			}
			table, err := tx.CreateBucket(bucketEpochs)
			if err != nil {
				return err
			}
			for _, e := range epochs {
				if err := table.Put(epochKey(e.ord), e.encode()); err != nil {
					return err
				}
			}
			for _, name := range [][]byte{bucketAttachments, bucketFrames} {
				if _, err := tx.CreateBucket(name); err != nil {
					return err
				}
			}
			seg.size = tx.Size()
			return nil
		})
	})
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = l.opt.files.rename(tmp, final)
	}
	if err == nil {
		err = syncDir(l.dir)
	}
	if err != nil {
		l.abandon(seg, errors.Is(err, errCorrupt))
		_ = os.Remove(tmp)
		_ = os.Remove(final)
		return nil, fmt.Errorf("new segment: %w", err)
	}
	for _, e := range epochs {
		seg.savedOrd = max(seg.savedOrd, e.ord)
	}
	return seg, nil
}

// abandon closes a segment's handle. After a panic within a transaction bbolt
// may hold its own locks for ever: then only the file is closed.
func (l *Log) abandon(seg *segment, panicked bool) {
	if seg.db == nil {
		return
	}
	if panicked {
		_ = seg.file.Close()
	} else {
		_ = guarded(seg.db.Close)
	}
	seg.db, seg.file, seg.writable = nil, nil, false
}

// batch is what one transaction writes.
type batch struct {
	frames []frame
	epochs []epoch
	attach map[[16]byte][]byte
	safe   pos
}

// write commits a batch to the active segment. The memory that describes the
// segment is returned, not changed: it is true only once the transaction is.
func (s *segment) write(b batch, sum summary) (summary, int64, error) {
	size := int64(0)
	err := guarded(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			for _, e := range b.epochs {
				if e.ord > s.savedOrd {
					if err := tx.Bucket(bucketEpochs).Put(epochKey(e.ord), e.encode()); err != nil {
						return err
					}
				}
			}
			for k, data := range b.attach {
				if _, ok := s.attached[k]; ok {
					continue
				}
				v := sealValue(k[:], bytes.Clone(data))
				if err := tx.Bucket(bucketAttachments).Put(k[:], v); err != nil {
					return err
				}
			}
			frames := tx.Bucket(bucketFrames)
			frames.FillPercent = 1 // keys only grow
			for i := range b.frames {
				f := &b.frames[i]
				if err := frames.Put(frameKey(nil, f.pos), f.val); err != nil {
					return err
				}
				sum.add(f.pos, f.t)
			}
			return tx.Bucket(bucketAbout).Put(keyState, state{b.safe, sum}.encode())
		})
	})
	if err == nil {
		err = guarded(func() error {
			return s.db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
		})
	}
	return sum, size, err
}

// wrote takes over what write has made durable.
func (s *segment) wrote(b batch) {
	for _, e := range b.epochs {
		s.savedOrd = max(s.savedOrd, e.ord)
	}
	for k := range b.attach {
		s.attached[k] = struct{}{}
	}
	s.saved = b.safe
}

// seal cuts the unused tail off a closed segment and writes its summary into
// its name, which it returns. What fails here costs nothing but an inspection
// at the next Open. The caller holds diskMu.
func (l *Log) seal(path string, id uint64, sum summary, size int64) string {
	_ = os.Truncate(path, size)
	to := filepath.Join(l.dir, sealedName(id, sum))
	if err := l.opt.files.rename(path, to); err != nil {
		return path
	}
	_ = syncDir(l.dir)
	return to
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// diskUse is what a file takes: its length, or less where it has holes.
func diskUse(info fs.FileInfo) int64 {
	return min(info.Size(), blocks(info))
}

// trimAside removes the oldest of the files set aside, so that a dying card
// cannot fill itself with them. It returns how many are left.
func trimAside(dir string) int {
	files, _ := filepath.Glob(filepath.Join(dir, segPrefix+"*"+corruptSuffix+"*"))
	slices.Sort(files) // by segment id
	for len(files) > maxAside {
		_ = os.Remove(files[0])
		files = files[1:]
	}
	return len(files)
}

// asideName finds a free name for a file that is set aside.
func asideName(path string) string {
	for i := range math.MaxInt32 {
		name := path + corruptSuffix
		if i > 0 {
			name = fmt.Sprintf("%s%s.%d", path, corruptSuffix, i)
		}
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
	return path + corruptSuffix
}
