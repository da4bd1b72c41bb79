package drivertest

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

// Fixture is a driver's configuration and the outside that it reads, as [Run]
// needs them.
type Fixture struct {
	Source driver.Source
	// Devices are two at least, read often (some milliseconds to a second). The
	// first point of each is a number.
	Devices []*driver.Device
	// Show makes the device give v, in the canonical unit, as the value of its
	// first point. The suite calls it again and again while it waits.
	Show func(device int, v float64)
	// Silence makes the device, and no other, stop answering or go offline, or
	// lets it be heard again.
	Silence func(device int, silent bool)
	// Cut takes the whole connection away, or gives it back. It is there at the
	// beginning.
	Cut func(away bool)
}

// Run puts a driver through the suite. prepare makes a fresh fixture for each
// test and cleans up with t.Cleanup. Run makes t parallel; what looks at all
// goroutines of the process comes before that.
func Run(t *testing.T, prepare func(t testing.TB) Fixture) {
	t.Run("leaves no goroutine behind", func(t *testing.T) { testLeaks(t, prepare(t)) })
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(t *testing.T, f Fixture)
	}{
		{"reads what the outside shows", testReads},
		{"starts and stays with the connection down", testDownAtStart},
		{"comes back when the connection does", testCut},
		{"a silent device is down alone and comes back", testSilence},
		{"ends promptly whatever the state", testEnds},
		{"shares a registry", testRegistry},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, prepare(t))
		})
	}
}

// promptly is less than what drivers wait for elsewhere, and much for a busy machine.
const promptly = 20 * time.Second

// Start makes the fixture's driver with its own recorder and runs it. stop ends
// it, fails the test unless Run returns nil promptly, and checks the contract of
// the sink; it runs at the end of the test in any case.
func (f *Fixture) Start(t testing.TB, id string, metrics prometheus.Registerer) (rec *Recorder, stop func()) {
	t.Helper()
	rec = &Recorder{}
	d, err := f.Source.New(id, f.Devices, driver.Env{Sink: rec, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stopped := false
	stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		limit := time.NewTimer(promptly)
		defer limit.Stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run returned %v after its context ended", err)
			}
		case <-limit.C:
			t.Errorf("Run did not return within %v of the end of its context", promptly)
			<-done
		}
		rec.Check(t)
	}
	t.Cleanup(stop)
	return rec, stop
}

// sees waits until the device is up and its first point is v.
func (f *Fixture) sees(t testing.TB, rec *Recorder, device int, v float64) {
	t.Helper()
	id := f.Devices[device].ID
	Until(t, id+" shows the value", func() bool {
		f.Show(device, v)
		r, ok := rec.Last(id, 0)
		return ok && r.Quality == 0 && r.Value == v && rec.State(id).Up
	})
}

func (f *Fixture) goesDown(t testing.TB, rec *Recorder, device int) {
	t.Helper()
	id := f.Devices[device].ID
	rec.Wait(t, id+" is down", func() bool {
		s := rec.State(id)
		return s.Known && !s.Up
	})
}

// Until polls cond every few milliseconds and fails the test after [Limit]. It
// is for states of the outside, which nothing in this process can signal.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testutil.Eventually(t, Limit, what, cond)
}

func testReads(t *testing.T, f Fixture) {
	rec, _ := f.Start(t, "conn", nil)
	for i := range f.Devices {
		f.sees(t, rec, i, float64(10+i))
	}
	for i := range f.Devices {
		f.sees(t, rec, i, float64(20+i))
	}
}

func testDownAtStart(t *testing.T, f Fixture) {
	f.Cut(true)
	rec, _ := f.Start(t, "conn", nil)
	for i := range f.Devices {
		f.goesDown(t, rec, i)
	}
	f.Cut(false)
	for i := range f.Devices {
		f.sees(t, rec, i, float64(30+i))
	}
}

func testCut(t *testing.T, f Fixture) {
	rec, _ := f.Start(t, "conn", nil)
	for round := range 2 {
		for i := range f.Devices {
			f.sees(t, rec, i, float64(40+round+i))
		}
		f.Cut(true)
		for i := range f.Devices {
			f.goesDown(t, rec, i)
		}
		f.Cut(false)
	}
	for i := range f.Devices {
		f.sees(t, rec, i, float64(50+i))
	}
}

func testSilence(t *testing.T, f Fixture) {
	rec, _ := f.Start(t, "conn", nil)
	for i := range f.Devices {
		f.sees(t, rec, i, float64(60+i))
	}
	f.Silence(1, true)
	f.goesDown(t, rec, 1)
	id := f.Devices[1].ID
	rec.Wait(t, id+" has a bad reading", func() bool {
		r, ok := rec.Last(id, 0)
		return ok && r.Quality.IsBad()
	})
	f.sees(t, rec, 0, 70)
	f.sees(t, rec, 0, 71)
	if s := rec.State(f.Devices[0].ID); s.Changes != 1 {
		t.Errorf("device %s changed its state %d times because its neighbour fell silent", f.Devices[0].ID, s.Changes-1)
	}
	f.Silence(1, false)
	f.sees(t, rec, 1, 72)
}

func testEnds(t *testing.T, f Fixture) {
	_, stop := f.Start(t, "at once", nil)
	stop()
	rec, stop := f.Start(t, "busy", nil)
	f.sees(t, rec, 0, 80)
	stop()
	f.Silence(1, true)
	rec, stop = f.Start(t, "with a silent device", nil)
	f.sees(t, rec, 0, 81)
	stop()
	f.Cut(true)
	rec, stop = f.Start(t, "cut", nil)
	f.goesDown(t, rec, 0)
	stop()
}

func testLeaks(t *testing.T, f Fixture) {
	before := goleak.IgnoreCurrent()
	rec, stop := f.Start(t, "conn", nil)
	f.sees(t, rec, 0, 90)
	stop()
	f.Cut(true)
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func testRegistry(t *testing.T, f Fixture) {
	reg := prometheus.NewRegistry()
	for _, id := range []string{"a", "b", "a"} { // the last as after a reload
		rec, stop := f.Start(t, id, reg)
		f.sees(t, rec, 0, 95)
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
		stop()
	}
}
