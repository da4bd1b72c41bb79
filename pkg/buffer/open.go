package buffer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Open opens or creates the log in dir and takes its lock (ErrLocked). It
// reads the folder and the newest segment; the others are opened when they
// are read. A newest segment that is corrupt is set aside; one of a newer
// program is ErrVersion. On a disk that cannot be written Open succeeds if
// the folder is there.
func Open(dir string, o Options) (*Log, error) {
	o.fill()
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("the log's folder: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	l := &Log{
		dir: dir, opt: o, log: o.Logger, lock: lock,
		changed: make(chan struct{}),
		ords:    map[Epoch]uint32{},
		attach:  map[[16]byte][]byte{},
	}
	l.bufs.New = func() any { return new(readBatch) }
	if err := l.load(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	l.retain()
	if err := l.register(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return l, nil
}

func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// load fills memory from the folder.
func (l *Log) load() error {
	m, aside, err := openMeta(l.dir, l.opt.files.rename)
	if err != nil {
		return err
	}
	l.meta = m
	if aside != "" {
		l.stats.Corrupt++
		if m.lost {
			l.log.Error("the log's small values are corrupt in both files, which were set aside: counters and the times of earlier boots are lost", "file", aside)
		} else {
			l.log.Error("a file of the log's small values is corrupt and was set aside; its copy has them", "file", aside)
		}
	}
	if err := l.list(); err != nil {
		return err
	}
	if err := l.adopt(); err != nil {
		return err
	}
	for _, s := range l.segs {
		if l.last.less(s.sum.last) {
			l.last = s.sum.last
		}
	}
	for _, e := range l.epochs {
		if l.last.less(e.prev) {
			l.last = e.prev
		}
	}
	l.committed = l.last
	return nil
}

// list finds the segments by their names.
func (l *Log) list() error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("the log's folder: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(l.dir, name)
		if strings.HasSuffix(name, tmpSuffix) {
			_ = os.Remove(path) // a creation that a crash cut short
			continue
		}
		base, _, corrupt := strings.Cut(name, corruptSuffix)
		id, sum, sealed, ok := parseName(base)
		if !ok {
			continue
		}
		l.nextID = max(l.nextID, id+1)
		if corrupt {
			l.stats.CorruptFiles++
			continue
		}
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("the log's folder: %w", err)
		}
		l.segs = append(l.segs, &segment{id: id, sum: sum, active: !sealed, path: path, size: diskUse(info)})
	}
	slices.SortFunc(l.segs, func(a, b *segment) int { return int(int64(a.id) - int64(b.id)) })
	return nil
}

// adopt inspects what the names do not tell: the newest segment wholly, and
// the summaries of others that were not sealed.
func (l *Log) adopt() error {
	newest := false // the newest sound segment was seen
	for i := len(l.segs) - 1; i >= 0; i-- {
		seg := l.segs[i]
		if newest && !seg.active {
			continue
		}
		c, err := l.inspect(seg.path, !newest, nil)
		switch {
		case err == nil:
		case damaged(err):
			if seg.active && !newest {
				l.lostTail = true // its name does not say how far it went
			}
			if l.setAside(seg, err) {
				i++ // what was saved of it stands in its place: look at that
			}
			continue
		default:
			return fmt.Errorf("%s: %w", filepath.Base(seg.path), err)
		}
		if seg.active {
			seg.sum, seg.size = c.state.sum, c.size // its file has room to grow
		}
		if newest {
			seg.active = false
			continue
		}
		newest = true
		seg.checked = true
		seg.attached = c.attached
		seg.saved = c.state.safe
		for _, e := range c.epochs {
			l.addEpoch(e)
			seg.savedOrd = max(seg.savedOrd, e.ord)
		}
		l.safe = c.state.safe
		l.last = c.header.base
	}
	return nil
}

// damaged reports whether an error is the file's own fault, rather than one
// of rights, of too many open files, or of a newer version.
func damaged(err error) bool {
	return errors.Is(err, errCorrupt) || errors.Is(err, unix.EIO)
}

// Close commits what is pending and the safe cursor, and releases the folder.
// It returns the error of that commit. Closing twice is harmless.
func (l *Log) Close() error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	n := len(l.segs)
	cursor := n > 0 && l.segs[n-1].active && l.segs[n-1].saved != l.safe
	l.mu.Unlock()
	err := l.commit(cursor)
	l.mu.Lock()
	l.closed = true
	close(l.changed)
	l.changed = make(chan struct{})
	segs := l.segs
	l.mu.Unlock()
	l.diskMu.Lock()
	defer l.diskMu.Unlock()
	for _, s := range segs {
		l.abandon(s, false)
		s.gone = true
	}
	if l.collector != nil {
		l.opt.Metrics.Unregister(l.collector)
	}
	if cerr := l.lock.Close(); err == nil {
		err = cerr
	}
	return err
}
