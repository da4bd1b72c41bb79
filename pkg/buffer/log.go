package buffer

import (
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxSegment  = 8 << 20
	minSegment  = 64 << 10
	maxBatch    = 1 << 20 // payload bytes in one transaction
	defaultSize = 1 << 30
	maxSpare    = 64 // value buffers kept for reuse
)

// Log is a durable log of frames in a folder. Its methods are safe for
// concurrent use; one goroutine appends and commits, any number reads.
type Log struct {
	dir  string
	opt  Options
	log  *slog.Logger
	lock *os.File

	// Taken in this order. writeMu: one writer of segments (Commit, Begin,
	// setting aside, Close). diskMu: handles are opened, closed and read.
	// mu: the fields below it, never held over disk work.
	writeMu sync.Mutex
	diskMu  sync.Mutex

	metaMu sync.Mutex
	meta   *metaStore

	mu           sync.Mutex
	closed       bool
	changed      chan struct{}
	epochs       epochTable
	ords         map[Epoch]uint32
	current      epoch // the one that Begin began; ord 0 before that
	lostTail     bool  // what came after last may be lost: tell the next epoch
	last         pos   // newest frame that there ever was
	committed    pos   // newest one on the disk
	safe         pos
	segs         []*segment // in the log's order; only the last may be active
	nextID       uint64
	pending      []frame // above committed, in order
	pendingBytes int64
	inflight     int // the first so many of pending are being written
	attach       map[[16]byte][]byte
	spare        [][]byte
	stats        Stats // the counters; the rest is filled by Stats

	bufs      sync.Pool // *readBatch
	reads     uint64    // guarded by diskMu
	collector prometheus.Collector
}

// frame is a pending frame; val is its stored form.
type frame struct {
	pos  pos
	t    int64
	val  []byte
	keys [][16]byte // its attachments
}

func (f *frame) payload() []byte { return f.val[frameHeader:] }

func (o *Options) fill() {
	if o.SegmentSize <= 0 || o.SegmentSize > maxSegment {
		o.SegmentSize = maxSegment
	}
	o.SegmentSize = max(minSegment, int64(1)<<(bits.Len64(uint64(o.SegmentSize))-1))
	if o.MaxSize <= 0 {
		o.MaxSize = defaultSize
	}
	o.MaxSize = max(o.MaxSize, 2*o.SegmentSize)
	if o.MaxPending <= 0 {
		o.MaxPending = 4 << 20
	}
	if o.Now == nil {
		o.Now = func() int64 { return 0 }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.files.fill()
}

// maxFrame is the most that a frame and its attachments may take together, so
// that any fits an empty segment.
func (o *Options) maxFrame() int { return int(min(2*MaxFrame, o.SegmentSize/4)) }

// Last is the position of the newest frame, committed or not. It outlives the
// frame: after everything was evicted, and after a restart, it still names
// the newest that was committed. ok is false if there never was one.
func (l *Log) Last() (p Pos, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.public(l.last), !l.last.zero()
}

// Committed is the position of the newest frame that is on the disk. ok is
// false if there never was one.
func (l *Log) Committed() (p Pos, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.public(l.committed), !l.committed.zero()
}

// Oldest is the position of the oldest frame in the log; ok is false if the
// log holds none.
func (l *Log) Oldest() (p Pos, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		if s.sum.frames > 0 {
			return l.public(s.sum.first), true
		}
	}
	if len(l.pending) > 0 {
		return l.public(l.pending[0].pos), true
	}
	return Pos{}, false
}

// Compare orders two positions: negative if a comes before b, zero if they
// are the same. ok is false if the log does not know one of the epochs (any
// more); the zero Pos is known.
func (l *Log) Compare(a, b Pos) (order int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, okA := l.internal(a)
	q, okB := l.internal(b)
	switch {
	case !okA || !okB:
		return 0, false
	case p.less(q):
		return -1, true
	case q.less(p):
		return 1, true
	}
	return 0, true
}

// SetSafe says up to where the receiver holds the frames durably. It may go
// back. It costs no write: the cursor rides along with the next commit, and
// Close writes it. A position of an epoch that the log does not know is
// ignored.
func (l *Log) SetSafe(p Pos) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q, ok := l.internal(p); ok {
		l.safe = q
	}
}

// Safe is what SetSafe was last given; after a restart, what the last commit
// had.
func (l *Log) Safe() Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.public(l.safe)
}

// Changed returns a channel that is closed at the next Append. Take it before
// the Read that finds nothing, then wait on it.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Meta returns a copy of a small durable value; ok is false if it was never
// set, or was lost with a corrupt meta file.
func (l *Log) Meta(key string) (val []byte, ok bool) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	v, ok := l.meta.vals[key]
	return slices.Clone(v), ok
}

