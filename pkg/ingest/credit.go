package ingest

import (
	"sync/atomic"
	"time"
)

// Bounds of what one edge may have under way. Less than minShare would not hold a
// frame of a large edge; more than maxShare would stand before the frames of live
// edges for too long.
const (
	minShare  = 32 << 10
	maxShare  = 512 << 10
	liveShare = 64 << 10
	liveLag   = 30 * time.Second // an edge whose watermark is older has a backlog
)

// credit divides what may be under way: live edges first, they need little; those
// with a backlog share the rest equally. The sum stays at the total as long as
// minShare for each fits into it; beyond that the queues' bounds hold.
type credit struct {
	total         int64
	live, backlog atomic.Uint32
	liveEdges     atomic.Bool // there are some
}

func newCredit(total int64) *credit {
	c := &credit{total: total}
	c.set(0, 0)
	return c
}

// of returns the share of an edge.
func (c *credit) of(v *view) uint32 {
	if v.backlog.Load() {
		return c.backlog.Load()
	}
	return c.live.Load()
}

// anyLive reports whether there are live edges.
func (c *credit) anyLive() bool { return c.liveEdges.Load() }

// divide counts the edges heard within active and sets the shares.
func (c *credit) divide(all *views, now time.Time, active time.Duration) {
	var live, backlog int64
	all.each(func(v *view) {
		switch heard, lag := v.age(now); {
		case heard > active:
			v.backlog.Store(false)
		case lag > liveLag:
			v.backlog.Store(true)
			backlog++
		default:
			v.backlog.Store(false)
			live++
		}
	})
	c.liveEdges.Store(live > 0)
	c.set(live, backlog)
}

func (c *credit) set(live, backlog int64) {
	l := min(liveShare, max(minShare, c.total/2/max(1, live)))
	b := (c.total - live*l) / max(1, backlog)
	c.live.Store(uint32(l))
	c.backlog.Store(uint32(min(maxShare, max(minShare, b))))
}
