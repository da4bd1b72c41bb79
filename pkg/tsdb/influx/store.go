package influx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	influxdb "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
)

// ErrUnreachable says that the store was closed while the server did not take what
// was committed: it is not durable, and comes again from the edges.
var ErrUnreachable = errors.New("the store's server did not take everything before the hub stopped")

// Options of a [Store].
type Options struct {
	URL, Org, Bucket, Token string
	// QueryURL is the base of a Prometheus query API over the same samples, without
	// /api/v1; it may hold a user and a password. Empty: nothing can be read.
	QueryURL string
	// FlushDelay is how long the server may take until what it has accepted is on
	// its disk; 15 s when 0, none when negative. VictoriaMetrics was seen to take
	// between 10 and 12 s.
	FlushDelay time.Duration
	// BatchBytes is how large a request may become; 1 MiB when 0.
	BatchBytes int
	// Pending is how many bytes may wait for the server; 64 MiB when 0.
	Pending int64
	// CloseWait is how long Close waits for the server; 10 s when 0.
	CloseWait time.Duration
	// Retry is the shortest and the longest time between two attempts; 200 ms and
	// 30 s when 0.
	Retry, MaxRetry time.Duration
	// Refused is the file for lines that the server refuses; empty: they are logged
	// only.
	Refused string
	// Client makes the requests; nil: one with a timeout of 30 s.
	Client *http.Client
	// Now is the hub's clock in milliseconds; the system's when nil.
	Now func() int64
	// Logger may be nil.
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

func (o *Options) setDefaults() error {
	for _, u := range []*string{&o.URL, &o.QueryURL} {
		if *u == "" && u == &o.QueryURL {
			continue
		}
		parsed, err := url.Parse(*u)
		if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
			return fmt.Errorf("%q is not the address of a server: write http://HOST:PORT", *u)
		}
	}
	for v, d := range map[*time.Duration]time.Duration{
		&o.FlushDelay: 15 * time.Second, &o.CloseWait: 10 * time.Second, &o.Retry: 200 * time.Millisecond, &o.MaxRetry: 30 * time.Second,
	} {
		if *v == 0 {
			*v = d
		}
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = 1 << 20
	}
	if o.Pending == 0 {
		o.Pending = 64 << 20
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 30 * time.Second}
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// writers is how many requests are under way at once.
const writers = 2

// Store is a [tsdb.Store] on a server.
type Store struct {
	o       Options
	client  influxdb.Client
	write   api.WriteAPIBlocking
	metrics *metrics
	refused *refused

	names sync.RWMutex
	refs  map[string]uint64 // by key
	keys  []string          // by reference - 1

	mu      sync.Mutex
	queue   []batch
	waiting int64           // bytes in queue and under way
	next    uint64          // number of the next batch
	undone  map[uint64]bool // batches that the server has not taken
	last    time.Time       // when it last took one
	changed chan struct{}   // closed when any of these changes
	stopped bool
	closed  bool

	ctx    context.Context //nolint:containedctx // of the writers; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	down      atomic.Bool // the last attempt failed
	samples   atomic.Uint64
	ahead     atomic.Uint64
	stale     atomic.Uint64
	syncCount atomic.Uint64
	lastSync  atomic.Int64
	lastTook  atomic.Int64
}

var _ tsdb.Store = (*Store)(nil)

// batch is what one Commit hands over.
type batch struct {
	number uint64
	lines  []byte
}

// Open makes a store. The server need not be up.
func Open(o Options) (*Store, error) {
	if err := o.setDefaults(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{
		o: o, metrics: newMetrics(), refused: newRefused(o.Refused, o.Now), refs: map[string]uint64{},
		undone: map[uint64]bool{}, changed: make(chan struct{}),
	}
	s.client = influxdb.NewClientWithOptions(o.URL, o.Token, influxdb.DefaultOptions().
		SetPrecision(time.Millisecond).SetUseGZip(true).SetHTTPClient(o.Client).SetApplicationName("langbiang-hub"))
	s.write = s.client.WriteAPIBlocking(o.Org, o.Bucket)
	if o.Metrics != nil {
		for _, c := range s.metrics.all() {
			if err := o.Metrics.Register(c); err != nil {
				return nil, fmt.Errorf("store: %w", err)
			}
		}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for range writers {
		s.wg.Go(s.run)
	}
	return s, nil
}

// Capabilities implements [tsdb.Store].
func (s *Store) Capabilities() tsdb.Capabilities { return tsdb.Capabilities{} }

// Queryable implements [tsdb.Store].
func (s *Store) Queryable() storage.Queryable { return queryable{s} }

// notify wakes those who wait for a change. The caller holds mu.
func (s *Store) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await returns when ok does, which is called with mu held, or says why it never
// will.
func (s *Store) await(ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed, closed := ok(), s.changed, s.closed
		s.mu.Unlock()
		switch {
		case done:
			return nil
		case closed:
			return tsdb.ErrClosed
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return ErrUnreachable
		}
	}
}

// put takes a batch over. It blocks while too much waits.
func (s *Store) put(lines []byte) error {
	return s.await(func() bool {
		if s.closed || s.waiting > 0 && s.waiting+int64(len(lines)) > s.o.Pending {
			return false
		}
		s.queue = append(s.queue, batch{s.next, lines})
		s.undone[s.next] = true
		s.next++
		s.waiting += int64(len(lines))
		s.metrics.pending.Set(float64(s.waiting))
		s.notify()
		return true
	})
}

// Sync implements [tsdb.Store].
func (s *Store) Sync() error {
	start := time.Now()
	s.mu.Lock()
	until := s.next
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return tsdb.ErrClosed
	}
	var last time.Time
	err := s.await(func() bool {
		for n := range s.undone {
			if n < until {
				return false
			}
		}
		last = s.last
		return true
	})
	if err != nil {
		return err
	}
	if wait := time.Until(last.Add(s.o.FlushDelay)); wait > 0 && s.o.FlushDelay > 0 {
		flushed := time.NewTimer(wait)
		defer flushed.Stop()
		select {
		case <-flushed.C:
		case <-s.ctx.Done():
			return ErrUnreachable
		}
	}
	s.syncCount.Add(1)
	s.lastSync.Store(s.o.Now())
	s.lastTook.Store(int64(time.Since(start)))
	return nil
}

// Stats implements [tsdb.Store].
func (s *Store) Stats() tsdb.Stats {
	s.names.RLock()
	series := len(s.keys)
	s.names.RUnlock()
	return tsdb.Stats{
		Series: uint64(series), FreeBytes: -1, Samples: s.samples.Load(), Ahead: s.ahead.Load(), Refused: s.refused.count(),
		Syncs: s.syncCount.Load(), LastSync: s.lastSync.Load(), SyncDuration: time.Duration(s.lastTook.Load()),
	}
}

// Stopping says that the store is about to be closed: from now on nothing waits
// longer than Options.CloseWait for the server.
func (s *Store) Stopping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.stopped = true
		time.AfterFunc(s.o.CloseWait, s.cancel)
	}
}

