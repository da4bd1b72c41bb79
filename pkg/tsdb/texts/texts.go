package texts

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
)

// FileName is the name of the database in the log's folder.
const FileName = "texts.db"

// FormatVersion is the version of the file that this program writes.
const FormatVersion = 1

// Options of a [Log].
type Options struct {
	// MaxBytes bounds what the states take, their overhead on disk apart; 256 MiB
	// when 0.
	MaxBytes int64
	// Keep is how long states are kept; 400 days when 0.
	Keep time.Duration
	// Now is the hub's clock in milliseconds; the system's when nil.
	Now func() int64
	// Logger may be nil.
	Logger *slog.Logger
}

// maxRemembered bounds the series whose newest state is held in memory.
const maxRemembered = 100_000

// Log is an open log of texts.
type Log struct {
	o  Options
	db *bolt.DB

	mu      sync.Mutex
	last    map[string]entry // newest of each series since Open, by its labels
	pending []entry
	closed  bool

	syncs sync.Mutex // held by Sync
}

// entry is a state that begins.
type entry struct {
	key     string // the labels
	lset    telemetry.Labels
	t       int64
	text    string
	quality telemetry.Quality
}

var (
	bucketMeta   = []byte("meta")
	bucketSeries = []byte("series")
	bucketNames  = []byte("names")
	bucketStates = []byte("states")
	bucketTimes  = []byte("times")
	keyVersion   = []byte("version")
	keyBytes     = []byte("bytes")
	keyRewind    = []byte("rewind")
)

// Open opens the log in dir, and makes both when they do not exist.
func Open(dir string, o Options) (*Log, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 256 << 20
	}
	if o.Keep == 0 {
		o.Keep = 400 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("texts: %w", err)
	}
	l := &Log{o: o, last: map[string]entry{}}
	path := filepath.Join(dir, FileName)
	if err := finishReplacing(path); err != nil {
		return nil, fmt.Errorf("texts: %w", err)
	}
	var err error
	l.db, err = openDB(path, false)
	if errors.Is(err, errDamaged) {
		o.Logger.Error("the log of texts is damaged and set aside; the edges send again what they keep", "file", path, "err", err)
		l.db, err = replace(path)
	}
	if err != nil {
		return nil, fmt.Errorf("texts: %w", err)
	}
	return l, nil
}

// replace puts a damaged file aside and an empty one that knows of it in its place.
func replace(path string) (*bolt.DB, error) {
	db, err := openDB(path+newSuffix, true)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	aside := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := os.Rename(path, aside); err != nil {
		return nil, err
	}
	if err := finishReplacing(path); err != nil {
		return nil, err
	}
	return openDB(path, true)
}

const newSuffix = ".new"

// finishReplacing goes on where a crash has broken replace off.
func finishReplacing(path string) error {
	_, err := os.Lstat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(path+newSuffix, path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errDamaged says that a file is no log of texts any more.
var errDamaged = errors.New("the file is damaged")

// openDB opens a file, or makes one. One that replaces a damaged file notes that the
// edges have to send again.
func openDB(path string, replaces bool) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil { // bbolt panics at some damage
			db, err = nil, fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	db, err = bolt.Open(path, 0o640, &bolt.Options{Timeout: 300 * time.Millisecond, FreelistType: bolt.FreelistMapType})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, tsdb.ErrLocked)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	case err != nil:
		return nil, err
	}
	if err := db.Update(func(tx *bolt.Tx) error { return prepare(tx, replaces) }); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	d, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func prepare(tx *bolt.Tx, replaces bool) error {
	if meta := tx.Bucket(bucketMeta); meta != nil {
		v := meta.Get(keyVersion)
		if len(v) != 4 {
			return fmt.Errorf("%w: it has no version", errDamaged)
		}
		if n := binary.BigEndian.Uint32(v); n > FormatVersion {
			return fmt.Errorf("%s: %w (format %d, this one knows up to %d)", filepath.Base(tx.DB().Path()), tsdb.ErrVersion, n, FormatVersion)
		}
		return nil
	}
	for _, b := range [][]byte{bucketMeta, bucketSeries, bucketNames, bucketStates, bucketTimes} {
		if _, err := tx.CreateBucket(b); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	if replaces {
		if err := meta.Put(keyRewind, []byte{1}); err != nil {
			return err
		}
	}
	return meta.Put(keyVersion, binary.BigEndian.AppendUint32(nil, FormatVersion))
}

// NeedRewind reports whether a damaged file was set aside, now or at an earlier
// start, and [Log.Rewound] has not been called since.
func (l *Log) NeedRewind() (need bool, err error) {
	err = l.db.View(func(tx *bolt.Tx) error {
		need = tx.Bucket(bucketMeta).Get(keyRewind) != nil
		return nil
	})
	return need, err
}

// Rewound says that the edges will send again what they keep, durably decided.
func (l *Log) Rewound() error {
	return l.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyRewind) })
}

