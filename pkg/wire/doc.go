// Package wire is the format in which an edge and the hub talk: frames of
// readings, schemas, gaps, acknowledgements, snapshots, bands, answers, and the small
// JSON documents beside them. It is published: docs/uplink.md says how the messages
// are used and has worked examples. This comment draws them.
//
//	enc := wire.NewEncoder(schema) // kept, one per goroutine
//	payload, err := enc.Encode(nil, &wire.Frame{Header: wire.Header{...}, Readings: readings})
//
//	dec := wire.NewDecoder() // kept, one per goroutine
//	err = dec.DecodeFrame(payload, &frame) // reuses frame's slices
//
// Encoders and decoders keep scratch memory and are not for concurrent use; the
// functions are. Decoders trust nothing: memory is bounded by [MaxFrame],
// [MaxBlock] and [MaxReadings] whatever a message claims, and errors are
// [ErrCorrupt] (it does not hold) or [ErrVersion] (it is whole, but newer).
//
// # Notation
//
// u8, u32, u64, i64 are little endian. uv is a varint as in protocol buffers
// (seven bits a byte, lowest first, at most ten bytes), sv the zigzag form of a
// signed one. text is uv length, bytes. bits are packed lowest first, and padded
// with zeros to a whole byte. Signed arithmetic wraps at 64 bits. Times are
// milliseconds.
//
// # Envelope
//
//	 0       2         3      4          8
//	+-------+---------+------+----------+------ - -
//	| "LB"  | version | kind | crc32c   | body
//	+-------+---------+------+----------+------ - -
//	 2 bytes u8 = 1    u8     u32, over version, kind and body
//
// These eight bytes mean the same in every version. A message is at most
// [MaxFrame] bytes long. Kinds: 1 frame, 2 schema, 3 gap, 4 ack, 5 snapshot, 6
// joined frames, 7 bands, 8 answer.
//
// # Frame
//
//	epoch     16      instance 8 bytes, start u32, random u32
//	schema    16      hash
//	base      i64     what all times below count from
//	flags     u8      1 untimed, 2 boot, 4 prev, 8 marks, 16 packed, 32 extension,
//	                  64 estimated
//	seq       uv      from 1
//	era       uv
//	W         sv      minus base
//	PrevW     sv      W minus PrevW
//	boot      16      if flag boot; untimed frames have it
//	prev      16+uv   if flag prev: epoch, seq
//	marks             if flag marks: uv count, then each
//	                    kind u8 (+128: From is not relative to base)
//	                    From sv, To sv, minus base; note text
//	extension         if flag extension: see below
//	count     uv      readings
//	size      uv      if flag packed: bytes of the block once decompressed
//	block             to the end; if packed, a zstd frame
//
// A snapshot has epoch, schema, base (when it was made), flags (16 and 32 only),
// seq uv, counter uv, extension, count, size, block.
//
// Adding to base gives a frame other times without touching the rest: [Retime].
// [Header.Sum] is the CRC-32C over epoch and schema, then all from seq on.
//
// An extension is uv length, then that many bytes of (uv tag, uv length, bytes).
// Readers skip tags that they do not know. No tag is defined yet.
//
// # Joined frames
//
// Consecutive frames of one epoch, schema, era and boot, each going on from the
// watermark of the one before, none of them untimed:
//
//	epoch     16
//	schema    16
//	base      i64     the W of the last frame
//	flags     u8      2 boot, 4 prev, 8 marks, 16 packed, 32 extension, 64 estimated
//	seq       uv      of the first frame; the others count on
//	era       uv
//	frames    uv      how many, 2 to [MaxJoined]
//	W         sequence of frames rows of 1: minus base
//	PrevW     sv      W of the first frame minus its PrevW; that of the others is
//	                  the W before
//	sums      u32 each: the sum of the frame as it would have come alone
//	boot      16      if flag boot
//	prev      16+uv   if flag prev: of the first frame
//	marks             if flag marks: uv count of frames with marks, then each
//	                    skip uv: frames without between it and the one before
//	                    marks as in a frame
//	extension
//	count     uv      readings
//	size      uv      if flag packed
//	block             as in a frame, with the frames of the readings
//
// A reading is expected in the first frame whose W is not before its time, else in
// the last one. Where others are, the column says so.
//
// # Block
//
//	instants  uv count; if not 0: a sequence of count rows of 1
//	columns   until they hold count readings
//
// A column is m series with c readings each, series by series, each series in
// ascending time:
//
//	head      u8   bits 0-1 series, bit 2 several, bits 3-5 times, bits 6-7 quality
//	encoding  u8   bits 0-3 values, bit 6 frames, bit 7 texts
//	series    sv   the first index, minus (the last one of the column before, plus 1)
//	               0 one: m is 1
//	               1 progression: m uv, step sv
//	               2 list: m uv, sequence of m-1 rows of 1: the steps
//	c         uv   if several; else 1
//	times          0 one: sv, the time of all
//	               1 last: as in the column before, which has as many readings
//	               2 back: uv, as in the column so many before
//	               3 grid: sequence of 1 row of c, the times of each series
//	               4 each: sequence of m rows of c
//	               5 table: sequence of m*c rows of 1: indexes of instants
//	quality        0 all good
//	               1 all the same: u8
//	               2 runs: uv count, then each u8 quality, uv length
//	values         0 zero: all +0
//	               1 constant: 8 bytes, the bits of a float64
//	               2 decimal
//	               3 runs: uv count, sequence of count rows of 1: the lengths;
//	                 decimal of count rows of 1: the values
//	               4 XORed float64, 5 XORed float32
//	               6 raw: 8 bytes each
//	texts          if bit 7: uv count, the different texts (text each), sequence of
//	               m*c rows of 1: which of them
//	frames         if bit 6, in joined frames alone: uv count; sequence of count rows
//	               of 1: how many readings stand between one that is not where it is
//	               expected and the one before it; sequence of count rows of 1: by
//	               how many frames each comes later
//
// Decimal:
//
//	variant   u8   0 divide: i / 10^exp, for a negative exp i * 10^-exp
//	               1 multiply: i * 10^-exp, the power being the nearest float64
//	               2 single: the float32 nearest to i / 10^exp
//	               +128: exceptions follow
//	exp       i8
//	exceptions     uv count; sequence of count rows of 1: how many values stand
//	               between one and the exception before it; encoding u8; values:
//	               as above, but no runs, and a decimal without exceptions
//	integers       sequence of m rows of c, exceptions included (any number there)
//
// Sequence, of m rows of c integers. The first of each row are the heads, the
// others the tails:
//
//	order     u8   bit 0: heads are 0 offsets from a base, 1 differences
//	               bits 1-2: tails are 0 offsets, 1 differences, 2 differences of
//	               differences, within their row, the first difference being 0, 3
//	               offsets from a line: from head + index in the row * step
//	base      sv   of offsets: the base; of differences: the first head
//	coding    u8   of the heads: all of them as offsets; all but the first as
//	heads     bits zigzag differences
//	step      sv   if c > 1 and tails are offsets from a line
//	base      sv   if c > 1 and tails are offsets, from a line or not
//	coding    u8   if c > 1
//	tails     bits if c > 1: row by row; all but offsets in zigzag form
//
//	coding 0 to 64: that many bits each
//	       65:      symbols: uv length, then as many bytes: a symbol for each, packed
//	                by the finite state entropy coder of github.com/klauspost/compress;
//	                then bits: the n lowest of each that has a symbol of 192 or more
//	       128+k:   Rice code with parameter k, 0 to 32
//	       192+k:   Rice code that adapts, from k
//
// Rice code of u with parameter k: u>>k zeros, a one, the k low bits of u; where
// u>>k is 24 or more: 24 zeros, 6 bits of (length of u)-1, u in that many bits.
// Adapting: acc starts at 2^(k+4); before each u, k is the length in bits of
// acc>>5, at most 32; after it, acc += min(u, 2^40) - (acc>>4).
//
// Symbols: a number below 192 is its own; that of a larger one is its length in
// bits, plus 184, and n is its length minus one.
//
// XORed floats: the bits of each value, XORed with those of the one before (0 for
// the first). 0: the same; 1 0: the bits in the window of the one before; 1 1: a
// new window, leading zeros (6 bits, float32: 5), length minus 1 (likewise), then
// the bits in the window.
//
// # Gap
//
//	after 16+uv, next 16+uv, reason text, extension
//
// # Ack
//
//	status    u8      0 ok, 1 hole, 2 clock, 3 fork, 4 clone, 5 version, 6 refused
//	flags     u8      1 got, 2 safe, 4 safe has got's epoch, 8 nonce, 16 need,
//	                  32 reason, 64 extension
//	instance  8       of the addressee
//	hubtime   i64
//	credit    uv
//	got       16+uv   if flag
//	safe      16+uv   if flag; without the epoch if flag 4
//	nonce     u64     if flag
//	need      16      if flag
//	reason    text    if flag
//	extension         if flag
//
// # Bands
//
//	schema    16
//	flags     u8      0; 32 extension
//	lists     uv count, then each: uv count of limits, 1 to [MaxLimits]; float64 each,
//	          finite, ascending
//	bands     uv count, then each: series uv, minus (the last one plus 1); uv: which
//	          list, from 0
//	extension         if flag
//
// # Answer
//
//	id        8       of the question
//	run       u32
//	status    u8      0 more, 1 done, 2 failed, 3 refused, 4 lost
//	flags     u8      1 metered, 2 truncated, 4 packed, 32 extension
//	seq       uv      from 0
//	note      text
//	extension         if flag
//	size      uv      bytes of the text, at most [MaxAnswerText]
//	text              to the end; if packed, a zstd frame
//
// # Schema
//
//	flags     u8      1 hardware
//	size      uv      bytes once decompressed, at most [MaxSchema]
//	          zstd of:
//	            uv count of strings, each text; below, ref is uv: 0 the empty
//	            string, else the number of a string, from 1
//	            uv count of devices; all ids, all profiles, all revisions, all
//	            connections, all addresses: ref each
//	            uv count of label sets, each uv count of (name ref, value ref)
//	            uv count of series; all devices: sv, minus the one before; all
//	            points, quantities, units: ref; all kinds: u8; all label sets: uv;
//	            all intervals, silences, lags: uv
//	            if flag hardware: uv count of devices that have some, at least 1;
//	            each: uv number of the device, minus (the one before plus 1); uv
//	            count, 1 to 16; each: serial ref, note ref, since sv (0: unknown)
//
// The hash of a schema is the first 16 bytes of the SHA-256 of that, before
// compression.
package wire
