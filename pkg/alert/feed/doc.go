// Package feed reads the alert log from a position on, for everybody who must
// not miss an entry: the streams of the API, the deliverers, and clients.
//
//	r, err := feed.NewReader(log, position)
//	for {
//		changed := log.Changed() // before reading, so that nothing slips between
//		batch, err := r.Next(256)
//		... batch.Notices, then batch.Entries
//		if !batch.More {
//			<-changed
//		}
//	}
//
// # Positions
//
// A [Position] is GENERATION-SEQUENCE, the entry that was seen last. What comes
// after it is given in order and without holes. When that cannot be, the reader
// says so before anything else, in a [Notice]:
//
//   - trimmed: entries before First are no longer kept;
//   - generation: the hub was restored from a backup, and what was seen lies, in
//     part, after it. The reader goes on after the last entry that both have, or,
//     when the generation is not known, at the oldest entry.
//
// # Events
//
// Outside the hub an entry is an [Event], a CloudEvents 1.0 envelope around the
// JSON of the [alert.Entry].
//
// A [Reader] belongs to one goroutine.
package feed
