package fleet

import (
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// State is how it stands between what an edge is to run and what it runs.
type State string

// The states.
const (
	// None: nothing is wanted of it.
	None State = "none"
	// Gateway: the gateway decides. A configuration that is set waits until it lets
	// the hub.
	Gateway State = "gateway"
	// Waiting: the edge has not taken it yet.
	Waiting State = "waiting"
	// Trial: it runs, and goes back by itself unless the hub is heard of.
	Trial State = "trial"
	// InStep: it runs what is wanted.
	InStep State = "in_step"
	// Refused and RolledBack: it does not run it, for the reason that it says.
	Refused    State = "refused"
	RolledBack State = "rolled_back"
	// Drift: it runs it, and the gateway's own file was changed meanwhile.
	Drift State = "drift"
	// Unknown: it runs, or has decided on, versions that this hub does not have.
	Unknown State = "unknown"
)

// States are all of them, for metrics.
var States = []State{None, Gateway, Waiting, Trial, InStep, Refused, RolledBack, Drift, Unknown}

// Status is how an edge stands.
type Status struct {
	Edge    string
	State   State
	Detail  string    // for people; empty: there is nothing to say
	Owner   string    // as the edge said last; empty: it has said nothing
	Wanted  *Version  // nil: nothing is
	Running uint64    // version of the hub's that runs; 0: the gateway's own
	Current uint64    // number of the newest act, to be named by who changes something
	Said    time.Time // when the edge said it last, by the hub's clock; zero: never
}

// status judges an edge. The lock is held.
func (e *edge) status() Status {
	s := Status{Edge: e.id, Wanted: e.wanted(), Current: e.kept.Last, State: None}
	r := e.said.State
	if e.said.At.IsZero() {
		if s.Wanted != nil {
			s.State, s.Detail = Waiting, "the agent has never said what it runs: it has not connected yet, or is older than this"
		}
		return s
	}
	s.Owner, s.Running, s.Said = r.Owner, r.Version, e.said.At
	w := s.Wanted
	switch {
	case r.Owner != wire.OwnerHub:
		s.State = Gateway
		if w != nil {
			s.Detail = fmt.Sprintf("version %d waits until it lets the hub (langbiang-edge owner hub, there)", w.Version)
		}
	case w == nil:
		if r.Version != 0 {
			s.Detail = fmt.Sprintf("it goes on with version %d", r.Version)
		}
		s.fault(&r)
	case r.Version == w.Version && r.Hash == w.Hash:
		switch {
		case r.Trial:
			s.State, s.Detail = Trial, "the edge goes back by itself unless it hears from the hub"
		case r.Drift != "":
			s.State, s.Detail = Drift, r.Drift
		default:
			s.State = InStep
		}
		s.fault(&r)
	case r.Newest > e.kept.Last || r.Version == w.Version:
		s.State = Unknown
		s.Detail = fmt.Sprintf("the edge has decided on version %d, which this hub does not have: was the hub restored from a backup? Look at what runs (edges config show --running), then adopt it or set the right one", max(r.Newest, r.Version))
	case r.Verdict != nil && r.Verdict.Version == w.Version && r.Verdict.Hash == w.Hash:
		s.State, s.Detail = Refused, r.Verdict.Reason
		if r.Verdict.Outcome == wire.ConfigRolledBack {
			s.State = RolledBack
		}
	case r.Newest >= w.Version:
		s.State, s.Detail = Unknown, fmt.Sprintf("the edge has decided on version %d and does not say how; set it anew", w.Version)
	default:
		s.State = Waiting
		s.fault(&r)
	}
	return s
}

// fault adds what keeps the edge from more.
func (s *Status) fault(r *wire.ConfigState) {
	if r.Fault != "" && s.Detail != "" {
		s.Detail += "; " + r.Fault
	} else if r.Fault != "" {
		s.Detail = r.Fault
	}
}