// Append takes a reading of a series of texts. The labels are sorted and not kept,
// nor is the text. A bad reading is a state, too: nobody knows.
func (l *Log) Append(lset []telemetry.Label, t int64, text string, q telemetry.Quality) {
	var b bytes.Buffer
	for _, x := range lset {
		b.WriteString(x.Name)
		b.WriteByte(0)
		b.WriteString(x.Value)
		b.WriteByte(0)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last, known := l.last[string(b.Bytes())]
	if known && t >= last.t && last.text == text && last.quality == q {
		return
	}
	e := entry{key: b.String(), t: t, text: string([]byte(text)), quality: q}
	for _, x := range lset {
		e.lset = append(e.lset, telemetry.Label{Name: string([]byte(x.Name)), Value: string([]byte(x.Value))})
	}
	l.pending = append(l.pending, e)
	if !known && len(l.last) >= maxRemembered {
		clear(l.last) // a state that goes on is written once more
	}
	if !known || t >= last.t {
		e.lset = nil
		l.last[e.key] = e
	}
}

// Sync makes everything durable whose Append had returned before. After an error,
// which is a [tsdb.ErrFatal], the process must end.
func (l *Log) Sync() error {
	l.syncs.Lock()
	defer l.syncs.Unlock()
	l.mu.Lock()
	list := l.pending
	l.pending = nil
	closed := l.closed
	l.mu.Unlock()
	switch {
	case closed:
		return tsdb.ErrClosed
	case len(list) == 0:
		return nil
	}
	err := l.db.Update(func(tx *bolt.Tx) error {
		w := newWriter(tx)
		for i := range list {
			if err := w.put(&list[i]); err != nil {
				return err
			}
		}
		return w.evict(l.o.MaxBytes, l.o.Now()-l.o.Keep.Milliseconds())
	})
	if err != nil {
		return fmt.Errorf("%w: texts: %w", tsdb.ErrFatal, err)
	}
	return nil
}

// writer is a transaction.
type writer struct {
	meta, series, names, states, times *bolt.Bucket
	bytes                              uint64
}

func newWriter(tx *bolt.Tx) *writer {
	w := &writer{
		meta: tx.Bucket(bucketMeta), series: tx.Bucket(bucketSeries), names: tx.Bucket(bucketNames),
		states: tx.Bucket(bucketStates), times: tx.Bucket(bucketTimes),
	}
	if v := w.meta.Get(keyBytes); len(v) == 8 {
		w.bytes = binary.BigEndian.Uint64(v)
	}
	return w
}

func appendTime(b []byte, t int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(t)^1<<63) }

func timeOf(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }

// put writes a state, unless the one before it is the same, or one stands at its
// time already: what comes again after a crash.
func (w *writer) put(e *entry) error {
	id := bytes.Clone(w.names.Get([]byte(e.key)))
	if id == nil {
		n, err := w.series.NextSequence()
		if err != nil {
			return err
		}
		id = binary.BigEndian.AppendUint64(nil, n)
		labels, err := json.Marshal(e.lset.Map())
		if err != nil {
			return err
		}
		if err := errors.Join(w.series.Put(id, labels), w.names.Put([]byte(e.key), id)); err != nil {
			return err
		}
	}
	key := appendTime(bytes.Clone(id), e.t)
	value := append([]byte{byte(e.quality)}, e.text...)
	c := w.states.Cursor()
	k, _ := c.Seek(key)
	if bytes.Equal(k, key) {
		return nil
	}
	var before []byte
	if k == nil {
		k, before = c.Last()
	} else {
		k, before = c.Prev()
	}
	if bytes.HasPrefix(k, id) && bytes.Equal(before, value) {
		return nil
	}
	w.bytes += uint64(len(key) + len(value))
	return errors.Join(w.states.Put(key, value), w.times.Put(append(appendTime(nil, e.t), id...), nil))
}

// evict removes the oldest states, those from before a time and those beyond a size,
// and notes the size.
func (w *writer) evict(limit, before int64) error {
	c := w.times.Cursor()
	for k, _ := c.First(); k != nil && (timeOf(k) < before || w.bytes > uint64(limit)); k, _ = c.First() {
		key := append(bytes.Clone(k[8:]), k[:8]...)
		w.bytes -= min(w.bytes, uint64(len(key)+len(w.states.Get(key))))
		if err := errors.Join(w.states.Delete(key), w.times.Delete(bytes.Clone(k))); err != nil {
			return err
		}
	}
	return w.meta.Put(keyBytes, binary.BigEndian.AppendUint64(nil, w.bytes))
}

// Backup writes a consistent copy to w.
func (l *Log) Backup(w io.Writer) error {
	err := l.db.View(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("texts: copy: %w", err)
	}
	return nil
}

// Close makes everything durable and closes the file.
func (l *Log) Close() error {
	err := l.Sync()
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	return errors.Join(err, l.db.Close())
}