// SetMeta stores a small value (all of them together at most 64 KiB) under a
// key of at most 255 bytes, or removes it if val is nil. When it returns
// without an error the value is durable; with one, the old value stands. It
// costs one fsync of a file of one block and one of the folder.
func (l *Log) SetMeta(key string, val []byte) error {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return l.meta.set(key, val)
}

// Begin starts a new epoch and makes it durable. When the disk refuses it
// returns the error, and the epoch stands all the same: no frame of it will be
// committed before it is. An epoch that the log already knows is refused.
func (l *Log) Begin(tag Epoch) error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	if _, ok := l.ords[tag]; ok || tag == (Epoch{}) {
		l.mu.Unlock()
		return fmt.Errorf("epoch %x was used before", tag)
	}
	e := epoch{ord: 1, tag: tag, prev: l.last, lost: l.lostTail}
	if n := len(l.epochs); n > 0 {
		e.ord = l.epochs[n-1].ord + 1
	}
	e.ord = max(e.ord, l.last.ord+1)
	l.addEpoch(e)
	l.current = e
	l.lostTail = false
	l.mu.Unlock()
	return l.commit(true)
}

// Append adds a frame of the current epoch, in memory: it can be read at
// once, and is accepted only when a Commit has returned without an error. seq
// must be above the epoch's last and begins at 1; numbers left out count as
// missing. t is the frame's log time in ms, or 0 while the clock is not
// trusted. attach are the attachments that the frame refers to, to be passed
// with every frame that does: each segment stores them once. Payload and
// attachments are copied.
//
// It never waits for the disk. When the disk refuses for long, the oldest
// pending frames beyond Options.MaxPending are dropped and counted.
func (l *Log) Append(seq uint64, payload []byte, t int64, attach ...Attachment) error {
	n := len(payload)
	for _, a := range attach {
		n += len(a.Data)
		if len(a.Data) > MaxFrame {
			return fmt.Errorf("attachment of %d bytes: %w", len(a.Data), ErrTooLarge)
		}
	}
	if n > l.opt.maxFrame() || len(payload) > MaxFrame {
		return fmt.Errorf("%d bytes: %w", n, ErrTooLarge)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.current.ord == 0:
		return ErrNoEpoch
	}
	e := l.current
	p := pos{e.ord, seq}
	if seq == 0 || !l.last.less(p) {
		return fmt.Errorf("frame %d after %s: %w", seq, l.public(l.last), ErrOrder)
	}
	f := frame{pos: p, t: t, val: appendFrame(l.spareBuf(), e.tag, p, t, payload)}
	for _, a := range attach {
		if _, ok := l.attach[a.Key]; !ok {
			l.attach[a.Key] = slices.Clone(a.Data)
		}
		f.keys = append(f.keys, a.Key)
	}
	if k := len(l.pending); k > 0 && slices.Equal(l.pending[k-1].keys, f.keys) {
		f.keys = l.pending[k-1].keys
	}
	l.pending = append(l.pending, f)
	l.pendingBytes += int64(len(f.val))
	l.last = p
	l.dropPending()
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// dropPending gives up the oldest pending frames beyond the bound, but none
// that is being written. The caller holds mu.
func (l *Log) dropPending() {
	n := 0
	for l.pendingBytes > l.opt.MaxPending && l.inflight+n < len(l.pending)-1 {
		l.pendingBytes -= int64(len(l.pending[l.inflight+n].val))
		n++
	}
	if n == 0 {
		return
	}
	l.recycle(l.pending[l.inflight : l.inflight+n])
	l.pending = slices.Delete(l.pending, l.inflight, l.inflight+n)
	l.stats.GivenUp += uint64(n)
}

func (l *Log) spareBuf() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b[:0]
	}
	return nil
}

// recycle keeps the buffers of frames that nobody refers to any more.
func (l *Log) recycle(fs []frame) {
	for i := range fs {
		if len(l.spare) < maxSpare && cap(fs[i].val) <= 16<<10 {
			l.spare = append(l.spare, fs[i].val)
		}
	}
}

// addEpoch enters an epoch that is new to the table; the caller holds mu.
func (l *Log) addEpoch(e epoch) {
	if l.epochs.add(e) {
		l.ords[e.tag] = e.ord
	}
}

// tag is the epoch of an ordinal, for those who do not hold mu.
func (l *Log) tag(ord uint32) (Epoch, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.epochs.of(ord)
	return e.tag, ok
}

func (l *Log) public(p pos) Pos { return l.epochs.public(p) }

func (l *Log) internal(p Pos) (pos, bool) {
	if p.IsZero() {
		return pos{}, true
	}
	ord, ok := l.ords[p.Epoch]
	return pos{ord, p.Seq}, ok
}
