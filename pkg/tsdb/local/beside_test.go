package local

import (
	"context"
	"sync"
	"testing"
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
