package local

import (
	"math"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// idleSlack is how far retention lets the clock run ahead of the newest sample.
const idleSlack = int64(24 * time.Hour / time.Millisecond)

// expired returns the blocks to delete at the time now: those that a compaction
// has replaced, those whose samples are all older than the retention, and the
// oldest ones beyond maxSize bytes. newest is the time of the newest sample that
// is in no block yet. UpTo is the newest time of what goes by age or size, and so
// leaves a hole; the earliest of all when nothing does.
//
// The clock counts no further than a day beyond the newest sample, so that a hub
// whose clock jumps years ahead does not lose its history before a human looks.
func expired(blocks []*promtsdb.Block, now, newest, retention, maxSize int64) (out map[ulid.ULID]struct{}, upTo int64) {
	out, upTo = make(map[ulid.ULID]struct{}), math.MinInt64
	sorted := slices.Clone(blocks)
	slices.SortFunc(sorted, func(a, b *promtsdb.Block) int {
		switch x, y := a.Meta().MaxTime, b.Meta().MaxTime; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	if len(sorted) > 0 {
		newest = max(newest, sorted[0].Meta().MaxTime)
		now = min(now, newest+idleSlack)
	}
	var size int64
	for _, b := range sorted {
		m := b.Meta()
		size += b.Size()
		switch {
		case m.Compaction.Deletable:
			out[m.ULID] = struct{}{}
		case m.MaxTime <= now-retention || maxSize > 0 && size > maxSize:
			out[m.ULID] = struct{}{}
			upTo = max(upTo, m.MaxTime-1)
		}
	}
	return out, upTo
}
