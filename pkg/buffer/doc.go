// Package buffer is the edge's durable log: frames go in at the end, are read
// from any place, and stay until they are safe elsewhere and old enough. The
// log looks into nothing: a frame is a position and opaque bytes.
//
//	l, err := buffer.Open(dir, buffer.Options{MaxSize: 1 << 30, Keep: 7 * 24 * time.Hour})
//	err = l.Begin(epoch)                       // at every start, never used before
//	err = l.Append(1, payload, now, schema)    // in memory; readable at once
//	err = l.Commit()                           // durable: now it is accepted
//	err = l.Read(after, 64<<10, func(r buffer.Record) error { ... })
//	l.SetSafe(position)                        // the hub has it on its disk
//
// # What it promises
//
// When Commit has returned nil, every frame appended before the call survives
// a kill and a power cut at any later moment, and Read gives it once, in
// order, with the bytes that were appended, until retention evicts it. What
// Read cannot give it names: Record.Missing is the range between two records
// that was evicted, corrupt, or given up while the disk refused.
//
// # Files
//
//	lock                          flock: one Log at a time
//	meta, meta.copy               small values, see Log.SetMeta; either will do
//	seg-0000000007.db             a bbolt file: the active segment
//	seg-0000000006_..._....db     a sealed one; the name holds its summary
//	seg-....db.corrupt            set aside, the newest 8 are kept
//
// A segment is at most 8 MiB and has four buckets, all integers little endian
// but for keys:
//
//	about        format   "langbiang-buffer" | version u32
//	             format-check  crc32c of it
//	             header   id u64 | last position before | crc32c
//	             state    safe | first | last | frames u64 | oldest | newest time | crc32c
//	epochs       ord u32 BE            -> tag [16] | position before | flags u8 | crc32c
//	attachments  key [16]              -> data | crc32c
//	frames       ord u32 BE, seq u64 BE -> time i64 | crc32c | payload
//
// A position is ord u32, seq u64, where ord numbers the epochs in the order in
// which they were begun. Checksums cover the key, too; that of a frame covers
// its epoch's tag. A file of a newer version is ErrVersion and left alone;
// anything else that does not hold is corruption.
//
// # Concurrency
//
// Every method may be called from any goroutine. Append never waits for the
// disk; Commit waits for one fsync or two; Read holds no lock and no
// transaction while its callback runs. The package starts no goroutine.
//
// DESIGN.md beside this file has the reasons and the numbers.
package buffer
