package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// What callers branch on.
var (
	// ErrChanged says that somebody else has changed it meanwhile.
	ErrChanged = errors.New("somebody has changed it meanwhile")
	// ErrNoVersion says that there is no such version, or none any more.
	ErrNoVersion = errors.New("there is no such version")
	// ErrSilent says that the edge did not answer.
	ErrSilent = errors.New("the edge does not answer")
	// ErrNotShown says that the edge has no text to show; the reason is in the message.
	ErrNotShown = errors.New("the edge does not show it")
	// ErrInvalid says that something cannot be kept.
	ErrInvalid = errors.New("cannot be kept")
)

// Config says what a Fleet works with.
type Config struct {
	Store Store
	// Publish sends a message of the topic config to an edge; it may be lost.
	Publish func(edge string, payload []byte) error
	// Connected reports whether an edge is worth sending to.
	Connected func(edge string) bool
	// Note is told what edges did by themselves, in a sentence. May be nil.
	Note   func(edge, what string)
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: none
}

// The pauses before something is sent again that the edge has not decided about.
const (
	firstPause = 30 * time.Second
	maxPause   = 10 * time.Minute
	tick       = 5 * time.Second
)

// Of what edges say: how much waits, and how much an edge may say at once; then one
// message a second.
const (
	inboxSize = 1024
	burst     = 30
)

// Fleet knows the configurations of all edges. Open, then Run once.
type Fleet struct {
	cfg   Config
	inbox chan message

	mu    sync.Mutex
	edges map[string]*edge
}

type message struct {
	edge    string
	payload []byte
}

type edge struct {
	id   string
	kept keptVersions
	said keptState

	lastID  string           // of what it said last
	sending *wire.ConfigText // the wanted one with its text, once it was needed
	pause   time.Duration
	again   time.Time // when it is sent again
	shows   map[string]chan wire.ConfigState

	credit   float64 // messages that it may say
	creditAt time.Time
}

// wanted is what the edge is to run; nil: nothing.
func (e *edge) wanted() *Version {
	if n := len(e.kept.Versions); n > 0 && !e.kept.Versions[n-1].Cleared {
		v := e.kept.Versions[n-1]
		return &v
	}
	return nil
}

// Open reads what is kept.
func Open(cfg Config) (*Fleet, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Note == nil {
		cfg.Note = func(string, string) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{cfg: cfg, inbox: make(chan message, inboxSize), edges: map[string]*edge{}}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// edge returns what is known of an edge. The lock is held.
func (f *Fleet) edge(id string) *edge {
	e := f.edges[id]
	if e == nil {
		e = &edge{id: id, shows: map[string]chan wire.ConfigState{}, credit: burst}
		f.edges[id] = e
	}
	return e
}

// Receive takes what an edge said on the topic config-state. The payload is ours.
func (f *Fleet) Receive(edge string, payload []byte) {
	select {
	case f.inbox <- message{edge, payload}:
	default: // it says it again
	}
}

// Run takes what edges say and sends what they have not decided about, until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-f.inbox:
			if err := f.heard(m); err != nil {
				return err
			}
		case <-t.C:
			f.remind()
		}
	}
}

// may takes one message from what an edge may say. The lock is held.
func (e *edge) may(now time.Time) bool {
	e.credit = min(burst, e.credit+now.Sub(e.creditAt).Seconds())
	e.creditAt = now
	if e.credit < 1 {
		return false
	}
	e.credit--
	return true
}

// heard takes one message. An error is the store's.
func (f *Fleet) heard(m message) error {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.edge(m.edge)
	if !e.may(now) {
		return nil
	}
	var s wire.ConfigState
	if err := wire.DecodeConfigState(m.payload, &s); err != nil {
		f.cfg.Logger.Debug("what an edge says of its configuration cannot be read", "edge", m.edge, "err", err)
		return nil
	}
	if s.Shown != "" {
		if ch := e.shows[s.Shown]; ch != nil {
			ch <- s // of capacity 1, and taken away now
			delete(e.shows, s.Shown)
		}
		return nil
	}
	was := e.said
	is := s
	is.ID = ""
	e.said = keptState{Format: format, At: now.UTC(), State: is}
	// The hub's time alone is not worth a write of the disk.
	if was.At.IsZero() || !same(&was.State, &is) {
		if err := f.put(kindState, e.id, &e.said); err != nil {
			return err
		}
		if what := told(&was, &is); what != "" {
			f.cfg.Note(e.id, what)
		}
	}
	answer := wire.Config{V: wire.Version, Heard: s.ID}
	if st := e.status(); st.State != Waiting {
		e.again, e.sending = time.Time{}, nil
	} else if s.ID != e.lastID {
		// It says something new, or says it after a start: what was sent before may
		// be lost. What it says again it does not say because of that.
		answer.Desired = f.due(e, now)
	}
	e.lastID = s.ID
	f.publish(e, &answer)
	return nil
}

