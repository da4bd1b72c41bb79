package promapi

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// shortest is how long a query works before whoever else waits for a processor has its
// turn. The runtime by itself would let it go on for ten milliseconds, which is what
// every frame and every timer of the hub would wait then. Where others always wait, as
// when edges send what has gathered in days, turns grow up to longest, so that a query
// has a quarter of a processor for certain.
const (
	shortest = 200 * time.Microsecond
	longest  = 5 * time.Millisecond
)

// A turn is counted in samples, as the clock is too dear to be asked for each. How long
// it takes depends on what is done with them.
const (
	fewest = 16
	first  = 1024
	most   = 64 << 10
)

// largeFrom is how many samples a query reads before it counts as a large one. Of these
// few run at once, see [Options.Large]: the others wait, small ones pass.
const largeFrom = 1_000_000

// seekCost is what a seek counts as: it reads a chunk, most often, to the middle.
const seekCost = 64

// GiveWay returns the store as read by who is in no hurry: after some thousand samples
// others have their turn. Where nobody waits it costs nothing that could be measured.
func GiveWay(q storage.Queryable) storage.Queryable { return patientQueryable{q: q} }

type patientQueryable struct {
	q     storage.Queryable
	large chan struct{} // places of large queries; nil: there are enough
	from  int           // samples that make a query a large one
}

// Querier implements storage.Queryable.
func (p patientQueryable) Querier(from, to int64) (storage.Querier, error) {
	q, err := p.q.Querier(from, to)
	if err != nil {
		return nil, err
	}
	return &patientQuerier{Querier: q, of: p, began: time.Now(), aim: shortest, turn: first}, nil
}

// patientQuerier is used by one goroutine, as a query's is.
type patientQuerier struct {
	storage.Querier
	of    patientQueryable
	ctx   context.Context // of the query; from Select
	began time.Time       // this turn
	aim   time.Duration   // how long it is to take
	turn  int             // and how many samples that is
	read  int             // samples in it
	total int
	held  bool // a place among the large ones
}

func (q *patientQuerier) pass(samples int) {
	if q.read += samples; q.read >= q.turn {
		q.giveWay()
	}
}

func (q *patientQuerier) giveWay() {
	read := q.read
	q.total += read
	q.read = 0
	if q.of.large != nil && !q.held && q.total >= q.of.from {
		select {
		case q.of.large <- struct{}{}:
			q.held = true
		case <-q.ctx.Done(): // the engine sees it, too
			if crowded, ok := q.ctx.Value(crowdedKey{}).(*atomic.Bool); ok {
				crowded.Store(true)
			}
		}
		q.began = time.Now()
		return
	}
	ended := time.Now()
	runtime.Gosched()
	worked := ended.Sub(q.began)
	q.began = time.Now()
	if q.began.Sub(ended) > 3*worked {
		q.aim = min(2*q.aim, longest)
	} else {
		q.aim = max(q.aim/2, shortest)
	}
	if read < fewest {
		return
	}
	q.turn = min(max(int(float64(read)*float64(q.aim)/float64(worked+1)), q.turn/2, fewest), 2*q.turn, most)
}

// crowdedKey is, in the context of a query, where it is noted that it has waited for a
// place among the large ones until its time was over.
type crowdedKey struct{}

// Close implements storage.Querier.
func (q *patientQuerier) Close() error {
	if q.held {
		q.held = false
		<-q.of.large
	}
	return q.Querier.Close()
}

// Select implements storage.Querier.
func (q *patientQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	q.ctx = ctx
	return patientSet{q.Querier.Select(ctx, sorted, hints, ms...), q}
}

type patientSet struct {
	storage.SeriesSet
	q *patientQuerier
}

func (s patientSet) Next() bool {
	s.q.giveWay() // labels and chunks are looked up: of a series with late samples that is long
	return s.SeriesSet.Next()
}

func (s patientSet) At() storage.Series { return patientSeries{s.SeriesSet.At(), s.q} }

type patientSeries struct {
	storage.Series
	q *patientQuerier
}

// Iterator implements storage.Series.
func (s patientSeries) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	p, ok := it.(*patientIterator)
	if !ok {
		p = &patientIterator{}
	}
	p.Iterator, p.q = s.Series.Iterator(p.Iterator), s.q
	return p
}

type patientIterator struct {
	chunkenc.Iterator
	q *patientQuerier
}

// Next implements chunkenc.Iterator.
func (p *patientIterator) Next() chunkenc.ValueType {
	p.q.pass(1)
	return p.Iterator.Next()
}

// Seek implements chunkenc.Iterator.
func (p *patientIterator) Seek(t milliseconds) chunkenc.ValueType {
	p.q.pass(seekCost)
	return p.Iterator.Seek(t)
}

// milliseconds keeps vet from taking Seek for that of io.Seeker.
type milliseconds = int64
