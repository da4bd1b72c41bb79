package ingest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// maxSchemas bounds the schemas kept of one edge beside the one in force: those
// of a backlog that is still to come.
const maxSchemas = 4

// edge is everything about one edge. Its worker owns it; only view is shared.
type edge struct {
	id   string
	view *view
	durable
	site   string
	pushed bool // see Config.Pushed

	fold    Fold
	schemas []*schema // newest last
	cur     *binding  // nil until the first frame
	missed  wire.Hash // a schema that is lacking, asked for

	safe      wire.Pos
	lineage   uint64    // counts the lines that were begun
	lastHeard time.Time // of the instance in force
	hello     bool      // heard since the start
	epoch     wire.Epoch
	online    wire.State // the newest document with Online
	forgotten bool       // by an operator, and no frame since
	suspects  int        // hellos in a row that look like a fork
	snapshots snapshotPlace
	taken     int           // series that are not refused
	begun     begun         // series that were not there before
	ackWithin time.Duration // how long an acknowledgement may wait
	bands     []byte        // what the rules watch, encoded; nil: to be made

	changed       bool // since the last checkpoint
	schemaChanged bool

	ack     pendingAck
	other   time.Time            // last answer to another instance
	flagged map[string]time.Time // kind of event: when it was last found
}

type snapshotPlace struct {
	epoch   wire.Epoch
	counter uint64
	seq     uint64 // the newest frame that its values are in; 0: the frames have come to it
}

// caughtUp takes back what only a snapshot has said, once the frames have come to it:
// what is shown then is what they say.
func (e *edge) caughtUp() {
	s := &e.snapshots
	if s.seq == 0 || e.pos.Epoch == s.epoch && e.pos.Seq < s.seq || e.pos.Epoch.Start < s.epoch.Start {
		return
	}
	s.seq = 0
	e.view.settleLive()
}

// pendingAck is what the edge is to be told next.
type pendingAck struct {
	waiting bool      // there is something to say
	listed  bool      // in the worker's list
	at      time.Time // when to send
	last    time.Time // when the last one was sent
	refused time.Time // when the last refusal was sent
	bytes   uint64    // taken since
	status  wire.Status
	reason  string
	nonce   uint64
}

// load brings the edge to its last checkpoint.
func (w *worker) load(id string) (*edge, error) {
	e := &edge{id: id, flagged: map[string]time.Time{}, pushed: w.g.cfg.Pushed != nil && w.g.cfg.Pushed(id)}
	cp, ok, err := w.g.parts.Ledger.Load(id)
	if err != nil {
		return nil, fmt.Errorf("ingest: load the checkpoint of edge %s: %w", id, err)
	}
	now := w.g.now()
	if ok && cp.Position != nil {
		if err := e.decode(cp.Position); err != nil {
			return nil, fmt.Errorf("ingest: position of edge %s: %w", id, err)
		}
		e.safe = e.pos
		// Whoever was the edge before the restart still is, until it has been
		// silent for long enough.
		e.lastHeard = now
	}
	var saved []byte
	if ok {
		saved = cp.Rules
	}
	if w.g.parts.Rules != nil {
		if e.fold, err = w.g.parts.Rules.Open(id, saved); err != nil {
			return nil, fmt.Errorf("ingest: rule state of edge %s: %w", id, err)
		}
	}
	e.site = w.site(id, e.claim)
	e.view = w.g.views.add(id, e.site)
	if ok && len(cp.Schema) > 0 {
		s, err := decodeSchema(cp.Schema)
		if err != nil {
			return nil, fmt.Errorf("ingest: schema of edge %s: %w", id, err)
		}
		e.schemas = append(e.schemas, s)
		if s.hash == e.durable.schema {
			b, err := bind(s, e.site, id, e.pushed)
			if err != nil {
				return nil, err
			}
			w.admitSeries(e, b)
			e.use(b)
		}
	}
	if e.cur == nil {
		e.durable.schema, e.onTime, e.late, e.refused = wire.Hash{}, nil, nil, nil
	}
	e.view.place(&e.durable, e.safe)
	return e, nil
}

func (w *worker) site(id, claim string) string {
	if w.g.parts.Registry == nil {
		return claim
	}
	return w.g.parts.Registry.Site(id, claim)
}

func decodeSchema(raw []byte) (*schema, error) {
	s, hash, err := wire.DecodeSchema(raw)
	if err != nil {
		return nil, err
	}
	return &schema{hash: hash, raw: bytes.Clone(raw), series: len(s.Series), read: s}, nil
}

// addSchema keeps a schema that the edge sent.
func (e *edge) addSchema(s *schema) {
	if s.hash == e.missed {
		e.missed = wire.Hash{}
	}
	if e.findSchema(s.hash) != nil {
		return
	}
	if len(e.schemas) == maxSchemas {
		e.schemas = append(e.schemas[:0], e.schemas[1:]...)
	}
	e.schemas = append(e.schemas, s)
}

// hasSchema reports whether the message is that of a schema which is kept, byte by
// byte.
func (e *edge) hasSchema(payload []byte) bool {
	for _, s := range e.schemas {
		if bytes.Equal(s.raw, payload) {
			return s.hash != e.missed
		}
	}
	return false
}

// findSchema returns the schema, or nil when the edge must send it.
func (e *edge) findSchema(h wire.Hash) *schema {
	if e.cur != nil && e.cur.hash == h {
		return e.cur.schema
	}
	for _, s := range e.schemas {
		if s.hash == h {
			return s
		}
	}
	return nil
}

// use puts a binding in force. What was known of a series goes on under its new
// number.
func (e *edge) use(b *binding) {
	onTime, late := e.onTime, e.late
	if e.durable.schema != b.hash || len(onTime) != len(b.series) || len(late) != len(b.series) {
		onTime, late = blank(len(b.series)), blank(len(b.series))
		carry(e.cur, b, func(from, to int) { onTime[to], late[to] = e.onTime[from], e.late[from] })
		e.schemaChanged = true
	}
	e.view.bind(e.cur, b)
	e.bands = nil
	e.durable.schema, e.onTime, e.late, e.cur = b.hash, onTime, late, b
	if e.fold != nil {
		e.fold.Bind(b.bound)
	}
}

// restart begins the line of an instance; a zero one is whoever comes next.
func (e *edge) restart(i wire.Instance) {
	e.begin(i)
	e.lineage++
	e.safe, e.hello, e.suspects = wire.Pos{}, false, 0
	e.view.place(&e.durable, e.safe)
}

func blank(n int) []uint8 {
	q := make([]uint8, n)
	for i := range q {
		q[i] = noQuality
	}
	return q
}

// checkpoint returns what the ledger must know.
func (e *edge) checkpoint() Checkpoint {
	cp := Checkpoint{Edge: e.id, Position: e.encode(nil)}
	if e.fold != nil && e.fold.Dirty() {
		switch saved, whole := e.fold.SaveChanges(nil); {
		case !whole:
			cp.Changes = saved
		case saved == nil:
			cp.Rules = []byte{}
		default:
			cp.Rules = saved
		}
	}
	if e.schemaChanged && e.cur != nil {
		cp.Schema = e.cur.raw
	}
	e.changed, e.schemaChanged = false, false
	return cp
}
