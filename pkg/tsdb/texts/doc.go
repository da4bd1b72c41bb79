// Package texts keeps the readings of points that are words and no numbers: what a
// device says of its state, a licence plate, the name of an alarm. They are few and
// change seldom, so a state is kept when it begins and stands until the next: a
// reading that repeats the one before it adds nothing.
//
//	l, err := texts.Open(dir, texts.Options{MaxBytes: 256 << 20})
//	l.Append(lset, t, "open", quality) // in memory
//	err = l.Sync()                     // on disk: now positions may move
//	list, next, err := l.Query(texts.Query{Where: map[string]string{"edge": "lac-duong-01"}}, "", 100)
//
// # Layout, format version 1
//
// One bbolt file, texts.db. Integers are big endian, times are milliseconds with the
// sign bit flipped, so that bbolt's order is theirs.
//
//	meta    version       u32
//	        bytes         u64, of keys and values in states
//	        rewind        the file replaces a damaged one, see NeedRewind
//	series  id u64        JSON of the labels
//	names   labels        id u64
//	states  id | time     quality u8 | text
//	times   time | id     nothing: the states by time
//
// The oldest states go beyond Options.MaxBytes, and those that are older than
// Options.Keep. A file that cannot be read is set aside, and [Log.NeedRewind] says so:
// the edges then send again what they keep.
//
// All methods may be called from any goroutine.
package texts