// Close implements [tsdb.Store]. It waits for the server as Stopping says.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.Stopping()
	err := s.Sync()
	s.mu.Lock()
	s.closed = true
	s.notify()
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	s.client.Close()
	s.o.Client.CloseIdleConnections()
	if s.o.Metrics != nil {
		for _, c := range s.metrics.all() {
			s.o.Metrics.Unregister(c)
		}
	}
	return errors.Join(err, s.refused.close())
}

// Appender implements [tsdb.Store].
func (s *Store) Appender() tsdb.Appender { return &appender{s: s} }

// appender implements [tsdb.Appender].
type appender struct {
	s     *Store
	open  bool
	lines []byte
	n     uint64
	limit int64
}

// Append implements [tsdb.Appender].
func (a *appender) Append(ref uint64, lset []telemetry.Label, t int64, v float64) (uint64, error) {
	if !a.open {
		a.s.mu.Lock()
		closed := a.s.closed
		a.s.mu.Unlock()
		if closed {
			return ref, tsdb.ErrClosed
		}
		a.open, a.limit = true, a.s.o.Now()+tsdb.MaxAhead.Milliseconds()
	}
	if t > a.limit {
		a.s.ahead.Add(1)
		return ref, fmt.Errorf("%w: by %d s", tsdb.ErrAhead, (t-a.limit)/1000+int64(tsdb.MaxAhead.Seconds()))
	}
	ref, key, err := a.s.name(ref, lset)
	if err != nil || ref == 0 {
		return 0, err
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		a.s.stale.Add(1) // nothing that line protocol can say
		return ref, nil
	}
	a.lines = appendLine(a.lines, key, t, v)
	a.n++
	return ref, nil
}

// name finds the series.
func (s *Store) name(ref uint64, lset []telemetry.Label) (uint64, string, error) {
	s.names.RLock()
	if ref > 0 && ref <= uint64(len(s.keys)) {
		k := s.keys[ref-1]
		s.names.RUnlock()
		return ref, k, nil
	}
	s.names.RUnlock()
	if lset == nil && ref != 0 {
		return 0, "", nil // of another process
	}
	k, err := key(lset)
	if err != nil {
		return 0, "", err
	}
	s.names.Lock()
	defer s.names.Unlock()
	if ref, ok := s.refs[k]; ok {
		return ref, k, nil
	}
	s.keys = append(s.keys, k)
	ref = uint64(len(s.keys))
	s.refs[k] = ref
	return ref, k, nil
}

// Commit implements [tsdb.Appender].
func (a *appender) Commit() error {
	if !a.open {
		return nil
	}
	lines, n := a.lines, a.n
	a.open, a.lines, a.n = false, make([]byte, 0, len(lines)), 0
	a.s.mu.Lock()
	closed := a.s.closed
	a.s.mu.Unlock()
	switch {
	case closed:
		return tsdb.ErrClosed
	case n == 0:
		return nil
	}
	if err := a.s.put(lines); err != nil {
		return err
	}
	a.s.samples.Add(n)
	a.s.metrics.samples.Add(float64(n))
	return nil
}

// Rollback implements [tsdb.Appender].
func (a *appender) Rollback() error {
	a.open, a.lines, a.n = false, a.lines[:0], 0
	return nil
}
