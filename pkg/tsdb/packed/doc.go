// Package packed keeps samples in less room than the TSDB's own chunks do: a
// quarter of it for what sensors say. It is used in blocks only, which a compaction
// writes once and nobody changes; the head and its logs are the TSDB's own.
//
// Sensors say decimals, 23.4 and 23.5, or counts times a factor. As floating point
// numbers these share few bits, which is all that XOR coding looks for: 23.4 to 23.5
// costs 50 bits. As integers with a decimal exponent they are 234 and 235, and cost
// two or three. Decoding gives back the same 64 bits, always: a number is taken as a
// decimal only when dividing the integer by the power of ten makes exactly these
// bits, and stands as it is otherwise (NaN and staleness markers, -0, fractions).
//
// The parts:
//
//   - [Encode] and [Chunk] are the format, see below.
//   - [NewCompactor] makes the TSDB write packed chunks. It takes every block that has
//     plain ones, so that a block just written from the head, and those of older
//     versions, become small within minutes; and the other way round for [Plain].
//   - [Readers] reads them: the TSDB opens blocks with a pool of chunks that nobody can
//     set, so that the chunk files of packed blocks are mapped once more.
//   - A block with packed chunks says so in its meta.json, as a hint of its compaction,
//     with the version of the format; [Check] is for a version not known here.
//
// # Format
//
// Chunks stand in the TSDB's chunk files under the encoding [Encoding], with their
// length and checksum. Varints are those of encoding/binary; zigzag varints are signed
// ones.
//
//	chunk   version (1) | number of samples (uvarint) | block ...
//	block   up to 128 samples: times (ints) | exponent | values (ints) | exceptions
//
//	exponent    1 byte: bits 0-4 the power of ten by which values are divided, 0 to 22;
//	            bit 7: exceptions follow
//	exceptions  number (uvarint), each: index in the block (1 byte) | float64 (8 bytes, big endian)
//
// Ints are n0, n1 ... in units of g, around a line:
//
//	ints    control | g (uvarint), slope (zigzag) if fresh | n0 (zigzag, less what the
//	        block before would go on with) | offset (zigzag) if by level | residuals
//	control bits 6-7: 0 no residuals, all are zero; 1 by step; 2 by step, in runs; 3 by level
//	        bit 5: fresh, else g and slope are those of the block before
//	        bits 0-4: k
//	by step     n(i) = n(i-1) + g * (slope + e(i))
//	by level    n(i) = n0 + g * (offset + i * slope + e(i))
//
// The residuals e(1) ... are zigzag coded and then Rice codes, bits from the highest
// on, filled up to a byte: u >> k zeros, a one, and the low k bits; 16 zeros and no
// one: 64 bits of u follow. In runs there is a byte with another k first, for how many
// zeros come before the next residual that is none, which follows less one; and so
// on until the block is full.
//
// Where a value is an exception the integers repeat the one before. All arithmetic
// wraps around, so that any times and any integers can be told.
package packed