// due returns what is to be sent, and when it is again. The lock is held.
func (f *Fleet) due(e *edge, now time.Time) *wire.ConfigText {
	if e.again.IsZero() {
		e.pause = firstPause
	} else {
		e.pause = min(2*e.pause, maxPause)
	}
	e.again = now.Add(e.pause)
	if e.sending == nil || e.sending.Version != e.kept.Last {
		t, err := f.text(e, e.wanted())
		if err != nil {
			f.cfg.Logger.Error("a configuration cannot be sent", "edge", e.id, "err", err)
			return nil
		}
		e.sending = t
	}
	return e.sending
}

// remind sends again what edges have not decided about.
func (f *Fleet) remind() {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.edges {
		if e.again.IsZero() || now.Before(e.again) {
			continue
		}
		if !f.cfg.Connected(e.id) {
			e.again, e.sending = time.Time{}, nil // it will say how it stands
			continue
		}
		if d := f.due(e, now); d != nil {
			f.publish(e, &wire.Config{V: wire.Version, Desired: d})
		}
	}
}

func (f *Fleet) publish(e *edge, c *wire.Config) {
	payload, err := wire.EncodeConfig(c)
	if err == nil {
		err = f.cfg.Publish(e.id, payload)
	}
	if err != nil {
		f.cfg.Logger.Warn("a configuration was not sent", "edge", e.id, "err", err)
	}
}

func same(a, b *wire.ConfigState) bool {
	x, y := *a, *b
	x.ID, y.ID, x.Verdict, y.Verdict, x.Text, y.Text = "", "", nil, nil, nil, nil
	return x == y && (a.Verdict == nil) == (b.Verdict == nil) && (a.Verdict == nil || *a.Verdict == *b.Verdict)
}

// told is what is worth noting of a change; empty: nothing.
func told(was *keptState, is *wire.ConfigState) string {
	var what []string
	old := &was.State
	if is.Owner != old.Owner && (!was.At.IsZero() || is.Owner == wire.OwnerHub) {
		what = append(what, map[bool]string{true: "the gateway lets the hub decide", false: "the gateway decides"}[is.Owner == wire.OwnerHub])
	}
	switch {
	case is.Version != old.Version && is.Version == 0 && old.Version != 0:
		what = append(what, "runs the gateway's own configuration")
	case is.Version != 0 && is.Trial && (is.Version != old.Version || !old.Trial):
		what = append(what, fmt.Sprintf("version %d runs on trial", is.Version))
	case is.Version != 0 && !is.Trial && (is.Version != old.Version || old.Trial):
		what = append(what, fmt.Sprintf("version %d runs", is.Version))
	}
	if v := is.Verdict; v != nil && (old.Verdict == nil || *old.Verdict != *v) {
		reason, _, more := strings.Cut(v.Reason, "\n")
		if more {
			reason += " ..."
		}
		what = append(what, fmt.Sprintf("version %d %s: %s", v.Version, strings.ReplaceAll(v.Outcome, "_", " "), reason))
	}
	if is.Drift != "" && old.Drift == "" {
		what = append(what, is.Drift)
	}
	return strings.Join(what, "; ")
}

// Setting is what somebody wants of an edge.
type Setting struct {
	Name string // of the file, for the places of faults
	Text string
	Who  string
	Why  string
	// If is the number of the newest act that they have seen; nil: whatever it is.
	If *uint64
}

// check bounds what is kept.
func (s *Setting) check() error {
	if len(s.Why) > MaxWhy || len(s.Who) > wire.MaxConfigName || len(s.Name) > wire.MaxConfigName {
		return fmt.Errorf("%w: a name has at most %d bytes, a reason %d", ErrInvalid, wire.MaxConfigName, MaxWhy)
	}
	return nil
}

