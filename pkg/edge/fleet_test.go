package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// sharedDice are thrown by the test and by the agent's goroutines.
type sharedDice struct {
	mu   sync.Mutex
	dice rand.Source
}

func (d *sharedDice) Uint64() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dice.Uint64()
}

// fleetWorld is a gateway whose power may go at any write, a link that loses, repeats
// and reorders, and a hub that does what the hub does.
type fleetWorld struct {
	t   *testing.T
	rng *rand.Rand

	mu      sync.Mutex
	disk    fleetState
	writes  int
	cutAt   int  // the write at which the power goes; 0: none
	cutPast bool // that write is still made
	off     bool // the power is gone
	kill    context.CancelFunc
	plan    *Plan
	owner   string

	versions []*wire.ConfigText
	reports  []wire.ConfigState // that the hub took
	sent     []*wire.Config     // everything ever sent, for replays
	up, calm bool               // the link: there, and without losses
	fleet    *fleet
	dropped  map[uint64]string // versions that a verdict on the disk gave up
	bad      []string          // what must not have been
	ids      atomic.Int64
}

func (w *fleetWorld) load() (fleetState, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.disk, nil
}

var errPower = errors.New("no power")

func (w *fleetWorld) save(s *fleetState) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off {
		return errPower
	}
	w.writes++
	cut := w.writes == w.cutAt
	if !cut || w.cutPast {
		w.disk = *s
		if v := s.Verdict; v != nil {
			w.dropped[v.Version] = v.Reason
		}
	}
	if cut {
		w.off = true
		w.kill()
		return errPower
	}
	return nil
}

// What a text does to the agent.
const (
	textGood    = "good"
	textFaulty  = "faulty"  // does not hold
	textFatal   = "fatal"   // ends the agent that examines it
	textNoStart = "nostart" // cannot be started
	textDeaf    = "deaf"    // cuts the gateway off
	textCrash   = "crash"   // ends the agent soon
)

func effectOf(hub *hubConfig) string {
	if hub == nil {
		return textGood
	}
	kind, _, _ := strings.Cut(hub.Text, " ")
	return kind
}

func (w *fleetWorld) with(hub *hubConfig) (*Plan, error) {
	switch effectOf(hub) {
	case textFaulty:
		return nil, errors.New("x.yaml:1:1: faulty")
	case textFatal:
		w.mu.Lock()
		w.off = true
		w.kill()
		w.mu.Unlock()
		return nil, errPower
	}
	p := &Plan{hub: hub}
	p.Config.Owner = w.owner
	return p, nil
}

func (w *fleetWorld) change(ctx context.Context, p *Plan) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off || ctx.Err() != nil {
		return errPower
	}
	if p.hub != nil {
		if why, given := w.dropped[p.hub.Version]; given {
			w.bad = append(w.bad, fmt.Sprintf("version %d runs again after: %s", p.hub.Version, why))
		}
	}
	w.plan = p
	w.doom()
	if effectOf(p.hub) == textNoStart {
		return errors.New("port busy")
	}
	return nil
}

// doom ends the agent soon, if what it runs does that. The lock is held.
func (w *fleetWorld) doom() {
	if effectOf(w.plan.hub) != textCrash {
		return
	}
	kill, doomed := w.kill, w.plan
	time.AfterFunc(time.Duration(w.rng.IntN(50))*time.Second, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.plan == doomed {
			w.off = true
			kill()
		}
	})
}

