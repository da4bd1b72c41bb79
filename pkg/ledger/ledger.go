package ledger

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/langbiang/langbiang/pkg/alert"
)

// FileName is the name of the database in the ledger's directory.
const FileName = "ledger.db"

// FormatVersion is the version of the layout that this program writes.
const FormatVersion = 2

// The errors that callers branch on.
var (
	// ErrLocked says that another process holds the ledger.
	ErrLocked = errors.New("in use by another process")
	// ErrVersion says that the file was written by a newer program.
	ErrVersion = errors.New("written by a newer langbiang-hub")
	// ErrClosed says that the ledger has been closed.
	ErrClosed = errors.New("ledger is closed")
	// ErrFailed marks every error after a commit has failed. The process must
	// end: what is in memory may be ahead of what is on disk.
	ErrFailed = errors.New("the ledger can no longer be written")
	// ErrInvalid says that an argument cannot be stored.
	ErrInvalid = errors.New("cannot be stored")
	// ErrCursor says that a list's cursor is none that this ledger gave out.
	ErrCursor = errors.New("not a cursor of this list")
)

// Options of a ledger. The zero value is usable.
type Options struct {
	// Now is the hub's clock, for recorded times. Default: time.Now.
	Now func() time.Time
	// Window is how long the writer gathers transitions before it commits them.
	// Default: 5 ms. Negative: no waiting.
	Window time.Duration
	// Queue is how many writes may wait. Default: 4096.
	Queue int
	// MaxEvents is how many events are kept. Default: 10,000.
	MaxEvents int
	// MaxGaps is how many gaps are kept for each edge, newest first. Default: 1,000.
	MaxGaps int
	// Recent is how many of the newest entries are held in memory. Default: 512.
	Recent int
	// Logger may be nil.
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Window == 0 {
		o.Window = 5 * time.Millisecond
	}
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	if o.MaxEvents <= 0 {
		o.MaxEvents = 10_000
	}
	if o.MaxGaps <= 0 {
		o.MaxGaps = 1_000
	}
	if o.Recent <= 0 {
		o.Recent = 512
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Ledger is an open ledger. See the package comment for what it promises.
type Ledger struct {
	o       Options
	db      *bolt.DB
	dir     string
	metrics *metrics

	queue chan op
	done  chan struct{} // closed when the writer has ended

	submitMu sync.RWMutex // held for reading while sending into queue
	closed   bool

	mu          sync.Mutex
	err         error // sticky
	generations []Generation
	first, last uint64 // sequences; first = last+1 when the log is empty
	recent      []alert.Entry
	counts      counters
	holds       []alert.Hold     // that stand; replaced, never changed
	tests       map[string]int64 // active tests: when they end, by id
	changed     chan struct{}
}

// Generation is a stretch of the alert log; see [Ledger.NewGeneration].
type Generation = alert.Generation

// The buckets.
var (
	bucketMeta      = []byte("meta")
	bucketLog       = []byte("log")
	bucketKeys      = []byte("keys")
	bucketAlerts    = []byte("alerts")
	bucketStarts    = []byte("starts")
	bucketActive    = []byte("active")
	bucketPositions = []byte("positions")
	bucketState     = []byte("state")
	bucketChanges   = []byte("statechanges")
	bucketSchemas   = []byte("schemas")
	bucketRuleSets  = []byte("rulesets")
	bucketEdges     = []byte("edges")
	bucketGaps      = []byte("gaps")
	bucketEvents    = []byte("events")
	bucketHolds     = []byte("holds")
	bucketEnded     = []byte("endedholds")
	bucketConsumers = []byte("consumers")
	bucketDead      = []byte("dead")
	bucketNotices   = []byte("notices")
	bucketTokens    = []byte("tokens")
	bucketRecords   = []byte("records")
	bucketAudit     = []byte("audit")

	keyVersion     = []byte("version")
	keyGenerations = []byte("generations")
)

func allBuckets() [][]byte {
	return [][]byte{
		bucketMeta, bucketLog, bucketKeys, bucketAlerts, bucketStarts, bucketActive, bucketPositions,
		bucketState, bucketChanges, bucketSchemas, bucketRuleSets, bucketEdges, bucketGaps, bucketEvents, bucketHolds, bucketEnded,
		bucketConsumers, bucketDead, bucketNotices, bucketTokens,
		bucketRecords, bucketAudit,
	}
}

// Open opens the ledger in dir, and makes both when they do not exist. It
// fails with [ErrLocked] when another process has it open, and with
// [ErrVersion] when a newer program wrote it.
func Open(dir string, o Options) (l *Ledger, err error) {
	o.setDefaults()
	path := filepath.Join(dir, FileName)
	if err := create(dir, path); err != nil {
		return nil, err
	}
	db, err := openDB(path)
	if err != nil {
		return nil, err
	}
	l = &Ledger{
		o: o, db: db, dir: dir,
		metrics: newMetrics(o.Metrics),
		queue:   make(chan op, o.Queue),
		done:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	if err := l.load(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(newActiveAlerts(l))
	}
	go l.write()
	return l, nil
}

// create makes the folder and a file that is whole and has a durable name, unless
// there is one: bbolt makes neither durable, so a power cut in the first second
// would leave a file that is none, and one later no file at all.
func create(dir, path string) error {
	if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil // openDB says what is wrong with it
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	fresh := path + ".new"
	_ = os.Remove(fresh) // what an interrupted start left
	db, err := openDB(fresh)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return prepare(tx, 0) })
	if err = errors.Join(err, db.Close()); err == nil {
		err = os.Rename(fresh, path)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err == nil {
			err = syncDir(d)
		}
	}
	if err != nil {
		return fmt.Errorf("ledger %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openDB opens the file. A damaged one makes bbolt panic in places; that is an
// error here, and the file stays as it is.
func openDB(path string) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("ledger %s: the file is damaged (%v); restore it from a backup, it has been left as it is", path, r)
		}
	}()
	db, err = bolt.Open(path, 0o640, &bolt.Options{
		Timeout:         300 * time.Millisecond,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: 64 << 20,
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("ledger %s is %w; stop the other hub, or give this one another data_dir", path, ErrLocked)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("ledger %s: the file is damaged or no ledger (%w); restore it from a backup, it has been left as it is", path, err)
	case err != nil:
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	return db, nil
}

// load checks the version, makes what is missing and reads what is held in
// memory.
func (l *Ledger) load() error {
	version := uint32(0) // fresh
	err := l.db.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return nil
		}
		v := meta.Get(keyVersion)
		if len(v) != 4 {
			return errors.New("it has no format version: no ledger of this program")
		}
		if version = binary.BigEndian.Uint32(v); version > FormatVersion {
			return fmt.Errorf("%w (format %d, this one knows up to %d)", ErrVersion, version, FormatVersion)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := l.db.Update(func(tx *bolt.Tx) error { return prepare(tx, version) }); err != nil {
		return err
	}
	return l.db.View(func(tx *bolt.Tx) error {
		if err := json.Unmarshal(tx.Bucket(bucketMeta).Get(keyGenerations), &l.generations); err != nil || len(l.generations) == 0 {
			return fmt.Errorf("the list of generations cannot be read: %w", err)
		}
		log := tx.Bucket(bucketLog)
		if k, _ := log.Cursor().Last(); k != nil {
			l.last = binary.BigEndian.Uint64(k)
		}
		// A log trimmed to nothing keeps its numbers by the bucket's own counter.
		l.last = max(l.last, log.Sequence())
		l.first = l.last + 1
		if k, _ := log.Cursor().First(); k != nil {
			l.first = binary.BigEndian.Uint64(k)
		}
		l.counts = newCounters()
		err := tx.Bucket(bucketActive).ForEach(func(_, v []byte) error {
			if ix, ok := decodeIndex(v); ok {
				l.counts.add(&ix, 1)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return l.loadHolds(tx)
	})
}

// prepare brings the file to this program's format: 0 is that of an empty one.
func prepare(tx *bolt.Tx, version uint32) error {
	for _, b := range allBuckets() {
		if _, err := tx.CreateBucketIfNotExists(b); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	if version == 1 {
		if err := migrate1(tx); err != nil {
			return err
		}
	}
	if version != FormatVersion {
		if err := meta.Put(keyVersion, binary.BigEndian.AppendUint32(nil, FormatVersion)); err != nil {
			return err
		}
	}
	if version != 0 {
		return nil
	}
	return putGenerations(meta, []Generation{{ID: newGenerationID(), First: 1}})
}

func putGenerations(meta *bolt.Bucket, gs []Generation) error {
	b, err := json.Marshal(gs)
	if err != nil {
		return err
	}
	return meta.Put(keyGenerations, b)
}

func newGenerationID() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Close commits what is queued and closes the file. Calls that come later
// return [ErrClosed]. It returns the error of a failed commit, if there was one.
func (l *Ledger) Close() error {
	l.submitMu.Lock()
	if l.closed {
		l.submitMu.Unlock()
		<-l.done
		return nil
	}
	l.closed = true
	close(l.queue)
	l.submitMu.Unlock()
	<-l.done
	err := l.Err()
	if cerr := l.db.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("ledger: %w", cerr)
	}
	return err
}

// Err returns the error that stopped the ledger from being written, nil while
// it works. Once not nil it stays; it wraps [ErrFailed].
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Dir returns the ledger's directory.
func (l *Ledger) Dir() string { return l.dir }

// Generation returns the id of the present generation of the alert log.
func (l *Ledger) Generation() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generations[len(l.generations)-1].ID
}

// Generations returns all generations, oldest first.
func (l *Ledger) Generations() []Generation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.generations)
}

// NewGeneration starts a new generation with the next entry, and returns its
// id. Call it once after the ledger was restored from a backup: consumers of
// the old generation may have seen entries that this ledger lacks.
func (l *Ledger) NewGeneration() (string, error) {
	id := newGenerationID()
	err := l.wait(func(b *batch) error {
		gs := append(b.generations(), Generation{ID: id, First: b.last + 1})
		if n := len(gs); n > 1 && gs[n-2].First == gs[n-1].First {
			gs = append(gs[:n-2], gs[n-1]) // the one before has no entry
		}
		b.newGenerations = gs
		return putGenerations(b.tx.Bucket(bucketMeta), gs)
	})
	return id, err
}

// LastSequence returns the sequence of the newest committed entry, 0 when there
// was none.
func (l *Ledger) LastSequence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// FirstSequence returns the sequence of the oldest entry that is kept;
// LastSequence()+1 when none is.
func (l *Ledger) FirstSequence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Changed returns a channel that is closed when entries are committed after
// this call. Take it before reading Entries, then wait for it.
func (l *Ledger) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}