// Set makes a text what the edge is to run, once it was judged. Changed is false when
// that is what it is already and the edge has not turned it down. Errors: ErrChanged,
// ErrInvalid, [wire.ErrTooLarge].
func (f *Fleet) Set(id string, s Setting) (v Version, changed bool, err error) {
	if err := s.check(); err != nil {
		return v, false, err
	}
	t, err := wire.NewConfigText(0, s.Name, s.Text)
	if err != nil {
		return v, false, err
	}
	// It must fit the message that carries it.
	if _, err := wire.EncodeConfig(&wire.Config{V: wire.Version, Heard: strings.Repeat("x", 64), Desired: t}); err != nil {
		return v, false, fmt.Errorf("%w: compressed it is %d bytes, too many for a message; can devices be written with each:?", wire.ErrTooLarge, len(t.Packed))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.edge(id)
	if s.If != nil && *s.If != e.kept.Last {
		return v, false, fmt.Errorf("%w: the newest is %d", ErrChanged, e.kept.Last)
	}
	st := e.status()
	if w := st.Wanted; w != nil && w.Hash == t.Hash && w.Name == t.Name && st.State != Refused && st.State != RolledBack && st.State != Unknown {
		return *w, false, nil
	}
	v = Version{Version: e.next(), Name: s.Name, Hash: t.Hash, Bytes: len(s.Text), Who: s.Who, Why: s.Why, At: f.cfg.Now().UTC()}
	t.Version = v.Version
	if err := f.cfg.Store.PutRecord(kindText, textID(id, v.Version), t.Packed); err != nil {
		return v, false, err
	}
	if err := f.add(e, v); err != nil {
		return v, false, err
	}
	e.sending, e.again = t, time.Time{}
	if e.status().State == Waiting && !e.said.At.IsZero() && f.cfg.Connected(id) {
		f.publish(e, &wire.Config{V: wire.Version, Desired: f.due(e, f.cfg.Now())})
	}
	return v, true, nil
}

// next is above every number that this hub, or the one before its backup, has given.
func (e *edge) next() uint64 { return max(e.kept.Last, e.said.State.Newest, e.said.State.Version) + 1 }

// add keeps a version, and takes away the oldest. The lock is held.
func (f *Fleet) add(e *edge, v Version) error {
	next := keptVersions{Format: format, Last: v.Version, Versions: append(slices.Clone(e.kept.Versions), v)}
	gone := next.Versions[:max(0, len(next.Versions)-MaxVersions)]
	next.Versions = next.Versions[len(gone):]
	if err := f.put(kindVersions, e.id, &next); err != nil {
		return err
	}
	e.kept = next
	for _, old := range gone {
		if err := f.cfg.Store.PutRecord(kindText, textID(e.id, old.Version), nil); err != nil {
			return err
		}
	}
	return nil
}

// Clear says that nothing is wanted of the edge any more: it goes on with what it runs.
// Of s only who, why and If count. Errors: ErrChanged, ErrInvalid; ErrNoVersion when
// nothing was wanted.
func (f *Fleet) Clear(id string, s Setting) (Version, error) {
	if err := s.check(); err != nil {
		return Version{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.edge(id)
	if s.If != nil && *s.If != e.kept.Last {
		return Version{}, fmt.Errorf("%w: the newest is %d", ErrChanged, e.kept.Last)
	}
	if e.wanted() == nil {
		return Version{}, ErrNoVersion
	}
	v := Version{Version: e.next(), Who: s.Who, Why: s.Why, At: f.cfg.Now().UTC(), Cleared: true}
	err := f.add(e, v)
	e.sending, e.again = nil, time.Time{}
	return v, err
}

// Status says how an edge stands.
func (f *Fleet) Status(id string) Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.edges[id]; e != nil {
		return e.status()
	}
	return Status{Edge: id, State: None}
}

// All says how all edges stand of which something is known, by their ids.
func (f *Fleet) All() []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Status
	for _, id := range slices.Sorted(maps.Keys(f.edges)) {
		if e := f.edges[id]; !e.said.At.IsZero() || e.kept.Last > 0 {
			out = append(out, e.status())
		}
	}
	return out
}

// History returns what is kept of an edge's versions, newest first.
func (f *Fleet) History(id string) []Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.edges[id]
	if e == nil {
		return nil
	}
	out := slices.Clone(e.kept.Versions)
	slices.Reverse(out)
	return out
}

// Text returns a version that is kept; 0: the one that is wanted. It fails with
// ErrNoVersion.
func (f *Fleet) Text(id string, version uint64) (Version, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.edges[id]
	if e == nil {
		return Version{}, "", ErrNoVersion
	}
	v := e.wanted()
	if version != 0 {
		v = nil
		if i := slices.IndexFunc(e.kept.Versions, func(v Version) bool { return v.Version == version && !v.Cleared }); i >= 0 {
			v = &e.kept.Versions[i]
		}
	}
	if v == nil {
		return Version{}, "", ErrNoVersion
	}
	t, err := f.text(e, v)
	if err != nil {
		return *v, "", err
	}
	return *v, t.Text, nil
}

// maxShows bounds the questions to an edge that wait for their answers.
const maxShows = 8

// Show asks an edge for what it has, and waits until ctx ends. Errors: ErrSilent,
// ErrNotShown.
func (f *Fleet) Show(ctx context.Context, id string) (*wire.ConfigText, error) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it does not fail
	question, answer := hex.EncodeToString(b[:]), make(chan wire.ConfigState, 1)
	f.mu.Lock()
	e := f.edge(id)
	if len(e.shows) >= maxShows || !f.cfg.Connected(id) {
		f.mu.Unlock()
		return nil, fmt.Errorf("%w: it is not connected, or asked too much at once", ErrSilent)
	}
	e.shows[question] = answer
	f.publish(e, &wire.Config{V: wire.Version, Show: question})
	f.mu.Unlock()
	select {
	case s := <-answer:
		if s.Text == nil {
			return nil, fmt.Errorf("%w: %s", ErrNotShown, s.Fault)
		}
		return s.Text, nil
	case <-ctx.Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(e.shows, question)
		return nil, ErrSilent
	}
}
