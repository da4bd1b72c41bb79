package hub

import (
	"errors"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/derive"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/texts"
)

// The parts fit packages together that must not know each other.

// rulesEnv is what rules may refer to.
func rulesEnv(p *Plan) rules.Env {
	env := rules.Env{Quantities: p.Quantities, Sites: map[string]rules.Site{}, CheckQuery: checkQuery, Over: overReadings}
	for _, s := range p.Sites {
		env.Sites[s.ID] = rules.Site{Name: s.Name, Groups: s.Groups}
	}
	return env
}

// raise takes a transition from the rules to the alert log. Once the log cannot
// be written the next checkpoint fails and ends the process, and the transition
// is raised again by the replay.
func (h *Hub) raise(t alert.Transition) {
	defer h.cut.note(&t)
	switch err := h.ledger.Append(t); {
	case errors.Is(err, ledger.ErrInvalid):
		h.logger.Error("transition cannot be stored", "rule", t.Alert.Rule, "err", err)
	case err != nil:
		h.logger.Debug("transition waits for the next start", "err", err)
	}
}

// storePart is the store with the log of texts beside it.
type storePart struct {
	tsdb.Store
	texts *texts.Log
}

func (s storePart) Appender() ingest.Appender { return s.Store.Appender() }

// Sync implements [ingest.Store].
func (s storePart) Sync() error {
	if err := s.texts.Sync(); err != nil {
		return err
	}
	return s.Store.Sync()
}

type rulesPart struct{ engine *rules.Engine }

func (r rulesPart) Open(edge string, saved []byte) (ingest.Fold, error) {
	return r.engine.Open(edge, saved)
}

type ledgerPart struct {
	l       *ledger.Ledger
	derived *derive.Deriver // may be nil
}

func (p ledgerPart) Load(edge string) (ingest.Checkpoint, bool, error) {
	c, ok, err := p.l.Load(edge)
	return ingest.Checkpoint(c), ok, err
}

func (p ledgerPart) Checkpoint(list []ingest.Checkpoint) error {
	if p.derived != nil {
		if err := p.derived.Save(); err != nil {
			return err
		}
	}
	out := make([]ledger.Checkpoint, len(list))
	for i := range list {
		out[i] = ledger.Checkpoint(list[i])
	}
	return p.l.Checkpoint(out)
}

func (p ledgerPart) Gap(g ingest.Gap) error {
	return p.l.RecordGap(ledger.Gap{Edge: g.Edge, After: g.After, Next: g.Next, Reason: g.Reason, From: g.From, To: g.To})
}

func (p ledgerPart) Event(e ingest.Event) error {
	return p.l.RecordEvent(ledger.Event{Edge: e.Edge, Kind: e.Kind, Text: e.Text, Detail: e.Detail})
}

type alertsPart struct{ *ledger.Ledger }

func (p alertsPart) FirstSequence() uint64 {
	if p.LastSequence() == 0 {
		return 0
	}
	return p.Ledger.FirstSequence()
}

// siteGroups returns the groups of a site, as sites.yaml has them.
func (h *Hub) siteGroups(id string) []string {
	if s := h.site(id); s != nil {
		return s.Groups
	}
	return nil
}

func (p alertsPart) List(f api.Filter, cursor string, limit int) ([]alert.Alert, string, error) {
	items, next, err := p.Alerts(ledger.Filter(f), cursor, limit)
	if errors.Is(err, ledger.ErrCursor) {
		err = errors.Join(api.ErrBadCursor, err)
	}
	return items, next, err
}

// pointer returns nil for the zero time, which JSON then shows as null.
func pointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// millis is pointer for milliseconds, 0 for unknown.
func millis(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	return pointer(time.UnixMilli(ms))
}
