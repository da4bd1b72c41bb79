package local

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/langbiang/langbiang/pkg/api/promapi"
)

// Blocks are written and joined, and long history is computed, while samples come in
// and out of order and queries run: nobody misses a sample, sees one twice or waits
// for an error.
func TestCompactionBesideIngestHidesNothing(t *testing.T) {
	t.Parallel()
	r := newLongRig(t)
	s := r.s
	r.now.Store(t0 + 30*hour)
	add(t, s, "known", t0-2*day, 500)
	add(t, s, "known", t0, 500)
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	stop := make(chan struct{})
	run(func() error {
		defer close(stop)
		app := s.Appender()
		var in, out uint64
		for i := range int64(24 * 60) {
			for _, x := range []struct {
				point string
				ref   *uint64
				at    int64
			}{{"in", &in, t0 + i*minute}, {"out", &out, t0 - day + i*minute/2}} {
				ref, err := app.Append(*x.ref, lset(x.point), x.at, value(x.point, x.at))
				if err != nil {
					return err
				}
				*x.ref = ref
			}
			if err := app.Commit(); err != nil {
				return err
			}
			if i%100 == 99 {
				if err := s.Sync(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	run(func() error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if err := s.db.Compact(context.Background()); err != nil {
				return err
			}
			if err := s.db.CompactOOOHead(context.Background()); err != nil {
				return err
			}
			if err := s.long.Catch(context.Background(), samples{s}); err != nil {
				return err
			}
		}
	})
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
		}
		expectRange(t, s, "known", t0-2*day, 500)
		expectRange(t, s, "known", t0, 500)
	}
	wg.Wait()
	in, out := times(t, s, "in"), times(t, s, "out")
	if len(in) != 24*60 || len(out) != 24*60 {
		t.Errorf("%d and %d samples, want %d of each", len(in), len(out), 24*60)
	}
	if s.Stats().Blocks == 0 {
		t.Error("no block was written: the test proves nothing")
	}
}

// held is the store as a query sees it that stays in the middle: with its first series
// in hand, until it is let go.
type held struct {
	storage.Queryable
	entered, free chan struct{}
}

func (h held) Querier(from, to int64) (storage.Querier, error) {
	q, err := h.Queryable.Querier(from, to)
	return heldQuerier{q, h}, err
}

type heldQuerier struct {
	storage.Querier
	h held
}

func (q heldQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	return &heldSet{SeriesSet: q.Querier.Select(ctx, sorted, hints, matchers...), h: q.h}
}

type heldSet struct {
	storage.SeriesSet
	h     held
	stood bool
}

func (s *heldSet) Next() bool {
	next := s.SeriesSet.Next()
	if next && !s.stood {
		s.stood = true
		s.h.entered <- struct{}{}
		<-s.h.free
	}
	return next
}

// As many queries as may be are in the middle of reading the head and a block: one more
// is told so, and samples are taken, mapped, made durable and seen all the same.
func TestQueriesThatHoldTheStoreDoNotHoldIngest(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	add(t, s, "old", t0, 6*3600)
	check(t, s.db.Compact(t.Context()))
	if s.Stats().Blocks == 0 {
		t.Fatal("no block was written: the test proves nothing")
	}
	now := t0 + 6*hour
	add(t, s, "new", now, 500)
	h := held{s.Queryable(), make(chan struct{}), make(chan struct{})}
	const allowed = 2
	api, err := promapi.New(promapi.Options{Queryable: h, Concurrency: allowed})
	check(t, err)
	ask := func(more string) (int, string) {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, fmt.Sprintf("/api/v1/query_range?query=air_temperature&step=60&start=%d&end=%d%s", t0/1000, now/1000+500, more), nil))
		return w.Code, w.Body.String()
	}
	var wg sync.WaitGroup
	for range allowed {
		wg.Go(func() {
			if code, body := ask(""); code != http.StatusOK || !strings.Contains(body, `"point":"old"`) || !strings.Contains(body, `"point":"new"`) {
				t.Errorf("a query that was held: %d %.300s", code, body)
			}
		})
		<-h.entered
	}
	for range 3 {
		code, body := ask("&timeout=10ms")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, `"errorType":"timeout"`) || !strings.Contains(body, "2 queries are running already, none has ended in time") {
			t.Errorf("one query too many: %d %s", code, body)
		}
	}
	for i := range int64(20) {
		add(t, s, "new", now+(500+i*100)*1000, 100)
		add(t, s, "late", t0+i*1000, 1)
		s.db.ForceHeadMMap()
		check(t, s.Sync())
	}
	expectRange(t, s, "new", now, 2500)
	expectRange(t, s, "late", t0, 20)
	close(h.free)
	wg.Wait()
}
