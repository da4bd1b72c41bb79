package edge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// fleet follows the hub's configurations (owner: hub), and says what became of them.
//
// A version is written down before it is judged, again before it runs, and runs on
// trial until the hub has heard of it: only what the agent says after some time with
// it, and the hub has answered, confirms it. If the hub is not heard of in time, or the
// agent dies with it again and again, the one before runs again, and the version is not
// taken a second time. Whatever ends the agent in between, the next start knows from
// the file where it stood.
//
// Where the gateway decides, nothing is taken and that is said. Run once;
// configured and status may be called from any goroutine.
type fleet struct {
	fleetParts
	logger *slog.Logger

	inbox    chan *wire.Config
	greeted  chan struct{}
	reloaded chan struct{}

	mu    sync.Mutex // guards what status reads; Run's goroutine alone writes it
	state fleetState
	drift string
	fault string

	owed       bool // what is in force does not run yet
	trialSince time.Time
	report     wire.ConfigState // the newest; its ID is empty before the first
	confirms   bool             // that the hub hears report confirms the trial
	heard      bool
	due        time.Time // when report is to be said (again)
	pause      time.Duration
}

// fleetParts are what a fleet works with.
type fleetParts struct {
	store  fleetStore
	within time.Duration // a trial at most
	// changing is held from reading the configuration until it runs.
	changing sync.Locker
	running  func() *Plan                        // what runs
	with     func(hub *hubConfig) (*Plan, error) // the configuration, read anew
	change   func(context.Context, *Plan) error  // lets it run
	own      func() (wire.Hash, string, error)   // the file's own part as it stands: hash and text
	say      func(payload []byte)                // on the topic config-state
	now      func() int64                        // log time in ms; 0: not known
	id       func() string                       // another one each time
}

// The pauses between reports that the hub has not heard.
const (
	reportPause    = 30 * time.Second
	maxReportPause = 10 * time.Minute
	driftEvery     = time.Minute // how often the file is looked at
)

func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}

// newFleet takes up where the last start left off. Plan is what this start runs.
func newFleet(parts fleetParts, plan *Plan, logger *slog.Logger) *fleet {
	f := &fleet{
		fleetParts: parts, logger: logger,
		inbox: make(chan *wire.Config, 8), greeted: make(chan struct{}, 1), reloaded: make(chan struct{}, 1),
	}
	state, err := f.store.load()
	if err != nil {
		logger.Error("the hub's configurations cannot be read; edge.yaml's own connections and devices are read", "err", err)
		f.fault = err.Error()
		return f
	}
	f.state = state
	f.settle(plan)
	return f
}

// settle decides what the last end of the agent means.
func (f *fleet) settle(plan *Plan) {
	next := f.state
	if x := next.Examining; x != nil && next.Examined >= trialStarts { // before that the hub sends it again
		next.Verdict = &wire.ConfigVerdict{Version: x.Version, Hash: x.Hash, Outcome: wire.ConfigRefused, Reason: fmt.Sprintf("the agent ended %d times while it examined it", next.Examined), At: f.now()}
		next.Examining, next.Examined, next.Newest = nil, 0, max(next.Newest, x.Version)
	}
	tried := next.inForce()
	switch {
	case plan.Config.Owner != wire.OwnerHub:
		next = next.released()
	case next.Trial && next.Starts >= trialStarts:
		f.logger.Error("the agent has died again and again with the hub's configuration: the one before runs", "version", next.Running.Version)
		next.goBack(wire.ConfigRolledBack, fmt.Sprintf("the agent ended %d times before the hub was heard of", next.Starts), f.now())
	case next.Trial:
		next.Starts++
	}
	if plan.Config.Owner == wire.OwnerHub && plan.unfit != nil && tried != nil {
		f.logger.Error("the hub's configuration does not hold any more", "version", tried.Version, "err", plan.unfit)
		next.judge(&wire.ConfigVerdict{Version: tried.Version, Hash: tried.Hash, Outcome: wire.ConfigRefused, Reason: "it does not hold any more: " + plan.unfit.Error(), At: f.now()})
		next.Running, next.Before, next.Trial, next.Starts = plan.hub, nil, false, 0
	}
	if !f.keep(&next) {
		f.mu.Lock()
		f.state = next // as far as memory goes; the next start decides anew
		f.mu.Unlock()
	}
}

// keep writes a state and makes it the present one; false: it could not be kept.
func (f *fleet) keep(next *fleetState) bool {
	if err := f.store.save(next); err != nil {
		f.logger.Error("what became of the hub's configuration cannot be kept", "err", err)
		f.set(func() { f.fault = "cannot be kept on the gateway: " + err.Error() })
		return false
	}
	f.set(func() { f.state, f.fault = *next, "" })
	return true
}

func (f *fleet) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// configured takes what the hub says.
func (f *fleet) configured(c *wire.Config) {
	select {
	case f.inbox <- c:
	default: // it says it again
	}
}

