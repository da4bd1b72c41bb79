package clock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a Source over the time of a synctest bubble.
type fake struct {
	start  time.Time
	shift  time.Duration
	synced bool
	err    error
}

func (f *fake) Monotonic() int64            { return time.Since(f.start).Milliseconds() + 7000 }
func (f *fake) Wall() int64                 { return time.Now().Add(f.shift).UnixMilli() }
func (f *fake) Synchronised() (bool, error) { return f.synced, f.err }
func (f *fake) BootID() [16]byte            { return [16]byte{1} }

func newFake() *fake {
	return &fake{start: time.Now(), shift: 26 * 365 * 24 * time.Hour} // a bubble begins in 2000
}

func TestRunFindsTheSynchronisation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.err = errors.New("not allowed here")
		c := New(f, Options{})
		if now := c.Now(); now.Trusted || now.Ms != 7000 || c.BootID() != f.BootID() {
			t.Fatalf("%+v", now)
		}
		if _, ok := c.OffsetOfBoot(); ok {
			t.Fatal("an offset from nowhere")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		f.err, f.synced = nil, true
		go func() { done <- c.Run(ctx) }()
		<-time.After(1500 * time.Millisecond) // of the bubble
		synctest.Wait()
		now := c.Now()
		off, ok := c.OffsetOfBoot()
		if !now.Trusted || now.Era != 1 || now.Ms != f.Wall() || !ok || off != f.Wall()-f.Monotonic() {
			t.Fatalf("%+v, offset %d %v", now, off, ok)
		}
		if era, from, to := c.LastStep(); era != 1 || from != 7000 || to != f.Wall()-500 {
			t.Fatalf("step %d from %d to %d", era, from, to)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestTrustAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		if now := New(f, Options{TrustAlways: true}).Now(); !now.Trusted || now.Ms != f.Wall() || now.Era != 0 {
			t.Fatalf("%+v", now)
		}
	})
}

func TestBothWaysToTellTheHubsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		a, b := New(f, Options{}), New(f, Options{})
		a.ObserveHub(90_000, 40)
		b.ObserveHubTime(f.Wall()+90_000-20, 40)
		if a.Now() != b.Now() || !a.Now().Trusted || a.Now().Ms != f.Wall()+90_000 {
			t.Fatalf("%+v, %+v", a.Now(), b.Now())
		}
	})
}

func TestTheMachineItself(t *testing.T) {
	s, err := System()
	if err != nil {
		t.Fatal(err)
	}
	a, b := s.Monotonic(), s.Monotonic()
	if a <= 0 || b < a || s.BootID() == [16]byte{} || s.Wall() < earliest {
		t.Fatalf("%d, %d, boot %x", a, b, s.BootID())
	}
	synced, err := Synchronised()
	t.Logf("synchronised: %v, %v", synced, err)
}
