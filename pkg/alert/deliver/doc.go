// Package deliver carries the alert log to where it is wanted: webhooks,
// Alertmanager, MQTT, and people.
//
//	d, err := deliver.Open(cfg, deliver.Parts{Log: ledger, Book: ledger, ...})
//	...
//	err = d.Run(ctx)
//
// # One mechanism
//
// Every target is a consumer of its own: it reads the log from its own position
// ([feed.Reader]) in a goroutine of its own, gives its sink the entries that it
// wants, in order, and writes down how far it has got ([Book]). So
//
//   - each entry is given at least once, and again after a crash what was given in
//     the second before it; [feed.Event] IDs tell;
//   - a slow or dead target costs only itself: nothing is queued for it, it reads
//     the log later. What the log has trimmed by then is said;
//   - what fails is tried again for as long as it takes, with growing pauses and
//     as the target asks (Retry-After);
//   - a target that refuses an entry, rather than failing, is held at it: nothing
//     overtakes it. It is offered again now and then; a person can skip it into the
//     dead letters, or, when so configured, it goes there by itself after a time.
//
// A sink that keeps something of its own between entries (which alerts Alertmanager
// was told of, which notices people wait for) gives it to the same transaction as
// the position.
//
// All methods of [Deliveries] are safe for concurrent use.
package deliver
