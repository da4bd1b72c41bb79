// Package ledger is the hub's durable state: one bbolt file, ledger.db, with
// the alert log, the checkpoint of every edge, the rule sets with the times from
// which they hold, and the registry of edges with their gaps and events.
//
//	l, err := ledger.Open("data/hub/ledger", ledger.Options{})
//	...
//	err = l.Append(transition)         // queued; committed within some milliseconds
//	err = l.Checkpoint(checkpoints)    // transitions so far and positions: one transaction
//	for {
//		changed := l.Changed()
//		entries, err := l.Entries(after, 100)
//		...
//		<-changed
//	}
//
// # What it promises
//
//   - Nothing is told before it is on disk: Entries, Alert, Alerts, Counts,
//     LastSequence and Changed show committed transitions only.
//   - What was queued (Append, RecordGap, RecordEvent, PutEdge) before a call
//     of Flush or Checkpoint is on disk when that returns nil, and a checkpoint
//     never is on disk without it.
//   - A transition whose key ([alert.Transition.Key]) is known gets no second
//     entry. So a replay after a crash raises nothing twice.
//   - What people did to an alert outlives the transitions that rules append to
//     it, and a replay that raises it again; see [Ledger.Act]. Holds (shelving,
//     maintenance, out of service) are applied as a transition is written.
//   - After a failed commit nothing more is accepted: Err, and every call that
//     writes, returns that error until the process is started anew. The file is
//     never set aside, emptied or repaired by the program.
//
// # Concurrency
//
// All methods may be called from any goroutine. One goroutine writes: it
// gathers what arrives within a window of a few milliseconds and commits it
// with one fsync. The queue before it is bounded; Append blocks while it is
// full. Reads are short bbolt transactions; the newest entries come from memory.
//
// # Layout, format version 2
//
// Integers in keys are big endian, so that bbolt's order is theirs; times are
// milliseconds since the Unix epoch, in keys with the sign bit flipped.
//
//	meta      version            u32
//	          generations        JSON [{"id": ..., "first": sequence}, ...]
//	log       sequence u64       recorded i64 | JSON of the transition
//	keys      alert id 0 hash    sequence u64; the hash is 16 B of that of the key
//	alerts    alert id           sequence u64 | recorded i64 | JSON of the transition
//	starts    start i64 | id     index value, see index.go: what a list filters by
//	active    start i64 | id     the same, for those that are active
//	positions edge               opaque (ingest)
//	state     edge               opaque (rules); a whole
//	statechanges edge 0 n u64    opaque (rules); what has changed since, in order
//	schemas   edge               opaque (ingest)
//	rulesets  from i64 | id      JSON of the [RuleSet]
//	edges     edge               JSON of the [EdgeRecord]
//	gaps      edge 0 hash 16 B   JSON of the [Gap]
//	events    number u64         JSON of the [Event]
//	holds     hold id            JSON of the [alert.Hold], while it stands
//	endedholds end i64 | id      the same, once it has ended
//	consumers name               JSON of the [feed.Consumer]
//	dead      number u64         JSON of the [feed.DeadLetter]
//	notices   number u64         JSON of the [feed.Receipt]
//	tokens    name               opaque, secret (deliver)
//	records   kind 0 id          opaque: who may speak to the hub (identity), what edges are to run (fleet)
//	audit     number u64         JSON of the [AuditEntry]
//
// A program reads its own format version, and brings files of older ones to it
// when it opens them, in one transaction (see migrate.go). A file of a newer
// version is refused with [ErrVersion]; it is not damaged. JSON values may gain
// fields, and the file buckets, within a version: an older program leaves both
// alone.
package ledger