func signalled(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run follows the hub until ctx ends.
func (f *fleet) run(ctx context.Context) error {
	look := time.NewTicker(driftEvery)
	defer look.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	f.trialSince = time.Now()
	f.look()
	for {
		now := time.Now()
		if f.state.Trial && now.Sub(f.trialSince) >= f.within {
			f.goBack(ctx, wire.ConfigRolledBack, fmt.Sprintf("the hub was not heard of within %v (hub.rollback_after)", f.within))
		}
		f.tell(now)
		timer.Reset(f.wait(time.Now()))
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.Canceled) {
				f.end()
			}
			return nil
		case c := <-f.inbox:
			f.take(ctx, c)
		case <-f.greeted:
			// Another hub may listen now, or one that has forgotten.
			f.due, f.pause, f.heard = time.Time{}, 0, false
		case <-f.reloaded:
			f.settleOwner()
			f.look()
		case <-look.C:
			if f.owed {
				f.changing.Lock()
				f.takeUp(ctx)
				f.changing.Unlock()
			}
			f.look()
		case <-timer.C:
		}
	}
}

// end notes that the agent ends as it should: that is not the configuration's fault.
func (f *fleet) end() {
	if f.state.Trial && f.state.Starts > 0 {
		next := f.state
		next.Starts--
		f.keep(&next)
	}
}

// settleOwner forgets the hub's configurations once the gateway decides.
func (f *fleet) settleOwner() {
	if f.running().Config.Owner == wire.OwnerHub || f.state.Running == nil && f.state.Before == nil {
		return
	}
	next := f.state.released()
	f.keep(&next)
}

// look sees whether somebody changes the gateway's own part while the hub decides.
func (f *fleet) look() {
	drift := ""
	if f.state.Running != nil {
		if own, _, _ := f.own(); !own.IsZero() && own != f.state.Own {
			drift = "connections, devices or filters of edge.yaml were changed on the gateway; they are not used while the hub decides"
		}
	}
	if drift != "" && f.drift == "" {
		f.logger.Warn("edge.yaml was changed, and the hub's configuration is in force; langbiang-edge owner says what to do", "version", f.state.Running.Version)
	}
	f.set(func() { f.drift = drift })
}

// soak is how long a trial must last before the hub's answer counts.
func (f *fleet) soak() time.Duration { return f.within / 5 }

// tell says what has changed, and what the hub has not heard.
func (f *fleet) tell(now time.Time) {
	soaked := f.state.Trial && now.Sub(f.trialSince) >= f.soak()
	is := f.present()
	if was := f.report; was.ID == "" || !same(&was, &is) || soaked != f.confirms {
		is.ID = f.id()
		f.report, f.confirms, f.heard = is, soaked, false
		f.due, f.pause = now, 0
	}
	if f.heard || now.Before(f.due) {
		return
	}
	f.pause = min(max(2*f.pause, reportPause), maxReportPause)
	if f.state.Trial {
		f.pause = min(f.pause, f.soak())
	}
	f.due = now.Add(f.pause)
	f.publish(&f.report)
}

func (f *fleet) publish(s *wire.ConfigState) {
	payload, err := wire.EncodeConfigState(s)
	if err != nil {
		f.logger.Error("the state of the configuration cannot be told", "err", err)
		return
	}
	f.say(payload)
}

// same compares but for the names.
func same(a, b *wire.ConfigState) bool {
	x, y := *a, *b
	x.ID, y.ID, x.Verdict, y.Verdict = "", "", nil, nil
	return x == y && (a.Verdict == nil) == (b.Verdict == nil) && (a.Verdict == nil || *a.Verdict == *b.Verdict)
}

// wait is how long nothing is to be done.
func (f *fleet) wait(now time.Time) time.Duration {
	wait := time.Hour
	if !f.heard {
		wait = f.due.Sub(now)
	}
	if f.state.Trial {
		at := f.soak()
		if f.confirms {
			at = f.within
		}
		wait = min(wait, f.trialSince.Add(at).Sub(now))
	}
	return max(wait, time.Millisecond)
}

// present is what there is to say.
func (f *fleet) present() wire.ConfigState {
	s := wire.ConfigState{V: wire.Version, Owner: f.running().Config.Owner, Newest: f.state.Newest, Trial: f.state.Trial, Verdict: f.state.Verdict, Drift: f.drift, Fault: f.fault}
	if r := f.state.Running; r != nil {
		s.Version, s.Hash = r.Version, r.Hash
	}
	return s
}

// take does what the hub says.
func (f *fleet) take(ctx context.Context, c *wire.Config) {
	if c.Heard != "" && c.Heard == f.report.ID {
		f.heard = true
		if f.confirms && f.state.Trial {
			next := f.state
			next.Trial, next.Starts = false, 0
			if f.keep(&next) {
				f.logger.Info("the hub's configuration is confirmed", "version", next.Running.Version)
			}
		}
	}
	if c.Show != "" {
		f.show(c.Show)
	}
	if c.Desired != nil {
		f.desired(ctx, c.Desired)
	}
}

