// Package local keeps samples in an embedded Prometheus TSDB, in one directory:
//
//	format                the version of all that stands here, see format.go
//	lock                  flock of the process that has it open
//	wal/, wbl/            write-ahead logs: all samples; those out of order
//	chunks_head/          full chunks of the last hours, mapped into memory; a copy
//	01J.../               blocks: immutable, two hours to weeks each, with the chunks of
//	                      package packed, or the TSDB's own until their next compaction
//	synced                how far both logs were durable at the last Sync
//	rewind-needed         damage was found, the edges have to send again
//	history/              long history, see package history
//	.corrupt-TIME/        what was set aside, with a report.json
//
// The TSDB is made for data that one may lose a little of: its logs are written
// without fsync, the loss of a log's tail is repaired by cutting, some errors are
// logged only. Here a sample counts as stored once [Store.Sync] has returned, so
// this package adds what is missing around it:
//
//   - Before opening, both logs are read through. A torn tail is cut at the last
//     whole record, since the TSDB would otherwise give up reading and lose the
//     whole out-of-order log. Damage in what had been durable is set aside,
//     never deleted, and [Report] asks for a rewind of the edges until
//     [Store.Rewound] is called. The TSDB's own repair, which deletes, finds
//     nothing to do.
//   - The head is made anew from the logs alone. The chunk files beside them are
//     not synced, and after a crash they can hide samples that the out-of-order
//     log has; see repair.headChunks and dropMisleading.
//   - Numbers of series are never used twice. The write-ahead log can lose the
//     record that names a series while the out-of-order log keeps samples of it;
//     without care the next new series gets the same number, and these samples.
//   - Sync fsyncs every segment of both logs that is not known to be clean,
//     oldest first, through descriptors held since the segment was first seen:
//     the TSDB fsyncs and closes full segments itself and logs an error only,
//     and the kernel tells an error once per descriptor.
//   - A failed write of the out-of-order log is swallowed by the TSDB and shows
//     in a counter alone; Sync watches it.
//   - Retention goes by the hub's clock and the blocks' times, and full chunks
//     leave the heap every few seconds.
//
// After any of these errors the store is dead: every call answers
// [tsdb.ErrFatal], and the process must exit.
package local
