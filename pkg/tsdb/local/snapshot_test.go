package local

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/tsdb/history"
)

func TestASnapshotHasEverythingThatWasCommitted(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	for h := range int64(5) {
		add(t, s, "t", t0+h*hour, 60)
	}
	check(t, s.db.Compact(context.Background()))
	add(t, s, "t", t0+5*hour, 60)
	add(t, s, "t", t0-9*day, 60)
	add(t, s, "u", t0-8*day, 60) // a series that came out of order alone
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { // ingest goes on
		app := s.Appender()
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, at := range []int64{t0 + 6*hour + i*1000, t0 - 7*day + i*1000} {
				if _, err := app.Append(0, lset("busy"), at, value("busy", at)); err != nil {
					t.Error(err)
					return
				}
			}
			if err := app.Commit(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	dir, done, err := s.Snapshot(context.Background())
	close(stop)
	wg.Wait()
	check(t, err)
	copied := t.TempDir()
	check(t, os.CopyFS(copied, os.DirFS(dir)))
	check(t, done())
	if left, _ := filepath.Glob(filepath.Join(s.dir, snapshotPrefix+"*")); len(left) > 0 {
		t.Errorf("%q is left", left)
	}

	r := mustOpen(t, copied)
	if rep := r.Report(); rep.NeedRewind || len(rep.Damage) > 0 {
		t.Errorf("%+v", rep)
	}
	for h := range int64(6) {
		expectRange(t, r, "t", t0+h*hour, 60)
	}
	expectRange(t, r, "t", t0-9*day, 60)
	expectRange(t, r, "u", t0-8*day, 60)
	times(t, r, "busy") // none twice, none wrong
	// What the edges send again stands once, and new samples are taken.
	add(t, r, "t", t0+4*hour, 60)
	add(t, r, "t", t0-9*day, 120)
	add(t, r, "t", t0+7*hour, 60)
	expectRange(t, r, "t", t0-9*day, 120)
	expectRange(t, r, "t", t0+7*hour, 60)
}

func TestASnapshotOfAnEmptyStoreIsOne(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	dir, done, err := s.Snapshot(context.Background())
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "x"), nil, 0o600))
	_, err = os.Stat(dir)
	check(t, err)
	check(t, s.Close())
	mustOpen(t, s.dir) // as after a crash in the middle of a backup
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the snapshot that nobody ended is still there: %v", err)
	}
	check(t, done())
}

func TestASnapshotHasLongHistoryAndWhatCameLate(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(12, 12))
	r := newLongRig(t)
	r.fill(rng, t0, t0+day+2*hour, "a")
	r.catch()
	r.fill(rng, t0+3*hour, t0+4*hour, "late")
	dir, done, err := r.s.Snapshot(context.Background())
	check(t, err)
	other := &longRig{t: t, dir: t.TempDir()}
	other.now.Store(r.now.Load())
	check(t, os.CopyFS(other.dir, os.DirFS(dir)))
	check(t, done())
	h, err := history.Open(filepath.Join(other.dir, historyDir), history.Options{Settle: time.Hour})
	check(t, err)
	if st := h.Stats(); st.Sets != 1 || st.Late != 1 {
		t.Errorf("%+v, want a set and what came late", st)
	}
	check(t, h.Close())
	other.open()
	if n := other.s.Stats().LongLate; n != 0 {
		t.Errorf("%d slices wait, they can be computed of the copy", n)
	}
	e := "max_over_time(gust[1h])"
	near(t, e, r.raw(e, t0+hour, t0+day, hour), other.both(e, t0+hour, t0+day, hour), 0)
}
