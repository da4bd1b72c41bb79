package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

func TestAnErrorOfTheStoreOrTheLedgerEndsRun(t *testing.T) {
	errDisk := errors.New("input/output error")
	fail := func() error { return errDisk }
	for name, breakIt := range map[string]func(*rig){
		"append":     func(r *rig) { r.store.appErr = func(sampleKey) error { return errDisk } },
		"sync":       func(r *rig) { r.store.syncErr = fail },
		"checkpoint": func(r *rig) { r.ledger.before = fail },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				breakIt(r)
				r.start()
				s := newSource(t, 1, 1, time.Now().UnixMilli()-10_000)
				r.send(wire.TopicHello, s.hello(1))
				r.send(wire.TopicFrame, s.raw)
				a := r.send(wire.TopicFrame, s.frame())
				if !a.Safe.IsZero() {
					t.Errorf("%+v", a)
				}
				advance(2 * time.Second)
				if err := <-r.done; !errors.Is(err, errDisk) {
					t.Errorf("Run returned %v", err)
				}
				r.g.Receive("e1", wire.TopicFrame, s.frame()) // goes nowhere, harms nobody
				if err := r.g.Forget("e1"); !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				r.cancel()
			})
		})
	}
}

func TestARefusedSampleCostsItselfAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		errSample := errors.New("too old")
		r.cfg.SampleError = func(err error) bool { return errors.Is(err, errSample) }
		s := newSource(t, 1, 1, time.Now().UnixMilli()-10_000)
		old := s.w + 1
		r.store.appErr = func(k sampleKey) error {
			if k.t == old {
				return errSample
			}
			return nil
		}
		r.start()
		r.send(wire.TopicHello, s.hello(1))
		r.send(wire.TopicFrame, s.raw)
		r.send(wire.TopicFrame, s.frame(telemetry.Reading{Series: firstPlain, Time: old, Value: 1}, telemetry.Reading{Series: firstPlain, Time: old + 1, Value: 2}))
		if got := r.store.get("e1", "air_temperature", false); len(got) != 1 || got[old+1] != 2 {
			t.Errorf("%v", got)
		}
		r.stop()
	})
}

// stuckStore does not come back from Append until it is let go.
type stuckStore struct {
	*crashStore
	gate chan struct{}
}

type stuckAppender struct {
	Appender
	gate chan struct{}
}

func (s stuckStore) Appender() Appender { return stuckAppender{s.crashStore.Appender(), s.gate} }

func (a stuckAppender) Append(ref uint64, l []telemetry.Label, t int64, v float64) (uint64, error) {
	<-a.gate
	return a.Appender.Append(ref, l, t, v)
}

func TestASlowStoreMakesNoMemoryButUnacknowledgedFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := stuckStore{newCrashStore(t), make(chan struct{})}
		var last wire.Ack
		g, err := New(Config{Workers: 1, Queue: 16, Credit: 1 << 20, Logger: slog.New(slog.DiscardHandler)}, Parts{
			Store: store, Ledger: newCrashLedger(),
			Bus: fakeBus{ack: func(_ string, a wire.Ack) { last = a }},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		s := newSource(t, 1, 1, time.Now().UnixMilli()-200_000)
		g.Receive("e1", wire.TopicHello, s.hello(1))
		g.Receive("e1", wire.TopicFrame, s.raw)
		synctest.Wait()
		var frames [][]byte
		for range 100 {
			frames = append(frames, s.frame())
		}
		for _, f := range frames {
			g.Receive("e1", wire.TopicFrame, slices.Clone(f))
			synctest.Wait()
		}
		if n, _ := g.workers[0].queue.waiting(); n != 16 {
			t.Errorf("%d messages wait", n)
		}
		// One huge message does not fit either.
		g.workers[0].queue.maxBytes = 1000
		g.Receive("e2", wire.TopicFrame, make([]byte, 2000))
		close(store.gate)
		advance(time.Second)
		if last.Got.Seq != 17 || last.Status != wire.StatusOK {
			t.Errorf("%+v", last)
		}
		// The edge sends again what was dropped, and nothing is missing.
		g.workers[0].queue.maxBytes = 1 << 20
		for _, f := range frames[17:] {
			g.Receive("e1", wire.TopicFrame, slices.Clone(f))
			synctest.Wait()
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := len(store.get("e1", "air_temperature", false)); n != 100 {
			t.Errorf("%d samples", n)
		}
	})
}

func TestCreditIsSharedAndBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tc := range []struct {
		live, backlog, gone int
	}{{1, 0, 0}, {0, 1, 0}, {100, 1, 50}, {500, 50, 0}, {0, 50, 0}, {0, 1000, 5}} {
		all := newViews()
		add := func(n int, seen, w time.Time) {
			for range n {
				v := all.add(fmt.Sprint("e", all.len()), "")
				v.status.LastSeen, v.status.Watermark = seen, w.UnixMilli()
			}
		}
		add(tc.live, now, now.Add(-time.Second))
		add(tc.backlog, now, now.Add(-time.Hour))
		add(tc.gone, now.Add(-time.Hour), now.Add(-time.Hour))
		c := newCredit(32 << 20)
		c.divide(all, now, 90*time.Second)
		var sum int64
		all.each(func(v *view) {
			if n := int64(c.of(v)); n < minShare || n > maxShare {
				t.Errorf("%+v: share %d", tc, n)
			} else if heard, _ := v.age(now); heard == 0 {
				sum += n
			}
		})
		if sum > 32<<20 {
			t.Errorf("%+v: %d bytes in all", tc, sum)
		}
	}
}

func TestTheFolderOfRefusedMessagesIsBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "refused")
	now := time.Unix(1_800_000_000, 0)
	a := newAside(dir, slog.New(slog.DiscardHandler))
	for i := range 250 {
		if i == 120 { // a restart finds what is there
			a = newAside(dir, slog.New(slog.DiscardHandler))
		}
		now = now.Add(time.Second)
		a.keep("e1", make([]byte, 10), now)
		a.keep("e1", make([]byte, 10), now) // too fast
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != asideFiles {
		t.Errorf("%d files, %v", len(list), err)
	}
	for range 20 {
		now = now.Add(time.Second)
		a.keep("e1", make([]byte, 1<<20), now)
	}
	var size int64
	list, err = os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		info, err := d.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > asideBytes || size < 15<<20 {
		t.Errorf("%d bytes in %d files", size, len(list))
	}
}

func TestTooManyEdgesAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.MaxEdges = 3
		r.start()
		for i := range 10 {
			r.g.Receive(fmt.Sprint("e", i), wire.TopicHello, newSource(t, byte(i+1), 1, 1000).hello(1))
			synctest.Wait()
		}
		if n := len(r.g.Edges()); n != 3 {
			t.Errorf("%d edges", n)
		}
		r.stop()
	})
}

func TestASiteThatMovesMovesTheLabels(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		uncertain := func() telemetry.Reading {
			return telemetry.Reading{Series: firstPlain, Time: s.w + 1000, Value: 1, Quality: telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonWarmUp)}
		}
		r.send(wire.TopicFrame, s.frame(uncertain()))
		r.g.parts.Registry.(sitesOf)["e1"] = "24850"
		r.send(wire.TopicHello, s.hello(2))
		r.send(wire.TopicFrame, s.frame(uncertain()))
		if !slices.Contains(r.seriesNames(), "__name__=air_temperature,device=d1,edge=e1,point=p0,site=24850,spot=market,") || r.status().Site != "24850" {
			t.Errorf("%q", r.seriesNames())
		}
		// The quality did not change, so it is not written again.
		if n := len(r.store.get("e1", telemetry.QuantityReadingQuality, false)); n != 1 {
			t.Errorf("%d quality samples", n)
		}
	})
}

// slowStore takes a while for each sample.
type slowStore struct{ nullStore }

type slowAppender struct{ Appender }

func (s slowStore) Appender() Appender { return slowAppender{s.nullStore.Appender()} }

func (a slowAppender) Append(ref uint64, l []telemetry.Label, t int64, v float64) (uint64, error) {
	<-time.After(time.Millisecond)
	return a.Appender.Append(ref, l, t, v)
}

func TestABacklogTakesAQuarterOfAWorkerWhileOthersAreLive(t *testing.T) {
	for name, want := range map[string]struct{ live, from, to int }{
		"nobody is live":  {0, 90, 100}, // a message takes 10 ms
		"others are live": {1, 20, 27},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, err := New(Config{Workers: 1, Logger: slog.New(slog.DiscardHandler)}, Parts{
					Store: slowStore{}, Ledger: newCrashLedger(), Bus: fakeBus{ack: func(string, wire.Ack) {}},
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- g.Run(ctx) }()
				now := time.Now().UnixMilli()
				old, live := newSource(t, 1, 1, now-7*24*3600_000), newSource(t, 2, 1, now-1000)
				send := func(id string, s *source) {
					rs := make([]telemetry.Reading, 10)
					for i := range rs {
						rs[i] = telemetry.Reading{Series: firstPlain, Time: s.w + int64(i) + 1, Value: float64(i)}
					}
					g.Receive(id, wire.TopicFrame, s.frame(rs...))
				}
				g.Receive("old", wire.TopicHello, old.hello(1))
				g.Receive("old", wire.TopicFrame, old.raw)
				send("old", old)
				if want.live > 0 {
					g.Receive("live", wire.TopicHello, live.hello(1))
					g.Receive("live", wire.TopicFrame, live.raw)
					send("live", live)
				}
				advance(2 * time.Second) // the edges are told apart once a second
				at := func() int { e, _ := g.Edge("old"); return int(e.Position.Seq) }
				before := at()
				for range 200 {
					send("old", old)
				}
				advance(time.Second)
				if n := at() - before; n < want.from || n > want.to {
					t.Errorf("%d messages of a backlog in a second, want %d to %d", n, want.from, want.to)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