// boot starts the agent with what is on the disk.
func (w *fleetWorld) boot(ctx context.Context) chan struct{} {
	w.mu.Lock()
	w.off = false
	tried := w.disk.inForce()
	w.mu.Unlock()
	plan, err := w.with(tried)
	if err != nil {
		w.t.Fatalf("a version that does not hold is in force: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	w.plan, w.kill = plan, cancel
	w.doom()
	w.mu.Unlock()
	f := newFleet(fleetParts{
		store: w, within: 5 * time.Minute, changing: &sync.Mutex{},
		running: func() *Plan { w.mu.Lock(); defer w.mu.Unlock(); return w.plan },
		with:    w.with, change: w.change,
		own: func() (wire.Hash, string, error) { return wire.Hash{}, "", nil },
		say: func(p []byte) { w.hear(p) },
		now: func() int64 { return 0 }, id: func() string { return fmt.Sprint(w.ids.Add(1)) },
	}, plan, slog.New(slog.DiscardHandler))
	w.mu.Lock()
	w.fleet = f
	w.mu.Unlock()
	if effectOf(tried) == textNoStart {
		cancel() // the agent says why, and ends
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if ctx.Err() == nil {
			_ = f.run(ctx)
		}
	}()
	return done
}

// hear is the hub.
func (w *fleetWorld) hear(payload []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s wire.ConfigState
	if err := wire.DecodeConfigState(payload, &s); err != nil {
		w.t.Error(err)
	}
	if w.off || !w.up || effectOf(w.plan.hub) == textDeaf || w.loses() {
		return
	}
	w.reports = append(w.reports, s)
	w.send(&wire.Config{V: 1, Heard: s.ID, Desired: w.wanted()})
}

// loses says whether the link loses a message.
func (w *fleetWorld) loses() bool { return !w.calm && w.rng.IntN(4) == 0 }

// wanted is what the hub has not heard of yet. The lock is held.
func (w *fleetWorld) wanted() *wire.ConfigText {
	if len(w.versions) == 0 {
		return nil
	}
	d := w.versions[len(w.versions)-1]
	if n := len(w.reports); n > 0 {
		if s := &w.reports[n-1]; s.Version >= d.Version || s.Verdict != nil && s.Verdict.Version >= d.Version {
			return nil
		}
	}
	return d
}

// nag is the hub that asks again.
func (w *fleetWorld) nag() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.wanted(); d != nil {
		w.send(&wire.Config{V: 1, Desired: d})
	}
}

func (w *fleetWorld) send(c *wire.Config) {
	w.sent = append(w.sent, c)
	for range 1 + w.rng.IntN(2) {
		if !w.off && w.up && effectOf(w.plan.hub) != textDeaf && !w.loses() {
			w.fleet.configured(c)
		}
	}
	if w.rng.IntN(3) == 0 { // an old message comes again
		if old := w.sent[w.rng.IntN(len(w.sent))]; !w.off {
			w.fleet.configured(old)
		}
	}
}

func (w *fleetWorld) set(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := uint64(len(w.versions) + 1)
	d, err := wire.NewConfigText(v, "x.yaml", fmt.Sprintf("%s %d", kind, v))
	if err != nil {
		w.t.Fatal(err)
	}
	w.versions = append(w.versions, d)
	if w.fleet != nil {
		w.send(&wire.Config{V: 1, Desired: d})
	}
}

// Whatever the power and the link do, and whatever the hub asks for: nothing runs that
// does not hold or was given up, what cuts the gateway off or ends the agent is gone
// from by itself, and in the end the gateway runs what the hub wants, or the hub knows
// why not.
func TestHubConfigurationsSurviveEverything(t *testing.T) {
	kinds := []string{textGood, textGood, textFaulty, textFatal, textNoStart, textDeaf, textCrash}
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := &fleetWorld{t: t, rng: rand.New(&sharedDice{dice: rand.NewPCG(seed, 9)}), owner: wire.OwnerHub, up: true, dropped: map[uint64]string{}, plan: &Plan{}}
			rng := rand.New(rand.NewPCG(seed, 10)) // of this goroutine; the world's is behind its lock
			done := w.boot(t.Context())
			restart := func() {
				w.mu.Lock()
				w.off = true
				w.kill()
				w.mu.Unlock()
				<-done
				done = w.boot(t.Context())
			}
			steps := 30
			for step := range steps + 40 {
				calm := step >= steps
				w.mu.Lock()
				w.calm = calm
				w.up = calm || rng.IntN(3) > 0
				w.cutAt = 0
				if !calm && rng.IntN(2) == 0 {
					w.cutAt, w.cutPast = w.writes+1+rng.IntN(4), rng.IntN(2) == 0
				}
				w.mu.Unlock()
				if !calm && rng.IntN(3) == 0 {
					w.set(kinds[rng.IntN(len(kinds))])
				}
				if calm && step == steps {
					w.set(kinds[rng.IntN(len(kinds))])
				}
				if !calm && rng.IntN(6) == 0 {
					restart()
				}
				w.nag()
				select {
				case <-done: // the power went, or the agent ended
					done = w.boot(t.Context())
				case <-time.After(time.Duration(1+rng.IntN(300)) * time.Second):
				}
			}
			synctest.Wait()
			w.mu.Lock()
			last := w.reports[len(w.reports)-1]
			d := w.versions[len(w.versions)-1]
			switch kind, _, _ := strings.Cut(d.Text, " "); {
			case kind == textGood && (last.Version != d.Version || last.Trial || w.plan.hub == nil || w.plan.hub.Version != d.Version):
				t.Errorf("seed %d: wanted version %d, the hub heard %+v, verdict %+v", seed, d.Version, last, last.Verdict)
			case kind != textGood && (last.Verdict == nil || last.Verdict.Version != d.Version || last.Version == d.Version):
				t.Errorf("seed %d: version %d (%s) stands as %+v, verdict %+v, on the gateway %+v", seed, d.Version, kind, last, last.Verdict, w.disk)
			}
			for _, b := range w.bad {
				t.Errorf("seed %d: %s", seed, b)
			}
			w.kill()
			w.mu.Unlock()
			<-done
		})
	}
}

// What the hub sends to a gateway that decides is not even looked at; and what the hub
// had it run is forgotten when the gateway takes itself back, so that the same version
// can be taken once it is given again.
func TestAGatewayThatDecidesTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fleetWorld{t: t, rng: rand.New(rand.NewPCG(1, 9)), owner: wire.OwnerGateway, up: true, calm: true, dropped: map[uint64]string{}, plan: &Plan{}}
		done := w.boot(t.Context())
		settle := func() wire.ConfigState {
			<-time.After(20 * time.Minute)
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.reports[len(w.reports)-1]
		}
		w.set(textFatal)
		if s := settle(); s.Owner != wire.OwnerGateway || s.Version != 0 || s.Newest != 0 || s.Verdict != nil {
			t.Errorf("it says %+v", s)
		}
		give := func(owner string, hub *hubConfig) {
			w.mu.Lock()
			w.owner = owner
			w.plan = &Plan{hub: hub}
			w.plan.Config.Owner = owner
			w.mu.Unlock()
			signalled(w.fleet.reloaded)
		}
		w.versions = w.versions[:0]
		give(wire.OwnerHub, nil)
		w.set(textGood)
		if s := settle(); s.Version != 1 || s.Trial {
			t.Errorf("once the hub decides: %+v", s)
		}
		give(wire.OwnerGateway, nil)
		if s := settle(); s.Owner != wire.OwnerGateway || s.Version != 0 {
			t.Errorf("taken back: %+v", s)
		}
		w.reports = w.reports[:0]
		give(wire.OwnerHub, nil)
		w.nag()
		if s := settle(); s.Version != 1 || s.Trial {
			t.Errorf("given again: %+v", s)
		}
		w.kill()
		<-done
	})
}
