package modbus

import (
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
)

// The growing interval at which a block that failed alone is asked again.
const (
	blockWaitMin = 10 * time.Second
	blockWaitMax = 10 * time.Minute
)

// block is a request of a device together with what became of it.
type block struct {
	Request
	every     int64 // at which slots it is due
	nextSlot  int64 // first slot at which it is due again; the first poll has slot -1 at the least
	fails     int   // in a row, while the device answered otherwise
	notBefore time.Time
	last      failure // when fails > 0
}

// blocks are what a device is asked for: at first its plan, later what it
// taught us.
type blocks struct {
	dev     *driver.Device // of the view
	list    []*block
	largest [profile.AreaInput + 1]int // longest request that was answered, by area
	learnt  bool                       // something was cut since coalesce
}

func newBlocks(d *driver.Device) *blocks {
	bs := &blocks{dev: d}
	for _, r := range plan(d) {
		bs.list = append(bs.list, &block{Request: r, every: max(1, int64(r.Every/max(d.Interval, 1))), nextSlot: -1})
	}
	return bs
}

// due appends the blocks that are due at the slot, and moves them on.
func (bs *blocks) due(slot int64, to []*block) []*block {
	for _, b := range bs.list {
		if slot >= b.nextSlot {
			b.nextSlot = slot + b.every
			to = append(to, b)
		}
	}
	return to
}

// cut replaces a block that was refused by two, when it can be divided, and
// returns them.
func (bs *blocks) cut(b *block) (left, right *block, ok bool) {
	at := cutAt(bs.dev, &b.Request)
	if at == 0 {
		return nil, nil, false
	}
	part := func(points []int) *block {
		r := Request{Area: b.Area, Every: b.Every, Points: slices.Clone(points)}
		r.Address, r.Count = span(bs.dev, points)
		return &block{Request: r, every: b.every, nextSlot: b.nextSlot}
	}
	left, right = part(b.Points[:at]), part(b.Points[at:])
	i := slices.Index(bs.list, b)
	bs.list = slices.Replace(bs.list, i, i+1, left, right)
	bs.learnt = true
	return left, right, true
}

// cutAt returns the index of the first point of the right half: at the widest
// hole, and among equal ones nearest to the middle. It is 0 when all points
// share registers.
func cutAt(d *driver.Device, r *Request) int {
	best, widest, middle := 0, -1, len(r.Points)
	end := 0
	for i, p := range r.Points {
		pt := &d.Points[p]
		_, address := pt.Area()
		if i > 0 && address >= end {
			hole, off := address-end, abs(2*i-len(r.Points))
			if hole > widest || hole == widest && off < middle {
				best, widest, middle = i, hole, off
			}
		}
		end = max(end, address+pt.Width())
	}
	return best
}

// span returns the registers that the points occupy together.
func span(d *driver.Device, points []int) (address, count int) {
	end := 0
	for i, p := range points {
		pt := &d.Points[p]
		_, a := pt.Area()
		if i == 0 {
			address = a
		}
		end = max(end, a+pt.Width())
	}
	return address, end - address
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// answered notes that the device gave the block.
func (bs *blocks) answered(b *block) {
	b.fails, b.last = 0, failure{}
	bs.largest[b.Area] = max(bs.largest[b.Area], b.Count)
}

// failed notes that the block failed alone, and when to ask for it again. One
// that is never repeated is not put off for a single lost answer: it had no
// second chance.
func (bs *blocks) failed(b *block, f failure, now time.Time) {
	wait := blockWaitMin
	for range b.fails {
		wait = min(2*wait, blockWaitMax)
	}
	b.fails++
	if b.Once && f.passing() && b.fails < benchedAfter {
		wait = 0
	}
	b.last, b.notBefore = f, now.Add(wait)
}

// coalesce joins what cutting took apart for nothing: neighbours without a hole
// between them that both answer, up to the longest request that the device is
// known to answer. Call it once a poll went through without a further cut.
func (bs *blocks) coalesce() {
	if !bs.learnt {
		return
	}
	bs.learnt = false
	out := bs.list[:0]
	for _, b := range bs.list {
		if n := len(out); n > 0 && bs.fit(out[n-1], b) {
			a := out[n-1]
			a.Points = append(a.Points, b.Points...)
			a.Count = b.Address + b.Count - a.Address
			continue
		}
		out = append(out, b)
	}
	clear(bs.list[len(out):])
	bs.list = out
}

func (bs *blocks) fit(a, b *block) bool {
	return a.Area == b.Area && !a.Once && !b.Once && a.every == b.every && a.fails == 0 && b.fails == 0 && a.nextSlot == b.nextSlot &&
		a.Address+a.Count == b.Address && b.Address+b.Count-a.Address <= bs.largest[a.Area]
}
