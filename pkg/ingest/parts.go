package ingest

import (
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Store keeps samples.
type Store interface {
	// Appender returns an appender for one worker, to be used for any number of
	// batches.
	Appender() Appender
	// Sync returns when everything whose Commit had returned before is durable.
	// It is called by one goroutine, while workers go on appending.
	Sync() error
}

// Appender writes batches: a batch begins with the first Append and ends with
// Commit or Rollback. It is used by one goroutine.
type Appender interface {
	// Append adds a sample. Ref is what an earlier call returned for the series;
	// then lset is nil. When the store does not know the reference any more, it
	// returns 0 and nothing else happens: the call is made again with ref 0 and
	// lset, which is sorted, contains __name__, and is not kept. The time is in
	// milliseconds. A value may be the staleness marker. A sample that the store
	// has already, or will never take, is not an error, or one that
	// Config.SampleError recognises; every other error ends Run.
	Append(ref uint64, lset []telemetry.Label, t int64, v float64) (uint64, error)
	Commit() error
	Rollback() error
}

// Texts keeps the readings of text, which the store does not. It is called
// concurrently.
type Texts interface {
	// Append takes a reading; lset is as for Appender, and not kept, nor is the
	// text. What Append has taken is durable after the next Sync of the store.
	Append(lset []telemetry.Label, t int64, text string, q telemetry.Quality)
}

// Rules makes the rule state of edges.
type Rules interface {
	// Open returns the state of an edge, from what SaveChanges wrote up to the last
	// checkpoint: the last whole state with the changes after it, one after the
	// other; saved is nil when there is none. It is called concurrently. An
	// error ends Run: an implementation that would rather begin anew does so itself.
	Open(edge string, saved []byte) (Fold, error)
}

// Fold is the rule state of one edge. One goroutine uses it.
type Fold interface {
	// Bind tells what the series numbers mean from here on; the slice does not
	// change afterwards and may be kept. State that belongs to
	// a series (device and point) goes on under its new number. It is called before
	// the first reading, where the log changes its schema, and when the registry
	// moves the edge to another site.
	Bind(series []telemetry.BoundSeries)
	// Observe shows an on-time reading. Times ascend for each series, except
	// after Unobserved with to before from.
	Observe(series uint32, t int64, v float64, q telemetry.Quality)
	// ObserveText is Observe for a series of texts; the text is not kept.
	ObserveText(series uint32, t int64, text string, q telemetry.Quality)
	// Unobserved says that nothing is known between the two times. When to lies
	// before from, log time stepped back and begins anew there.
	Unobserved(from, to int64)
	// Advance says that all on-time readings up to w have been shown.
	Advance(w int64)
	// SaveChanges appends to dst what changed since the last call, or the whole state.
	SaveChanges(dst []byte) (out []byte, whole bool)
	// Dirty reports whether the state changed since the last SaveChanges.
	Dirty() bool
}

// Bands knows what the rules watch, so that an edge can be told. It is called
// concurrently.
type Bands interface {
	// Limits returns for each series the values at which a rule would change its
	// mind, ascending and finite; nil for a series that no rule watches.
	Limits(series []telemetry.BoundSeries) [][]float64
}

// Checkpoint is how far the hub has got with an edge. A nil field leaves what was
// written before. The bytes mean something to this package and to Rules only.
type Checkpoint struct {
	Edge     string
	Position []byte
	Rules    []byte // state in place of all that was written of it
	Changes  []byte // of the state, to be kept after what was written of it
	Schema   []byte
}

// Gap is a stretch of an edge's log that the hub will never get.
type Gap struct {
	Edge        string
	After, Next string    // places: what the hub had last, and what comes next
	Reason      string    // as the edge says
	From, To    time.Time // event time, as far as known; zero when not
}

// Event is something about an edge that an operator should see.
type Event struct {
	Edge   string
	Kind   string // one of the Event constants
	Text   string // one sentence
	Detail map[string]string
}

// The kinds of [Event].
const (
	EventFork      = "fork"
	EventClone     = "clone"
	EventReinstall = "reinstalled"
	EventRestored  = "restored"
	EventClock     = "clock"
	EventDisk      = "disk"
	EventRefused   = "refused"
	EventVersion   = "version"
	EventForgotten = "forgotten"
	EventLimit     = "limit"
)

// Ledger is the hub's durable memory.
type Ledger interface {
	// Load returns the newest checkpoint of an edge. It is called concurrently.
	Load(edge string) (Checkpoint, bool, error)
	// Checkpoint makes the list durable, and everything given to Gap and Event
	// before, in one transaction.
	Checkpoint([]Checkpoint) error
	// Gap and Event take something down; it need not be durable before the next
	// Checkpoint. The same gap, by edge, After and Next, may come again after a
	// crash and must be kept once.
	Gap(Gap) error
	Event(Event) error
}

// Registry knows where edges stand.
type Registry interface {
	// Site returns the site of an edge that claims to be at a site; the claim is
	// empty as long as the edge has not said hello. It is called concurrently.
	Site(edge, claim string) string
}

// Bus carries messages to the edges; they may be lost.
type Bus interface {
	// Publish must not block for long and must not keep the payload. It is called
	// concurrently.
	Publish(edge, kind string, payload []byte) error
}