// show answers with what the gateway has: its own part where that decides or was
// changed, else the hub's configuration that runs.
func (f *fleet) show(question string) {
	s := f.present()
	s.ID, s.Shown, s.Verdict = f.id(), question, nil
	f.look()
	text, name, version := "", "edge.yaml", uint64(0)
	if r := f.state.Running; r != nil && f.drift == "" {
		text, name, version = r.Text, r.Name, r.Version
	} else {
		var err error
		if _, text, err = f.own(); err != nil {
			s.Fault = err.Error()
		}
	}
	if s.Fault == "" {
		t, err := wire.NewConfigText(version, name, text)
		if s.Text = t; err != nil {
			s.Fault = err.Error()
		}
	}
	f.publish(&s)
}

// desired judges a configuration and lets it run, on trial.
func (f *fleet) desired(ctx context.Context, t *wire.ConfigText) {
	f.changing.Lock()
	defer f.changing.Unlock()
	if f.running().Config.Owner != wire.OwnerHub || t.Version <= f.state.Newest {
		// The hub has not heard how it stands. Not at once: the two must not go on and on.
		f.due, f.heard = time.Now().Add(time.Second), false
		return
	}
	next := f.state
	if x := next.Examining; x == nil || x.Version != t.Version || x.Hash != t.Hash {
		next.Examined = 0
	}
	next.Examining = &wire.ConfigText{Version: t.Version, Name: t.Name, Hash: t.Hash}
	next.Examined++
	if !f.keep(&next) {
		return
	}
	hub := &hubConfig{Version: t.Version, Name: t.Name, Hash: t.Hash, Text: t.Text}
	plan, err := f.with(hub)
	next.Examining, next.Examined, next.Newest = nil, 0, t.Version
	if err != nil {
		f.logger.Error("the hub's configuration is refused, the agent goes on as before", "version", t.Version, "err", err)
		next.Verdict = &wire.ConfigVerdict{Version: t.Version, Hash: t.Hash, Outcome: wire.ConfigRefused, Reason: err.Error(), At: f.now()}
		f.keep(&next)
		return
	}
	if !next.Trial {
		next.Before = next.Running
	}
	next.Running, next.Trial, next.Starts, next.Verdict, next.Own = hub, true, 1, nil, plan.own
	if !f.keep(&next) {
		return
	}
	f.logger.Info("the hub's configuration runs on trial", "version", t.Version)
	f.trialSince = time.Now()
	f.owed = false
	if err := f.change(ctx, plan); err != nil && ctx.Err() == nil {
		f.back(ctx, wire.ConfigRefused, "it could not be started: "+err.Error())
	}
	f.look()
}

func (f *fleet) goBack(ctx context.Context, outcome, reason string) {
	f.changing.Lock()
	defer f.changing.Unlock()
	f.back(ctx, outcome, reason)
}

// back lets the configuration before run again. Changing is held.
func (f *fleet) back(ctx context.Context, outcome, reason string) {
	f.logger.Error("back to the configuration before", "version", f.state.Running.Version, "reason", reason)
	next := f.state
	next.goBack(outcome, reason, f.now())
	if !f.keep(&next) {
		f.set(func() { f.state = next })
	}
	f.takeUp(ctx)
	f.look()
}

// takeUp lets what is in force run. It is tried again while edge.yaml does not hold;
// a connection that cannot be made then is told. Changing is held.
func (f *fleet) takeUp(ctx context.Context) {
	plan, err := f.with(f.state.Running)
	if f.owed = err != nil; err == nil {
		err = f.change(ctx, plan)
	}
	if err != nil && ctx.Err() == nil {
		f.logger.Error("the configuration before is not taken up as it should be", "err", err)
		f.set(func() { f.fault = "cannot go back: " + strings.TrimSpace(err.Error()) })
	}
}

// fleetStatus is how the configuration stands, for people at the gateway.
type fleetStatus struct {
	Owner   string              `json:"owner"`
	Version uint64              `json:"version,omitempty"` // of the hub's configuration that runs; 0: edge.yaml's own part
	Name    string              `json:"name,omitempty"`
	Trial   bool                `json:"trial,omitempty"`
	Verdict *wire.ConfigVerdict `json:"verdict,omitempty"`
	Drift   string              `json:"drift,omitempty"`
	Fault   string              `json:"fault,omitempty"`
}

// status says how it stands. It may be called at any time.
func (f *fleet) status() *fleetStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &fleetStatus{Owner: f.running().Config.Owner, Trial: f.state.Trial, Verdict: f.state.Verdict, Drift: f.drift, Fault: f.fault}
	if r := f.state.Running; r != nil {
		s.Version, s.Name = r.Version, r.Name
	}
	return s
}
